"""The default rule: what it lets pass, what not, and that its figures are the textbook's."""

from __future__ import annotations

import numpy as np
import pytest

from robustvision.core.export import CloseOutputs

RULE = CloseOutputs(atol=1e-4, rtol=1e-5, min_cosine=0.99999)


def test_figures_are_the_textbooks() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 4, 9)).astype(np.float32)
    figures = RULE([a], [b])
    cosines = [float(np.dot(x, y) / np.sqrt(np.dot(x, x) * np.dot(y, y))) for x, y in zip(a, b, strict=True)]
    assert figures.max_abs == pytest.approx(max(abs(float(x) - float(y)) for x, y in zip(a.flat, b.flat, strict=True)))
    assert figures.max_rel == pytest.approx(figures.max_abs / np.abs(a).max())
    assert figures.min_cosine == pytest.approx(min(cosines), abs=1e-6)
    assert not figures.ok


@pytest.mark.parametrize("size", [1.0, 1e3, 1e6])
def test_the_allowed_difference_grows_with_the_output(size: float) -> None:
    a = np.full((2, 3), size)
    allowed = 1e-4 + 1e-5 * size
    assert RULE([a], [a + 0.99 * allowed]).ok
    assert not RULE([a], [a + 1.01 * allowed]).ok


def test_the_worst_output_and_the_worst_sample_count() -> None:
    good, bad = np.ones((3, 4)), np.ones((3, 4))
    bad[2, 1] += 0.5
    figures = RULE([good, good], [good, bad])
    assert figures.max_abs == 0.5
    assert figures.failure.startswith("output 1 ")


def test_a_direction_that_turned_is_refused_though_every_number_is_close() -> None:
    a, b = np.full((1, 512), 0.02), np.full((1, 512), 0.02)
    b[0, ::2] += 1.9e-4
    b[0, 1::2] -= 1.9e-4
    loose = CloseOutputs(atol=1.9e-4, rtol=1e-5)
    assert loose([a], [b]).min_cosine < 0.99999
    assert "cosine" in loose([a], [b]).failure


def test_rounding_noise_has_no_direction() -> None:
    assert RULE([np.full((2, 8), 1e-6)], [np.full((2, 8), -1e-6)]).ok
    assert RULE([np.array([0.5, -0.5])[:, None]], [np.array([0.5, -0.5])[:, None]]).min_cosine == 1.0


def test_not_finite_numbers_must_stand_at_the_same_places() -> None:
    a = np.array([[1.0, np.nan, np.inf, -np.inf]])
    assert RULE([a], [a.copy()]).ok
    for other in ([1.0, 2.0, np.inf, -np.inf], [1.0, np.nan, -np.inf, -np.inf], [np.nan, np.nan, np.inf, -np.inf]):
        figures = RULE([a], [np.array([other])])
        assert "not finite" in figures.failure
        assert not figures.ok


def test_whole_numbers_must_be_equal() -> None:
    a = np.array([[3, 7]], dtype=np.int64)
    assert RULE([a], [a.copy()]).max_abs == 0
    assert not RULE([a], [a + np.array([[0, 1]])]).ok


def test_shape_and_dtype_must_agree() -> None:
    a = np.ones((2, 3), np.float32)
    assert "[2, 3]" in RULE([a], [a.T]).failure
    assert "float64" in RULE([a], [a.astype(np.float64)]).failure


def test_empty_outputs_are_equal() -> None:
    assert RULE([np.zeros((0, 4))], [np.zeros((0, 4))]).ok

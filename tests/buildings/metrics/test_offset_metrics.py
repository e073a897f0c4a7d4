import cmath
import math

import numpy as np
import pytest

from robustvision.buildings.metrics import offset_errors
from robustvision.core.errors import InputError


def test_follows_the_definitions():
    rng = np.random.default_rng(0)
    predicted, truth = rng.normal(0, 10, (2, 40, 2))
    got = offset_errors(predicted, truth)
    pairs = [(complex(*p), complex(*t)) for p, t in zip(predicted, truth, strict=True)]
    assert got.end_point_px == pytest.approx(math.fsum(abs(p - t) for p, t in pairs) / 40, rel=1e-12)
    assert got.length_px == pytest.approx(math.fsum(abs(abs(p) - abs(t)) for p, t in pairs) / 40, rel=1e-12)
    assert got.angle_deg == pytest.approx(math.fsum(abs(math.degrees(cmath.phase(p / t))) for p, t in pairs) / 40)
    assert got.buildings == 40


@pytest.mark.parametrize(
    ("predicted", "truth", "expected"),
    [((3, 4), (3, 4), (0, 0, 0)), ((3, 4), (-3, -4), (10, 0, 180)), ((6, 8), (3, 4), (5, 5, 0)),
     ((0, 5), (5, 0), (50**0.5, 0, 90)), ((-1, 1e-9), (-1, -1e-9), (2e-9, 0, math.degrees(2e-9)))],
)  # fmt: skip
def test_hand_values(predicted, truth, expected):
    got = offset_errors([predicted], [truth])
    assert (got.end_point_px, got.length_px, got.angle_deg) == pytest.approx(expected, abs=1e-15, rel=1e-9)


def test_a_turn_of_everything_changes_nothing():
    rng = np.random.default_rng(1)
    predicted, truth = rng.normal(0, 10, (2, 20, 2))
    turn = np.array([[math.cos(1.1), -math.sin(1.1)], [math.sin(1.1), math.cos(1.1)]])
    one, other = offset_errors(predicted, truth), offset_errors(predicted @ turn.T, truth @ turn.T)
    assert other.end_point_px == pytest.approx(one.end_point_px)
    assert other.angle_deg == pytest.approx(one.angle_deg)


def test_a_vector_without_length_has_no_angle():
    got = offset_errors([(0, 0), (0, 2)], [(1, 0), (2, 0)])
    assert (got.length_px, got.angle_deg) == (0.5, 90)
    assert math.isnan(offset_errors([(0, 0)], [(1, 0)]).angle_deg)


def test_no_buildings_are_nan_and_not_zero():
    got = offset_errors([], np.zeros((0, 2)))
    assert got.buildings == 0
    assert all(math.isnan(value) for value in (got.end_point_px, got.length_px, got.angle_deg))


@pytest.mark.parametrize(
    ("predicted", "truth", "words"),
    [([(1, 2)], [(1, 2), (3, 4)], "for both"), ([1, 2], [1, 2], "for both"), ([(1, 2)], [], "for both"),
     ([(1, np.nan)], [(1, 2)], "not finite"), ([(1, 2)], [(np.inf, 2)], "not finite")],
)  # fmt: skip
def test_bad_input_is_named(predicted, truth, words):
    with pytest.raises(InputError, match=words):
        offset_errors(predicted, truth)

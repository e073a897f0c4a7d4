"""What a plot is made from."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from robustvision.core.evaluation import Interval
from robustvision.core.report import plots


def test_series_in_every_form() -> None:
    bare, pair, two_numbers, band = plots.as_lines(
        {
            "bare": np.array([1, 2, 3], np.float32),
            "pair": ([10, 20], [None, float("inf")]),
            "two numbers": (1.0, 2.0),
            "band": ([5, 6], [Interval(1.0, 0.5, 1.5, 0.95), None]),
        }
    )
    np.testing.assert_array_equal(bare.x, [0, 1, 2])
    np.testing.assert_array_equal(bare.y, [1, 2, 3])
    np.testing.assert_array_equal(pair.x, [10, 20])
    np.testing.assert_array_equal(pair.y, [np.nan, np.nan])
    np.testing.assert_array_equal(two_numbers.y, [1, 2])
    np.testing.assert_array_equal(band.y, [1.0, np.nan])
    np.testing.assert_array_equal(band.low, [0.5, np.nan])
    np.testing.assert_array_equal(band.high, [1.5, np.nan])


@given(st.lists(st.one_of(st.none(), st.floats(-100, 100)), min_size=1, max_size=450))
def test_the_moving_average_is_that_of_what_is_there(values: list[float | None]) -> None:
    y = plots.as_numbers(values, "y")
    half = y.size // 100
    average = plots._moving_average(y)
    for i, value in enumerate(y):
        near = y[max(0, i - half) : i + half + 1]
        if np.isnan(value):
            assert np.isnan(average[i])
        else:
            np.testing.assert_allclose(average[i], near[np.isfinite(near)].mean(), atol=1e-9)


def test_bands_and_whiskers_are_drawn() -> None:
    flat = [Interval(1.0, 1.0, 1.0, 0.95)] * 3
    wide = [Interval(1.0, 0.0, 2.0, 0.95)] * 3
    assert plots.draw_lines(plots.as_lines({"a": flat})) != plots.draw_lines(plots.as_lines({"a": wide}))
    assert "0.95" in plots.draw_bars({"a": Interval(0.95, 0.9, 1.0, 0.95)})
    assert plots.draw_bars({"a": Interval(0.95, 0.9, 1.0, 0.95)}) != plots.draw_bars({"a": 0.95})


def test_colours_of_ink_and_grid_come_from_the_page() -> None:
    for svg in (
        plots.draw_lines(plots.as_lines({"a": [1.0, 2.0]})),
        plots.draw_bars({"a": 1.0}),
        plots.draw_histogram({"a": np.arange(9.0)}, 5),
    ):
        assert "var(--muted)" in svg
        assert "var(--line)" in svg
        assert "#0a0b0" not in svg
        assert "DejaVu" not in svg
        assert svg.startswith("<svg viewBox=")
        assert svg.endswith("</svg>")

"""Student's t for a few seeds, against scipy and simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from robustvision.core.errors import InputError
from robustvision.core.evaluation import paired_t, smallest_detectable_difference, t_interval


@pytest.mark.parametrize("size", [2, 3, 5, 40])
@pytest.mark.parametrize("confidence", [0.8, 0.95, 0.999])
def test_t_interval_is_scipys(size: int, confidence: float) -> None:
    values = np.random.default_rng(size).normal(0.9, 0.05, size=size)
    low, high = stats.t.interval(confidence, size - 1, values.mean(), stats.sem(values))
    interval = t_interval(values, confidence)
    assert (interval.low, interval.high) == (pytest.approx(low, rel=1e-10), pytest.approx(high, rel=1e-10))


def test_t_interval_by_hand() -> None:
    # s = 1, n = 3, t_2(0.975) = sqrt(2) * 0.95 / sqrt(0.975 * 0.025) / 2 in closed form for two degrees of freedom
    t = 0.95 / math.sqrt(2 * 0.975 * 0.025)
    interval = t_interval([1.0, 2.0, 3.0])
    assert (interval.estimate, interval.high) == (2.0, pytest.approx(2 + t / math.sqrt(3)))


def test_one_value_has_no_spread() -> None:
    interval = t_interval([0.7])
    assert (interval.estimate, interval.low, interval.high) == (0.7, -math.inf, math.inf)


@pytest.mark.parametrize("values", [[], [1.0, math.nan], [[1.0, 2.0]]])
def test_t_interval_refuses_what_has_no_mean(values: list) -> None:
    with pytest.raises(InputError):
        t_interval(values)


def test_paired_t_is_scipys() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(1, 1, size=7), rng.normal(0, 1, size=7)
    expected, test = stats.ttest_rel(a, b), paired_t(a, b, 0.9)
    assert (test.t, test.p_value) == (pytest.approx(expected.statistic), pytest.approx(expected.pvalue))
    interval = expected.confidence_interval(0.9)
    assert (test.difference.low, test.difference.high) == (pytest.approx(interval.low), pytest.approx(interval.high))


def test_paired_t_of_equal_differences() -> None:
    same, above = paired_t([1.0, 2.0], [1.0, 2.0]), paired_t([2.0, 3.0], [3.0, 4.0])
    assert (same.t, same.p_value) == (0.0, 1.0)
    assert (above.t, above.p_value) == (-math.inf, 0.0)


@pytest.mark.parametrize(("size", "power", "confidence"), [(5, 0.8, 0.95), (5, 0.5, 0.99), (12, 0.9, 0.95)])
def test_smallest_detectable_difference_has_its_power(size: int, power: float, confidence: float) -> None:
    scale = 0.02
    differences = np.random.default_rng(0).normal(size=size)
    differences *= scale / differences.std(ddof=1)  # the spread that the formula is told is the true one
    detectable = smallest_detectable_difference(differences, power, confidence, minimum_effect=0.01)
    samples = np.random.default_rng(1).normal(detectable, scale, size=(100_000, size))
    half = stats.t.ppf((1 + confidence) / 2, size - 1) * samples.std(axis=1, ddof=1) / math.sqrt(size)
    shown = (samples.mean(axis=1) - half > 0.01).mean()
    assert shown == pytest.approx(power, abs=0.006)


def test_smallest_detectable_difference_scales_with_the_spread_only() -> None:
    differences = np.array([0.01, 0.03, -0.02, 0.0, 0.02])
    one = smallest_detectable_difference(differences)
    assert smallest_detectable_difference(differences + 5) == pytest.approx(one)
    assert smallest_detectable_difference(3 * differences) == pytest.approx(3 * one)
    assert smallest_detectable_difference(differences, minimum_effect=0.5) == pytest.approx(0.5 + one)
    assert smallest_detectable_difference([0.1, 0.1, 0.1]) == pytest.approx(0, abs=1e-15)


def test_power_and_pairs_are_checked() -> None:
    with pytest.raises(InputError, match="power"):
        smallest_detectable_difference([1.0, 2.0], power=1.0)
    with pytest.raises(InputError, match="at least 2"):
        smallest_detectable_difference([1.0])
    with pytest.raises(InputError, match="at least 2"):
        paired_t([1.0], [2.0])

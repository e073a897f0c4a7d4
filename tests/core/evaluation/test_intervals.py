"""Wilson and bootstrap intervals against scipy, closed forms and coverage."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from robustvision.core.errors import InputError
from robustvision.core.evaluation import Interval, bootstrap_interval, wilson_interval


@given(st.integers(1, 5000), st.floats(0, 1), st.sampled_from([0.5, 0.9, 0.95, 0.999]))
def test_wilson_is_scipys(trials: int, share: float, confidence: float) -> None:
    successes = round(trials * share)
    expected = stats.binomtest(successes, trials).proportion_ci(confidence, method="wilson")
    interval = wilson_interval(successes, trials, confidence)
    assert interval.estimate == successes / trials
    assert interval.low == pytest.approx(expected.low, abs=1e-12)
    assert interval.high == pytest.approx(expected.high, abs=1e-12)


def test_wilson_ends_solve_the_score_equation() -> None:
    interval = wilson_interval(17, 40, 0.9)
    z = stats.norm.ppf(0.95)
    for p in (interval.low, interval.high):
        assert abs(17 / 40 - p) == pytest.approx(z * math.sqrt(p * (1 - p) / 40), rel=1e-12)


def test_wilson_at_the_ends_is_closed_there_and_open_elsewhere() -> None:
    z2 = stats.norm.ppf(0.975) ** 2
    none, every = wilson_interval(0, 20), wilson_interval(20, 20)
    assert none.low == 0.0
    assert none.high == pytest.approx(z2 / (20 + z2))
    assert (every.low, every.high) == (pytest.approx(1 - none.high), 1.0)


@pytest.mark.parametrize(("successes", "trials"), [(0, 0), (-1, 5), (6, 5)])
def test_wilson_refuses_impossible_counts(successes: int, trials: int) -> None:
    with pytest.raises(InputError, match="successes"):
        wilson_interval(successes, trials)


@pytest.mark.parametrize("confidence", [0.0, 1.0, 95.0, math.nan])
def test_a_confidence_is_between_0_and_1(confidence: float) -> None:
    with pytest.raises(InputError, match="confidence"):
        wilson_interval(1, 2, confidence)


def test_bootstrap_of_a_mean_of_many_values_is_the_normal_interval() -> None:
    values = np.random.default_rng(0).exponential(size=2000)
    interval = bootstrap_interval(values, resamples=4000)
    half = 1.959964 * values.std() / math.sqrt(values.size)
    assert interval.estimate == pytest.approx(values.mean())
    assert interval.high - interval.low == pytest.approx(2 * half, rel=0.05)


def test_bootstrap_of_a_median_agrees_with_the_exact_bootstrap_distribution() -> None:
    # The bootstrap median of 2k + 1 sorted values is at most x_(j) with probability P(Binomial(n, j / n) >= k + 1).
    values = np.sort(np.random.default_rng(3).normal(size=21))
    cumulative = stats.binom.sf(10, 21, np.arange(1, 22) / 21)
    expected_low, expected_high = (values[np.searchsorted(cumulative, q)] for q in (0.025, 0.975))
    interval = bootstrap_interval(values, np.median, resamples=20_000, seed=5)
    assert (interval.low, interval.high) == (expected_low, expected_high)


def test_bootstrap_covers_what_it_says() -> None:
    rng = np.random.default_rng(7)
    hits = 0
    for trial in range(300):
        interval = bootstrap_interval(rng.normal(3.0, 2.0, size=60), resamples=400, seed=trial)
        hits += interval.low <= 3.0 <= interval.high
    assert 0.90 <= hits / 300 <= 0.98


def test_bootstrap_repeats_with_its_seed_alone() -> None:
    values = np.random.default_rng(1).normal(size=30)
    assert bootstrap_interval(values, seed=4) == bootstrap_interval(values, seed=4)
    assert bootstrap_interval(values, seed=4) != bootstrap_interval(values, seed=5)


def test_bootstrap_moves_and_scales_with_the_values() -> None:
    values = np.random.default_rng(2).normal(size=40)
    plain, moved = bootstrap_interval(values), bootstrap_interval(10 - 2 * values)
    assert moved.estimate == pytest.approx(10 - 2 * plain.estimate)
    assert (moved.low, moved.high) == (pytest.approx(10 - 2 * plain.high), pytest.approx(10 - 2 * plain.low))


def test_groups_widen_the_interval_by_the_design_effect() -> None:
    # 50 groups of 20 equal values hold the information of 50 values: the naive interval is sqrt(20) times too narrow.
    per_group = np.random.default_rng(3).normal(size=50)
    values, groups = np.repeat(per_group, 20), np.repeat(np.arange(50), 20)
    naive, honest = (
        bootstrap_interval(values, resamples=4000),
        bootstrap_interval(values, groups=groups, resamples=4000),
    )
    assert (honest.high - honest.low) / (naive.high - naive.low) == pytest.approx(math.sqrt(20), rel=0.08)


def test_groups_of_one_value_are_no_groups() -> None:
    values = np.random.default_rng(4).normal(size=25)
    grouped = bootstrap_interval(values, groups=[f"id{i:02d}" for i in range(25)], seed=9)
    plain = bootstrap_interval(values, seed=9)
    assert (grouped.low, grouped.high) == (pytest.approx(plain.low), pytest.approx(plain.high))


def test_the_fast_mean_over_unequal_groups_is_the_general_way() -> None:
    rng = np.random.default_rng(6)
    values, groups = rng.normal(size=60), rng.integers(0, 9, size=60)
    fast = bootstrap_interval(values, np.mean, groups=groups, resamples=500, seed=1)
    general = bootstrap_interval(values, lambda a, axis: np.mean(a, axis=axis), groups=groups, resamples=500, seed=1)
    assert (fast.low, fast.high) == (pytest.approx(general.low), pytest.approx(general.high))


@pytest.mark.parametrize(
    ("values", "groups", "message"),
    [
        ([], None, "at least 2"),
        ([1.0], None, "at least 2"),
        ([1.0, math.nan], None, "not finite"),
        ([1.0, math.inf], None, "not finite"),
        ([[1.0, 2.0]], None, "one dimension"),
        ([1.0, 2.0], ["a", "a"], "one group"),
        ([1.0, 2.0], ["a"], "one label a value"),
    ],
)
def test_bootstrap_refuses_what_has_no_interval(values: list, groups: list | None, message: str) -> None:
    with pytest.raises(InputError, match=message):
        bootstrap_interval(values, groups=groups)


def test_an_interval_prints_its_ends_only_where_it_has_them() -> None:
    assert str(Interval(0.5, 0.25, 0.75, 0.95)) == "0.5 [0.25, 0.75]"
    assert str(Interval(0.5, -math.inf, math.inf, 0.95)) == "0.5"

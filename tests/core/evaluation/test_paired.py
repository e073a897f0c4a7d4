"""Paired tests against scipy, exact counting and simulation."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
from scipy import stats

from robustvision.core.errors import InputError
from robustvision.core.evaluation import paired_bootstrap, sign_test


def test_sign_test_counts_all_coin_flips() -> None:
    for n in range(1, 9):
        for losses in range(n + 1):
            extreme = sum(
                min(sum(flips), n - sum(flips)) <= min(losses, n - losses)
                for flips in itertools.product((0, 1), repeat=n)
            )
            a = [0.0] * losses + [2.0] * (n - losses)
            test = sign_test(a, [1.0] * n)
            assert (test.wins, test.losses, test.ties) == (n - losses, losses, 0)
            assert test.p_value == pytest.approx(float(Fraction(extreme, 2**n)), rel=1e-12)


@pytest.mark.parametrize(("wins", "losses"), [(60, 40), (700, 600), (5100, 4900), (499_000, 501_000)])
def test_sign_test_of_many_pairs_is_scipys(wins: int, losses: int) -> None:
    a, b = np.r_[np.ones(wins), np.zeros(losses)], np.r_[np.zeros(wins), np.ones(losses)]
    assert sign_test(a, b).p_value == pytest.approx(stats.binomtest(wins, wins + losses).pvalue, rel=3e-8)


def test_sign_test_drops_ties_and_is_symmetric() -> None:
    test = sign_test([1, 2, 3, 4, 5, 5], [0, 1, 2, 4, 5, 6])
    assert (test.wins, test.losses, test.ties, test.p_value) == (3, 1, 2, pytest.approx(0.625))
    assert sign_test([0, 1, 2, 4, 5, 6], [1, 2, 3, 4, 5, 5]).p_value == test.p_value
    assert sign_test([1.0, 2.0], [1.0, 2.0]).p_value == 1.0


def test_sign_test_sees_float32_differences_that_float16_sums_would_lose() -> None:
    a = np.array([1.0, 1.0], dtype=np.float32)
    b = np.nextafter(a, np.float32(0))
    assert sign_test(a, b).wins == 2
    # 1e-300 apart: the difference must not be rounded to a tie.
    assert sign_test([2e-300], [1e-300]).wins == 1


def test_sign_test_far_in_the_tail_does_not_underflow_to_nonsense() -> None:
    assert (
        sign_test(np.ones(2000), np.zeros(2000)).p_value == 0.0
        or sign_test(np.ones(2000), np.zeros(2000)).p_value < 1e-300
    )
    assert sign_test(np.ones(100), np.zeros(100)).p_value == pytest.approx(2.0**-99, rel=1e-9)


def test_pairing_removes_what_both_share() -> None:
    rng = np.random.default_rng(0)
    difficulty = rng.normal(0, 10, size=200)
    a, b = difficulty + 0.5 + rng.normal(0, 0.5, size=200), difficulty + rng.normal(0, 0.5, size=200)
    interval = paired_bootstrap(a, b)
    assert 0 < interval.low < 0.5 < interval.high
    assert interval.high - interval.low == pytest.approx(2 * 1.96 * math.sqrt(0.5 / 200), rel=0.15)


def test_swapping_the_methods_mirrors_the_interval() -> None:
    rng = np.random.default_rng(1)
    a, b = rng.normal(size=50), rng.normal(size=50)
    forth, back = paired_bootstrap(a, b), paired_bootstrap(b, a)
    assert (back.low, back.estimate, back.high) == pytest.approx((-forth.high, -forth.estimate, -forth.low))


def test_groups_are_drawn_together() -> None:
    rng = np.random.default_rng(2)
    per_group = rng.normal(size=40)
    groups = np.repeat(np.arange(40), 10)
    alone = paired_bootstrap(np.repeat(per_group, 10), np.zeros(400))
    together = paired_bootstrap(np.repeat(per_group, 10), np.zeros(400), groups=groups)
    assert (together.high - together.low) / (alone.high - alone.low) == pytest.approx(math.sqrt(10), rel=0.12)


@pytest.mark.parametrize(
    ("a", "b", "message"), [([1, 2], [1], "as many"), ([], [], "at least"), ([1, math.nan], [1, 2], "finite")]
)
def test_pairs_that_are_none_are_refused(a: list, b: list, message: str) -> None:
    with pytest.raises(InputError, match=message):
        sign_test(a, b)
    with pytest.raises(InputError, match=message):
        paired_bootstrap(a, b)

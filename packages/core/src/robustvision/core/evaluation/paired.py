"""Two methods measured on the same samples or the same seeds: tests of the paired differences, with numpy alone.

The paired t test and its power are in ``student``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from robustvision.core.errors import InputError

from .intervals import Interval, bootstrap_interval, finite_vector


@dataclass(frozen=True)
class SignTest:
    """An exact sign test.

    Attributes:
        wins: Pairs with ``a > b``.
        losses: Pairs with ``a < b``.
        ties: Pairs with ``a == b``; they do not count.
        p_value: Two-sided, under "either is as likely to be the larger one".
    """

    wins: int
    losses: int
    ties: int
    p_value: float


def paired_differences(a: npt.ArrayLike, b: npt.ArrayLike, *, at_least: int = 1) -> npt.NDArray[np.float64]:
    """``a - b`` in float64.

    Args:
        a: Shape ``[n]``, finite.
        b: Shape ``[n]``, finite.
        at_least: Smallest number of pairs.

    Returns:
        float64, shape ``[n]``.

    Raises:
        InputError: If the lengths differ, there are too few pairs, or a value is not finite.

    Example:
        >>> paired_differences([3, 2], [1, 2])
        array([2., 0.])
    """
    first = finite_vector(a, "values of a", at_least=at_least)
    second = finite_vector(b, "values of b", at_least=at_least)
    if first.size != second.size:
        raise InputError(
            f"a holds {first.size} values and b {second.size}: pairs need as many of both, in the same order"
        )
    return first - second


def paired_bootstrap(
    a: npt.ArrayLike,
    b: npt.ArrayLike,
    statistic: Callable[..., Any] = np.mean,
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
    *,
    groups: npt.ArrayLike | None = None,
) -> Interval:
    """Percentile bootstrap interval of a statistic of the paired differences ``a - b``.

    Pairs are drawn whole, so what both methods share (hard samples, a lucky seed) cancels.

    Args:
        a: Shape ``[n]``, finite.
        b: Shape ``[n]``, finite; ``b[i]`` belongs to the same sample as ``a[i]``.
        statistic: As in :func:`~robustvision.core.evaluation.bootstrap_interval`, of the differences.
        confidence: Coverage, between 0 and 1.
        resamples: Number of bootstrap resamples.
        seed: Seed of the resampling.
        groups: Shape ``[n]``, labels of pairs that are not independent and are drawn together.

    Returns:
        The interval; its estimate is ``statistic(a - b)``.

    Raises:
        InputError: If the lengths differ, there are fewer than two pairs, or a value is not finite.

    Example:
        >>> print(paired_bootstrap([0.9, 0.8, 0.7], [0.8, 0.7, 0.6]))
        0.1 [0.1, 0.1]
    """
    return bootstrap_interval(paired_differences(a, b), statistic, confidence, resamples, seed, groups=groups)


def sign_test(a: npt.ArrayLike, b: npt.ArrayLike) -> SignTest:
    """Exact two-sided sign test: of n untied pairs, is the larger value on one side too often for a fair coin?

    It asks nothing of the distribution, and pays with power: five pairs cannot reach p < 0.0625. Values are compared in
    float64, where float32 inputs are exact, so that only equal values tie.

    Args:
        a: Shape ``[n]``, finite.
        b: Shape ``[n]``, finite.

    Returns:
        Wins, losses and ties of ``a``, and the p-value; 1 where every pair ties.

    Raises:
        InputError: If the lengths differ, there is no pair, or a value is not finite.

    References:
        W. J. Dixon, A. M. Mood, "The statistical sign test", JASA 41, 1946.

    Example:
        >>> sign_test([2, 3, 4, 5, 6], [1, 1, 1, 1, 1])
        SignTest(wins=5, losses=0, ties=0, p_value=0.0625)
    """
    differences = paired_differences(a, b)
    wins, losses = int(np.count_nonzero(differences > 0)), int(np.count_nonzero(differences < 0))
    p_value = _two_sided_binomial(min(wins, losses), wins + losses)
    return SignTest(wins, losses, differences.size - wins - losses, p_value)


def _two_sided_binomial(k: int, n: int) -> float:
    """``2 P(X <= k)`` for X of Binomial(n, 1/2), at most 1.

    The largest term in logs, times the sum of all terms relative to it: n may be in the millions.
    """
    if 2 * k == n:
        return 1.0
    i = np.arange(k, 0, -1, dtype=np.float64)
    relative = 1.0 + np.cumprod(i / (n - i + 1)).sum()
    log_largest = math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1) - n * math.log(2)
    return float(min(1.0, 2 * math.exp(log_largest) * relative))

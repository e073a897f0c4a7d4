"""What a few seeds say: Student's t for one method, for a paired difference, and for what a design could have seen.

The values are assumed to be roughly normal, which five training seeds can neither prove nor refute; the sign test in
``paired`` stands beside it for that reason.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import special

from robustvision.core.errors import InputError

from .intervals import Interval, check_confidence, finite_vector
from .paired import paired_differences


@dataclass(frozen=True)
class PairedT:
    """A paired t test.

    Attributes:
        difference: Mean of ``a - b`` with its t interval.
        t: The t statistic; infinite where all differences are equal and not zero.
        p_value: Two-sided.
    """

    difference: Interval
    t: float
    p_value: float


def t_interval(values: npt.ArrayLike, confidence: float = 0.95) -> Interval:
    """Student's t interval of a mean: ``mean +- t_{n-1} s / sqrt(n)``, with s the sample standard deviation.

    Args:
        values: Shape ``[n]``, finite; such as one metric over n seeds.
        confidence: Coverage, between 0 and 1.

    Returns:
        The interval. A single value says nothing about the spread: its interval is infinite.

    Raises:
        InputError: If there is no value, or one is not finite.

    Example:
        >>> print(t_interval([0.90, 0.92, 0.91, 0.93, 0.89]))
        0.91 [0.8904, 0.9296]
    """
    check_confidence(confidence)
    sample = finite_vector(values, "values")
    mean = float(sample.mean())
    if sample.size == 1:
        return Interval(mean, -math.inf, math.inf, confidence)
    half = _critical(sample.size, confidence) * _standard_error(sample)
    return Interval(mean, mean - half, mean + half, confidence)


def paired_t(a: npt.ArrayLike, b: npt.ArrayLike, confidence: float = 0.95) -> PairedT:
    """Paired t test of two methods measured on the same samples or seeds.

    Args:
        a: Shape ``[n]``, finite.
        b: Shape ``[n]``, finite; ``b[i]`` belongs to the same sample or seed as ``a[i]``.
        confidence: Coverage of the interval of the mean difference.

    Returns:
        The mean of ``a - b`` with its interval, t and the two-sided p-value.

    Raises:
        InputError: If the lengths differ, there are fewer than two pairs, or a value is not finite.

    Example:
        >>> test = paired_t([5.0, 6.0, 7.0], [4.0, 4.0, 4.0])
        >>> round(test.t, 4), round(test.p_value, 4)
        (3.4641, 0.0742)
    """
    differences = paired_differences(a, b, at_least=2)
    interval = t_interval(differences, confidence)
    error = _standard_error(differences)
    if error > 0:
        t = interval.estimate / error
    else:
        t = math.copysign(math.inf, interval.estimate) if interval.estimate else 0.0
    return PairedT(interval, t, float(2 * special.stdtr(differences.size - 1, -abs(t))))


def smallest_detectable_difference(
    differences: npt.ArrayLike, power: float = 0.8, confidence: float = 0.95, *, minimum_effect: float = 0.0
) -> float:
    """The true mean difference that as many pairs with this spread would have shown with the given probability.

    "Shown" means that the whole two-sided t interval lies above ``minimum_effect``, which is what
    :func:`~robustvision.core.evaluation.judge` asks. With delta the noncentrality at which a t variable of n - 1
    degrees of freedom exceeds the critical value with probability ``power``, it is ``minimum_effect + delta s /
    sqrt(n)`` (exact for normal differences of standard deviation s; the spread itself is estimated from the same few
    pairs).

    Args:
        differences: Shape ``[n]``, finite; paired differences.
        power: Probability of showing it, between 0 and 1.
        confidence: Coverage of the interval.
        minimum_effect: What the interval must lie above.

    Returns:
        The difference, in the unit of ``differences``.

    Raises:
        InputError: If there are fewer than two differences, or one is not finite.

    References:
        J. Cohen, "Statistical Power Analysis for the Behavioral Sciences", 1988, chapter 2.

    Example:
        >>> round(smallest_detectable_difference([-1.0, 0.0, 1.0, 2.0, 3.0]), 3)
        2.659
    """
    check_confidence(confidence)
    if not 0 < power < 1:
        raise InputError(f"power is {power}: expected a number between 0 and 1, such as 0.8")
    sample = finite_vector(differences, "differences", at_least=2)
    noncentrality = special.nctdtrinc(sample.size - 1, 1 - power, _critical(sample.size, confidence))
    return float(minimum_effect + noncentrality * _standard_error(sample))


def _critical(size: int, confidence: float) -> float:
    return float(special.stdtrit(size - 1, (1 + confidence) / 2))


def _standard_error(sample: npt.NDArray[np.float64]) -> float:
    return float(sample.std(ddof=1) / math.sqrt(sample.size))

"""Whether two ways of measuring agree: the limits of Bland and Altman, each with its interval. No picture in here."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy.special

from robustvision.core.errors import InputError
from robustvision.core.evaluation import Interval, t_interval
from robustvision.core.evaluation.intervals import check_confidence, finite_vector

WITHIN = 0.95  # share of the differences that lies between the limits


@dataclass(frozen=True)
class BlandAltman:
    """Agreement of a with b, in their unit.

    Attributes:
        bias: Mean of ``a - b``, with its t interval.
        lower: Lower limit of agreement, ``bias - 1.96 deviation``, with its exact interval.
        upper: Upper limit of agreement, ``bias + 1.96 deviation``, with its exact interval.
        slope: Slope of the difference over the mean of both: a bias that grows with the heart rate. NaN, with no
            interval, if the means do not vary.
        deviation: Standard deviation of the differences (n - 1).
        n: Number of pairs.
    """

    bias: Interval
    lower: Interval
    upper: Interval
    slope: Interval
    deviation: float
    n: int

    def row(self) -> dict[str, float | int]:
        """Return all numbers as a plain dict: ``bias``, ``bias_low``, ``bias_high``, and so on."""
        named = {"bias": self.bias, "lower": self.lower, "upper": self.upper, "slope": self.slope}
        ends = {
            f"{name}{end}": value
            for name, interval in named.items()
            for end, value in (("", interval.estimate), ("_low", interval.low), ("_high", interval.high))
        }
        return {**ends, "deviation": self.deviation, "n": self.n}


def bland_altman(a: npt.ArrayLike, b: npt.ArrayLike, confidence: float = 0.95) -> BlandAltman:
    r"""Compare two measurements of the same things.

    All intervals take the differences as independent and normal: many windows of one person are not, and make them too
    narrow. The interval of a limit is the exact one of a normal quantile, ``bias + s t / sqrt(n)`` with t the
    quantiles of the noncentral t distribution of n - 1 degrees of freedom and noncentrality ``+-1.96 sqrt(n)``; Bland
    and Altman's own, ``+- t s sqrt(3/n)``, is an approximation that fails for few pairs.

    Args:
        a: ``[n]``, such as heart rates from video, bpm.
        b: ``[n]``, the reference.
        confidence: Coverage of the intervals.

    Returns:
        Bias, limits and slope.

    Raises:
        InputError: Fewer than three pairs, lengths that differ, or values that are not finite.

    References:
        J. M. Bland, D. G. Altman, "Statistical methods for assessing agreement between two methods of clinical
        measurement", Lancet 327, 1986. A. Carkeet, "Exact parametric confidence intervals for Bland-Altman limits of
        agreement", Optometry and Vision Science 92, 2015.

    Example:
        >>> agreement = bland_altman([71, 80, 92, 66, 75], [70, 81, 90, 66, 77])
        >>> print(agreement.bias)
        0 [-1.963, 1.963]
        >>> print(agreement.upper)
        3.099 [1.46, 9.447]
    """
    check_confidence(confidence)
    first, second = finite_vector(a, "values of a", at_least=3), finite_vector(b, "values of b", at_least=3)
    if first.size != second.size:
        raise InputError(f"got {first.size} values of a and {second.size} of b: expected pairs")
    differences, n = first - second, first.size
    bias, deviation = float(differences.mean()), float(differences.std(ddof=1))
    z = float(scipy.special.ndtri((1 + WITHIN) / 2))
    near, far = (
        float(scipy.special.nctdtrit(n - 1, z * math.sqrt(n), p)) / math.sqrt(n)
        for p in ((1 - confidence) / 2, (1 + confidence) / 2)
    )
    return BlandAltman(
        bias=t_interval(differences, confidence),
        lower=Interval(bias - z * deviation, bias - far * deviation, bias - near * deviation, confidence),
        upper=Interval(bias + z * deviation, bias + near * deviation, bias + far * deviation, confidence),
        slope=_slope((first + second) / 2, differences, confidence),
        deviation=deviation,
        n=n,
    )


def _slope(x: npt.NDArray[np.float64], y: npt.NDArray[np.float64], confidence: float) -> Interval:
    """Least squares slope of y over x with its t interval."""
    centred = x - x.mean()
    spread = float(centred @ centred)
    if spread == 0:
        return Interval(math.nan, -math.inf, math.inf, confidence)
    slope = float(centred @ y) / spread
    residuals = y - y.mean() - slope * centred
    error = math.sqrt(float(residuals @ residuals) / (x.size - 2) / spread)
    half = float(scipy.special.stdtrit(x.size - 2, (1 + confidence) / 2)) * error
    return Interval(slope, slope - half, slope + half, confidence)

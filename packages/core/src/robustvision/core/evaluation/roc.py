"""ROC figures of genuine against impostor scores, with numpy alone, and with honest limits.

Everywhere here a higher score means more alike, and a pair is accepted if its score lies **strictly above** the
threshold. Negate distances first. A pair that could not be scored takes part as ``-inf``; NaN is refused.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from robustvision.core.errors import InputError

from .intervals import Interval, wilson_interval


@dataclass(frozen=True)
class RocCurve:
    """All distinguishable operating points, from the strictest to the one that accepts everything.

    Attributes:
        far: False accept rate, float64 ``[m]``, rising from 0 to 1.
        tar: True accept rate, float64 ``[m]``, rising from 0 to 1.
        thresholds: Falling, ``[m]``; the last is ``-inf`` and accepts also what scored ``-inf``.
    """

    far: npt.NDArray[np.float64]
    tar: npt.NDArray[np.float64]
    thresholds: npt.NDArray[np.float64]


@dataclass(frozen=True)
class TarAtFar:
    """The true accept rate at a false accept rate.

    Attributes:
        tar: Accepted share of the genuine pairs; NaN if ``target`` is below ``smallest_far``.
        target: The FAR that was asked for.
        far: The FAR that the threshold really has on these impostors.
        threshold: Scores strictly above it are accepted.
        smallest_far: One over the number of impostors: below it nothing can be measured.
        interval: Wilson interval of ``tar`` at this threshold. It takes genuine pairs as independent and the threshold
            as given; where an identity brings many pairs, use ``bootstrap_interval(accepted, groups=identities)``
            instead.
        method: ``strict`` or ``nearest``.
    """

    tar: float
    target: float
    far: float
    threshold: float
    smallest_far: float
    interval: Interval
    method: Literal["strict", "nearest"]


@dataclass(frozen=True)
class EqualErrorRate:
    """Where as many genuine pairs are refused as impostors are accepted.

    Attributes:
        rate: The common rate, interpolated linearly between the two neighbouring operating points.
        threshold: That of the neighbour at which both rates differ less.
    """

    rate: float
    threshold: float


def roc_curve(genuine: npt.ArrayLike, impostor: npt.ArrayLike) -> RocCurve:
    """The empirical ROC curve, with a point for every distinct score.

    Args:
        genuine: Scores of pairs that belong together, ``[p]``; higher is more alike.
        impostor: Scores of pairs that do not, ``[n]``.

    Returns:
        The curve; equal scores of both kinds make one diagonal step.

    Raises:
        InputError: If either is empty, not one-dimensional, or holds NaN.

    Example:
        >>> curve = roc_curve([0.9, 0.4], [0.5, 0.1])
        >>> curve.far.tolist(), curve.tar.tolist()
        ([0.0, 0.0, 0.5, 0.5, 1.0], [0.0, 0.5, 0.5, 1.0, 1.0])
    """
    positive, negative = np.sort(_scores(genuine, "genuine")), np.sort(_scores(impostor, "impostor"))
    distinct = np.unique(np.concatenate([positive, negative]))
    # A threshold at each distinct score accepts what lies above it; the last one, -inf, accepts everything.
    thresholds = np.append(distinct[distinct > -np.inf][::-1].astype(np.float64), -np.inf)
    if thresholds.size == 1:  # nothing scored above -inf: the strictest point still accepts nothing
        thresholds = np.array([np.inf, -np.inf])
    return RocCurve(_accepted_rate(negative, thresholds), _accepted_rate(positive, thresholds), thresholds)


def roc_auc(positive: npt.ArrayLike, negative: npt.ArrayLike) -> float:
    """Area under the ROC curve: the probability that a positive scores higher than a negative, a tie counting half.

    It is the Mann-Whitney U statistic over its maximum, counted in integers: exact, and in O(n log n).

    Args:
        positive: Scores of what should be found, ``[p]``; higher is more likely positive.
        negative: Scores of the rest, ``[n]``.

    Returns:
        The area, 0 to 1.

    Raises:
        InputError: If either is empty, not one-dimensional, or holds NaN.

    References:
        J. A. Hanley, B. J. McNeil, "The meaning and use of the area under a ROC curve", Radiology 143, 1982.

    Example:
        >>> roc_auc([3, 2], [1, 2])
        0.875
    """
    high, low = _scores(positive, "positive"), np.sort(_scores(negative, "negative"))
    below = int(np.searchsorted(low, high, side="left").sum(dtype=np.int64))
    not_above = int(np.searchsorted(low, high, side="right").sum(dtype=np.int64))
    return (below + not_above) / (2 * high.size * low.size)


def tar_at_far(
    genuine: npt.ArrayLike, impostor: npt.ArrayLike, far: float, method: Literal["strict", "nearest"] = "strict"
) -> TarAtFar:
    """True accept rate at a false accept rate.

    ``strict``: the threshold is the impostor score at index ``floor(far * n)`` in descending order, so the real FAR
    never exceeds the target. ``nearest``: the ROC point whose FAR lies nearest to the target, with the larger TAR where
    two are as near, as the usual IJB script has it; its FAR may exceed the target. Both select in O(n).

    Args:
        genuine: Scores of pairs that belong together, ``[p]``; higher is more alike.
        impostor: Scores of pairs that do not, ``[n]``.
        far: The target, above 0 and at most 1. It is read as the decimal number that it prints as: 0.29 of 100 is 29.
        method: See above.

    Returns:
        The rate with its threshold, limits and interval. Below the smallest measurable FAR, ``1 / n``, rate and
        threshold are NaN and a warning says so.

    Raises:
        InputError: If the scores are empty or hold NaN, or the target or the method is impossible.

    Example:
        >>> result = tar_at_far([0.9, 0.6, 0.3], [0.5, 0.4, 0.2, 0.1], far=0.25)
        >>> result.threshold, round(result.tar, 3), result.far
        (0.4, 0.667, 0.25)
    """
    positive, negative = _scores(genuine, "genuine"), _scores(impostor, "impostor")
    if not 0 < far <= 1:
        raise InputError(f"far is {far}: expected a rate above 0 and at most 1")
    if method not in ("strict", "nearest"):
        raise InputError(f"method is {method!r}: expected 'strict' or 'nearest'")
    wanted = Fraction(repr(float(far))) * negative.size  # exact: 0.29 * 100 is 28.999999999999996 in floats
    if wanted < 1:
        warnings.warn(
            f"FAR {far:g} cannot be measured with {negative.size} impostor scores: the smallest is 1/{negative.size} = "
            f"{1 / negative.size:.3g}; the result is NaN",
            stacklevel=2,
        )
        unknown = Interval(math.nan, math.nan, math.nan, 0.95)
        return TarAtFar(math.nan, far, math.nan, math.nan, 1 / negative.size, unknown, method)
    threshold = _threshold(negative, wanted, nearest=method == "nearest")
    accepted = _count_accepted(positive, threshold)
    return TarAtFar(
        tar=accepted / positive.size,
        target=far,
        far=_count_accepted(negative, threshold) / negative.size,
        threshold=threshold,
        smallest_far=1 / negative.size,
        interval=wilson_interval(accepted, positive.size),
        method=method,
    )


def equal_error_rate(genuine: npt.ArrayLike, impostor: npt.ArrayLike) -> EqualErrorRate:
    """The rate at which false accepts and false rejects are equally frequent.

    Args:
        genuine: Scores of pairs that belong together, ``[p]``; higher is more alike.
        impostor: Scores of pairs that do not, ``[n]``.

    Returns:
        The rate and a threshold.

    Raises:
        InputError: If either is empty, not one-dimensional, or holds NaN.

    Example:
        >>> equal_error_rate([0.9, 0.8, 0.7, 0.3], [0.6, 0.2, 0.1, 0.0])
        EqualErrorRate(rate=0.25, threshold=0.3)
    """
    curve = roc_curve(genuine, impostor)
    excess = curve.far - (1 - curve.tar)  # rises from -1 to 1 along the curve
    after = int(np.argmax(excess >= 0))
    before = after - 1
    share = excess[before] / (excess[before] - excess[after])
    rate = curve.far[before] + share * (curve.far[after] - curve.far[before])
    nearer = after if excess[after] < -excess[before] else before
    return EqualErrorRate(float(rate), float(curve.thresholds[nearer]))


def _threshold(negative: npt.NDArray[Any], wanted: Fraction, *, nearest: bool) -> float:
    """The threshold that accepts about ``wanted`` impostors: at most so many, or as near as ties allow."""
    index = math.floor(wanted)
    if index == negative.size:
        return -math.inf
    position = negative.size - 1 - index
    strict = np.partition(negative, position)[position]
    if not nearest:
        return float(strict)
    fewer, more = int(np.count_nonzero(negative > strict)), int(np.count_nonzero(negative >= strict))
    if wanted - fewer < more - wanted:
        return float(strict)
    lower = negative[negative < strict]  # accepting those that tie with the strict threshold comes nearer
    return float(lower.max()) if lower.size else -math.inf


def _count_accepted(scores: npt.NDArray[Any], threshold: float) -> int:
    # np.float64, since a plain float would be rounded to float32 beside float32 scores. At -inf everything is meant to
    # be accepted, the scores of -inf too.
    return scores.size if threshold == -math.inf else int(np.count_nonzero(scores > np.float64(threshold)))


def _accepted_rate(ascending: npt.NDArray[Any], thresholds: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The same for many thresholds, the last of which is ``-inf``."""
    accepted = ascending.size - np.searchsorted(ascending, thresholds, side="right")
    accepted[-1] = ascending.size
    return accepted / ascending.size


def _scores(values: npt.ArrayLike, name: str) -> npt.NDArray[Any]:
    scores = np.asarray(values)
    if scores.ndim != 1 or scores.size == 0:
        raise InputError(f"{name} scores have shape {scores.shape}: expected one dimension and at least one score")
    if scores.dtype.kind not in "fiub":
        raise InputError(f"{name} scores have dtype {scores.dtype}: expected real numbers")
    if scores.dtype.kind == "f":
        if np.isnan(scores).any():
            raise InputError(
                f"{np.isnan(scores).sum()} of {scores.size} {name} scores are NaN: score failed pairs as -inf"
            )
        return scores
    return scores.astype(np.float64)

"""How well offsets from footprint to roof are predicted. Offsets are (dx, dy) in px."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from robustvision.core.errors import InputError

Float64 = npt.NDArray[np.float64]


@dataclass(frozen=True)
class OffsetErrors:
    """Mean errors over buildings; NaN where there are none.

    Attributes:
        end_point_px: Length of the difference of both vectors.
        length_px: Difference of the lengths, absolute.
        angle_deg: Angle between both, 0 to 180; over the buildings where neither vector is zero.
        buildings: How many there were.
    """

    end_point_px: float
    length_px: float
    angle_deg: float
    buildings: int


def offset_errors(predicted_px: npt.ArrayLike, truth_px: npt.ArrayLike) -> OffsetErrors:
    """Compare predicted offsets with true ones, of buildings that are matched already.

    Args:
        predicted_px: ``[n, 2]``, (dx, dy).
        truth_px: ``[n, 2]``, in the same order.

    Returns:
        The mean errors.

    Raises:
        InputError: The shapes differ, or a value is not finite.

    Example:
        >>> offset_errors([(3.0, 4.0)], [(0.0, 5.0)])
        OffsetErrors(end_point_px=3.16..., length_px=0.0, angle_deg=36.86..., buildings=1)
    """
    predicted, truth = (np.asarray(offsets, dtype=np.float64) for offsets in (predicted_px, truth_px))
    if predicted.size == 0 and truth.size == 0:
        return OffsetErrors(math.nan, math.nan, math.nan, 0)
    if predicted.shape != truth.shape or predicted.ndim != 2 or predicted.shape[1] != 2:
        raise InputError(f"predicted offsets {predicted.shape}, true ones {truth.shape}: expected [n, 2] for both")
    if not (np.isfinite(predicted).all() and np.isfinite(truth).all()):
        raise InputError("an offset is not finite: leave out buildings without one, knowingly")
    end_point = np.hypot(*(predicted - truth).T)
    length = np.abs(np.hypot(*predicted.T) - np.hypot(*truth.T))
    cross = predicted[:, 0] * truth[:, 1] - predicted[:, 1] * truth[:, 0]
    # atan2 stays exact where arccos loses half the digits: near 0 and 180 degrees
    angle = np.degrees(np.arctan2(np.abs(cross), (predicted * truth).sum(axis=1)))
    both = predicted.any(axis=1) & truth.any(axis=1)
    mean_angle = float(angle[both].mean()) if both.any() else math.nan
    return OffsetErrors(float(end_point.mean()), float(length.mean()), mean_angle, len(truth))

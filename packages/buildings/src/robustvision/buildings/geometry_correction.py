"""Labels moved onto the roofs without any clean label, by the lean between footprints and a prediction.

A baseline of this project's own: no paper on off-nadir building extraction compares its method with one of this kind.
It answers a plain question: how much of what the clean labels give does geometry alone give, once a network, though
trained on footprints, sees where roofs about are? All settings are [R].

All buildings of an image lean the same way, by an amount that grows with their heights (parallel view). So every
building votes for every lean by how well its footprint, moved by it, agrees with the prediction; the sum of the votes
has its peak at the lean of the image, also where single buildings fit a neighbour's roof better, or have no roof in
the prediction. The peak is then refined by the buildings that agree with it. Numpy, OpenCV, shapely and rasterio only.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt
import shapely
from rasterio.features import rasterize
from scipy.ndimage import find_objects, label
from shapely.geometry import MultiPolygon, Polygon

from robustvision.core.errors import InputError

Array = npt.NDArray[np.float32]
Bool = npt.NDArray[np.bool_]
Footprints = npt.NDArray[np.bool_] | npt.NDArray[np.uint8] | Sequence[Polygon | MultiPolygon]

MARGIN_PX = 3
"""Background around a footprint that has to fit as well: else a small one fits anywhere on a large roof."""
MIN_AREA_PX = 12
"""Smaller footprints have no vote."""
MIN_CORRELATION = 0.4
"""A building whose footprint correlates less with the prediction agrees with no lean."""
MIN_VARIANCE = 1e-3
"""What a flat prediction is taken to vary by: it correlates with nothing."""
TOLERANCE_PX = 2.0
"""How far a building's own best place may lie from where the image's lean puts it."""
MIN_CONFIDENCE = 0.3
"""Below it labels stay where they are."""


@dataclass(frozen=True)
class Lean:
    """How the roofs of an image are displaced from their footprints.

    Attributes:
        direction_rad: phi; roofs lie towards (sin phi, -cos phi), x right and y down, as in the camera model.
        shift_px: The displacement of all buildings, where heights are not known; else None.
        px_per_m: The displacement a metre of height, where heights are known; else None.
        inliers: Buildings that agree.
        buildings: Buildings that could: at least half of them would be in the picture.
        confidence: 0..1: the share of the buildings that agree, times how well these correlate, less where there are
            few.
    """

    direction_rad: float
    shift_px: float | None
    px_per_m: float | None
    inliers: int
    buildings: int
    confidence: float

    def offsets_px(self, heights_m: npt.ArrayLike | None = None) -> npt.NDArray[np.float64]:
        """Return the displacement of buildings, from footprint to roof.

        Args:
            heights_m: [N]; needed where the lean is one a metre.

        Returns:
            float64 [N, 2], or [2] without heights: dx and dy.

        Raises:
            InputError: Heights are missing.
        """
        towards = np.array([math.sin(self.direction_rad), -math.cos(self.direction_rad)])
        if self.px_per_m is None:
            return towards * (self.shift_px or 0.0)
        if heights_m is None:
            raise InputError("this lean is in pixels a metre of height: pass the buildings' heights_m")
        return np.asarray(heights_m, float)[..., None] * self.px_per_m * towards


@dataclass(frozen=True)
class _Votes:
    """How well one footprint fits at every shift within reach: [2 R + 1, 2 R + 1], none in the middle, NaN unseen."""

    scores: Array
    height: float


def estimate_lean(
    probability: npt.NDArray[np.floating],
    footprints: Footprints,
    heights_m: Sequence[float] | None = None,
    *,
    max_shift_px: int = 32,
) -> Lean:
    """Measure the lean of an image.

    Args:
        probability: float [H, W], a network's probability of a roof, 0..1.
        footprints: bool or 0/1 [H, W], whose connected parts count as buildings; or polygons in pixels.
        heights_m: The heights of the polygons; without, all buildings are taken to be displaced alike.
        max_shift_px: The largest displacement to look for, of the highest building.

    Returns:
        The lean; with confidence 0 and no displacement where nothing agrees.

    Raises:
        InputError: Shapes or values do not fit.
    """
    picture = np.asarray(probability, np.float32)
    if picture.ndim != 2 or not np.isfinite(picture).all() or picture.min() < 0 or picture.max() > 1:
        raise InputError(f"probability {picture.shape}: expected [H, W] of finite values in 0..1")
    if max_shift_px < 1:
        raise InputError(f"max_shift_px is {max_shift_px}: expected at least 1")
    masks = _masks(footprints, picture.shape)
    heights = _heights(heights_m, footprints, len(masks))
    votes = [
        _Votes(_fit(picture, mask, corner, max_shift_px), height)
        for (mask, corner), height in zip(masks, heights, strict=True)
        if height > 0 and mask.sum() >= MIN_AREA_PX
    ]
    if not votes:
        return _result(np.zeros(2), [], 0, by_height=heights_m is not None)
    top = max(vote.height for vote in votes)
    lean = _consensus(votes, max_shift_px / top, max_shift_px)
    lean, _, _ = _refine(votes, lean, max_shift_px)
    lean, agreeing, seen = _refine(votes, lean, max_shift_px)
    return _result(lean, agreeing, seen, by_height=heights_m is not None)


def correct_labels(
    footprints: Footprints,
    lean: Lean,
    *,
    shape: tuple[int, int] | None = None,
    heights_m: Sequence[float] | None = None,
    min_confidence: float = MIN_CONFIDENCE,
) -> Bool:
    """Move footprints to where the lean says the roofs are.

    Args:
        footprints: A mask [H, W], or polygons in pixels.
        lean: From :func:`estimate_lean`.
        shape: Height and width of the label, for polygons.
        heights_m: The heights of the polygons, for a lean in pixels a metre.
        min_confidence: Below it the footprints stay where they are.

    Returns:
        bool [H, W], the corrected label.

    Raises:
        InputError: ``shape`` or heights are missing, or a mask comes with a lean in pixels a metre.
    """
    trusted = lean.confidence >= min_confidence
    if isinstance(footprints, np.ndarray):
        mask = _checked_mask(footprints)
        if not trusted:
            return mask
        if lean.px_per_m is not None:
            raise InputError("a mask has no heights: correct the polygons, or measure the lean without heights")
        dx, dy = lean.offsets_px()
        moved = cv2.warpAffine(mask.astype(np.float32), np.array([[1, 0, dx], [0, 1, dy]]), mask.shape[::-1])
        return np.asarray(moved >= 0.5)
    if shape is None:
        raise InputError("polygons have no picture: pass its shape, (height, width)")
    polygons = list(footprints)
    if trusted:
        heights = None if heights_m is None else _heights(heights_m, footprints, len(polygons))
        offsets = np.broadcast_to(lean.offsets_px(heights), (len(polygons), 2))
        polygons = [
            shapely.affinity.translate(polygon, dx, dy) for polygon, (dx, dy) in zip(polygons, offsets, strict=True)
        ]
    filled = [polygon for polygon in polygons if not polygon.is_empty]
    if not filled:
        return np.zeros(shape, bool)
    return np.asarray(rasterize(filled, out_shape=shape, dtype=np.uint8) > 0)


def _checked_mask(mask: npt.NDArray[np.generic]) -> Bool:
    if mask.ndim != 2 or not np.isin(mask, (0, 1)).all():
        raise InputError(f"footprints {mask.shape}: expected a mask [H, W] of 0 and 1, or polygons")
    return mask.astype(bool)


def _masks(footprints: Footprints, shape: tuple[int, ...]) -> list[tuple[Bool, tuple[int, int]]]:
    """Each building's mask, cut out, and the row and column of its corner."""
    if isinstance(footprints, np.ndarray):
        mask = _checked_mask(footprints)
        if mask.shape != shape:
            raise InputError(f"footprints {mask.shape} and probability {shape}: expected the same picture")
        parts, _ = label(mask)
        places = enumerate(find_objects(parts), start=1)
        return [(parts[place] == number, (place[0].start, place[1].start)) for number, place in places]
    return [_whole(polygon) for polygon in footprints]


def _whole(polygon: Polygon | MultiPolygon) -> tuple[Bool, tuple[int, int]]:
    """A polygon's mask, also where it reaches beyond the picture."""
    if polygon.is_empty:
        return np.zeros((0, 0), bool), (0, 0)
    left, top = (math.floor(value) for value in polygon.bounds[:2])
    right, bottom = (math.ceil(value) for value in polygon.bounds[2:])
    moved = shapely.affinity.translate(polygon, -left, -top)
    size = (max(1, bottom - top), max(1, right - left))
    return rasterize([moved], out_shape=size, dtype=np.uint8) > 0, (top, left)


def _heights(heights_m: Sequence[float] | None, footprints: Footprints, count: int) -> list[float]:
    if heights_m is None:
        return [1.0] * count
    if isinstance(footprints, np.ndarray):
        raise InputError("a mask has no heights: pass polygons, or leave heights_m out")
    if len(heights_m) != count or not all(math.isfinite(height) and height >= 0 for height in heights_m):
        raise InputError(f"{len(heights_m)} heights for {count} polygons: expected one each, finite and at least 0")
    return [float(height) for height in heights_m]


def _fit(picture: Array, mask: Bool, corner: tuple[int, int], reach: int) -> Array:
    """Correlation of a footprint and some background around it with the prediction, at every shift within reach.

    Only what lies in the picture is compared. The less of the footprint that is, the less it counts; below half of it
    the result is NaN.
    """
    template = np.pad(mask, MARGIN_PX).astype(np.float32)
    top, left = corner[0] - MARGIN_PX - reach, corner[1] - MARGIN_PX - reach
    rows, columns = np.arange(top, top + len(template) + 2 * reach), np.arange(left, left + len(template.T) + 2 * reach)
    seen = np.logical_and.outer((rows >= 0) & (rows < len(picture)), (columns >= 0) & (columns < len(picture.T)))
    patch = np.zeros(seen.shape, np.float32)
    patch[seen] = picture[max(0, top) : max(0, rows[-1] + 1), max(0, left) : max(0, columns[-1] + 1)].ravel()
    count = np.maximum(_boxes(seen, template), 1)
    covered = _slide(seen, template)
    first, second = _boxes(patch, template), _boxes(patch**2, template)
    spread = (covered - covered**2 / count) * np.maximum(second - first**2 / count, MIN_VARIANCE * count)
    scores = (_slide(patch, template) - covered * first / count) / np.sqrt(np.maximum(spread, 1e-6))
    share = covered / max(float(template.sum()), 1)
    return np.where(share < 0.5, np.nan, scores * share).astype(np.float32)


def _slide(picture: npt.NDArray[np.generic], template: Array) -> npt.NDArray[np.float64]:
    return np.asarray(cv2.matchTemplate(picture.astype(np.float32), template, cv2.TM_CCORR), np.float64)


def _boxes(picture: npt.NDArray[np.generic], template: Array) -> npt.NDArray[np.float64]:
    """Sums over windows of the template's size."""
    sums = np.asarray(cv2.integral(picture.astype(np.float64)))
    high, wide = template.shape
    return np.asarray(sums[high:, wide:] - sums[:-high, wide:] - sums[high:, :-wide] + sums[:-high, :-wide])


def _consensus(votes: Sequence[_Votes], most: float, reach: int) -> npt.NDArray[np.float64]:
    """The lean, in pixels a unit of height, with the largest sum of positive correlations."""
    steps = np.linspace(-most, most, 2 * reach + 1)
    x, y = (axis.astype(np.float32) for axis in np.meshgrid(steps, steps))
    total = np.zeros_like(x)
    for vote in votes:
        scores = np.maximum(np.nan_to_num(vote.scores), 0) ** 2
        total += cv2.remap(scores, x * vote.height + reach, y * vote.height + reach, cv2.INTER_LINEAR)
    total[np.hypot(x, y) > most * (1 + 1e-6)] = -1
    row, column = np.unravel_index(int(total.argmax()), total.shape)
    return np.array([steps[column], steps[row]])


def _refine(
    votes: Sequence[_Votes], lean: npt.NDArray[np.float64], reach: int
) -> tuple[npt.NDArray[np.float64], list[float], int]:
    """Least squares over the buildings whose own peak lies near; the correlations of these; how many could agree."""
    radius = math.ceil(TOLERANCE_PX) + 1
    heights, peaks, correlations, seen = [], [], [], 0
    for vote in votes:
        x, y = (round(float(value)) + reach for value in lean * vote.height)
        top, left = max(0, y - radius), max(0, x - radius)
        near = vote.scores[top : y + radius + 1, left : x + radius + 1]
        if near.size == 0 or np.isnan(near).all():
            continue
        seen += 1
        row, column = np.unravel_index(int(np.nanargmax(near)), near.shape)
        peak = _subpixel(vote.scores, top + int(row), left + int(column)) - reach
        if near[row, column] >= MIN_CORRELATION and np.hypot(*(peak - lean * vote.height)) <= TOLERANCE_PX:
            heights.append(vote.height)
            peaks.append(peak)
            correlations.append(float(near[row, column]))
    if not heights:
        return lean, [], seen
    weights = np.array(heights)
    return (weights[:, None] * np.array(peaks)).sum(0) / (weights**2).sum(), correlations, seen


def _subpixel(scores: Array, row: int, column: int) -> npt.NDArray[np.float64]:
    """The top of the parabolas through a peak and its neighbours: x and y."""
    place = []
    for line, at in ((scores[row], column), (scores[:, column], row)):
        moved = 0.0
        if 0 < at < len(line) - 1:
            before, here, after = (float(value) for value in line[at - 1 : at + 2])
            curve = before - 2 * here + after
            moved = 0.5 * (before - after) / curve if curve < 0 else 0.0
        place.append(at + min(max(moved, -0.5), 0.5))
    return np.array(place)


def _result(lean: npt.NDArray[np.float64], agreeing: Sequence[float], count: int, *, by_height: bool) -> Lean:
    inliers = len(agreeing)
    if not inliers:
        return Lean(0.0, None if by_height else 0.0, 0.0 if by_height else None, 0, count, 0.0)
    amount, direction = float(np.hypot(*lean)), math.atan2(lean[0], -lean[1])
    confidence = inliers / count * float(np.mean(agreeing)) * (1 - 0.5**inliers)
    return Lean(
        direction, None if by_height else amount, amount if by_height else None, inliers, count, min(confidence, 1.0)
    )

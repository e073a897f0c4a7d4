"""How much the predicted buildings of one image overlap the true ones: IoU of polygons, of masks, and of their edges.

Masks are bool [n, H, W], which may overlap, or a map, int [H, W], of building numbers with 0 for none; the buildings of
a map are in ascending order of number.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import scipy.sparse
import shapely
from shapely.geometry import MultiPolygon, Polygon

from robustvision.core.errors import InputError

BOUNDARY_RATIO = 0.02
"""Thickness of an edge over the image's diagonal."""

Float64 = npt.NDArray[np.float64]
Bool = npt.NDArray[np.bool_]
Polygons = Sequence[Polygon | MultiPolygon]


@dataclass(frozen=True, eq=False)
class Overlaps:
    """The n predictions and m buildings of one image; made by `overlaps` and its kin.

    Attributes:
        iou: float64 [n, m].
        scores: float64 [n], higher is surer; equal where predictions have none, so that their order decides.
        crowd: bool [m], regions in which predictions count neither way; in their columns ``iou`` is the share of the
            prediction that they cover.
    """

    iou: Float64
    scores: Float64
    crowd: Bool


def overlaps(iou: npt.ArrayLike, scores: npt.ArrayLike | None = None, crowd: npt.ArrayLike | None = None) -> Overlaps:
    """Put an IoU matrix, scores and crowd regions together.

    Args:
        iou: ``[n, m]``.
        scores: ``[n]``, of the predictions; None where they have none.
        crowd: ``[m]``, see `Overlaps`; None for no such region.

    Raises:
        InputError: The lengths do not fit, or a value is not finite.
    """
    matrix = np.asarray(iou, dtype=np.float64)
    if matrix.ndim != 2 or not np.isfinite(matrix).all():
        raise InputError(f"an IoU matrix of shape {matrix.shape}: expected predictions x buildings, all finite")
    predictions, buildings = matrix.shape
    sureness = np.ones(predictions) if scores is None else np.asarray(scores, dtype=np.float64)
    if sureness.shape != (predictions,) or not np.isfinite(sureness).all():
        raise InputError(
            f"scores of shape {sureness.shape}: expected a finite one for each of {predictions} predictions"
        )
    regions = np.zeros(buildings, dtype=bool) if crowd is None else np.asarray(crowd, dtype=bool)
    if regions.shape != (buildings,):
        raise InputError(f"crowd has shape {regions.shape}: expected a flag for each of {buildings} buildings")
    return Overlaps(matrix, sureness, regions)


def polygon_overlaps(
    predicted: Polygons, truth: Polygons, scores: npt.ArrayLike | None = None, *, min_truth_area: float = 0.0
) -> Overlaps:
    """Overlaps of polygons.

    Args:
        predicted: n of one image.
        truth: Its buildings.
        scores: ``[n]``; None where there are none.
        min_truth_area: Smaller buildings are left out, in square units of the polygons; SpaceNet's challenges take 20.

    Raises:
        InputError: A polygon is invalid or empty, or the scores do not fit.
    """
    kept = [polygon for polygon in truth if polygon.area >= min_truth_area]
    return overlaps(polygon_iou(predicted, kept), scores)


def mask_overlaps(
    predicted: npt.ArrayLike,
    truth: npt.ArrayLike,
    scores: npt.ArrayLike | None = None,
    *,
    crowd: npt.ArrayLike | None = None,
    boundary: bool = False,
) -> Overlaps:
    """Overlaps of masks.

    Args:
        predicted: bool [n, H, W] or a map, see the module.
        truth: bool [m, H, W] or a map.
        scores: ``[n]``; None where there are none.
        crowd: ``[m]``, see `Overlaps`.
        boundary: Take the smaller of mask and boundary IoU (mask IoU alone for crowd regions), as Boundary AP does: the
            edges alone would let a ring pass for a building.

    Raises:
        InputError: The masks are not of one size, or are empty; scores or crowd do not fit.
    """
    iou = mask_iou(predicted, truth, crowd)
    if boundary:
        regions = np.zeros(iou.shape[1], dtype=bool) if crowd is None else np.asarray(crowd, dtype=bool)
        iou = np.where(regions, iou, np.minimum(iou, boundary_iou(predicted, truth)))
    return overlaps(iou, scores, crowd)


def polygon_iou(predicted: Polygons, truth: Polygons) -> Float64:
    """IoU of every prediction with every building, exact; only pairs that touch are intersected.

    Args:
        predicted: n.
        truth: m.

    Returns:
        float64 [n, m].

    Raises:
        InputError: A polygon is invalid or has no area.

    Example:
        >>> polygon_iou([shapely.box(0, 0, 30, 20)], [shapely.box(1, 0, 31, 20)]).round(4).tolist()
        [[0.9355]]
    """
    a, b = checked_polygons(predicted, "predicted"), checked_polygons(truth, "true")
    iou = np.zeros((len(a), len(b)))
    rows, columns = shapely.STRtree(b).query(a, predicate="intersects")
    shared = shapely.area(shapely.intersection(a[rows], b[columns]))
    iou[rows, columns] = shared / (shapely.area(a)[rows] + shapely.area(b)[columns] - shared)
    return iou


def mask_iou(predicted: npt.ArrayLike, truth: npt.ArrayLike, crowd: npt.ArrayLike | None = None) -> Float64:
    """IoU of every predicted mask with every true one.

    Args:
        predicted: bool [n, H, W] or a map, see the module.
        truth: bool [m, H, W] or a map.
        crowd: ``[m]``; in the columns of crowd regions, the share of the prediction that they cover.

    Returns:
        float64 [n, m].

    Raises:
        InputError: The masks are not of one size, or one is empty.

    Example:
        >>> mask_iou(np.array([[1, 1, 0, 2]]), np.array([[0, 5, 5, 0]])).round(3).tolist()
        [[0.333], [0.0]]
    """
    a, b = np.asarray(predicted), np.asarray(truth)
    if a.shape[-2:] != b.shape[-2:]:
        raise InputError(f"predicted masks of {a.shape[-2:]} px, true ones of {b.shape[-2:]} px: expected one image")
    return _iou(_pixels(a, "predicted"), _pixels(b, "true"), crowd)


def boundary_iou(predicted: npt.ArrayLike, truth: npt.ArrayLike, ratio: float = BOUNDARY_RATIO) -> Float64:
    """IoU of the masks' inner edges, so that large buildings too are judged by their outline.

    An edge is what erosion by a 3x3 square takes away, ``ratio`` times the image's diagonal, in px, at least once; the
    image's border counts as an edge.

    Args:
        predicted: bool [n, H, W] or a map, see the module.
        truth: bool [m, H, W] or a map.
        ratio: Thickness of an edge over the diagonal.

    Returns:
        float64 [n, m].

    Raises:
        InputError: The masks are not of one size, or one is empty.

    References:
        B. Cheng et al., "Boundary IoU: Improving Object-Centric Image Segmentation Evaluation", arXiv 2103.16562.

    Example:
        >>> full = np.ones((1, 10, 10), dtype=bool)
        >>> part = full.copy()
        >>> part[0, 3:7, 3:7] = False
        >>> boundary_iou(full, full).item(), boundary_iou(part, full).round(3).item()
        (1.0, 0.643)
    """
    a, b = np.asarray(predicted), np.asarray(truth)
    if a.shape[-2:] != b.shape[-2:]:
        raise InputError(f"predicted masks of {a.shape[-2:]} px, true ones of {b.shape[-2:]} px: expected one image")
    width, thickness_px = a.shape[-1], max(1, round(ratio * math.hypot(*a.shape[-2:])))
    return _iou(*(_edges(_pixels(m, name), width, thickness_px) for m, name in ((a, "predicted"), (b, "true"))))


def checked_polygons(polygons: Polygons, name: str) -> npt.NDArray[Any]:
    """Return polygons as an array of objects, or say which cannot be measured.

    Args:
        polygons: Of one image.
        name: What to call them in the error.

    Raises:
        InputError: One is invalid, has no area, or is not a polygon.
    """
    shapes = np.empty(len(polygons), dtype=object)
    shapes[:] = polygons
    areal = np.isin(shapely.get_type_id(shapes), (shapely.GeometryType.POLYGON, shapely.GeometryType.MULTIPOLYGON))
    broken = np.flatnonzero(~(areal & shapely.is_valid(shapes) & (shapely.area(shapes) > 0)))
    if broken.size:
        reason = shapely.is_valid_reason(shapes[broken[0]])
        raise InputError(
            f"{name} polygon {broken[0]} cannot be measured ({reason}): repair it with shapely.make_valid, and drop "
            "what has no area"
        )
    return shapes


def _pixels(masks: npt.NDArray[Any], name: str) -> scipy.sparse.csr_matrix:
    """Sparse [n, H * W], 1 in a mask: masks of any count take as much memory as they cover."""
    size = math.prod(masks.shape[-2:])
    if masks.ndim == 3 and (masks.dtype == np.bool_ or np.isin(masks, (0, 1)).all()):
        rows, columns = np.nonzero(masks.reshape(len(masks), size))
        number = len(masks)
    elif masks.ndim == 2 and np.issubdtype(masks.dtype, np.integer) and not (masks < 0).any():
        columns = np.flatnonzero(masks)
        numbers, rows = np.unique(masks.ravel()[columns], return_inverse=True)
        number = numbers.size
    else:
        raise InputError(
            f"{name} masks are {masks.dtype} {masks.shape}: expected bool [n, H, W], or a map of numbers, int [H, W]"
        )
    pixels = scipy.sparse.csr_matrix((np.ones(rows.size, dtype=np.int64), (rows, columns)), shape=(number, size))
    empty = np.flatnonzero(np.diff(pixels.indptr) == 0)
    if empty.size:
        raise InputError(f"{name} mask {empty[0]} is empty: drop it, a building has at least one pixel")
    return pixels


def _iou(a: scipy.sparse.csr_matrix, b: scipy.sparse.csr_matrix, crowd: npt.ArrayLike | None = None) -> Float64:
    shared = (a @ b.T).toarray().astype(np.float64)
    own, other = np.diff(a.indptr)[:, None], np.diff(b.indptr)
    regions = np.zeros(len(other), dtype=bool) if crowd is None else np.asarray(crowd, dtype=bool)
    return shared / np.where(regions, own, own + other - shared)


def _edges(pixels: scipy.sparse.csr_matrix, width: int, thickness_px: int) -> scipy.sparse.csr_matrix:
    """The pixels of each mask that an erosion takes away, each within its own bounds."""
    kept = []
    kernel = np.ones((3, 3), dtype=np.uint8)
    for start, end in zip(pixels.indptr[:-1], pixels.indptr[1:], strict=True):
        y, x = np.divmod(pixels.indices[start:end], width)
        y, x = y - y.min() + 1, x - x.min() + 1  # one pixel of background around, which erosion starts from
        mask = np.zeros((y.max() + 2, x.max() + 2), dtype=np.uint8)
        mask[y, x] = 1
        kept.append(cv2.erode(mask, kernel, iterations=thickness_px)[y, x] == 0)
    edges = pixels.copy()
    edges.data = np.concatenate([np.zeros(0, dtype=bool), *kept]).astype(np.int64)
    edges.eliminate_zeros()
    return edges

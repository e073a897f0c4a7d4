"""How well polygons are drawn: PoLiS, C-IoU, and the largest error of a tangent's angle."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
import shapely
from shapely.geometry import MultiPolygon, Polygon

from .overlaps import Polygons, checked_polygons

MATCH_IOU = 0.5
SPACING_PX = 2.0
MAX_STRETCH = 2.0
MIN_PRECISION = 0.5

Float64 = npt.NDArray[np.float64]


def polis(a: Polygon | MultiPolygon, b: Polygon | MultiPolygon, *, closing_vertex: bool = False) -> float:
    """Mean distance of the vertices of each polygon to the other's boundary.

    ``PoLiS = sum_a dist(a, boundary B) / 2q + sum_b dist(b, boundary A) / 2r`` with q and r distinct vertices. Exterior
    rings only, as in the field's code.

    Args:
        a: Valid.
        b: Valid.
        closing_vertex: Divide by q + 1 and r + 1, as code that several papers share does, which counts the closing
            vertex twice: low by q / (q + 1), which is 20 % for rectangles.

    Returns:
        In the polygons' unit; 0 for equal outlines.

    Raises:
        InputError: A polygon is invalid or has no area.

    References:
        J. Avbelj, R. Müller, R. Bamler, "A Metric for Polygon Comparison and Building Extraction Evaluation", IEEE GRSL
        12, 2015.

    Example:
        >>> a, b = shapely.box(0, 0, 30, 20), shapely.box(1, 0, 31, 20)
        >>> polis(a, b), polis(a, b, closing_vertex=True)
        (0.5, 0.4)
    """
    checked_polygons([a, b], "compared")
    return (_one_way(a, b, closing_vertex) + _one_way(b, a, closing_vertex)) / 2


def polis_score(images: Iterable[tuple[Polygons, Polygons]], *, closing_vertex: bool = False) -> float:
    """PoLiS of a data set, as published tables give it.

    Each building is compared with the prediction whose bounding box overlaps its own most, if IoU is above 0.5; others
    count nowhere. Averaged over an image's buildings, then over images, without those of value 0: without a match, or
    (a quirk of the published code) perfect throughout.

    Args:
        images: Predicted and true polygons of each image.
        closing_vertex: See `polis`.

    Returns:
        In the polygons' unit; NaN where no image has a value.

    Raises:
        InputError: A polygon is invalid or has no area.

    Example:
        >>> rectangle, moved = shapely.box(0, 0, 30, 20), shapely.box(1, 0, 31, 20)
        >>> polis_score([([moved], [rectangle]), ([], [rectangle])])
        0.5
    """
    values = []
    for predicted, truth in images:
        a, b = checked_polygons(predicted, "predicted"), checked_polygons(truth, "true")
        if not (a.size and b.size):
            continue
        iou = _box_iou(a, b)
        best = iou.argmax(axis=0)
        pairs = [(a[best[j]], b[j]) for j in np.flatnonzero(iou.max(axis=0) > MATCH_IOU)]
        distances = [polis(one, other, closing_vertex=closing_vertex) for one, other in pairs]
        if distances and (value := float(np.mean(distances))) > 0:
            values.append(value)
    return float(np.mean(values)) if values else math.nan


def complexity_iou(predicted: Polygons, truth: Polygons) -> float:
    """C-IoU of one image: IoU of the unions, times how alike the vertex counts are.

    ``C-IoU = IoU (1 - |N_predicted - N_true| / (N_predicted + N_true))`` with the vertices of all exterior rings. Areas
    are exact; published code counts the pixels of a rasterised union instead, which differs by the rasterisation.

    Args:
        predicted: Of the image.
        truth: Likewise.

    Returns:
        0 to 1; 1 where both are empty. The score of a data set is the mean over images.

    Raises:
        InputError: A polygon is invalid or has no area.

    References:
        S. Zorzi et al., "PolyWorld: Polygonal Building Extraction with Graph Neural Networks", CVPR 2022.

    Example:
        >>> rectangle = shapely.box(0, 0, 30, 20)
        >>> complexity_iou([rectangle.segmentize(15)], [rectangle])
        0.6666666666666667
    """
    a, b = checked_polygons(predicted, "predicted"), checked_polygons(truth, "true")
    if not (a.size or b.size):
        return 1.0
    one, other = shapely.union_all(a), shapely.union_all(b)
    iou = shapely.area(shapely.intersection(one, other)) / shapely.area(shapely.union(one, other))
    n, m = (sum(len(_vertices(ring)) for polygon in shapes for ring in _outlines(polygon)) for shapes in (a, b))
    return float(iou * (1 - abs(n - m) / (n + m)))


def max_tangent_angle_errors_deg(predicted: Polygons, truth: Polygons) -> Float64:
    """Largest angle between the outline of each prediction and the true outline beneath it.

    A prediction's rings are sampled about every 2 px, the samples moved to the nearest true ring, and the edges between
    neighbouring samples compared in direction before and after; edges that the move stretches or shrinks by 2 or more
    are dropped. RECONSTRUCTED: the samples are spaced evenly on each ring.

    Args:
        predicted: Of one image.
        truth: Likewise.

    Returns:
        float64 [k], degrees, 0 to 90: for those predictions of whose area more than half is truly building, in order; 0
        for one without a comparable edge. Empty where there is no such prediction. A data set's score is the mean over
        the predictions of all images.

    Raises:
        InputError: A polygon is invalid or has no area.

    References:
        N. Girard et al., "Polygonal Building Extraction by Frame Field Learning", CVPR 2021.

    Example:
        >>> rectangle = shapely.box(0, 0, 40, 20)
        >>> max_tangent_angle_errors_deg([rectangle], [rectangle]).tolist()
        [0.0]
        >>> max_tangent_angle_errors_deg([], [rectangle]).tolist()
        []
    """
    a, b = checked_polygons(predicted, "predicted"), checked_polygons(truth, "true")
    if not (a.size and b.size):
        return np.zeros(0)
    covered = shapely.area(shapely.intersection(a, shapely.union_all(b))) / shapely.area(a)
    chosen = a[covered > MIN_PRECISION]
    parts, owner = shapely.get_parts(chosen, return_index=True)
    rings, part = shapely.get_rings(parts, return_index=True)
    true_rings = shapely.get_rings(shapely.get_parts(b))
    tree = shapely.STRtree(true_rings)
    angles = np.zeros(len(chosen))
    for ring, prediction in zip(rings, owner[part], strict=True):
        angles[prediction] = max(angles[prediction], _largest_turn_deg(ring, true_rings, tree))
    return angles


def _one_way(a: Polygon | MultiPolygon, b: Polygon | MultiPolygon, closing_vertex: bool) -> float:
    vertices = np.concatenate([_vertices(ring) for ring in _outlines(a)])
    distances = shapely.distance(shapely.points(vertices)[:, None], _outlines(b)).min(axis=1)
    return float(distances.sum()) / (len(vertices) + closing_vertex)


def _outlines(polygon: Polygon | MultiPolygon) -> npt.NDArray[np.object_]:
    """The exterior ring of each part."""
    return shapely.get_exterior_ring(shapely.get_parts(polygon))


def _vertices(ring: shapely.LinearRing) -> Float64:
    """Distinct ones: a ring repeats at least its first."""
    return np.unique(shapely.get_coordinates(ring), axis=0)


def _box_iou(a: npt.NDArray[np.object_], b: npt.NDArray[np.object_]) -> Float64:
    one, other = shapely.bounds(a)[:, None], shapely.bounds(b)[None]
    shared = np.minimum(one, other)[..., 2:] - np.maximum(one, other)[..., :2]
    area = np.clip(shared, 0, None).prod(axis=-1)
    sizes = [(boxes[..., 2:] - boxes[..., :2]).prod(axis=-1) for boxes in (one, other)]
    return area / (sizes[0] + sizes[1] - area)


def _largest_turn_deg(ring: shapely.LinearRing, true_rings: npt.NDArray[np.object_], tree: shapely.STRtree) -> float:
    samples = max(3, round(ring.length / SPACING_PX))
    points = shapely.line_interpolate_point(ring, np.linspace(0, ring.length, samples + 1))
    nearest = shapely.shortest_line(points, true_rings[tree.nearest(points)])
    places = shapely.get_coordinates(nearest).reshape(-1, 2, 2)
    edges, moved = np.diff(places[:, 0], axis=0), np.diff(places[:, 1], axis=0)
    before, after = np.hypot(*edges.T), np.hypot(*moved.T)
    comparable = (after * MAX_STRETCH > before) & (after < MAX_STRETCH * before)
    edges, moved = edges[comparable], moved[comparable]
    cross = np.abs(edges[:, 0] * moved[:, 1] - edges[:, 1] * moved[:, 0])
    turn = np.degrees(np.arctan2(cross, np.abs((edges * moved).sum(axis=1))))
    return float(turn.max(initial=0.0))

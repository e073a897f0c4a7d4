"""Scores of whole buildings: SpaceNet's F1, and COCO's average precision and recall.

Both take the `Overlaps` of every image, so both serve polygons, masks and boundaries alike.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from robustvision.core.errors import InputError

from .overlaps import Overlaps
from .pixel import ratio

MATCH_IOU = 0.5
COCO_IOUS = np.linspace(0.5, 0.95, 10)
COCO_RECALLS = np.linspace(0, 1, 101)
COCO_MAX_PREDICTIONS = 100

Bool = npt.NDArray[np.bool_]
Float64 = npt.NDArray[np.float64]
Int64 = npt.NDArray[np.int64]


@dataclass(frozen=True)
class InstanceCounts:
    """Buildings by what became of them. Counts add up: ``sum(counts, InstanceCounts())``.

    Attributes:
        tp: Predictions that match a building.
        fp: Predictions that match none.
        fn: Buildings that are not matched.

    Example:
        >>> InstanceCounts(tp=2, fp=1, fn=1).f1
        0.6666666666666666
    """

    tp: int = 0
    fp: int = 0
    fn: int = 0

    def __add__(self, other: InstanceCounts) -> InstanceCounts:
        return InstanceCounts(self.tp + other.tp, self.fp + other.fp, self.fn + other.fn)

    @property
    def f1(self) -> float:
        """``2 TP / (2 TP + FP + FN)``; NaN where there is nothing at all."""
        return ratio(2 * self.tp, 2 * self.tp + self.fp + self.fn)

    @property
    def precision(self) -> float:
        """``TP / (TP + FP)``; NaN without predictions."""
        return ratio(self.tp, self.tp + self.fp)

    @property
    def recall(self) -> float:
        """``TP / (TP + FN)``; NaN without buildings."""
        return ratio(self.tp, self.tp + self.fn)


@dataclass(frozen=True)
class CocoScores:
    """COCO's figures over all sizes, at most 100 predictions an image; NaN where there are no buildings.

    Attributes:
        ap: Average precision, mean over IoU 0.50, 0.55, ..., 0.95.
        ap50: At IoU 0.50.
        ap75: At IoU 0.75.
        ar: Recall, mean over the same.
    """

    ap: float
    ap50: float
    ap75: float
    ar: float


def match_buildings(image: Overlaps, min_iou: float = MATCH_IOU) -> Int64:
    """Match predictions to buildings as SpaceNet does.

    Predictions come in order of falling score (stable, so file order where there are none); each takes the free
    building that it overlaps most, if that is by more than ``min_iou``. Exactly 0.5 is no match.

    Args:
        image: Without crowd regions.
        min_iou: Not itself included.

    Returns:
        int64 [n], the building of each prediction, -1 for none.

    Raises:
        InputError: There are crowd regions, of which SpaceNet's rule knows nothing.
    """
    if image.crowd.any():
        raise InputError("there are crowd regions, which SpaceNet's matching does not know: leave them out")
    matched = np.full(len(image.scores), -1, dtype=np.int64)
    iou = image.iou.copy()
    order = np.argsort(-image.scores, kind="stable")
    for prediction in order[np.any(iou[order] > min_iou, axis=1)]:
        building = int(iou[prediction].argmax())
        if iou[prediction, building] > min_iou:
            matched[prediction] = building
            iou[:, building] = -1
    return matched


def found_buildings(image: Overlaps, min_iou: float = MATCH_IOU) -> Bool:
    """Return which buildings `match_buildings` finds.

    Args:
        image: Without crowd regions.
        min_iou: Not itself included.

    Returns:
        bool [m].
    """
    found = np.zeros(image.iou.shape[1], dtype=bool)
    matched = match_buildings(image, min_iou)
    found[matched[matched >= 0]] = True
    return found


def spacenet_f1(images: Iterable[Overlaps], min_iou: float = MATCH_IOU) -> InstanceCounts:
    """SpaceNet's score: buildings matched at IoU above 0.5, counted over all images.

    Args:
        images: One an image; for the challenges' smallest building see ``min_truth_area`` of `polygon_overlaps`.
        min_iou: Not itself included.

    Returns:
        The counts; their ``f1`` is the score.

    Raises:
        InputError: There are crowd regions.

    References:
        A. Van Etten et al., "SpaceNet: A Remote Sensing Dataset and Challenge Series", arXiv 1807.01232.

    Example:
        >>> from .overlaps import overlaps
        >>> spacenet_f1([overlaps([[0.7, 0.0], [0.0, 0.5]])])
        InstanceCounts(tp=1, fp=1, fn=1)
    """
    total = InstanceCounts()
    for image in images:
        tp = int(found_buildings(image, min_iou).sum())
        predictions, buildings = image.iou.shape
        total += InstanceCounts(tp, predictions - tp, buildings - tp)
    return total


def coco_scores(images: Iterable[Overlaps]) -> CocoScores:
    """COCO's average precision and recall.

    Precision is interpolated at 101 recalls: the best at that recall or above. Equal scores keep the order of the
    images.

    Args:
        images: One an image, in any order but for equal scores. For Boundary AP, `mask_overlaps` with ``boundary``.

    Returns:
        The scores.

    References:
        T.-Y. Lin et al., "Microsoft COCO: Common Objects in Context", arXiv 1405.0312, and its evaluation code.

    Example:
        >>> from .overlaps import overlaps
        >>> coco_scores([overlaps([[0.8, 0.0], [0.0, 0.6]], scores=[0.9, 0.5])])
        CocoScores(ap=0.50..., ap50=1.0, ap75=0.50..., ar=0.5)
    """
    scores, hits, ignored, buildings = [np.zeros(0)], [], [], 0
    for image in images:
        order = np.argsort(-image.scores, kind="stable")[:COCO_MAX_PREDICTIONS]
        hit, ignore = _match_coco(image.iou[order], image.crowd)
        scores.append(image.scores[order])
        hits.append(hit)
        ignored.append(ignore)
        buildings += int(np.count_nonzero(~image.crowd))
    if not buildings:
        return CocoScores(math.nan, math.nan, math.nan, math.nan)
    order = np.argsort(-np.concatenate(scores), kind="stable")
    hit, ignore = np.concatenate(hits, axis=1)[:, order], np.concatenate(ignored, axis=1)[:, order]
    tp, fp = np.cumsum(hit & ~ignore, axis=1), np.cumsum(~hit & ~ignore, axis=1)
    recall, precision = tp / buildings, tp / np.maximum(tp + fp, 1)
    best = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    best = np.pad(best, ((0, 0), (0, 1)))  # a recall that is never reached has precision 0
    ap = np.array([row[np.searchsorted(r, COCO_RECALLS)].mean() for row, r in zip(best, recall, strict=True)])
    reached = recall[:, -1] if recall.shape[1] else np.zeros(len(COCO_IOUS))
    return CocoScores(float(ap.mean()), float(ap[0]), float(ap[5]), float(reached.mean()))


def _match_coco(iou: Float64, crowd: Bool) -> tuple[Bool, Bool]:
    """Match at every threshold at once: which predictions hit, and which are ignored for a crowd region, [10, n].

    Unlike SpaceNet's, a match includes the threshold, the last of equal buildings is taken, and a crowd region, open to
    any number of predictions, only if no free building is near enough.
    """
    thresholds = np.minimum(COCO_IOUS, 1 - 1e-10)[:, None]
    levels = np.arange(len(COCO_IOUS))
    hit = np.zeros((len(COCO_IOUS), len(iou)), dtype=bool)
    ignored = hit.copy()
    free = np.ones((len(COCO_IOUS), len(crowd)), dtype=bool)
    for prediction in np.flatnonzero((iou >= COCO_IOUS[0]).any(axis=1)):
        near = (iou[prediction] >= thresholds) & free
        building = near & ~crowd
        chosen = np.where(building.any(axis=1, keepdims=True), building, near)
        last_best = len(crowd) - 1 - np.where(chosen, iou[prediction], -1.0)[:, ::-1].argmax(axis=1)
        hit[:, prediction] = near.any(axis=1)
        ignored[:, prediction] = hit[:, prediction] & crowd[last_best]
        free[levels, last_best] &= ~hit[:, prediction] | crowd[last_best]
    return hit, ignored

"""Pixel counts and the scores of them, in two aggregations that are always named: micro, and the mean over images.

``micro`` scores the sum of all counts and is what headlines are made of. ``image-mean`` averages the scores of single
images, as the paper's authors do; its F1 and IoU do not follow F1 = 2 IoU / (1 + IoU), and empty images decide it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import asdict, astuple, dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from robustvision.core.errors import InputError

THRESHOLD = 0.5
"""A probability of at least this is a building."""

EPS = 1e-7
"""Added above and below the fraction in an image's score, as in the authors' evaluation."""

Aggregation = Literal["micro", "image-mean", "image-mean, undefined skipped"]
Bool = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class PixelCounts:
    """Pixels by prediction and label. Counts add up: ``sum(counts, PixelCounts())``.

    The scores are of these counts, NaN where they have no denominator.

    Attributes:
        tp: Building in both.
        fp: Building in the prediction only.
        fn: Building in the label only.
        tn: Building in neither.

    Example:
        >>> counts = PixelCounts(tp=6, fp=2, fn=1, tn=7)
        >>> counts.iou, counts.background_iou, counts.precision, round(counts.recall, 4), counts.f1
        (0.6666666666666666, 0.7, 0.75, 0.8571, 0.8)
    """

    tp: int = 0
    fp: int = 0
    fn: int = 0
    tn: int = 0

    def __add__(self, other: PixelCounts) -> PixelCounts:
        return PixelCounts(self.tp + other.tp, self.fp + other.fp, self.fn + other.fn, self.tn + other.tn)

    @property
    def f1(self) -> float:
        """``2 TP / (2 TP + FP + FN)``."""
        return ratio(2 * self.tp, 2 * self.tp + self.fp + self.fn)

    @property
    def iou(self) -> float:
        """``TP / (TP + FP + FN)``."""
        return ratio(self.tp, self.tp + self.fp + self.fn)

    @property
    def background_iou(self) -> float:
        """``TN / (TN + FP + FN)``. Far above ``iou`` on real tiles; the other way round, the labels are inverted."""
        return ratio(self.tn, self.tn + self.fp + self.fn)

    @property
    def precision(self) -> float:
        """``TP / (TP + FP)``."""
        return ratio(self.tp, self.tp + self.fp)

    @property
    def recall(self) -> float:
        """``TP / (TP + FN)``."""
        return ratio(self.tp, self.tp + self.fn)


@dataclass(frozen=True)
class PixelScores:
    """Scores of a test set.

    Attributes:
        aggregation: How images were put together.
        f1: Of the buildings.
        iou: Of the buildings.
        background_iou: Of everything else.
        precision: Of the buildings.
        recall: Of the buildings.
        images: How many there were.
    """

    aggregation: Aggregation
    f1: float
    iou: float
    background_iou: float
    precision: float
    recall: float
    images: int

    def row(self) -> dict[str, Any]:
        """Return the scores as a plain dict, for a table or JSON."""
        return asdict(self)


def count_pixels(prediction: npt.ArrayLike, label: npt.ArrayLike, valid: npt.ArrayLike | None = None) -> PixelCounts:
    """Count the pixels of one image, or of many.

    Args:
        prediction: ``[...]``: bool or 0/1, or floating point probabilities, a building from 0.5 on.
        label: ``[...]``: bool or 0/1.
        valid: ``[...]``: bool or 0/1, False where a pixel counts nowhere; None where all count.

    Returns:
        The counts.

    Raises:
        InputError: The shapes differ, or values are neither binary nor, in a prediction, probabilities.

    Example:
        >>> count_pixels([[0.5, 0.9, 0.4]], [[1, 0, 1]])
        PixelCounts(tp=1, fp=1, fn=1, tn=0)
    """
    predicted, truth = thresholded(prediction), binary_mask(label, "label")
    check_same_shape(predicted, truth)
    total = truth.size
    if valid is not None:
        counted = binary_mask(valid, "valid")
        check_same_shape(counted, truth, "valid")
        predicted, truth, total = predicted & counted, truth & counted, int(np.count_nonzero(counted))
    tp, positive, true = (int(np.count_nonzero(mask)) for mask in (predicted & truth, predicted, truth))
    return PixelCounts(tp, positive - tp, true - tp, total - positive - true + tp)


def micro_scores(counts: Iterable[PixelCounts]) -> PixelScores:
    """Score the sum of all counts; NaN where there is nothing to score.

    Args:
        counts: One an image.

    Raises:
        InputError: There are no images.

    Example:
        >>> micro_scores([PixelCounts(tp=3, fp=1), PixelCounts(fp=2, tn=8)]).f1
        0.6666666666666666
    """
    images = _some(counts)
    total = sum(images, PixelCounts())
    return PixelScores("micro", total.f1, total.iou, total.background_iou, total.precision, total.recall, len(images))


def image_mean_scores(counts: Iterable[PixelCounts], *, skip_undefined: bool = False) -> PixelScores:
    """Average the scores of single images.

    By default as the authors do it, with 1e-7 above and below the fraction: an image without a building scores 1 if the
    prediction is empty too, and next to 0 with a single false pixel.

    Args:
        counts: One an image.
        skip_undefined: Leave an image out of the mean of a score that it does not define, without the 1e-7.

    Returns:
        The means; with ``skip_undefined`` NaN where no image defines a score.

    Raises:
        InputError: There are no images.

    Example:
        >>> images = [PixelCounts(tp=2, fp=1, fn=1), PixelCounts(tn=4)]
        >>> round(image_mean_scores(images).iou, 6), image_mean_scores(images, skip_undefined=True).iou
        (0.75, 0.5)
    """
    images = _some(counts)
    tp, fp, fn, tn = np.array([astuple(image) for image in images], dtype=np.float64).T
    wrong = fp + fn
    fractions = ((2 * tp, 2 * tp + wrong), (tp, tp + wrong), (tn, tn + wrong), (tp, tp + fp), (tp, tp + fn))
    if skip_undefined:
        f1, iou, background_iou, precision, recall = (
            float((above[below > 0] / below[below > 0]).mean()) if (below > 0).any() else math.nan
            for above, below in fractions
        )
    else:
        f1, iou, background_iou, precision, recall = (
            float(((above + EPS) / (below + EPS)).mean()) for above, below in fractions
        )
    name: Aggregation = "image-mean, undefined skipped" if skip_undefined else "image-mean"
    return PixelScores(name, f1, iou, background_iou, precision, recall, len(images))


def thresholded(prediction: npt.ArrayLike) -> Bool:
    """Return a prediction as a mask: probabilities from 0.5 on are buildings.

    Args:
        prediction: ``[...]``: bool or 0/1, or floating point probabilities.

    Raises:
        InputError: Values are neither; logits and 0..255 are refused.
    """
    values = np.asarray(prediction)
    if not np.issubdtype(values.dtype, np.floating):
        return binary_mask(values, "prediction")
    if values.size and not (values.min() >= 0 and values.max() <= 1):  # refuses NaN as well
        raise InputError(
            f"the prediction spans {values.min()} to {values.max()}: expected probabilities of 0 to 1; "
            "apply the sigmoid to logits, and divide 0..255 by 255"
        )
    return values >= THRESHOLD


def binary_mask(mask: npt.ArrayLike, name: str = "mask") -> Bool:
    """Return a mask as bool.

    Args:
        mask: ``[...]``: bool, or 0/1 in any type.
        name: What to call it in the error.

    Raises:
        InputError: It holds anything else.
    """
    values = np.asarray(mask)
    if values.dtype == np.bool_:
        return values
    ones = values == 1
    if not (ones | (values == 0)).all():
        raise InputError(
            f"the {name} holds values besides 0 and 1, {values.min()} to {values.max()}: "
            "pass `mask != 0` if every other value is a building"
        )
    return ones


def check_same_shape(mask: npt.NDArray[Any], label: npt.NDArray[Any], name: str = "prediction") -> None:
    """Refuse two masks of different shapes.

    Raises:
        InputError: They differ.
    """
    if mask.shape != label.shape:
        raise InputError(f"the {name} has shape {mask.shape}, the label {label.shape}: both must cover the same pixels")


def _some(counts: Iterable[PixelCounts]) -> list[PixelCounts]:
    images = list(counts)
    if not images:
        raise InputError("there are no images to score: is the test set empty?")
    return images


def ratio(above: float, below: float) -> float:
    """Return a fraction, NaN where it has no denominator."""
    return above / below if below else math.nan

"""Wrong labels on purpose, with the truth kept: closed-set flips, open-set images, split and merged classes.

Counts are exact here: a rate of 0.4 changes 40 of 100 labels. The generators of the literature, which draw for each
sample, are in ``class_noise`` and ``content_noise``. Pure numpy on integer labels. One invariant holds for all of them:
``is_noisy == (labels != clean_labels)``, so a detector of mislabelled samples can be scored on any mixture.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from robustvision.core.errors import InputError

Labels = npt.NDArray[np.int64]

OUTSIDE = -1
"""The clean label of a sample that belongs to no class of the set."""


@dataclass(frozen=True)
class NoisyLabels:
    """Labels as training sees them, beside the truth.

    Attributes:
        labels: [N] int64, 0 <= label < num_classes: what training is told.
        clean_labels: [N] int64: what is true, in the numbering before the noise; ``OUTSIDE`` for open-set samples.
        is_noisy: [N] bool, ``labels != clean_labels``.
        num_classes: Number of classes that ``labels`` may hold (splitting adds classes; merging leaves empty ones).
    """

    labels: Labels
    clean_labels: Labels
    is_noisy: npt.NDArray[np.bool_]
    num_classes: int

    @classmethod
    def of(cls, labels: Labels, clean_labels: Labels, num_classes: int) -> NoisyLabels:
        """Compare what training is told with what is true."""
        return cls(labels, clean_labels, labels != clean_labels, num_classes)


@dataclass(frozen=True)
class LabelNoise:
    """A recipe of label noise; every part is off by default.

    Attributes:
        flip: Share of the samples that get the label of another class.
        open_set: Share of the samples whose content comes from outside the set, under a label of the set. The labels
            cannot do that alone: whoever owns the samples replaces those with ``clean_labels == OUTSIDE``.
        conflict: Share of the classes that are split into two labels.
        merge: Share of the classes that are lost in another class.
    """

    flip: float = 0.0
    open_set: float = 0.0
    conflict: float = 0.0
    merge: float = 0.0

    def apply(self, labels: npt.ArrayLike, num_classes: int, seed: int) -> NoisyLabels:
        """Apply all parts: classes are split, then merged; then disjoint samples are replaced and flipped.

        Args:
            labels: [N] integers, 0 <= label < num_classes.
            num_classes: Number of classes before the noise.
            seed: Seed; the same seed gives the same noise.

        Returns:
            The noisy labels with the truth.

        Raises:
            InputError: For labels, rates or class counts that do not fit.
        """
        clean = checked_labels(labels, num_classes)
        rng = np.random.default_rng([seed, 0x1ABE1])
        given = clean
        given, num_labels = _split(given, num_classes, checked_rate(self.conflict), rng)
        given = _merge(given, num_classes, checked_rate(self.merge), rng)
        clean, is_open = _replace(clean, checked_rate(self.open_set), rng)
        given = _flip(given, clean, ~is_open, checked_rate(self.flip), num_labels, rng)
        return NoisyLabels.of(given, clean, num_labels)


def flip_labels(labels: npt.ArrayLike, rate: float, num_classes: int, seed: int) -> NoisyLabels:
    """Give a share of the samples the label of another class, uniformly (closed-set noise).

    Args:
        labels: [N] integers, 0 <= label < num_classes.
        rate: Share of the samples in [0, 1); exactly ``round(rate * N)`` labels change.
        num_classes: Number of classes.
        seed: Seed; the same seed gives the same noise.

    Returns:
        The noisy labels with the truth.

    Raises:
        InputError: For labels or rates out of range, or one class only.

    >>> noisy = flip_labels([0, 1, 2, 0, 1, 2, 0, 1, 2, 0], rate=0.4, num_classes=3, seed=1)
    >>> int(noisy.is_noisy.sum()), bool((noisy.labels[~noisy.is_noisy] == noisy.clean_labels[~noisy.is_noisy]).all())
    (4, True)
    """
    return LabelNoise(flip=rate).apply(labels, num_classes, seed)


def open_set(labels: npt.ArrayLike, rate: float, num_classes: int, seed: int) -> NoisyLabels:
    """Choose the samples to be replaced by ones from outside the set; their clean label becomes ``OUTSIDE``.

    Args:
        labels: [N] integers, 0 <= label < num_classes.
        rate: Share of the samples in [0, 1); exactly ``round(rate * N)`` are chosen.
        num_classes: Number of classes.
        seed: Seed; the same seed gives the same noise.

    Returns:
        The unchanged labels, with the truth about what the samples shall hold.

    Raises:
        InputError: For labels or rates out of range.
    """
    return LabelNoise(open_set=rate).apply(labels, num_classes, seed)


def conflict(labels: npt.ArrayLike, rate: float, num_classes: int, seed: int) -> NoisyLabels:
    """Split a share of the classes: half of such a class keeps its label, the other half gets a new one.

    Args:
        labels: [N] integers, 0 <= label < num_classes.
        rate: Share of the classes in [0, 1); exactly ``round(rate * num_classes)`` are split.
        num_classes: Number of classes before the split.
        seed: Seed; the same seed gives the same noise.

    Returns:
        The noisy labels; new labels count on from ``num_classes``, and the half that moved is noisy.

    Raises:
        InputError: For labels or rates out of range, or too few classes with two samples.
    """
    return LabelNoise(conflict=rate).apply(labels, num_classes, seed)


def merge(labels: npt.ArrayLike, rate: float, num_classes: int, seed: int) -> NoisyLabels:
    """Lose a share of the classes in others, each in a class of its own that stays.

    Args:
        labels: [N] integers, 0 <= label < num_classes.
        rate: Share of the classes in [0, 0.5]; exactly ``round(rate * num_classes)`` vanish.
        num_classes: Number of classes, before and after: the labels of the lost ones stay empty.
        seed: Seed; the same seed gives the same noise.

    Returns:
        The noisy labels; the samples of a lost class are noisy.

    Raises:
        InputError: For labels or rates out of range, or more than half of the classes.
    """
    return LabelNoise(merge=rate).apply(labels, num_classes, seed)


def checked_labels(labels: npt.ArrayLike, num_classes: int) -> Labels:
    """Return labels [N] as int64, or raise InputError."""
    values = np.asarray(labels)
    if values.ndim != 1 or not (np.issubdtype(values.dtype, np.integer) or values.size == 0):
        raise InputError(f"labels are {values.dtype} {values.shape}; expected whole numbers [N]")
    if num_classes < 1:
        raise InputError(f"num_classes is {num_classes}; expected at least 1")
    if values.size and (values.min() < 0 or values.max() >= num_classes):
        raise InputError(f"labels reach from {values.min()} to {values.max()}; expected 0 to {num_classes - 1}")
    return values.astype(np.int64)


def checked_rate(rate: float) -> float:
    """Return a share in [0, 1), or raise InputError."""
    if not 0 <= rate < 1:
        raise InputError(f"a noise rate of {rate} is not a share: give 0 <= rate < 1 (0.4 for 40 %)")
    return rate


def _split(labels: Labels, num_classes: int, rate: float, rng: np.random.Generator) -> tuple[Labels, int]:
    count = round(rate * num_classes)
    sizes = np.bincount(labels, minlength=num_classes)
    splittable = np.flatnonzero(sizes >= 2)
    if count > len(splittable):
        raise InputError(f"{count} classes cannot be split: only {len(splittable)} have two samples or more")
    split = labels.copy()
    for new, old in enumerate(np.sort(rng.choice(splittable, count, replace=False)), start=num_classes):
        members = rng.permutation(np.flatnonzero(labels == old))
        split[members[: len(members) // 2]] = new
    return split, num_classes + count


def _merge(labels: Labels, num_classes: int, rate: float, rng: np.random.Generator) -> Labels:
    """Merging concerns the classes that were there before any split."""
    count = round(rate * num_classes)
    if 2 * count > num_classes:
        raise InputError(f"{count} of {num_classes} classes cannot be lost in others: give a rate of at most 0.5")
    order = rng.permutation(num_classes)
    target = np.arange(max(num_classes, int(labels.max(initial=-1)) + 1))
    target[order[:count]] = order[count : 2 * count]
    return target[labels]


def _replace(clean: Labels, rate: float, rng: np.random.Generator) -> tuple[Labels, npt.NDArray[np.bool_]]:
    is_open = np.zeros(len(clean), dtype=bool)
    is_open[rng.choice(len(clean), round(rate * len(clean)), replace=False)] = True
    return np.where(is_open, OUTSIDE, clean), is_open


def _flip(
    given: Labels,
    clean: Labels,
    may_flip: npt.NDArray[np.bool_],
    rate: float,
    num_labels: int,
    rng: np.random.Generator,
) -> Labels:
    count = round(rate * len(given))
    candidates = np.flatnonzero(may_flip)
    if count == 0:
        return given
    if count > len(candidates):
        raise InputError(f"{count} labels cannot be flipped beside the open-set samples: lower one of the rates")
    if num_labels < 2:
        raise InputError("labels cannot be flipped among one class: give at least two")
    chosen = rng.choice(candidates, count, replace=False)
    flipped = given.copy()
    # a uniform class that is neither the given label nor the true one: skip them in ascending order
    low = np.minimum(given[chosen], clean[chosen])
    high = np.maximum(given[chosen], clean[chosen])
    distinct = low != high
    if num_labels < 3 and distinct.any():
        raise InputError("two labels of one class leave no third to flip to: give more classes")
    new = rng.integers(0, num_labels - 1 - distinct)
    new = new + (new >= low)
    flipped[chosen] = new + (distinct & (new >= high))
    return flipped

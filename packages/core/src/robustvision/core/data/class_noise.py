"""Label noise that depends on the class alone, drawn for each sample: uniform, by a map of the classes, by a matrix.

What the experiments of Label Distributionally Robust Losses use, to the letter. The share that really changes is
random, with the mean stated at each function; ``label_noise.flip_labels`` changes an exact share instead.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from robustvision.core.data.label_noise import Labels, NoisyLabels, checked_labels, checked_rate
from robustvision.core.errors import InputError

SWAPS: dict[str, tuple[int, tuple[tuple[int, int], ...]]] = {
    "letter": (26, ((1, 3), (2, 6), (4, 5), (7, 13), (8, 11), (10, 23), (12, 22), (14, 16), (15, 17), (20, 21))),
    "vowel": (11, ((0, 1), (2, 3), (4, 5), (6, 7), (8, 9))),
    "news20": (20, ((2, 5), (3, 4), (7, 8), (9, 10), (11, 12), (15, 18))),
}
"""By data set: its number of classes, and the pairs that are mistaken for each other. The other classes stay clean."""


def uniform_noise(labels: npt.ArrayLike, rate: float, num_classes: int, seed: int) -> NoisyLabels:
    """Replace a label, with probability ``rate``, by a uniform draw over all classes, the true one included.

    So the share that changes is ``rate * (K - 1) / K`` in the mean, below the nominal rate: 0.273 of 0.3 for K = 11.

    Args:
        labels: [N] integers, 0 <= label < num_classes.
        rate: Probability of a draw, in [0, 1).
        num_classes: Number of classes K.
        seed: Seed; the same seed gives the same noise.

    Returns:
        The noisy labels with the truth.

    Raises:
        InputError: For labels or rates out of range.

    References:
        Zhu et al., Label Distributionally Robust Losses for Multi-class Classification (2023), its official code.

    Examples:
        >>> noisy = uniform_noise([0] * 100_000, rate=0.6, num_classes=4, seed=0)
        >>> round(float(noisy.is_noisy.mean()), 2)  # 0.6 * 3 / 4
        0.45
    """
    clean = checked_labels(labels, num_classes)
    rng = np.random.default_rng([seed, 0x1ABE2])
    is_drawn = rng.random(len(clean)) < checked_rate(rate)
    drawn = rng.integers(0, num_classes, len(clean))
    return NoisyLabels.of(np.where(is_drawn, drawn, clean), clean, num_classes)


def class_dependent_noise(
    labels: npt.ArrayLike, rate: float, num_classes: int, seed: int, mapping: str | Mapping[int, int] = "next"
) -> NoisyLabels:
    """Send a label, with probability ``rate``, to the one class that its own is mistaken for.

    Args:
        labels: [N] integers, 0 <= label < num_classes.
        rate: Probability, in [0, 1). At 0.5 a swap leaves nothing to learn the two classes' names from.
        num_classes: Number of classes K.
        seed: Seed; the same seed gives the same noise.
        mapping: ``"next"``: y to (y + 1) mod K, the published choice for Kuzushiji-49, ALOI, CIFAR-100 and
            Tiny-ImageNet; ``"letter"``, ``"vowel"`` or ``"news20"``: the published swaps, see ``SWAPS``; or the
            classes' own ``{from: to}``. Classes that are not in the map stay clean.

    Returns:
        The noisy labels with the truth.

    Raises:
        InputError: For labels or rates out of range, an unknown map, or one for other classes.

    References:
        Zhu et al., Label Distributionally Robust Losses for Multi-class Classification (2023), its official code.

    Examples:
        >>> noisy = class_dependent_noise([0, 1, 10] * 1000, rate=0.3, num_classes=11, seed=0, mapping="vowel")
        >>> sorted(set(noisy.labels[noisy.clean_labels == 0].tolist())), bool(noisy.is_noisy[2::3].any())
        ([0, 1], False)
    """
    clean = checked_labels(labels, num_classes)
    target = _targets(mapping, num_classes)
    rng = np.random.default_rng([seed, 0x1ABE3])
    is_sent = rng.random(len(clean)) < checked_rate(rate)
    return NoisyLabels.of(np.where(is_sent, target[clean], clean), clean, num_classes)


def transition_noise(labels: npt.ArrayLike, matrix: npt.ArrayLike, seed: int) -> NoisyLabels:
    """Draw each label from its class's row of a matrix: any noise that depends on the class alone.

    Args:
        labels: [N] integers, 0 <= label < K.
        matrix: [K, K]; row i holds the probabilities of the labels that class i gets, and sums to 1.
        seed: Seed; the same seed gives the same noise.

    Returns:
        The noisy labels with the truth.

    Raises:
        InputError: For labels out of range, or a matrix that is none of probabilities.

    Examples:
        >>> transition_noise([0, 1, 1, 0], [[1, 0], [1, 0]], seed=0).labels.tolist()
        [0, 0, 0, 0]
    """
    probabilities = _checked_matrix(matrix)
    num_classes = len(probabilities)
    clean = checked_labels(labels, num_classes)
    cumulative = probabilities.cumsum(axis=1)
    cumulative /= cumulative[:, -1:]  # so that every row ends at 1 exactly, and no draw falls beyond it
    draws = np.random.default_rng([seed, 0x1ABE4]).random(len(clean))
    given = clean.copy()
    for label in np.unique(clean):
        members = clean == label
        given[members] = np.searchsorted(cumulative[label], draws[members], side="right")
    return NoisyLabels.of(given, clean, num_classes)


def _targets(mapping: str | Mapping[int, int], num_classes: int) -> Labels:
    classes = np.arange(num_classes)
    if mapping == "next":
        return (classes + 1) % num_classes
    if isinstance(mapping, str):
        if mapping not in SWAPS:
            raise InputError(f"there is no map {mapping!r}; give next, {', '.join(SWAPS)}, or a dict {{from: to}}")
        expected, swaps = SWAPS[mapping]
        if num_classes != expected:
            raise InputError(f"the map {mapping!r} is for {expected} classes, not {num_classes}: give next or a dict")
        mapping = dict(swaps) | {b: a for a, b in swaps}
    strangers = [label for pair in mapping.items() for label in pair if not 0 <= label < num_classes]
    if strangers:
        raise InputError(f"the map names the class {strangers[0]}; expected 0 to {num_classes - 1}")
    classes[list(mapping)] = list(mapping.values())
    return classes


def _checked_matrix(matrix: npt.ArrayLike) -> npt.NDArray[np.float64]:
    probabilities = np.asarray(matrix, dtype=np.float64)
    if probabilities.ndim != 2 or probabilities.shape[0] != probabilities.shape[1] or not probabilities.size:
        raise InputError(f"the transition matrix is {list(probabilities.shape)}; expected [K, K]")
    if not (probabilities >= 0).all():  # NaN is not
        raise InputError("the transition matrix holds negative numbers or NaN; expected probabilities")
    sums = probabilities.sum(axis=1)
    wrong = np.flatnonzero(abs(sums - 1) > 1e-6)
    if len(wrong):
        raise InputError(f"row {wrong[0]} of the transition matrix sums to {sums[wrong[0]]:.6g}; expected 1")
    return probabilities

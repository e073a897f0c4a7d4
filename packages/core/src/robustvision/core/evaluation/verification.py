"""Ten-fold verification accuracy, as face verification on pair lists is published."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from robustvision.core.errors import InputError

from .intervals import finite_vector

THRESHOLDS = np.arange(400) * 0.01
"""0, 0.01, ... 3.99: squared distances of unit vectors lie in 0 to 4."""


@dataclass(frozen=True)
class KfoldVerification:
    """Verification accuracy over folds.

    Attributes:
        accuracy: Mean over the folds.
        std: Population standard deviation over the folds, as the published tables give it.
        fold_accuracies: Accuracy of each fold at its own threshold.
        thresholds: The threshold of each fold, chosen on the other folds; a distance strictly below it means "same".
    """

    accuracy: float
    std: float
    fold_accuracies: tuple[float, ...]
    thresholds: tuple[float, ...]


def kfold_verification(distances: npt.ArrayLike, same: npt.ArrayLike, folds: int = 10) -> KfoldVerification:
    """Verification accuracy with the threshold of each fold chosen on the others.

    Folds are contiguous and not shuffled: the order of the list is part of the protocol. The threshold is the first of
    0, 0.01, ... 3.99 that maximises the accuracy ``distance < threshold`` on the other folds.

    Args:
        distances: Squared Euclidean distances of unit vectors, ``2 - 2 cos``, ``[n]`` in 0 to 4.
        same: Whether the pair belongs together, ``[n]``, boolean or 0/1.
        folds: Number of folds; n must be a multiple.

    Returns:
        Mean, spread, and each fold.

    Raises:
        InputError: If the lengths differ, the folds do not divide the list, the pairs that a threshold is chosen on are
            of one class only, or a distance is not within 0 to 4.

    References:
        G. B. Huang et al., "Labeled Faces in the Wild", UMass Amherst TR 07-49, 2007: view 2.

    Example:
        >>> result = kfold_verification([0.5, 1.8, 0.7, 1.6], [True, False, True, False], folds=2)
        >>> result.fold_accuracies, [round(threshold, 2) for threshold in result.thresholds]
        ((1.0, 0.5), [0.7, 0.51])
    """
    distance = finite_vector(distances, "distances")
    label = np.asarray(same)
    if label.shape != distance.shape or not np.isin(label, (0, 1)).all():
        raise InputError(f"same has shape {label.shape}: expected {distance.size} values of 0 and 1, one a distance")
    if distance.min() < -1e-6 or distance.max() > 4 + 1e-6:
        raise InputError(
            f"distances run from {distance.min():.4g} to {distance.max():.4g}: expected squared distances of unit "
            "vectors, within 0 and 4"
        )
    if folds < 2 or distance.size % folds:
        raise InputError(
            f"{distance.size} pairs in {folds} folds: expected at least 2 folds that divide the list evenly"
        )
    by_fold, same_by_fold = distance.reshape(folds, -1), label.astype(bool).reshape(folds, -1)
    same_elsewhere = same_by_fold.sum() - same_by_fold.sum(axis=1)
    pairs_elsewhere = distance.size - by_fold.shape[1]
    if (same_elsewhere == 0).any() or (same_elsewhere == pairs_elsewhere).any():
        raise InputError(
            "all pairs that a threshold is chosen on are of one class: mix same and different pairs in each fold"
        )

    correct = np.stack([_correct(d, s) for d, s in zip(by_fold, same_by_fold, strict=True)])  # [folds, thresholds]
    best = np.argmax(correct.sum(axis=0) - correct, axis=1)  # the first maximum over the other folds
    accuracies = correct[np.arange(folds), best] / by_fold.shape[1]
    return KfoldVerification(
        accuracy=float(accuracies.mean()),
        std=float(accuracies.std()),
        fold_accuracies=tuple(accuracies.tolist()),
        thresholds=tuple(THRESHOLDS[best].tolist()),
    )


def _correct(distance: npt.NDArray[np.float64], same: npt.NDArray[np.bool_]) -> npt.NDArray[np.intp]:
    """Number of right answers at every threshold."""
    accepted_same = np.searchsorted(np.sort(distance[same]), THRESHOLDS, side="left")  # distance < threshold
    accepted_different = np.searchsorted(np.sort(distance[~same]), THRESHOLDS, side="left")
    return accepted_same + (np.count_nonzero(~same) - accepted_different)

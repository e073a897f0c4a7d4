"""Ten-fold verification against a plain loop over folds and thresholds."""

from __future__ import annotations

import numpy as np
import pytest

from robustvision.core.errors import InputError
from robustvision.core.evaluation import kfold_verification


def by_loops(distances: np.ndarray, same: np.ndarray, folds: int) -> tuple[list[float], list[float]]:
    size = len(distances) // folds
    accuracies, thresholds = [], []
    for fold in range(folds):
        test = np.zeros(len(distances), bool)
        test[fold * size : (fold + 1) * size] = True
        best, best_threshold = -1.0, 0.0
        for threshold in np.arange(0, 4, 0.01):
            accuracy = ((distances[~test] < threshold) == same[~test]).mean()
            if accuracy > best:
                best, best_threshold = accuracy, threshold
        accuracies.append(((distances[test] < best_threshold) == same[test]).mean())
        thresholds.append(best_threshold)
    return accuracies, thresholds


@pytest.mark.parametrize("folds", [2, 5, 10])
@pytest.mark.parametrize("on_grid", [False, True])
def test_folds_and_thresholds_are_those_of_the_loops(folds: int, on_grid: bool) -> None:
    rng = np.random.default_rng(folds)
    same = rng.random(200) < 0.5
    distances = np.clip(np.where(same, rng.normal(1.2, 0.4, 200), rng.normal(1.8, 0.3, 200)), 0, 4)
    if on_grid:  # distances that equal a threshold are not below it
        distances = np.arange(0, 4, 0.01)[(distances * 99).astype(int)]
    result = kfold_verification(distances, same, folds)
    accuracies, thresholds = by_loops(distances, same, folds)
    assert list(result.fold_accuracies) == accuracies
    assert list(result.thresholds) == thresholds
    assert result.accuracy == pytest.approx(np.mean(accuracies))
    assert result.std == pytest.approx(np.sqrt(np.mean((np.array(accuracies) - np.mean(accuracies)) ** 2)))


def test_perfect_separation_takes_the_first_threshold_above_the_same_pairs() -> None:
    distances = np.tile([0.303, 2.0], 50)
    result = kfold_verification(distances, np.tile([1, 0], 50))
    assert (result.accuracy, result.std) == (1.0, 0.0)
    assert result.thresholds == pytest.approx((0.31,) * 10)


def test_folds_are_contiguous_and_the_order_counts() -> None:
    # The second half is shifted: each half is judged with the other's threshold.
    distances = np.array([0.5, 1.0] * 10 + [1.5, 2.0] * 10)
    same = np.tile([True, False], 20)
    assert kfold_verification(distances, same, folds=2).accuracy == 0.5
    interleaved = np.arange(40).reshape(2, 20).T.reshape(-1)
    assert kfold_verification(distances[interleaved], same[interleaved], folds=2).accuracy > 0.5


@pytest.mark.parametrize(
    ("distances", "same", "folds", "message"),
    [
        ([0.1, 3.0, 0.2], [1, 0, 1], 2, "divide"),
        ([0.1, 3.0], [1, 0], 1, "at least 2 folds"),
        ([0.1, 0.2, 0.3, 0.4], [1, 1, 1, 1], 2, "one class"),
        ([0.1, 0.2, 3.0, 3.0], [1, 1, 0, 0], 2, "one class"),
        ([0.1, 4.5, 0.2, 3.0], [1, 0, 1, 0], 2, "0 and 4"),
        ([0.1, -0.5, 0.2, 3.0], [1, 0, 1, 0], 2, "0 and 4"),
        ([0.1, np.nan, 0.2, 3.0], [1, 0, 1, 0], 2, "not finite"),
        ([0.1, 3.0, 0.2, 3.0], [1, 0, 1], 2, "one a distance"),
        ([0.1, 3.0, 0.2, 3.0], [1, 0, 2, 0], 2, "0 and 1"),
        ([], [], 2, "at least 1"),
    ],
)
def test_lists_that_the_protocol_does_not_fit(distances: list, same: list, folds: int, message: str) -> None:
    with pytest.raises(InputError, match=message):
        kfold_verification(distances, same, folds)

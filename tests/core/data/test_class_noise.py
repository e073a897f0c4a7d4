"""Noise by class: the published maps and rates, the matrix that is asked for, the invariant, refusals."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robustvision.core.data import NoisyLabels, class_dependent_noise, transition_noise, uniform_noise
from robustvision.core.errors import InputError

N = 200_000


def assert_consistent(noisy: NoisyLabels, labels: np.ndarray) -> None:
    assert noisy.labels.dtype == noisy.clean_labels.dtype == np.int64
    assert np.array_equal(noisy.clean_labels, labels)
    assert np.array_equal(noisy.is_noisy, noisy.labels != noisy.clean_labels)
    assert set(noisy.labels) <= set(range(noisy.num_classes))


def found_matrix(noisy: NoisyLabels) -> np.ndarray:
    counts = np.zeros((noisy.num_classes, noisy.num_classes))
    np.add.at(counts, (noisy.clean_labels, noisy.labels), 1)
    return counts / counts.sum(axis=1, keepdims=True)


def five_deviations(probabilities: np.ndarray, count: int) -> np.ndarray:
    return 5 * np.sqrt(probabilities * (1 - probabilities) / count) + 1e-12


@pytest.mark.parametrize("rate", [0.3, 0.6, 0.9])
@pytest.mark.parametrize("num_classes", [2, 10, 11])
def test_uniform_noise_draws_over_all_classes_the_true_one_included(rate, num_classes):
    labels = np.arange(N) % num_classes
    noisy = uniform_noise(labels, rate, num_classes, seed=1)
    assert_consistent(noisy, labels)
    expected = np.full((num_classes, num_classes), rate / num_classes) + (1 - rate) * np.eye(num_classes)
    assert (abs(found_matrix(noisy) - expected) < five_deviations(expected, N // num_classes)).all()


def test_uniform_noise_is_drawn_for_each_sample():
    counts = [uniform_noise(np.zeros(100, int), 0.3, 10, seed).is_noisy.sum() for seed in range(200)]
    # binomial with p = 0.27: an exact count would have no variance
    assert np.var(counts) == pytest.approx(100 * 0.27 * 0.73, rel=0.35)
    assert np.mean(counts) == pytest.approx(27, abs=5 * np.sqrt(19.7 / 200))


# written out from the publication's table, class by class, so that a slip in the code's pairs shows
TARGETS = {
    "letter": [0, 3, 6, 1, 5, 4, 2, 13, 11, 9, 23, 8, 22, 7, 16, 17, 14, 15, 18, 19, 21, 20, 12, 10, 24, 25],
    "vowel": [1, 0, 3, 2, 5, 4, 7, 6, 9, 8, 10],
    "news20": [0, 1, 5, 4, 3, 2, 6, 8, 7, 10, 9, 12, 11, 13, 14, 18, 16, 17, 15, 19],
}


@pytest.mark.parametrize("name", TARGETS)
def test_the_published_swaps(name):
    targets = np.array(TARGETS[name])
    num_classes = len(targets)
    assert np.array_equal(targets[targets], np.arange(num_classes))
    labels = np.arange(N) % num_classes
    noisy = class_dependent_noise(labels, 0.3, num_classes, seed=0, mapping=name)
    assert_consistent(noisy, labels)
    sent = noisy.is_noisy
    assert np.array_equal(noisy.labels[sent], targets[labels[sent]])
    mapped = targets[labels] != labels
    assert not sent[~mapped].any()
    assert sent[mapped].mean() == pytest.approx(0.3, abs=5 * np.sqrt(0.21 / mapped.sum()))


def test_the_next_class_goes_round():
    labels = np.arange(N) % 10
    noisy = class_dependent_noise(labels, 0.5, 10, seed=0)
    assert_consistent(noisy, labels)
    assert np.array_equal(noisy.labels[noisy.is_noisy], (labels[noisy.is_noisy] + 1) % 10)
    assert noisy.is_noisy.mean() == pytest.approx(0.5, abs=5 * np.sqrt(0.25 / N))


def test_a_map_of_ones_own():
    labels = np.array([0, 1, 2, 3] * 500)
    noisy = class_dependent_noise(labels, 0.9, 4, seed=0, mapping={3: 0, 1: 2})
    assert_consistent(noisy, labels)
    assert set(noisy.labels[labels == 3]) == {0, 3}
    assert set(noisy.labels[labels == 1]) == {1, 2}
    assert not noisy.is_noisy[np.isin(labels, [0, 2])].any()


@pytest.mark.parametrize(
    ("mapping", "message"),
    [
        ("cifar", "no map 'cifar'; give next, letter, vowel, news20"),
        ("vowel", "for 11 classes, not 4"),
        ({0: 4}, "names the class 4; expected 0 to 3"),
        ({-1: 2}, "names the class -1"),
    ],
)
def test_maps_that_do_not_fit_are_refused(mapping, message):
    with pytest.raises(InputError, match=message):
        class_dependent_noise([0, 1], 0.1, 4, seed=0, mapping=mapping)


def test_a_matrix_is_met():
    matrix = np.array([[0.7, 0.3, 0, 0], [0, 1, 0, 0], [0.1, 0.2, 0.3, 0.4], [0.25, 0, 0.75, 0]])
    labels = np.arange(N) % 4
    noisy = transition_noise(labels, matrix, seed=0)
    assert_consistent(noisy, labels)
    found = found_matrix(noisy)
    assert (abs(found - matrix) < five_deviations(matrix, N // 4)).all()
    assert (found[matrix == 0] == 0).all()


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 6), st.integers(0, 2**32))
def test_impossible_labels_never_come(num_classes, seed):
    rng = np.random.default_rng(seed)
    weights = rng.random((num_classes, num_classes)) * (rng.random((num_classes, num_classes)) < 0.5)
    weights[np.arange(num_classes), rng.integers(num_classes, size=num_classes)] += 0.1
    matrix = weights / weights.sum(axis=1, keepdims=True)
    labels = rng.integers(num_classes, size=300)
    noisy = transition_noise(labels, matrix, seed)
    assert_consistent(noisy, labels)
    assert (matrix[noisy.clean_labels, noisy.labels] > 0).all()


@pytest.mark.parametrize(
    ("matrix", "message"),
    [
        ([0.5, 0.5], r"is \[2\]; expected \[K, K\]"),
        ([[0.5, 0.5]], r"is \[1, 2\]"),
        ([[1, 0], [0.6, 0.5]], "row 1 .* sums to 1.1"),
        ([[1.5, -0.5], [0, 1]], "negative"),
        ([[np.nan, 1], [0, 1]], "NaN"),
        (np.empty((0, 0)), r"is \[0, 0\]"),
    ],
)
def test_matrices_that_are_none_are_refused(matrix, message):
    with pytest.raises(InputError, match=message):
        transition_noise([0, 1], matrix, seed=0)


KINDS = {
    "uniform": lambda labels, rate, seed: uniform_noise(labels, rate, 5, seed),
    "class-dependent": lambda labels, rate, seed: class_dependent_noise(labels, rate, 5, seed),
}


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
class TestEveryKind:
    def test_the_seed_decides(self, kind):
        labels = np.arange(500) % 5
        first, again, other = (kind(labels, 0.4, seed).labels for seed in (1, 1, 2))
        assert np.array_equal(first, again)
        assert not np.array_equal(first, other)

    def test_no_rate_no_noise(self, kind):
        assert not kind(np.arange(50) % 5, 0.0, 0).is_noisy.any()

    def test_no_samples_is_not_an_error(self, kind):
        assert kind([], 0.4, 0).labels.shape == (0,)

    @pytest.mark.parametrize("rate", [-0.1, 1.0, 30, float("nan")])
    def test_rates_that_are_no_share_are_refused(self, kind, rate):
        with pytest.raises(InputError, match="not a share"):
            kind([0, 1], rate, 0)

    @pytest.mark.parametrize(
        ("labels", "message"), [([0.0, 1.0], "whole numbers"), ([-1, 0], "from -1"), ([0, 5], "to 5")]
    )
    def test_labels_that_are_no_labels_are_refused(self, kind, labels, message):
        with pytest.raises(InputError, match=message):
            kind(labels, 0.1, 0)

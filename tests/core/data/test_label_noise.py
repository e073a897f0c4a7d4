"""Label noise: exact rates, the invariant that ties the three arrays together, and refusals."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robustvision.core.data import OUTSIDE, LabelNoise, NoisyLabels, conflict, flip_labels, merge, open_set
from robustvision.core.errors import InputError

LABELS = np.repeat(np.arange(50), 8)


def assert_consistent(noisy: NoisyLabels, length: int) -> None:
    for array in (noisy.labels, noisy.clean_labels):
        assert array.dtype == np.int64
        assert array.shape == (length,)
    assert np.array_equal(noisy.is_noisy, noisy.labels != noisy.clean_labels)
    assert noisy.labels.min() >= 0
    assert noisy.labels.max() < noisy.num_classes


@pytest.mark.parametrize("rate", [0.0, 0.1, 0.4, 0.6, 0.99])
def test_flips_change_exactly_the_asked_share(rate):
    noisy = flip_labels(LABELS, rate, 50, seed=3)
    assert_consistent(noisy, 400)
    assert noisy.is_noisy.sum() == round(rate * 400)
    assert np.array_equal(noisy.clean_labels, LABELS)


def test_flips_are_uniform_over_the_other_classes():
    labels = np.full(60_000, 2)
    noisy = flip_labels(labels, 0.5, 6, seed=0)
    counts = np.bincount(noisy.labels[noisy.is_noisy], minlength=6)
    assert counts[2] == 0
    # 30,000 draws over 5 classes: chi-square with 4 degrees of freedom stays below 23.5 but once in 10,000 times
    expected = 6000
    assert ((np.delete(counts, 2) - expected) ** 2 / expected).sum() < 23.5


def test_two_classes_swap():
    noisy = flip_labels(np.array([0, 1] * 10), 0.5, 2, seed=1)
    assert np.array_equal(noisy.labels[noisy.is_noisy], 1 - noisy.clean_labels[noisy.is_noisy])


def test_seed_decides():
    first, again, other = (flip_labels(LABELS, 0.3, 50, seed) for seed in (1, 1, 2))
    assert np.array_equal(first.labels, again.labels)
    assert not np.array_equal(first.labels, other.labels)


def test_input_stays_as_it_was():
    labels = LABELS.copy()
    LabelNoise(0.2, 0.2, 0.2, 0.2).apply(labels, 50, 0)
    assert np.array_equal(labels, LABELS)


def test_open_set_keeps_labels_and_marks_outsiders():
    noisy = open_set(LABELS, 0.25, 50, seed=0)
    assert_consistent(noisy, 400)
    assert np.array_equal(noisy.labels, LABELS)
    assert (noisy.clean_labels == OUTSIDE).sum() == 100


def test_conflict_splits_classes_in_halves():
    noisy = conflict(LABELS, 0.2, 50, seed=0)
    assert_consistent(noisy, 400)
    assert noisy.num_classes == 60
    for new in range(50, 60):
        members = LABELS[noisy.labels == new]
        assert len(members) == 4
        assert len(set(members)) == 1
    assert len({LABELS[noisy.labels == new][0] for new in range(50, 60)}) == 10


def test_conflict_needs_two_samples():
    with pytest.raises(InputError, match="only 1 have two"):
        conflict([0, 0, 1, 2], 0.7, 3, seed=0)


def test_merge_loses_classes_in_distinct_others():
    noisy = merge(LABELS, 0.3, 50, seed=0)
    assert_consistent(noisy, 400)
    lost = set(range(50)) - set(noisy.labels)
    assert len(lost) == 15
    hosts = {int(noisy.labels[label == LABELS][0]) for label in lost}
    assert len(hosts) == 15
    assert not hosts & lost
    assert noisy.is_noisy.sum() == 15 * 8


def test_merging_more_than_half_is_refused():
    with pytest.raises(InputError, match=r"at most 0\.5"):
        merge(LABELS, 0.6, 50, seed=0)


@settings(max_examples=60, deadline=None)
@given(
    flip=st.floats(0, 0.5),
    outside=st.floats(0, 0.4),
    split=st.floats(0, 0.9),
    merged=st.floats(0, 0.5),
    seed=st.integers(0, 2**32),
)
def test_mixtures_keep_the_invariant_and_the_counts(flip, outside, split, merged, seed):
    noise = LabelNoise(flip, outside, split, merged)
    noisy = noise.apply(LABELS, 50, seed)
    assert_consistent(noisy, 400)
    is_open = noisy.clean_labels == OUTSIDE
    assert is_open.sum() == round(outside * 400)
    assert np.array_equal(noisy.clean_labels[~is_open], LABELS[~is_open])
    assert noisy.num_classes == 50 + round(split * 50)
    # the identity-level noise is drawn first, so it is the same without flips: the rest must be the flips
    without = LabelNoise(0, outside, split, merged).apply(LABELS, 50, seed)
    changed = noisy.labels != without.labels
    assert changed.sum() == round(flip * 400)
    assert not changed[is_open].any()
    assert noisy.is_noisy[changed].all()


@pytest.mark.parametrize("rate", [-0.1, 1.0, 40, float("nan")])
@pytest.mark.parametrize("kind", [flip_labels, open_set, conflict, merge])
def test_rates_that_are_no_share_are_refused(kind, rate):
    with pytest.raises(InputError, match="not a share"):
        kind(LABELS, rate, 50, seed=0)


def test_one_class_cannot_be_flipped():
    with pytest.raises(InputError, match="one class"):
        flip_labels(np.zeros(10, int), 0.5, 1, seed=0)


def test_flips_beside_too_many_outsiders_are_refused():
    with pytest.raises(InputError, match="lower one of the rates"):
        LabelNoise(flip=0.6, open_set=0.6).apply(LABELS, 50, 0)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([0.0, 1.0], "whole numbers"),
        ([[0, 1]], "whole numbers"),
        ([-1, 0], "from -1"),
        ([0, 50], "to 50"),
    ],
)
def test_labels_that_are_no_labels_are_refused(labels, message):
    with pytest.raises(InputError, match=message):
        flip_labels(labels, 0.1, 50, seed=0)


def test_no_samples_is_not_an_error():
    assert len(flip_labels([], 0.4, 5, seed=0).labels) == 0

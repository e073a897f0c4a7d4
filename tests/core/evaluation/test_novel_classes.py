"""Prototypes and novel-class accuracies against a plain loop, their invariances, and all that has no direction."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from robustvision.core.errors import InputError
from robustvision.core.evaluation import (
    NO_CLASS,
    class_prototypes,
    few_shot_supports,
    nearest_prototype,
    novel_class_accuracy,
    wilson_interval,
)

NOVEL = (2, 4)


def clusters(seed: int, samples: int, classes: int = 5, size: int = 6) -> tuple[np.ndarray, np.ndarray]:
    """Overlapping clusters of embeddings with lengths of their own; the centres do not depend on the seed."""
    centres = np.random.default_rng(99).normal(size=(classes, size))
    rng = np.random.default_rng(seed)
    labels = np.resize(np.arange(classes), samples)
    return (centres[labels] + rng.normal(size=(samples, size))) * rng.uniform(0.1, 9, (samples, 1)), labels


def recognise_one_by_one(supports, support_labels, queries, classes):
    """The protocol in loops."""
    found = []
    for query in queries:
        cosines = {}
        for one in classes:
            members = [s / np.linalg.norm(s) for s, c in zip(supports, support_labels, strict=True) if c == one]
            mean = sum(members) / len(members)
            cosines[one] = query @ mean / np.linalg.norm(query) / np.linalg.norm(mean)
        found.append(max(cosines, key=cosines.get))
    return np.array(found)


@pytest.mark.parametrize("seed", range(5))
def test_accuracies_are_those_of_loops(seed: int) -> None:
    supports, queries = clusters(seed, 30), clusters(seed + 100, 60)
    result = novel_class_accuracy(*supports, *queries, NOVEL)
    labels, new = queries[1], np.isin(queries[1], NOVEL)
    among_novel = recognise_one_by_one(*supports, queries[0][new], NOVEL) == labels[new]
    among_all = recognise_one_by_one(*supports, queries[0], range(5)) == labels
    assert 0.2 < among_all.mean() < 1.0  # neither chance nor perfect, or the comparison shows little
    for interval, right in (
        (result.disjoint, among_novel),
        (result.joint, among_all),
        (result.joint_base, among_all[~new]),
        (result.joint_novel, among_all[new]),
        (result.per_class_disjoint[4], among_novel[labels[new] == 4]),
        (result.per_class_joint[0], among_all[labels == 0]),
    ):
        assert interval == wilson_interval(int(right.sum()), right.size)
    assert set(result.per_class_disjoint) == set(NOVEL)
    assert set(result.per_class_joint) == set(range(5))


@given(st.integers(0, 10**6))
def test_lengths_rotations_and_order_do_not_matter(seed: int) -> None:
    rng = np.random.default_rng(seed)
    (supports, support_labels), (queries, query_labels) = clusters(seed, 20), clusters(seed + 1, 30)
    expected = novel_class_accuracy(supports, support_labels, queries, query_labels, NOVEL)
    rotation = np.linalg.qr(rng.normal(size=(6, 6)))[0]
    scales, order = rng.uniform(0.01, 100, (2, 30, 1)), rng.permutation(20)
    moved = (supports * scales[0, :20] @ rotation)[order], support_labels[order]
    assert novel_class_accuracy(*moved, queries * scales[1] @ rotation, query_labels, NOVEL) == expected


def test_a_long_support_weighs_as_much_as_a_short_one() -> None:
    prototypes = class_prototypes([[1000.0, 0.0], [0.0, 0.001]], [0, 0])
    np.testing.assert_allclose(prototypes.directions, [[np.sqrt(0.5)] * 2], rtol=1e-12)


def test_disjoint_can_only_be_better_than_its_part_of_joint() -> None:
    supports, queries = clusters(3, 10), clusters(4, 200)
    result = novel_class_accuracy(*supports, *queries, NOVEL)
    assert result.joint_novel.estimate < result.disjoint.estimate


@pytest.mark.parametrize("factor", [1e-200, 1e200])
def test_extreme_lengths_have_a_direction(factor: float) -> None:
    prototypes = class_prototypes(np.array([[3.0, 4.0]]) * factor, [0])
    np.testing.assert_allclose(prototypes.directions, [[0.6, 0.8]], rtol=1e-12)


def test_half_precision_does_not_overflow() -> None:
    prototypes = class_prototypes(np.full((400, 2), 300, dtype=np.float16), np.zeros(400, dtype=int))
    np.testing.assert_allclose(prototypes.directions, [[np.sqrt(0.5)] * 2], rtol=1e-12)


def test_a_query_without_length_is_never_right() -> None:
    result = novel_class_accuracy(np.eye(2), [0, 1], [[0.0, 0.0], [0.0, 1.0]], [1, 1], novel=(1,))
    assert (result.disjoint.estimate, result.joint.estimate) == (0.5, 0.5)


def test_a_support_without_length_counts_for_nothing() -> None:
    prototypes = class_prototypes([[0.0, 0.0], [0.0, 2.0]], [0, 0])
    np.testing.assert_array_equal(prototypes.directions, [[0.0, 1.0]])


@pytest.mark.parametrize("nothing", [[[0.0, 0.0]], [[0.1, 0.7], [-0.3, -2.1]]], ids=["zero", "cancelling"])
def test_a_class_without_direction_is_never_recognised(nothing: list[list[float]]) -> None:
    """A cosine of 0 would beat negative ones: the second query would be taken for class 0."""
    prototypes = class_prototypes([*nothing, [1.0, 0.0]], [0] * len(nothing) + [1])
    np.testing.assert_array_equal(prototypes.directions[0], [0.0, 0.0])
    np.testing.assert_array_equal(nearest_prototype([[1.0, 1.0], [-1.0, 0.5]], prototypes), [1, 1])


def test_no_class_with_a_direction_recognises_nothing() -> None:
    prototypes = class_prototypes(np.zeros((2, 3)), [0, 1])
    np.testing.assert_array_equal(nearest_prototype(np.ones((2, 3)), prototypes), [NO_CLASS] * 2)


def test_the_smallest_class_wins_a_tie() -> None:
    prototypes = class_prototypes([[0.0, 1.0], [1.0, 0.0], [0.0, 1.0]], [9, 5, 3])
    np.testing.assert_array_equal(nearest_prototype([[0.0, 2.0], [1.0, 1.0]], prototypes), [3, 3])


def test_a_class_without_queries_competes_but_has_no_accuracy() -> None:
    result = novel_class_accuracy(np.eye(3), [0, 1, 2], [[0.0, 0.1, 1.0]], [1], novel=(1, 2))
    assert result.disjoint.estimate == 0.0
    assert result.joint_base is None
    assert result.per_class_disjoint[2] is None
    assert result.per_class_joint[0] is None


def test_the_same_seed_draws_the_same_supports() -> None:
    labels = np.resize(np.arange(5), 200)
    first = few_shot_supports(labels, NOVEL, shots=7, seed=3)
    np.testing.assert_array_equal(np.bincount(labels[first]), [0, 0, 7, 0, 7])
    np.testing.assert_array_equal(first, few_shot_supports(labels, reversed(NOVEL), shots=7, seed=3))
    assert (first != few_shot_supports(labels, NOVEL, shots=7, seed=4)).any()


def test_every_sample_is_drawn_equally_often() -> None:
    labels = np.zeros(10, dtype=int)
    counts = sum(few_shot_supports(labels, [0], shots=3, seed=seed).astype(int) for seed in range(2000))
    assert np.abs(counts - 600).max() < 5 * np.sqrt(2000 * 0.3 * 0.7)


def test_too_few_samples_for_the_supports() -> None:
    with pytest.raises(InputError, match="class 1 has 2 samples, but 3"):
        few_shot_supports([0, 0, 0, 1, 1], [0, 1], shots=3, seed=0)
    with pytest.raises(InputError, match="class 8 has 0"):
        few_shot_supports([0, 0], [8], shots=1, seed=0)
    with pytest.raises(InputError, match="at least 1"):
        few_shot_supports([0, 0], [0], shots=0, seed=0)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"support_embeddings": np.ones((2, 3))}, "2 supports and 3 labels"),
        ({"support_embeddings": np.ones(3)}, "expected embeddings"),
        ({"support_embeddings": np.full((3, 3), np.nan)}, "3 of 3 supports are not finite"),
        ({"support_embeddings": np.empty((0, 3)), "support_labels": []}, "at least one"),
        ({"support_labels": [0.0, 1.0, 2.0]}, "whole numbers"),
        ({"support_labels": [-1, 1, 2]}, "numbered from 0"),
        ({"support_labels": [0, 1, 1]}, r"novel classes \[2\]"),
        ({"query_embeddings": np.ones((2, 2))}, "2 dimensions, but the prototypes 3"),
        ({"query_embeddings": np.array([[1, 1, np.inf], [1, 1, 1]])}, "1 of 2 queries"),
        ({"query_embeddings": np.empty((0, 3)), "query_labels": []}, "at least one"),
        ({"query_labels": [2, 7]}, r"query classes \[7\]"),
        ({"query_labels": [0, 0]}, "nothing to measure"),
        ({"novel": ()}, "nothing to measure"),
    ],
)
def test_input_that_cannot_be_used(changed: dict, message: str) -> None:
    arguments = {
        "support_embeddings": np.eye(3),
        "support_labels": [0, 1, 2],
        "query_embeddings": np.ones((2, 3)),
        "query_labels": [2, 1],
        "novel": (1, 2),
    }
    with pytest.raises(InputError, match=message):
        novel_class_accuracy(**(arguments | changed))

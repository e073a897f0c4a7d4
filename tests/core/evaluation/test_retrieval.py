"""Retrieval scores against loops, scikit-learn and cases by hand."""

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from robustvision.core.errors import InputError
from robustvision.core.evaluation import hamming_mean_average_precision, map_at_r, recall_at


def ranked(distances, query):
    """The others of a query, nearest first."""
    return sorted((j for j in range(len(distances)) if j != query), key=lambda j: distances[query][j])


def drawn(seed=0, size=30, classes=4):
    rng = np.random.default_rng(seed)
    return rng.random((size, size)), rng.integers(0, classes, size)


@pytest.mark.parametrize("k", [1, 2, 5])
def test_recall_by_a_loop(k):
    distances, labels = drawn()
    hits = [any(labels[j] == labels[i] for j in ranked(distances, i)[:k]) for i in range(30)]
    assert recall_at(distances, labels, k) == pytest.approx(np.mean(hits))


def test_map_at_r_by_a_loop():
    distances, labels = drawn(1)
    scores = []
    for i in range(30):
        relevant = [labels[j] == labels[i] for j in ranked(distances, i)]
        r = sum(relevant)
        scores.append(sum(np.mean(relevant[: n + 1]) for n in range(r) if relevant[n]) / r)
    assert map_at_r(distances, labels) == pytest.approx(np.mean(scores))


def test_perfect_and_hopeless_rankings():
    labels = np.array([0, 0, 0, 1, 1, 1])
    apart = (labels[:, None] != labels).astype(float)
    assert recall_at(apart, labels, 1) == map_at_r(apart, labels) == 1
    assert recall_at(1 - apart, labels, 1) == map_at_r(1 - apart, labels) == 0


def test_the_query_itself_never_counts_and_singletons_miss():
    labels = np.array([0, 1, 1])
    distances = np.array([[0.0, 1, 2], [1, 0, 2], [2, 3, 0]])
    assert recall_at(distances, labels, 1) == 0  # the nearest other is 0 for both samples of class 1
    assert map_at_r(distances, labels) == 0
    assert recall_at(distances, labels, 2) == pytest.approx(2 / 3)


def test_hamming_map_is_the_average_precision_of_scikit_learn():
    rng = np.random.default_rng(2)
    queries, codes = rng.integers(0, 2, (9, 6)), rng.integers(0, 2, (50, 6)).astype(bool)
    query_labels, labels = rng.integers(0, 3, 9), rng.integers(0, 3, 50)
    expected = [
        average_precision_score(labels == label, -(codes != query).sum(1))
        for query, label in zip(queries.astype(bool), query_labels, strict=True)
    ]
    assert hamming_mean_average_precision(queries, query_labels, codes, labels) == pytest.approx(np.mean(expected))


def test_hamming_map_does_not_depend_on_the_order_of_the_database():
    """With an order among ties, one and the same code could score from 1/2 to 1."""
    codes, labels = np.zeros((10, 4)), np.arange(10) % 2
    for order in (np.arange(10), np.argsort(labels), np.argsort(-labels)):
        assert hamming_mean_average_precision(np.zeros((1, 4)), [0], codes[order], labels[order]) == 0.5


def test_hamming_map_in_blocks(monkeypatch):
    rng = np.random.default_rng(3)
    arguments = rng.integers(0, 2, (11, 8)), rng.integers(0, 2, 11), rng.integers(0, 2, (7, 8)), np.arange(7) % 2
    whole = hamming_mean_average_precision(*arguments)
    monkeypatch.setattr("robustvision.core.evaluation.retrieval._ENTRIES_AT_ONCE", 15)  # two queries a block
    assert hamming_mean_average_precision(*arguments) == pytest.approx(whole, rel=1e-12)


def test_queries_without_an_entry_of_their_class_are_left_out():
    codes = [[0, 0], [1, 1]]
    assert hamming_mean_average_precision([[0, 0], [1, 1]], [0, 9], codes, [0, 1]) == 1


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: recall_at(np.zeros((3, 2)), [0, 1, 1], 1), r"\(3, 2\)"),
        (lambda: recall_at(np.zeros((3, 3)), [0, 1, 1], 3), "k is 3"),
        (lambda: recall_at(np.zeros((1, 1)), [0], 1), "at least 2"),
        (lambda: map_at_r(np.full((2, 2), np.nan), [0, 0]), "NaN"),
        (lambda: map_at_r(np.zeros((3, 3)), [0, 1, 2]), "no class has two"),
        (lambda: hamming_mean_average_precision([[0.5]], [0], [[1]], [0]), "bits"),
        (lambda: hamming_mean_average_precision([[0, 1]], [0], [[1]], [0]), "2 bits"),
        (lambda: hamming_mean_average_precision([[0]], [0], [[1]], [0, 1]), "one label a code"),
        (lambda: hamming_mean_average_precision([[0]], [0], [[1]], [1]), "nothing to find"),
        (lambda: hamming_mean_average_precision(np.empty((0, 1)), [], [[1]], [1]), "nothing to find"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(InputError, match=message):
        call()

"""The SDM layer: q and d against loops over sorted neighbours, ties, caps, blocks, saving, bad input."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from robustvision.core.errors import InputError
from robustvision.core.nn import ClassECDF, SDMLayer, class_ecdf, similarity


def by_sorting(
    queries: np.ndarray,
    predictions: np.ndarray,
    support: np.ndarray,
    support_predictions: np.ndarray,
    support_labels: np.ndarray,
    cap: int,
    exclude: np.ndarray | None = None,
) -> tuple[list[int], list[float]]:
    """Walk through the neighbours in a stable order until one fails."""
    similarities, nearest = [], []
    for i, query in enumerate(queries):
        distances = np.sqrt(((support - query) ** 2).sum(1))
        order = [j for j in np.argsort(distances, kind="stable") if exclude is None or j != exclude[i]]
        q = 0
        for j in order[:cap]:
            if not support_labels[j] == support_predictions[j] == predictions[i]:
                break
            q += 1
        similarities.append(q)
        nearest.append(float(distances[order[0]]))
    return similarities, nearest


def points(rows: int, width: int, classes: int, seed: int, wrong: float = 0.1) -> tuple[np.ndarray, ...]:
    """Clusters, some of whose points are classified wrongly: vectors, predictions, labels."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, rows)
    vectors = 2.0 * np.eye(classes, width)[labels] + rng.normal(size=(rows, width))
    predictions = np.where(rng.random(rows) < wrong, rng.integers(0, classes, rows), labels)
    return vectors, predictions, labels


@pytest.mark.parametrize("cap", [1, 3, 1000])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_q_and_distance_are_those_of_sorted_neighbours(cap: int, seed: int) -> None:
    support, predictions, labels = points(80, 4, 3, seed)
    queries, query_predictions, _ = points(50, 4, 3, seed + 100)
    speaks_for = np.where(predictions == labels, labels, -1)
    q, nearest = similarity(*map(torch.from_numpy, (queries, query_predictions, support, speaks_for)), cap=cap)
    expected = by_sorting(queries, query_predictions, support, predictions, labels, cap)
    assert q.tolist() == expected[0]
    assert max(q) == min(cap, max(expected[0])) > 0
    np.testing.assert_allclose(nearest.numpy(), expected[1], rtol=1e-9)


def test_q_of_support_points_leaves_out_the_point_itself() -> None:
    support, predictions, labels = points(80, 4, 3, 0)
    speaks_for = np.where(predictions == labels, labels, -1)
    itself = np.arange(80)
    arguments = map(torch.from_numpy, (support, predictions, support, speaks_for))
    q, nearest = similarity(*arguments, exclude=torch.from_numpy(itself))
    expected = by_sorting(support, predictions, support, predictions, labels, 1000, itself)
    assert q.tolist() == expected[0]
    np.testing.assert_allclose(nearest.numpy(), expected[1], rtol=1e-6)


def test_q_is_the_first_zero_of_the_match_flags() -> None:
    """The form that a graph with TopK would take: ArgMin over the flags with a 0 appended."""
    support, predictions, labels = points(60, 3, 2, 5)
    queries, query_predictions, _ = points(40, 3, 2, 6)
    speaks_for = np.where(predictions == labels, labels, -1)
    q, _ = similarity(*map(torch.from_numpy, (queries, query_predictions, support, speaks_for)))
    order = np.argsort(((queries[:, None] - support) ** 2).sum(2), axis=1, kind="stable")
    flags = speaks_for[order] == query_predictions[:, None]
    assert q.tolist() == np.argmin(np.c_[flags, np.zeros(40)], axis=1).tolist()


def test_ties_are_broken_by_the_order_of_the_support() -> None:
    support = torch.tensor([[1.0], [-1.0], [1.0], [2.0]])
    query, prediction = torch.zeros(1, 1), torch.tensor([0])
    assert similarity(query, prediction, support, torch.tensor([0, -1, 0, 0]))[0].item() == 1
    assert similarity(query, prediction, support, torch.tensor([0, 0, -1, 0]))[0].item() == 2
    assert similarity(query, prediction, support, torch.tensor([-1, 0, 0, 0]))[0].item() == 0


def test_all_points_speaking_for_the_prediction_are_counted_even_below_the_cap() -> None:
    support, ones = torch.randn(7, 2), torch.ones(7, dtype=torch.int64)
    assert similarity(torch.zeros(1, 2), torch.tensor([1]), support, ones, cap=1000)[0].item() == 7
    alone = similarity(support[:1], torch.tensor([1]), support[:1], ones[:1], exclude=torch.tensor([0]))
    assert (alone[0].item(), alone[1].item()) == (0, math.inf)


def test_a_query_that_is_a_support_point_has_distance_0() -> None:
    support = torch.randn(20, 8, dtype=torch.float64)
    _, nearest = similarity(support, torch.zeros(20, dtype=torch.int64), support, torch.zeros(20, dtype=torch.int64))
    assert float(nearest.max()) < 1e-6


# ---- distribution functions and d


@pytest.mark.parametrize("seed", [0, 1])
def test_ecdf_counts_strictly_smaller_values_of_each_class(seed: int) -> None:
    rng = np.random.default_rng(seed)
    values, labels = rng.integers(0, 8, 60).astype(float), rng.integers(0, 4, 60)
    labels[labels == 2] = 3  # class 2 is empty
    ecdf = ClassECDF(4).double()
    ecdf.fit(torch.from_numpy(values), torch.from_numpy(labels))
    new = np.arange(-1.0, 10.0)
    share = ecdf.share(torch.from_numpy(new)).numpy()
    for c in (0, 1, 3):
        own = np.sort(values[labels == c])
        np.testing.assert_array_equal(share[:, c], np.searchsorted(own, new, side="left") / len(own))
    assert (share[:, 2] == 0).all()
    by_class = ecdf.smaller(torch.from_numpy(np.c_[new, new + 1, new, new - 1])).numpy()
    np.testing.assert_array_equal(by_class[1:-1, 1], ecdf.smaller(torch.from_numpy(new)).numpy()[2:, 1])


def fitted_layer(classes: int = 3, rows: int = 90, **sizes: int) -> tuple[SDMLayer, torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    vectors, _, labels = (torch.from_numpy(array) for array in points(rows, 6, classes, 1))
    layer = SDMLayer(6, classes, exemplar_size=5, **sizes).double()
    with torch.no_grad():  # nearly the identity: the clusters lie along the first axes
        layer.adaptor.weight.mul_(0.1).add_(torch.eye(5, 6))
        layer.head.weight.mul_(0.1).add_(torch.eye(classes, 5))
    layer.set_standard(vectors)
    layer.set_support(vectors, labels)
    exemplars, logits = layer.adapt(vectors)
    q, nearest = layer.measure(exemplars, logits.argmax(1), torch.arange(rows))
    layer.set_distances(nearest[q > 0].detach(), labels[q > 0])
    return layer, vectors, labels


def test_d_is_the_smallest_share_of_distances_that_are_not_smaller() -> None:
    layer, _, _ = fitted_layer()
    nearest = torch.tensor([0.0, 0.05, 0.2, 0.5, 1.0, 100.0], dtype=torch.float64)
    known = [row[: int(n)].numpy() for row, n in zip(layer.distances.values, layer.distances.counts, strict=True)]
    assert all(len(values) > 3 for values in known)
    expected = [min(1 - np.searchsorted(np.sort(v), x, side="left") / len(v) for v in known) for x in nearest.numpy()]
    np.testing.assert_allclose(layer.distance_quantile(nearest).numpy(), expected, rtol=1e-12)
    assert (expected[0], expected[-1]) == (1, 0)


def test_a_class_without_distances_makes_d_0() -> None:
    layer, vectors, _ = fitted_layer()
    layer.set_distances(torch.tensor([1.0, 2.0]).double(), torch.tensor([0, 2]))
    assert layer(vectors).d.tolist() == [0] * 90


def test_layer_measures_what_the_loops_measure() -> None:
    layer, vectors, labels = fitted_layer(cap=9)
    queries = torch.from_numpy(points(70, 6, 3, 9)[0])
    output = layer(queries)
    x = (np.concatenate([vectors.numpy(), queries.numpy()]) - vectors.numpy().mean()) / vectors.numpy().std()
    W, b, V, c = (p.detach().numpy() for p in (*layer.adaptor.parameters(), *layer.head.parameters()))
    exemplars = x @ W.T + b
    predictions = (exemplars @ V.T + c).argmax(1)
    q, nearest = by_sorting(
        exemplars[90:], predictions[90:], exemplars[:90], predictions[:90], labels.numpy(), layer.cap
    )
    assert output.q.tolist() == q
    np.testing.assert_allclose(output.nearest.numpy(), nearest, rtol=1e-6)


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    layer, vectors, _ = fitted_layer()
    whole = layer(vectors)
    seen: list[int] = []
    one_block = layer._one_block
    monkeypatch.setattr(layer, "_one_block", lambda block: seen.append(len(block)) or one_block(block))
    monkeypatch.setattr(class_ecdf, "BLOCK_ENTRIES", 12 * 90)
    for name, found in layer(vectors)._asdict().items():
        torch.testing.assert_close(found, getattr(whole, name), msg=name)
    assert max(seen) <= 12
    assert layer(vectors[:0]).q.shape == (0,)


def test_gradient_reaches_the_adaptor_through_the_logits() -> None:
    layer, vectors, _ = fitted_layer()
    layer(vectors).logits.square().sum().backward()
    assert bool((layer.adaptor.weight.grad != 0).any())
    assert not layer.support.requires_grad


def test_state_is_saved_whatever_its_size() -> None:
    layer, vectors, _ = fitted_layer()
    again = SDMLayer(6, 3, exemplar_size=5).double()
    again.load_state_dict(layer.state_dict())
    torch.testing.assert_close(again(vectors), layer(vectors))


# ---- bad input


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1e200])
def test_a_query_that_is_not_finite_is_as_far_as_can_be(value: float) -> None:
    layer, vectors, _ = fitted_layer()
    queries = vectors[:2].clone()
    queries[0, 3] = value
    output = layer(queries)
    assert output.d[0] == 0
    torch.testing.assert_close(output.d[1], layer(vectors[1:2]).d[0])


def test_what_cannot_be_learned_from_is_refused() -> None:
    layer = SDMLayer(2, 2, exemplar_size=3)
    x, labels = torch.randn(4, 2), torch.tensor([0, 1, 0, 1])
    with pytest.raises(InputError, match="no support"):
        layer(x)
    with pytest.raises(InputError, match=r"takes \[batch, 2\]"):
        layer.set_support(torch.randn(4, 3), labels)
    with pytest.raises(InputError, match="embedding 2 holds"):
        layer.set_support(x.clone().index_fill_(0, torch.tensor([2]), math.nan), labels)
    with pytest.raises(InputError, match="at least one sample"):
        layer.set_support(x[:0], labels[:0])
    with pytest.raises(InputError, match="labels run from 0 to 2"):
        layer.set_support(x, torch.tensor([0, 1, 2, 0]))
    with pytest.raises(InputError, match=r"int64 \[4\]"):
        layer.set_support(x, labels[:3])


@pytest.mark.parametrize("sizes", [(0, 2, 3), (2, 1, 3), (2, 2, 0)])
def test_impossible_sizes_are_refused(sizes: tuple[int, int, int]) -> None:
    with pytest.raises(InputError, match="needs 2 classes"):
        SDMLayer(*sizes)


def test_where_no_calibration_point_has_a_neighbour_that_speaks_everything_is_far() -> None:
    """A poor run finds no point with q > 0. That is an answer, not a layer without a state."""
    layer = SDMLayer(in_features=2, num_classes=3, exemplar_size=4)
    x = torch.randn(6, 2)
    layer.set_support(x, torch.tensor([0, 1, 2, 0, 1, 2]))
    layer.set_distances(torch.empty(0), torch.empty(0, dtype=torch.int64))
    assert layer(x).d.tolist() == [0.0] * 6

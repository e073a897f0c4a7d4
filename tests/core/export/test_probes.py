"""The inputs of the parity check lie where the caller said, and beyond it only where that makes sense."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from robustvision.core.export import GraphExport
from robustvision.core.export.probes import probe_inputs


@pytest.fixture
def graph() -> GraphExport:
    return GraphExport(
        nn.Identity().eval(),
        (torch.rand(2, 40) * 255, torch.tensor([[1, 2, 3], [4, 5, 6]]), torch.zeros(1, 2, 7) > 0),
        ("image", "tokens", "mask"),
        ("out",),
        dynamic_axes={"image": {0: "batch", 1: "width"}, "tokens": {0: "batch"}, "mask": {1: "batch"}},
        parity_sizes={"width": (64,)},
        value_ranges={"image": (0, 255), "tokens": (1, 9)},
        samples=((torch.full((2, 64), 7.0), torch.ones(2, 3, dtype=torch.int64), torch.ones(1, 2, 7) > 0),),
    )


@pytest.mark.parametrize("batch", [1, 2, 5])
def test_every_kind_has_the_sizes_the_dtypes_and_the_range(graph: GraphExport, batch: int) -> None:
    kinds = dict(probe_inputs(graph, {"batch": batch, "width": 40}, np.random.default_rng(0)))
    assert list(kinds) == ["example", "uniform", "zeros", "ones", "high", "large", "negative"]
    for inputs in kinds.values():
        assert [array.shape for array in inputs.values()] == [(batch, 40), (batch, 3), (1, batch, 7)]
        assert [array.dtype for array in inputs.values()] == [np.float32, np.int64, np.bool_]
        assert inputs["tokens"].min() >= 1
        assert inputs["tokens"].max() <= 9
    images = {kind: inputs["image"] for kind, inputs in kinds.items()}
    assert 0 <= images["uniform"].min() < 30 < 225 < images["uniform"].max() <= 255
    assert (images["zeros"] == 0).all()
    assert (images["ones"] == 1).all()
    assert (images["high"] == 255).all()
    assert images["large"].max() > 1000
    assert images["negative"].max() < 0


def test_the_rows_of_real_inputs_fill_the_batch(graph: GraphExport) -> None:
    example = dict(probe_inputs(graph, {"batch": 3, "width": 40}, np.random.default_rng(0)))["example"]
    rows = [graph.example_inputs[0][row].numpy() for row in (0, 1, 0)]
    np.testing.assert_array_equal(example["image"], rows)
    np.testing.assert_array_equal(example["tokens"], [[1, 2, 3], [4, 5, 6], [1, 2, 3]])


def test_a_real_input_appears_where_it_fits(graph: GraphExport) -> None:
    wide = dict(probe_inputs(graph, {"batch": 2, "width": 64}, np.random.default_rng(0)))
    assert "example" not in wide
    assert (wide["sample 0"]["image"] == 7).all()


def test_the_seed_decides(graph: GraphExport) -> None:
    sizes = {"batch": 2, "width": 40}
    first, again, other = (
        dict(probe_inputs(graph, sizes, np.random.default_rng(seed)))["uniform"]["image"] for seed in (3, 3, 4)
    )
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()

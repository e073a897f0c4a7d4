"""The inputs that a graph must pass its parity check with: real, random and extreme ones, at every size.

Random inputs are uniform in the value range that the caller declared. Extreme ones are all zeros, all ones, the top of
the range everywhere (a blown-out picture), and, for numbers with a fraction, ten times the range and its negative.
Whole numbers and booleans never leave their range: a token number beyond the vocabulary is no input at all.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from robustvision.core.export.graphs import BATCH, GraphExport

Array = npt.NDArray[Any]

BEYOND_RANGE = ("large", "negative")
EXTREME_KINDS = ("zeros", "ones", "high", *BEYOND_RANGE)


def probe_inputs(
    graph: GraphExport, sizes: Mapping[str, int], rng: np.random.Generator
) -> Iterator[tuple[str, dict[str, Array]]]:
    """Yield the kind of each set of inputs and the inputs themselves.

    Args:
        graph: The graph.
        sizes: Label of every dynamic axis to its size.
        rng: The source of the random ones.

    Yields:
        The kind (``example``, ``sample 0`` ..., ``uniform``, ``EXTREME_KINDS``) and input name to array. A real input
        appears only where it fits: its rows are repeated to fill the batch, but no other axis is changed.
    """
    names = ["example", *(f"sample {index}" for index in range(len(graph.samples)))]
    for kind, tensors in zip(names, (graph.example_inputs, *graph.samples), strict=True):
        inputs = repeat_rows(graph, tensors, sizes.get(BATCH))
        if all(
            inputs[name].shape == _shape(graph, name, example, sizes)
            for name, example in zip(graph.input_names, graph.example_inputs, strict=True)
        ):
            yield kind, inputs
    for kind in ("uniform", *EXTREME_KINDS):
        yield kind, generated_inputs(graph, sizes, rng, kind)


def generated_inputs(
    graph: GraphExport, sizes: Mapping[str, int], rng: np.random.Generator, kind: str = "uniform"
) -> dict[str, Array]:
    """Make one set of inputs of a kind: input name to array."""
    inputs = {}
    for name, example in zip(graph.input_names, graph.example_inputs, strict=True):
        dtype = example.detach().numpy().dtype
        low, high = graph.value_ranges.get(name, (-1.0, 1.0) if dtype.kind == "f" else (0, 1))
        inputs[name] = _generated(kind, _shape(graph, name, example, sizes), dtype, low, high, rng)
    return inputs


def repeat_rows(graph: GraphExport, tensors: tuple[Tensor, ...], batch: int | None) -> dict[str, Array]:
    """Repeat, or cut, the rows of real inputs to fill a batch; without a batch axis they stay as they are."""
    inputs = {}
    for name, tensor in zip(graph.input_names, tensors, strict=True):
        inputs[name] = tensor.detach().numpy()
        for axis, label in graph.axes(name).items():
            if label == BATCH and batch is not None:
                rows = np.arange(batch) % tensor.shape[axis]
                inputs[name] = np.take(inputs[name], rows, axis=axis)
    return inputs


def _shape(graph: GraphExport, name: str, example: Tensor, sizes: Mapping[str, int]) -> tuple[int, ...]:
    axes = graph.axes(name)
    return tuple(sizes[axes[axis]] if axis in axes else size for axis, size in enumerate(example.shape))


def _generated(
    kind: str, shape: tuple[int, ...], dtype: np.dtype[Any], low: float, high: float, rng: np.random.Generator
) -> Array:
    if dtype.kind == "b":
        return np.full(shape, kind != "zeros") if kind in ("zeros", "ones", "high") else rng.random(shape) < 0.5
    if kind in ("zeros", "ones", "high"):
        value = {"zeros": 0.0, "ones": 1.0, "high": high}[kind]
        return np.full(shape, value if dtype.kind == "f" else np.clip(value, low, high)).astype(dtype)
    if dtype.kind != "f":
        return rng.integers(int(low), int(high), size=shape, endpoint=True).astype(dtype)
    values = rng.uniform(low, high, size=shape)
    reach = max(abs(low), abs(high))
    return {"uniform": values, "large": 10 * values, "negative": -np.abs(values) - 0.1 * reach}[kind].astype(dtype)

"""Does onnxruntime compute what torch computes? At every batch, on real, random and extreme inputs, over streams."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime
import torch

from robustvision.core.errors import ExportError
from robustvision.core.export.comparison import ParityFigures
from robustvision.core.export.graphs import BATCH, GraphExport
from robustvision.core.export.probes import EXTREME_KINDS, generated_inputs, probe_inputs

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class ParityRecord:
    """The figures of one graph at one set of sizes and one kind of inputs.

    Attributes:
        graph: The graph's name.
        sizes: Label of every dynamic axis to its size; empty for a graph without one.
        inputs: The kind of the inputs: ``example``, ``uniform``, ``zeros`` ... or ``stream`` for several steps.
        figures: How far the two are apart.
    """

    graph: str
    sizes: Mapping[str, int]
    inputs: str
    figures: ParityFigures

    def __str__(self) -> str:
        """Write the record as one line."""
        sizes = ", ".join(f"{label} {size}" for label, size in self.sizes.items()) or "fixed size"
        figures = self.figures
        return (
            f"{self.graph}, {sizes}, {self.inputs}: max_abs {figures.max_abs:.3g}, max_rel {figures.max_rel:.3g}, "
            f"min_cosine {figures.min_cosine:.7f}" + (f" ({figures.failure})" if figures.failure else "")
        )


def measure_parity(
    name: str, graph: GraphExport, session: onnxruntime.InferenceSession, seed: int = 0
) -> tuple[ParityRecord, ...]:
    """Run a graph in torch and in onnxruntime and compare.

    Args:
        name: The graph's name, for the records.
        graph: The graph.
        session: A session on the exported graph.
        seed: The seed of the random inputs.

    Returns:
        One record for each set of sizes and each kind of inputs, accepted ones and refused ones.
    """
    records = []
    for index, sizes in enumerate(graph.size_cases()):
        rng = np.random.default_rng([seed, index])
        for kind, inputs in probe_inputs(graph, sizes, rng):
            figures = _compare_step(graph, session, inputs, inputs, sizes, usual=kind not in EXTREME_KINDS)[0]
            records.append(ParityRecord(name, sizes, kind, figures))
        if graph.states:
            records.append(ParityRecord(name, sizes, "stream", _compare_stream(graph, session, sizes, rng)))
    return tuple(records)


def run_torch(graph: GraphExport, inputs: Mapping[str, Array]) -> list[Array]:
    """Run the torch module on numpy inputs and return its outputs in order.

    Raises:
        ExportError: The module does not return one tensor for each output name.
    """
    with torch.inference_mode():
        # a copy each: a module that writes into its input would change what onnxruntime sees
        result = graph.module(*(torch.from_numpy(inputs[name].copy()) for name in graph.input_names))
    outputs = (
        [result]
        if isinstance(result, torch.Tensor)
        else list(result.values() if isinstance(result, Mapping) else result)
    )
    if len(outputs) != len(graph.output_names) or not all(isinstance(output, torch.Tensor) for output in outputs):
        raise ExportError(
            f"{type(graph.module).__name__} returns {[type(output).__name__ for output in outputs]}, the graph names "
            f"the outputs {list(graph.output_names)}: return one tensor for each, in a flat tuple"
        )
    return [output.numpy() for output in outputs]


def _compare_stream(
    graph: GraphExport, session: onnxruntime.InferenceSession, sizes: Mapping[str, int], rng: np.random.Generator
) -> ParityFigures:
    """Each side carries its own caches, beginning with zeros; the figures are the worst of all steps."""
    zeros = generated_inputs(graph, sizes, rng, "zeros")
    ours = theirs = {name: zeros[name] for name in graph.states}
    steps: list[ParityFigures] = []
    for step in range(graph.stream_steps):
        inputs = generated_inputs(graph, sizes, rng)
        figures, torch_outputs, onnx_outputs = _compare_step(
            graph, session, {**inputs, **ours}, {**inputs, **theirs}, sizes
        )
        if not figures.ok:
            return ParityFigures(
                figures.max_abs, figures.max_rel, figures.min_cosine, f"step {step}: {figures.failure}"
            )
        steps.append(figures)
        ours = {name: torch_outputs[output] for name, output in graph.states.items()}
        theirs = {name: onnx_outputs[output] for name, output in graph.states.items()}
    return ParityFigures(
        max(figures.max_abs for figures in steps),
        max(figures.max_rel for figures in steps),
        min(figures.min_cosine for figures in steps),
    )


def _compare_step(
    graph: GraphExport,
    session: onnxruntime.InferenceSession,
    torch_inputs: Mapping[str, Array],
    onnx_inputs: Mapping[str, Array],
    sizes: Mapping[str, int],
    usual: bool = True,
) -> tuple[ParityFigures, dict[str, Array], dict[str, Array]]:
    """Compare on one set of inputs (the caches may differ); returns the figures and both sides' outputs by name."""
    names = graph.output_names
    try:
        where = "torch"
        expected = run_torch(graph, torch_inputs)
        where = "onnxruntime"
        actual = session.run(list(names), dict(onnx_inputs))
    except ExportError:
        raise
    except Exception as error:  # whatever the module raises; onnxruntime's error classes are not public
        return ParityFigures.failed(f"does not run in {where}: {in_brief(error)}"), {}, {}
    figures = (
        _wrong_batch(graph, actual, sizes) or (_not_a_number(graph, expected) if usual else None)
    ) or graph.compare(expected, actual)
    return figures, dict(zip(names, expected, strict=True)), dict(zip(names, actual, strict=True))


def in_brief(error: BaseException, lines: int = 1) -> str:
    """Return the kind of an error and the first lines of its message, as one line."""
    return f"{type(error).__name__}: {' '.join(str(error).strip().splitlines()[:lines])}"


def _not_a_number(graph: GraphExport, outputs: Sequence[Array]) -> ParityFigures | None:
    """A module with broken weights agrees with its export, NaN for NaN."""
    for name, output in zip(graph.output_names, outputs, strict=True):
        if np.isnan(output).any():
            return ParityFigures.failed(f"output {name!r} of the torch module holds NaN on ordinary inputs")
    return None


def _wrong_batch(graph: GraphExport, outputs: Sequence[Array], sizes: Mapping[str, int]) -> ParityFigures | None:
    """A batch size baked into ``reshape(2, -1)`` gives the same wrong shape on both sides: only the size tells."""
    for name, output in zip(graph.output_names, outputs, strict=True):
        for axis, label in graph.axes(name).items():
            if label == BATCH and (axis >= output.ndim or output.shape[axis] != sizes[BATCH]):
                return ParityFigures.failed(
                    f"output {name!r} has shape {list(output.shape)}, its axis {axis} should be the batch of "
                    f"{sizes[BATCH]}: a batch size is baked into the module"
                )
    return None

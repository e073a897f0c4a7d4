"""What leaves torch as one ONNX graph: the module, the names, the axes, the caches, and how parity is judged.

A ``GraphExport`` is plain data and is checked when it is made. ``onnx_graph.py`` turns it into a graph, ``parity.py``
feeds both sides with the inputs that it describes, ``model.py`` writes the file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, nn

from robustvision.core.errors import ExportError
from robustvision.core.export.comparison import CloseOutputs, ComparisonRule

BATCH = "batch"
BATCH_SIZES = (1, 2, 3, 8)


@dataclass(frozen=True, eq=False)
class GraphExport:
    """One graph to export.

    Attributes:
        module: The module, on the CPU and in ``eval()``. It takes the inputs by position and returns a tensor, or a
            tuple, list or mapping of tensors in the order of ``output_names``.
        example_inputs: One tensor an input. Every dynamic axis is at least 2 long (torch treats 0 and 1 as fixed), so
            the example batch is usually 2.
        input_names: The names of the graph's inputs.
        output_names: The names of the graph's outputs.
        exporter: ``dynamo`` (torch.export), or ``torchscript`` (the old tracer, for modules that torch.export refuses).
        opset: The ONNX opset; the file is refused if the exporter wrote another.
        dynamic_axes: Tensor name to ``{axis: label}``. None makes axis 0 of every tensor ``batch``; ``{}`` leaves none
            dynamic. In a given mapping an input that is missing is fixed; an output that is missing has ``batch`` at
            axis 0 where any input has it; a state output has the axes of its input. For outputs only the ``batch``
            label is read: the exporter infers the rest.
        states: Input name to output name of every cache that the caller hands from one call to the next.
        value_ranges: Input name to the lowest and highest value that it holds; (-1, 1) for numbers with a fraction and
            (0, 1) for whole numbers where nothing is said. An image is (0, 255), token numbers (0, vocabulary - 1).
        parity_sizes: Label of a dynamic axis to the sizes at which parity is checked; ``batch`` has 1, 2, 3 and 8
            where nothing is said, every other label must be given.
        samples: Further real inputs for the parity check, beside the example and the random ones; a detector needs
            them, since noise shows it nothing.
        stream_steps: The number of steps, each with the caches of the step before, over which a graph with states is
            compared.
        compare: Judges the outputs of torch against those of onnxruntime.
        descriptions: Tensor name to what it holds, with unit, value range and axis order; goes into the manifest.

    Raises:
        ExportError: The parts contradict each other.
    """

    module: nn.Module
    example_inputs: tuple[Tensor, ...]
    input_names: tuple[str, ...]
    output_names: tuple[str, ...]
    exporter: Literal["dynamo", "torchscript"] = "dynamo"
    opset: int = 18
    dynamic_axes: Mapping[str, Mapping[int, str]] | None = None
    states: Mapping[str, str] = field(default_factory=dict)
    value_ranges: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    parity_sizes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    samples: tuple[tuple[Tensor, ...], ...] = ()
    stream_steps: int = 6
    compare: ComparisonRule = field(default_factory=CloseOutputs)
    descriptions: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _check_module(self.module)
        _check_names(self)
        _check_tensors(self)
        _check_sizes(self)

    def axes(self, name: str) -> dict[int, str]:
        """Return the dynamic axes of a tensor: ``{axis: label}``."""
        if self.dynamic_axes is None:
            return {0: BATCH}
        if name in self.dynamic_axes:
            return dict(self.dynamic_axes[name])
        if name in self.input_names:
            return {}
        if self._input_of_state(name):
            return self.axes(self._input_of_state(name))
        return {0: BATCH} if BATCH in self.example_sizes else {}

    @property
    def example_sizes(self) -> dict[str, int]:
        """Label of every dynamic axis of the inputs to its size in the example."""
        return {
            label: tensor.shape[axis]
            for name, tensor in zip(self.input_names, self.example_inputs, strict=True)
            for axis, label in self.axes(name).items()
        }

    def size_cases(self) -> list[dict[str, int]]:
        """Return the sizes of the dynamic axes at which parity is checked: first every batch, then the other axes."""
        example = self.example_sizes
        sizes = {label: self.parity_sizes.get(label, BATCH_SIZES if label == BATCH else ()) for label in example}
        cases = [{**example, BATCH: size} for size in sizes.pop(BATCH, ())]
        rounds = max((len(values) for values in sizes.values()), default=0)
        cases += [
            {**example, **{label: values[turn % len(values)] for label, values in sizes.items()}}
            for turn in range(rounds)
        ]
        return cases or [example]

    def _input_of_state(self, name: str) -> str:
        return next((source for source, target in self.states.items() if target == name), "")


def _check_module(module: nn.Module) -> None:
    training = next((name or "the module itself" for name, part in module.named_modules() if part.training), None)
    if training is not None:
        raise ExportError(f"{type(module).__name__}: {training} is in training mode: call module.eval() before export")
    tensors = [*module.named_parameters(), *module.named_buffers()]
    elsewhere = next((f"{name} is on {tensor.device}" for name, tensor in tensors if tensor.device.type != "cpu"), None)
    if elsewhere is not None:
        raise ExportError(f"{type(module).__name__}: {elsewhere}: call module.cpu() before export")


def _check_names(graph: GraphExport) -> None:
    names = [*graph.input_names, *graph.output_names]
    twice = sorted({name for name in names if names.count(name) > 1 or not name})
    if twice:
        raise ExportError(f"tensor names {twice} are empty or given twice: every input and output needs its own name")
    if not graph.input_names or not graph.output_names:
        raise ExportError("a graph needs at least one input and one output")
    for field_name in ("dynamic_axes", "value_ranges", "descriptions", "states"):
        allowed = graph.input_names if field_name in ("value_ranges", "states") else names
        unknown = sorted(set(getattr(graph, field_name) or {}) - set(allowed))
        if unknown:
            raise ExportError(f"{field_name} names {unknown}, the graph has {list(allowed)}: fix the names")
    foreign = sorted(set(graph.states.values()) - set(graph.output_names))
    if foreign or len(set(graph.states.values())) < len(graph.states):
        raise ExportError(
            f"states {dict(graph.states)} must lead from each input to an output of its own; outputs are "
            f"{list(graph.output_names)}"
        )


def _check_tensors(graph: GraphExport) -> None:
    for inputs in (graph.example_inputs, *graph.samples):
        if len(inputs) != len(graph.input_names):
            raise ExportError(f"{len(inputs)} example tensors for the inputs {list(graph.input_names)}: give one each")
    for name, tensor in zip(graph.input_names, graph.example_inputs, strict=True):
        if not isinstance(tensor, torch.Tensor) or tensor.device.type != "cpu":
            raise ExportError(f"the example of input {name!r} must be a tensor on the CPU, not {type(tensor).__name__}")
        low, high = graph.value_ranges.get(name, (0, 1))
        if not low <= high:
            raise ExportError(f"value_ranges[{name!r}] is ({low}, {high}): give (lowest, highest)")


def _check_sizes(graph: GraphExport) -> None:
    sizes: dict[str, int] = {}
    for name, tensor in zip(graph.input_names, graph.example_inputs, strict=True):
        for axis, label in graph.axes(name).items():
            if axis not in range(tensor.ndim):
                raise ExportError(f"dynamic_axes[{name!r}] names axis {axis}, the example has {tensor.ndim} axes")
            if tensor.shape[axis] < 2:
                raise ExportError(
                    f"the example of {name!r} is {tensor.shape[axis]} long at the dynamic axis {axis} ({label!r}): "
                    "torch treats 0 and 1 as fixed, give an example of at least 2"
                )
            if sizes.setdefault(label, tensor.shape[axis]) != tensor.shape[axis]:
                raise ExportError(
                    f"{label!r} is {sizes[label]} in one example input and {tensor.shape[axis]} in {name!r}: one label "
                    "is one size; give the axes different labels, or the examples the same size"
                )
    unchecked = sorted(label for label in sizes if label != BATCH and not graph.parity_sizes.get(label))
    if unchecked:
        raise ExportError(
            f"the axes {unchecked} are dynamic, but nothing says at which sizes parity is to be checked: "
            f"pass parity_sizes={{{unchecked[0]!r}: (...)}}"
        )
    unknown = sorted(set(graph.parity_sizes) - set(sizes))
    if unknown:
        raise ExportError(f"parity_sizes names {unknown}, the dynamic axes of the inputs are {sorted(sizes)}")

"""A torch module becomes an ONNX graph that is clean and is what was asked for.

Both exporters of torch write more, less, or other things than they were told: the source paths of this machine, another
opset, a batch size that was a number in the module, no input where the module ignores one. All of that is removed or
refused here; whether the graph computes the right thing is ``parity.py``'s question.
"""

from __future__ import annotations

import logging
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import onnx
import torch
from onnx import ModelProto, ValueInfoProto

from robustvision.core.errors import ExportError
from robustvision.core.export.graphs import BATCH, GraphExport
from robustvision.core.export.parity import in_brief
from robustvision.core.export.proto import opset_of, strip

LARGEST_FILE = 2**31 - 2**20  # protobuf's limit, with room for the manifest
NOISY_LOGGERS = ("torch.onnx", "torch.export", "onnxscript", "onnx_ir")


def to_onnx(name: str, graph: GraphExport) -> ModelProto:
    """Export a graph, strip it, and check its form.

    Args:
        name: The graph's name, for messages.
        graph: What to export.

    Returns:
        The ONNX model, without metadata and doc strings.

    Raises:
        ExportError: The exporter failed, or the graph is not what was asked for.
    """
    weights = sum(tensor.nbytes for tensor in [*graph.module.parameters(), *graph.module.buffers()])
    if weights > LARGEST_FILE:
        raise ExportError(f"graph {name!r} has {weights / 2**30:.1f} GiB of weights, an ONNX file holds 2: split it")
    try:
        with _quiet():
            model = _run_dynamo(graph) if graph.exporter == "dynamo" else _run_torchscript(graph)
    except Exception as error:
        reason = in_brief(error.__cause__ or error, lines=3)
        raise ExportError(f"graph {name!r}: torch could not export it with {graph.exporter!r} ({reason})") from error
    strip(model)
    if graph.exporter == "torchscript":
        _name_batch_axes(graph, model)
    _check_form(name, graph, model)
    return model


def _run_dynamo(graph: GraphExport) -> ModelProto:
    program = torch.onnx.export(
        graph.module,
        graph.example_inputs,
        dynamo=True,
        opset_version=graph.opset,
        external_data=False,
        verbose=False,
        input_names=list(graph.input_names),
        output_names=list(graph.output_names),
        # the strings name the axes; Dim.DYNAMIC would give s31
        dynamic_shapes=tuple(graph.axes(name) for name in graph.input_names),
    )
    if program is None:
        raise RuntimeError("torch.onnx.export gave no program")
    return ModelProto.FromString(program.model_proto.SerializeToString())


def _run_torchscript(graph: GraphExport) -> ModelProto:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "graph.onnx"
        torch.onnx.export(
            graph.module,
            graph.example_inputs,
            file,
            dynamo=False,
            opset_version=graph.opset,
            keep_initializers_as_inputs=False,
            verbose=False,
            input_names=list(graph.input_names),
            output_names=list(graph.output_names),
            # the inputs' axes alone: an output's axis would take the name given here even where its size is fixed
            dynamic_axes={name: graph.axes(name) for name in graph.input_names},
        )
        return onnx.load(str(file))


@contextmanager
def _quiet() -> Iterator[None]:
    """Torch's exporters print, warn and log at length, about things that are checked here."""
    loggers = [logging.getLogger(name) for name in NOISY_LOGGERS]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.CRITICAL)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _name_batch_axes(graph: GraphExport, model: ModelProto) -> None:
    """The tracer invents names for the outputs' free axes; one that stayed a number is left for the check to refuse."""
    for output in model.graph.output:
        dims = output.type.tensor_type.shape.dim
        for axis, label in graph.axes(output.name).items() if output.name in graph.output_names else ():
            if label == BATCH and axis < len(dims) and not dims[axis].HasField("dim_value"):
                dims[axis].dim_param = BATCH


def _check_form(name: str, graph: GraphExport, model: ModelProto) -> None:
    found = opset_of(model)
    if found != graph.opset:
        raise ExportError(
            f"graph {name!r}: opset {graph.opset} was asked for, {graph.exporter!r} wrote {found}: pass opset={found}, "
            "or try the other exporter"
        )
    _check_names(name, "inputs", graph.input_names, model.graph.input)
    _check_names(name, "outputs", graph.output_names, model.graph.output)
    if any(tensor.data_location == onnx.TensorProto.EXTERNAL for tensor in model.graph.initializer):
        raise ExportError(f"graph {name!r}: torch wrote weights beside the file; one file must hold all")
    tensors = {tensor.name: tensor for tensor in [*model.graph.input, *model.graph.output]}
    for output in graph.output_names:
        _check_batch_axis(name, graph, tensors[output])
    for source, target in graph.states.items():
        _check_state(name, tensors[source], tensors[target])
    try:
        onnx.checker.check_model(model, full_check=True)
    except Exception as error:
        raise ExportError(f"graph {name!r}: onnx's checker refuses it: {in_brief(error)}") from error


def _check_names(name: str, side: str, wanted: tuple[str, ...], found: Any) -> None:
    names = [tensor.name for tensor in found]
    if names != list(wanted):
        raise ExportError(
            f"graph {name!r}: its {side} should be {list(wanted)}, torch wrote {names}: "
            "does the module use every input, and return one tensor an output?"
        )


def _check_batch_axis(name: str, graph: GraphExport, output: ValueInfoProto) -> None:
    dims = _dims(output)
    for axis, label in graph.axes(output.name).items():
        if label != BATCH:
            continue
        if axis >= len(dims) or dims[axis] != BATCH:
            raise ExportError(
                f"graph {name!r}: output {output.name!r} has shape {dims}, its axis {axis} should be {BATCH!r}: "
                "a batch size is baked into the module (a reshape with a number, or a Python branch on the batch size)"
            )


def _check_state(name: str, source: ValueInfoProto, target: ValueInfoProto) -> None:
    """What comes out of one step must go into the next."""
    before, after = _dims(source), _dims(target)
    if before != after or source.type.tensor_type.elem_type != target.type.tensor_type.elem_type:
        raise ExportError(
            f"graph {name!r}: the state {source.name!r} {before} comes back as {target.name!r} {after} or with another "
            "dtype: both must be the same"
        )


def _dims(tensor: ValueInfoProto) -> list[int | str]:
    dims = tensor.type.tensor_type.shape.dim
    return [dim.dim_value if dim.HasField("dim_value") else dim.dim_param for dim in dims]

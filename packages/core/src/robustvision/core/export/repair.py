"""Mending published ONNX files whose graph inputs are not inputs.

Some files list every weight as a graph input, as ONNX demanded before version 4 of its format. A quantiser that then
replaces the weights leaves entries that nothing reads and nothing feeds. onnxruntime refuses such a file ("required
inputs are missing"), and OpenCV 5 cannot tell which input is the image. Dropping the entries changes nothing else; the
outputs before and after are compared all the same. Needs onnx and onnxruntime, not torch.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime

from robustvision.core.errors import MissingExtraError, ModelError
from robustvision.core.runtime.files import write_atomically
from robustvision.core.runtime.opencv import cv2, quiet_opencv

try:
    import onnx
    from onnx import GraphProto, ModelProto, ValueInfoProto

    from robustvision.core.export.proto import all_graphs, read_graph
except ModuleNotFoundError as error:  # repair runs on the edge too, where the small extra is enough
    raise MissingExtraError(
        f"repairing a model needs {error.name}: pip install 'robustvision-core[onnx]'", name=error.name
    ) from error

Array = npt.NDArray[Any]
Run = Callable[[Mapping[str, Array]], list[Array]]

FIRST_FREE_IR = 4  # the first version of the ONNX format in which a weight need not be an input
TOLERANCE = 1e-3  # of the largest output; kernels differ by 1e-5, a wrong graph by its whole size


@dataclass(frozen=True)
class RepairReport:
    """What was mended.

    Attributes:
        source: The file as it came.
        destination: The file as it went out.
        inputs: The inputs that are left.
        weights: Former inputs that are weights of the file, or outputs of its own nodes.
        unread: Former inputs that no node reads.
        reference: What the repaired file in onnxruntime was compared with: ``original in onnxruntime``,
            ``original in OpenCV``, ``repaired in OpenCV`` (the original runs nowhere), or ``nothing`` (OpenCV cannot
            run the graph either, or nothing was repaired).
        max_abs: The largest difference to the reference; NaN where there is none.
        max_rel: That difference over the largest output.
    """

    source: Path
    destination: Path
    inputs: tuple[str, ...]
    weights: tuple[str, ...]
    unread: tuple[str, ...]
    reference: str
    max_abs: float
    max_rel: float

    @property
    def repaired(self) -> bool:
        """Whether there was anything to repair."""
        return bool(self.weights or self.unread)


def repair_inputs(
    source: str | os.PathLike[str],
    destination: str | os.PathLike[str],
    *,
    example: Mapping[str, Array] | None = None,
) -> RepairReport:
    """Drop the graph inputs that are weights, or that nothing reads, and compare the outputs before and after.

    A file without such inputs is copied byte for byte, so that a script may repair whatever it is given.

    Args:
        source: The ONNX file. Weights in files beside it are refused.
        destination: Where the repaired file goes; may be the source.
        example: Input name to array for the comparison; None takes random numbers in 0 to 255, with 1 for a free
            first axis.

    Returns:
        What was dropped, and how far the outputs are from those of the reference.

    Raises:
        ModelError: The source is not an ONNX file, the repaired graph does not run, or it computes something else.
        InputError: The destination cannot be written to.
    """
    source, destination = Path(source), Path(destination)
    original = read_graph(source)
    weights, unread = _false_inputs(original.graph)
    kept = [tensor for tensor in original.graph.input if tensor.name not in {*weights, *unread}]
    report = RepairReport(
        source, destination, tuple(tensor.name for tensor in kept), weights, unread, "nothing", np.nan, np.nan
    )
    if not report.repaired:
        with write_atomically(destination) as place:
            shutil.copyfile(source, place)
        return report
    if not kept:
        raise ModelError(f"{source}: no node reads any of its inputs that is not a weight: this is no model to repair")
    repaired = _without_inputs(source, original, kept)
    inputs = dict(example) if example is not None else {tensor.name: _random_input(tensor) for tensor in kept}
    reference, max_abs, max_rel = _compare(source, original, repaired, inputs)
    with write_atomically(destination) as place:
        place.write_bytes(repaired.SerializeToString())
    return RepairReport(source, destination, report.inputs, weights, unread, reference, max_abs, max_rel)


def _false_inputs(graph: GraphProto) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the inputs that the file itself provides, and those that no node reads."""
    parts = list(all_graphs(graph))
    provided = {tensor.name for tensor in graph.initializer} | {entry.values.name for entry in graph.sparse_initializer}
    provided |= {name for node in graph.node for name in node.output}
    read = {name for part in parts for node in part.node for name in node.input}
    read |= {tensor.name for part in parts for tensor in part.output}
    names = [tensor.name for tensor in graph.input]
    return (
        tuple(name for name in names if name in provided),
        tuple(name for name in names if name not in provided and name not in read),
    )


def _without_inputs(source: Path, original: ModelProto, kept: Sequence[ValueInfoProto]) -> ModelProto:
    repaired = ModelProto()
    repaired.CopyFrom(original)
    del repaired.graph.input[:]
    repaired.graph.input.extend(kept)
    repaired.ir_version = max(repaired.ir_version, FIRST_FREE_IR)
    try:
        onnx.checker.check_model(repaired)
    except onnx.checker.ValidationError as error:
        raise ModelError(f"{source} is broken in another way too: {error}") from error
    return repaired


def _random_input(tensor: ValueInfoProto) -> Array:
    kind = tensor.type.tensor_type
    sizes = [dim.dim_value if dim.HasField("dim_value") else 0 for dim in kind.shape.dim]
    if any(size < 1 for size in sizes[1:]):
        raise ModelError(
            f"input {tensor.name!r} has free axes {sizes} besides the first: pass example= to compare with"
        )
    dtype = onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type)
    shape = [max(size, 1) for size in sizes]
    return np.random.default_rng(0).uniform(0, 255, shape).astype(dtype)


def _compare(
    source: Path, original: ModelProto, repaired: ModelProto, inputs: Mapping[str, Array]
) -> tuple[str, float, float]:
    """Return what the repaired graph was compared with, and by how much it differs, absolutely and relatively."""
    run = _onnxruntime(repaired)
    if run is None:
        raise ModelError(f"{source}: onnxruntime refuses it even without the false inputs: it is broken otherwise too")
    try:
        outputs = run(inputs)
    except Exception as error:  # onnxruntime's error classes are not public
        raise ModelError(f"{source}: the repaired graph does not run: {error}") from error
    candidates: tuple[tuple[str, Callable[[], Run | None]], ...] = (
        ("original in onnxruntime", lambda: _onnxruntime(original)),
        ("original in OpenCV", lambda: _opencv(original, repaired)),
        ("repaired in OpenCV", lambda: _opencv(repaired, repaired)),
    )
    for reference, open_candidate in candidates:
        expected = _attempt(open_candidate, inputs)
        if expected is None:
            continue
        difference, scale = _distance(outputs, expected)
        if difference > TOLERANCE * scale:
            raise ModelError(
                f"{source}: the repaired file differs from the {reference} by {difference:.3g} "
                f"at a scale of {scale:.3g}; nothing was written"
            )
        return reference, difference, difference / scale if scale else 0.0
    return "nothing", np.nan, np.nan


def _attempt(open_candidate: Callable[[], Run | None], inputs: Mapping[str, Array]) -> list[Array] | None:
    try:
        run = open_candidate()
        return run(inputs) if run is not None else None
    except Exception:  # a reference that fails, in whatever way, is none
        return None


def _onnxruntime(model: ModelProto) -> Run | None:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    except Exception:  # onnxruntime's error classes are not public
        return None
    return lambda inputs: session.run(None, dict(inputs))


def _opencv(model: ModelProto, repaired: ModelProto) -> Run:
    # bytes, never the path: OpenCV follows links to weights outside the model's folder
    names = [tensor.name for tensor in repaired.graph.output]

    def run(inputs: Mapping[str, Array]) -> list[Array]:
        with quiet_opencv():
            net = cv2.dnn.readNetFromONNX(np.frombuffer(model.SerializeToString(), np.uint8))
            for name, array in inputs.items():
                net.setInput(array, name)
            return list(net.forward(names))

    return run


def _distance(found: Sequence[Array], expected: Sequence[Array]) -> tuple[float, float]:
    if [array.shape for array in found] != [array.shape for array in expected]:
        return np.inf, 1.0
    pairs = [(a.astype(np.float64), b.astype(np.float64)) for a, b in zip(found, expected, strict=True)]
    difference = max(float(np.abs(a - b).max(initial=0.0)) for a, b in pairs)
    scale = max(float(np.abs(b).max(initial=0.0)) for _, b in pairs)
    return difference if np.isfinite(difference) else np.inf, scale

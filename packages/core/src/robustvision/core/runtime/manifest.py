"""The manifest: what a model file says about itself, as JSON in the ONNX file or beside its graphs.

A single ``model.onnx`` carries it in ``metadata_props["robustvision"]``; a folder of graphs carries ``manifest.json``.
Whoever opens the model needs nothing else: preprocessing, names, units, thresholds, origin and a self-test are in it.
"""

from __future__ import annotations

import base64
import dataclasses
import json
import math
import zlib
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from robustvision.core.errors import ModelError

SCHEMA = 1
METADATA_KEY = "robustvision"
MANIFEST_FILE = "manifest.json"
MAIN_GRAPH = "main"

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class TensorSpec:
    """One input or output of a graph.

    Attributes:
        name: The tensor's name in the graph.
        dtype: numpy's name of the element type, such as ``float32``.
        shape: A number for a fixed axis, a string for the name of a dynamic one, such as ``("batch", 3, 112, 112)``.
        description: What the tensor holds, with its unit, value range and axis order.
    """

    name: str
    dtype: str
    shape: tuple[int | str, ...]
    description: str = ""


@dataclass(frozen=True)
class GraphSpec:
    """One graph of a model.

    Attributes:
        file: The graph's file, relative to the model's folder; empty where the model is a single file.
        inputs: All inputs, states included.
        outputs: All outputs, states included.
        states: Input name to output name of every cache that the caller hands from one call to the next; a stream
            begins with zeros.
    """

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    file: str = ""
    states: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Threshold:
    """A decision threshold and where it comes from.

    Attributes:
        name: What is decided, such as ``same-person at FAR 1e-3``.
        score: What is compared, such as ``cosine``; a score above the value is accepted.
        value: The threshold.
        calibrated_on: The data that it was calibrated on, or the source that it is cited from.
        target: The error rate that it was chosen for, if one was.
    """

    name: str
    score: str
    value: float
    calibrated_on: str
    target: float | None = None


@dataclass(frozen=True)
class SelfTest:
    """Inputs and the outputs that they must give: a consumer that feeds the model wrongly sees it at once.

    Attributes:
        graph: The name of the graph.
        inputs: Input name to array.
        outputs: Output name to array.
        atol: The largest absolute difference that other machines and providers may show.
    """

    graph: str
    inputs: dict[str, Array]
    outputs: dict[str, Array]
    atol: float = 1e-3


@dataclass(frozen=True)
class Manifest:
    """All that a model says about itself.

    Attributes:
        task: What the model is for; a pipeline opens only its own task.
        name: The model's name.
        graphs: Graph name to its inputs and outputs; a single file has one graph, ``main``.
        preprocessing: How an input image becomes the graph's input: size, colour order, value range, template.
        classes: Class names, in the order of the outputs.
        thresholds: The calibrated decision thresholds.
        training: Recipe, loss and its parameters, data, seed; ``trained_on: synthetic`` where that is so.
        metrics: What was measured, on what.
        variant: Precision: ``fp32``, ``fp16``, ``int8-dynamic`` or ``int8-static``.
        versions: Library versions that made the file.
        licence: The licence of the weights.
        self_test: Inputs and their expected outputs.
        schema: The version of this layout.
    """

    task: str
    name: str
    graphs: dict[str, GraphSpec]
    preprocessing: dict[str, Any] = field(default_factory=dict)
    classes: tuple[str, ...] = ()
    thresholds: tuple[Threshold, ...] = ()
    training: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)
    variant: str = "fp32"
    versions: dict[str, str] = field(default_factory=dict)
    licence: str = ""
    self_test: SelfTest | None = None
    schema: int = SCHEMA

    def replace(self, **changes: Any) -> Manifest:
        """Return a copy with some fields changed."""
        return dataclasses.replace(self, **changes)

    def to_json(self) -> str:
        """Write the manifest as JSON; arrays become dtype, shape and their compressed bytes in base64."""
        return json.dumps(dataclasses.asdict(self), default=_encode_array, ensure_ascii=False, allow_nan=False)

    @classmethod
    def from_json(cls, text: str, *, origin: str = "the model") -> Manifest:
        """Read a manifest.

        Args:
            text: The JSON.
            origin: What the text was read from, for error messages.

        Raises:
            ModelError: The text is not JSON, is of another schema, or lacks a field.
        """
        try:
            data = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise ModelError(f"{origin}: its manifest is not JSON ({error}): export the model again") from error
        if not isinstance(data, dict) or data.get("schema") != SCHEMA:
            found = data.get("schema") if isinstance(data, dict) else None
            raise ModelError(
                f"{origin}: its manifest has schema {found!r}, this version reads schema {SCHEMA}: "
                "export the model again, or install the robustvision version that wrote it"
            )
        try:
            return cls(
                **{
                    **data,
                    "graphs": {name: _graph(spec) for name, spec in data["graphs"].items()},
                    "classes": tuple(data.get("classes", ())),
                    "thresholds": tuple(_threshold(entry) for entry in data.get("thresholds", ())),
                    **{name: dict(data.get(name, {})) for name in ("preprocessing", "training", "metrics", "versions")},
                    "self_test": _self_test(data["self_test"]) if data.get("self_test") else None,
                }
            )
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError, zlib.error) as error:
            raise ModelError(f"{origin}: its manifest is incomplete ({error!r}): export the model again") from error


def _graph(data: dict[str, Any]) -> GraphSpec:
    inputs, outputs = (tuple(_tensor(tensor) for tensor in data[side]) for side in ("inputs", "outputs"))
    states = dict(data.get("states", {}))
    into, out_of = {tensor.name: tensor for tensor in inputs}, {tensor.name: tensor for tensor in outputs}
    for source, target in states.items():
        before, after = into[source], out_of[target]
        if (before.dtype, before.shape) != (after.dtype, after.shape):
            raise ValueError(f"the state {source} and its output {target} differ in dtype or shape")
    return GraphSpec(inputs=inputs, outputs=outputs, file=str(data.get("file", "")), states=states)


def _threshold(data: dict[str, Any]) -> Threshold:
    value = float(data["value"])
    if not math.isfinite(value):
        raise ValueError(f"the threshold {data.get('name')} is {value}")
    return Threshold(**{**data, "value": value})


def _tensor(data: dict[str, Any]) -> TensorSpec:
    tensor = TensorSpec(**{**data, "shape": tuple(data["shape"])})
    if np.dtype(tensor.dtype).name != tensor.dtype:
        raise ValueError(f"{tensor.name} has the dtype {tensor.dtype!r}, which is not numpy's name")
    if any(not isinstance(size, str) and (type(size) is not int or size < 0) for size in tensor.shape):
        raise ValueError(f"{tensor.name} has the shape {tensor.shape}: sizes are whole numbers or names")
    return tensor


def _self_test(data: dict[str, Any]) -> SelfTest:
    inputs, outputs = (
        {name: _decode_array(array) for name, array in data[side].items()} for side in ("inputs", "outputs")
    )
    return SelfTest(graph=data["graph"], inputs=inputs, outputs=outputs, atol=float(data["atol"]))


def _encode_array(value: object) -> dict[str, Any]:
    if isinstance(value, np.generic):
        return value.item()  # type: ignore[no-any-return]
    if not isinstance(value, np.ndarray) or value.dtype.kind not in "biuf":
        raise TypeError(f"a manifest holds plain values and arrays of numbers, not {type(value).__name__}")
    packed = zlib.compress(value.astype(value.dtype.newbyteorder("<")).tobytes(), 9)
    data = base64.b64encode(packed).decode("ascii")
    return {"dtype": value.dtype.name, "shape": list(value.shape), "zlib_base64": data}


def _decode_array(data: dict[str, Any]) -> Array:
    dtype, shape = np.dtype(data["dtype"]), tuple(int(length) for length in data["shape"])
    if min(shape, default=0) < 0:
        raise ValueError(f"an array has the shape {shape}")
    packed = base64.b64decode(data["zlib_base64"], validate=True)
    # One byte more than announced, so that a longer content is seen and a bomb is not unpacked.
    flat = zlib.decompressobj().decompress(packed, max_length=math.prod(shape) * dtype.itemsize + 1)
    return np.frombuffer(flat, dtype=dtype.newbyteorder("<")).reshape(shape).astype(dtype)

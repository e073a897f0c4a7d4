"""Tiny ONNX models and image files, made on the spot."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from robustvision.core.runtime.manifest import METADATA_KEY, GraphSpec, Manifest, SelfTest, TensorSpec

BATCH_IMAGE = {"x": ("float32", ("batch", 3, 4, 4))}
BATCH_RESULT = {"y": ("float32", ("batch", 3, 4, 4))}


def _tensors(form):
    return tuple(TensorSpec(name, dtype, tuple(shape)) for name, (dtype, shape) in form.items())


def _infos(form):
    return [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(np.dtype(dtype)), list(shape))
        for name, (dtype, shape) in form.items()
    ]


@pytest.fixture(scope="session")
def graph_spec():
    """Make a GraphSpec from {name: (dtype, shape)}."""

    def make(inputs, outputs, *, states=None, file=""):
        return GraphSpec(_tensors(inputs), _tensors(outputs), file=file, states=states or {})

    return make


@pytest.fixture(scope="session")
def write_onnx():
    """Write an ONNX file of given nodes; `manifest` goes into its metadata."""

    def write(path, nodes, inputs, outputs, *, constants=None, manifest=None):
        initialisers = [numpy_helper.from_array(value, name) for name, value in (constants or {}).items()]
        graph = helper.make_graph(nodes, "g", _infos(inputs), _infos(outputs), initialisers)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
        onnx.checker.check_model(model)
        if manifest is not None:
            text = manifest if isinstance(manifest, str) else manifest.to_json()
            helper.set_model_props(model, {METADATA_KEY: text})
        Path(path).write_bytes(model.SerializeToString())
        return Path(path)

    return write


@pytest.fixture
def affine_manifest(graph_spec):
    """Of a model that computes y = 2 x + 1, with a self-test."""
    x = np.linspace(-1, 1, 96, dtype=np.float32).reshape(2, 3, 4, 4)
    return Manifest(
        task="toy",
        name="affine",
        graphs={"main": graph_spec(BATCH_IMAGE, BATCH_RESULT)},
        self_test=SelfTest("main", {"x": x}, {"y": 2 * x + 1}, atol=1e-5),
    )


@pytest.fixture
def write_affine(write_onnx, affine_manifest):
    """Write the model y = 2 x + 1; `manifest=None` leaves it out."""
    nodes = [helper.make_node("Mul", ["x", "two"], ["d"]), helper.make_node("Add", ["d", "one"], ["y"])]
    constants = {"two": np.float32(2), "one": np.float32(1)}

    def write(path, manifest=affine_manifest):
        return write_onnx(path, nodes, BATCH_IMAGE, BATCH_RESULT, constants=constants, manifest=manifest)

    return write


@pytest.fixture
def affine_path(write_affine, tmp_path):
    return write_affine(tmp_path / "affine.onnx")


@pytest.fixture
def stateful_folder(write_onnx, graph_spec, tmp_path):
    """Two graphs in a folder: `encode` doubles; `add_up` is stateful: total' = total + z, y = total'."""
    folder = tmp_path / "stateful"
    folder.mkdir()
    x, z = {"x": ("float32", ("batch", 2))}, {"z": ("float32", ("batch", 2))}
    write_onnx(folder / "encode.onnx", [helper.make_node("Add", ["x", "x"], ["z"])], x, z)
    inputs = {**z, "total": ("float32", ("batch", 2))}
    outputs = {"y": ("float32", ("batch", 2)), "total_out": ("float32", ("batch", 2))}
    nodes = [helper.make_node("Add", ["z", "total"], ["y"]), helper.make_node("Identity", ["y"], ["total_out"])]
    write_onnx(folder / "add_up.onnx", nodes, inputs, outputs)
    manifest = Manifest(
        task="toy-stream",
        name="stateful",
        graphs={
            "encode": graph_spec(x, z, file="encode.onnx"),
            "add_up": graph_spec(inputs, outputs, states={"total": "total_out"}, file="add_up.onnx"),
        },
    )
    (folder / "manifest.json").write_text(manifest.to_json(), encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def write_external():
    """Write an ONNX file whose weights lie in another file, at a location of the caller's choice."""

    def write(path, location):
        weight = TensorProto(name="w", dims=[4], data_type=TensorProto.FLOAT, data_location=TensorProto.EXTERNAL)
        weight.external_data.add(key="location", value=str(location))
        value = helper.make_tensor_value_info("x", TensorProto.FLOAT, [4])
        result = helper.make_tensor_value_info("y", TensorProto.FLOAT, [4])
        graph = helper.make_graph([helper.make_node("Add", ["x", "w"], ["y"])], "g", [value], [result], [weight])
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
        Path(path).write_bytes(model.SerializeToString())
        return Path(path)

    return write


@pytest.fixture(scope="session")
def encode_image():
    """Encode a uint8 array by Pillow: encode_image(array, "JPEG", quality=90)."""

    def encode(array, kind, **options):
        buffer = io.BytesIO()
        image = array if isinstance(array, Image.Image) else Image.fromarray(array)
        image.save(buffer, kind, **options)
        return buffer.getvalue()

    return encode

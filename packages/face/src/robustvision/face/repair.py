"""Mends published face recognition files, and gives them the manifest that ``FaceRecognizer`` reads, without torch.

The SFace file of OpenCV's model zoo lists its weights as graph inputs. OpenCV 5 and onnxruntime then ask the caller for
them. Removing those inputs changes no number.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx

from robustvision.core.errors import InputError, ModelError
from robustvision.core.export import adopt_model, repair_inputs
from robustvision.core.export.proto import describe_graph, read_graph
from robustvision.core.runtime.files import write_atomically
from robustvision.core.runtime.manifest import METADATA_KEY, GraphSpec, Threshold
from robustvision.face.contract import CROP_PX, DESCRIPTIONS, INPUT, RAW_OUTPUT, TASK, preprocessing, self_test_crop

# The published threshold belongs to the published weights alone, so they are recognised by their layout.
OPENCV_SFACE_LAYOUT = {"Conv": 27, "PRelu": 27, "Gemm": 1}
OPENCV_THRESHOLD = Threshold(
    name="same person",
    score="cosine",
    value=0.363,
    calibrated_on="LFW, cited from OpenCV's documentation of its face recognizer; not measured here",
)


def repair_face_model(source: Path, destination: Path) -> dict[str, Any]:
    """Write a mended copy of a face recognition file.

    Args:
        source: The ONNX file; it is not changed.
        destination: Where the mended file goes.

    Returns:
        Plain values: what was removed, and how the mended file compares with the original.

    Raises:
        ModelError: The file is not a face recognition model: one input [N, 3, 112, 112], one output [N, d].
        InputError: It needs no repair, or the destination is not an ``.onnx`` file.
    """
    if destination.suffix != ".onnx":
        raise InputError(f"{destination} must end in .onnx")
    if any(entry.key == METADATA_KEY for entry in read_graph(source).metadata_props):
        raise InputError(f"{source} is a robustvision model already: use it as it is")
    with write_atomically(destination) as place:
        report = repair_inputs(source, place)
        model = read_graph(place)
        spec = describe_graph(model)
        _check(source, spec)
        is_opencv = _layout(model) == OPENCV_SFACE_LAYOUT and [spec.inputs[0].name, spec.outputs[0].name] == [
            INPUT,
            RAW_OUTPUT,
        ]
        adopt_model(
            place,
            place,
            task=TASK,
            name="OpenCV SFace 2021dec (MobileNetV1)" if is_opencv else source.stem,
            self_test_inputs={spec.inputs[0].name: self_test_crop()},
            preprocessing=preprocessing("inside the graph"),
            thresholds=(OPENCV_THRESHOLD,) if is_opencv else (),
            training={"trained_on": "not known here: a published file, mended"},
            licence="Apache-2.0 (OpenCV model zoo)" if is_opencv else "",
            descriptions={spec.inputs[0].name: DESCRIPTIONS[INPUT], spec.outputs[0].name: DESCRIPTIONS[RAW_OUTPUT]},
        )
    return {
        "source": str(source),
        "destination": str(destination),
        "inputs": list(report.inputs),
        "removed_inputs": len(report.weights) + len(report.unread),
        "compared_with": report.reference,
        "max_abs": report.max_abs,
        "max_rel": report.max_rel,
    }


def _layout(model: onnx.ModelProto) -> dict[str, int]:
    operators = [node.op_type for node in model.graph.node]
    return {name: operators.count(name) for name in OPENCV_SFACE_LAYOUT}


def _check(source: Path, spec: GraphSpec) -> None:
    shapes = [tensor.shape for tensor in (*spec.inputs, *spec.outputs)]
    if len(shapes) != 2 or shapes[0][1:] != (3, CROP_PX, CROP_PX) or len(shapes[1]) != 2:
        raise ModelError(
            f"{source} maps {shapes}, but a face model maps one [N, 3, {CROP_PX}, {CROP_PX}] to one [N, d]: "
            "is it a face recognition file?"
        )

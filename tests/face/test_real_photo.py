"""The README's run on a real photo, with the published weights: repair, find, embed, recognise again."""

import json

import cv2
import numpy as np
import pytest

from robustvision.core.errors import ModelError
from robustvision.face import FaceRecognizer, cli
from robustvision.face.repair import repair_face_model


@pytest.fixture(scope="module")
def repaired(published_sface, tmp_path_factory):
    path = tmp_path_factory.mktemp("repaired") / "sface.onnx"
    report = repair_face_model(published_sface, path)
    assert (report["removed_inputs"], report["inputs"]) == (174, ["data"])
    assert report["max_abs"] < 1e-4
    return path


@pytest.fixture(scope="module")
def sface(repaired):
    return FaceRecognizer(repaired)


def changed(image):
    """The same face under changes that a recogniser must survive."""
    height, width = image.shape[:2]
    turn = cv2.getRotationMatrix2D((220, 120), 20, 1.0)
    jpeg = cv2.imdecode(cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 30])[1], 1)[..., ::-1]
    return {
        "rotated": cv2.warpAffine(image, turn, (width, height)),
        "smaller": cv2.resize(image, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA),
        "larger": cv2.resize(image, None, fx=2, fy=2),
        "jpeg": np.ascontiguousarray(jpeg),
        "darker": cv2.convertScaleAbs(image, alpha=0.5),
        "brighter": cv2.convertScaleAbs(image, alpha=1.2, beta=25),
    }


def test_the_face_is_found_and_recognised_after_changes(sface, astronaut):
    (face,) = sface.recognize(astronaut)
    x, y, w, h = face.box_xywh
    assert x < 220 < x + w
    assert y < 120 < y + h
    for name, image in changed(astronaut).items():
        (again,) = sface.recognize(image)
        comparison = sface.compare(face.embedding, again.embedding)
        assert comparison.same_person, (name, comparison)
        assert comparison.threshold == 0.363


def test_other_faces_are_not_this_person(sface, astronaut):
    from skimage import data

    (face,) = sface.recognize(astronaut)
    others = data.lfw_subset()[:100]  # 100 real faces of 25 x 25 px, grey; aligned enough to be embedded as they are
    crops = np.stack([cv2.resize((other * 255).astype(np.uint8), (112, 112)) for other in others])
    embeddings = sface.embed(np.repeat(crops[..., None], 3, axis=3))
    assert (embeddings @ face.embedding).max() < sface.threshold


def test_opencv_agrees_on_the_photo(sface, repaired, astronaut):
    opencv = cv2.FaceRecognizerSF.create(str(repaired), "")
    faces = sface.detector.detect(astronaut)
    row = np.concatenate([faces.boxes_xywh[0], faces.landmarks[0].reshape(-1), faces.scores[:1]]).astype(np.float32)
    bgr = np.ascontiguousarray(astronaut[..., ::-1])
    crop = opencv.alignCrop(bgr, row[None])
    ours = sface.align(astronaut, faces.landmarks[0])
    assert np.abs(crop[..., ::-1].astype(int) - ours).max() <= 1
    feature = opencv.feature(crop)[0]
    np.testing.assert_allclose(feature / np.linalg.norm(feature), sface.embed(crop[..., ::-1].copy()), atol=1e-5)


def test_predict_from_the_command_line(repaired, astronaut, write_image, tmp_path, capsys):
    photo, dark = write_image("photo.png", astronaut), write_image("dark.jpg", changed(astronaut)["darker"])
    empty = write_image("empty.png", np.full((200, 300, 3), 128, np.uint8))
    args = ["predict", str(dark), str(empty), "--model", str(repaired), "--reference", str(photo), "--json"]
    with pytest.raises(SystemExit) as stop:
        cli.run(cli.app, [*args, "--out", str(tmp_path / "found")])
    assert stop.value.code == 0
    first, second = json.loads(capsys.readouterr().out)["photos"]
    assert first["faces"][0]["same_person"] is True
    assert len(first["faces"][0]["embedding"]) == 128
    assert second["faces"] == []
    drawn = cv2.imread(first["picture"])
    assert drawn.shape == astronaut.shape
    assert np.abs(drawn.astype(int) - cv2.imread(str(dark))).max() > 50


def test_repair_refuses_what_is_no_face_model(published_sface, tmp_path):
    detector = published_sface.with_name("face_detection_yunet_2023mar_int8bq.onnx")
    with pytest.raises(ModelError, match="face model"):
        repair_face_model(detector, tmp_path / "out.onnx")
    assert list(tmp_path.iterdir()) == []


def test_repair_leaves_an_older_file_when_it_fails(tmp_path):
    target, source = tmp_path / "out.onnx", tmp_path / "in.onnx"
    target.write_bytes(b"older")
    source.write_bytes(b"garbage")
    with pytest.raises(ModelError):
        repair_face_model(source, target)
    assert target.read_bytes() == b"older"

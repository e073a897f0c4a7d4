import cv2
import numpy as np
import pytest

from robustvision.core.errors import InputError, ModelError
from robustvision.face import TEMPLATE_112, FaceRecognizer
from robustvision.face.contract import self_test_crop
from robustvision.face.synthetic import SyntheticFaces


@pytest.fixture(scope="module")
def faces():
    return SyntheticFaces(6, 4, split="test", seed=5, strength=0.3).arrays(workers=1, quiet=True)


def test_embeddings_are_unit_vectors_and_batches_equal_singles(recognizer, faces):
    together = recognizer.embed(faces.images)
    singles = np.stack([recognizer.embed(crop) for crop in faces.images])
    assert together.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(together, singles, atol=1e-5)


def test_one_person_is_more_alike_than_two(recognizer, faces):
    embeddings = recognizer.embed(faces.images)
    same = faces.labels[:, None] == faces.labels
    cosines = embeddings @ embeddings.T
    assert cosines[same & ~np.eye(len(same), dtype=bool)].mean() > cosines[~same].mean() + 0.2


def test_landmarks_and_crops_lead_to_the_same_embedding(recognizer, faces):
    turn = cv2.getRotationMatrix2D((56, 56), 30, 1.7)
    turn[:, 2] += 100  # so that no corner of the crop is cut off
    photo = cv2.warpAffine(faces.images[0], turn, (320, 320), flags=cv2.INTER_CUBIC)
    landmarks = TEMPLATE_112 @ turn[:, :2].T + turn[:, 2]
    aligned, direct = recognizer.embed(photo, landmarks), recognizer.embed(faces.images[0])
    assert aligned @ direct > 0.95


def test_opencv_takes_the_file_and_agrees(recognizer, faces):
    """Exactly one input, raw RGB inside, five landmarks as YuNet gives them: a drop-in for cv2.FaceRecognizerSF."""
    assert len(recognizer.model.main.spec.inputs) == 1
    opencv = cv2.FaceRecognizerSF.create(str(recognizer.model.path), "")
    for crop in faces.images[:4]:
        feature = opencv.feature(cv2.cvtColor(crop, cv2.COLOR_RGB2BGR))[0]
        np.testing.assert_allclose(feature / np.linalg.norm(feature), recognizer.embed(crop), atol=1e-5)
    row = np.zeros((1, 15), np.float32)
    row[0, 4:14] = (TEMPLATE_112 * 1.5 + 3).reshape(-1)
    photo = cv2.resize(faces.images[0], (180, 180))
    theirs = opencv.alignCrop(cv2.cvtColor(photo, cv2.COLOR_RGB2BGR), row)[..., ::-1]
    ours = recognizer.align(photo, row[0, 4:14].reshape(5, 2))
    assert np.abs(theirs.astype(int) - ours).max() <= 1


def test_the_self_test_sees_swapped_colours_and_double_normalisation(recognizer):
    test = recognizer.model.manifest.self_test
    expected = test.outputs["fc1"]
    np.testing.assert_array_equal(test.inputs["data"], self_test_crop())
    assert recognizer.model.self_test().ok
    for wrong in (
        self_test_crop()[:, ::-1],
        (self_test_crop() - 127.5) / 127.5,
        self_test_crop().transpose(0, 1, 3, 2),
    ):
        (output,) = recognizer.model.main(np.ascontiguousarray(wrong, np.float32))
        assert np.abs(output - expected).max() > 10 * test.atol


def test_compare_decides_by_the_calibrated_threshold_and_changes_nothing(recognizer):
    first, second = np.array([3.0, 0, 0, 4.0] * 32), np.array([0.0, 3.0, 0, 4.0] * 32)
    before = first.copy()
    comparison = recognizer.compare(first, second)
    assert comparison.cosine == pytest.approx(16 / 25)
    assert comparison.distance == pytest.approx(np.sqrt(2 - 2 * 16 / 25))
    assert comparison.threshold == recognizer.threshold
    assert comparison.same_person == (comparison.cosine > recognizer.threshold)
    assert recognizer.compare(first, second, threshold=0.7).same_person is False
    assert recognizer.compare(first, first, threshold=0.7).cosine == pytest.approx(1)
    np.testing.assert_array_equal(first, before)


def test_calibrated_thresholds_say_where_they_come_from(recognizer):
    thresholds = recognizer.model.manifest.thresholds
    assert [threshold.target for threshold in thresholds] == [1e-3, 1e-2]
    assert thresholds[0].value > thresholds[1].value
    assert "synthetic" in thresholds[0].calibrated_on
    assert recognizer.model.manifest.training["trained_on"] == "synthetic"


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((100, 112, 3), np.uint8),
        np.zeros((112, 112), np.uint8),
        np.zeros((112, 112, 4), np.uint8),
        np.zeros((112, 112, 3), np.float32),
        np.zeros((3, 112, 112), np.uint8),
    ],
)
def test_what_is_no_crop_is_refused(recognizer, image):
    with pytest.raises(InputError, match="aligned RGB uint8 crops"):
        recognizer.embed(image)


def test_no_crops_at_all_are_refused(recognizer):
    with pytest.raises(InputError):
        recognizer.embed(np.zeros((0, 112, 112, 3), np.uint8))


@pytest.mark.parametrize(
    ("landmarks", "reason"),
    [
        (np.full((5, 2), 50.0), "degenerate landmarks"),
        (np.full((5, 2), np.nan), "not a number"),
        (TEMPLATE_112[:4], "four points"),
        (TEMPLATE_112 + 1000, "outside the image"),
    ],
)
def test_landmarks_that_are_no_face_are_refused(recognizer, landmarks, reason):
    with pytest.raises(InputError):
        recognizer.embed(np.zeros((112, 112, 3), np.uint8), landmarks)


@pytest.mark.parametrize(
    ("first", "second"), [([1.0, 0], [1.0, 0, 0]), ([0.0, 0], [1.0, 0]), ([np.nan, 1], [1.0, 0]), ([[1.0]], [[1.0]])]
)
def test_embeddings_that_cannot_be_compared_are_refused(recognizer, first, second):
    with pytest.raises(InputError):
        recognizer.compare(first, second)


def test_a_photo_without_a_face_is_an_error_that_says_so(recognizer):
    with pytest.raises(InputError, match="no face found"):
        recognizer.align(np.full((240, 320, 3), 120, np.uint8))


def test_files_that_are_no_face_model_are_refused(tmp_path, published_sface):
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"not a model")
    with pytest.raises(ModelError):
        FaceRecognizer(broken)
    with pytest.raises(ModelError):
        FaceRecognizer(published_sface)  # not repaired, and without a manifest

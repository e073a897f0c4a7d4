"""Alignment against the SVD formula, scikit-image and OpenCV's own crop, and everything that is no face."""

from __future__ import annotations

import math

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.transform import SimilarityTransform

from robustvision.core.errors import InputError
from robustvision.face.alignment import (
    TEMPLATE_112,
    align_face,
    five_from_68,
    inspect_landmarks,
    similarity_transform,
    template,
)


def umeyama(landmarks, target):
    """The SVD form with its sign correction, in float64."""
    source, destination = landmarks - landmarks.mean(0), target - target.mean(0)
    u, singular, vt = np.linalg.svd(destination.T @ source / len(source))
    sign = np.array([1.0, np.sign(np.linalg.det(u) * np.linalg.det(vt))])
    rotation = u @ np.diag(sign) @ vt
    scale = (singular * sign).sum() / source.var(0).sum()
    return np.c_[scale * rotation, target.mean(0) - scale * rotation @ landmarks.mean(0)]


def face(angle=0.0, scale=1.5, x=160.0, y=120.0):
    """The template's face, turned, scaled and with its centre at (x, y)."""
    turn = scale * np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    return (TEMPLATE_112 - TEMPLATE_112.mean(0)) @ turn.T + (x, y)


@pytest.fixture(scope="module")
def photo():
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (24, 32, 3), dtype=np.uint8)
    return cv2.resize(coarse, (320, 240), interpolation=cv2.INTER_CUBIC)


@pytest.fixture(scope="module")
def opencv_recognizer(tmp_path_factory):
    """OpenCV crops with an object that wants a network, so it gets one that does nothing."""
    onnx = pytest.importorskip("onnx")
    shape = [1, 3, 112, 112]
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Relu", ["data"], ["fc1"])],
        "nothing",
        [onnx.helper.make_tensor_value_info("data", onnx.TensorProto.FLOAT, shape)],
        [onnx.helper.make_tensor_value_info("fc1", onnx.TensorProto.FLOAT, shape)],
    )
    path = tmp_path_factory.mktemp("opencv") / "nothing.onnx"
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 13)])
    model.ir_version = 8
    onnx.save(model, path)
    return cv2.FaceRecognizerSF.create(str(path), "")


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 2**32))
def test_the_transform_is_the_least_squares_similarity(seed):
    """Any points at all: also those that a reflection would fit better."""
    rng = np.random.default_rng(seed)
    landmarks = rng.normal(size=(5, 2)) * rng.uniform(5, 200) + rng.uniform(-300, 300, 2)
    ours = similarity_transform(landmarks)
    np.testing.assert_allclose(ours, umeyama(landmarks, TEMPLATE_112), atol=1e-7)
    theirs = SimilarityTransform.from_estimate(landmarks, TEMPLATE_112).params[:2]
    np.testing.assert_allclose(ours, theirs, atol=1e-7)


def test_collinear_points_have_a_transform():
    landmarks = np.array([[10, 10], [50, 30], [70, 40], [90, 50], [110, 60.0]])
    np.testing.assert_allclose(similarity_transform(landmarks), umeyama(landmarks, TEMPLATE_112), atol=1e-9)


@given(st.floats(-math.pi, math.pi), st.floats(0.1, 20), st.floats(-500, 500), st.floats(-500, 500))
@settings(max_examples=100, deadline=None)
def test_a_moved_template_comes_back(angle, scale, x, y):
    landmarks = face(angle, scale, x, y)
    matrix = similarity_transform(landmarks)
    np.testing.assert_allclose(landmarks @ matrix[:, :2].T + matrix[:, 2], TEMPLATE_112, atol=1e-8)


def test_batches_equal_singles():
    rng = np.random.default_rng(1)
    landmarks = rng.normal(size=(7, 5, 2)) * 40 + 100
    batch = similarity_transform(landmarks)
    assert batch.shape == (7, 2, 3)
    np.testing.assert_allclose(batch, [similarity_transform(one) for one in landmarks], atol=1e-12)
    assert similarity_transform(np.empty((0, 5, 2))).shape == (0, 2, 3)


def test_crops_equal_those_of_opencv_and_scikit_image(photo, opencv_recognizer):
    rng = np.random.default_rng(2)
    for _ in range(40):
        angle, scale, (x, y) = rng.uniform(-math.pi, math.pi), rng.uniform(0.3, 2.5), rng.uniform(60, 180, 2)
        landmarks = face(angle, scale, x, y) + rng.normal(0, 4 * scale, (5, 2))
        crop = align_face(photo, landmarks).astype(int)
        row = np.concatenate([[0, 0, 0, 0], landmarks.ravel(), [1]]).astype(np.float32)
        theirs = opencv_recognizer.alignCrop(photo, row).astype(int)
        assert abs(crop - theirs).max() <= 1
        matrix = SimilarityTransform.from_estimate(landmarks, TEMPLATE_112).params[:2]
        assert abs(crop - cv2.warpAffine(photo, matrix, (112, 112)).astype(int)).max() <= 1


def test_the_crop_shows_the_face_upright_whatever_its_roll():
    """A dot on each landmark of the photo comes to lie on the template's points, at any angle, upside down too."""
    for angle in (0.0, 0.7, math.pi / 2, math.pi, -2.5):
        photo, landmarks = np.zeros((240, 320, 3), np.uint8), face(angle, 1.3)
        for place, (x, y) in enumerate(landmarks):
            cv2.circle(photo, (round(x * 16), round(y * 16)), 5 * 16, (50 + 50 * place,) * 3, -1, cv2.LINE_8, 4)
        crop = align_face(photo, landmarks)
        for place, (x, y) in enumerate(TEMPLATE_112):
            assert crop[round(y), round(x), 0] == 50 + 50 * place


def test_outside_is_black():
    photo = np.full((100, 100, 3), 200, np.uint8)
    crop = align_face(photo, face(scale=1, x=50, y=95))
    assert (crop[-1] == 0).all()
    assert (crop[5, 56] == 200).all()


def test_sizes_follow_the_template_rules():
    np.testing.assert_allclose(template(224), 2 * TEMPLATE_112)
    np.testing.assert_allclose(template(128), TEMPLATE_112 + np.array([8, 0]))
    np.testing.assert_allclose(template(256), 2 * TEMPLATE_112 + np.array([16, 0]))
    photo = np.zeros((240, 320, 3), np.uint8)
    assert align_face(photo, face(), size=224).shape == (224, 224, 3)
    for size in (0, 100, -112):
        with pytest.raises(InputError, match="multiple of 112"):
            template(size)


def test_68_points_reduce_to_the_five():
    points = np.zeros((68, 2))
    points[36], points[39] = (10, 20), (14, 22)
    points[42], points[45] = (30, 20), (34, 22)
    points[30], points[48], points[54] = (22, 30), (15, 40), (29, 41)
    expected = [[12, 21], [32, 21], [22, 30], [15, 40], [29, 41]]
    np.testing.assert_allclose(five_from_68(points), expected)
    np.testing.assert_allclose(five_from_68(np.stack([points, points])), [expected, expected])
    with pytest.raises(InputError, match=r"\[68, 2\]"):
        five_from_68(points[:67])


def test_geometry_says_what_to_warn_of():
    upright = inspect_landmarks(face(scale=2), (240, 320))
    assert upright.eye_distance_px == pytest.approx(2 * 35.2377, abs=1e-3)
    assert upright.scale == pytest.approx(0.5)
    assert upright.roll_rad == pytest.approx(0, abs=1e-12)
    assert upright.points_inside == 5
    assert not upright.is_tiny
    assert not upright.is_upside_down
    assert inspect_landmarks(face(0.5), (240, 320)).roll_rad == pytest.approx(0.5)
    assert inspect_landmarks(face(math.pi - 0.1), (240, 320)).is_upside_down
    assert inspect_landmarks(face(scale=0.2), (240, 320)).is_tiny
    assert inspect_landmarks(face(y=220, scale=2), (240, 320)).points_inside == 3


@pytest.mark.parametrize(
    ("landmarks", "message"),
    [
        (np.full((5, 2), 50.0), "coincide"),
        (np.full((5, 2), 50.0) + np.arange(10).reshape(5, 2) * 1e-9, "coincide"),
        (np.where(np.eye(5, 2, dtype=bool), np.nan, 50.0), "NaN or infinity"),
        (np.where(np.eye(5, 2, dtype=bool), np.inf, 50.0), "NaN or infinity"),
        (TEMPLATE_112[:4], r"\[5, 2\]"),
        (TEMPLATE_112.ravel(), r"\[5, 2\]"),
        (TEMPLATE_112.T, r"\[5, 2\]"),
        (TEMPLATE_112[None], "one face"),
        (np.full((5, 2), "eye"), "numbers"),
        (face() + 1000, "outside the image of 320 x 240"),
        (face() - 1000, "outside the image"),
        (face(x=-20), "outside the image"),
        (face()[[1, 0, 2, 4, 3]], "eyes are in mirrored order"),
        (face()[[1, 0, 2, 3, 4]], "eyes are in mirrored order"),
        (face()[[0, 1, 2, 4, 3]], "mouth corners are in mirrored order"),
        (face(math.pi)[[1, 0, 2, 4, 3]], "mirrored order"),  # the picture's left eye of a face upside down
        (face() * [-1, 1] + [320, 0], "mirrored order"),
    ],
)
def test_landmarks_that_are_no_face_are_refused(photo, landmarks, message):
    with pytest.raises(InputError, match=message):
        align_face(photo, landmarks)


def test_a_profile_is_not_taken_for_mirrored(photo):
    """Turned by 90 degrees both eyes, and both mouth corners, lie above each other; a detector errs a little."""
    profile = np.array([[150, 90], [148, 91], [185, 118], [153, 150], [150, 150.0]])
    assert align_face(photo, profile).shape == (112, 112, 3)


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((240, 320), np.uint8),
        np.zeros((240, 320, 4), np.uint8),
        np.zeros((240, 320, 3), np.float32),
        np.zeros((3, 240, 320), np.uint8),
        [[0]],
    ],
)
def test_images_of_another_kind_are_refused(image):
    with pytest.raises(InputError, match=r"expected uint8 \[H, W, 3\]"):
        align_face(image, face())


def test_strided_views_can_be_aligned(photo):
    """A mirrored or BGR view is what users have at hand."""
    view = photo[:, :, ::-1]
    np.testing.assert_array_equal(align_face(view, face()), align_face(view.copy(), face()))

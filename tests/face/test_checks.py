import cv2
import numpy as np
import pytest

from robustvision.core.runtime import FaceDetector
from robustvision.face.checks import check_photo, check_source


@pytest.fixture(scope="module")
def detector():
    return FaceDetector(score_threshold=0.5)


def whats(findings):
    return " | ".join(finding.what for finding in findings)


def test_a_good_photo_has_no_findings(astronaut, detector, write_image):
    assert check_photo(astronaut, "photo", detector) == []
    assert check_source(write_image("photo.png", astronaut)) == []


def test_an_empty_photo_is_an_error(detector):
    (finding,) = check_photo(np.full((200, 300, 3), 90, np.uint8), "photo", detector)
    assert (finding.level, finding.what) == ("error", "no face found")


def rotate(image, degrees):
    return cv2.warpAffine(image, cv2.getRotationMatrix2D((220, 120), degrees, 1.0), (512, 512))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda image: cv2.GaussianBlur(image, (0, 0), 7), "blurred"),
        (lambda image: (image * 0.12).astype(np.uint8), "dark"),
        (lambda image: cv2.resize(image, None, fx=0.18, fy=0.18, interpolation=cv2.INTER_AREA), "between the eyes"),
        (lambda image: np.hstack([image, image]), "2 faces"),
        (lambda image: rotate(image, 42), "tilted by"),
    ],
)
def test_what_spoils_a_photo_is_named_with_advice(astronaut, detector, change, said):
    findings = check_photo(change(astronaut), "photo", detector)
    assert said in whats(findings)
    assert all(finding.advice for finding in findings)

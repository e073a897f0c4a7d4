"""What is wrong with a data set or a photo, before it costs a training run or gives a wrong answer."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from robustvision.core.errors import InputError
from robustvision.core.findings import Finding
from robustvision.core.runtime.faces import Face, FaceDetector
from robustvision.core.runtime.images import IMAGE_SUFFIXES, read_image
from robustvision.face.alignment import align_face, inspect_landmarks
from robustvision.face.data.check import check

BLURRED = 20.0  # variance of the Laplacian of a 112 px crop; sharp photos have hundreds
DARK, BRIGHT = 35.0, 225.0
TILTED_DEG = 12.0  # YuNet's landmarks show a third of a large tilt: 14 degrees where the head is turned by 42


def check_source(source: Path, *, landmarks: Path | None = None) -> list[Finding]:
    """Check a data folder, a list file or a photo.

    Args:
        source: What to check; an image file counts as a photo.
        landmarks: The CSV file with the landmarks of a data set of photos.

    Returns:
        The findings, errors first; empty where nothing is wrong.

    Raises:
        InputError: The source cannot be read at all.
        MissingExtraError: A photo needs the face detector, and its extra is not installed.
    """
    if not source.exists():
        raise InputError(f"{source} is not there: give a data folder, a list file or a photo")
    if source.is_file() and source.suffix.lower() in IMAGE_SUFFIXES:
        if landmarks is not None:
            raise InputError("--landmarks belong to a data set: a photo's are found by the detector")
        return check_photo(read_image(source), str(source), FaceDetector())
    return check(source, landmarks=landmarks, quiet=False)


def check_photo(image: npt.NDArray[np.uint8], where: str, detector: FaceDetector) -> list[Finding]:
    """Say why the faces of a photo may not be recognised.

    Args:
        image: [H, W, 3] RGB uint8.
        where: What to call the photo.
        detector: Finds the faces.

    Returns:
        The findings, errors first.
    """
    faces = detector.detect(image)
    if not len(faces):
        return [Finding("error", where, "no face found", "turn the photo upright, or take one with a larger face")]
    findings = [finding for place in range(len(faces)) for finding in _check_face(image, faces[place], where, place)]
    if len(faces) > 1:
        what = f"{len(faces)} faces; the largest is taken where one person is expected"
        findings.append(Finding("warning", where, what, "crop the photo to the person who is meant"))
    return sorted(findings, key=lambda finding: finding.level != "error")


def _check_face(image: npt.NDArray[np.uint8], face: Face, where: str, place: int) -> list[Finding]:
    where = f"{where}, face {place}"
    geometry = inspect_landmarks(face.landmarks, image.shape[:2])
    grey = cv2.cvtColor(align_face(image, face.landmarks), cv2.COLOR_RGB2GRAY)
    sharpness, brightness = float(cv2.Laplacian(grey, cv2.CV_64F).var()), float(grey.mean())
    roll = abs(np.degrees(geometry.roll_rad))
    checks = [
        (geometry.is_tiny, f"only {geometry.eye_distance_px:.0f} px between the eyes", "take a closer photo"),
        (geometry.points_inside < 5, "part of the face lies outside the photo", "take a photo of the whole face"),
        (roll > TILTED_DEG, f"the face is tilted by {roll:.0f} degrees or more", "turn the photo upright"),
        (sharpness < BLURRED, f"the face is blurred (Laplacian variance {sharpness:.0f})", "take a sharper photo"),
        (brightness < DARK, f"the face is dark (mean {brightness:.0f} of 255)", "use more light"),
        (brightness > BRIGHT, f"the face is too bright (mean {brightness:.0f} of 255)", "use less light"),
    ]
    return [Finding("warning", where, what, advice) for is_so, what, advice in checks if is_so]

"""Photos in, faces out: what ``robustvision-face predict`` does, from the ONNX file alone, without torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from robustvision.core.errors import InputError
from robustvision.core.runtime.faces import FaceDetector
from robustvision.core.runtime.files import make_folder
from robustvision.core.runtime.images import read_image, write_image
from robustvision.face.pipeline import FaceRecognizer, RecognizedFace

GREEN, RED, WHITE = (40, 200, 60), (230, 60, 50), (255, 255, 255)

UInt8 = npt.NDArray[np.uint8]


def predict_photos(
    photos: Sequence[Path],
    *,
    model: Path | None = None,
    reference: Path | None = None,
    threshold: float | None = None,
    detector: Path | None = None,
    out: Path | None = None,
) -> dict[str, Any]:
    """Find and embed the faces of photos, and say which of them are the reference person.

    Args:
        photos: Image files.
        model: The ONNX file; the shipped synthetic one where None.
        reference: A photo whose largest face is the person to look for.
        threshold: Cosine above which two faces are one person; the model's calibrated one where None.
        detector: A YuNet file; that of the extra ``detector`` where None.
        out: A folder for the photos with boxes and landmarks drawn in.

    Returns:
        Plain values: the model's name, and for each photo its path, size (width, height) and faces, or an ``error``.

    Raises:
        InputError: The only photo cannot be read, the reference shows no face, or a picture would overwrite another.
    """
    if threshold is not None and reference is None:
        raise InputError("--threshold decides who is the reference: give --reference, too")
    targets = _targets(out, photos)
    finder = FaceDetector(detector)
    recognizer = FaceRecognizer.synthetic(detector=finder) if model is None else FaceRecognizer(model, detector=finder)
    wanted = None if reference is None else _reference(recognizer, reference)
    results = []
    for photo, target in zip(photos, targets, strict=True):
        try:
            image = read_image(photo)
        except InputError as error:
            if len(photos) == 1:
                raise
            results.append({"photo": str(photo), "error": str(error), "faces": []})
            continue
        faces = recognizer.recognize(image)
        rows = [_row(recognizer, face, wanted, threshold) for face in faces]
        result: dict[str, Any] = {"photo": str(photo), "size": [image.shape[1], image.shape[0]], "faces": rows}
        if target is not None:
            write_image(target, draw_faces(image, faces, rows))
            result["picture"] = str(target)
        results.append(result)
    return {"model": recognizer.model.manifest.name, "photos": results}


def _targets(out: Path | None, photos: Sequence[Path]) -> list[Path | None]:
    """Where each picture goes; two photos never share one, and no photo is overwritten."""
    if out is None:
        return [None] * len(photos)
    targets: list[Path | None] = [make_folder(out) / f"{photo.name}_faces.png" for photo in photos]
    taken = {photo.resolve() for photo in photos}
    for photo, target in zip(photos, targets, strict=True):
        if target is None or targets.count(target) > 1 or target.resolve() in taken:
            raise InputError(f"the picture of {photo} would overwrite another one, {target}: name another --out")
    return targets


def _reference(recognizer: FaceRecognizer, photo: Path) -> npt.NDArray[np.float32]:
    faces = recognizer.recognize(read_image(photo))
    if not faces:
        raise InputError(f"{photo} shows no face: pass a photo in which the person is upright and alone")
    return max(faces, key=lambda face: face.box_xywh[2] * face.box_xywh[3]).embedding


def _row(
    recognizer: FaceRecognizer, face: RecognizedFace, wanted: npt.ArrayLike | None, threshold: float | None
) -> dict[str, Any]:
    row: dict[str, Any] = {
        "box_xywh": [round(float(value), 1) for value in face.box_xywh],
        "landmarks": np.round(face.landmarks.astype(float), 1).tolist(),
        "score": face.score,
        "embedding": face.embedding.tolist(),
    }
    if wanted is not None:
        comparison = recognizer.compare(wanted, face.embedding, threshold=threshold)
        row |= {
            "cosine": comparison.cosine,
            "threshold": comparison.threshold,
            "same_person": comparison.same_person,
        }
    return row


def draw_faces(image: UInt8, faces: Sequence[RecognizedFace], rows: Sequence[dict[str, Any]]) -> UInt8:
    """Draw boxes, landmarks and cosines into a copy of a photo.

    Args:
        image: [H, W, 3] RGB uint8.
        faces: The faces found in it.
        rows: For each face its result; ``cosine`` and ``same_person`` are drawn where present.

    Returns:
        [H, W, 3] RGB uint8.
    """
    canvas = np.ascontiguousarray(image.copy())
    width = max(1, round(max(image.shape[:2]) / 400))
    for face, row in zip(faces, rows, strict=True):
        x, y, w, h = (round(float(value)) for value in face.box_xywh)
        colour = RED if row.get("same_person") is False else GREEN
        cv2.rectangle(canvas, (x, y), (x + w, y + h), colour, 2 * width)
        for point in face.landmarks:
            cv2.circle(canvas, (round(float(point[0])), round(float(point[1]))), 2 * width, WHITE, -1)
        caption = f"{row['cosine']:.2f}" if "cosine" in row else f"{face.score:.2f}"
        cv2.putText(canvas, caption, (x, max(12, y - 6)), cv2.FONT_HERSHEY_SIMPLEX, 0.5 * width, colour, width + 1)
    return canvas

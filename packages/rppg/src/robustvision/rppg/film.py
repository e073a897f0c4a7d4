"""One pass over a film that keeps a few numbers of each frame: time, brightness, colour, change, faces."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from robustvision.core.errors import InputError
from robustvision.core.runtime.faces import Faces
from robustvision.core.runtime.progress import track
from robustvision.core.runtime.video import Frame, Video, open_video
from robustvision.rppg.tracking import Detector

SATURATED = 250  # of 255
LOOK_EVERY_S = 0.5
GAP = 1.5  # of the median step; a longer step misses a frame
_SIDE_PX = 320  # larger frames are sampled, not averaged: averaging would hide noise and saturation
_BORDER = 8  # the background is the outer 1/8 of the picture, above and beside the face
_MOST_TURNS = 6

Float64 = npt.NDArray[np.float64]
UInt8 = npt.NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class FaceLooks:
    """What the detector said, twice a second.

    Attributes:
        times_s: float64 [N].
        counts: int64 [N] faces found.
        boxes_xywh: float64 [N, 4] the largest face in pixels; NaN where there was none.
        turned_deg: By how many degrees a frame without an upright face must be turned, anticlockwise, to show one;
            None where none did, or nothing had to be turned.
    """

    times_s: Float64
    counts: npt.NDArray[np.int64]
    boxes_xywh: Float64
    turned_deg: int | None


@dataclass(frozen=True, eq=False)
class Film:
    """What one pass measured.

    Attributes:
        name: The file.
        size_px: Width and height.
        fps_stated: The frame rate that the file states; None where it states none.
        times_s: float64 [T].
        is_time_estimated: bool [T] whether a time was counted from the frame rate.
        background: float64 [T, 3] mean RGB of the picture's top and sides.
        middle: float64 [T, 3] mean RGB of the face, or of the middle of the picture where none is known.
        saturated: float64 [T] share of the middle's pixels with a channel of 250 or more.
        colourfulness: float64 [T] mean of |R - G| + |G - B| over the whole picture.
        change: float64 [T-1] mean of |green - green of the frame before|.
        faces: None where nobody looked for faces.
        broke_off: Why the film could not be read to its end; None where it could.
    """

    name: str
    size_px: tuple[int, int]
    fps_stated: float | None
    times_s: Float64
    is_time_estimated: npt.NDArray[np.bool_]
    background: Float64
    middle: Float64
    saturated: Float64
    colourfulness: Float64
    change: Float64
    faces: FaceLooks | None
    broke_off: str | None

    @property
    def duration_s(self) -> float:
        """From the first frame to the last."""
        return float(self.times_s[-1] - self.times_s[0])

    @property
    def steps_s(self) -> Float64:
        """From each frame to the next, float64 [T-1]."""
        return np.diff(self.times_s)

    @property
    def fps(self) -> float:
        """Frames a second where no frame is missing; NaN for a single frame.

        The mean of the steps below 1.5 medians: dropped frames do not count, and times rounded to milliseconds average
        out, which a median would not.
        """
        steps_s = self.steps_s
        return float(1 / steps_s[steps_s < GAP * np.median(steps_s)].mean()) if len(steps_s) else float("nan")


def measure_film(
    path: str | os.PathLike[str],
    *,
    fps: float | None = None,
    detector: Detector | None = None,
    quiet: bool = False,
) -> Film:
    """Read a film once; one frame is in memory at a time.

    Args:
        path: A video file, or a folder of images with ``fps``.
        fps: Frames a second of a folder of images.
        detector: Looks for faces twice a second; None leaves that out.
        quiet: No progress.

    Returns:
        What was measured.

    Raises:
        InputError: It is no film, or not even its first frame can be read.
    """
    name = os.fspath(path)
    with open_video(path, fps=fps) as video:
        return _measure(video, name, detector, quiet)


def _measure(video: Video, name: str, detector: Detector | None, quiet: bool) -> Film:
    rows: list[tuple[float, ...]] = []
    looks = _Looks(detector)
    broke_off: str | None = None
    before: UInt8 | None = None
    shape: tuple[int, ...] = ()
    try:
        for frame in track(video, f"checking {Path(name).name}", total=video.frame_count, quiet=quiet):
            shape = frame.image.shape
            looks.look(frame)
            step = -(-max(shape[:2]) // _SIDE_PX)
            small = frame.image[::step, ::step]
            rows.append((frame.timestamp_s, float(frame.is_time_estimated), *_row(small, before, looks.box, step)))
            before = small.copy()
    except InputError as error:
        if not rows:
            raise
        broke_off = str(error)
    table = np.array(rows, np.float64)
    return Film(
        name=name,
        size_px=(shape[1], shape[0]),
        fps_stated=video.fps_nominal,
        times_s=table[:, 0],
        is_time_estimated=table[:, 1] > 0,
        background=table[:, 2:5],
        middle=table[:, 5:8],
        saturated=table[:, 8],
        colourfulness=table[:, 9],
        change=table[1:, 10],
        faces=looks.result(),
        broke_off=broke_off,
    )


def _row(image: UInt8, before: UInt8 | None, box_xywh: Float64 | None, step: int) -> tuple[float, ...]:
    height, width = image.shape[:2]
    top, side = max(height // _BORDER, 1), max(width // _BORDER, 1)
    lower = image[top : max(height * 2 // 3, top + 1)]
    parts = [image[:top].reshape(-1, 3), lower[:, :side].reshape(-1, 3), lower[:, -side:].reshape(-1, 3)]
    middle = _cut(image, box_xywh, step).reshape(-1, 3)
    red, green, blue = np.moveaxis(image.astype(np.int16), 2, 0)
    change = 0.0 if before is None else float(np.abs(green - before[..., 1]).mean())
    return (
        *np.concatenate(parts).mean(axis=0),
        *middle.mean(axis=0),
        float((middle >= SATURATED).any(axis=1).mean()),
        float((np.abs(red - green) + np.abs(green - blue)).mean()),
        change,
    )


def _cut(image: UInt8, box_xywh: Float64 | None, step: int) -> UInt8:
    """The face, or the middle half of the picture in both directions."""
    height, width = image.shape[:2]
    x, y, w, h = (width / 4, height / 4, width / 2, height / 2) if box_xywh is None else box_xywh / step
    left, top = int(np.clip(x, 0, width - 1)), int(np.clip(y, 0, height - 1))
    right, bottom = int(np.clip(x + w, left + 1, width)), int(np.clip(y + h, top + 1, height))
    return image[top:bottom, left:right]


class _Looks:
    """Looks for faces at intervals, and remembers the last box."""

    def __init__(self, detector: Detector | None) -> None:
        self.box: Float64 | None = None
        self._detector = detector
        self._next_s = 0.0
        self._rows: list[tuple[float, ...]] = []
        self._turned: list[int | None] = []

    def look(self, frame: Frame) -> None:
        if self._detector is None or frame.timestamp_s < self._next_s:
            return
        self._next_s = frame.timestamp_s + LOOK_EVERY_S
        faces = self._detector.detect(frame.image)
        box = _largest(faces)
        self.box = self.box if box is None else box
        self._rows.append((frame.timestamp_s, len(faces), *(np.full(4, np.nan) if box is None else box)))
        if box is None and len(self._turned) < _MOST_TURNS:
            self._turned.append(self._turn_to_find(frame.image))

    def _turn_to_find(self, image: UInt8) -> int | None:
        assert self._detector is not None
        for quarters in (1, 3, 2):
            if len(self._detector.detect(np.ascontiguousarray(np.rot90(image, quarters)))):
                return 90 * quarters
        return None

    def result(self) -> FaceLooks | None:
        if self._detector is None:
            return None
        table = np.array(self._rows, np.float64).reshape(-1, 6)
        found = [turn for turn in self._turned if turn is not None]
        turned = max(set(found), key=found.count) if 2 * len(found) > len(self._turned) else None
        return FaceLooks(table[:, 0], table[:, 1].astype(np.int64), table[:, 2:], turned)


def _largest(faces: Faces) -> Float64 | None:
    return np.asarray(faces.largest().box_xywh, np.float64) if len(faces) else None

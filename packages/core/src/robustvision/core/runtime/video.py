"""Reading films frame by frame, with the time of each: from a file, a camera, or a folder of images.

A frame's time is what the container says, since many recordings have no constant frame rate; where it says nothing, the
time is counted from the frame rate, and the frame says so. One frame is in memory at a time.
"""

from __future__ import annotations

import codecs
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import numpy as np

from robustvision.core.errors import InputError
from robustvision.core.runtime.image_header import image_kind
from robustvision.core.runtime.images import MAX_PIXELS, Image, list_images, read_image
from robustvision.core.runtime.opencv import cv2, quiet_opencv

_MISSING_SHARE = 0.05  # the frame count in a header is sometimes an estimate


@dataclass(frozen=True)
class Frame:
    """One frame.

    Attributes:
        image: uint8 [H, W, 3], RGB, upright.
        timestamp_s: Seconds since the first frame; strictly increasing.
        index: Number of the frame, from 0.
        is_time_estimated: Whether the time was counted from the frame rate, because the source gave none.
    """

    image: Image
    timestamp_s: float
    index: int
    is_time_estimated: bool


class Video:
    """An opened film: a context manager that is iterated once.

    Attributes:
        name: The path, or ``camera N``.
        fps_nominal: The frame rate that the source states; ``None`` if it states none.
        frame_count: The number of frames that the source states, which a container may only estimate; ``None`` if it
            states none.
    """

    def __init__(
        self,
        name: str,
        frames: Iterator[Frame],
        *,
        fps_nominal: float | None,
        frame_count: int | None,
        close: Callable[[], None] = lambda: None,
    ) -> None:
        self.name = name
        self.fps_nominal = fps_nominal
        self.frame_count = frame_count
        self._frames: Iterator[Frame] | None = frames
        self._close = close

    def __enter__(self) -> Video:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file or camera."""
        self._frames = None
        self._close()

    def __iter__(self) -> Iterator[Frame]:
        """Iterate over the frames.

        Raises:
            InputError: It was iterated already or is closed; the source has no frame, ends early, or changes its size.
        """
        if self._frames is None:
            raise InputError(f"{self.name} is read once, from front to end: open it again with open_video")
        frames, self._frames = self._frames, None
        return frames


def open_video(
    source: str | os.PathLike[str] | int, *, fps: float | None = None, max_pixels: int = MAX_PIXELS
) -> Video:
    """Open a film.

    Args:
        source: A video file, a folder of images (taken in natural order), or the number of a camera.
        fps: Frames per second of a folder of images, which has no clock of its own; only for those.
        max_pixels: Refuse larger frames before decoding.

    Returns:
        The film; use it in a ``with`` statement. Rotation that a phone noted in the file is applied. The times of a
        camera's frames are when they arrived.

    Raises:
        InputError: There is no such source; it is not a film (a play list, which could name other files and addresses,
            is refused as well); or ``fps`` is missing, not positive, or given for a source with a clock. While
            iterating, see `Video`: a file that is cut short yields its good frames first, and the error then.
    """
    is_folder = not isinstance(source, int) and Path(source).is_dir()
    if fps is not None and not is_folder:
        raise InputError(f"fps is for a folder of images: {source} has its own clock")
    if isinstance(source, int):
        return _open_camera(source)
    return _open_folder(Path(source), fps, max_pixels) if is_folder else _open_file(Path(source), max_pixels)


def _open_folder(folder: Path, fps: float | None, max_pixels: int) -> Video:
    if fps is None or not 0 < fps < float("inf"):
        raise InputError(f"{folder} is a folder of images, which has no clock: pass fps, the frames per second")
    paths = list_images(folder)

    def frames() -> Iterator[Frame]:
        shape = None
        for index, path in enumerate(paths):
            image = read_image(path, max_pixels=max_pixels)
            _check_shape(image.shape, shape, str(path))
            shape = image.shape
            yield Frame(image, index / fps, index, is_time_estimated=True)

    return Video(str(folder), frames(), fps_nominal=fps, frame_count=len(paths))


def _open_file(path: Path, max_pixels: int) -> Video:
    _check_is_film(path)
    # an absolute path cannot be taken for an address, and FFmpeg alone does not take `a_01.png` for a series of files
    backends = cv2.videoio_registry.getStreamBackends()
    backend = cv2.CAP_FFMPEG if cv2.CAP_FFMPEG in backends else cv2.CAP_ANY
    with quiet_opencv():
        capture = cv2.VideoCapture(str(path.resolve()), backend)
    if not capture.isOpened():
        raise InputError(f"{path} is not a video that OpenCV can open, or is damaged or cut short: convert it to MP4")
    width, height = (int(capture.get(key)) for key in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT))
    if width * height > max_pixels:
        capture.release()
        raise InputError(f"{path} has frames of {width}x{height} pixels, more than the {max_pixels:,} allowed")
    fps = _stated_fps(capture)
    stated = capture.get(cv2.CAP_PROP_FRAME_COUNT)
    count = int(stated) if 0 < stated < 2**40 else None  # a container without one gives a huge negative number
    frames = _file_frames(capture, str(path), fps, count)
    return Video(str(path), frames, fps_nominal=fps, frame_count=count, close=capture.release)


def _check_is_film(path: Path) -> None:
    try:
        with path.open("rb") as file:
            head = file.read(512)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error
    if not head:
        raise InputError(f"{path} is empty: copy it again")
    if image_kind(head) not in (None, "gif"):
        raise InputError(f"{path} is a single image: use read_image, or give the folder with the whole series")
    if _is_text(head):
        raise InputError(f"{path} is text (a play list?), not a film: give the video file itself")


def _is_text(head: bytes) -> bool:
    try:
        text = codecs.getincrementaldecoder("utf-8")().decode(head)  # a character may be cut at the end
    except UnicodeDecodeError:
        return False
    return all(character.isprintable() or character in "\t\r\n\ufeff" for character in text)


def _file_frames(capture: cv2.VideoCapture, name: str, fps: float | None, count: int | None) -> Iterator[Frame]:
    """FFmpeg states a frame's own time after it was read (before, it is still that of the frame before)."""
    shape: tuple[int, ...] | None = None
    start_s, last_s, index = 0.0, 0.0, 0
    while True:
        with quiet_opencv():
            is_read, bgr = capture.read()
        if not is_read:
            break
        _check_shape(bgr.shape, shape, f"{name}, frame {index}")
        shape = bgr.shape
        stated_s = capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
        start_s = start_s if index else stated_s
        is_estimated = index > 0 and not stated_s - start_s > last_s
        if is_estimated and not fps:
            raise InputError(f"{name} states neither times nor a frame rate: convert it to MP4")
        last_s = last_s + 1 / (fps or 1) if is_estimated else stated_s - start_s
        yield Frame(_rgb(bgr), last_s, index, is_estimated)
        index += 1
    if not index:
        raise InputError(f"{name} has no frame that can be decoded: convert it to MP4")
    # Some containers hold no count, and FFmpeg takes duration times rate: a film of varying rate has fewer frames.
    if count and count - max(index, last_s * (fps or 0) + 1) > max(1, _MISSING_SHARE * count):
        raise InputError(f"{name} is cut short: it has {index} of the {count} frames that it states")


def _open_camera(number: int) -> Video:
    with quiet_opencv():
        capture = cv2.VideoCapture(number)
    if not capture.isOpened():
        raise InputError(f"camera {number} cannot be opened: check that it is connected, free, and that you may use it")

    def frames() -> Iterator[Frame]:
        start_s, last_s, index = 0.0, 0.0, 0
        while True:
            is_read, bgr = capture.read()
            if not is_read:
                raise InputError(f"camera {number} gives no more frames (after {index}): check its connection")
            now_s = time.monotonic()
            start_s = start_s if index else now_s
            # a coarse clock may stand still between two frames
            last_s = max(now_s - start_s, float(np.nextafter(last_s, np.inf)) if index else 0.0)
            yield Frame(_rgb(bgr), last_s, index, is_time_estimated=False)
            index += 1

    return Video(
        f"camera {number}", frames(), fps_nominal=_stated_fps(capture), frame_count=None, close=capture.release
    )


def _stated_fps(capture: cv2.VideoCapture) -> float | None:
    fps = capture.get(cv2.CAP_PROP_FPS)
    return fps if 0 < fps < 1e5 else None


def _rgb(bgr: cv2.typing.MatLike) -> Image:
    return np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), np.uint8)


def _check_shape(found: tuple[int, ...], shape: tuple[int, ...] | None, name: str) -> None:
    if shape is not None and found != shape:
        raise InputError(
            f"{name} is {found[1]}x{found[0]} pixels, the frames before are {shape[1]}x{shape[0]}: "
            "give frames of one size"
        )

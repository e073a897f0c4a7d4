"""From frames of any size and any clock to what networks and classical methods take: small crops of one face and the
mean colour of its skin, on a uniform time grid.

Training, evaluation and the live estimator all pass through here, so they cannot drift apart. A frame without a face is
said to be one (``has_face`` False, its trace NaN); nothing is made up for it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import numpy.typing as npt

from robustvision.core.errors import InputError
from robustvision.core.runtime.opencv import cv2
from robustvision.rppg.skin import mean_colours
from robustvision.rppg.time_grid import Sample, TimeGrid
from robustvision.rppg.tracking import BoxTracker, Detector

UInt8 = npt.NDArray[np.uint8]
Float64 = npt.NDArray[np.float64]
Bool = npt.NDArray[np.bool_]

_BATCH = 64  # samples of which the skin is averaged at once


@dataclass(frozen=True)
class Preprocessing:
    """How a face becomes the network's input.

    Attributes:
        size_px: Side of the square crop.
        enlarge: How much larger than the face box the crop is, about the same centre.
        fs: Frames a second of the uniform grid.

    Raises:
        InputError: A number is out of its range.
    """

    size_px: int = 36
    enlarge: float = 1.5
    fs: float = 30.0

    def __post_init__(self) -> None:
        if self.size_px < 4 or not 0 < self.enlarge < 10 or not 0 < self.fs < 1000:
            raise InputError(
                f"size_px={self.size_px}, enlarge={self.enlarge}, fs={self.fs}: the crop must have at least 4 px, "
                "enlarge lies between 0 and 10, fs between 0 and 1000 Hz"
            )

    def crop(self, image: UInt8, box_xywh: npt.ArrayLike) -> UInt8:
        """Cut the face out and bring it to size with area averaging, which keeps mean colours.

        The edges of the enlarged box are rounded to the nearest pixel; what lies beyond the picture is left out, so a
        face at the border comes out stretched, and never padded with a colour that is not its own.

        Args:
            image: uint8 [H, W, 3], RGB.
            box_xywh: [4] left, top, width and height of the face in pixels, fractions allowed.

        Returns:
            uint8 [size_px, size_px, 3].

        Raises:
            InputError: The image is no such array, or the box shows none of it.
        """
        check_image(image)
        crop = self.crop_if_seen(image, np.asarray(box_xywh, np.float64).tolist())
        if crop is None:
            raise InputError(
                f"the box {np.asarray(box_xywh).tolist()} shows nothing of the image of {image.shape[1]}x"
                f"{image.shape[0]} px: give x, y, width, height in its pixels, or say that there is no face"
            )
        return crop

    def crop_if_seen(self, image: UInt8, box_xywh: Sequence[float]) -> UInt8 | None:
        """Do what `crop` does with a checked image, or return None where the box shows nothing of it."""
        edges = self.pixel_edges(image.shape, box_xywh)
        if edges is None:
            return None
        left, top, right, bottom = edges
        return _shrink(image[top:bottom, left:right], self.size_px)

    def pixel_edges(self, shape: tuple[int, ...], box_xywh: Sequence[float]) -> tuple[int, int, int, int] | None:
        """Return left, top, right and bottom of the crop in an image of ``shape``; None where nothing of it is seen."""
        x, y, width, height = box_xywh
        if not (math.isfinite(x + y) and 0 < width < math.inf and 0 < height < math.inf):
            return None
        half_width, half_height = self.enlarge * width / 2, self.enlarge * height / 2
        centre_x, centre_y = x + width / 2, y + height / 2
        left, right = _pixel(centre_x - half_width, shape[1]), _pixel(centre_x + half_width, shape[1])
        top, bottom = _pixel(centre_y - half_height, shape[0]), _pixel(centre_y + half_height, shape[0])
        return (left, top, right, bottom) if right > left and bottom > top else None


@dataclass(frozen=True)
class Prepared:
    """A film after preprocessing: one face on a uniform grid.

    Attributes:
        fs: Samples a second.
        start_s: The time of the first sample; sample k lies at ``start_s + k / fs``.
        frames: uint8 [T, S, S, 3] crops; black where there is no face.
        traces: float64 [T, 3] mean RGB of the skin, 0..255; NaN where there is no face.
        has_face: bool [T].
        track: int64 [T], a number for each stretch in which one face was followed; -1 where there is none.
    """

    fs: float
    start_s: float
    frames: UInt8
    traces: Float64
    has_face: Bool
    track: npt.NDArray[np.int64]


def prepare(
    frames: Iterable[tuple[UInt8, float]],
    preprocessing: Preprocessing,
    *,
    boxes_xywh: npt.ArrayLike | None = None,
    detector: Detector | None = None,
) -> Prepared:
    """Bring a film onto the grid, one frame in memory at a time.

    Args:
        frames: Pairs of an image, uint8 [H, W, 3] RGB, and its time in seconds, which must not run backwards; a frame
            with the time of the one before is left out.
        preprocessing: The crop's size and the grid's rate.
        boxes_xywh: [T, 4] the face's box in every frame, NaN where there is none; None looks for it.
        detector: Finds faces where no boxes are given; core's ``FaceDetector`` by default.

    Returns:
        The crops and traces. Between two frames they are interpolated linearly; across more than
        ``time_grid.MAX_GAP_S`` without a frame there is no face.

    Raises:
        InputError: No frame, a frame that is no RGB image, times that run backwards, or too few boxes.
    """
    samples = _samples(frames, preprocessing, boxes_xywh, detector)
    side = preprocessing.size_px
    black = np.zeros((side, side, 3), np.uint8)
    times_s: list[float] = []
    crops, traces, track = [np.empty((0, side, side, 3), np.uint8)], [np.empty((0, 3))], [np.empty(0, np.int64)]
    while batch := list(islice(samples, _BATCH)):
        times_s.append(batch[0].time_s)
        crops.append(np.stack([black if sample.crop is None else sample.crop for sample in batch]))
        traces.append(mean_colours(batch))
        track.append(np.array([sample.track for sample in batch], np.int64))
    if not times_s:
        raise InputError("the film has no frame: give at least one")
    colours = np.concatenate(traces)
    return Prepared(
        fs=preprocessing.fs,
        start_s=times_s[0],
        frames=np.concatenate(crops),
        traces=colours,
        has_face=np.isfinite(colours[:, 0]),
        track=np.concatenate(track),
    )


def _samples(
    frames: Iterable[tuple[UInt8, float]],
    preprocessing: Preprocessing,
    boxes_xywh: npt.ArrayLike | None,
    detector: Detector | None,
) -> Iterator[Sample]:
    known = None if boxes_xywh is None else np.asarray(boxes_xywh, np.float64)
    tracker = BoxTracker(detector)
    grid = TimeGrid(preprocessing.fs)
    for index, (image, timestamp_s) in enumerate(frames):
        check_image(image)
        if known is not None and (known.shape[1:] != (4,) or index >= len(known)):
            raise InputError(
                f"boxes_xywh is {list(known.shape)}, but there is a frame {index}: give [T, 4], one a frame"
            )
        found = tracker.update(image, timestamp_s, None if known is None else known[index], is_given=known is not None)
        box = found.box_xywh
        crop = None if box is None else preprocessing.crop_if_seen(image, box)
        yield from grid.push(timestamp_s, crop, found.track)


def check_image(image: Any) -> None:
    """Refuse what is no frame.

    Raises:
        InputError: Not uint8 [H, W, 3]. Grey, float and 10-bit frames are refused, not converted: a pulse is a change
            of colour of less than one step of 255, which a silent conversion can remove.
    """
    if isinstance(image, np.ndarray) and image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3:
        if image.size:
            return
        raise InputError(f"a frame is empty: uint8{list(image.shape)}")
    found = f"{image.dtype}{list(image.shape)}" if isinstance(image, np.ndarray) else type(image).__name__
    raise InputError(f"a frame is {found}, but must be RGB, uint8[H, W, 3]: read films with core's open_video")


def _shrink(image: UInt8, size_px: int) -> UInt8:
    """Bring a picture to size by area; a large one is halved first, which OpenCV does ten times as fast.

    The last step shrinks by more than 2, so that few pixels lie across the edges of the result's. Where a side cannot
    be halved so often, the rest is left out on both sides, less than half a percent of it.
    """
    height, width = image.shape[:2]
    halvings = max(0, math.ceil(math.log2(min(height, width) / (4 * size_px))))
    if halvings:
        rest_y, rest_x = height % 2**halvings, width % 2**halvings
        height, width, top, left = height - rest_y, width - rest_x, rest_y // 2, rest_x // 2
        image = image[top : top + height, left : left + width]
    for _ in range(halvings):
        height, width = height // 2, width // 2
        image = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)  # type: ignore[assignment]
    return cv2.resize(image, (size_px, size_px), interpolation=cv2.INTER_AREA)  # type: ignore[return-value]


def _pixel(edge: float, size: int) -> int:
    return int(min(max(math.floor(edge + 0.5), 0), size))

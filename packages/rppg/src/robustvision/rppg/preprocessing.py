"""From frames of any size and any clock to what networks and classical methods take: small crops of one face and the
mean colour of its skin, on a uniform time grid.

Training, evaluation and the live estimator all pass through here, so they cannot drift apart. A frame without a face is
said to be one (``has_face`` False, its trace NaN); nothing is made up for it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from robustvision.core.errors import InputError
from robustvision.core.runtime.opencv import cv2
from robustvision.rppg.time_grid import Sample, TimeGrid
from robustvision.rppg.tracking import BoxTracker, Detector

UInt8 = npt.NDArray[np.uint8]
Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]
Bool = npt.NDArray[np.bool_]

SKIN_CR, SKIN_CB = (133.0, 173.0), (77.0, 127.0)
_RULE_LUMA = 128.0  # the brightness at which the rule is applied
_LEAST_WEIGHT = 0.1  # of a pixel in the ellipse that does not look like skin
_EDGE = 8.0  # width of the edge of the rule, in steps of chroma
_BLUR_PX = (3, 3)
_STEPS = np.arange(-128, 128, dtype=np.float32)[None, :, None]
_LOW, _HIGH = np.array([(-1e6, 1e6), SKIN_CR, SKIN_CB], np.float32).T  # any luma
_MIDDLE, _HALF = (_LOW + _HIGH) / 2 - 128, (_HIGH - _LOW) / 2


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
        crop = self.crop_if_seen(image, box_xywh)
        if crop is None:
            raise InputError(
                f"the box {np.asarray(box_xywh).tolist()} shows nothing of the image of {image.shape[1]}x"
                f"{image.shape[0]} px: give x, y, width, height in its pixels, or say that there is no face"
            )
        return crop

    def crop_if_seen(self, image: UInt8, box_xywh: npt.ArrayLike) -> UInt8 | None:
        """Do what `crop` does with a checked image, or return None where the box shows nothing of it."""
        edges = self.pixel_edges(image.shape, box_xywh)
        if edges is None:
            return None
        left, top, right, bottom = edges
        return _shrink(image[top:bottom, left:right], self.size_px)

    def pixel_edges(self, shape: tuple[int, ...], box_xywh: npt.ArrayLike) -> tuple[int, int, int, int] | None:
        """Return left, top, right and bottom of the crop in an image of ``shape``; None where nothing of it is seen."""
        x, y, width, height = np.asarray(box_xywh, np.float64).tolist()
        if not (math.isfinite(x + y) and 0 < width < math.inf and 0 < height < math.inf):
            return None
        half_width, half_height = self.enlarge * width / 2, self.enlarge * height / 2
        centre_x, centre_y = x + width / 2, y + height / 2
        left, right = (_pixel(centre_x + side * half_width, shape[1]) for side in (-1, 1))
        top, bottom = (_pixel(centre_y + side * half_height, shape[0]) for side in (-1, 1))
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
    known = None if boxes_xywh is None else np.asarray(boxes_xywh, np.float64)
    tracker = BoxTracker(detector)
    grid = TimeGrid(preprocessing.fs)
    samples: list[Sample] = []
    for index, (image, timestamp_s) in enumerate(frames):
        check_image(image)
        if known is not None and (known.shape[1:] != (4,) or index >= len(known)):
            raise InputError(
                f"boxes_xywh is {list(known.shape)}, but there is a frame {index}: give [T, 4], one a frame"
            )
        found = tracker.update(image, timestamp_s, None if known is None else known[index], is_given=known is not None)
        box = found.box_xywh
        crop = None if box is None else preprocessing.crop_if_seen(image, box)
        samples += grid.push(timestamp_s, crop, None if crop is None else skin_mean(crop), found.track)
    if not samples:
        raise InputError("the film has no frame: give at least one")
    return _stack(samples, preprocessing)


def _stack(samples: list[Sample], preprocessing: Preprocessing) -> Prepared:
    side = preprocessing.size_px
    black, unknown = np.zeros((side, side, 3), np.uint8), np.full(3, np.nan)
    return Prepared(
        fs=preprocessing.fs,
        start_s=samples[0].time_s,
        frames=np.stack([black if sample.crop is None else sample.crop for sample in samples]),
        traces=np.stack([unknown if sample.trace is None else sample.trace for sample in samples]),
        has_face=np.array([sample.crop is not None for sample in samples]),
        track=np.array([sample.track for sample in samples], np.int64),
    )


def skin_weights(crop: UInt8) -> Float32:
    """Weigh the pixels of a crop of a face that was enlarged 1.5 times: 1 for skin, 0 for what is outside the face.

    A pixel counts fully that lies in the face's ellipse, outside the bands of eyes and mouth, and has skin's chroma,
    taken at one common brightness so that neither dark skin nor a dark room fails the rule; the rest of the ellipse
    counts a tenth, so that coloured light or a grey film leave the whole ellipse. The weights change smoothly with the
    picture: pixels that hop in and out of a mask with the camera's noise would write a false pulse into the mean.

    Args:
        crop: uint8 [S, S, 3], RGB.

    Returns:
        float32 [S, S].

    References:
        Chai, Ngan: Face segmentation using skin-color map in videophone applications, 1999 (the range of Cr and Cb);
        the ellipse, the bands, the common brightness and the smooth edges are this project's choice.
    """
    ellipse = _face_ellipse(*crop.shape[:2])
    smooth = cv2.blur(cv2.cvtColor(crop, cv2.COLOR_RGB2YCrCb), _BLUR_PX)
    gain = _RULE_LUMA * float(ellipse.sum()) / max(float(np.vdot(smooth[..., 0].astype(np.float32), ellipse)), 1.0)
    inside = (_HALF - np.abs(np.float32(gain) * _STEPS - _MIDDLE)) / _EDGE + 0.5  # for each of 256 values
    _, red, blue = cv2.split(cv2.LUT(smooth, np.minimum(np.maximum(inside, 0), 1)))
    return np.asarray(ellipse * (_LEAST_WEIGHT + (1 - _LEAST_WEIGHT) * red * blue), np.float32)


def skin_mean(crop: UInt8) -> Float64:
    """Average the skin of a crop, weighted by `skin_weights`.

    Args:
        crop: uint8 [S, S, 3], RGB.

    Returns:
        float64 [3], mean R, G and B in 0..255.
    """
    weights = skin_weights(crop).reshape(-1).astype(np.float64)
    return np.asarray(weights @ crop.reshape(-1, 3).astype(np.float64) / weights.sum())


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


@lru_cache(maxsize=8)
def _face_ellipse(height: int, width: int) -> Float32:
    """The face without the bands of eyes and mouth; the face's box takes the middle two thirds of the crop."""
    y, x = np.mgrid[0:height, 0:width]
    y, x = (y + 0.5) / height - 0.5, (x + 0.5) / width - 0.5
    ellipse = (x / 0.27) ** 2 + (y / 0.34) ** 2 <= 1
    eyes = (np.abs(y + 0.09) < 0.05) & (np.abs(x) < 0.22)
    mouth = (np.abs(y - 0.17) < 0.05) & (np.abs(x) < 0.12)
    mask: Float32 = (ellipse & ~eyes & ~mouth).astype(np.float32)
    mask.flags.writeable = False
    return mask


def _shrink(image: UInt8, size_px: int) -> UInt8:
    """Bring a picture to size by area; a large one is halved first, which OpenCV does ten times as fast.

    The last step shrinks by more than 2, so that few pixels lie across the edges of the result's. Where a side cannot
    be halved so often, the rest is left out on both sides, less than half a percent of it.
    """
    height, width = image.shape[:2]
    halvings = max(0, math.ceil(math.log2(min(height, width) / (4 * size_px))))
    if halvings:
        top, left = height % 2**halvings // 2, width % 2**halvings // 2
        image = image[top : top + height - height % 2**halvings, left : left + width - width % 2**halvings]
    for _ in range(halvings):
        size = (image.shape[1] // 2, image.shape[0] // 2)
        image = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
    return np.asarray(cv2.resize(image, (size_px, size_px), interpolation=cv2.INTER_AREA), np.uint8)


def _pixel(edge: float, size: int) -> int:
    return int(min(max(math.floor(edge + 0.5), 0), size))

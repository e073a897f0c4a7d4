"""The skin in crops of a face and its mean colour, of many crops at once: one by one costs three times as much."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from robustvision.core.runtime.opencv import cv2
from robustvision.rppg.time_grid import Sample

UInt8 = npt.NDArray[np.uint8]
Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]

SKIN_CR, SKIN_CB = (133.0, 173.0), (77.0, 127.0)
_RULE_LUMA = 128.0  # the brightness at which the rule is applied
_LEAST_WEIGHT = 0.1  # of a pixel in the ellipse that does not look like skin
_EDGE = 8.0  # width of the edge of the rule, in steps of chroma
_BLUR_PX = (3, 3)
_LOW, _HIGH = np.array([SKIN_CR, SKIN_CB], np.float32).T
_MIDDLE, _HALF = (_LOW + _HIGH) / 2 - 128, (_HIGH - _LOW) / 2


def skin_weights(crops: UInt8) -> Float32:
    """Weigh the pixels of a crop of a face that was enlarged 1.5 times: 1 for skin, 0 for what is outside the face.

    A pixel counts fully that lies in the face's ellipse, outside the bands of eyes and mouth, and has skin's chroma,
    taken at one common brightness so that neither dark skin nor a dark room fails the rule; the rest of the ellipse
    counts a tenth, so that coloured light or a grey film leave the whole ellipse. The weights change smoothly with the
    picture: pixels that hop in and out of a mask with the camera's noise would write a false pulse into the mean.

    Args:
        crops: uint8 [..., S, S, 3], RGB; every crop is weighed for itself.

    Returns:
        float32 [..., S, S].

    References:
        Chai, Ngan: Face segmentation using skin-color map in videophone applications, 1999 (the range of Cr and Cb);
        the ellipse, the bands, the common brightness and the smooth edges are this project's choice.
    """
    inside, weights = _weigh(crops.reshape(-1, *crops.shape[-3:]))
    whole = np.zeros((len(weights), crops.shape[-3] * crops.shape[-2]), np.float32)
    whole[:, inside] = weights
    return whole.reshape(crops.shape[:-1])


def skin_mean(crops: UInt8) -> Float64:
    """Average the skin of crops, weighted by `skin_weights`.

    Args:
        crops: uint8 [..., S, S, 3], RGB.

    Returns:
        float64 [..., 3], mean R, G and B in 0..255. That of a crop is the same whichever others it comes with.
    """
    flat = crops.reshape(-1, *crops.shape[-3:])
    inside, weights = _weigh(flat)
    pixels = np.take(flat.reshape(len(flat), -1, 3), inside, axis=1).astype(np.float64)
    exact = weights.astype(np.float64)
    means = (exact[:, None] @ pixels)[:, 0] / exact.sum(axis=1, keepdims=True)
    return means.reshape(*crops.shape[:-3], 3)


def mean_colours(samples: Sequence[Sample]) -> Float64:
    """Return the mean colour of the skin at samples of the time grid, float64 [T, 3]; NaN where there is no face.

    It is interpolated as the sample is, from the means of the frames: those of an interpolated crop, which is rounded,
    would be less exact.
    """
    has_face = [sample.between is not None for sample in samples]
    seen = [sample.between for sample in samples if sample.between is not None]
    colours = np.full((len(samples), 3), np.nan)
    if seen:
        frames = {id(crop): crop for *both, _ in seen for crop in both}
        places = {key: place for place, key in enumerate(frames)}
        means = skin_mean(np.stack(list(frames.values())))
        before, after = (means[[places[id(one[end])] for one in seen]] for end in (0, 1))
        colours[has_face] = before + np.array([[weight] for *_, weight in seen]) * (after - before)
    return colours


def _weigh(crops: UInt8) -> tuple[npt.NDArray[np.intp], Float32]:
    """The pixels in the ellipse, as flat indices [P], and their weights [N, P].

    The crops [N, S, S, 3] are smoothed as one strip: what bleeds into a crop from the next stays in its first and last
    row, which lie outside the ellipse.
    """
    count, height, width, _ = crops.shape
    inside = _face_pixels(height, width)
    strip = cv2.cvtColor(crops.reshape(count * height, width, 3), cv2.COLOR_RGB2YCrCb)
    smooth = np.take(cv2.blur(strip, _BLUR_PX).reshape(count, height * width, 3), inside, axis=1)
    luma = smooth[..., 0].sum(axis=1, dtype=np.int64)
    gain = (_RULE_LUMA * len(inside) / np.maximum(luma, 1)).astype(np.float32)
    chroma = gain[:, None, None] * (smooth[..., 1:].astype(np.float32) - 128)
    likeness = np.clip((_HALF - np.abs(chroma - _MIDDLE)) / _EDGE + np.float32(0.5), 0, 1)
    weights = _LEAST_WEIGHT + (1 - _LEAST_WEIGHT) * likeness[..., 0] * likeness[..., 1]
    return inside, weights


@lru_cache(maxsize=8)
def _face_pixels(height: int, width: int) -> npt.NDArray[np.intp]:
    """The face without the bands of eyes and mouth; the face's box takes the middle two thirds of the crop."""
    y, x = np.mgrid[0:height, 0:width]
    y, x = (y + 0.5) / height - 0.5, (x + 0.5) / width - 0.5
    ellipse = (x / 0.27) ** 2 + (y / 0.34) ** 2 <= 1
    eyes = (np.abs(y + 0.09) < 0.05) & (np.abs(x) < 0.22)
    mouth = (np.abs(y - 0.17) < 0.05) & (np.abs(x) < 0.12)
    pixels = np.flatnonzero(ellipse & ~eyes & ~mouth)
    pixels.flags.writeable = False
    return pixels

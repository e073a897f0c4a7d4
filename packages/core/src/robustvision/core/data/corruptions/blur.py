"""Blur of the lens, of motion, and of glass in between."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from robustvision.core.data.corruptions.fields import Shape, pixel_scale
from robustvision.core.data.corruptions.kernels import Filter, Image, disk, scaled, smooth, trail
from robustvision.core.runtime.opencv import cv2


def defocus_blur(shape: Shape, severity: int, rng: np.random.Generator) -> Filter:
    """Out of focus: the mean over a disk."""
    radius, edge_sigma = ((3, 0.1), (4, 0.5), (6, 0.5), (8, 0.5), (10, 0.5))[severity - 1]
    kernel = scaled(disk(radius, edge_sigma), pixel_scale(shape))
    return lambda image: cv2.filter2D(image, -1, kernel)


def glass_blur(shape: Shape, severity: int, rng: np.random.Generator) -> Filter:
    """Frosted glass: blur, give each pixel the value of a random neighbour, several times over, and blur again."""
    sigma, reach, times = ((0.7, 1, 2), (0.9, 2, 1), (1, 2, 3), (1.1, 3, 2), (1.5, 4, 2))[severity - 1]
    height, width = shape[:2]
    scale = pixel_scale(shape)
    places = np.arange(height * width)
    for _ in range(times):
        places = places[_shuffled_places(height, width, reach, rng)]
    if scale != 1:  # shorten or lengthen the moves, rounded up or down at random
        start = np.stack(np.divmod(np.arange(height * width), width))
        moves = scale * (np.stack(np.divmod(places, width)) - start)
        rows, columns = start + np.floor(moves + rng.random(moves.shape)).astype(int)
        places = np.clip(rows, 0, height - 1) * width + np.clip(columns, 0, width - 1)

    def apply(image: Image) -> Image:
        blurred = smooth(image, sigma, scale).reshape(height * width, -1)
        return smooth(blurred.take(places, axis=0).reshape(image.shape), sigma, scale)

    return apply


def _shuffled_places(height: int, width: int, reach: int, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """From which pixel each takes its value, as flat places [H W].

    The published loop goes from the last pixel to the first, and overwrites each by a neighbour that may have been
    overwritten before. So a place points to another, that on to a third, as long as they ascend: all such chains are
    followed at once, by pointing each place to where its target points.
    """
    places: npt.NDArray[np.int64] = np.arange(height * width).reshape(height, width)
    inner = (slice(reach + 1, height - reach + 1), slice(reach + 1, width - reach + 1))  # the loop leaves out a border
    steps = rng.integers(-reach, reach, (2, *places[inner].shape))
    target = places.copy()
    target[inner] += steps[0] * width + steps[1]
    target, places = target.ravel(), places.ravel()
    following = np.maximum(target, places)  # where a chain goes on; it ends at itself
    while not np.array_equal(further := following[following], following):
        following = further
    return target[following]


def motion_blur(shape: Shape, severity: int, rng: np.random.Generator) -> Filter:
    """A moving camera: a fading trail, at up to 45 degrees to the horizontal."""
    radius, sigma = ((10, 3), (15, 5), (15, 8), (15, 12), (20, 15))[severity - 1]
    kernel = scaled(trail(radius, sigma, rng.uniform(-45, 45)), pixel_scale(shape))
    return lambda image: cv2.filter2D(image, -1, kernel, borderType=cv2.BORDER_REPLICATE)


def zoom_blur(shape: Shape, severity: int, rng: np.random.Generator) -> Filter:
    """A camera that moves forward: the mean of the image and its enlargements about the centre."""
    stop, step = ((1.11, 0.01), (1.16, 0.01), (1.21, 0.02), (1.26, 0.02), (1.31, 0.03))[severity - 1]
    factors = np.arange(1, stop, step)
    height, width = shape[:2]
    centre = np.array([width - 1, height - 1]) / 2

    def apply(image: Image) -> Image:
        total = image.astype(np.float32)
        for factor in factors:
            matrix = np.column_stack([np.eye(2) / factor, centre * (1 - 1 / factor)])
            enlarged = cv2.warpAffine(image, matrix, (width, height), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
            cv2.accumulate(enlarged, total)
        return cv2.convertScaleAbs(total, alpha=1 / (len(factors) + 1))

    return apply


def gaussian_blur(shape: Shape, severity: int, rng: np.random.Generator) -> Filter:
    """The mean under a Gaussian."""
    sigma, scale = (1, 2, 3, 4, 6)[severity - 1], pixel_scale(shape)
    return lambda image: smooth(image, sigma, scale)

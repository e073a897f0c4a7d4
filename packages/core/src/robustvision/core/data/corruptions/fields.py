"""Random fields over the image plane, and the rule by which lengths follow the size of an image.

The published numbers are for images of 224 pixels. Here a length in pixels is scaled by the short side over 224, and
the fields of weather and warping are drawn on a canvas whose short side is 224, then fitted to the image. So a
corruption looks alike at every size, and at 224 the published numbers hold as they are.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from robustvision.core.data.corruptions.kernels import fern
from robustvision.core.runtime.opencv import cv2

REFERENCE_SIZE = 224
_LONGEST = 4  # of a canvas, in short sides: beyond, the field is stretched

Field = npt.NDArray[Any]
"""float32, [h, w]."""
Shape = tuple[int, ...]


def pixel_scale(shape: Shape) -> float:
    """By how much a published length in pixels is multiplied for an image [H, W, ...]."""
    return min(shape[:2]) / REFERENCE_SIZE


def canvas(shape: Shape) -> tuple[int, int]:
    """Height and width of the canvas on which the fields of an image [H, W, ...] are drawn."""
    short, long = min(shape[:2]), max(shape[:2])
    longer = round(REFERENCE_SIZE * min(long / short, _LONGEST))
    return (REFERENCE_SIZE, longer) if shape[0] <= shape[1] else (longer, REFERENCE_SIZE)


def fit(field: Field, shape: Shape) -> Field:
    """Bring a field from its canvas to an image's size."""
    size = (shape[1], shape[0])
    shrinks = shape[0] < field.shape[0]
    return cv2.resize(field, size, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)


def plasma(size: tuple[int, int], decay: float, rng: np.random.Generator) -> Field:
    """Clouds: a height map by the diamond-square algorithm on a torus, in [0, 1].

    Each halving of the grid adds uniform noise, ``decay ** 2`` times weaker than the one before.
    """
    field, amplitude = np.zeros((1, 1)), 1.0
    while len(field) < max(size):
        count = len(field)
        noise = rng.uniform(-amplitude, amplitude, (3, count, count))
        right, below = np.roll(field, -1, axis=1), np.roll(field, -1, axis=0)
        centres = (field + right + below + np.roll(right, -1, axis=0)) / 4 + noise[0]
        finer = np.empty((2 * count, 2 * count))
        finer[::2, ::2] = field
        finer[1::2, 1::2] = centres
        finer[::2, 1::2] = (field + right + centres + np.roll(centres, 1, axis=0)) / 4 + noise[1]
        finer[1::2, ::2] = (field + below + centres + np.roll(centres, 1, axis=1)) / 4 + noise[2]
        field, amplitude = finer, amplitude / decay**2
    low, high = field.min(), field.max()
    return ((field - low) / (high - low))[: size[0], : size[1]].astype(np.float32)


def smooth_noise(size: tuple[int, int], sigma: float, rng: np.random.Generator) -> Field:
    """Uniform noise in [-1, 1], blurred by a Gaussian out to three deviations, reflected at the border."""
    noise = rng.uniform(-1, 1, size).astype(np.float32)
    return _blur_matrix(size[0], sigma) @ noise @ _blur_matrix(size[1], sigma).T


@lru_cache(maxsize=16)
def _blur_matrix(count: int, sigma: float) -> Field:
    """[count, count]: the blur as a product, since a Gaussian wider than the image makes a slow convolution."""
    reach = int(3 * sigma + 0.5)
    weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    source = np.pad(np.arange(count), reach, mode="symmetric")
    matrix = np.zeros((count, count))
    rows = np.repeat(np.arange(count), len(weights))
    windows = np.lib.stride_tricks.sliding_window_view(source, len(weights))
    np.add.at(matrix, (rows, windows.ravel()), np.tile(weights / weights.sum(), count))
    return matrix.astype(np.float32)


def frost_texture(size: tuple[int, int], rng: np.random.Generator) -> Field:
    """A frosted window, [h, w, 3] in [0, 1]: fern crystals of eight directions over a cloudy, bluish ground.

    The publication lays photos of frost over the image. This stands in for them, with about their mean brightness (0.6)
    and contrast.
    """
    crystals = np.zeros(size, np.float32)
    for rotation in rng.uniform(0, 2 * np.pi, 8):
        seeds = rng.random(size, dtype=np.float32)
        seeds = np.where(seeds < 0.001, 1000 * seeds, 0)  # one pixel in 1000, with a height in [0, 1]
        crystals = np.maximum(crystals, cv2.filter2D(seeds, -1, fern(rotation), borderType=cv2.BORDER_REFLECT))
    ground = plasma(size, 1.7, rng)
    texture = 0.35 + 0.3 * ground + 0.6 * np.minimum(crystals, 1) * (0.4 + 0.6 * ground)
    return np.clip(texture[..., None] * np.array([0.9, 1.0, 1.07], np.float32), 0, 1)

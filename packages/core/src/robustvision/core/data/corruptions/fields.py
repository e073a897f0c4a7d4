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
    """A frosted window, [h, w, 3] in [0, 1]: fern crystals over a cloudy, bluish ground.

    The publication lays photos of frost over the image. This stands in for them, with about their mean brightness
    (0.64) and contrast.
    """
    ground = plasma(size, 1.7, rng)
    texture = 0.41 + 0.3 * ground + 0.6 * _ferns(size, rng) * (0.4 + 0.6 * ground)
    return np.clip(texture[..., None] * np.array([0.9, 1.0, 1.07], np.float32), 0, 1)


def _ferns(size: tuple[int, int], rng: np.random.Generator) -> Field:
    """Ice as it grows on glass, in [0, 1]: stems with branches at 60 degrees on both sides, one in 150 pixels."""
    layers = 4  # of rising brightness, so that what is bright lies on top
    count = max(1, round(size[0] * size[1] / 150 / layers))
    drawing = np.zeros(size, np.uint8)
    along = np.linspace(0.15, 0.85, 5)
    for layer in range(1, layers + 1):
        root = rng.uniform(0, 1, (count, 1, 2)) * (size[1], size[0])
        angle, length = rng.uniform(0, 2 * np.pi, (count, 1)), rng.uniform(12, 28, (count, 1))
        start = root + (along * length)[..., None] * _direction(angle)
        for side in (-np.pi / 3, np.pi / 3):
            end = start + (0.55 * (1 - along) * length)[..., None] * _direction(angle + side)
            _draw_lines(drawing, start, end, 0.55 * layer / layers)
        _draw_lines(drawing, root, root + length[..., None] * _direction(angle), layer / layers)
    return drawing.astype(np.float32) / 255


def _direction(angle: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return np.stack([np.cos(angle), np.sin(angle)], axis=-1)


def _draw_lines(
    drawing: npt.NDArray[np.uint8], start: npt.NDArray[np.float64], end: npt.NDArray[np.float64], value: float
) -> None:
    """Draw many lines at once; the ends are [..., 2] as x and y."""
    ends = np.rint(16 * np.stack([start, end], axis=-2)).astype(np.int32)
    cv2.polylines(drawing, list(ends.reshape(-1, 2, 2)), False, (255 * value,), 1, cv2.LINE_AA, shift=4)

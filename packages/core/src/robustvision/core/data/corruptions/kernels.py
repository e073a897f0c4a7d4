"""The shapes of blur, in pixels at the published image size, and how they come to another (``fields.pixel_scale``)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from robustvision.core.runtime.opencv import cv2

Image = npt.NDArray[Any]
"""uint8, [H, W] grey or [H, W, 3] RGB."""

Filter = Callable[[Image], Image]
Kernel = npt.NDArray[Any]
"""float32, [k, k], k odd; sums to 1 unless its function says otherwise."""


def scaled(kernel: Kernel, scale: float) -> Kernel:
    """Bring a kernel [k, k] or [k] from the published image size to another, by linear interpolation.

    Below 1 this keeps even a blur of a fraction of a pixel, which a kernel computed at the small size would lose.
    """
    reach = kernel.shape[0] // 2
    wanted = int(np.ceil(reach * scale))
    offsets = scale * np.arange(-reach, reach + 1) - np.arange(-wanted, wanted + 1)[:, None]
    share = np.maximum(0, 1 - abs(offsets) / max(scale, 1))
    resized = share @ kernel if kernel.ndim == 1 else share @ kernel @ share.T
    return (resized / resized.sum()).astype(np.float32)


def smooth(image: npt.NDArray[Any], sigma: float, scale: float = 1.0) -> npt.NDArray[Any]:
    """Blur by a Gaussian out to four deviations; beyond the border the last pixel repeats."""
    reach = int(4 * sigma + 0.5)
    kernel = scaled(np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2), scale)
    return cv2.sepFilter2D(image, -1, kernel, kernel, borderType=cv2.BORDER_REPLICATE)


def disk(radius: int, edge_sigma: float) -> Kernel:
    """A lens out of focus: an even disk with a smoothed edge."""
    reach = max(8, radius)
    edge = (3, 3) if radius <= 8 else (5, 5)
    steps = np.arange(-reach, reach + 1)
    kernel = (np.hypot(steps, steps[:, None]) <= radius).astype(np.float32)
    return cv2.GaussianBlur(kernel / kernel.sum(), edge, edge_sigma)


def trail(radius: int, sigma: float, angle_deg: float) -> Kernel:
    """Motion: half a Gaussian of ``2 radius`` pixels that leaves the centre at an angle."""
    steps = np.arange(2 * radius + 1)
    weights = np.exp(-(steps**2) / (2 * sigma**2))
    centre = 2 * radius
    kernel = np.zeros((2 * centre + 1, 2 * centre + 1))
    angle = np.deg2rad(angle_deg)
    rows, columns = np.rint(steps * np.sin(angle)).astype(int), np.rint(steps * np.cos(angle)).astype(int)
    np.add.at(kernel, (centre + rows, centre + columns), weights)
    return (kernel / kernel.sum()).astype(np.float32)

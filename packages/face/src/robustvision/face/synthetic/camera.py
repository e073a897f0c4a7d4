"""The camera: exposure, colour cast, glare, resolution, blur, noise and compression."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from robustvision.core.runtime.opencv import cv2
from robustvision.face.synthetic.nuisance import Nuisance


def take_picture(
    picture: npt.NDArray[np.float32], nuisance: Nuisance, pixel: float, rng: np.random.Generator
) -> npt.NDArray[np.uint8]:
    """Turn the scene into the file that a camera would have stored, decoded again.

    Args:
        picture: [H, W, 3] float32, RGB, 0..255 before exposure; may be changed.
        nuisance: The camera and its quality.
        pixel: Size of a pixel of the 112 px crop in pixels of this picture; blur is in proportion.
        rng: Source of randomness.

    Returns:
        [H, W, 3] uint8, RGB.
    """
    height, width = picture.shape[:2]
    if nuisance.glare:
        _add_glare(picture, nuisance.glare, rng)
    exposed = cv2.LUT(np.clip(picture, 0, 255, out=picture).astype(np.uint8), _exposure(nuisance))
    if nuisance.resolution < 0.97:
        small = max(4, round(width * nuisance.resolution)), max(4, round(height * nuisance.resolution))
        exposed = cv2.resize(exposed, small, interpolation=cv2.INTER_AREA)
        exposed = cv2.resize(exposed, (width, height), interpolation=cv2.INTER_LINEAR)
    if nuisance.blur_px * pixel > 0.25:
        exposed = cv2.GaussianBlur(exposed, (0, 0), nuisance.blur_px * pixel)
    if nuisance.motion_px * pixel > 1:
        exposed = cv2.filter2D(exposed, -1, _motion_kernel(nuisance.motion_px * pixel, nuisance.motion_rad))
    grain = np.float32(nuisance.noise) * rng.standard_normal((height, width, 1), dtype=np.float32)
    noisy = exposed + grain  # of the brightness only, as cameras smooth colour
    image = np.clip(noisy, 0, 255, out=noisy).astype(np.uint8)
    return _through_jpeg(image, nuisance.jpeg)


def _exposure(nuisance: Nuisance) -> npt.NDArray[np.uint8]:
    """[256, 1, 3] table of gamma, gain and cast, with highlights that roll off instead of clipping hard."""
    level = (np.arange(256) / 255)[:, None] ** nuisance.gamma * nuisance.gain * np.array(nuisance.cast)
    soft = np.where(level > 0.8, 0.8 + 0.2 * np.tanh((level - 0.8) / 0.2), level)
    return np.round(255 * soft).astype(np.uint8)[:, None]


def _add_glare(picture: npt.NDArray[np.float32], strength: float, rng: np.random.Generator) -> None:
    height, width = picture.shape[:2]
    x0, y0 = rng.uniform(0.15, 0.85, 2) * (width, height)
    size = rng.uniform(0.08, 0.25) * min(height, width)
    row = np.exp(-(((np.arange(width, dtype=np.float32) - np.float32(x0)) / np.float32(size)) ** 2))
    column = np.exp(-(((np.arange(height, dtype=np.float32) - np.float32(y0)) / np.float32(size)) ** 2))
    picture += np.float32(255 * strength) * np.outer(column, row)[..., None]


def _motion_kernel(length_px: float, angle_rad: float) -> npt.NDArray[np.float32]:
    half = math.ceil(length_px / 2)
    kernel = np.zeros((2 * half + 1, 2 * half + 1), np.float32)
    x, y = length_px / 2 * math.cos(angle_rad), length_px / 2 * math.sin(angle_rad)
    start, end = (round((half - x) * 16), round((half - y) * 16)), (round((half + x) * 16), round((half + y) * 16))
    cv2.line(kernel, start, end, 1.0, 1, cv2.LINE_8, 4)
    return kernel / kernel.sum()


def _through_jpeg(image: npt.NDArray[np.uint8], quality: int) -> npt.NDArray[np.uint8]:
    if quality >= 95:
        return image
    bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    _, stored = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])
    decoded = cv2.imdecode(stored, cv2.IMREAD_COLOR)  # IMREAD_COLOR_RGB came with OpenCV 4.11
    return cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB)  # type: ignore[arg-type,return-value]

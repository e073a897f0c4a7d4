"""What processing does to an image: contrast, warping, coarse pixels, compression, saturation."""

from __future__ import annotations

import numpy as np

from robustvision.core.data.corruptions.fields import Shape, canvas, fit, pixel_scale, smooth_noise
from robustvision.core.data.corruptions.kernels import Filter, Image
from robustvision.core.runtime.opencv import cv2


def contrast(shape: Shape, severity: int, rng: np.random.Generator) -> Filter:
    """Less contrast: each channel shrinks towards its mean."""
    share = (0.4, 0.3, 0.2, 0.1, 0.05)[severity - 1]

    def apply(image: Image) -> Image:
        means = np.array(cv2.mean(image)[: 1 if image.ndim == 2 else 3])
        table = share * np.arange(256)[None, :, None] + (1 - share) * means
        return cv2.LUT(image, np.rint(table).astype(np.uint8))

    return apply


def elastic_transform(shape: Shape, severity: int, rng: np.random.Generator) -> Filter:
    """Rubber: an affine map that moves three points at random, and a smooth random displacement.

    Both are one map here, so the image is interpolated once, not twice as published.
    """
    # the published lengths are shares of 244, a slip for 224 that its authors kept
    strength, sigma, jitter = (
        244 * np.array(((2, 0.7, 0.1), (2, 0.08, 0.2), (0.05, 0.01, 0.02), (0.07, 0.01, 0.02), (0.12, 0.01, 0.02)))
    )[severity - 1]
    height, width = shape[:2]
    scale = pixel_scale(shape)
    corners = np.array([width // 2, height // 2]) + min(height, width) // 3 * np.array([(1, 1), (1, -1), (-1, -1)])
    moved = corners + scale * rng.uniform(-jitter, jitter, (3, 2))
    affine = cv2.getAffineTransform(moved.astype(np.float32), corners.astype(np.float32))  # from where a pixel comes
    dx, dy = (fit(strength * scale * smooth_noise(canvas(shape), float(sigma), rng), shape) for _ in range(2))
    x, y = np.arange(width) + dx, np.arange(height)[:, None] + dy
    map_x, map_y = ((row[0] * x + row[1] * y + row[2]).astype(np.float32) for row in affine)
    return lambda image: cv2.remap(image, map_x, map_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)


def pixelate(shape: Shape, severity: int, rng: np.random.Generator) -> Filter:
    """Coarse pixels: means over boxes, enlarged."""
    share = (0.6, 0.5, 0.4, 0.3, 0.25)[severity - 1]
    height, width = shape[:2]
    small = (int(width * share), int(height * share))

    def apply(image: Image) -> Image:
        means = cv2.resize(image, small, interpolation=cv2.INTER_AREA)
        return cv2.resize(means, (width, height), interpolation=cv2.INTER_NEAREST_EXACT)

    return apply


def jpeg_compression(shape: Shape, severity: int, rng: np.random.Generator) -> Filter:
    """JPEG of low quality."""
    options = [cv2.IMWRITE_JPEG_QUALITY, (25, 18, 15, 10, 7)[severity - 1]]

    def apply(image: Image) -> Image:
        if image.ndim == 2:
            return np.asarray(cv2.imdecode(cv2.imencode(".jpg", image, options)[1], cv2.IMREAD_GRAYSCALE))
        data = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), options)[1]
        return cv2.cvtColor(np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR)), cv2.COLOR_BGR2RGB)

    return apply


def saturate(shape: Shape, severity: int, rng: np.random.Generator) -> Filter:
    """Other colours: the saturation is weakened (severities 1 and 2) or strengthened (3 to 5).

    A grey pixel has the hue of red, so at severities 4 and 5 it turns reddish, as published; a grey image stays grey,
    and only darkens by that.
    """
    factor, added = ((0.3, 0), (0.1, 0), (2, 0), (5, 0.1), (20, 0.2))[severity - 1]

    def apply(image: Image) -> Image:
        if image.ndim == 2:
            return cv2.cvtColor(apply(cv2.cvtColor(image, cv2.COLOR_GRAY2RGB)), cv2.COLOR_RGB2GRAY)
        value = image.max(axis=2, keepdims=True).astype(np.float32)
        spread = value - image.min(axis=2, keepdims=True)
        saturation = spread / np.maximum(value, 1)
        wanted = np.clip(factor * saturation + added, 0, 1)
        # hue stays: the distances to the largest channel keep their proportion
        distance = (value - image) * (wanted / np.maximum(saturation, 1e-6))
        grey = np.where(spread == 0, value * wanted, 0) * np.array([0, 1, 1], np.float32)
        return np.rint(value - distance - grey).astype(np.uint8)

    return apply

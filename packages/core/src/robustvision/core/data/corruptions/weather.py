"""What lies between the camera and the scene: snow, frost, fog, drops, and the light of the day."""

from __future__ import annotations

import numpy as np

from robustvision.core.data.corruptions.fields import Field, Shape, canvas, fit, frost_texture, plasma
from robustvision.core.data.corruptions.kernels import Filter, Image, smooth, trail
from robustvision.core.runtime.opencv import cv2

_WATER = (175, 238, 238)
_MUD = (63, 42, 20)


def snow(shape: Shape, severity: int, rng: np.random.Generator) -> Filter:
    """Flakes that fall at up to 45 degrees to the vertical, before a whitened scene.

    A second layer of flakes is the first one, turned by 180 degrees.
    """
    mean, deviation, zoom, threshold, radius, sigma, keep = (
        (0.1, 0.3, 3, 0.5, 10, 4, 0.8),
        (0.2, 0.3, 2, 0.5, 12, 4, 0.7),
        (0.55, 0.3, 4, 0.9, 12, 8, 0.7),
        (0.55, 0.3, 4.5, 0.85, 12, 8, 0.65),
        (0.55, 0.3, 2.5, 0.85, 12, 12, 0.55),
    )[severity - 1]
    height, width = canvas(shape)
    size = (int(np.ceil(height / zoom)), int(np.ceil(width / zoom)))
    flakes = cv2.resize(rng.normal(mean, deviation, size).astype(np.float32), (width, height))
    flakes = np.where(flakes < threshold, 0, np.minimum(flakes, 1)).astype(np.float32)
    kernel = trail(radius, sigma, rng.uniform(-135, -45))
    flakes = cv2.filter2D(flakes, -1, kernel, borderType=cv2.BORDER_REPLICATE)
    layer = _channels(255 * fit(flakes + flakes[::-1, ::-1], shape), shape)

    def apply(image: Image) -> Image:
        grey = image if image.ndim == 2 else cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
        white = _channels(1.5 * grey.astype(np.float32) + 127.5, shape)
        whitened = keep * image + (1 - keep) * np.maximum(image, white)
        return cv2.add(whitened.astype(np.float32), layer, dtype=cv2.CV_8U)

    return apply


def frost(shape: Shape, severity: int, rng: np.random.Generator) -> Filter:
    """Ice on the lens: the image and a texture of frost, weighted; the texture is drawn, not the published photos."""
    scene, ice = ((1, 0.4), (0.8, 0.6), (0.7, 0.7), (0.65, 0.7), (0.6, 0.75))[severity - 1]
    layer = _as_image(255 * ice * fit(frost_texture(canvas(shape), rng), shape), shape)
    return lambda image: cv2.scaleAdd(image.astype(np.float32), scene, layer).clip(0, 255).round().astype(np.uint8)


def fog(shape: Shape, severity: int, rng: np.random.Generator) -> Filter:
    """Clouds of light, after which the range is pressed back to that of the scene."""
    strength, decay = ((1.5, 2), (2, 2), (2.5, 1.7), (2.5, 1.5), (3, 1.4))[severity - 1]
    clouds = _channels(255 * strength * fit(plasma(canvas(shape), decay, rng), shape), shape)

    def apply(image: Image) -> Image:
        brightest = image.max() / 255
        return cv2.convertScaleAbs(clouds + image, alpha=brightest / (brightest + strength))

    return apply


def spatter(shape: Shape, severity: int, rng: np.random.Generator) -> Filter:
    """Drops on the lens: of water at severities 1 to 3, of mud at 4 and 5."""
    mean, deviation, sigma, threshold, strength = (
        (0.65, 0.3, 4, 0.69, 0.6),
        (0.65, 0.3, 3, 0.68, 0.6),
        (0.65, 0.3, 2, 0.68, 0.5),
        (0.65, 0.3, 1, 0.65, 1.5),
        (0.67, 0.4, 1, 0.65, 1.5),
    )[severity - 1]
    liquid = smooth(rng.normal(mean, deviation, canvas(shape)).astype(np.float32), sigma)
    is_water = severity <= 3
    if is_water:
        cover = strength * _water_light(np.where(liquid < threshold, 0, liquid))
    else:
        cover = smooth((liquid > threshold).astype(np.float32), strength)
        cover[cover < 0.8] = 0
    fitted = fit(cover, shape)[..., None]
    colour = _as_image(fitted * np.array(_WATER if is_water else _MUD, np.float32), shape)
    keep = np.ones(shape, np.float32) if is_water else _channels(1 - fitted[..., 0], shape)
    return lambda image: cv2.add(cv2.multiply(image, keep, dtype=cv2.CV_32F), colour, dtype=cv2.CV_8U)


def brightness(shape: Shape, severity: int, rng: np.random.Generator) -> Filter:
    """More daylight: a share of the full range is added to the value of hue, saturation and value."""
    added = 255 * (0.1, 0.2, 0.3, 0.4, 0.5)[severity - 1]
    values = np.arange(256, dtype=np.float32)
    brighter = np.minimum(values + added, 255)
    factors = brighter / np.maximum(values, 1)  # hue and saturation stay, so all channels grow alike

    def apply(image: Image) -> Image:
        if image.ndim == 2:
            return cv2.LUT(image, np.rint(brighter).astype(np.uint8))
        value = image.max(axis=2)
        result = cv2.multiply(image, _channels(factors[value], shape), dtype=cv2.CV_8U)
        result[value == 0] = round(added)
        return result

    return apply


def _water_light(liquid: Field) -> Field:
    """How water bends light, in [0, 1]: bright within the drops, embossed at their edges."""
    grey = (255 * np.clip(liquid, 0, 1)).astype(np.uint8)
    distance = cv2.distanceTransform(255 - cv2.Canny(grey, 50, 150), cv2.DIST_L2, 5)
    relief: Field = cv2.blur(np.minimum(distance, 20), (3, 3)).astype(np.uint8)
    emboss = np.array([[-2, -1, 0], [-1, 1, 1], [0, 1, 2]], np.float32)
    relief = cv2.blur(cv2.filter2D(cv2.equalizeHist(relief), cv2.CV_8U, emboss), (3, 3))
    light = grey * relief.astype(np.float32)
    return light / max(float(light.max()), 1.0)  # a canvas without a drop stays dark


def _channels(field: Field, shape: Shape) -> Field:
    """A field [H, W] for all channels of an image; OpenCV does not broadcast."""
    return field if len(shape) == 2 else cv2.merge([field] * shape[2])


def _as_image(coloured: Field, shape: Shape) -> Field:
    """A coloured field [H, W, 3] for an image that may be grey."""
    return coloured if len(shape) == 3 else cv2.cvtColor(coloured, cv2.COLOR_RGB2GRAY)

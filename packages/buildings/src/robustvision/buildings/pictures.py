"""What people look at: outlines of labels, predictions and polygons over the image."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from shapely import Polygon

UInt8 = npt.NDArray[np.uint8]
Colour = tuple[int, int, int]
LABEL, FOUND, POLYGON = (255, 170, 0), (0, 200, 255), (60, 255, 60)
_SUBPIXEL_BITS = 4


def label_overlay(image: UInt8, mask: npt.NDArray[Any], colour: Colour = LABEL, *, scale: int = 2) -> UInt8:
    """Draw the outline of a mask over an image.

    Args:
        image: uint8 [H, W, 3], RGB.
        mask: [H, W], building where above 0.
        colour: RGB.
        scale: How many times larger the picture is.

    Returns:
        uint8 [scale H, scale W, 3].
    """
    picture = enlarged(image, scale)
    large = cv2.resize((mask > 0).astype(np.uint8), None, fx=scale, fy=scale, interpolation=cv2.INTER_NEAREST)
    contours, _ = cv2.findContours(large, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(picture, contours, -1, colour, 1, cv2.LINE_AA)
    return picture


def polygon_overlay(image: UInt8, polygons: Iterable[Polygon], colour: Colour = POLYGON, *, scale: int = 2) -> UInt8:
    """Draw polygons over an image.

    Args:
        image: uint8 [H, W, 3], RGB.
        polygons: In pixel coordinates, corners of pixels at whole numbers.
        colour: RGB.
        scale: How many times larger the picture is.

    Returns:
        uint8 [scale H, scale W, 3].
    """
    picture = enlarged(image, scale)
    rings = [ring for polygon in polygons for ring in (polygon.exterior, *polygon.interiors)]
    lines = [
        np.rint((np.asarray(ring.coords)[:, :2] * scale - 0.5) * 2**_SUBPIXEL_BITS).astype(np.int32) for ring in rings
    ]
    cv2.polylines(picture, lines, True, colour, 1, cv2.LINE_AA, _SUBPIXEL_BITS)
    return picture


def probability_picture(probability: npt.NDArray[Any], *, scale: int = 2) -> UInt8:
    """Return probabilities 0..1 [H, W] as a grey picture, uint8 [scale H, scale W, 3]."""
    grey = np.rint(np.asarray(probability, np.float32) * 255).astype(np.uint8)
    return enlarged(np.repeat(grey[:, :, None], 3, axis=2), scale)


def enlarged(image: UInt8, scale: int = 2) -> UInt8:
    """Return a picture [H, W, 3] with every pixel `scale` times as large."""
    return np.repeat(np.repeat(image, scale, axis=0), scale, axis=1)

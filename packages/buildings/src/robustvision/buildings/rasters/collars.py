"""Collars: the black or white surroundings of a rectified scene, where the file does not declare them as no data.

A pixel of pure black may as well be a shadow, one of pure white a roof. So only what hangs together with a corner of
the raster, and covers a hundredth of it, is a collar; and only pixels of its value that lie in it.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

LEAST_SHARE = 0.01
CORNER_PX = 8
"""Side of the squares in the raster's corners that make a collar likely, if one of them has a single such value."""

UInt8 = npt.NDArray[np.uint8]
Bool = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Collar:
    """Where a collar lies.

    Attributes:
        value: What its pixels hold in every band, 0 or 255.
        share: Of the raster, 0 to 1.
        region: bool [h, w] of the whole raster, decimated, grown by one cell.
    """

    value: int
    share: float
    region: Bool

    def covers(self, image: UInt8, row: int, column: int, raster_height: int, raster_width: int) -> Bool:
        """Return where pixels of a window belong to the collar.

        Args:
            image: uint8 [H, W, 3], the window.
            row: Its first row in the raster.
            column: Its first column.
            raster_height: Rows of the raster.
            raster_width: Its columns.

        Returns:
            bool [H, W].
        """
        rows = np.arange(row, row + image.shape[0]) * self.region.shape[0] // raster_height
        columns = np.arange(column, column + image.shape[1]) * self.region.shape[1] // raster_width
        inside: Bool = self.region[rows[:, None], columns]
        return inside & (image == self.value).all(axis=2)


def is_flat_corner(corner: UInt8) -> bool:
    """Return whether a corner of a raster, uint8 [H, W, 3], is pure black or pure white."""
    return bool(corner.size and corner.min() == corner.max() and corner.flat[0] in (0, 255))


def find_collar(image: UInt8) -> Collar | None:
    """Find the largest collar of a raster.

    Args:
        image: uint8 [h, w, 3], the whole raster, decimated by taking the nearest pixel.

    Returns:
        The collar; None where there is none.
    """
    collars = [_collar_of(image, value) for value in (0, 255)]
    largest = max(collars, key=lambda collar: collar.share)
    return largest if largest.share >= LEAST_SHARE else None


def _collar_of(image: UInt8, value: int) -> Collar:
    flat = np.asarray((image == value).all(axis=2), np.uint8)
    _, parts = cv2.connectedComponents(flat, connectivity=4)
    corners = [part for part in {int(parts[y, x]) for y in (0, -1) for x in (0, -1)} if part]
    region = np.isin(parts, corners)
    grown = cv2.dilate(region.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
    return Collar(value, float(region.mean()), grown)

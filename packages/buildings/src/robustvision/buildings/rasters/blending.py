"""Overlapping tiles become one picture: the mean of what they say, weighted by how far a pixel is from a tile's edge.

At each pixel the result is ``sum(w p) / sum(w)`` with ``w > 0``: a network that returns its input gives that input back
exactly, wherever the tiles lie. Only a tile's height of the two sums is in memory.
"""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from robustvision.core.errors import InputError

LEAST_WEIGHT = 1e-3
Blend = Literal["hann", "triangular", "gaussian"]

Float32 = npt.NDArray[np.float32]
UInt8 = npt.NDArray[np.uint8]


def blend_weights(tile_px: int, blend: Blend = "hann") -> Float32:
    """Return how much each pixel of a tile counts.

    - ``hann``: ``sin^2`` from edge to edge. The default: its slope is zero at the edges, where a network sees the least
      around a pixel, so neither a value nor a slope jumps where a tile begins; at half-tile steps the weights sum to 1.
    - ``triangular``: falls in a line, which leaves a kink in the middle.
    - ``gaussian``: with a standard deviation of an eighth of the tile, as is common. At a step of three quarters, two
      tiles meet where both weights are tiny, and one takes over from the other within a few pixels.

    Args:
        tile_px: Side of a tile.
        blend: The shape.

    Returns:
        float32 [tile_px, tile_px], the product of both axes, at least 0.001.

    Raises:
        InputError: There is no such shape.
    """
    centre = (np.arange(tile_px) + 0.5) / tile_px
    if blend == "hann":
        line = np.sin(np.pi * centre) ** 2
    elif blend == "triangular":
        line = 1 - np.abs(2 * centre - 1)
    elif blend == "gaussian":
        line = np.exp(-0.5 * ((centre - 0.5) * 8) ** 2)
    else:
        raise InputError(f"blend is {blend!r}: choose {', '.join(get_args(Blend))}")
    return np.maximum(np.outer(line, line), LEAST_WEIGHT).astype(np.float32)


class Accumulator:
    """The two sums over one tile row, which moves down the raster.

    Args:
        weights: float32 [T, T], from `blend_weights`.
        width: Columns of the raster.
    """

    def __init__(self, weights: Float32, width: int) -> None:
        self._weights = weights
        self._sums = np.zeros((2, len(weights), width), np.float32)

    def add(self, column: int, probability: Float32) -> None:
        """Add a tile.

        Args:
            column: Its first column; what reaches beyond the raster is dropped.
            probability: float32 [T, T]; is overwritten.
        """
        probability *= self._weights
        width = min(len(probability), self._sums.shape[2] - column)
        self._sums[0, :, column : column + width] += probability[:, :width]
        self._sums[1, :, column : column + width] += self._weights[:, :width]

    def advance(self, rows: int) -> Float32:
        """Move down.

        Args:
            rows: By how many.

        Returns:
            float32 [2, rows, width]: ``sum(w p)`` and ``sum(w)`` of the rows that are left behind.
        """
        done = self._sums[:, :rows].copy()
        kept = self._sums.shape[1] - rows
        self._sums[:, :kept] = self._sums[:, rows:]
        self._sums[:, kept:] = 0
        return done


def divide(sums: Float32) -> Float32:
    """Return ``sum(w p) / sum(w)``, 0 where no tile was.

    Args:
        sums: float32 [2, H, W]; is overwritten.

    Returns:
        float32 [H, W], a view of it.
    """
    total, weight = sums
    np.maximum(weight, np.finfo(np.float32).tiny, out=weight)
    return np.divide(total, weight, out=total)


def to_bytes(sums: Float32) -> UInt8:
    """Return `divide` as uint8 [H, W], 0 to 255."""
    probability = divide(sums)
    probability *= 255
    return np.rint(probability, out=probability).astype(np.uint8)

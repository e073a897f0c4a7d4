"""What lies inside a shape: a pixel does if its centre does. The truth masks are made by these rules and no other."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Bool = npt.NDArray[np.bool_]


class Patch(NamedTuple):
    """The part of a canvas in which a shape may lie.

    Attributes:
        window: Rows and columns of the canvas.
        inside: bool [h, w], whether a pixel's centre is inside.
        along: float64 [h, w], share of the way along the parallelogram's first edge.
        across: Likewise along its second edge.
    """

    window: tuple[slice, slice]
    inside: Bool
    along: Array
    across: Array


def parallelogram(origin: Array, first: Array, second: Array, shape: tuple[int, int]) -> Patch | None:
    """Find the pixels whose centres lie in a parallelogram.

    Args:
        origin: [2] a corner, x and y in pixels of the canvas.
        first: [2] the edge from there.
        second: [2] the other edge from there.
        shape: Height and width of the canvas.

    Returns:
        The patch, or None where the parallelogram is flat or outside the canvas.
    """
    (x, y), (ax, ay), (bx, by) = origin.tolist(), first.tolist(), second.tolist()
    area = ax * by - ay * bx
    window = _window(
        (x + min(ax, 0) + min(bx, 0), x + max(ax, 0) + max(bx, 0)),
        (y + min(ay, 0) + min(by, 0), y + max(ay, 0) + max(by, 0)),
        shape,
    )
    if window is None or abs(area) < 1e-9:
        return None
    rows, columns = window
    dx = np.arange(columns.start, columns.stop) + (0.5 - x)
    dy = (np.arange(rows.start, rows.stop) + (0.5 - y))[:, None]
    along = dx * (by / area) - dy * (bx / area)
    across = dy * (ax / area) - dx * (ay / area)
    inside = along >= 0
    inside &= along < 1
    inside &= across >= 0
    inside &= across < 1
    return Patch(window, inside, along, across)


def fill_polygon(mask: Bool, ring: Array) -> None:
    """Set the pixels whose centres lie in a polygon without holes.

    Args:
        mask: bool [H, W], written to.
        ring: [n, 2] or closed [n + 1, 2] corners, x and y in pixels.
    """
    window = _window((ring[:, 0].min(), ring[:, 0].max()), (ring[:, 1].min(), ring[:, 1].max()), mask.shape)
    if window is None:
        return
    rows, columns = window
    x = np.arange(columns.start, columns.stop) + 0.5
    y = (np.arange(rows.start, rows.stop) + 0.5)[:, None]
    inside = np.zeros((len(y), len(x)), bool)
    for (ax, ay), (bx, by) in zip(ring, np.roll(ring, -1, axis=0), strict=True):
        if ay != by:  # a ray to the right crosses an edge an odd number of times from inside
            inside ^= ((ay <= y) != (by <= y)) & (x < ax + (y - ay) * ((bx - ax) / (by - ay)))
    mask[window] |= inside


def _window(x: tuple[float, float], y: tuple[float, float], shape: tuple[int, ...]) -> tuple[slice, slice] | None:
    left, right = max(0, math.floor(x[0])), min(shape[1], math.ceil(x[1]) + 1)
    top, bottom = max(0, math.floor(y[0])), min(shape[0], math.ceil(y[1]) + 1)
    return (slice(top, bottom), slice(left, right)) if left < right and top < bottom else None

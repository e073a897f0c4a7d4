"""Square the edges of a building: one dominant direction, edges snapped to it, corners where the edges' lines meet."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import shapely
from shapely import LinearRing, Polygon

Float64 = npt.NDArray[np.float64]

SNAP_DEG = 25.0
MIN_IOU = 0.85
MIN_ALIGNMENT = 0.5
"""Least share by which the edges keep to two perpendicular directions, 0 for a circle to 1 for a rectangle."""

_SHORTEST = 3.0  # an edge below so many tolerances is a jog of the outline, not a side of the building
_LEAST_SINE = 0.2  # of the angle between two neighbouring sides, below which their corner is far off
_BINS = 90  # of the histogram of directions, one a degree


def regularise(polygon: Polygon, *, tolerance_m: float = 1.0) -> Polygon | None:
    """Return a building with squared edges, or None where it is not of that kind.

    The outline is simplified; a histogram of its edges' directions modulo 90 degrees, weighted by their lengths, gives
    the dominant one. Edges within 25 degrees of it or of its perpendicular are turned to it, others keep their own.
    Neighbours of one direction become one side, and jogs shorter than three tolerances vanish. A side lies where it
    encloses the same area as the part of the outline that it replaces, which uses every vertex and no outlier more than
    its share. Corners are where the lines of neighbouring sides meet.

    Args:
        polygon: Valid, in metres (or pixels, where there are none).
        tolerance_m: Of the simplification: about a pixel, or twice the noise of the vertices.

    Returns:
        A valid polygon with all holes whose intersection over union with the given one is at least 0.85. None if there
        is no such, or if the edges have no dominant direction, as in a circle.

    References:
        RECONSTRUCTED: the angle of 25 degrees and the gate of 0.85 are the project's decisions; no paper gives them.
    """
    simple = polygon.simplify(tolerance_m)
    direction, alignment = dominant_direction(_open_ring(simple.exterior))
    if alignment < MIN_ALIGNMENT:
        return None
    rings = [
        _square_ring(_open_ring(raw), _open_ring(ring), direction, _SHORTEST * tolerance_m)
        for raw, ring in zip((polygon.exterior, *polygon.interiors), (simple.exterior, *simple.interiors), strict=True)
    ]
    if rings[0] is None:
        return None
    holes = [ring if square is None else square for square, ring in zip(rings[1:], simple.interiors, strict=True)]
    result = Polygon(rings[0], holes)
    if not result.is_valid:
        return None
    shared = result.intersection(polygon).area
    return result if shared >= MIN_IOU * (result.area + polygon.area - shared) else None


def dominant_direction(corners: Float64) -> tuple[float, float]:
    """Return the direction that most of an outline's length keeps to, or is perpendicular to.

    Args:
        corners: [n, 2], the outline, not closed.

    Returns:
        The direction in 0 to pi / 2, in radians; and how well the edges keep to it: the length-weighted mean of
        ``cos 4 (angle - direction)``, 1 for a rectangle, about 0 for a circle.
    """
    edges = np.roll(corners, -1, axis=0) - corners
    length, angle = np.hypot(*edges.T), np.arctan2(edges[:, 1], edges[:, 0]) % (math.pi / 2)
    share = np.histogram(angle, _BINS, (0, math.pi / 2), weights=length)[0]
    around = np.concatenate((share[-5:], share, share[:5]))
    peak = (np.convolve(around, np.bartlett(13)[1:-1], "valid").argmax() + 0.5) * (math.pi / 2 / _BINS)
    near = np.abs(_turn(angle, peak)) < math.radians(SNAP_DEG)
    direction = (peak + np.average(_turn(angle, peak)[near], weights=length[near])) % (math.pi / 2)
    return float(direction), float(np.average(np.cos(4 * (angle - direction)), weights=length))


def _turn(angle: Float64, direction: float) -> Float64:
    """From a direction to angles, modulo 90 degrees, in -45 to 45 degrees."""
    quarter = math.pi / 2
    return (angle - direction + quarter / 2) % quarter - quarter / 2


def _open_ring(ring: LinearRing) -> Float64:
    return shapely.get_coordinates(ring)[:-1]


@dataclass(frozen=True)
class _Side:
    """A stretch of the raw outline that becomes one side.

    Attributes:
        kind: 0 along the dominant direction, 1 across it, 2 oblique.
        angle: Of its line, in radians.
        points: The raw corners of the stretch, [n, 2].
    """

    kind: int
    angle: float
    points: Float64

    @property
    def tangent(self) -> Float64:
        return np.array((math.cos(self.angle), math.sin(self.angle)))

    @property
    def length(self) -> float:
        """From its beginning to its end along its line."""
        return abs(float(((self.points[-1] - self.points[0]) * self.tangent).sum()))

    @property
    def centre(self) -> Float64:
        """A point of the line on both of whose sides the stretch leaves as much area."""
        middle, step = (self.points[1:] + self.points[:-1]) / 2, np.diff(self.points, axis=0)
        weight = (step * self.tangent).sum(axis=1)
        centre: Float64 = (middle * weight[:, None]).sum(axis=0) / weight.sum()
        return centre


def _square_ring(raw: Float64, simple: Float64, direction: float, shortest: float) -> Float64 | None:
    """Square one ring; None if fewer than four sides are left, or two neighbours are almost parallel."""
    sides = _joined(_sides(raw, simple, direction))
    while len(sides) >= 4:
        index = min(range(len(sides)), key=lambda index: sides[index].length)
        if sides[index].length >= shortest:
            return _corners(sides)
        sides = _joined(_without(sides, index))
    return None


def _sides(raw: Float64, simple: Float64, direction: float) -> list[_Side]:
    """A side for each edge of the simplified ring, whose corners are some of the raw ring's."""
    kept = np.flatnonzero(np.isin(raw @ (1, 1j), simple @ (1, 1j)))
    sides = []
    for begin, end in zip(kept, np.append(kept[1:], kept[0] + len(raw)), strict=True):
        points = raw[np.arange(begin, end + 1) % len(raw)]
        angle = math.atan2(*(points[-1] - points[0])[::-1])
        turn = float(_turn(np.array(angle), direction))
        if abs(turn) > math.radians(SNAP_DEG):
            sides.append(_Side(2, angle, points))
        else:
            sides.append(_Side(round((angle - turn - direction) / (math.pi / 2)) % 2, angle - turn, points))
    return sides


def _joined(sides: list[_Side]) -> list[_Side]:
    """Make one side of neighbours that run along the same direction."""
    turned = next((i for i in range(len(sides)) if not _is_same(sides[i - 1], sides[i])), 0)
    joined: list[_Side] = []
    for side in sides[turned:] + sides[:turned]:
        if joined and _is_same(joined[-1], side):
            joined[-1] = replace(side, points=np.concatenate((joined[-1].points, side.points)))
        else:
            joined.append(side)
    return joined


def _is_same(first: _Side, second: _Side) -> bool:
    return first.kind == second.kind != 2


def _without(sides: list[_Side], index: int) -> list[_Side]:
    """Leave out a jog. Between two sides of one direction its stretch becomes part of theirs."""
    before, jog, after = sides[index - 1], sides[index], sides[(index + 1) % len(sides)]
    if _is_same(before, after):
        after_points = np.concatenate((jog.points, after.points))
        sides = [replace(side, points=after_points) if side is after else side for side in sides]
    return [side for side in sides if side is not jog]


def _corners(sides: list[_Side]) -> Float64 | None:
    """Where the line of each side meets the next one's."""
    tangents, centres = np.array([side.tangent for side in sides]), np.array([side.centre for side in sides])
    ahead, target = np.roll(tangents, -1, axis=0), np.roll(centres, -1, axis=0) - centres
    sine = tangents[:, 0] * ahead[:, 1] - tangents[:, 1] * ahead[:, 0]
    if np.abs(sine).min() < _LEAST_SINE:
        return None
    reach = (target[:, 0] * ahead[:, 1] - target[:, 1] * ahead[:, 0]) / sine
    corners: Float64 = centres + reach[:, None] * tangents
    return corners

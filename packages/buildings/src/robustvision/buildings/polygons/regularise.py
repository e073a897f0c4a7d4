"""Square the edges of a building: one dominant direction, edges snapped to it, corners where the edges' lines meet."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import shapely
from shapely import LinearRing, Polygon

Float64 = npt.NDArray[np.float64]
Int64 = npt.NDArray[np.int64]
Values = TypeVar("Values", Float64, Int64)

SNAP_DEG = 25.0
MIN_IOU = 0.85
MIN_ALIGNMENT = 0.5
"""Least share by which the edges keep to two perpendicular directions, 0 for a circle to 1 for a rectangle."""

_SHORTEST = 3.0  # an edge below so many tolerances is a jog of the outline, not a side of the building
_LEAST_SINE = 0.2  # of the angle between two neighbouring sides, below which their corner is far off
_BINS = 90  # of the histogram of directions, one a degree
_SMOOTHING = np.bartlett(13)[1:-1]
_QUARTER = math.pi / 2
_OBLIQUE = 2


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
    pairs = zip((polygon.exterior, *polygon.interiors), (simple.exterior, *simple.interiors), strict=True)
    outer, *holes = [_Outline.between(raw, ring) for raw, ring in pairs]
    shortest = _SHORTEST * tolerance_m
    sides = outer.sides(direction, shortest)
    direction = outer.refined(sides, direction)
    shell = outer.corners(sides, direction)
    if shell is None:
        return None
    squares = [hole.corners(hole.sides(direction, shortest), direction) for hole in holes]
    kept = [ring if square is None else square for square, ring in zip(squares, simple.interiors, strict=True)]
    result = Polygon(shell, kept)
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
    edges = _shifted(corners, 1) - corners
    length, angle = np.hypot(edges[:, 0], edges[:, 1]), np.arctan2(edges[:, 1], edges[:, 0]) % _QUARTER
    share = np.bincount((angle * (_BINS / _QUARTER)).astype(int) % _BINS, length, _BINS)
    around = np.concatenate((share[-5:], share, share[:5]))
    peak = (np.convolve(around, _SMOOTHING, "valid").argmax() + 0.5) * (_QUARTER / _BINS)
    turn = _turn(angle, peak)
    near = np.abs(turn) < math.radians(SNAP_DEG)
    direction = peak + (turn[near] * length[near]).sum() / length[near].sum()
    return float(direction % _QUARTER), float((np.cos(4 * (angle - direction)) * length).sum() / length.sum())


def _turn(angle: Float64, direction: float) -> Float64:
    """From a direction to angles, modulo 90 degrees, in -45 to 45 degrees."""
    return (angle - direction + _QUARTER / 2) % _QUARTER - _QUARTER / 2


def _shifted(values: Values, by: int) -> Values:
    """The next (1) or the previous (-1) one's values around a ring; ``np.roll`` takes ten times as long."""
    return np.concatenate((values[by:], values[:by]))


def _products(points: Float64) -> Float64:
    x, y = points[:, 0], points[:, 1]
    return np.stack((x * y, x**2 - y**2), axis=1)


def _open_ring(ring: LinearRing) -> Float64:
    return shapely.get_coordinates(ring)[:-1]


@dataclass(frozen=True, eq=False)
class _Outline:
    """A ring of n corners, and which of them its simplification keeps.

    A side is a row of three integers: its kind (0 along the dominant direction, 1 across, 2 oblique) and the corners at
    which its stretch of the outline begins and ends, the end counted on past n where the stretch passes corner 0.

    Attributes:
        origin: [2], the first corner: all else is relative to it, as sums of products of map coordinates are not exact.
        points: [2 n + 1, 2], the corners, twice around and back.
        kept: Those of the simplified ring, ascending.
    """

    origin: Float64
    points: Float64
    kept: Int64

    @classmethod
    def between(cls, raw: LinearRing, simple: LinearRing) -> _Outline:
        """From a ring, and its simplification, whose corners are some of its own."""
        corners = _open_ring(raw)
        is_kept = np.isin(corners @ (1, 1j), _open_ring(simple) @ (1, 1j))
        points = np.concatenate((corners, corners, corners[:1])) - corners[0]
        return cls(corners[0], points, np.flatnonzero(is_kept))

    def sides(self, direction: float, shortest: float) -> Int64:
        """The sides, each of another kind than the next one or both oblique, and none shorter than a jog."""
        end = np.append(self.kept[1:], self.kept[0] + len(self.points) // 2)
        chord = self.points[end] - self.points[self.kept]
        angle = np.arctan2(chord[:, 1], chord[:, 0])
        turn = _turn(angle, direction)
        kind = np.rint((angle - turn - direction) / _QUARTER).astype(np.int64) % 2
        kind[np.abs(turn) > math.radians(SNAP_DEG)] = _OBLIQUE
        sides = self._joined(np.stack((kind, self.kept, end), axis=1))
        while len(sides):
            length = np.abs((self._chords(sides) * self._tangents(sides, direction)).sum(axis=1))
            index = int(length.argmin())
            if length[index] >= shortest:
                break
            sides = self._joined(sides[np.arange(len(sides)) != index])
        return sides

    def _joined(self, sides: Int64) -> Int64:
        """Make one side of neighbours along one direction, with what was left out between them; none if all are."""
        kind = sides[:, 0]
        begins = np.flatnonzero((kind != _shifted(kind, -1)) | (kind == _OBLIQUE))
        if not len(begins):
            return sides[:0]
        joined = sides[begins]
        joined[:, 2] = sides[np.append(begins[1:], begins[0]) - 1, 2]
        corners = len(self.points) // 2
        joined[:, 2] = joined[:, 1] + (joined[:, 2] - joined[:, 1] - 1) % corners + 1
        return joined

    def _chords(self, sides: Int64) -> Float64:
        return self.points[sides[:, 2]] - self.points[sides[:, 1]]

    def _tangents(self, sides: Int64, direction: float) -> Float64:
        chord = self._chords(sides)
        own = np.arctan2(chord[:, 1], chord[:, 0])
        angle = np.where(sides[:, 0] == _OBLIQUE, own, direction + sides[:, 0] * _QUARTER)
        return np.stack((np.cos(angle), np.sin(angle)), axis=1)

    def _sums(self, values: Float64, sides: Int64) -> Float64:
        """Sum values of the edges [2 n, ...] over each side's stretch."""
        running = np.concatenate((np.zeros_like(values[:1]), np.cumsum(values, axis=0)))
        return running[sides[:, 2]] - running[sides[:, 1]]

    def refined(self, sides: Int64, direction: float) -> float:
        """The direction in which all sides together, those across turned by 90 degrees, are thinnest: least squares."""
        middle, step = (self.points[1:] + self.points[:-1]) / 2, np.diff(self.points, axis=0)
        weight = np.hypot(step[:, 0], step[:, 1])[:, None]
        product = _products(middle) + _products(step) / 12  # the mean over each edge
        total, first, second = (self._sums(weight * values, sides) for values in (1.0, middle, product))
        spread = second - total * _products(first / total)
        mixed, difference = (spread * np.array((1, -1, 0))[sides[:, :1]]).sum(axis=0)
        return direction + float(_turn(np.array(math.atan2(2 * mixed, difference) / 2), direction))

    def corners(self, sides: Int64, direction: float) -> Float64 | None:
        """Where the line of each side meets the next one's; None for fewer than four, or if two are almost parallel.

        A line runs through the mean of its stretch weighted by progress along the line: then the stretch leaves as much
        area on one side of it as on the other.
        """
        if len(sides) < 4:
            return None
        tangent = self._tangents(sides, direction)
        middle, step = (self.points[1:] + self.points[:-1]) / 2, np.diff(self.points, axis=0)
        moments = self._sums(middle[:, :, None] * step[:, None, :], sides)
        progress = (self._chords(sides) * tangent).sum(axis=1)
        centre = (moments * tangent[:, None, :]).sum(axis=2) / progress[:, None]
        ahead, target = _shifted(tangent, 1), _shifted(centre, 1) - centre
        sine = tangent[:, 0] * ahead[:, 1] - tangent[:, 1] * ahead[:, 0]
        if np.abs(sine).min() < _LEAST_SINE:
            return None
        reach = (target[:, 0] * ahead[:, 1] - target[:, 1] * ahead[:, 0]) / sine
        corners: Float64 = centre + reach[:, None] * tangent + self.origin
        return corners

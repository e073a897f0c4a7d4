"""Connected buildings of a mask that is read strip by strip, whole across the strips' borders.

The currency is a run: pixels of one row side by side. A strip is labelled alone; the runs of what touches its lower
border are kept and joined with what they meet in the next strip. A building is traced when it is complete: all that
lie inside one strip in a single pass over its labels, each one that crossed a border in a mask of its own bounding box.
Both give the same rings, so nothing in the result depends on where the strips lie, and memory grows with the buildings
that are not complete yet, not with the raster.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import cast

import cv2
import numpy as np
import numpy.typing as npt
from rasterio.features import shapes
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

Bool = npt.NDArray[np.bool_]
Int32 = npt.NDArray[np.int32]
Int64 = npt.NDArray[np.int64]
Rings = tuple[Int32, ...]

_ROW, _START, _END, _LEVELS = range(4)  # columns of runs, int64 [n, 4], sorted by row and start


@dataclass(frozen=True, eq=False)
class Strip:
    """Some rows of a raster, over its whole width.

    Attributes:
        top: Row of the raster in which it begins.
        mask: bool [h, W], where there is a building.
        levels: uint8 [h, W], probabilities as 0..255.
    """

    top: int
    mask: Bool
    levels: npt.NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Component:
    """Pixels connected over their edges.

    Attributes:
        rings: int32 [n, 2] each, pixel corners (column, row), not closed: the outer one first, then the holes. Each
            begins at its topmost, then leftmost corner.
        pixels: How many.
        level_sum: Sum of their levels, exact.
        first: (row, column) of its first pixel, by rows.
        last: Likewise of its last.
    """

    rings: Rings
    pixels: int
    level_sum: int
    first: tuple[int, int]
    last: tuple[int, int]


def find_components(strips: Iterable[Strip], *, min_pixels: int = 1) -> Iterator[Component]:
    """Yield the 4-connected components of a mask in the order of their last pixels, by rows.

    Args:
        strips: From the top, without gaps; one is held at a time.
        min_pixels: Smaller ones are left out.

    Yields:
        The components; the same for any division into strips.
    """
    waiting, owner = np.empty((0, 4), np.int64), np.empty(0, np.int64)  # runs of open components, and which one's
    for strip in strips:
        labels = _label(strip.mask)
        new = _runs(strip)
        bottom = strip.top + len(labels) - 1
        runs = np.concatenate((waiting, new))
        group = _join(waiting, owner, labels, strip.top)[
            np.concatenate((owner, labels[new[:, _ROW] - strip.top, new[:, _START]] - 1 + _count(owner)))
        ]
        groups = _count(group)
        is_open, has_crossed = np.zeros(groups, bool), np.zeros(groups, bool)
        is_open[group[runs[:, _ROW] == bottom]] = True
        has_crossed[group[: len(waiting)]] = True
        pixels = np.bincount(group, runs[:, _END] - runs[:, _START], groups)
        complete = ~is_open & (pixels >= min_pixels)
        done = _trace_inside(strip, labels, new, group[len(waiting) :], complete & ~has_crossed)
        done += [_trace(part) for part in _split(runs, group, complete & has_crossed)]
        yield from sorted(done, key=_by_last)
        kept = is_open[group]
        waiting, owner = runs[kept], np.unique(group[kept], return_inverse=True)[1]
    left = np.bincount(owner, waiting[:, _END] - waiting[:, _START]) >= min_pixels
    yield from sorted((_trace(part) for part in _split(waiting, owner, left)), key=_by_last)


def _by_last(component: Component) -> tuple[int, int]:
    return component.last


def _count(numbers: Int64) -> int:
    return int(numbers.max()) + 1 if numbers.size else 0


def _label(mask: Bool) -> Int32:
    return cast(Int32, cv2.connectedComponents(mask.view(np.uint8), connectivity=4, ltype=cv2.CV_32S)[1])


def _runs(strip: Strip) -> Int64:
    """The runs of a strip."""
    height, width = strip.mask.shape
    padded = np.zeros(height * (width + 1) + 1, np.int8)  # a zero before each row and at the end
    padded[1:].reshape(height, width + 1)[:, :width] = strip.mask
    edges = np.flatnonzero(np.diff(padded)).reshape(-1, 2)
    row, start = np.divmod(edges[:, 0], width + 1)
    end = start + edges[:, 1] - edges[:, 0]
    first = np.cumsum(end - start) - (end - start)
    levels = np.add.reduceat(strip.levels[strip.mask], first, dtype=np.int64) if len(row) else first
    return np.stack((row + strip.top, start, end, levels), axis=1)


def _paint(runs: Int64, left: int, top: int, values: Int64 | int, canvas: Int32 | npt.NDArray[np.uint8]) -> None:
    """Fill the pixels of runs in an array whose corner lies at (left, top)."""
    length = runs[:, _END] - runs[:, _START]
    origin = (runs[:, _ROW] - top) * canvas.shape[1] + runs[:, _START] - left
    pixels = np.repeat(origin - (np.cumsum(length) - length), length) + np.arange(length.sum())
    canvas.ravel()[pixels] = values if isinstance(values, int) else np.repeat(values, length)


def _join(waiting: Int64, owner: Int64, labels: Int32, top: int) -> Int64:
    """Number anew: the group of each open component, then of each of the strip's labels from 1."""
    open_count = _count(owner)
    nodes = open_count + int(labels.max())
    border = np.zeros((1, labels.shape[1]), np.int32)
    touching = waiting[:, _ROW] == top - 1
    _paint(waiting[touching], 0, top - 1, owner[touching] + 1, border)
    met = (border[0] > 0) & (labels[0] > 0)
    above, below = border[0, met] - 1, labels[0, met] - 1 + open_count
    graph = coo_array((np.ones(len(above), bool), (above, below)), shape=(nodes, nodes))
    group: Int64 = connected_components(graph, directed=False)[1].astype(np.int64)
    return group


def _split(runs: Int64, group: Int64, wanted: Bool) -> list[Int64]:
    """The runs of each wanted group."""
    chosen = np.flatnonzero(wanted[group])
    chosen = chosen[np.argsort(group[chosen], kind="stable")]
    borders = np.flatnonzero(np.diff(group[chosen])) + 1
    return [runs[part] for part in np.split(chosen, borders)] if chosen.size else []


def _trace_inside(strip: Strip, labels: Int32, runs: Int64, group: Int64, wanted: Bool) -> list[Component]:
    """The components among the strip's own labels whose group is wanted."""
    first_run = np.unique(group, return_index=True)
    last_run = len(group) - 1 - np.unique(group[::-1], return_index=True)[1]
    pixels = np.bincount(group, runs[:, _END] - runs[:, _START])
    levels = np.bincount(group, runs[:, _LEVELS])  # sums of whole numbers below 2^53: exact
    keep = np.zeros(int(labels.max()) + 1, bool)
    facts = {}
    for number, first, last in zip(*first_run, last_run, strict=True):
        if wanted[number]:
            label = int(labels[runs[first, _ROW] - strip.top, runs[first, _START]])
            keep[label] = True
            facts[label] = (int(pixels[number]), int(levels[number]), *_ends(runs[first], runs[last]))
    traced = shapes(labels, mask=keep[labels], connectivity=4) if facts else ()
    return [Component(_canonical(shape, 0, strip.top), *facts[int(label)]) for shape, label in traced]


def _trace(runs: Int64) -> Component:
    """One component from its runs."""
    left, right = int(runs[:, _START].min()), int(runs[:, _END].max())
    top, bottom = int(runs[0, _ROW]), int(runs[-1, _ROW])
    mask = np.zeros((bottom - top + 1, right - left), np.uint8)
    _paint(runs, left, top, 1, mask)
    ((shape, _),) = shapes(mask, mask=mask.view(bool), connectivity=4)
    pixels, levels = int((runs[:, _END] - runs[:, _START]).sum()), int(runs[:, _LEVELS].sum())
    return Component(_canonical(shape, left, top), pixels, levels, *_ends(runs[0], runs[-1]))


def _ends(first: Int64, last: Int64) -> tuple[tuple[int, int], tuple[int, int]]:
    return (int(first[_ROW]), int(first[_START])), (int(last[_ROW]), int(last[_END]) - 1)


def _canonical(shape: dict[str, list[list[tuple[float, float]]]], left: int, top: int) -> Rings:
    """Rings in pixels of the raster, each from its topmost, then leftmost corner, the holes in the order of theirs."""
    rings = []
    for ring in shape["coordinates"]:
        corners = np.array(ring[:-1]).astype(np.int32) + np.array((left, top), np.int32)
        begin = np.lexsort((corners[:, 0], corners[:, 1]))[0]
        rings.append(np.roll(corners, -begin, axis=0))
    outer, *holes = rings
    return (outer, *sorted(holes, key=lambda hole: (int(hole[0, 1]), int(hole[0, 0]))))

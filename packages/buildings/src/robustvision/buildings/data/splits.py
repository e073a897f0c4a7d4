"""Train, validation and test without a building in two of them: by blocks of neighbouring tiles, with a gap between.

A random split puts neighbouring tiles, which show the same buildings, the same roofs and the same light, on both sides,
and its test score is too good.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt
import shapely

from robustvision.buildings.data.tile import TileSource
from robustvision.core.errors import InputError

Part = Literal["train", "validation", "test"]
PARTS: tuple[Part, ...] = get_args(Part)
FRACTIONS = (0.7, 0.1, 0.2)
BLOCKS, ENOUGH_BLOCKS = (8, 4, 2, 1), 9
"""Sides of blocks that are tried, and how many blocks are enough for the fractions to be met roughly."""
_NEARLY = 1 - 1e-6  # neighbours in map units touch only up to rounding


@dataclass(frozen=True)
class Split:
    """The parts of a data set, each in the order in which its tiles came.

    Attributes:
        train, validation, test: The tiles of each part.
        dropped: Tiles that lie too near to another part.
    """

    train: tuple[TileSource, ...]
    validation: tuple[TileSource, ...]
    test: tuple[TileSource, ...]
    dropped: tuple[TileSource, ...] = ()


def block_split(
    sources: Sequence[TileSource],
    fractions: Sequence[float] = FRACTIONS,
    *,
    block: int | None = None,
    buffer: float = 1.0,
    seed: int = 0,
) -> Split:
    """Split by square blocks of tiles; tiles between two parts are dropped.

    Blocks are dealt out whole. Then a tile of train that is nearer than ``buffer`` tile sides to one of validation or
    test is dropped, and a tile of validation that is as near to one of test: the smaller parts keep their size. Tiles
    without a place are dealt out by their group, whole.

    Args:
        sources: Tiles with bounds, or with groups.
        fractions: Shares of train, validation and test before tiles are dropped; a share of 0 leaves the part empty.
        block: Side of a block, in tiles. Smaller blocks meet the fractions better and drop more: of 200 x 200 tiles 51,
            24, 11 and 5 % for 2, 4, 8 and 16. The largest of 8, 4, 2 and 1 that gives nine blocks or groups where None.
        buffer: Distance between two parts, in tiles; above 0, so that tiles of two parts never touch.
        seed: Decides which blocks go where.

    Returns:
        The parts.

    Raises:
        InputError: Fractions that do not add up to 1, fewer blocks and groups than parts, tiles with neither a place
            nor a group, or a part of which nothing is left.
    """
    shares = _check_fractions(fractions)
    if (block is not None and block < 1) or not buffer > 0:
        raise InputError(f"block is {block} and buffer {buffer}: expected at least 1 tile, and more than 0")
    sides = _tile_sides(sources)
    for size in BLOCKS if block is None else (block,):
        units: dict[Hashable, list[int]] = {}
        for place, source in enumerate(sources):
            units.setdefault(_unit(source, size * sides.get(source.group, 1.0)), []).append(place)
        if len(units) >= ENOUGH_BLOCKS:
            break
    part_of = np.empty(len(sources), np.int64)
    for part, places in _deal(list(units.values()), shares, seed):
        part_of[places] = part
    dropped = np.zeros(len(sources), bool)
    for group, side in sides.items():
        members = np.array(
            [place for place, one in enumerate(sources) if one.group == group and one.bounds is not None]
        )
        dropped[members] = _too_near(
            np.array([sources[place].bounds for place in members]), part_of[members], buffer * side
        )
    return _assemble(sources, part_of, dropped, shares)


def random_split(sources: Sequence[TileSource], fractions: Sequence[float] = FRACTIONS, *, seed: int = 0) -> Split:
    """Split tile by tile, with a warning: neighbouring tiles share buildings, so the test score is too good.

    Args:
        sources: The tiles.
        fractions: Shares of train, validation and test.
        seed: Decides which tiles go where.

    Returns:
        The parts; nothing is dropped.

    Raises:
        InputError: Fractions that do not add up to 1, or a part that stays empty.
    """
    shares = _check_fractions(fractions)
    warnings.warn("a random split leaks: neighbouring tiles share buildings; use block_split", stacklevel=2)
    order = np.random.default_rng(seed).permutation(len(sources))
    ends = np.rint(np.cumsum(shares) * len(sources)).astype(int)
    part_of = np.empty(len(sources), np.int64)
    part_of[order] = np.searchsorted(ends, np.arange(len(sources)), side="right")
    return _assemble(sources, part_of, np.zeros(len(sources), bool), shares)


def _check_fractions(fractions: Sequence[float]) -> npt.NDArray[np.float64]:
    shares = np.asarray(fractions, np.float64)
    if shares.shape != (3,) or (shares < 0).any() or not math.isclose(shares.sum(), 1):
        raise InputError(f"fractions are {tuple(fractions)}: expected train, validation and test, adding up to 1")
    return shares


def _tile_sides(sources: Sequence[TileSource]) -> dict[str, float]:
    """The usual side of the tiles of each group that has places, in its units."""
    sides: dict[str, list[float]] = {}
    for source in sources:
        if source.bounds is not None:
            left, low, right, high = source.bounds
            if not (right > left and high > low):
                raise InputError(f"{source.name}: its bounds {source.bounds} hold no area: least values come first")
            sides.setdefault(source.group, []).append(max(right - left, high - low))
        elif not source.group:
            raise InputError(
                f"{source.name} has neither a place nor a group, so tiles that show the same buildings cannot be kept "
                "together: give georeferenced images, or a split that was made by place; random_split takes the risk"
            )
    return {group: float(np.median(values)) for group, values in sides.items()}


def _unit(source: TileSource, side: float) -> Hashable:
    """What is dealt out whole: a block of the plane, or the group."""
    if source.bounds is None:
        return source.group
    left, low, right, high = source.bounds
    return source.group, math.floor((left + right) / 2 / side), math.floor((low + high) / 2 / side)


def _deal(units: list[list[int]], shares: npt.NDArray[np.float64], seed: int) -> list[tuple[int, list[int]]]:
    """Give each unit, in random order, to the part that lacks most; every wanted part gets at least one."""
    wanted = int((shares > 0).sum())
    if len(units) < wanted:
        raise InputError(
            f"{len(units)} blocks or groups cannot be dealt out to {wanted} parts: pass a smaller block, or more images"
        )
    lacking = shares * sum(map(len, units))
    received = np.zeros(3, int)
    dealt = []
    for done, place in enumerate(np.random.default_rng(seed).permutation(len(units))):
        empty = (shares > 0) & (received == 0)
        # the last units are kept for parts that have none yet
        candidates = np.where(empty if len(units) - done == empty.sum() else shares > 0, lacking, -np.inf)
        part = int(candidates.argmax())
        lacking[part] -= len(units[place])
        received[part] += 1
        dealt.append((part, units[place]))
    return dealt


def _too_near(
    bounds: npt.NDArray[np.float64], part_of: npt.NDArray[np.int64], distance: float
) -> npt.NDArray[np.bool_]:
    """Tiles nearer than a distance to one of a later part."""
    boxes = shapely.box(*bounds.T)
    near = np.zeros(len(boxes), bool)
    for part in (0, 1):
        own, later = np.flatnonzero(part_of == part), np.flatnonzero(part_of > part)
        if len(own) and len(later):
            found = shapely.STRtree(boxes[later]).query(boxes[own], predicate="dwithin", distance=distance * _NEARLY)
            near[own[np.unique(found[0])]] = True
    return near


def _assemble(
    sources: Sequence[TileSource],
    part_of: npt.NDArray[np.int64],
    dropped: npt.NDArray[np.bool_],
    shares: npt.NDArray[np.float64],
) -> Split:
    train, validation, test = chosen = [
        tuple(sources[place] for place in np.flatnonzero((part_of == number) & ~dropped).tolist())
        for number in range(3)
    ]
    for part, tiles, share in zip(PARTS, chosen, shares, strict=True):
        if share > 0 and not tiles:
            raise InputError(
                f"no tile is left for {part} of {len(sources)}, of which {dropped.sum()} lie too near to another part: "
                "pass a larger block, smaller tiles, or more images"
            )
    return Split(train, validation, test, dropped=tuple(sources[place] for place in np.flatnonzero(dropped).tolist()))

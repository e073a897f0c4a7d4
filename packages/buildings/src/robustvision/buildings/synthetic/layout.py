"""Where things stand: streets in bands, lots along them, a building, a pad or trees on each lot. All in metres.

A scene's plane has x to the right and y down, with its origin at the picture's upper left corner. Every building lies
inside its own lot, so none overlap.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from robustvision.buildings.synthetic.district import District

Array = npt.NDArray[np.float64]
Range = tuple[float, float]
Bounds = tuple[float, float, float, float]


@dataclass(frozen=True)
class Size:
    """What the buildings of a height class measure, in metres.

    Attributes:
        side_m: Range of a footprint's sides.
        height_m: Range of the heights.
        gap_m: Mean gap to the neighbour along the street.
        yard_m: What a lot is deeper than its largest building.
        road_m: Width of a street.
        gabled: Share of gable roofs.
        floor_m: Range of what a facade's floors measure.
    """

    side_m: Range
    height_m: Range
    gap_m: float
    yard_m: float
    road_m: float
    gabled: float
    floor_m: Range


SIZES = {
    "low": Size((9.0, 18.0), (3.0, 9.0), 7.0, 5.0, 7.0, 0.7, (2.7, 3.2)),
    "mid": Size((14.0, 28.0), (12.0, 30.0), 10.0, 7.0, 9.0, 0.2, (2.9, 3.6)),
    "high": Size((20.0, 36.0), (36.0, 90.0), 14.0, 8.0, 12.0, 0.0, (3.1, 3.9)),
    "skyscraper": Size((26.0, 44.0), (100.0, 250.0), 19.0, 10.0, 15.0, 0.0, (3.6, 4.4)),
}
"""Footprints and heights by class [R]: the classes' names are the paper's, the numbers a prototype's."""


@dataclass(frozen=True, eq=False)
class Block:
    """One building's body.

    Attributes:
        ring_m: [4 or 6, 2] corners of the footprint.
        parts_m: The rectangles that make it up, each [3, 2]: a corner and the two edges from it, the longer one first.
        height_m: Height of its flat top.
        height_class: The class it was drawn from.
    """

    ring_m: Array
    parts_m: tuple[Array, ...]
    height_m: float
    height_class: str


@dataclass(frozen=True, eq=False)
class Plan:
    """What stands and lies in a place.

    Attributes:
        style: The district.
        blocks: Buildings.
        roads_m: [n, 4, 2] streets.
        pads_m: [n, 4, 2] flat paved places.
        trees_m: [n, 4] x, y, radius, height.
        bounds_m: Left, top, right, bottom.
    """

    style: District
    blocks: tuple[Block, ...]
    roads_m: Array
    pads_m: Array
    trees_m: Array
    bounds_m: Bounds


def plan_place(rng: np.random.Generator, style: District, height_class: str, bounds_m: Bounds) -> Plan:
    """Draw a place full of buildings of one class.

    Args:
        rng: Source of randomness.
        style: The district.
        height_class: A key of `SIZES`.
        bounds_m: Left, top, right, bottom; buildings that lie wholly inside are kept.
    """
    size = SIZES[height_class]
    left, top, right, bottom = bounds_m
    centre = np.array([left + right, top + bottom]) / 2
    half = np.hypot(right - left, bottom - top) / 2 + size.side_m[1]
    turn = np.deg2rad(style.grid_deg + rng.normal(0, 4) + 90 * rng.integers(4))
    axes = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])  # rows: along and across the streets

    depth = size.side_m[1] + size.yard_m * style.spacing
    road = size.road_m * rng.uniform(0.85, 1.2)
    starts = np.arange(-half - rng.uniform(0, 2 * depth + road), half, 2 * depth + road)
    roads, pads, blocks, empty = [], [], [], []
    for start in starts:
        roads.append(_rectangle(0, start + road / 2, half, road / 2))
        crossings = np.cumsum(rng.uniform(3.5, 6.5, int(half / size.side_m[0]) + 4) * size.side_m[1]) - half
        crossings = crossings[crossings < half] - rng.uniform(0, 3) * size.side_m[1]
        roads += [_rectangle(at, start + road + depth, road / 2.6, depth) for at in crossings]
        for row in (0.5, 1.5):
            lots = _lots(rng, style, size, half, crossings, road)
            middle = start + road + row * depth
            is_vacant = rng.random(len(lots)) < style.vacancy
            places = np.column_stack([lots[:, 0], np.full(len(lots), middle)]) @ axes + centre
            is_near = ((places >= (left, top)) & (places <= (right, bottom))).all(axis=1)
            for (at, width, a, b), vacant, near in zip(lots, is_vacant, is_near, strict=True):
                if not near:
                    continue
                if not vacant:
                    blocks.append(_block(rng, style, height_class, (at, middle), (width, depth), (a, b), axes, centre))
                elif rng.random() < style.pads:
                    pads.append(_rectangle(at, middle, a / 2, b / 2))
                else:
                    empty.append((at, middle, width / 2, depth / 2))
    kept = tuple(
        block for block in blocks if (block.ring_m >= (left, top)).all() and (block.ring_m <= (right, bottom)).all()
    )
    yards = np.array(empty, np.float64).reshape(-1, 4)
    trees = _trees(rng, style, half, yards)
    trees[:, :2] = trees[:, :2] @ axes + centre
    pads_m = np.array(pads, np.float64).reshape(-1, 4, 2)
    return Plan(style, kept, np.array(roads) @ axes + centre, pads_m @ axes + centre, trees, bounds_m)


def _lots(rng: np.random.Generator, style: District, size: Size, half: float, crossings: Array, road: float) -> Array:
    """[n, 4] middle, width, and the two sides of the building, of the lots of a row that no crossing street cuts."""
    count = int(2 * half / (size.side_m[0] + 0.5 * size.gap_m)) + 3
    a, b = rng.uniform(*size.side_m, (2, count))
    width = a + size.gap_m * style.spacing * rng.uniform(0.5, 1.5, count)
    ends = np.cumsum(width) - half - rng.uniform(0, size.side_m[1])
    lots = np.stack([ends - width / 2, width, a, b], axis=1)
    near = np.abs(lots[:, :1] - crossings) < width[:, None] / 2 + road / 2.6
    return lots[~near.any(axis=1) & (ends < half + size.side_m[1])]


def _rectangle(x: float, y: float, half_width: float, half_height: float) -> Array:
    return np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * (half_width, half_height) + (x, y)


def _block(
    rng: np.random.Generator,
    style: District,
    height_class: str,
    middle: tuple[float, float],
    lot: tuple[float, float],
    sides: tuple[float, float],
    axes: Array,
    centre: Array,
) -> Block:
    """A building somewhere in its lot: turned as far as it fits, shifted in the room that is left."""
    turn = np.deg2rad(style.turn_deg) * rng.standard_normal()
    cos, sin = abs(np.cos(turn)), abs(np.sin(turn))
    need = np.array([sides[0] * cos + sides[1] * sin, sides[0] * sin + sides[1] * cos])
    if (need > np.array(lot) - 1).any():
        turn, need = 0.0, np.array(sides)
    at = np.array(middle) + rng.uniform(-0.5, 0.5, 2) * np.maximum(np.array(lot) - 1 - need, 0)
    frame = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]]) @ axes
    x, y = np.array(sides) / 2
    if rng.random() < style.notched:  # an L: the corner (x, y) is cut out, then mirrored anywhere
        nx, ny = np.array(sides) * rng.uniform(0.3, 0.6, 2)
        ring = np.array([[-x, -y], [x, -y], [x, y - ny], [x - nx, y - ny], [x - nx, y], [-x, y]])
        parts = [_part(-x, -y, x, y - ny), _part(-x, y - ny, x - nx, y)]
        mirror = rng.choice([-1.0, 1.0], 2)
    else:
        ring = _rectangle(0, 0, x, y)
        parts, mirror = [_part(-x, -y, x, y)], np.ones(2)
    place = at @ axes + centre
    moved = (np.array([place, (0, 0), (0, 0)]) + (part * mirror) @ frame for part in parts)
    height = rng.uniform(*SIZES[height_class].height_m)
    return Block((ring * mirror) @ frame + place, tuple(moved), float(height), height_class)


def _part(left: float, top: float, right: float, bottom: float) -> Array:
    """A corner and two edges, the longer one first."""
    edges = np.array([[right - left, 0], [0, bottom - top]])
    return np.vstack([(left, top), edges if right - left >= bottom - top else edges[::-1]])


def _trees(rng: np.random.Generator, style: District, half: float, yards: Array) -> Array:
    """Trees anywhere, and clumps of them in yards: [n, 4] x, y, radius, height."""
    loose = rng.uniform(-half, half, (rng.poisson(style.vegetation * (2 * half) ** 2 / 1e4), 2))
    which = rng.integers(0, max(len(yards), 1), 6 * len(yards))
    clumps = yards[which, :2] + rng.uniform(-1, 1, (len(which), 2)) * yards[which, 2:]
    place = np.concatenate([loose, clumps])
    radius = rng.uniform(1.4, 3.8, len(place))
    return np.column_stack([place, radius, radius * rng.uniform(1.5, 2.6, len(place))])

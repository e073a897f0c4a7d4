"""Splits: no two tiles of different parts touch, whatever the layout, the block or the seed."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import shapely
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from robustvision.buildings.data import Split, TileSource, block_split, random_split
from robustvision.core.errors import InputError


def source(name: str, bounds: tuple[float, float, float, float] | None = None, group: str = "") -> TileSource:
    return TileSource(name, lambda: pytest.fail("a split reads no pixel"), group, bounds)


def grid(
    rows: int, columns: int, side: float = 256.0, stride: float | None = None, group: str = "a"
) -> list[TileSource]:
    """Tiles of a raster: side by side, or overlapping."""
    step = side if stride is None else stride
    return [
        source(f"{group}{row},{column}", (column * step, row * step, column * step + side, row * step + side), group)
        for row in range(rows)
        for column in range(columns)
    ]


def parts(split: Split) -> list[tuple[TileSource, ...]]:
    return [split.train, split.validation, split.test]


def least_distance(first: tuple[TileSource, ...], second: tuple[TileSource, ...]) -> float:
    """Between any two tiles of one group, one from each part."""
    distances = [
        float(shapely.distance(shapely.box(*one.bounds), shapely.box(*other.bounds)))
        for one, other in itertools.product(first, second)
        if one.group == other.group and one.bounds and other.bounds
    ]
    return min(distances, default=np.inf)


@settings(max_examples=60, deadline=None)
@given(
    rows=st.integers(6, 14),
    columns=st.integers(6, 14),
    block=st.integers(1, 4),
    buffer=st.sampled_from([0.25, 1.0, 2.0]),
    overlap=st.sampled_from([1.0, 0.5, 0.75]),
    side=st.sampled_from([256.0, 0.3 * 256, 1e-3]),
    seed=st.integers(0, 1000),
)
def test_no_two_tiles_of_different_parts_overlap_or_touch(
    rows: int, columns: int, block: int, buffer: float, overlap: float, side: float, seed: int
) -> None:
    tiles = grid(rows, columns, side, side * overlap)
    try:
        split = block_split(tiles, block=block, buffer=buffer, seed=seed)
    except InputError:
        assume(False)  # too few blocks: tested below
    for first, second in itertools.combinations(parts(split), 2):
        assert least_distance(first, second) >= buffer * side * (1 - 1e-5)
    everyone = [one.name for one in (*split.train, *split.validation, *split.test, *split.dropped)]
    assert sorted(everyone) == sorted(one.name for one in tiles)


def test_the_smaller_parts_keep_their_size_and_fractions_are_met_before_dropping() -> None:
    split = block_split(grid(40, 40), block=4, seed=1)
    assert len(split.test) == pytest.approx(0.2 * 1600, abs=16)
    assert len(split.validation) < 0.1 * 1600 + 16
    assert len(split.train) > 0.3 * 1600
    assert not {one.name for one in split.test} & {one.name for one in split.dropped}


def test_rasters_that_overlap_on_one_plane_do_not_leak() -> None:
    """Two rasters of one city, shifted by half a tile, are one place."""
    first = grid(12, 12, 100.0, group="EPSG:32755")
    moved = [
        source(f"b{number}", (left + 50, low + 50, right + 50, high + 50), "EPSG:32755")
        for number, one in enumerate(first)
        for left, low, right, high in [one.bounds or (0, 0, 0, 0)]
    ]
    split = block_split(first + moved, block=3)
    for one, other in itertools.combinations(parts(split), 2):
        assert least_distance(one, other) >= 100 * (1 - 1e-5)


def test_the_same_seed_gives_the_same_split_and_another_another() -> None:
    names = [[one.name for one in block_split(grid(20, 20), block=2, seed=seed).test] for seed in (0, 0, 1)]
    assert names[0] == names[1] != names[2]


def test_tiles_without_places_stay_together_by_group() -> None:
    tiles = [source(f"{city}{number}", None, city) for city in "abcdefghij" for number in range(7)]
    split = block_split(tiles)
    groups = [{one.group for one in part} for part in parts(split)]
    assert [len(each) for each in groups] == [7, 1, 2]
    assert not split.dropped
    assert len(set.union(*groups)) == 10


def test_blocks_become_smaller_where_there_are_few_tiles() -> None:
    for side, block in ((32, 8), (12, 4), (6, 2), (4, 1)):
        tiles = grid(side, side)
        shares = (0.5, 0.0, 0.5)
        assert block_split(tiles, shares) == block_split(tiles, shares, block=block)


def test_a_part_can_be_left_out() -> None:
    split = block_split(grid(12, 12), (0.8, 0.2, 0.0), block=3)
    assert not split.test
    assert split.validation


@pytest.mark.parametrize(
    ("tiles", "options", "message"),
    [
        (grid(4, 4), {"fractions": (0.7, 0.1, 0.1)}, "adding up to 1"),
        (grid(4, 4), {"fractions": (0.7, 0.3)}, "adding up to 1"),
        (grid(4, 4), {"block": 8}, "1 blocks or groups cannot be dealt out to 3 parts"),
        (grid(3, 1), {"block": 1}, "no tile is left for train of 3"),
        (grid(4, 4), {"block": 0}, "block is 0"),
        (grid(4, 4), {"buffer": 0.0}, "buffer 0"),
        ([source("a"), source("b")], {}, "neither a place nor a group"),
        ([source("a", (0, 10, 5, 10), "g")], {}, "hold no area"),
    ],
)
def test_what_cannot_be_split_is_named(tiles: list[TileSource], options: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        block_split(tiles, **options)


def test_a_random_split_warns_that_it_leaks() -> None:
    tiles = grid(10, 10)
    with pytest.warns(UserWarning, match="leaks"):
        split = random_split(tiles)
    assert [len(part) for part in parts(split)] == [70, 10, 20]
    assert least_distance(split.train, split.test) == 0

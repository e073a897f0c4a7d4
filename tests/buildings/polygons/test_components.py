"""Components against scipy's labels; their rings, drawn again, against the mask; strips of any height against one."""

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from rasterio.features import rasterize
from scipy import ndimage

from robustvision.buildings.polygons.components import Strip, find_components

masks = hnp.arrays(bool, hnp.array_shapes(min_dims=2, max_dims=2, max_side=14))


def levels_of(mask):
    return np.random.default_rng(mask.size).integers(0, 256, mask.shape).astype(np.uint8)


def components(mask, rows=None, **options):
    levels, rows = levels_of(mask), rows or len(mask)
    strips = (Strip(top, mask[top : top + rows], levels[top : top + rows]) for top in range(0, len(mask), rows))
    return list(find_components(strips, **options))


def facts(found):
    return [([ring.tolist() for ring in one.rings], one.pixels, one.level_sum, one.first, one.last) for one in found]


def polygon(component):
    outer, *holes = component.rings
    return shapely.Polygon(outer, holes)


def spiral(turns):
    """A wall one pixel thick that winds inwards; one component."""
    size = 4 * turns + 1
    mask = np.zeros((size, size), bool)
    for turn in range(turns):
        low, high = 2 * turn, size - 1 - 2 * turn
        mask[low, max(low - 2, 0) : high + 1] = mask[low : high + 1, high] = True
        mask[high, low : high + 1] = mask[low + 2 : high + 1, low] = True
    return mask


def comb(height):
    """A U of many legs: all meet in the last row only."""
    mask = np.zeros((height, 41), bool)
    mask[:, ::2] = True
    mask[-1] = True
    return mask


def ring_street(size):
    """A ring with an island inside that holds a ring of its own."""
    mask = np.ones((size, size), bool)
    mask[2:-2, 2:-2] = False
    mask[5:-5, 5:-5] = True
    mask[8:-8, 8:-8] = False
    return mask


@given(masks)
@settings(max_examples=150, deadline=None)
def test_any_strip_height_gives_the_same(mask):
    whole = facts(components(mask))
    for rows in range(1, len(mask)):
        assert facts(components(mask, rows)) == whole


@given(masks)
@settings(max_examples=150, deadline=None)
def test_components_are_those_of_scipy(mask):
    labels, count = ndimage.label(mask)
    levels = levels_of(mask).astype(int)
    expected = []
    for number in range(1, count + 1):
        pixels = np.argwhere(labels == number)  # by rows
        total = int(levels[labels == number].sum())
        expected.append((tuple(pixels[-1]), tuple(pixels[0]), len(pixels), total, _holes(labels == number)))
    found = [(one.last, one.first, one.pixels, one.level_sum, len(one.rings) - 1) for one in components(mask)]
    assert found == sorted(expected)


def _holes(mask):
    """Background that does not reach the outside; rings cut it at corners, so it is connected over edges only."""
    return ndimage.label(np.pad(~mask, 1, constant_values=True))[1] - 1


@given(masks)
@settings(max_examples=150, deadline=None)
def test_outlines_drawn_again_are_the_mask(mask):
    found = components(mask)
    outlines = [polygon(one) for one in found]
    assert all(outline.is_valid for outline in outlines)
    assert [outline.area for outline in outlines] == [one.pixels for one in found]
    drawn = rasterize(outlines, out_shape=mask.shape, dtype=np.uint8) if outlines else np.zeros(mask.shape)
    assert np.array_equal(drawn, mask)


@given(masks, st.integers(1, 6))
@settings(max_examples=50, deadline=None)
def test_small_ones_are_left_out_whole(mask, min_pixels):
    kept = [one for one in facts(components(mask)) if one[1] >= min_pixels]
    for rows in (1, 3, len(mask)):
        assert facts(components(mask, rows, min_pixels=min_pixels)) == kept


@pytest.mark.parametrize(
    ("mask", "holes"),
    [(spiral(6), [0]), (comb(40), [0]), (comb(40)[::-1], [0]), (ring_street(30), [1, 1])],
    ids=["spiral", "comb", "comb upside down", "rings"],
)
@pytest.mark.parametrize("rows", [1, 2, 7, 100])
def test_long_ones_are_whole_across_many_strips(mask, holes, rows):
    found = components(mask, rows)
    assert sorted(len(one.rings) - 1 for one in found) == holes
    assert sum(one.pixels for one in found) == mask.sum()
    assert np.array_equal(rasterize([polygon(one) for one in found], out_shape=mask.shape, dtype=np.uint8), mask)


def test_squares_that_meet_at_corners_are_buildings_of_their_own():
    board = np.indices((8, 8)).sum(axis=0) % 2 == 0
    assert [one.pixels for one in components(board, 3)] == [1] * 32


def test_a_hole_that_meets_the_outside_at_a_corner_stays_a_hole():
    mask = np.array([[1, 1, 0], [1, 0, 1], [1, 1, 1]], bool)
    (one,) = components(mask, 2)
    outer, hole = one.rings
    assert hole.tolist() == [[1, 1], [1, 2], [2, 2], [2, 1]] or hole.tolist() == [[1, 1], [2, 1], [2, 2], [1, 2]]
    assert outer[0].tolist() == [0, 0]


def test_sums_are_exact_where_floats_of_32_bits_are_not():
    mask, levels = np.ones((4096, 4097), bool), np.full((4096, 4097), 255, np.uint8)
    levels[-1, -1] = 254
    (one,) = find_components([Strip(0, mask[:4000], levels[:4000]), Strip(4000, mask[4000:], levels[4000:])])
    assert one.level_sum == 255 * 4096 * 4097 - 1


@pytest.mark.parametrize("rows", [1, 2, 5])
def test_an_empty_mask_has_none(rows):
    assert components(np.zeros((5, 4), bool), rows) == []

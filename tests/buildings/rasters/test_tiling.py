"""Tiles cover a raster, lie inside, and strips share the work without sharing a tile."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from robustvision.buildings.rasters import TilePlan
from robustvision.core.errors import InputError

sizes = st.tuples(st.integers(1, 3000), st.integers(1, 400), st.integers(1, 64)).flatmap(
    lambda size: st.tuples(st.just(size[0]), st.just(size[1]), st.just(size[2]), st.integers(1, size[2]))
)


@given(sizes)
def test_tiles_cover_all_and_lie_inside(size):
    height, width, tile, stride = size
    plan = TilePlan(height, width, tile, stride)
    for starts, length in ((plan.rows, height), (plan.columns, width)):
        assert starts[0] == 0
        assert starts[-1] == max(0, length - tile)
        steps = np.diff(starts)
        assert (steps[:-1] == stride).all()
        assert (steps > 0).all()
        assert (steps <= stride).all()


@given(sizes)
def test_strips_divide_tile_rows_and_overlap_neighbours_alone(size):
    height, width, tile, stride = size
    plan = TilePlan(height, width, tile, stride)
    strips = plan.strips
    assert tuple(row for strip in strips for row in strip.tile_rows) == plan.rows
    assert sum(strip.own for strip in strips) == height
    assert strips[0].shared == 0
    assert strips[-1].bottom == strips[-1].top + strips[-1].own == height
    for above, strip in itertools.pairwise(strips):
        assert above.top + above.own == strip.top
        assert strip.shared == above.bottom - strip.top >= 0
        assert strip.shared <= strip.own  # nothing is handed on twice


def test_a_known_plan():
    plan = TilePlan(1000, 300, 256, 192)
    assert plan.rows == (0, 192, 384, 576, 744)
    assert plan.columns == (0, 44)
    first, last = plan.strips
    assert (first.top, first.bottom, first.own, first.shared) == (0, 832, 744, 0)
    assert (last.top, last.bottom, last.own, last.shared) == (744, 1000, 256, 88)


@pytest.mark.parametrize("stride", [0, -1, 65])
def test_an_impossible_stride_is_refused(stride):
    with pytest.raises(InputError, match="stride_px is"):
        TilePlan(100, 100, 64, stride)

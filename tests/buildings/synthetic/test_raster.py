"""What lies inside a shape, against GDAL's rasteriser, which also goes by the centres of pixels."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.features import rasterize
from shapely.geometry import Polygon

from robustvision.buildings.synthetic.raster import fill_polygon, parallelogram

# sixteenths of a pixel, off the grid of centres by an odd 1/32: no centre lies on an edge's end, few on an edge
coordinate = st.integers(-320, 960).map(lambda value: value / 16 + 1 / 32)
point = st.tuples(coordinate, coordinate).map(np.array)


def on_an_edge(polygon: Polygon, shape: tuple[int, int]) -> np.ndarray:
    import shapely

    rows, columns = np.indices(shape) + 0.5
    return shapely.distance(shapely.points(columns, rows), polygon.exterior) < 1e-9


@settings(max_examples=60, deadline=None)
@given(point, point, point)
def test_parallelograms(origin, first, second):
    corners = np.array([origin, origin + first, origin + first + second, origin + second])
    polygon = Polygon(corners)
    found = np.zeros((30, 41), bool)
    patch = parallelogram(origin, first, second, found.shape)
    if patch is not None:
        found[patch.window] = patch.inside
    if polygon.area < 1e-6:
        assert not found.any()
        return
    expected = rasterize([polygon], found.shape).astype(bool)
    assert not ((found != expected) & ~on_an_edge(polygon, found.shape)).any()


@settings(max_examples=60, deadline=None)
@given(st.lists(point, min_size=3, max_size=7))
def test_polygons(points):
    polygon = Polygon(points)
    if not polygon.is_valid or polygon.area < 1e-6:
        return
    expected = rasterize([polygon], (30, 41)).astype(bool)
    for ring in (np.array(points), np.array(polygon.exterior.coords), np.array(points)[::-1]):  # open, closed, reversed
        found = np.zeros((30, 41), bool)
        fill_polygon(found, ring)
        assert not ((found != expected) & ~on_an_edge(polygon, found.shape)).any()


def test_shares_run_along_the_edges():
    patch = parallelogram(np.array([2.0, 1.0]), np.array([8.0, 0.0]), np.array([0.0, 4.0]), (10, 20))
    assert patch is not None
    rows, columns = np.nonzero(patch.inside)
    assert np.allclose(patch.along[rows, columns], (columns + patch.window[1].start + 0.5 - 2) / 8)
    assert np.allclose(patch.across[rows, columns], (rows + patch.window[0].start + 0.5 - 1) / 4)
    assert patch.inside.sum() == 32


def test_outside_and_flat_ones_are_nothing():
    unit = np.eye(2) * 3
    assert parallelogram(np.array([50.0, 50.0]), unit[0], unit[1], (10, 20)) is None
    assert parallelogram(np.array([5.0, 5.0]), unit[0], 2 * unit[0], (10, 20)) is None


def test_two_that_touch_share_no_pixel():
    first, second, seam = np.array([7.0, 2.0]), np.array([-2.0, 7.0]), np.array([10.5, 4.5])
    total = np.zeros((30, 30), int)
    for origin in (seam, seam + first, seam + second, seam + first + second):
        patch = parallelogram(origin, first, second, total.shape)
        assert patch is not None
        total[patch.window] += patch.inside
    assert total.max() == 1
    assert total.sum() == 4 * 53  # the area of each

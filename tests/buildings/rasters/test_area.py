"""An area of interest of any vector file, in any coordinate system, on any grid."""

from __future__ import annotations

import json

import numpy as np
import pytest
import rasterio
import shapely
from affine import Affine
from pyproj import Transformer
from rasterio.features import rasterize

from robustvision.buildings.rasters import predict_raster, read_area
from robustvision.core.errors import InputError

from .conftest import NORTH_UP, UTM

SQUARE = "POLYGON ((320020 5811990, 320070 5811990, 320070 5811960, 320020 5811960, 320020 5811990))"
CORNERS_PX = ((30.37, 40.21), (250.13, 60.77), (200.49, 260.31), (50.91, 200.67))


def test_only_the_area_has_results_and_what_lies_outside_is_not_run(
    write_raster, picture, identity, write_area, tmp_path
):
    image = picture(700, 300)
    result = predict_raster(write_raster(image), identity, tmp_path / "out.tif", aoi=write_area([SQUARE]), quiet=True)
    inside = np.zeros((700, 300), bool)
    inside[20:80, 40:140] = True  # 0.5 m a pixel from (320000, 5812000)
    with rasterio.open(tmp_path / "out.tif") as file:
        np.testing.assert_array_equal(file.dataset_mask() > 0, inside)
        np.testing.assert_array_equal(file.read(1), np.where(inside, image[..., 0], 0))
    assert result.tiles == 2 * 3  # 64 px tiles at 0, 48; 0, 48, 96


def test_holes_parts_and_overlaps_count_as_one_area(write_area):
    hole = "POLYGON ((320000 5812000, 320050 5812000, 320050 5811950, 320000 5811950, 320000 5812000),"
    hole += "(320010 5811990, 320010 5811970, 320030 5811970, 320030 5811990, 320010 5811990))"
    path = write_area(
        [hole, "POLYGON ((320012 5811988, 320020 5811988, 320020 5811980, 320012 5811980, 320012 5811988))"]
    )
    area = read_area(path, rasterio.crs.CRS.from_epsg(32755), NORTH_UP, 200, 200)
    shape = shapely.union_all(shapely.from_wkt([hole, shapely.to_wkt(shapely.box(320012, 5811980, 320020, 5811988))]))
    expected = rasterize([shape], (200, 200), transform=NORTH_UP) > 0
    np.testing.assert_array_equal(area.inside(0, 200), expected)
    np.testing.assert_array_equal(area.inside(37, 60), expected[37:97])
    assert 0 < expected.sum() < 100 * 100


@pytest.mark.parametrize(
    "transform",
    [NORTH_UP, Affine(0.5, 0, 320000, 0, 0.5, 5811850), NORTH_UP @ Affine.rotation(20)],
    ids=["north-up", "south-up", "rotated"],
)
def test_another_coordinate_system_is_reprojected(write_area, transform):
    corners = [transform @ corner for corner in CORNERS_PX]
    to_degrees = Transformer.from_crs(UTM, "EPSG:4326", always_xy=True)
    degrees = shapely.Polygon([to_degrees.transform(*corner) for corner in corners])
    area = read_area(write_area([degrees.wkt], crs="EPSG:4326"), rasterio.crs.CRS.from_epsg(32755), transform, 300, 300)
    expected = rasterize([shapely.Polygon(CORNERS_PX)], (300, 300)) > 0
    assert (area.inside(0, 300) != expected).mean() < 5e-5  # 4 pixels


def test_long_edges_follow_the_other_system(write_area):
    """A parallel of latitude is a curve in UTM: 60 km of it bulge by many pixels."""
    transform = Affine(30, 0, 300000, 0, -30, 5830000)
    to_degrees = Transformer.from_crs(UTM, "EPSG:4326", always_xy=True)
    rows, columns = np.mgrid[0:1000, 0:2000]
    lon, lat = to_degrees.transform(300000 + 30 * (columns + 0.5), 5830000 - 30 * (rows + 0.5))
    west, east, south, north = 144.9, 145.3, -37.87, -37.75
    area = read_area(
        write_area([shapely.box(west, south, east, north).wkt], crs="EPSG:4326"),
        rasterio.crs.CRS.from_epsg(32755),
        transform,
        1000,
        2000,
    )
    expected = (lon > west) & (lon < east) & (lat > south) & (lat < north)
    assert expected.mean() > 0.1
    assert (area.inside(0, 1000) != expected).mean() < 1e-4


def test_without_a_place_the_area_is_in_pixels(tmp_path):
    path = tmp_path / "area.geojson"
    ring = [[10, 20], [30, 20], [30, 50], [10, 50], [10, 20]]
    shape = {"type": "Polygon", "coordinates": [ring]}
    feature = {"type": "Feature", "properties": {}, "geometry": shape}
    path.write_text(json.dumps({"type": "FeatureCollection", "features": [feature]}))
    inside = read_area(path, None, Affine.identity(), 100, 80).inside(0, 100)
    expected = np.zeros((100, 80), bool)
    expected[20:50, 10:30] = True
    np.testing.assert_array_equal(inside, expected)


def test_areas_that_cannot_be_used_are_refused(write_area, tmp_path):
    place = (rasterio.crs.CRS.from_epsg(32755), NORTH_UP, 200, 200)
    with pytest.raises(InputError, match="does not meet the raster"):
        read_area(write_area(["POLYGON ((0 0, 10 0, 10 10, 0 0))"]), *place)
    with pytest.raises(InputError, match="holds no polygon"):
        read_area(write_area(["LINESTRING (320000 5812000, 320050 5811950)"], "line.gpkg"), *place)
    with pytest.raises(InputError, match="no coordinate system"):
        read_area(write_area([SQUARE], "bare.shp", crs=None), *place)
    with pytest.raises(InputError, match="does not say its coordinate system"):
        read_area(write_area([SQUARE], "good.gpkg"), None, NORTH_UP, 200, 200)
    (tmp_path / "broken.gpkg").write_bytes(b"nothing")
    with pytest.raises(InputError, match=r"broken\.gpkg"):
        read_area(tmp_path / "broken.gpkg", *place)


def test_a_local_system_is_refused_by_name(write_area):
    path = write_area([SQUARE], crs='LOCAL_CS["Unnamed",UNIT["metre",1]]')
    with pytest.raises(InputError, match=r"Unnamed.*local system"):
        read_area(path, rasterio.crs.CRS.from_epsg(32755), NORTH_UP, 300, 300)


def test_an_area_in_pixels_needs_no_system(write_area):
    """Such a file comes out for a picture without a place, and goes in again."""
    path = write_area([shapely.box(20, 30, 60, 50).wkt], crs=None)
    inside = read_area(path, None, Affine.identity(), 100, 100).inside(0, 100)
    expected = np.zeros((100, 100), bool)
    expected[30:50, 20:60] = True
    np.testing.assert_array_equal(inside, expected)
    with pytest.raises(InputError, match="has no coordinate system"):
        read_area(path, rasterio.crs.CRS.from_epsg(32755), NORTH_UP, 300, 300)

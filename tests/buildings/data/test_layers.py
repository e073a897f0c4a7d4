"""Polygons of a map on an image's own grid: pixel by pixel, in any system, on any grid, from broken files."""

from __future__ import annotations

import numpy as np
import pyogrio
import pytest
import rasterio
import shapely
from affine import Affine
from pyproj import Transformer

from robustvision.buildings.data import load_tiles, read_labelled, read_layer, read_vectors, tile_sources
from robustvision.buildings.data.pictures import Grid
from robustvision.core.errors import InputError

CRS = "EPSG:32755"
ORIGIN, PIXEL_M = (320_000.0, 5_814_000.0), 0.5


def expected(rows: slice = slice(10, 30), columns: slice = slice(5, 25), size: int = 64) -> np.ndarray:
    label = np.zeros((size, size), np.uint8)
    label[rows, columns] = 1
    return label


def read_one(images, labels, **options) -> np.ndarray:
    (tile,) = load_tiles(tile_sources(read_vectors(images, labels, **options), Grid()), quiet=True)
    return tile.label


@pytest.fixture
def image(tmp_path, write_tif, picture):
    """A folder with one raster, and where to write labels."""
    write_tif(tmp_path / "images" / "a.tif", picture())
    return tmp_path / "images"


@pytest.mark.parametrize("name", ["a.gpkg", "a.geojson", "a.shp", "a.fgb"])
def test_polygons_fall_on_the_pixels_whose_centres_they_hold(image, tmp_path, write_map, square, name) -> None:
    kind = "MultiPolygon" if name.endswith("gpkg") else "Polygon"
    labels = write_map(tmp_path / name, [square(10, 5, 20, 20)], geometry_type=kind)
    np.testing.assert_array_equal(read_one(image, labels), expected())


@pytest.mark.parametrize("crs", ["EPSG:4326", "EPSG:3857", "EPSG:7855"])
def test_a_map_in_another_system_is_brought_to_the_image(image, tmp_path, write_map, square, crs) -> None:
    change = Transformer.from_crs(CRS, crs, always_xy=True)
    there = shapely.transform(square(10.1, 5.1, 19.8, 19.8), lambda xy: np.column_stack(change.transform(*xy.T)))
    labels = write_map(tmp_path / "a.gpkg", [there], crs=crs)
    label = read_one(image, labels)
    assert (label != expected()).sum() <= 40  # GDA2020 and WGS 84 are one to some decimetres, at worst one line
    if crs != "EPSG:7855":
        np.testing.assert_array_equal(label, expected())


def test_a_geographic_image_is_drawn_on(tmp_path, write_tif, write_map, picture, square) -> None:
    to_degrees = Transformer.from_crs(CRS, "EPSG:4326", always_xy=True)
    (lon, lat), (right, low) = (to_degrees.transform(ORIGIN[0] + step, ORIGIN[1] - step) for step in (0, 32))
    step_x, step_y = (right - lon) / 64, (lat - low) / 64
    grid = Affine(step_x, 0, lon, 0, -step_y, lat)
    write_tif(tmp_path / "images" / "a.tif", picture(), crs="EPSG:4326", transform=grid)
    there = shapely.box(lon + 5 * step_x, lat - 30 * step_y, lon + 25 * step_x, lat - 10 * step_y)
    labels = write_map(tmp_path / "a.gpkg", [there], crs="EPSG:4326")
    np.testing.assert_array_equal(read_one(tmp_path / "images", labels), expected())


def test_a_south_up_image_has_its_label_south_up(tmp_path, write_tif, write_map, picture, square) -> None:
    south_up = Affine(PIXEL_M, 0, ORIGIN[0], 0, PIXEL_M, ORIGIN[1] - 32)
    write_tif(tmp_path / "images" / "a.tif", picture(), transform=south_up)
    labels = write_map(tmp_path / "a.gpkg", [square(10, 5, 20, 20)])
    np.testing.assert_array_equal(read_one(tmp_path / "images", labels), expected()[::-1])


def test_a_turned_image_has_its_label_turned(tmp_path, write_tif, write_map, picture) -> None:
    turned = Affine.translation(*ORIGIN) @ Affine.rotation(30) @ Affine.scale(PIXEL_M, -PIXEL_M)
    write_tif(tmp_path / "images" / "a.tif", picture(), transform=turned)
    corners = [turned @ corner for corner in ((5, 10), (25, 10), (25, 30), (5, 30))]
    labels = write_map(tmp_path / "a.gpkg", [shapely.Polygon(corners)])
    np.testing.assert_array_equal(read_one(tmp_path / "images", labels), expected())


def test_windows_of_one_raster_make_up_the_whole(tmp_path, write_tif, write_map, picture, square) -> None:
    write_tif(tmp_path / "images" / "a.tif", picture(1, 150, 170))
    shapes = [square(10, 5, 20, 20), square(30, 60, 80, 50), square(140, 160, 30, 30)]
    labels = write_map(tmp_path / "a.gpkg", shapes)
    pictures = read_vectors(tmp_path / "images", labels)
    (whole,) = load_tiles(tile_sources(pictures, Grid()), quiet=True)
    count = np.zeros((150, 170), int)
    for tile in load_tiles(tile_sources(pictures, Grid(64)), quiet=True):
        row, column = map(int, tile.name.split("@")[1].split(","))
        window = slice(row, row + 64), slice(column, column + 64)
        np.testing.assert_array_equal(tile.label, whole.label[window])
        np.testing.assert_array_equal(tile.image, whole.image[window])
        count[window] += 1 if tile.valid is None else tile.valid
    assert (count == 1).all()
    assert whole.gsd_m == pytest.approx(PIXEL_M, rel=2e-3)


def test_holes_stay_open_and_the_parts_of_a_multipolygon_are_drawn(image, tmp_path, write_map, square) -> None:
    ring = square(10, 5, 20, 20).difference(square(15, 10, 5, 5))
    pair = shapely.MultiPolygon([ring, square(40, 40, 10, 10)])
    label = expected()
    label[15:20, 10:15] = 0
    label[40:50, 40:50] = 1
    np.testing.assert_array_equal(read_one(image, write_map(tmp_path / "a.gpkg", [pair])), label)


def test_broken_outlines_are_mended_and_counted(image, tmp_path, write_map, square) -> None:
    whole = square(10, 5, 20, 20)
    (left, low, right, high) = whole.bounds
    bow_tie = shapely.Polygon([(left, low), (right, high), (right, low), (left, high)])
    with_z = shapely.force_3d(square(40, 40, 10, 10), 17.5)
    line = shapely.LineString([(left, low), (right, high)])
    flat = shapely.Polygon([(left, low), (right, high), (left, low)])
    shapes = [bow_tie, with_z, with_z, shapely.Polygon(), None, line, flat]
    labels = write_map(tmp_path / "a.gpkg", shapes)
    layer = read_layer(labels)
    assert len(layer.polygons) == 3
    assert shapely.is_valid(layer.polygons).all()
    assert not shapely.has_z(layer.polygons).any()
    assert (layer.num_mended, layer.num_empty, layer.num_other, layer.num_repeated) == (2, 3, 1, 1)
    label = read_one(image, labels)
    assert label[40:50, 40:50].all()
    assert label[10:30, 5:25].sum() == pytest.approx(200, abs=12)  # two of the bow tie's four triangles


def test_an_image_without_buildings_has_an_empty_label(tmp_path, write_tif, write_map, picture, square) -> None:
    write_tif(tmp_path / "images" / "a.tif", picture())
    far = Affine(PIXEL_M, 0, ORIGIN[0] + 500, 0, -PIXEL_M, ORIGIN[1])
    write_tif(tmp_path / "images" / "b.tif", picture(1), transform=far)
    pictures = read_vectors(tmp_path / "images", write_map(tmp_path / "a.gpkg", [square(10, 5, 20, 20)]))
    tiles = load_tiles(tile_sources(pictures, Grid()), quiet=True)
    assert [int(tile.label.sum()) for tile in tiles] == [400, 0]


def test_a_map_that_was_written_anew_is_read_anew(image, tmp_path, write_map, square) -> None:
    labels = write_map(tmp_path / "a.gpkg", [square(10, 5, 20, 20)])
    assert read_one(image, labels).sum() == 400
    labels.unlink()
    write_map(labels, [square(10, 5, 20, 20), square(40, 40, 10, 10)])
    assert read_one(image, labels).sum() == 500


def test_a_layer_of_several_is_asked_for(image, tmp_path, write_map, square) -> None:
    labels = write_map(tmp_path / "a.gpkg", [square(0, 0, 5, 5)], layer="roads")
    write_map(labels, [square(10, 5, 20, 20)], layer="houses", append=False)
    assert len(pyogrio.list_layers(labels)) == 2
    with pytest.raises(InputError, match="layers roads, houses: name one"):
        read_vectors(image, labels)
    np.testing.assert_array_equal(read_one(image, labels, layer="houses"), expected())


class TestErrors:
    def test_an_image_without_a_system(self, tmp_path, write_tif, write_map, picture, square) -> None:
        write_tif(tmp_path / "images" / "a.tif", picture(), crs=None, transform=None)
        labels = write_map(tmp_path / "a.gpkg", [square(10, 5, 20, 20)])
        with pytest.raises(InputError, match=r"a\.tif has no coordinate system.*gdal_edit"):
            read_vectors(tmp_path / "images", labels)

    def test_a_map_without_a_system(self, image, tmp_path, write_map, square) -> None:
        labels = write_map(tmp_path / "a.shp", [square(10, 5, 20, 20)], crs=None, geometry_type="Polygon")
        with pytest.raises(InputError, match=r"a\.shp has no coordinate system.*a_srs"):
            read_vectors(image, labels)

    def test_a_map_of_another_place(self, image, tmp_path, write_map, square) -> None:
        """Swapped axes, the usual reason: latitude as x."""
        labels = write_map(tmp_path / "a.gpkg", [shapely.box(-37.8, 144.9, -37.7, 145.0)], crs="EPSG:4326")
        with pytest.raises(InputError, match=r"none of the 1 polygons.*axis order"):
            read_vectors(image, labels)

    def test_a_map_of_points(self, image, tmp_path, write_map) -> None:
        labels = write_map(tmp_path / "a.gpkg", [shapely.Point(ORIGIN)])
        with pytest.raises(InputError, match="holds no polygon, but 1 points or lines"):
            read_vectors(image, labels)

    @pytest.mark.parametrize("content", [b"", b"not a map"])
    def test_a_file_that_is_no_map(self, image, tmp_path, content) -> None:
        (tmp_path / "a.gpkg").write_bytes(content)
        with pytest.raises(InputError, match=r"a\.gpkg cannot be read as a vector file"):
            read_vectors(image, tmp_path / "a.gpkg")

    def test_no_file(self, image, tmp_path) -> None:
        with pytest.raises(InputError, match="cannot be read as a vector file"):
            read_labelled(image, tmp_path / "missing.gpkg")


def test_masks_and_polygons_give_the_same(tmp_path, write_tif, write_map, write_png, picture, mask, square) -> None:
    write_tif(tmp_path / "images" / "a.tif", picture())
    write_png(tmp_path / "masks" / "a.png", mask())
    labels = write_map(tmp_path / "a.gpkg", [square(10, 5, 20, 20)])
    by_mask, by_map = (
        load_tiles(tile_sources(read_labelled(tmp_path / "images", each), Grid()), quiet=True)[0]
        for each in (tmp_path / "masks", labels)
    )
    np.testing.assert_array_equal(by_mask.label, by_map.label)
    with rasterio.open(tmp_path / "images" / "a.tif") as file:
        np.testing.assert_array_equal(by_map.image, file.read().transpose(1, 2, 0))

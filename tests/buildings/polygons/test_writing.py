"""What is written, opened again with GDAL, SQLite and a JSON reader."""

import json
import sqlite3
from xml.etree import ElementTree

import numpy as np
import pyogrio
import pytest
import shapely
from pyproj import Geod, Transformer
from shapely import LinearRing, Polygon

from robustvision.buildings.polygons import BuildingPolygon, vectorise, write_polygons
from robustvision.core.errors import InputError

from .conftest import UTM_55_SOUTH

ROOF = {"target": "roof", "model_name": "small", "model_hash": "0f3a"}
HOUSE = Polygon([(0, 0), (30, 0), (30, 20), (0, 20)], [[(5, 5), (5, 9), (9, 9), (9, 5)]])


def building(geometry, number=1, **changes):
    facts = {"mean_probability": 0.75, "area": 584.0, "perimeter": 116.0, "unit": "m", "is_regularised": True}
    return BuildingPolygon(geometry=geometry, number=number, first_pixel=(3, 4), **facts | changes)


def read(path, layer="buildings"):
    """Attributes by name, and geometries."""
    meta, _, geometry, fields = pyogrio.raw.read(path, layer=layer)
    return dict(zip(meta["fields"], fields, strict=True)), shapely.from_wkb(geometry), meta


@pytest.fixture
def buildings(levels_tif, town):
    return list(vectorise(levels_tif(town)))


def test_a_geopackage_keeps_system_shapes_and_attributes(tmp_path, buildings):
    out = tmp_path / "town.gpkg"
    assert write_polygons(buildings, out, crs=UTM_55_SOUTH, **ROOF) == len(buildings) > 10
    fields, shapes, meta = read(out)
    assert meta["crs"] == UTM_55_SOUTH
    assert [shape.equals_exact(one.geometry) for shape, one in zip(shapes, buildings, strict=True)]
    assert fields["number"].tolist() == [one.number for one in buildings]
    assert fields["area_m2"] == pytest.approx([one.area for one in buildings], abs=5e-4)
    assert fields["perimeter_m"] == pytest.approx([one.perimeter for one in buildings], abs=5e-4)
    assert fields["compactness"] == pytest.approx([one.compactness for one in buildings], abs=5e-7)
    assert fields["mean_probability"] == pytest.approx([one.mean_probability for one in buildings], abs=5e-7)
    assert fields["is_regularised"].tolist() == [one.is_regularised for one in buildings]
    assert fields["first_row"].tolist() == [one.first_pixel[0] for one in buildings]
    assert set(fields["target"]) == {"roof"}
    assert np.isnan(fields["height_m"]).all()
    assert set(fields["height_class"]) == {None}
    info = pyogrio.read_info(out, layer="buildings")
    assert info["geometry_type"] == "Polygon"
    assert info["layer_metadata"].items() >= {"target": "roof", "model": "small", "model_hash": "0f3a"}.items()


def test_a_geopackage_is_sound_and_indexed(tmp_path, buildings):
    out = tmp_path / "town.gpkg"
    write_polygons(buildings, out, crs=UTM_55_SOUTH, **ROOF)
    with sqlite3.connect(out) as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        rows = database.execute("SELECT count(*) FROM rtree_buildings_geom").fetchone()
        assert rows == (len(buildings),)
    bounds = buildings[3].geometry.bounds
    assert 0 < len(pyogrio.raw.read(out, layer="buildings", bbox=bounds)[2]) < len(buildings)


def test_a_geopackage_has_the_style_where_qgis_looks(tmp_path):
    out = tmp_path / "one.gpkg"
    write_polygons([building(HOUSE)], out, crs=UTM_55_SOUTH, layer="houses", **ROOF)
    fields, _, _ = read(out, "layer_styles")
    key = [fields[name][0] for name in ("f_table_catalog", "f_table_schema", "f_table_name", "f_geometry_column")]
    assert key == ["", "", "houses", pyogrio.read_info(out, layer="houses")["geometry_name"]]
    assert fields["useAsDefault"].tolist() == [True]
    style = ElementTree.fromstring(fields["styleQML"][0].partition("\n")[2])
    assert style.find(".//symbol").get("type") == "fill"
    assert style.find(".//layer").get("class") == "SimpleFill"


def test_many_batches_are_one_layer(tmp_path):
    out = tmp_path / "many.gpkg"
    many = (building(shapely.box(5 * n, 0, 5 * n + 3, 4), n + 1) for n in range(12_001))
    assert write_polygons(many, out, crs=UTM_55_SOUTH, **ROOF) == 12_001
    fields, shapes, _ = read(out)
    assert fields["number"].tolist() == list(range(1, 12_002))
    assert shapes[-1].bounds == (60_000, 0, 60_003, 4)


@pytest.mark.parametrize("suffix", [".gpkg", ".geojson", ".json", ".GPKG"])
def test_the_same_buildings_are_the_same_bytes(tmp_path, buildings, suffix):
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        write_polygons(iter(buildings), tmp_path / name / f"town{suffix}", crs=UTM_55_SOUTH, **ROOF)
    assert len({(tmp_path / name / f"town{suffix}").read_bytes() for name in ("first", "second")}) == 1


@pytest.mark.parametrize("crs", [UTM_55_SOUTH, "EPSG:4326", "EPSG:3857"])
def test_geojson_follows_rfc_7946(tmp_path, crs):
    to_map = Transformer.from_crs(UTM_55_SOUTH, crs, always_xy=True)
    moved = shapely.transform(HOUSE, lambda p: np.stack(to_map.transform(p[:, 0] + 320_000, p[:, 1] + 5_810_000), 1))
    out = tmp_path / "town.geojson"
    write_polygons([building(moved.reverse(), height_m=7.5, height_class="low")], out, crs=crs, **ROOF)
    content = json.loads(out.read_text())
    assert "crs" not in content
    assert content["robustvision"] == {"target": "roof", "model": "small", "model_hash": "0f3a"}
    (feature,) = content["features"]
    outer, hole = feature["geometry"]["coordinates"]
    assert LinearRing(outer).is_ccw
    assert not LinearRing(hole).is_ccw
    assert outer[0] == outer[-1]
    to_degrees = Transformer.from_crs(UTM_55_SOUTH, "EPSG:4326", always_xy=True)
    expected = to_degrees.transform(320_030, 5_810_020)  # longitude first
    assert min(np.abs(np.array(outer) - expected).max(axis=1)) < 1e-8
    area = Geod(ellps="WGS84").geometry_area_perimeter(shapely.geometry.shape(feature["geometry"]))[0]
    assert area == pytest.approx(HOUSE.area, rel=2e-3)
    assert feature["properties"]["height_class"] == "low"
    assert feature["properties"]["height_m"] == 7.5
    assert pyogrio.read_info(out)["crs"] == "EPSG:4326"


def test_geojson_opens_in_gdal_with_all_attributes(tmp_path, buildings):
    out = tmp_path / "town.geojson"
    write_polygons(buildings, out, crs=UTM_55_SOUTH, **ROOF)
    fields, shapes, _ = read(out)
    assert fields["area_m2"] == pytest.approx([one.area for one in buildings], abs=5e-4)
    assert all(shape.is_valid and shape.exterior.is_ccw for shape in shapes)
    ElementTree.fromstring((tmp_path / "town.qml").read_text().partition("\n")[2])


def test_a_building_on_the_antimeridian_is_cut_there(tmp_path):
    """On Taveuni, Fiji, which the 180th meridian crosses."""
    to_map = Transformer.from_crs("EPSG:4326", "EPSG:3460", always_xy=True)  # Fiji's own map grid
    x, y = to_map.transform(180.0, -16.8)
    out = tmp_path / "fiji.geojson"
    write_polygons([building(shapely.box(x - 20, y, x + 10, y + 15))], out, crs="EPSG:3460", **ROOF)
    (feature,) = json.loads(out.read_text())["features"]
    parts = shapely.geometry.shape(feature["geometry"])
    assert parts.geom_type == "MultiPolygon"
    west, east = sorted(parts.geoms, key=lambda part: part.bounds[0])
    assert west.bounds[0] == -180
    assert east.bounds[2] == 180
    assert all(part.exterior.is_ccw for part in parts.geoms)
    areas = [abs(Geod(ellps="WGS84").geometry_area_perimeter(part)[0]) for part in (west, east)]
    assert areas == pytest.approx([150, 300], rel=5e-3)


@pytest.mark.parametrize("suffix", [".gpkg", ".geojson"])
def test_no_buildings_are_a_valid_empty_layer(tmp_path, suffix):
    out = tmp_path / f"empty{suffix}"
    assert write_polygons([], out, crs=UTM_55_SOUTH, **ROOF) == 0
    info = pyogrio.read_info(out, layer="buildings")
    assert info["features"] == 0
    if suffix == ".gpkg":
        assert (info["crs"], info["geometry_type"]) == (UTM_55_SOUTH, "Polygon")
        assert "area_m2" in info["fields"]


def test_without_a_system_a_geopackage_says_pixels(tmp_path):
    out = tmp_path / "pixels.gpkg"
    write_polygons([building(HOUSE, unit="px")], out, crs=None, **ROOF)
    fields, shapes, meta = read(out)
    assert meta["crs"] is None
    assert fields["area_px2"].tolist() == [584.0]
    assert "area_m2" not in fields
    assert shapes[0].equals_exact(HOUSE)


def test_geojson_without_a_system_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"no coordinate system, and GeoJSON is longitude and latitude"):
        write_polygons([], tmp_path / "a.geojson", crs=None, **ROOF)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["a.shp", "a"])
def test_other_endings_are_refused(tmp_path, name):
    with pytest.raises(InputError, match=r"expected \.geojson, \.json, \.gpkg"):
        write_polygons([], tmp_path / name, crs=UTM_55_SOUTH, **ROOF)


@pytest.mark.parametrize("suffix", [".gpkg", ".geojson"])
def test_a_failure_on_the_way_leaves_what_was_there(tmp_path, suffix):
    def failing():
        yield from (building(shapely.box(n, 0, n + 1, 1), n) for n in range(6000))
        raise InputError("the raster broke")

    out = tmp_path / f"town{suffix}"
    write_polygons([building(HOUSE)], out, crs=UTM_55_SOUTH, **ROOF)
    older = {entry: entry.read_bytes() for entry in tmp_path.iterdir()}
    with pytest.raises(InputError, match="the raster broke"):
        write_polygons(failing(), out, crs=UTM_55_SOUTH, **ROOF)
    assert {entry: entry.read_bytes() for entry in tmp_path.iterdir()} == older


def test_what_is_not_from_here_is_not_replaced(tmp_path):
    """A GeoPackage is where people keep all their layers, and `buildings.gpkg` is what many call theirs."""
    for name, layer in (("buildings.gpkg", "buildings"), ("project.gpkg", "parcels"), ("town.geojson", "town")):
        wkb = shapely.to_wkb(np.array([HOUSE]))
        pyogrio.raw.write(
            tmp_path / name, wkb, [], np.array([], object), layer=layer, geometry_type="Polygon", crs="EPSG:4326"
        )
    (tmp_path / "text.gpkg").write_text("notes")
    mixed = tmp_path / "mixed.gpkg"
    write_polygons([building(HOUSE)], mixed, crs=UTM_55_SOUTH, **ROOF)
    pyogrio.raw.write(
        mixed, wkb, [], np.array([], object), layer="mine", geometry_type="Polygon", crs="EPSG:4326", append=True
    )
    before = {entry: entry.read_bytes() for entry in tmp_path.iterdir()}
    for entry in before:
        with pytest.raises(InputError, match="no result of robustvision: name another file"):
            write_polygons([building(HOUSE)], entry, crs=UTM_55_SOUTH, **ROOF)
    assert {entry: entry.read_bytes() for entry in tmp_path.iterdir()} == before


@pytest.mark.parametrize("suffix", [".gpkg", ".geojson"])
def test_an_empty_file_is_filled(tmp_path, suffix):
    out = tmp_path / f"new{suffix}"
    out.touch()
    assert write_polygons([building(HOUSE)], out, crs=UTM_55_SOUTH, **ROOF) == 1


def test_a_style_of_the_users_is_kept(tmp_path):
    write_polygons([building(HOUSE)], tmp_path / "town.geojson", crs=UTM_55_SOUTH, **ROOF)
    (tmp_path / "town.qml").write_text("in my colours")
    write_polygons([building(HOUSE)], tmp_path / "town.geojson", crs=UTM_55_SOUTH, **ROOF)
    assert (tmp_path / "town.qml").read_text() == "in my colours"


@pytest.mark.parametrize("suffix", [".gpkg", ".geojson"])
def test_a_folder_that_is_not_there_is_named(tmp_path, suffix):
    with pytest.raises(InputError, match="is not a folder: make it first"):
        write_polygons([], tmp_path / "none" / f"a{suffix}", crs=UTM_55_SOUTH, **ROOF)


def test_an_older_file_is_replaced_not_added_to(tmp_path):
    out = tmp_path / "town.gpkg"
    write_polygons([building(HOUSE), building(HOUSE, 2)], out, crs=UTM_55_SOUTH, layer="old", **ROOF)
    write_polygons([building(HOUSE)], out, crs=UTM_55_SOUTH, **ROOF)
    assert sorted(pyogrio.list_layers(out)[:, 0]) == ["buildings", "layer_styles"]
    assert pyogrio.read_info(out, layer="buildings")["features"] == 1


def test_gdal_is_left_as_it_was(tmp_path):
    before = pyogrio.get_gdal_config_option("OGR_CURRENT_DATE")
    write_polygons([building(HOUSE)], tmp_path / "one.gpkg", crs=UTM_55_SOUTH, **ROOF)
    assert pyogrio.get_gdal_config_option("OGR_CURRENT_DATE") == before

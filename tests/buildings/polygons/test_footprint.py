"""Roofs moved to where their buildings stand, checked on the ellipsoid; and heights from tables and layers."""

import math

import numpy as np
import pyogrio
import pytest
import shapely
from pyproj import Geod, Transformer
from shapely.affinity import translate

from robustvision.buildings.offsets import displacement_px
from robustvision.buildings.polygons import BuildingPolygon, View, read_height_source, to_footprints
from robustvision.core.errors import InputError

from .conftest import UTM_55_SOUTH

WEB = "EPSG:3857"
VIEW = View(off_nadir_deg=25.0, azimuth_deg=60.0)
METRE = math.tan(math.radians(25)) * np.array((math.sin(math.radians(60)), math.cos(math.radians(60))))


def roof(geometry, number=1, height_m=None):
    return BuildingPolygon(geometry, number, 0.9, 600.0, 100.0, "m", True, (0, 0), height_m=height_m)


def house(x=320_000.0, y=5_810_000.0, side=20.0):
    return shapely.box(x, y, x + side, y + side)


def write_layer(path, geometries, heights, *, crs=UTM_55_SOUTH, column="height_m"):
    values = np.asarray(heights)
    pyogrio.raw.write(
        path, shapely.to_wkb(np.array(geometries)), [values], [column], geometry_type="Unknown", crs=crs, driver="GPKG"
    )
    return path


@pytest.mark.parametrize("crs", [UTM_55_SOUTH, "EPSG:4326", WEB, "EPSG:2263"])
@pytest.mark.parametrize(("height_m", "name"), [(12.0, "low"), (60.0, "high"), (150.0, "skyscraper")])
def test_a_roof_moves_by_height_and_view_on_the_ground(crs, height_m, name):
    longitude, latitude = (-73.98, 40.75) if crs == "EPSG:2263" else (144.96, -37.81)
    to_map = Transformer.from_crs("EPSG:4326", crs, always_xy=True)
    start, east = to_map.transform(longitude, latitude), to_map.transform(longitude + 2e-4, latitude)
    seen = house(*start, math.dist(start, east))
    (moved,) = to_footprints([roof(seen, height_m=height_m)], crs=crs, view=VIEW)
    centres = (moved.geometry.centroid, seen.centroid)
    ends = [to_map.transform(*centre.coords[0], direction="INVERSE") for centre in centres]
    azimuth, _, length = Geod(ellps="WGS84").inv(*ends[0], *ends[1])  # from footprint to roof
    assert length == pytest.approx(height_m * math.tan(math.radians(25)), rel=1e-3)
    assert azimuth == pytest.approx(60, abs=0.01)
    assert (moved.height_m, moved.height_class) == (height_m, name)


def test_it_is_the_inverse_of_the_displacement_in_pixels():
    """On a north-up image of 0.5 m in UTM near its central meridian, where grid north is true north."""
    x, y = Transformer.from_crs("EPSG:4326", UTM_55_SOUTH, always_xy=True).transform(147.0, -37.8)
    dx, dy = displacement_px(40.0, 0.5, math.radians(25), math.radians(60))
    seen = translate(house(x, y), 0.5 * dx, -0.5 * dy)
    (moved,) = to_footprints([roof(seen, height_m=40.0)], crs=UTM_55_SOUTH, view=VIEW)
    assert moved.geometry.symmetric_difference(house(x, y)).area < 0.5  # UTM's metre is 0.04 % long there


def test_straight_down_and_flat_nothing_moves():
    for view, height_m in ((View(0, 60), 50.0), (VIEW, 0.0)):
        (moved,) = to_footprints([roof(house(), height_m=height_m)], crs=UTM_55_SOUTH, view=view)
        assert moved.geometry.symmetric_difference(house()).area < 1e-6


def test_heights_by_number(tmp_path):
    table = tmp_path / "heights.csv"
    table.write_text("\ufeffnumber,levels,name\n2,10,b\n1,4,a\n3,,no height\n")
    heights = read_height_source(table, crs=UTM_55_SOUTH, column="levels", unit="storeys")
    roofs = [roof(house(), number) for number in (1, 2, 3)]
    moved = list(to_footprints(roofs, crs=UTM_55_SOUTH, view=VIEW, heights=heights, default_height_m=6.0))
    assert [one.height_m for one in moved] == [13.0, 32.5, 6.0]
    with pytest.raises(InputError, match=r"building 3 at \(320010, .*has no height"):
        list(to_footprints(roofs, crs=UTM_55_SOUTH, view=VIEW, heights=heights))


@pytest.mark.parametrize("crs", [UTM_55_SOUTH, "EPSG:4326", WEB])
def test_heights_by_overlap_on_the_ground_not_in_the_image(tmp_path, crs):
    """A tower of 100 m leans by two widths over a low neighbour, whose footprint its roof covers exactly."""
    footprints = [house(), translate(house(), *(100 * METRE)), translate(house(), 300, 300)]
    to_crs = Transformer.from_crs(UTM_55_SOUTH, crs, always_xy=True)
    written = shapely.transform(footprints, lambda p: np.stack(to_crs.transform(*p.T), 1))
    layer = write_layer(tmp_path / "f.gpkg", written, [100.0, 5.0, 30.0], crs=crs)
    heights = read_height_source(layer, crs=UTM_55_SOUTH)
    roofs = [
        roof(translate(footprint, *(height * METRE)), number)
        for number, (footprint, height) in enumerate(zip(footprints, (100, 5, 30), strict=True), 1)
    ]
    moved = list(to_footprints(roofs, crs=UTM_55_SOUTH, view=VIEW, heights=heights))
    assert [one.height_m for one in moved] == [100, 5, 30]
    for one, footprint in zip(moved, footprints, strict=True):
        assert one.geometry.intersection(footprint).area > 0.9 * footprint.area  # the grid is turned by 1 degree here
    (lost,) = to_footprints(
        [roof(translate(house(), -500, 0))], crs=UTM_55_SOUTH, view=VIEW, heights=heights, default_height_m=3.0
    )
    assert lost.height_m == 3.0


def test_broken_footprints_and_missing_heights_are_left_out(tmp_path):
    bow_tie = shapely.Polygon([(0, 0), (10, 10), (10, 0), (0, 10)])
    broken = translate(bow_tie, 320_300, 5_810_000)
    shapes = [house(), house(320_100), broken, shapely.Polygon(), shapely.force_3d(house(320_200), 7.0)]
    layer = write_layer(tmp_path / "f.gpkg", shapes, [10.0, math.nan, 20.0, 30.0, 40.0])
    heights = read_height_source(layer, crs=UTM_55_SOUTH)
    assert sorted(heights.height_m.tolist()) == [10, 20, 40]
    assert shapely.is_valid(heights.footprints).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"view": None}, "footprints need the view"),
        ({"crs": None}, "no coordinate system, so heights in metres move nothing"),
        ({"default_height_m": 5000.0}, "5000 m high"),
        ({"default_height_m": -1.0}, "1 are negative"),
        ({"default_height_m": None}, "has no height"),
    ],
)
def test_what_is_missing_or_not_plausible_is_named(options, message):
    settings = {"crs": UTM_55_SOUTH, "view": VIEW, "default_height_m": 10.0} | options
    with pytest.raises(InputError, match=message):
        list(to_footprints([roof(house())], **settings))


@pytest.mark.parametrize(
    ("off_nadir_deg", "azimuth_deg"), [(-15, 0), (85, 0), (math.nan, 0), (20, 400), (20, math.nan)]
)
def test_impossible_views_are_refused(off_nadir_deg, azimuth_deg):
    with pytest.raises(InputError, match=r"off-nadir angle is|azimuth is"):
        View(off_nadir_deg, azimuth_deg)


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("number,height\n1,3\n", {}, r"columns \['number', 'height'\]: expected number and height_m"),
        ("number,height_m\n1,high\n", {}, r"heights\.csv:2: number '1', height 'high'"),
        ("number,height_m\n1,\n", {}, "holds no building with a height_m"),
        ("number,height_m\n1,1900\n", {}, "1900 m high"),
        ("number,height_m\n1,-4\n", {}, "1 are negative"),
        ("number,height_ft\n1,40\n", {"column": "height_ft"}, "height_ft seems to hold ft, and the unit is m"),
        ("number,floors\n1,4\n", {"column": "floors"}, "floors seems to hold storeys, and the unit is m"),
        ("", {}, "columns None"),
        (
            "number;height_m\n1;4,5\n",
            {},
            r"columns \['number;height_m'\]: expected number and height_m, between commas",
        ),
        ("number,height_m\n1,4\n2,5\n1,40\n", {}, r"heights\.csv:4: building 1 is 40, and 4 above"),
        ("number,height_m\n1,inf\n", {}, r"heights\.csv: of 1 heights .* 1 are missing"),
    ],
)
def test_tables_that_cannot_be_used_are_named(tmp_path, text, options, message):
    path = tmp_path / "heights.csv"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        read_height_source(path, crs=UTM_55_SOUTH, **options)


def test_layers_that_cannot_be_used_are_named(tmp_path):
    layer = write_layer(tmp_path / "f.gpkg", [house()], [10.0], column="roof")
    with pytest.raises(InputError, match="has the attributes roof: name the one that holds heights"):
        read_height_source(layer, crs=UTM_55_SOUTH)
    words = write_layer(tmp_path / "g.gpkg", [house()], np.array(["tall"], object))
    with pytest.raises(InputError, match="height_m does not hold numbers"):
        read_height_source(words, crs=UTM_55_SOUTH)
    with pytest.warns(UserWarning, match="'crs' was not provided"):
        nowhere = write_layer(tmp_path / "h.gpkg", [house()], [10.0], crs=None)
    with pytest.raises(InputError, match="has no coordinate system"):
        read_height_source(nowhere, crs=UTM_55_SOUTH)
    pyogrio.raw.write(
        layer, shapely.to_wkb([house()]), [], np.array([], object), layer="b", geometry_type="Polygon", append=True,
        crs=UTM_55_SOUTH,
    )  # fmt: skip
    with pytest.raises(InputError, match="has the layers f, b"):
        read_height_source(layer, crs=UTM_55_SOUTH)
    for name in ("none.csv", "none.gpkg"):
        with pytest.raises(InputError, match="cannot be read"):
            read_height_source(tmp_path / name, crs=UTM_55_SOUTH)

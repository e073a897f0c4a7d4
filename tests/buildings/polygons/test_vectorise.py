"""Polygons of whole rasters: the same for any strip height and number of workers, and in metres wherever they lie."""

import math

import numpy as np
import pytest
import shapely
from affine import Affine
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pyproj import Geod, Transformer
from rasterio.features import rasterize
from scipy import ndimage

from robustvision.buildings.polygons import vectorise, write_polygons
from robustvision.core.errors import InputError

from .conftest import NORTH_UP, UTM_55_SOUTH, write_levels

PLAIN = {"simplify_m": 0, "regularise": False, "min_area_m2": 0}


def facts(buildings):
    return [(shapely.to_wkb(one.geometry), *list(vars(one).values())[1:]) for one in buildings]


@given(
    hnp.arrays(np.uint8, hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=24)),
    st.integers(1, 24),
    st.sampled_from([0, 1, 2]),
    st.booleans(),
)
@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_strip_height_gives_the_same(tmp_path, levels, strip_rows, opening_px, simplify):
    path = write_levels(tmp_path / "levels.tif", ndimage.uniform_filter(levels, 3))
    options = {"min_area_m2": 0, "opening_px": opening_px} | ({} if simplify else PLAIN)
    assert facts(vectorise(path, strip_rows=strip_rows, **options)) == facts(vectorise(path, **options))


@pytest.mark.parametrize("suffix", [".gpkg", ".geojson"])
def test_files_are_the_same_bytes_for_any_strip_height_and_number_of_workers(tmp_path, levels_tif, town, suffix):
    path, written = levels_tif(town), []
    for index, options in enumerate(({}, {"strip_rows": 1}, {"strip_rows": 37, "workers": 2}, {"strip_rows": 299})):
        out = tmp_path / f"{index}" / f"buildings{suffix}"
        out.parent.mkdir()
        count = write_polygons(vectorise(path, **options), out, crs=UTM_55_SOUTH, target="roof")
        written.append(out.read_bytes())
    assert count > 10
    assert len(set(written)) == 1


def test_outlines_drawn_again_are_the_mask(levels_tif, town):
    buildings = list(vectorise(levels_tif(town), strip_rows=50, **PLAIN))
    drawn = rasterize([one.geometry for one in buildings], town.shape, transform=NORTH_UP, dtype=np.uint8)
    assert np.array_equal(drawn, town >= 128)
    assert [one.number for one in buildings] == list(range(1, len(buildings) + 1))


@pytest.mark.parametrize(("threshold", "least"), [(0.5, 128), (0.2, 51), (1.0, 255), (1e-6, 1)])
def test_a_pixel_belongs_to_a_building_from_the_threshold_on(levels_tif, threshold, least):
    levels = np.array([[least, 0, least - 1]], np.uint8)
    buildings = list(vectorise(levels_tif(levels), threshold=threshold, **PLAIN))
    assert [one.first_pixel for one in buildings] == [(0, 0)]
    assert buildings[0].mean_probability == least / 255


def test_attributes_follow_from_the_pixels(levels_tif):
    levels = np.zeros((40, 50), np.uint8)
    levels[5:25, 10:40] = 200
    levels[5, 10] = 130
    levels[10:14, 20:26] = 0
    (one,) = vectorise(levels_tif(levels), **PLAIN)
    assert one.area == pytest.approx((20 * 30 - 24) / 4)
    assert one.perimeter == pytest.approx((100 + 20) / 2)
    assert one.compactness == pytest.approx(4 * math.pi * 144 / 60**2)
    assert one.mean_probability == pytest.approx((200 * 575 + 130) / 576 / 255, rel=1e-15)
    assert (one.unit, one.first_pixel, one.is_regularised) == ("m", (5, 10), False)
    assert one.geometry.exterior.is_ccw
    assert not one.geometry.interiors[0].is_ccw


def test_opening_removes_what_is_narrow_and_parts_what_it_joined(levels_tif):
    levels = np.zeros((30, 60), np.uint8)
    levels[5:25, 5:25] = levels[5:25, 35:55] = levels[14:16, 25:35] = 255
    levels[0:2, :] = 255
    found = list(vectorise(levels_tif(levels), opening_px=2, strip_rows=3, **PLAIN))
    assert [one.geometry.area for one in found] == [100, 100]


def test_small_ones_are_left_out_in_square_metres(levels_tif):
    levels = np.zeros((20, 60), np.uint8)
    levels[2:9, 2:9] = levels[2:10, 20:28] = 255  # 49 and 64 pixels of a quarter of a square metre
    assert len(list(vectorise(levels_tif(levels), min_area_m2=16.0))) == 1
    assert len(list(vectorise(levels_tif(levels), min_area_m2=16.1))) == 0
    assert len(list(vectorise(levels_tif(levels), min_area_m2=12.25))) == 2


@pytest.mark.parametrize("how", ["nodata", "mask"])
def test_pixels_without_data_are_no_building(levels_tif, how):
    levels = np.full((20, 20), 255 if how == "nodata" else 200, np.uint8)
    levels[:, 8:] = 200
    mask = np.repeat([[0] * 8 + [255] * 12], 20, axis=0).astype(np.uint8)
    path = levels_tif(levels, **({"nodata": 255} if how == "nodata" else {"mask": mask}))
    (one,) = vectorise(path, **PLAIN)
    assert one.first_pixel == (0, 8)
    assert one.area == 60


def turned(degrees):
    cos, sin = 0.5 * math.cos(math.radians(degrees)), 0.5 * math.sin(math.radians(degrees))
    return Affine(cos, -sin, 320_000, -sin, -cos, 5_810_000)


PLACES = {
    "north up": (NORTH_UP, UTM_55_SOUTH),
    "south up": (Affine(0.5, 0, 320_000, 0, 0.5, 5_809_900), UTM_55_SOUTH),
    "turned": (turned(30), UTM_55_SOUTH),
    "degrees": (Affine(6e-6, 0, 144.96, 0, -5e-6, -37.81), "EPSG:4326"),
    "web mercator": (Affine(0.597, 0, 16_137_000, 0, -0.597, -4_553_000), "EPSG:3857"),
    "feet": (Affine(1.5, 0, 982_000, 0, -1.5, 195_000), "EPSG:2263"),
}


@pytest.mark.parametrize("place", PLACES)
def test_areas_and_lengths_are_metres_on_the_ground(levels_tif, place):
    """Against the geodesic area and perimeter of the same outline on the ellipsoid; UTM is off by up to 0.1 %."""
    transform, crs = PLACES[place]
    levels = np.zeros((90, 110), np.uint8)
    levels[20:60, 30:80] = 255
    levels[30:40, 40:50] = 0
    (one,) = vectorise(levels_tif(levels, transform=transform, crs=crs), **PLAIN)
    to_degrees = Transformer.from_crs(crs, "EPSG:4326", always_xy=True)
    fine = one.geometry.segmentize(one.geometry.length / 2000)
    degrees = shapely.transform(fine, lambda points: np.stack(to_degrees.transform(*points.T), 1))
    geod = Geod(ellps="WGS84")
    area, perimeter = geod.geometry_area_perimeter(degrees)[0], geod.geometry_length(degrees.boundary)
    assert one.area == pytest.approx(abs(area), rel=2e-3)
    assert one.perimeter == pytest.approx(perimeter, rel=1e-3)
    assert one.geometry.exterior.is_ccw
    assert not one.geometry.interiors[0].is_ccw
    assert one.unit == "m"
    a, b, c, d, e, f = transform[:6]
    corner = (30 * a + 20 * b + c, 30 * d + 20 * e + f)
    assert min(np.hypot(*(np.array(p) - corner)) for p in one.geometry.exterior.coords) < 1e-6


@pytest.mark.parametrize("place", PLACES)
def test_a_building_keeps_its_place_when_simplified_and_squared(levels_tif, town, place):
    transform, crs = PLACES[place]
    path = levels_tif(town, transform=transform, crs=crs)
    raw = list(vectorise(path, **PLAIN | {"min_area_m2": 20}))
    fine = list(vectorise(path, min_area_m2=20))
    assert [one.first_pixel for one in raw] == [one.first_pixel for one in fine]
    assert any(one.is_regularised for one in fine)
    for before, after in zip(raw, fine, strict=True):
        assert after.geometry.is_valid
        assert after.geometry.exterior.is_ccw
        shared = before.geometry.intersection(after.geometry).area
        assert shared / before.geometry.union(after.geometry).area > (0.84 if after.is_regularised else 0.8)
        assert len(after.geometry.exterior.coords) <= len(before.geometry.exterior.coords)
        assert after.mean_probability == before.mean_probability


def test_without_a_system_all_is_in_pixels(levels_tif):
    levels = np.zeros((40, 50), np.uint8)
    levels[5:25, 10:40] = 200
    (one,) = vectorise(levels_tif(levels, crs=None, transform=Affine.identity()), **PLAIN)
    assert (one.unit, one.area, one.perimeter) == ("px", 600, 100)
    assert one.geometry.equals(shapely.box(10, 5, 40, 25))
    assert one.geometry.exterior.is_ccw


def test_a_system_without_a_transform_says_nothing_of_size(levels_tif):
    levels = np.full((9, 9), 200, np.uint8)
    (one,) = vectorise(levels_tif(levels, transform=Affine.identity()), **PLAIN)
    assert (one.unit, one.area) == ("px", 81)


def test_holes_are_kept_however_much_is_simplified(levels_tif):
    levels = np.zeros((80, 80), np.uint8)
    levels[5:75, 5:75] = 255
    levels[10:14, 10:14] = levels[60:70, 60:70] = 0
    for options in ({}, {"simplify_m": 10.0}, {"regularise": False}, {"simplify_m": 10.0, "regularise": False}):
        (one,) = vectorise(levels_tif(levels), **options)
        assert len(one.geometry.interiors) == 2
        assert one.geometry.is_valid


@pytest.mark.parametrize(("holes", "is_simplified"), [(31, True), (32, False)])
def test_noise_of_more_than_a_thousand_holes_keeps_its_corners(levels_tif, holes, is_simplified):
    """Simplification would take time with the square of the number of holes: hours for a map of noise."""
    levels = np.full((2 * 32 + 10, 2 * holes + 11), 255, np.uint8)
    levels[1:65:2, 1 : 2 * holes + 1 : 2] = 0
    levels[-4:, 0] = 0
    levels[-1, 1] = 0
    (raw,) = vectorise(levels_tif(levels), **PLAIN)
    (one,) = vectorise(levels_tif(levels))
    assert len(one.geometry.interiors) == 32 * holes
    assert (one.geometry.equals_exact(raw.geometry) is False) == is_simplified


def test_an_empty_raster_has_no_buildings(levels_tif):
    assert list(vectorise(levels_tif(np.zeros((30, 20), np.uint8)))) == []
    assert list(vectorise(levels_tif(np.zeros((30, 20), np.uint8)), workers=2)) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"threshold": 0}, "threshold is 0"),
        ({"threshold": 128}, "threshold is 128"),
        ({"min_area_m2": -1}, "min_area_m2 is -1"),
        ({"simplify_m": math.nan}, "simplify_m is nan"),
        ({"opening_px": -1}, "opening_px is -1"),
        ({"strip_rows": 0}, "strip_rows is 0"),
        ({"workers": 0}, "workers is 0"),
    ],
)
def test_impossible_settings_are_named_at_once(levels_tif, options, message):
    with pytest.raises(InputError, match=message):
        vectorise(levels_tif(np.zeros((4, 4), np.uint8)), **options)


@pytest.mark.parametrize("dtype", [np.float32, np.uint16])
def test_other_rasters_are_refused(levels_tif, dtype):
    with pytest.raises(InputError, match=f"1 bands of {np.dtype(dtype)}: expected one band of uint8"):
        vectorise(levels_tif(np.zeros((4, 4), dtype)))


def test_files_that_are_no_raster_are_refused(tmp_path):
    (tmp_path / "a.tif").write_text("no raster")
    for name in ("a.tif", "missing.tif"):
        with pytest.raises(InputError, match="cannot be opened as a raster"):
            vectorise(tmp_path / name)


def test_a_damaged_file_is_named_with_its_rows(levels_tif, town):
    path = levels_tif(town)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(InputError, match=r"rows \d+ to \d+ cannot be read"):
        list(vectorise(path, strip_rows=64))

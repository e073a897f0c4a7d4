import math

import numpy as np
import pytest
import rasterio.crs
from affine import Affine
from pyproj import CRS, Transformer

from robustvision.buildings.geo import as_crs, ground_sampling_distance, metric_crs, transformer
from robustvision.core.errors import InputError

WEB_MERCATOR, GEOGRAPHIC = "EPSG:3857", "EPSG:4326"
UTM_55_SOUTH, FEET = "EPSG:32755", "EPSG:2263"  # the second: New York's state plane, in US survey feet
EQUATOR_M = 6378137.0
FLATTENING = 1 / 298.257223563


def raster_at(crs, lon, lat, step, *, turn_deg=0.0, south_up=False, size=256):
    """A square raster around a place."""
    x, y = Transformer.from_crs(GEOGRAPHIC, crs, always_xy=True).transform(lon, lat)
    flip = Affine.scale(step, step if south_up else -step)
    return Affine.translation(x, y) @ Affine.rotation(turn_deg) @ flip @ Affine.translation(-size / 2, -size / 2)


def radii_m(lat_deg):
    """Radii of curvature of the ellipsoid, along a parallel and along the meridian, from the closed form."""
    squared = FLATTENING * (2 - FLATTENING)
    root = math.sqrt(1 - squared * math.sin(math.radians(lat_deg)) ** 2)
    return EQUATOR_M * math.cos(math.radians(lat_deg)) / root, EQUATOR_M * (1 - squared) / root**3


class TestGroundSamplingDistance:
    @pytest.mark.parametrize(
        ("zoom", "equator_m", "melbourne_m"), [(17, 1.194, 0.943), (18, 0.597, 0.472), (19, 0.299, 0.236)]
    )
    def test_web_map_tiles_are_finer_than_they_say(self, zoom, equator_m, melbourne_m):
        step = 2 * math.pi * EQUATOR_M / 256 / 2**zoom
        assert step == pytest.approx(equator_m, abs=5e-4)
        at_equator = ground_sampling_distance(raster_at(WEB_MERCATOR, 144.96, 0.0, step), WEB_MERCATOR, 256, 256)
        assert at_equator == pytest.approx(
            (step, step), rel=0.007
        )  # Mercator on a sphere: 0.7 % short along a meridian
        at_melbourne = ground_sampling_distance(raster_at(WEB_MERCATOR, 144.96, -37.81, step), WEB_MERCATOR, 256, 256)
        assert at_melbourne == pytest.approx(
            (melbourne_m, melbourne_m), rel=0.004
        )  # the sheet's cos(lat) is a sphere's

    def test_is_that_of_the_ellipsoid(self):
        """On Web Mercator a step of longitude is exact; a step of y is one on a sphere of the equator's radius."""
        for lat in (-60.0, -37.81, 0.0, 20.0, 55.0):
            step = 0.5
            across, along = radii_m(lat)
            degrees = step / EQUATOR_M
            got = ground_sampling_distance(raster_at(WEB_MERCATOR, 10.0, lat, step), WEB_MERCATOR, 256, 256)
            expected = (across * degrees, along * degrees * math.cos(math.radians(lat)))
            assert got == pytest.approx(expected, rel=2e-5)

    @pytest.mark.parametrize("lat", [-70.0, -37.81, 0.0, 48.0])
    def test_degrees_shrink_along_the_parallels(self, lat):
        step = 5e-6
        across, along = radii_m(lat)
        got = ground_sampling_distance(raster_at(GEOGRAPHIC, 20.0, lat, step), GEOGRAPHIC, 256, 256)
        assert got == pytest.approx((across * math.radians(step), along * math.radians(step)), rel=1e-5)

    def test_utm_is_true_within_its_scale_factor(self):
        """0.9996 on the central meridian: 0.5 m on the map is 0.5002 m on the ground."""
        got = ground_sampling_distance(raster_at(UTM_55_SOUTH, 147.0, -37.81, 0.5), UTM_55_SOUTH, 256, 256)
        assert got == pytest.approx((0.5 / 0.9996, 0.5 / 0.9996), rel=1e-6)

    def test_feet_become_metres(self):
        got = ground_sampling_distance(raster_at(FEET, -73.98, 40.75, 1.0), FEET, 256, 256)
        assert got == pytest.approx((0.3048, 0.3048), rel=1e-4)

    @pytest.mark.parametrize("turn_deg", [0, 30, 90, -200])
    @pytest.mark.parametrize("south_up", [False, True])
    def test_neither_turning_nor_flipping_the_raster_matters(self, turn_deg, south_up):
        transform = raster_at(UTM_55_SOUTH, 147.0, -37.81, 0.5, turn_deg=turn_deg, south_up=south_up)
        assert ground_sampling_distance(transform, UTM_55_SOUTH, 256, 256) == pytest.approx(
            (0.50020, 0.50020), abs=1e-5
        )

    def test_oblong_pixels(self):
        transform = raster_at(UTM_55_SOUTH, 147.0, -37.81, 1.0) @ Affine.scale(0.5, 2.0)
        got = ground_sampling_distance(transform, UTM_55_SOUTH, 128, 512)
        assert got == pytest.approx((0.5 / 0.9996, 2 / 0.9996), rel=1e-6)

    def test_is_measured_at_the_centre(self):
        """A web map from the equator to 60 degrees north has half the pixel size at its upper border."""
        y = Transformer.from_crs(GEOGRAPHIC, WEB_MERCATOR, always_xy=True).transform(0, 60)[1]
        transform = Affine.translation(0, y) @ Affine.scale(10, -10)
        rows = int(y / 10)
        middle_lat = Transformer.from_crs(WEB_MERCATOR, GEOGRAPHIC, always_xy=True).transform(0, y / 2)[1]
        across, _ = radii_m(middle_lat)
        assert ground_sampling_distance(transform, WEB_MERCATOR, rows, 10)[0] == pytest.approx(
            across * 10 / EQUATOR_M, rel=1e-5
        )

    def test_any_form_of_the_system_gives_the_same(self):
        transform = raster_at(WEB_MERCATOR, 144.96, -37.81, 0.6)
        forms = [WEB_MERCATOR, CRS.from_epsg(3857), rasterio.crs.CRS.from_epsg(3857), CRS.from_epsg(3857).to_wkt()]
        values = [ground_sampling_distance(transform, form, 256, 256) for form in forms]
        assert np.ptp(values, axis=0) == pytest.approx([0, 0], abs=1e-9)

    def test_outside_the_world_is_refused(self):
        with pytest.raises(InputError, match="outside its coordinate system"):
            ground_sampling_distance(Affine.translation(1e12, 1e12) @ Affine.scale(0.5, -0.5), UTM_55_SOUTH, 256, 256)

    @pytest.mark.parametrize("crs", ["EPSG:999999", "nonsense", ""])
    def test_an_unknown_system_is_named(self, crs):
        with pytest.raises(InputError, match="cannot be read"):
            ground_sampling_distance(Affine.identity(), crs, 4, 4)


class TestMetricCrs:
    @pytest.mark.parametrize(
        ("lon", "lat", "epsg"),
        [(144.96, -37.81, 32755), (9.0, 48.1, 32632), (-73.98, 40.75, 32618), (-70.6, -33.4, 32719), (0.1, 0.5, 32631),
         (0.1, -0.5, 32731), (179.9, -17.0, 32760), (-179.9, 51.0, 32601)],
    )  # fmt: skip
    def test_degrees_and_web_maps_get_the_utm_zone_of_the_place(self, lon, lat, epsg):
        assert metric_crs(GEOGRAPHIC, lon, lat).to_epsg() == epsg
        x, y = Transformer.from_crs(GEOGRAPHIC, WEB_MERCATOR, always_xy=True).transform(lon, lat)
        assert abs(lat) < 1 or metric_crs(WEB_MERCATOR, x, y).to_epsg() == epsg

    def test_web_mercator_is_in_metres_at_the_equator_and_not_elsewhere(self):
        assert metric_crs(WEB_MERCATOR, 0, 0).to_epsg() == 3857
        assert metric_crs(WEB_MERCATOR, 1_000_000, 2_000_000).to_epsg() == 32632

    @pytest.mark.parametrize(
        ("crs", "lon", "lat"), [(UTM_55_SOUTH, 144.96, -37.81), ("EPSG:25832", 9.0, 48.1), ("EPSG:2193", 174.8, -41.3)]
    )
    def test_a_system_true_to_scale_is_kept(self, crs, lon, lat):
        x, y = Transformer.from_crs(GEOGRAPHIC, crs, always_xy=True).transform(lon, lat)
        assert metric_crs(crs, x, y) == CRS.from_user_input(crs)

    def test_feet_are_not_metres(self):
        x, y = Transformer.from_crs(GEOGRAPHIC, FEET, always_xy=True).transform(-73.98, 40.75)
        assert metric_crs(FEET, x, y).to_epsg() == 32618

    def test_a_system_that_is_true_along_one_axis_alone_is_left(self):
        """Sinusoidal: exact along the parallels, sheared by 45 degrees of longitude times the sine of the latitude."""
        sinusoidal = "+proj=sinu +lon_0=100 +datum=WGS84 +units=m"
        x, y = Transformer.from_crs(GEOGRAPHIC, sinusoidal, always_xy=True).transform(145.0, -37.81)
        assert metric_crs(sinusoidal, x, y).to_epsg() == 32755

    def test_far_outside_its_zone_utm_is_left(self):
        """20 degrees from the central meridian the scale is off by more than 3 %."""
        x, y = Transformer.from_crs(GEOGRAPHIC, UTM_55_SOUTH, always_xy=True).transform(167.0, -37.81)
        assert metric_crs(UTM_55_SOUTH, x, y).to_epsg() == 32758

    def test_areas_measured_in_it_are_those_on_the_ground(self):
        lon, lat, side = 144.96, -37.81, 1e-3
        to_metres = Transformer.from_crs(GEOGRAPHIC, metric_crs(GEOGRAPHIC, lon, lat), always_xy=True)
        x, y = np.array(to_metres.transform(*zip((lon, lat), (lon + side, lat), (lon, lat + side), strict=True)))
        area = abs((x[1] - x[0]) * (y[2] - y[0]) - (x[2] - x[0]) * (y[1] - y[0]))
        across, along = radii_m(lat)
        assert area == pytest.approx(across * along * math.radians(side) ** 2, rel=1e-3)  # UTM: 0.9996 squared

    @pytest.mark.parametrize("lat", [89.0, -88.0])
    def test_the_poles_have_no_utm_zone(self, lat):
        with pytest.raises(InputError, match="no UTM zone"):
            metric_crs(GEOGRAPHIC, 10.0, lat)

    def test_outside_the_world_is_refused(self):
        with pytest.raises(InputError, match="lies outside"):
            metric_crs(UTM_55_SOUTH, 1e12, 1e12)

    def test_an_unknown_system_is_named(self):
        with pytest.raises(InputError, match="give an EPSG code"):
            metric_crs("EPSG:999999", 0, 0)


def test_rasterio_and_text_mean_the_same_system():
    assert as_crs(rasterio.crs.CRS.from_epsg(32755)) == as_crs("EPSG:32755") == as_crs(CRS.from_epsg(32755))


class TestSystemsWithoutAPlaceOnEarth:
    """What drawing programs and map viewers write where they do not know the system."""

    LOCAL = 'LOCAL_CS["Unnamed",UNIT["metre",1]]'

    def test_a_local_system_is_named(self):
        for source, target in ((self.LOCAL, GEOGRAPHIC), (GEOGRAPHIC, self.LOCAL)):
            with pytest.raises(InputError, match=r"Unnamed.* local system .*-a_srs"):
                transformer(source, target)
        with pytest.raises(InputError, match="local system"):
            ground_sampling_distance(Affine.scale(0.5, -0.5), self.LOCAL, 256, 256)

    @pytest.mark.parametrize(("x", "y"), [(320000, 5812000), (-37.8, 144.9)], ids=["metres", "latitude first"])
    def test_what_cannot_be_degrees_is_told_as_such(self, x, y):
        transform = Affine.translation(x, y) @ Affine.scale(1e-6, -1e-6)
        with pytest.raises(InputError, match="outside its coordinate system"):
            ground_sampling_distance(transform, GEOGRAPHIC, 256, 256)
        with pytest.raises(InputError, match="lies outside"):
            metric_crs(GEOGRAPHIC, x, y)

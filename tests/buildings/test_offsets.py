import math

import numpy as np
import pytest
import shapely
from shapely.affinity import rotate, translate
from shapely.geometry import MultiPolygon, Point, Polygon

from robustvision.buildings.offsets import (
    HEIGHT_CLASSES,
    central_displacement_px,
    decode_offset,
    displacement_px,
    encode_offset,
    height_class,
    height_in_metres,
    roof_to_footprint,
    swept_shape,
)
from robustvision.core.errors import InputError

L_SHAPE = Polygon([(0, 0), (8, 0), (8, 2), (2, 2), (2, 6), (0, 6)])
COURTYARD = Polygon([(0, 0), (9, 0), (9, 7), (0, 7)], [[(3, 2), (3, 5), (6, 5), (6, 2)]])


class TestHeightClass:
    @pytest.mark.parametrize(
        ("height_m", "name"),
        [(0, "low"), (12, "low"), (12.001, "mid"), (35, "mid"), (35.1, "high"), (100, "high"), (100.1, "skyscraper")],
    )
    def test_a_limit_belongs_to_the_class_below(self, height_m, name):
        assert height_class(height_m) == name

    def test_limits_are_configuration(self):
        assert height_class(20, {"house": 20, "tower": math.inf}) == "house"
        with pytest.raises(InputError, match="above all classes"):
            height_class(21, {"house": 20})

    @pytest.mark.parametrize("height_m", [-1, math.nan, math.inf])
    def test_impossible_heights_are_refused(self, height_m):
        with pytest.raises(InputError, match="0 or more"):
            height_class(height_m)

    def test_nobody_can_change_the_limits_for_everyone(self):
        with pytest.raises(TypeError):
            HEIGHT_CLASSES["low"] = 99


class TestHeightInMetres:
    def test_units(self):
        assert height_in_metres([100], "m").tolist() == [100]
        assert height_in_metres([100], "ft") == pytest.approx([30.48])
        assert 3.0 * 10 <= height_in_metres(10, "storeys") <= 3.5 * 10

    @pytest.mark.parametrize(
        ("values", "unit", "words"),
        [([1500], "m", "check the unit"), ([400], "storeys", "check the unit"), ([3, np.nan], "ft", "1 are missing"),
         ([-3], "m", "1 are negative"), ([3], "yards", "expected m, ft, storeys")],
    )  # fmt: skip
    def test_what_cannot_be_is_refused(self, values, unit, words):
        with pytest.raises(InputError, match=words):
            height_in_metres(values, unit)


class TestParallel:
    @pytest.mark.parametrize(
        ("height_m", "gsd_m", "px"),
        [(6, 0.6, 2.7), (6, 1.2, 1.3), (20, 0.6, 8.9), (60, 0.6, 26.8), (150, 0.6, 67.0), (150, 1.2, 33.5)],
    )  # fmt: skip
    def test_magnitudes_at_15_degrees(self, height_m, gsd_m, px):
        azimuth = np.linspace(0, 2 * np.pi, 7)
        lengths = np.hypot(*displacement_px(height_m, gsd_m, math.radians(15), azimuth).T)
        assert lengths == pytest.approx(np.full(7, px), abs=0.05)

    @pytest.mark.parametrize(
        ("azimuth_deg", "direction"),
        [(0, (0, -1)), (90, (1, 0)), (180, (0, 1)), (270, (-1, 0)), (45, (0.5**0.5, -(0.5**0.5)))],
    )  # fmt: skip
    def test_tops_lean_towards_the_azimuth_clockwise_from_up(self, azimuth_deg, direction):
        got = displacement_px(10.0, 1.0, math.pi / 4, math.radians(azimuth_deg))
        assert got == pytest.approx(10 * np.array(direction), abs=1e-12)

    def test_a_ray_through_the_roof_meets_the_ground_that_far_behind(self):
        """Follow the ray in three dimensions: east, north, up in metres."""
        height_m, gsd_m, theta, phi = 37.0, 0.45, math.radians(22), math.radians(130)
        lean = np.array([math.sin(phi), math.cos(phi)])  # where tops lean, seen on the map
        to_sensor = np.array([*(-lean * math.sin(theta)), math.cos(theta)])
        ground = np.array([0, 0, height_m]) - to_sensor * height_m / to_sensor[2]
        expected = np.array([ground[0], -ground[1]]) / gsd_m
        assert displacement_px(height_m, gsd_m, theta, phi) == pytest.approx(expected, rel=1e-12)

    def test_grows_linearly_with_height_and_resolution(self):
        one = displacement_px(10, 1.0, 0.3, 1.0)
        assert displacement_px(30, 1.0, 0.3, 1.0) == pytest.approx(3 * one)
        assert displacement_px(10, 0.25, 0.3, 1.0) == pytest.approx(4 * one)

    def test_nadir_and_height_zero_move_nothing(self):
        assert not displacement_px([0.0, 50.0], 0.5, [0.4, 0.0], 1.0).any()

    def test_broadcasts(self):
        assert displacement_px(np.ones((4, 1)), 0.5, np.full(3, 0.2), 0.1).shape == (4, 3, 2)
        assert displacement_px(1.0, 0.5, 0.2, np.zeros(5)).shape == (5, 2)

    @pytest.mark.parametrize("theta", [-0.1, math.pi / 2, 15.0, math.nan])
    def test_degrees_and_negative_angles_are_refused(self, theta):
        with pytest.raises(InputError, match="radians"):
            displacement_px(10, 0.5, theta, 0)

    @pytest.mark.parametrize("gsd_m", [0, -0.5, math.nan])
    def test_no_ground_sampling_distance_is_refused(self, gsd_m):
        with pytest.raises(InputError, match="above 0"):
            displacement_px(10, gsd_m, 0.2, 0)


class TestCentral:
    def test_is_what_a_pinhole_sees(self):
        """Project base and top of a pole with a pinhole camera at the flying height."""
        flying_m, height_m, focal_px = 800.0, 120.0, 2000.0
        nadir, ground = np.array([500.0, 400.0]), np.array([60.0, -25.0])  # metres from the point below the camera
        base = nadir + focal_px * ground / flying_m
        top = nadir + focal_px * ground / (flying_m - height_m)
        assert central_displacement_px(height_m, base, nadir, flying_m) == pytest.approx(top - base, rel=1e-12)
        from_top = central_displacement_px(height_m, top, nadir, flying_m, measured_to="top")
        assert from_top == pytest.approx(top - base, rel=1e-12)

    def test_points_away_from_the_nadir_and_vanishes_there(self):
        points = np.array([[10.0, 0], [0, 10], [-10, 0], [0, 0]])
        got = central_displacement_px(50, points, (0, 0), 1000)
        assert got == pytest.approx(points * 50 / 950)

    def test_tends_to_the_parallel_model_far_from_the_nadir(self):
        """In a small image far out, theta = atan(r / f) and the scale is that of the ground."""
        flying_m, height_m, gsd_m = 1e6, 30.0, 0.5
        theta, phi = math.radians(20), math.radians(60)
        point = flying_m * math.tan(theta) / gsd_m * np.array([math.sin(phi), -math.cos(phi)])
        central = central_displacement_px(height_m, point, (0, 0), flying_m)
        assert central == pytest.approx(displacement_px(height_m, gsd_m, theta, phi), rel=1e-4)

    def test_broadcasts(self):
        heights, points = np.array([10.0, 20.0, 30.0]), np.ones((3, 2))
        assert central_displacement_px(heights, points, (0, 0), 500.0).shape == (3, 2)
        assert central_displacement_px(10.0, points, (0, 0), 500.0).shape == (3, 2)

    def test_a_building_at_the_camera_is_refused(self):
        with pytest.raises(InputError, match="as high as the camera"):
            central_displacement_px(500, (1, 1), (0, 0), 500)


class TestSweptShape:
    def sampled(self, polygon, offset, steps=400):
        return shapely.union_all([translate(polygon, *(np.array(offset) * t)) for t in np.linspace(0, 1, steps)])

    @pytest.mark.parametrize("polygon", [shapely.box(0, 0, 5, 3), L_SHAPE, COURTYARD, rotate(L_SHAPE, 33)])
    @pytest.mark.parametrize("offset", [(4.0, 0.0), (0.0, -3.0), (5.0, 5.0), (-7.3, 2.1), (30.0, 11.0)])
    def test_is_the_union_of_all_positions(self, polygon, offset):
        got, expected = swept_shape(polygon, offset), self.sampled(polygon, offset)
        assert got.geom_type == "Polygon"
        assert got.is_valid
        assert shapely.difference(expected, got.buffer(1e-9)).area < 1e-9
        step = math.hypot(*offset) / 399  # what sampling leaves out: a notch of at most a step beside each edge
        assert 0 <= got.area - expected.area + 1e-9 < polygon.length * step

    def test_the_area_of_a_convex_one_has_a_closed_form(self):
        """Minkowski sum with a segment: the area and the extent across the segment, times its length."""
        polygon, offset = rotate(shapely.box(0, 0, 7, 4), 25), np.array([3.0, 4.0])
        across = shapely.get_coordinates(polygon) @ np.array([-offset[1], offset[0]]) / 5
        assert swept_shape(polygon, tuple(offset)).area == pytest.approx(polygon.area + 5 * np.ptp(across), rel=1e-12)

    def test_a_hole_that_the_lean_does_not_close_stays(self):
        got = swept_shape(COURTYARD, (1.0, 0.0))
        assert len(got.interiors) == 1
        assert Polygon(got.interiors[0]).area == pytest.approx(2 * 3)
        assert len(swept_shape(COURTYARD, (3.5, 0.0)).interiors) == 0

    def test_no_offset_changes_nothing(self):
        assert swept_shape(L_SHAPE, (0.0, 0.0)).equals(L_SHAPE)

    def test_both_directions_cover_the_same(self):
        there = swept_shape(L_SHAPE, (3.0, -2.0))
        back = swept_shape(translate(L_SHAPE, 3.0, -2.0), (-3.0, 2.0))
        assert there.symmetric_difference(back).area < 1e-9

    def test_covers_footprint_and_roof(self):
        rng = np.random.default_rng(0)
        for _ in range(20):
            polygon = Polygon(Point(0, 0).buffer(5, quad_segs=2).exterior.coords[:-1])
            polygon = rotate(shapely.affinity.scale(polygon, *rng.uniform(0.3, 2, 2)), rng.uniform(0, 360))
            offset = tuple(rng.normal(0, 8, 2))
            got = swept_shape(polygon, offset).buffer(1e-9)
            assert got.contains(polygon)
            assert got.contains(translate(polygon, *offset))

    def test_parts_sweep_each(self):
        two = MultiPolygon([shapely.box(0, 0, 1, 1), shapely.box(10, 0, 11, 1)])
        assert swept_shape(two, (2.0, 0.0)).area == pytest.approx(6)
        assert swept_shape(two, (9.0, 0.0)).geom_type == "Polygon"


class TestRoofToFootprint:
    def test_undoes_the_displacement(self):
        rng = np.random.default_rng(0)
        footprints = [
            translate(shape, *rng.uniform(0, 90, 2)) for shape in (L_SHAPE, COURTYARD, shapely.box(0, 0, 3, 4))
        ]
        heights = np.array([9.0, 30.0, 120.0])
        offsets = displacement_px(heights, 0.6, 0.3, 2.0)
        roofs = [translate(shape, *offset) for shape, offset in zip(footprints, offsets, strict=True)]
        got = roof_to_footprint(roofs, heights, 0.6, 0.3, 2.0)
        for one, other in zip(got, footprints, strict=True):
            assert shapely.hausdorff_distance(one, other) < 1e-9
            assert len(one.interiors) == len(other.interiors)

    def test_leaves_the_roofs_as_they_are(self):
        roof = shapely.box(0, 0, 4, 4)
        roof_to_footprint([roof], 10.0, 0.5, 0.3, 1.0)
        assert roof.equals(shapely.box(0, 0, 4, 4))

    def test_one_height_for_all_and_none_at_all(self):
        assert len(roof_to_footprint([L_SHAPE, COURTYARD], 10.0, 0.5, 0.3, 1.0)) == 2
        assert roof_to_footprint([], [], 0.5, 0.3, 1.0) == []

    @pytest.mark.parametrize(
        ("heights", "words"),
        [([10.0], "expected one a roof"), ([10.0, np.nan], "missing"), ([10, 3000], "check the unit")],
    )  # fmt: skip
    def test_heights_that_do_not_fit_are_refused(self, heights, words):
        with pytest.raises(InputError, match=words):
            roof_to_footprint([L_SHAPE, COURTYARD], heights, 0.5, 0.3, 1.0)


class TestOffsetCoder:
    @pytest.mark.parametrize("form", ["rectangular", "polar"])
    def test_decoding_undoes_encoding(self, form):
        rng = np.random.default_rng(0)
        offsets, sizes = rng.normal(0, 20, (50, 2)), rng.uniform(4, 80, (50, 2))
        assert decode_offset(encode_offset(offsets, sizes, form), sizes, form) == pytest.approx(offsets, rel=1e-12)

    def test_follows_the_formulas(self):
        assert encode_offset((6.0, -4.0), (24.0, 32.0)) == pytest.approx([6 / 24 / 0.5, -4 / 32 / 0.5])
        polar = encode_offset((0.0, -10.0), (24.0, 32.0), "polar")
        assert polar == pytest.approx([10 / 40 / 0.5, -math.pi / 2 / 0.5])

    def test_rectangular_codes_do_not_change_with_scale(self):
        assert encode_offset((6.0, 4.0), (24.0, 32.0)) == pytest.approx(encode_offset((12.0, 8.0), (48.0, 64.0)))

    @pytest.mark.parametrize("form", ["rectangular", "polar"])
    def test_no_offset_is_decoded_to_none(self, form):
        assert not decode_offset(encode_offset((0.0, 0.0), (5.0, 5.0), form), (5.0, 5.0), form).any()

    @pytest.mark.parametrize("code", [encode_offset, decode_offset])
    def test_a_box_without_extent_is_refused(self, code):
        with pytest.raises(InputError, match="no extent"):
            code((1.0, 1.0), (0.0, 5.0))

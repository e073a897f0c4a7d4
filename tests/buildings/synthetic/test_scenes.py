"""The truth of rendered scenes against other ways to get it: GDAL's rasteriser, ray marching, shapely."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import shapely
from rasterio.features import rasterize
from shapely import affinity

from robustvision.buildings.offsets import HEIGHT_CLASSES, swept_shape
from robustvision.buildings.synthetic import Scene, SyntheticScenes, visible_roofs
from robustvision.buildings.synthetic.layout import SIZES


def burn(shapes: list[tuple[shapely.Geometry, int]], scene: Scene) -> np.ndarray:
    """GDAL's rule: a pixel is inside if its centre is. Later shapes lie on top."""
    return rasterize(shapes, scene.roof.shape, dtype="int32") if shapes else np.zeros(scene.roof.shape, np.int32)


@pytest.fixture(scope="module", params=["low", "mid", "high", "skyscraper"])
def scene(request) -> Scene:
    scenes = SyntheticScenes(12, classes=(request.param,), size_px=96, seed=5)
    return max(scenes, key=lambda scene: int(scene.facade.sum()))


def test_roofs_are_footprints_moved_by_what_the_height_says(scene):
    theta, phi = np.deg2rad(scene.off_nadir_deg), np.deg2rad(scene.azimuth_deg)
    for building in scene.buildings:
        length = building.height_m * np.tan(theta) / scene.gsd_m
        assert building.offset_px == pytest.approx((length * np.sin(phi), -length * np.cos(phi)), rel=1e-12)
        moved = affinity.translate(building.footprint, *building.offset_px)
        assert shapely.hausdorff_distance(moved, building.roof) < 1e-9


def test_the_footprint_is_what_gdal_burns(scene):
    expected = burn([(building.footprint, 1) for building in scene.buildings], scene)
    assert np.array_equal(scene.footprint, expected > 0)


def test_the_shape_is_what_the_footprints_sweep(scene):
    swept = [(swept_shape(building.footprint, building.offset_px), 1) for building in scene.buildings]
    # a sample exactly on an edge of two shapes may fall to either: the seams inside a sweep are no edges for GDAL
    assert np.mean(scene.shape != (burn(swept, scene) > 0)) < 2e-4
    assert np.array_equal(scene.shape, scene.roof | scene.facade)
    assert not (scene.roof & scene.facade).any()
    assert not (scene.footprint & ~scene.shape).any()


def test_what_is_seen_is_what_a_ray_from_the_sensor_meets_first(scene):
    """March down each ray: the highest point of it that is in a building is what the camera sees."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, scene.roof.shape[0], (300, 2))
    checked = 0
    for row, column in pixels:
        seen, margin = 0, np.inf
        heights = np.zeros(len(scene.buildings))
        for k, building in enumerate(scene.buildings):
            # of all heights z at which the ray is inside the prism, the largest: the ray's ground track is a segment
            start = np.array([column + 0.5, row + 0.5])
            track = shapely.LineString([start, start - building.offset_px])  # z = 0 at the start, the top at the end
            inside = building.footprint.intersection(track)
            if inside.is_empty or inside.length < 1e-6:
                continue
            share = max(shapely.Point(start).distance(shapely.Point(xy)) for xy in shapely.get_coordinates(inside))
            heights[k] = building.height_m * share / np.hypot(*building.offset_px)
        if not heights.any():
            assert not scene.shape[row, column]
            continue
        first = int(np.argmax(heights))
        building = scene.buildings[first]
        others = np.delete(heights, first)
        margin = heights[first] - others.max(initial=0)
        is_roof = np.isclose(heights[first], building.height_m, rtol=1e-9)
        seen = building.number if is_roof else 0
        if margin > 0.01:
            checked += 1
            assert scene.roof[row, column] == is_roof
            assert scene.instances[row, column] == seen
    assert checked > 20


def test_painting_the_far_ones_first_gives_the_same_roofs(scene):
    """Painter's order for prisms on disjoint bases: whoever's sweep reaches another's base hides it."""
    direction = np.array(scene.buildings[0].offset_px) / np.hypot(*scene.buildings[0].offset_px)
    reach = np.linspace(0, 2000, 2)
    left = list(scene.buildings)
    order = []
    while left:  # the next to paint is one that hides nobody who is left
        for building in left:
            ahead = swept_shape(building.footprint.convex_hull, tuple(direction * reach[1]))
            if not any(ahead.intersection(other.footprint).area > 1e-6 for other in left if other is not building):
                order.append(building)
                left.remove(building)
                break
        else:
            raise AssertionError("no building can be painted next: bases lock into one another")
    shapes = []
    for building in order:
        shapes.append((swept_shape(building.footprint, building.offset_px), 0))
        shapes.append((building.roof, building.number))
    assert np.mean(burn(shapes, scene) != scene.instances) < 5e-4


def test_instances_are_the_visible_roofs(scene):
    assert np.array_equal(scene.instances > 0, scene.roof)
    numbers = {building.number: building for building in scene.buildings}
    for number in np.unique(scene.instances[scene.instances > 0]):
        whole = burn([(numbers[number].roof, 1)], scene) > 0
        assert not ((scene.instances == number) & ~whole).any()


def test_what_higher_neighbours_hide_is_cut_from_a_roof_s_polygon():
    scenes = list(SyntheticScenes(12, classes=("skyscraper",), size_px=160, off_nadir_deg=(18.0, 25.0), seed=4))
    frame, partly = shapely.box(0, 0, 160, 160), 0
    for scene in scenes:
        seen = visible_roofs(scene)
        expected = burn([(roof, building.number) for building, roof in seen], scene)
        assert np.mean(expected != scene.instances) < 2e-4
        assert all(one.intersection(other).area < 1e-6 for (_, one), (_, other) in itertools.combinations(seen, 2))
        assert not any(len(part.interiors) for _, roof in seen for part in shapely.get_parts(roof))
        visible = {building.number: roof.area for building, roof in seen}
        for building in scene.buildings:
            whole = building.roof.intersection(frame).area
            partly += whole - visible.get(building.number, 0) > 20
    assert partly > 3


def test_buildings_stand_apart_and_have_their_class_s_size(scene):
    size = SIZES[scene.height_class]
    for building in scene.buildings:
        assert building.height_class == scene.height_class
        assert size.height_m[0] <= building.height_m <= size.height_m[1] <= max(HEIGHT_CLASSES[scene.height_class], 12)
        box = shapely.minimum_rotated_rectangle(building.footprint)
        corners = shapely.get_coordinates(box)
        sides = np.hypot(*np.diff(corners[:3], axis=0).T) * scene.gsd_m
        assert size.side_m[0] - 1e-6 <= sides.min()
        assert sides.max() <= size.side_m[1] + 1e-6
    footprints = [building.footprint for building in scene.buildings]
    assert shapely.union_all(footprints).area == pytest.approx(sum(one.area for one in footprints), rel=1e-9)


def test_from_straight_above_the_roof_is_the_footprint():
    for scene in SyntheticScenes(4, size_px=64, off_nadir_deg=(0.0, 0.0)):
        assert np.array_equal(scene.roof, scene.footprint)
        assert not scene.facade.any()
        assert all(building.offset_px == (0.0, 0.0) for building in scene.buildings)


def test_a_fifth_to_a_quarter_is_built_over():
    """Means of 40 scenes; over five seeds they lay between 0.17 and 0.24."""
    for name in SIZES:
        cover = np.mean([s.footprint.mean() for s in SyntheticScenes(40, classes=(name,), gsd_m=1.2, seed=2)])
        assert 0.15 < cover < 0.28, name


def test_roofs_differ_from_pads_only_by_wall_and_shadow():
    """Pads share the roofs' colours: colour alone must not tell a building."""
    scenes = SyntheticScenes(60, classes=("low",), seed=8)
    roof = np.concatenate([s.image[s.roof].astype(float) for s in scenes])
    ground = np.concatenate([s.image[~s.shape].astype(float) for s in scenes])
    overlap = [
        np.minimum(
            *(np.histogram(part[:, channel], 32, (0, 256), density=True)[0] * 8 for part in (roof, ground))
        ).sum()
        for channel in range(3)
    ]
    assert min(overlap) > 0.4

"""Known shifts come back, from a damaged prediction too; where there is nothing to register, labels stay."""

from __future__ import annotations

import math

import cv2
import numpy as np
import pytest
from shapely.affinity import rotate, translate
from shapely.geometry import MultiPolygon, Polygon, box

from robustvision.buildings.geometry_correction import Lean, correct_labels, estimate_lean
from robustvision.buildings.synthetic import SyntheticScenes
from robustvision.core.errors import InputError

SHAPE = (200, 240)


def town(seed: int = 0) -> list[Polygon]:
    """About twenty rotated rectangles of different sizes on a jittered grid."""
    rng = np.random.default_rng(seed)
    return [
        rotate(box(x, y, x + rng.integers(9, 20), y + rng.integers(9, 20)), rng.uniform(0, 90))
        for x, y in (
            (40 + 38 * i + rng.uniform(-5, 5), 35 + 36 * j + rng.uniform(-5, 5)) for i in range(5) for j in range(4)
        )
    ]


def fill(polygons: list[Polygon], scale: int = 8) -> np.ndarray:
    """The share of each pixel that polygons cover: OpenCV on a finer grid, not what the code under test uses."""
    fine = np.zeros((SHAPE[0] * scale, SHAPE[1] * scale), np.uint8)
    for polygon in polygons:
        cv2.fillPoly(fine, [np.round(np.array(polygon.exterior.coords) * scale - 0.5).astype(np.int32)], 1)
    return cv2.resize(fine.astype(np.float32), SHAPE[::-1], interpolation=cv2.INTER_AREA)


def predicted(roofs: list[Polygon], missing: float = 0.0, seed: int = 0) -> np.ndarray:
    """Blurred roofs of middling probability under noise, some not found at all."""
    rng = np.random.default_rng(seed)
    kept = [roof for roof in roofs if rng.random() >= missing]
    assert len(kept) < len(roofs) or not missing
    return cv2.GaussianBlur(fill(kept), (0, 0), 1.5) * 0.7 + rng.random(SHAPE).astype(np.float32) * 0.2


def moved(polygons, heights, per_m, direction_rad):
    x, y = per_m * math.sin(direction_rad), -per_m * math.cos(direction_rad)
    return [translate(polygon, x * height, y * height) for polygon, height in zip(polygons, heights, strict=True)]


@pytest.mark.parametrize("shift", [(0.0, 0.0), (6.0, -9.0), (-12.4, 3.7), (25.3, 14.6)])
@pytest.mark.parametrize("missing", [0.0, 0.3])
def test_known_shift_of_all(shift, missing):
    footprints = town()
    lean = estimate_lean(predicted([translate(one, *shift) for one in footprints], missing), footprints)
    assert lean.px_per_m is None
    np.testing.assert_allclose(lean.offsets_px(), shift, atol=0.2)  # largest over eight towns: 0.06
    assert lean.confidence > 0.5
    assert lean.inliers >= 0.6 * len(footprints)


@pytest.mark.parametrize("direction_rad", [0.0, 1.0, -2.5])
@pytest.mark.parametrize("missing", [0.0, 0.3])
def test_known_lean_a_metre(direction_rad, missing):
    """Displacements of 2 to 24 px in one picture."""
    footprints = town()
    heights = np.random.default_rng(1).uniform(5, 60, len(footprints)).tolist()
    roofs = moved(footprints, heights, 0.4, direction_rad)
    lean = estimate_lean(predicted(roofs, missing), footprints, heights)
    assert lean.shift_px is None
    truth = [
        np.array(roof.centroid.coords[0]) - one.centroid.coords[0] for roof, one in zip(roofs, footprints, strict=True)
    ]
    np.testing.assert_allclose(lean.offsets_px(heights), truth, atol=0.3)  # largest over eight towns: 0.10
    assert lean.px_per_m == pytest.approx(0.4, abs=0.01)
    assert math.cos(lean.direction_rad - direction_rad) > math.cos(0.02)


def test_mask_and_polygons_agree():
    footprints = town()
    probability = predicted([translate(one, 7, 5) for one in footprints])
    from_mask = estimate_lean(probability, fill(footprints) >= 0.5)
    from_polygons = estimate_lean(probability, footprints)
    np.testing.assert_allclose(from_mask.offsets_px(), from_polygons.offsets_px(), atol=0.3)


def test_one_lean_per_picture_is_found_though_each_building_alone_fits_its_neighbour():
    """A regular row: the true shift of 30 px is longer than the way to the neighbour, 24 px."""
    rng = np.random.default_rng(3)
    footprints = [box(40 + 24 * i, 40 + 40 * j, 52 + 24 * i, 52 + 40 * j) for i in range(5) for j in range(3)]
    heights = rng.uniform(10, 30, len(footprints)).tolist()
    roofs = moved(footprints, heights, 1.0, math.pi / 2)
    lean = estimate_lean(predicted(roofs), footprints, heights)
    assert lean.px_per_m == pytest.approx(1.0, abs=0.03)


@pytest.mark.parametrize("name", ["zero", "flat", "noise"])
def test_nothing_to_register_leaves_labels(name):
    probability = {
        "zero": np.zeros(SHAPE),
        "flat": np.full(SHAPE, 0.5),
        "noise": np.random.default_rng(0).random(SHAPE),
    }[name]
    footprints = town()
    lean = estimate_lean(probability, footprints)
    assert lean.confidence == 0
    assert lean.inliers == 0
    before = fill(footprints) >= 0.5
    np.testing.assert_array_equal(correct_labels(before, lean), before)


def test_other_towns_are_refused():
    """Largest confidence over 30 pairs: 0.22; that of the right town is above 0.54."""
    for seed in range(6):
        lean = estimate_lean(predicted(town(seed + 10)), town(seed))
        assert lean.confidence < 0.3


def test_no_buildings():
    assert estimate_lean(np.ones(SHAPE), np.zeros(SHAPE, bool)).confidence == 0
    lean = estimate_lean(np.ones(SHAPE), [], [])
    assert lean.buildings == 0
    assert not correct_labels([], lean, shape=SHAPE, heights_m=[]).any()


def test_correction_recovers_the_roofs():
    footprints = town()
    heights = np.random.default_rng(1).uniform(5, 60, len(footprints)).tolist()
    roofs = moved(footprints, heights, 0.4, 2.0)
    lean = estimate_lean(predicted(roofs, 0.3), footprints, heights)
    label = correct_labels(footprints, lean, shape=SHAPE, heights_m=heights)
    truth = fill(roofs) >= 0.5
    assert (label & truth).sum() / (label | truth).sum() > 0.93
    before = correct_labels(footprints, lean, shape=SHAPE, heights_m=heights, min_confidence=1.1)
    assert (before & truth).sum() / (before | truth).sum() < 0.4


def test_correction_moves_a_mask_by_the_shift():
    mask = np.zeros((40, 50), bool)
    mask[10:20, 15:30] = True
    east = correct_labels(mask, Lean(math.pi / 2, 7.0, None, 5, 5, 0.9))
    np.testing.assert_array_equal(east, np.roll(mask, 7, axis=1))
    up = correct_labels(mask.astype(np.uint8), Lean(0.0, 4.0, None, 5, 5, 0.9))
    np.testing.assert_array_equal(up, np.roll(mask, -4, axis=0))
    assert up.dtype == bool
    assert not correct_labels(mask, Lean(0.0, 100.0, None, 5, 5, 0.9)).any()  # out of the picture, not round it


def test_holes_and_multipolygons_keep_their_form():
    yard = Polygon(box(20, 20, 50, 50).exterior.coords, [box(30, 30, 40, 40).exterior.coords])
    pair = MultiPolygon([box(60, 60, 70, 70), box(80, 60, 90, 70)])
    label = correct_labels([yard, pair], Lean(math.pi / 2, 5.0, None, 2, 2, 0.9), shape=SHAPE)
    assert label.sum() == 900 - 100 + 200
    assert not label[35, 40]
    assert label[25, 54]
    assert label[65, 66]


def test_synthetic_scenes():
    """The visible roofs, though others hide parts of some. Gains over 18 scenes: low 0.13 to 0.19, high 0 to 0.84."""
    for name in ("low", "high"):
        gains = []
        for scene in SyntheticScenes(6, classes=(name,), size_px=192, gsd_m=0.6, seed=3):
            polygons = [building.footprint for building in scene.buildings]
            heights = [building.height_m for building in scene.buildings]
            probability = cv2.GaussianBlur(scene.roof.astype(np.float32), (0, 0), 2)
            lean = estimate_lean(probability, polygons, heights, max_shift_px=64)
            label = correct_labels(polygons, lean, shape=scene.roof.shape, heights_m=heights)
            gains.append(f1(label, scene.roof) - f1(scene.footprint, scene.roof))
        assert np.median(gains) > 0.1, name
        assert min(gains) >= 0, name


def f1(mask, truth):
    return 2 * (mask & truth).sum() / (mask.sum() + truth.sum())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"probability": np.full(SHAPE, 2.0)}, "0..1"),
        ({"probability": np.full(SHAPE, np.nan)}, "finite"),
        ({"probability": np.zeros((3, *SHAPE))}, "H, W"),
        ({"footprints": np.zeros((5, 5), bool)}, "same picture"),
        ({"footprints": np.full(SHAPE, 255, np.uint8)}, "0 and 1"),
        ({"heights_m": [3.0]}, "no heights"),
        ({"footprints": [box(0, 0, 20, 20)], "heights_m": [3.0, 4.0]}, "one each"),
        ({"footprints": [box(0, 0, 20, 20)], "heights_m": [-3.0]}, "at least 0"),
        ({"max_shift_px": 0}, "at least 1"),
    ],
)
def test_bad_input(change, message):
    with pytest.raises(InputError, match=message):
        estimate_lean(**{"probability": np.zeros(SHAPE), "footprints": np.ones(SHAPE, bool), **change})


def test_missing_heights_and_shape():
    lean = Lean(0.0, None, 0.5, 5, 5, 0.9)
    with pytest.raises(InputError, match="heights_m"):
        correct_labels([box(0, 0, 9, 9)], lean, shape=SHAPE)
    with pytest.raises(InputError, match="mask has no heights"):
        correct_labels(np.ones(SHAPE, bool), lean)
    with pytest.raises(InputError, match="shape"):
        correct_labels([box(0, 0, 9, 9)], lean)

import cv2
import numpy as np
import pytest
import shapely
from shapely.affinity import affine_transform, rotate, translate
from shapely.geometry import Polygon

from robustvision.buildings.metrics import (
    boundary_iou,
    mask_iou,
    mask_overlaps,
    overlaps,
    polygon_iou,
    polygon_overlaps,
)
from robustvision.core.errors import InputError

RECTANGLE = shapely.box(0, 0, 30, 20)


def random_polygons(rng, count):
    sizes, places, turns = rng.uniform(4, 16, (count, 2)), rng.uniform(0, 60, (count, 2)), rng.uniform(0, 90, count)
    boxes = [translate(shapely.box(0, 0, *size), *place) for size, place in zip(sizes, places, strict=True)]
    return [rotate(box, turn) for box, turn in zip(boxes, turns, strict=True)]


def random_masks(rng, count, size=(40, 50)):
    masks = np.zeros((count, *size), dtype=bool)
    for mask in masks:
        y, x = rng.integers(0, size[0] - 4), rng.integers(0, size[1] - 4)
        mask[y : y + rng.integers(3, 25), x : x + rng.integers(3, 25)] = True
        mask &= rng.random(size) < 0.97
    return masks


class TestPolygons:
    @pytest.mark.parametrize(
        ("shift", "iou"), [((1, 0), 29 / 31), ((0, 1), 19 / 21), ((30, 0), 0), ((40, 0), 0), ((0, 0), 1)]
    )
    def test_hand_values_of_a_moved_rectangle(self, shift, iou):
        assert polygon_iou([translate(RECTANGLE, *shift)], [RECTANGLE]) == pytest.approx(iou, rel=1e-12)

    def test_is_what_every_pair_gives(self):
        rng = np.random.default_rng(0)
        a, b = random_polygons(rng, 25), random_polygons(rng, 18)
        expected = [[p.intersection(q).area / p.union(q).area for q in b] for p in a]
        got = polygon_iou(a, b)
        assert got.shape == (25, 18)
        assert got == pytest.approx(np.array(expected), abs=1e-12)
        assert np.count_nonzero(got) > 20

    def test_holes_are_no_part_of_a_building(self):
        ring = RECTANGLE.difference(shapely.box(5, 5, 15, 15))
        assert polygon_iou([RECTANGLE], [ring]).item() == pytest.approx(500 / 600)

    def test_does_not_change_when_all_is_moved_turned_and_scaled(self):
        rng = np.random.default_rng(1)
        a, b = random_polygons(rng, 8), random_polygons(rng, 8)
        expected = polygon_iou(a, b)
        matrix = [0, -2.5, 2.5, 0, 1000, -400]  # a quarter turn, 2.5 times, far away
        moved = [[affine_transform(p, matrix) for p in side] for side in (a, b)]
        assert polygon_iou(*moved) == pytest.approx(expected, abs=1e-9)
        swapped = polygon_iou(b, a).T
        assert swapped == pytest.approx(expected, abs=1e-12)

    def test_none_on_either_side(self):
        assert polygon_iou([], [RECTANGLE]).shape == (0, 1)
        assert polygon_iou([RECTANGLE], []).shape == (1, 0)
        assert polygon_iou([], []).shape == (0, 0)

    @pytest.mark.parametrize(
        ("broken", "words"),
        [(Polygon([(0, 0), (4, 4), (4, 0), (0, 4)]), "Self-intersection"), (Polygon(), "no area"),
         (shapely.LineString([(0, 0), (1, 1)]), "no area")],
    )  # fmt: skip
    def test_what_has_no_area_is_refused_by_place(self, broken, words):
        with pytest.raises(InputError, match=f"true polygon 1 .*{words}"):
            polygon_iou([RECTANGLE], [RECTANGLE, broken])

    def test_small_buildings_are_left_out_on_request(self):
        small = shapely.box(50, 50, 54, 54.9)
        assert polygon_overlaps([RECTANGLE], [RECTANGLE, small], min_truth_area=20).iou.shape == (1, 1)
        assert polygon_overlaps([RECTANGLE], [RECTANGLE, small], min_truth_area=19.5).iou.shape == (1, 2)


class TestMasks:
    def test_is_what_every_pair_gives(self):
        rng = np.random.default_rng(0)
        a, b = random_masks(rng, 12), random_masks(rng, 9)
        crowd = rng.random(9) < 0.4
        expected = np.array([[(p & q).sum() / (p | q).sum() for q in b] for p in a])
        covered = np.array([[(p & q).sum() / p.sum() for q in b] for p in a])
        assert mask_iou(a, b) == pytest.approx(expected, abs=1e-15)
        assert mask_iou(a, b, crowd) == pytest.approx(np.where(crowd, covered, expected), abs=1e-15)

    def test_a_map_is_the_stack_of_its_numbers(self):
        rng = np.random.default_rng(1)
        numbers = rng.choice([0, 3, 4, 90], size=(20, 30))
        stack = np.stack([numbers == number for number in (3, 4, 90)])
        other = random_masks(rng, 4, (20, 30))
        assert np.array_equal(mask_iou(numbers, other), mask_iou(stack, other))
        assert np.array_equal(boundary_iou(other, numbers), boundary_iou(other, stack))

    def test_pixel_aligned_polygons_and_masks_agree(self):
        a, b = np.zeros((2, 1, 40, 40), dtype=bool)
        a[0, 5:25, 3:33], b[0, 6:26, 5:35] = True, True
        assert mask_iou(a, b) == pytest.approx(polygon_iou([shapely.box(3, 5, 33, 25)], [shapely.box(5, 6, 35, 26)]))

    def test_no_masks(self):
        some = random_masks(np.random.default_rng(0), 3)
        assert mask_iou(np.zeros((0, 40, 50), dtype=bool), some).shape == (0, 3)
        assert boundary_iou(some, np.zeros((40, 50), dtype=int)).shape == (3, 0)

    @pytest.mark.parametrize(
        ("predicted", "words"),
        [(np.ones((1, 4, 5), bool), "expected one image"), (np.zeros((1, 4, 4), bool), "predicted mask 0 is empty"),
         (np.full((4, 4), -1), "map of numbers"), (np.full((4, 4), 0.5), "map of numbers"),
         (np.full((1, 4, 4), 7), "map of numbers")],
    )  # fmt: skip
    def test_bad_masks_are_named(self, predicted, words):
        with pytest.raises(InputError, match=words):
            mask_iou(predicted, np.ones((1, 4, 4), dtype=bool))


class TestBoundary:
    def edge(self, mask, thickness):
        """By definition: pixels with background, or the border, within the thickness in rows and columns."""
        padded = np.pad(mask, thickness)
        windows = np.lib.stride_tricks.sliding_window_view(padded, (2 * thickness + 1, 2 * thickness + 1))
        return mask & ~windows.all(axis=(-2, -1))

    @pytest.mark.parametrize(("ratio", "thickness"), [(0.001, 1), (0.02, 1), (0.04, 3), (0.1, 6)])
    def test_is_the_iou_of_edges_by_definition(self, ratio, thickness):
        rng = np.random.default_rng(2)
        a, b = random_masks(rng, 6), random_masks(rng, 5)
        assert max(1, round(ratio * np.hypot(40, 50))) == thickness
        edges = [[self.edge(mask, thickness) for mask in masks] for masks in (a, b)]
        expected = [[(p & q).sum() / (p | q).sum() for q in edges[1]] for p in edges[0]]
        assert boundary_iou(a, b, ratio) == pytest.approx(np.array(expected), abs=1e-15)

    def test_is_what_whole_images_give_with_opencv(self):
        rng = np.random.default_rng(3)
        a, b = random_masks(rng, 5, (300, 200)), random_masks(rng, 5, (300, 200))

        def edge(mask, times):
            padded = cv2.copyMakeBorder(mask.astype(np.uint8), 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
            return mask & (cv2.erode(padded, np.ones((3, 3), np.uint8), iterations=times)[1:-1, 1:-1] == 0)

        edges = [np.stack([edge(mask, 7) for mask in masks]) for masks in (a, b)]  # 0.02 * 360.6 px
        assert np.array_equal(boundary_iou(a, b), mask_iou(*edges))

    def test_punishes_a_shift_of_a_large_building_that_masks_forgive(self):
        large = np.zeros((1, 200, 200), dtype=bool)
        large[0, 20:180, 20:180] = True
        shifted = np.roll(large, 4, axis=2)
        assert mask_iou(large, shifted).item() == pytest.approx(156 / 164)
        assert boundary_iou(large, shifted).item() < 0.55

    def test_the_ring_of_a_building_is_caught_by_its_mask(self):
        full = np.zeros((1, 300, 300), dtype=bool)
        full[0, 50:250, 50:250] = True
        ring = full.copy()
        ring[0, 80:220, 80:220] = False
        both = mask_overlaps(ring, full, boundary=True).iou.item()
        assert both == mask_iou(ring, full).item() == pytest.approx(1 - 140**2 / 200**2)
        crowd = mask_overlaps(np.roll(full, 30, axis=1), full, crowd=[True], boundary=True).iou.item()
        assert crowd == pytest.approx(170 / 200)


class TestOverlaps:
    def test_without_scores_all_are_equally_sure(self):
        got = overlaps(np.zeros((3, 2)))
        assert got.scores.tolist() == [1, 1, 1]
        assert got.crowd.tolist() == [False, False]

    @pytest.mark.parametrize(
        ("iou", "scores", "crowd", "words"),
        [(np.zeros(3), None, None, "predictions x buildings"), ([[np.nan]], None, None, "all finite"),
         ([[0.5]], [1, 2], None, "finite one for each of 1"), ([[0.5]], [np.nan], None, "finite one"),
         ([[0.5]], None, [0, 1], "flag for each of 1")],
    )  # fmt: skip
    def test_what_does_not_fit_is_named(self, iou, scores, crowd, words):
        with pytest.raises(InputError, match=words):
            overlaps(iou, scores, crowd)

import math

import numpy as np
import pytest
import shapely
from shapely.affinity import affine_transform, rotate, scale, translate
from shapely.geometry import MultiPolygon, Point, Polygon

from robustvision.buildings.metrics import complexity_iou, max_tangent_angle_errors_deg, polis, polis_score
from robustvision.core.errors import InputError

RECTANGLE = shapely.box(0, 0, 30, 20)
MOVED = translate(RECTANGLE, 1, 0)
L_SHAPE = Polygon([(0, 0), (8, 0), (8, 2), (2, 2), (2, 6), (0, 6)])
RING = RECTANGLE.difference(shapely.box(10, 5, 20, 15))


def random_polygon(rng, place=(0, 0)):
    turns = np.sort(rng.uniform(0, 2 * np.pi, 9))
    corners = np.stack([np.cos(turns), np.sin(turns)], axis=1) * rng.uniform(5, 12, (9, 1)) + place
    polygon = Polygon(corners)
    return polygon if polygon.is_valid else random_polygon(rng, place)


def distance_to_outline(point, corners):
    """Of a point to the nearest edge, segment by segment."""
    best = math.inf
    for start, end in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        along = end - start
        share = min(max(float((point - start) @ along / (along @ along)), 0.0), 1.0)
        best = min(best, math.dist(point, start + share * along))
    return best


class TestPolis:
    def test_follows_the_definition(self):
        rng = np.random.default_rng(0)
        for _ in range(10):
            a, b = random_polygon(rng), random_polygon(rng, (3, 1))
            p, q = (np.array(polygon.exterior.coords)[:-1] for polygon in (a, b))
            expected = sum(distance_to_outline(point, q) for point in p) / (2 * len(p))
            expected += sum(distance_to_outline(point, p) for point in q) / (2 * len(q))
            assert polis(a, b) == pytest.approx(expected, rel=1e-12)

    def test_hand_values_of_a_moved_rectangle(self):
        """Moved by 1 along a side: two corners of each lie on the other's outline, two at distance 1."""
        assert polis(RECTANGLE, MOVED) == 0.5
        assert polis(RECTANGLE, translate(RECTANGLE, 1, 1)) == pytest.approx((3 * 1 + 2**0.5) / 4)

    @pytest.mark.parametrize("corners", [3, 4, 7, 12])
    def test_the_biased_variant_is_low_by_q_over_q_plus_1(self, corners):
        turns = np.arange(corners) * 2 * np.pi / corners
        a = Polygon(np.stack([np.cos(turns), np.sin(turns)], axis=1) * 10)
        b = translate(a, 0.7, 0.3)
        assert polis(a, b, closing_vertex=True) == pytest.approx(polis(a, b) * corners / (corners + 1), rel=1e-12)

    def test_redundant_vertices_count(self):
        assert polis(RECTANGLE.segmentize(15), RECTANGLE) == 0
        # 3 + 1 of 10 vertices at distance 1, 2 of 4 the other way
        assert polis(RECTANGLE.segmentize(10), MOVED) == pytest.approx((4 / 10 + 2 / 4) / 2)

    def test_repeated_vertices_count_once(self):
        doubled = Polygon([(0, 0), (0, 0), (30, 0), (30, 20), (30, 20), (30, 20), (0, 20)])
        assert polis(doubled, MOVED) == polis(RECTANGLE, MOVED)

    def test_invariances(self):
        rng = np.random.default_rng(1)
        a, b = random_polygon(rng), random_polygon(rng, (2, 2))
        value = polis(a, b)
        assert polis(b, a) == pytest.approx(value, rel=1e-12)
        quarter_turn = [0, -1, 1, 0, 5000, -700]
        assert polis(*(affine_transform(p, quarter_turn) for p in (a, b))) == pytest.approx(value, rel=1e-9)
        assert polis(scale(a, 3, 3, origin=(0, 0)), scale(b, 3, 3, origin=(0, 0))) == pytest.approx(3 * value)
        corners = np.array(a.exterior.coords)[:-1]
        assert polis(Polygon(np.roll(corners, 4, axis=0)), b) == pytest.approx(value, rel=1e-12)
        assert polis(Polygon(corners[::-1]), b) == pytest.approx(value, rel=1e-12)

    def test_holes_do_not_count(self):
        assert polis(RING, MOVED) == polis(RECTANGLE, MOVED)

    def test_parts_count_together(self):
        two = MultiPolygon([RECTANGLE, translate(RECTANGLE, 100, 0)])
        assert polis(two, translate(two, 1, 0)) == 0.5

    def test_no_area_is_refused(self):
        with pytest.raises(InputError, match="cannot be measured"):
            polis(RECTANGLE, Polygon())


class TestPolisScore:
    def test_follows_the_published_rule(self):
        far = translate(RECTANGLE, 200, 0)
        image = ([translate(far, 0, 2), MOVED, translate(RECTANGLE, 25, 0)], [RECTANGLE, far, translate(far, 200, 0)])
        assert polis_score([image]) == pytest.approx((polis(MOVED, RECTANGLE) + polis(far, translate(far, 0, 2))) / 2)

    def test_a_prediction_may_serve_two_buildings(self):
        assert polis_score([([RECTANGLE], [MOVED, translate(RECTANGLE, 0, 1)])]) == pytest.approx(0.5)

    def test_boxes_match_above_one_half_only(self):
        half = shapely.box(0, 0, 15, 20)
        assert math.isnan(polis_score([([half], [RECTANGLE])]))
        assert polis_score([([shapely.box(0, 0, 15.1, 20)], [RECTANGLE])]) > 0

    def test_images_count_alike_and_those_of_value_0_not_at_all(self):
        two = translate(RECTANGLE, 0, 2)
        images = [
            ([MOVED], [RECTANGLE]),
            ([two], [RECTANGLE]),
            ([RECTANGLE], [RECTANGLE]),
            ([], [RECTANGLE]),
            ([MOVED], []),
        ]
        assert polis_score(images) == pytest.approx((0.5 + 1.0) / 2)

    def test_nothing_to_compare_is_nan(self):
        assert math.isnan(polis_score([]))
        assert math.isnan(polis_score([([], [])]))

    def test_the_biased_variant(self):
        assert polis_score([([MOVED], [RECTANGLE])], closing_vertex=True) == pytest.approx(0.4)


class TestComplexityIou:
    def test_hand_values(self):
        assert complexity_iou([RECTANGLE], [RECTANGLE]) == 1
        assert complexity_iou([MOVED], [RECTANGLE]) == pytest.approx(29 / 31)
        assert complexity_iou([L_SHAPE], [shapely.box(0, 0, 8, 6)]) == pytest.approx(24 / 48 * (1 - 2 / 10))
        assert complexity_iou([RECTANGLE.segmentize(1)], [RECTANGLE]) == pytest.approx(1 - 96 / 104)

    def test_is_the_pixel_count_where_polygons_lie_on_the_pixel_grid(self):
        rng = np.random.default_rng(0)
        sides = []
        for _ in range(2):
            places, sizes = rng.integers(0, 40, (6, 2)), rng.integers(2, 20, (6, 2))
            sides.append([shapely.box(*place, *(place + size)) for place, size in zip(places, sizes, strict=True)])
        masks = []
        for side in sides:
            mask = np.zeros((64, 64), dtype=bool)
            for x0, y0, x1, y1 in (map(int, polygon.bounds) for polygon in side):
                mask[y0:y1, x0:x1] = True
            masks.append(mask)
        iou = (masks[0] & masks[1]).sum() / (masks[0] | masks[1]).sum()
        assert complexity_iou(*sides) == pytest.approx(iou, rel=1e-12)  # 24 vertices on both sides
        assert complexity_iou(sides[0], sides[1][:3]) < complexity_iou(sides[0], sides[0][:5])

    def test_overlapping_buildings_count_their_area_once_and_their_vertices_each(self):
        assert complexity_iou([RECTANGLE, RECTANGLE], [RECTANGLE]) == pytest.approx(1 - 4 / 12)

    def test_holes_count_as_area_and_not_as_vertices(self):
        assert complexity_iou([RING], [RECTANGLE]) == pytest.approx(500 / 600)

    def test_empty_sides(self):
        assert complexity_iou([], []) == 1
        assert complexity_iou([], [RECTANGLE]) == complexity_iou([RECTANGLE], []) == 0

    def test_does_not_change_when_all_is_turned(self):
        rng = np.random.default_rng(2)
        a, b = random_polygon(rng), random_polygon(rng, (2, 0))
        turned = [[affine_transform(p, [0, -1, 1, 0, 60, 7])] for p in (a, b)]
        assert complexity_iou(*turned) == pytest.approx(complexity_iou([a], [b]), rel=1e-9)


class TestTangentAngle:
    def test_no_prediction_or_no_building_does_not_crash(self):
        assert max_tangent_angle_errors_deg([], [RECTANGLE]).tolist() == []
        assert max_tangent_angle_errors_deg([RECTANGLE], []).tolist() == []
        assert max_tangent_angle_errors_deg([], []).tolist() == []

    @pytest.mark.parametrize("polygon", [RECTANGLE, L_SHAPE, RING, Point(0, 0).buffer(30)])
    def test_the_true_outline_has_no_error(self, polygon):
        assert max_tangent_angle_errors_deg([polygon], [polygon]) == pytest.approx([0], abs=1e-5)

    @pytest.mark.parametrize("degrees", [5, 10, 20])
    def test_of_a_turned_strip_is_the_turn_where_no_corner_disturbs(self, degrees):
        """Inside a building much larger than it, no sample lies near a corner of the building."""
        truth = shapely.box(-500, -10, 500, 10)
        inner = rotate(shapely.box(-20, -4, 20, 4), degrees)
        got = max_tangent_angle_errors_deg([inner], [truth]).item()
        # long sides turn by the angle; whatever turns by more than 60 degrees shrinks by more than 2 and is dropped
        assert degrees - 1e-9 <= got <= 60

    def test_is_what_a_loop_over_samples_finds(self):
        rng = np.random.default_rng(4)
        truths = [random_polygon(rng), random_polygon(rng, (40, 0))]
        predicted = [scale(rotate(truth, 8), 0.9, 1.1) for truth in truths]
        expected = []
        for polygon in predicted:
            ring, worst = polygon.exterior, 0.0
            number = max(3, round(ring.length / 2))
            points = [ring.interpolate(ring.length * k / number) for k in range(number + 1)]
            lines = shapely.MultiLineString([truth.exterior for truth in truths])
            moved = [lines.interpolate(lines.project(point)) for point in points]
            for k in range(number):
                edge = complex(points[k + 1].x - points[k].x, points[k + 1].y - points[k].y)
                other = complex(moved[k + 1].x - moved[k].x, moved[k + 1].y - moved[k].y)
                if abs(edge) * 0.5 < abs(other) < abs(edge) * 2:
                    turn = abs(np.angle(other / edge, deg=True))
                    worst = max(worst, min(turn, 180 - turn))
            expected.append(worst)
        got = max_tangent_angle_errors_deg(predicted, truths)
        assert got == pytest.approx(expected, abs=1e-5)
        assert got.min() > 5

    def test_a_rounded_corner_costs_up_to_45_degrees(self):
        """A square whose corners are cut at 45 degrees, against the square."""
        truth = shapely.box(0, 0, 40, 40)
        cut = truth.buffer(-6).buffer(6, join_style="bevel")
        rounded = max_tangent_angle_errors_deg([cut], [truth]).item()
        assert 30 < rounded <= 45 + 1e-9

    def test_only_predictions_that_are_mostly_building_count(self):
        half_off = translate(RECTANGLE, 16, 0)
        assert max_tangent_angle_errors_deg([half_off, RECTANGLE], [RECTANGLE]).shape == (1,)
        assert max_tangent_angle_errors_deg([half_off, RECTANGLE], [RECTANGLE, shapely.box(30, 0, 60, 20)]).shape == (
            2,
        )

    def test_invariances(self):
        """A quarter turn, a shift and the direction of rings change nothing; degrees do not know scale, samples do."""
        rng = np.random.default_rng(6)
        truth = random_polygon(rng)
        predicted = rotate(truth, 6)
        value = max_tangent_angle_errors_deg([predicted], [truth])
        assert value.item() > 1
        turned = [[affine_transform(p, [0, -1, 1, 0, 300, -40])] for p in (predicted, truth)]
        assert max_tangent_angle_errors_deg(*turned) == pytest.approx(value, abs=1e-5)
        assert max_tangent_angle_errors_deg([predicted.reverse()], [truth.reverse()]) == pytest.approx(value, abs=1e-5)

    def test_parts_and_holes_count(self):
        two = MultiPolygon([RECTANGLE, translate(RECTANGLE, 100, 0)])
        assert max_tangent_angle_errors_deg([two], [two]) == pytest.approx([0], abs=1e-5)
        turned_hole = RECTANGLE.difference(rotate(shapely.box(10, 5, 20, 15), 20))
        assert max_tangent_angle_errors_deg([turned_hole], [RING]).item() > 15
        assert max_tangent_angle_errors_deg([turned_hole], [turned_hole]).item() < 1e-5

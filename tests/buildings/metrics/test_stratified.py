import math

import numpy as np
import pytest

from robustvision.buildings.metrics import (
    PixelCounts,
    add_counts,
    count_pixels,
    counts_by_building,
    displacement_bin,
    label_f1,
    recall_by_height_class,
)
from robustvision.buildings.metrics.stratified import NO_BUILDING
from robustvision.core.errors import InputError


def random_tile(rng, size=(24, 30)):
    instances = np.zeros(size, dtype=np.int32)
    for number in (4, 2, 9, 7):
        y, x = rng.integers(0, 18), rng.integers(0, 24)
        instances[y : y + rng.integers(2, 8), x : x + rng.integers(2, 8)] = number
    prediction = (instances > 0) ^ (rng.random(size) < 0.15)
    return prediction, instances, rng.random(size) < 0.9


STRATA = {2: "low", 4: "low", 7: "high", 9: "mid", 5: "never seen"}


class TestCountsByBuilding:
    def test_is_what_a_search_for_the_nearest_building_gives(self):
        rng = np.random.default_rng(0)
        for _ in range(5):
            prediction, instances, valid = random_tile(rng)
            true_places = np.argwhere(instances)
            expected, contested = {}, 0
            for y, x in np.argwhere(valid & (prediction | (instances > 0))):
                if instances[y, x]:
                    kind = "tp" if prediction[y, x] else "fn"
                    names = {STRATA[int(instances[y, x])]}
                else:
                    distance = ((true_places - (y, x)) ** 2).sum(axis=1)
                    nearest = true_places[distance == distance.min()]
                    kind, names = "fp", {STRATA[int(instances[tuple(place)])] for place in nearest}
                if len(names) > 1:
                    contested += 1
                for name in names:
                    expected[name, kind] = expected.get((name, kind), 0) + 1 / len(names)
            got = counts_by_building(prediction, instances, STRATA, valid)
            for name, counts in got.items():
                assert counts.tp == expected.get((name, "tp"), 0)
                assert counts.fn == expected.get((name, "fn"), 0)
                assert abs(counts.fp - expected.get((name, "fp"), 0)) <= contested / 2  # ties may go either way
            assert contested < 20

    def test_strata_hold_all_pixels_of_the_tile(self):
        rng = np.random.default_rng(1)
        for _ in range(10):
            prediction, instances, valid = random_tile(rng)
            got = sum(counts_by_building(prediction, instances, STRATA, valid).values(), PixelCounts())
            whole = count_pixels(prediction, instances > 0, valid)
            assert (got.tp, got.fp, got.fn, got.tn) == (whole.tp, whole.fp, whole.fn, 0)

    def test_a_single_stratum_is_micro(self):
        prediction, instances, _ = random_tile(np.random.default_rng(2))
        [counts] = counts_by_building(prediction, instances, dict.fromkeys(STRATA, "all")).values()
        assert counts.f1 == count_pixels(prediction, instances > 0).f1

    def test_a_moved_label_hurts_its_own_stratum_only(self):
        instances = np.zeros((40, 80), dtype=int)
        instances[10:30, 5:25], instances[10:30, 50:70] = 1, 2
        noisy = np.zeros_like(instances, dtype=bool)
        noisy[10:30, 5:25], noisy[10:30, 60:80] = True, True
        got = counts_by_building(noisy, instances, {1: displacement_bin(0), 2: displacement_bin(10)})
        assert got["0-2 px"].f1 == 1
        assert got["5-10 px"].f1 == 0.5

    def test_turning_the_tile_changes_nothing_without_ties(self):
        instances = np.zeros((20, 21), dtype=int)
        instances[2:5, 3:9], instances[12:17, 11:20] = 1, 2
        prediction = np.zeros_like(instances, dtype=bool)
        prediction[1:8, 2:7], prediction[13:20, 12:18] = True, True
        names = {1: "a", 2: "b"}
        expected = counts_by_building(prediction, instances, names)
        assert counts_by_building(np.rot90(prediction), np.rot90(instances), names) == expected

    def test_a_tile_without_buildings(self):
        empty = np.zeros((4, 4), dtype=int)
        assert counts_by_building(empty, empty, {}) == {}
        assert counts_by_building(empty + 1, empty, {}) == {NO_BUILDING: PixelCounts(fp=16)}
        assert counts_by_building(empty + 1, empty, {}, np.eye(4) == 0) == {NO_BUILDING: PixelCounts(fp=12)}

    def test_probabilities_are_taken(self):
        assert counts_by_building([[0.5, 0.4]], np.array([[3, 3]]), {3: "x"}) == {"x": PixelCounts(tp=1, fn=1)}

    def test_bad_input_is_named(self):
        instances = np.array([[1, 0]])
        with pytest.raises(InputError, match=r"buildings \[1\] of the map have no stratum"):
            counts_by_building([[1, 0]], instances, {2: "low"})
        with pytest.raises(InputError, match="same pixels"):
            counts_by_building([[1, 0, 0]], instances, {1: "low"})

    def test_tiles_add_up_by_name(self):
        tiles = [{"low": PixelCounts(1, 2, 3)}, {}, {"high": PixelCounts(tp=5), "low": PixelCounts(1, 1, 1)}]
        assert add_counts(tiles) == {"low": PixelCounts(2, 3, 4), "high": PixelCounts(tp=5)}


class TestDisplacementBins:
    @pytest.mark.parametrize(
        ("px", "name"),
        [(0, "0-2 px"), (2, "0-2 px"), (2.01, "2-5 px"), (5, "2-5 px"), (9, "5-10 px"), (20, "10-20 px"),
         (20.1, ">20 px")],
    )  # fmt: skip
    def test_names(self, px, name):
        assert displacement_bin(px) == name

    def test_other_limits(self):
        assert [displacement_bin(px, (0.5, 1.5)) for px in (0.2, 1, 2)] == ["0-0.5 px", "0.5-1.5 px", ">1.5 px"]

    @pytest.mark.parametrize("px", [-1, math.nan, math.inf])
    def test_no_length_is_refused(self, px):
        with pytest.raises(InputError, match="finite length"):
            displacement_bin(px)


class TestRecallByHeightClass:
    def test_counts_every_class(self):
        got = recall_by_height_class([True, False, True, True], [3.0, 12.0, 40.0, 80.0])
        assert list(got) == ["low", "mid", "high", "skyscraper"]
        assert [(one.found, one.buildings) for one in got.values()] == [(1, 2), (0, 0), (2, 2), (0, 0)]
        assert got["low"].recall == 0.5
        assert math.isnan(got["mid"].recall)

    def test_no_buildings(self):
        assert all(one.buildings == 0 for one in recall_by_height_class([], []).values())

    def test_bad_input_is_named(self):
        with pytest.raises(InputError, match="one of each a building"):
            recall_by_height_class([True], [3.0, 4.0])
        with pytest.raises(InputError, match="0 or more"):
            recall_by_height_class([True], [np.nan])


class TestLabelF1:
    @pytest.mark.parametrize("shift", [0, 1, 5, 10, 30])
    def test_of_a_moved_rectangle_falls_linearly_to_0(self, shift):
        """F1 of a shift along a side of w px is 1 - shift / w while they overlap: noise grows with displacement."""
        truth = np.zeros((60, 90), dtype=np.uint8)
        truth[20:40, 5:25] = 1
        moved = np.roll(truth, shift, axis=1)
        assert label_f1([moved], [truth]) == pytest.approx(max(0, 1 - shift / 20))

    def test_is_micro_over_tiles(self):
        labels, truths = [np.ones((2, 2)), np.array([[1, 0], [0, 0]])], [np.ones((2, 2)), np.array([[0, 1], [0, 0]])]
        assert label_f1(labels, truths) == pytest.approx(2 * 4 / (2 * 4 + 1 + 1))

    def test_a_label_for_every_truth(self):
        with pytest.raises(InputError, match="1 labels and 2 true ones"):
            label_f1([np.ones(2)], [np.ones(2), np.ones(2)])
        with pytest.raises(InputError, match="given label holds"):
            label_f1([np.array([0.5])], [np.ones(1)])

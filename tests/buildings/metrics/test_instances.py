import contextlib
import io
import math

import numpy as np
import pytest
import shapely
from pycocotools import mask as rle
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from robustvision.buildings.metrics import (
    InstanceCounts,
    coco_scores,
    found_buildings,
    mask_overlaps,
    match_buildings,
    overlaps,
    polygon_overlaps,
    spacenet_f1,
)
from robustvision.core.errors import InputError

SIZE = (48, 64)


def encode(mask):
    return rle.encode(np.asfortranarray(mask.astype(np.uint8)))


def random_image(rng, *, crowd_share=0.0, decimals=1):
    """True rectangles, and predictions that are some of them moved, or anything."""
    truth = np.zeros((rng.integers(0, 7), *SIZE), dtype=bool)
    for mask in truth:
        y, x, h, w = rng.integers(0, 36), rng.integers(0, 50), *rng.integers(4, 20, 2)
        mask[y : y + h, x : x + w] = True
    predicted = [
        np.roll(mask, rng.integers(-1, 2, 2), axis=(0, 1)) for mask in truth for _ in range(rng.integers(0, 3))
    ]
    for _ in range(rng.integers(0, 3)):
        mask = np.zeros(SIZE, dtype=bool)
        mask[rng.integers(0, 40) :, rng.integers(0, 55) :] = True
        predicted.append(mask)
    predicted = np.array(predicted, dtype=bool).reshape(-1, *SIZE)
    scores = rng.random(len(predicted)).round(decimals)  # rounded: many are equal
    return truth, predicted, scores, rng.random(len(truth)) < crowd_share


def reference(images):
    """COCO's own evaluation: AP, AP50, AP75, AR at 100."""
    annotations, results = [], []
    for number, (truth, predicted, scores, crowd) in enumerate(images, 1):
        for mask, is_crowd in zip(truth, crowd, strict=True):
            place = {"id": len(annotations) + 1, "image_id": number, "category_id": 1, "area": int(mask.sum())}
            annotations.append(place | {"segmentation": encode(mask), "iscrowd": int(is_crowd)})
        for mask, score in zip(predicted, scores, strict=True):
            results.append({"image_id": number, "category_id": 1, "segmentation": encode(mask), "score": float(score)})
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = {"images": [{"id": n, "height": SIZE[0], "width": SIZE[1]} for n in range(1, len(images) + 1)],
                        "categories": [{"id": 1}], "annotations": annotations, "info": {}}  # fmt: skip
        coco.createIndex()
        evaluation = COCOeval(coco, coco.loadRes(results) if results else COCO(), "segm")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return np.array([*evaluation.stats[:3], evaluation.stats[8]])


def own(images, **options):
    got = coco_scores(mask_overlaps(p, t, s, crowd=c, **options) for t, p, s, c in images)
    return np.array([got.ap, got.ap50, got.ap75, got.ar])


class TestCoco:
    @pytest.mark.parametrize("seed", range(8))
    @pytest.mark.parametrize("crowd_share", [0.0, 0.3])
    def test_agrees_with_pycocotools(self, seed, crowd_share):
        rng = np.random.default_rng(seed)
        images = [random_image(rng, crowd_share=crowd_share) for _ in range(12)]
        expected = reference(images)
        assert 0.05 < expected[0] < 0.9  # neither nothing nor everything fits
        assert own(images) == pytest.approx(expected, abs=1e-9)

    def test_agrees_on_more_predictions_than_count(self):
        rng = np.random.default_rng(1)
        truth, *_ = random_image(rng)
        predicted = np.array([np.roll(truth[i % len(truth)], rng.integers(-3, 4, 2), axis=(0, 1)) for i in range(130)])
        images = [(truth, predicted, rng.random(130).round(2), np.zeros(len(truth), bool))]
        assert own(images) == pytest.approx(reference(images), abs=1e-9)
        first = np.argsort(-images[0][2], kind="stable")[:100]
        assert np.array_equal(own(images), own([(truth, predicted[first], images[0][2][first], images[0][3])]))

    def test_agrees_at_equal_overlaps(self):
        """Two buildings overlap a prediction alike; which one is taken decides whether the next finds one."""
        masks = np.zeros((4, *SIZE), dtype=bool)
        masks[0, 10:20, 0:20], masks[1, 10:20, 4:24] = True, True
        masks[2, 10:20, 2:22], masks[3, 10:20, 4:24] = True, True
        for scores in ([0.9, 0.8], [0.8, 0.9]):
            images = [(masks[:2], masks[2:], np.array(scores), np.zeros(2, bool))]
            assert own(images) == pytest.approx(reference(images), abs=1e-9)

    def test_boundary_ap_takes_the_smaller_of_both_iou(self):
        rng = np.random.default_rng(5)
        images = [random_image(rng) for _ in range(10)]
        by_hand = [overlaps(np.minimum(mask_overlaps(p, t).iou, _boundary_iou(p, t)), s, c) for t, p, s, c in images]
        got = coco_scores(by_hand)
        assert own(images, boundary=True) == pytest.approx([got.ap, got.ap50, got.ap75, got.ar], abs=1e-12)
        assert got.ap < own(images)[0]

    def test_hand_value(self):
        """Of 2 buildings the surest prediction hits one, the next misses, the last hits the other: 1 up to recall 1/2,
        which 51 of 101 recalls reach, then 2/3."""
        got = coco_scores([overlaps([[1, 0], [0, 0], [0, 1]], scores=[0.9, 0.8, 0.7])])
        assert got.ap == pytest.approx((51 + 50 * 2 / 3) / 101, rel=1e-12)
        assert got.ar == 1

    def test_a_threshold_belongs_to_the_match(self):
        assert coco_scores([overlaps([[0.5]])]).ap == pytest.approx(0.1)
        assert coco_scores([overlaps([[np.nextafter(0.5, 0)]])]).ap == 0

    def test_perfect(self):
        got = coco_scores([overlaps(np.eye(3)), overlaps(np.eye(2))])
        assert (got.ap, got.ap50, got.ap75, got.ar) == (1, 1, 1, 1)

    def test_predictions_in_a_crowd_count_neither_way(self):
        alone = coco_scores([overlaps([[1.0, 0]], scores=[0.5], crowd=[False, True])])
        crowded = coco_scores([overlaps([[1.0, 0], [0, 1.0], [0, 0.96]], scores=[0.5, 0.9, 0.8], crowd=[False, True])])
        assert alone == crowded
        assert crowded.ap50 == 1

    def test_nothing_to_find_is_nan_and_nothing_found_is_zero(self):
        assert math.isnan(coco_scores([]).ap)
        assert math.isnan(coco_scores([overlaps(np.zeros((3, 0)))]).ar)
        got = coco_scores([overlaps(np.zeros((0, 4)))])
        assert (got.ap, got.ar) == (0, 0)

    def test_does_not_depend_on_the_order_of_images_or_predictions(self):
        rng = np.random.default_rng(3)
        images = [random_image(rng, decimals=12) for _ in range(8)]
        shuffled = []
        for truth, predicted, scores, crowd in images[::-1]:
            order = rng.permutation(len(scores))
            shuffled.append((truth, predicted[order], scores[order], crowd))
        assert own(shuffled) == pytest.approx(own(images), abs=1e-12)


class TestSpaceNet:
    def loop(self, image):
        """The challenge's rule, one prediction at a time."""
        free, tp = set(range(image.iou.shape[1])), 0
        for prediction in sorted(range(len(image.scores)), key=lambda p: -image.scores[p]):
            best = max(free, key=lambda building: image.iou[prediction, building], default=None)
            if best is not None and image.iou[prediction, best] > 0.5:
                free.remove(best)
                tp += 1
        return InstanceCounts(tp, len(image.scores) - tp, len(free))

    def test_is_what_the_rule_gives(self):
        rng = np.random.default_rng(0)
        images = [mask_overlaps(p, t, s) for t, p, s, _ in (random_image(rng) for _ in range(40))]
        for image in images:
            assert spacenet_f1([image]) == self.loop(image)
        total = spacenet_f1(images)
        assert total == sum(map(self.loop, images), InstanceCounts())
        assert 0.2 < total.f1 < 0.98

    def test_exactly_one_half_is_no_match(self):
        truth = shapely.box(0, 0, 2, 2)
        assert spacenet_f1([polygon_overlaps([shapely.box(0, 0, 1, 2)], [truth])]) == InstanceCounts(0, 1, 1)
        assert spacenet_f1([polygon_overlaps([shapely.box(0, 0, 1.001, 2)], [truth])]) == InstanceCounts(1, 0, 0)
        assert match_buildings(overlaps([[0.9, 0.0], [0.8, 0.5]])).tolist() == [0, -1]  # nor of a second choice

    def test_the_surest_chooses_first(self):
        """Both predictions fit building 0; only the first fits building 1 as well."""
        iou = [[0.8, 0.7], [0.9, 0.0]]
        assert match_buildings(overlaps(iou, scores=[0.5, 0.9])).tolist() == [1, 0]
        assert match_buildings(overlaps(iou, scores=[0.9, 0.5])).tolist() == [0, -1]
        assert match_buildings(overlaps(iou)).tolist() == [0, -1]

    def test_a_double_prediction_is_false(self):
        image = overlaps([[0.9], [0.8]])
        assert spacenet_f1([image]) == InstanceCounts(1, 1, 0)
        assert found_buildings(image).tolist() == [True]

    def test_nothing_anywhere(self):
        assert math.isnan(spacenet_f1([]).f1)
        assert spacenet_f1([overlaps(np.zeros((0, 3)))]) == InstanceCounts(fn=3)
        assert spacenet_f1([overlaps(np.zeros((2, 0)))]) == InstanceCounts(fp=2)
        assert math.isnan(InstanceCounts(fn=3).precision)
        assert InstanceCounts(fn=3).f1 == InstanceCounts(fn=3).recall == 0

    def test_crowds_are_refused(self):
        with pytest.raises(InputError, match="crowd regions"):
            spacenet_f1([overlaps([[0.9]], crowd=[True])])


def _boundary_iou(predicted, truth):
    thickness = max(1, round(0.02 * math.hypot(*SIZE)))
    windows = 2 * thickness + 1

    def edge(mask):
        view = np.lib.stride_tricks.sliding_window_view(np.pad(mask, thickness), (windows, windows))
        return mask & ~view.all(axis=(-2, -1))

    edges = [[edge(mask) for mask in masks] for masks in (predicted, truth)]
    return np.array([[(p & q).sum() / (p | q).sum() for q in edges[1]] for p in edges[0]]).reshape(
        len(predicted), len(truth)
    )

import math

import numpy as np
import pytest

from robustvision.buildings.metrics import PixelCounts, count_pixels, image_mean_scores, micro_scores
from robustvision.core.errors import InputError

SCORES = ("f1", "iou", "background_iou", "precision", "recall")


def brute_force(prediction, label, valid=None):
    counts = {(True, True): 0, (True, False): 0, (False, True): 0, (False, False): 0}
    for place in np.ndindex(label.shape):
        if valid is None or valid[place]:
            counts[bool(prediction[place] >= 0.5), bool(label[place])] += 1
    return PixelCounts(counts[True, True], counts[True, False], counts[False, True], counts[False, False])


def random_images(count, seed=0):
    rng = np.random.default_rng(seed)
    size = (9, 7)
    return [
        (rng.random(size, dtype=np.float32), rng.integers(0, 2, size), rng.random(size) < 0.8) for _ in range(count)
    ]


class TestCounting:
    def test_is_what_a_loop_counts(self):
        for prediction, label, valid in random_images(20):
            assert count_pixels(prediction, label) == brute_force(prediction, label)
            assert count_pixels(prediction, label, valid) == brute_force(prediction, label, valid)

    def test_one_half_is_a_building(self):
        below = np.nextafter(np.float32(0.5), np.float32(0))
        assert count_pixels(np.array([0.5, below], dtype=np.float32), [1, 1]) == PixelCounts(tp=1, fn=1)

    def test_hand_values_of_a_moved_rectangle(self):
        label = np.zeros((40, 50), dtype=np.uint8)
        label[5:25, 5:35] = 1
        counts = count_pixels(np.roll(label, 1, axis=1), label)
        assert counts == PixelCounts(tp=580, fp=20, fn=20, tn=2000 - 620)
        assert (counts.iou, counts.f1) == (580 / 620, 580 / 600)

    def test_any_binary_type_counts_alike(self):
        prediction, label, _ = random_images(1)[0]
        mask = prediction >= 0.5
        expected = count_pixels(mask, label.astype(bool))
        for dtype in (np.uint8, np.int64, np.float32, np.float64):
            assert count_pixels(mask.astype(dtype), label.astype(dtype)) == expected

    def test_swapping_both_sides_swaps_both_errors(self):
        prediction, label, valid = random_images(1)[0]
        one, other = count_pixels(prediction >= 0.5, label, valid), count_pixels(label, prediction >= 0.5, valid)
        assert (one.tp, one.fp, one.fn, one.tn) == (other.tp, other.fn, other.fp, other.tn)

    def test_counts_do_not_change_with_turns_and_flips(self):
        prediction, label, valid = random_images(1)[0]
        expected = count_pixels(prediction, label, valid)
        for turn in (np.rot90, np.flipud, np.fliplr, np.transpose):
            assert count_pixels(turn(prediction), turn(label), turn(valid)) == expected

    def test_pixels_without_data_count_nowhere_whatever_they_hold(self):
        prediction, label, valid = random_images(1)[0]
        expected = count_pixels(prediction, label, valid)
        assert count_pixels(np.where(valid, prediction, 1), np.where(valid, label, 0), valid) == expected
        assert count_pixels(prediction, label, np.zeros_like(valid)) == PixelCounts()

    @pytest.mark.parametrize(
        ("prediction", "label", "words"),
        [(np.zeros((4, 4)), np.zeros((4, 5)), r"shape \(4, 4\), the label \(4, 5\)"),
         (np.full((2, 2), np.nan), np.zeros((2, 2)), "probabilities of 0 to 1"),
         (np.array([0.2, 3.0]), np.zeros(2), "sigmoid"),
         (np.array([0, 255], dtype=np.uint8), np.zeros(2), "prediction holds values besides 0 and 1"),
         (np.zeros(2), np.array([0, 255], dtype=np.uint8), "label holds values besides 0 and 1"),
         (np.zeros(2), np.array([0.0, 0.7]), "label holds values"),
         (np.zeros(2), np.array([0.0, np.nan]), "label holds values")],
    )  # fmt: skip
    def test_bad_input_is_named(self, prediction, label, words):
        with pytest.raises(InputError, match=words):
            count_pixels(prediction, label)

    def test_a_valid_mask_of_another_shape_is_named(self):
        with pytest.raises(InputError, match="the valid has shape"):
            count_pixels(np.zeros((2, 2)), np.zeros((2, 2)), np.ones((1, 2)))


class TestScores:
    def test_swapping_the_classes_shows_inverted_labels(self):
        """A predictor of the background looks good on the background and bad on buildings."""
        label = np.zeros((20, 20), dtype=bool)
        label[:4, :10] = True
        right, inverted = count_pixels(label, label), count_pixels(~label, label)
        assert (right.iou, right.background_iou) == (1, 1)
        assert (inverted.iou, inverted.background_iou) == (0, 0)
        swapped = count_pixels(~label, ~label)
        assert (swapped.tp, swapped.tn) == (right.tn, right.tp)

    def test_undefined_is_nan_and_not_zero(self):
        nothing = PixelCounts(tn=5)
        assert all(math.isnan(getattr(nothing, name)) for name in ("f1", "iou", "precision", "recall"))
        assert nothing.background_iou == 1
        assert math.isnan(PixelCounts(fn=3).precision)
        assert PixelCounts(fn=3).f1 == 0

    def test_f1_follows_from_iou_for_one_set_of_counts_only(self):
        images = [count_pixels(*image) for image in random_images(6)]
        images.append(PixelCounts(tp=50, tn=13))
        micro, mean = micro_scores(images), image_mean_scores(images)
        assert micro.f1 == pytest.approx(2 * micro.iou / (1 + micro.iou), rel=1e-12)
        # F1 is a concave function of IoU, so by Jensen the mean of F1 lies below
        assert mean.f1 < 2 * mean.iou / (1 + mean.iou) - 0.01

    def test_f1_is_the_harmonic_mean_of_precision_and_recall(self):
        for image in random_images(10):
            counts = count_pixels(*image)
            assert counts.f1 == pytest.approx(2 / (1 / counts.precision + 1 / counts.recall), rel=1e-12)

    def test_micro_is_the_score_of_one_large_image(self):
        images = random_images(5)
        stacked = count_pixels(*(np.concatenate(arrays) for arrays in zip(*images, strict=True)))
        micro = micro_scores(count_pixels(*image) for image in images)
        assert (micro.aggregation, micro.images) == ("micro", 5)
        assert [getattr(micro, name) for name in SCORES] == [getattr(stacked, name) for name in SCORES]

    def test_both_means_agree_where_every_image_has_all_pixels_kinds(self):
        images = [count_pixels(*image) for image in random_images(8)]
        mean, skipping = image_mean_scores(images), image_mean_scores(images, skip_undefined=True)
        for name in SCORES:
            expected = math.fsum(getattr(image, name) for image in images) / 8
            assert getattr(skipping, name) == pytest.approx(expected, rel=1e-12)
            assert getattr(mean, name) == pytest.approx(expected, abs=1e-7)

    def test_empty_images_inflate_the_authors_mean_and_a_single_false_pixel_ruins_it(self):
        half = PixelCounts(tp=1, fp=1, fn=1, tn=61)
        empty, stained = PixelCounts(tn=64), PixelCounts(fp=1, tn=63)
        assert image_mean_scores([half, empty]).f1 == pytest.approx(0.75, abs=1e-7)
        assert image_mean_scores([half, stained]).f1 == pytest.approx(0.25, abs=1e-7)
        assert micro_scores([half, empty]).f1 == 0.5
        assert micro_scores([half, stained]).f1 == pytest.approx(2 / 5)
        skipping = image_mean_scores([half, empty], skip_undefined=True)
        assert (skipping.f1, skipping.background_iou) == (0.5, pytest.approx((61 / 63 + 1) / 2))

    def test_nothing_defined_anywhere(self):
        assert math.isnan(image_mean_scores([PixelCounts(tn=3)], skip_undefined=True).f1)
        assert math.isnan(micro_scores([PixelCounts(tn=3)]).f1)

    def test_each_aggregation_says_its_name(self):
        images = [PixelCounts(tp=1)]
        scores = [micro_scores(images), image_mean_scores(images), image_mean_scores(images, skip_undefined=True)]
        assert [score.row()["aggregation"] for score in scores] == [
            "micro",
            "image-mean",
            "image-mean, undefined skipped",
        ]

    @pytest.mark.parametrize("score", [micro_scores, image_mean_scores])
    def test_no_images_are_refused(self, score):
        with pytest.raises(InputError, match="no images"):
            score([])

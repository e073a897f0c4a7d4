"""Noise by content: the rate that was asked for, the published distributions, refusals."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from robustvision.core.data import instance_noise
from robustvision.core.data.content_noise import _flip_rates
from robustvision.core.errors import InputError

N, K = 100_000, 5
FEATURES = np.random.default_rng(7).standard_normal((N, 8))
LABELS = np.arange(N) % K


@pytest.mark.parametrize("rate", [0.001, 0.05, 0.1, 0.3, 0.5, 0.9])
def test_the_mean_flip_rate_is_the_one_asked_for(rate):
    noisy = instance_noise(FEATURES, LABELS, rate, K, seed=0)
    assert np.array_equal(noisy.clean_labels, LABELS)
    assert np.array_equal(noisy.is_noisy, noisy.labels != LABELS)
    assert noisy.is_noisy.mean() == pytest.approx(rate, abs=5 * np.sqrt(rate * (1 - rate) / N))
    for label in range(K):  # and in every class
        share = noisy.is_noisy[label == LABELS].mean()
        assert share == pytest.approx(rate, abs=5 * np.sqrt(rate * (1 - rate) * K / N))


def test_no_rate_no_noise():
    assert not instance_noise(FEATURES, LABELS, 0.0, K, seed=0).is_noisy.any()


def test_flip_rates_are_the_published_truncated_normal():
    draws = np.random.default_rng(1).random(20_000)
    for rate, low, high in ((0.3, 0.0, 1.0), (0.1, 0.0, 0.2)):  # cut symmetrically where 0 is near
        expected = stats.truncnorm((low - rate) / 0.1, (high - rate) / 0.1, loc=rate, scale=0.1)
        rates = _flip_rates(draws, rate)
        # at 0.3 our cut at 0.6 and the published one at 1 differ by 0.001 in the distribution, unseen at this size
        assert stats.kstest(rates, expected.cdf).statistic < 1.95 / np.sqrt(len(draws))
        assert rates.min() >= low


def test_targets_follow_the_softmax_of_a_projection():
    # one point many times: its flips must spread as one softmax says, whose scores are linear in the point
    def shares(point: np.ndarray) -> np.ndarray:
        noisy = instance_noise(np.tile(point, (N, 1)), np.zeros(N, int), 0.5, K, seed=3)
        return np.bincount(noisy.labels[noisy.is_noisy], minlength=K) / noisy.is_noisy.sum()

    point = np.array([0.4, -0.2, 0.1])
    assert shares(point)[0] == 0
    np.testing.assert_allclose(shares(0 * point)[1:], 0.25, atol=0.01)
    once, twice = np.log(shares(point)[1:]), np.log(shares(2 * point)[1:])
    np.testing.assert_allclose(twice - twice.mean(), 2 * (once - once.mean()), atol=0.08)
    assert np.ptp(once) > 0.3


def test_samples_alike_go_to_classes_alike():
    clusters = np.repeat(np.eye(8) * 4, 500, axis=0)
    noisy = instance_noise(clusters, np.zeros(4000, int), 0.5, K, seed=0)
    tops = [
        np.bincount(part[part != 0], minlength=K).max() / (part != 0).sum() for part in noisy.labels.reshape(8, 500)
    ]
    assert np.mean(tops) > 0.6  # uniform targets would give 0.25, and a favourite of the class alone only one favourite
    favourites = {int(np.bincount(part[part != 0]).argmax()) for part in noisy.labels.reshape(8, 500)}
    assert len(favourites) > 1


def test_the_seed_decides_and_images_are_flattened():
    images = FEATURES[:400].reshape(400, 2, 4)
    first = instance_noise(images, LABELS[:400], 0.4, K, seed=1).labels
    assert np.array_equal(first, instance_noise(FEATURES[:400], LABELS[:400], 0.4, K, seed=1).labels)
    assert not np.array_equal(first, instance_noise(images, LABELS[:400], 0.4, K, seed=2).labels)


def test_two_classes_swap_and_pixels_do_not_overflow():
    pixels = np.full((100, 784), 255, np.uint8)
    noisy = instance_noise(pixels, np.arange(100) % 2, 0.5, 2, seed=0)
    assert noisy.is_noisy.any()
    assert np.array_equal(noisy.labels[noisy.is_noisy], 1 - noisy.clean_labels[noisy.is_noisy])


def test_no_samples_is_not_an_error():
    assert instance_noise(np.empty((0, 3)), [], 0.4, K, seed=0).labels.shape == (0,)


@pytest.mark.parametrize(
    ("features", "labels", "rate", "num_classes", "message"),
    [
        (np.ones((3, 2)), [0, 1], 0.1, 2, r"are \[3, 2\] for 2 labels; expected \[2, d\]"),
        (np.ones(2), [0, 1], 0.1, 2, r"are \[2\]"),
        ([[1.0], [np.nan]], [0, 1], 0.1, 2, "NaN"),
        (np.ones((2, 2)), [0, 0], 0.1, 1, "one class"),
        (np.ones((2, 2)), [0, 2], 0.1, 2, "to 2"),
        (np.ones((2, 2)), [0, 1], 1.0, 2, "not a share"),
    ],
)
def test_bad_input_is_refused(features, labels, rate, num_classes, message):
    with pytest.raises(InputError, match=message):
        instance_noise(features, labels, rate, num_classes, seed=0)

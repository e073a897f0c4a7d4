"""Label noise that depends on the sample itself: alike samples are mistaken alike, as human annotators mistake them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr, ndtri

from robustvision.core.data.label_noise import NoisyLabels, checked_labels, checked_rate
from robustvision.core.errors import InputError

SPREAD = 0.1
"""The published standard deviation of the samples' flip rates."""


def instance_noise(
    features: npt.ArrayLike, labels: npt.ArrayLike, rate: float, num_classes: int, seed: int
) -> NoisyLabels:
    """Flip labels by the content of the samples (instance-dependent noise).

    Sample i has a flip rate ``q_i`` of its own, from a normal distribution around ``rate`` with deviation 0.1,
    truncated to [0, 1]. Where it flips, it goes to class j != y with probability ``softmax_j(x_i @ W_y)``, where each
    class's ``W_y`` [d, K] is drawn once from the standard normal distribution. So samples alike go to classes alike.

    One change to the published generator: the truncation is symmetric about ``rate``, at a distance of
    ``min(rate, 1 - rate)``, so that the mean flip rate is the one asked for; cut at 0 alone, 0.1 would become 0.129.
    From 0.3 to 0.7 this changes next to nothing.

    Args:
        features: [N, d] numbers, or any [N, ...], such as images. Their scale decides how sharp the softmax is; the
            publication takes pixels as the network sees them.
        labels: [N] integers, 0 <= label < num_classes.
        rate: Mean probability of a flip, in [0, 1).
        num_classes: Number of classes K, at least 2.
        seed: Seed; the same seed gives the same noise.

    Returns:
        The noisy labels with the truth.

    Raises:
        InputError: For features that do not fit the labels or are not finite, labels or rates out of range, one class.

    References:
        Xia et al., Part-dependent Label Noise: Towards Instance-dependent Label Noise (NeurIPS 2020), its
        generator of instance-dependent noise.

    Examples:
        >>> x = np.random.default_rng(0).standard_normal((10_000, 5))
        >>> noisy = instance_noise(x, [0, 1, 2, 3, 4] * 2000, rate=0.2, num_classes=5, seed=0)
        >>> round(float(noisy.is_noisy.mean()), 2)
        0.2
    """
    clean = checked_labels(labels, num_classes)
    samples = _checked_features(features, len(clean))
    if num_classes < 2:
        raise InputError("labels cannot be flipped among one class: give at least two")
    rng = np.random.default_rng([seed, 0x1ABE5])
    rates = _flip_rates(rng.random(len(clean)), checked_rate(rate))
    is_flipped = rng.random(len(clean)) < rates
    given = clean.copy()
    for label in np.unique(clean):
        members = np.flatnonzero(is_flipped & (clean == label))
        own = np.random.default_rng([seed, 0x1ABE5, int(label)])  # no class depends on the others' sizes
        scores = samples[members] @ own.standard_normal((samples.shape[1], num_classes))
        scores[:, label] = -np.inf
        given[members] = (scores + own.gumbel(size=scores.shape)).argmax(axis=1)  # a draw from the softmax
    return NoisyLabels.of(given, clean, num_classes)


def _flip_rates(draws: npt.NDArray[np.float64], rate: float) -> npt.NDArray[np.float64]:
    half_width = min(rate, 1 - rate)
    low, high = ndtr(-half_width / SPREAD), ndtr(half_width / SPREAD)
    rates = rate + SPREAD * ndtri(low + (high - low) * draws)
    return np.clip(rates, rate - half_width, rate + half_width)


def _checked_features(features: npt.ArrayLike, length: int) -> npt.NDArray[np.float64]:
    values = np.asarray(features)
    if values.ndim < 2 or len(values) != length:
        raise InputError(f"features are {list(values.shape)} for {length} labels; expected [{length}, d]")
    values = values.reshape(length, int(np.prod(values.shape[1:]))).astype(np.float64)
    if not np.isfinite(values).all():
        raise InputError("features hold NaN or infinity: leave out such samples, or fill the gaps")
    return values

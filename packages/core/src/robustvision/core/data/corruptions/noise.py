"""Noise of the sensor: each pixel and channel on its own, so its strength does not depend on the image's size."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np

from robustvision.core.data.corruptions.fields import Shape
from robustvision.core.data.corruptions.kernels import Filter, Image
from robustvision.core.runtime.opencv import cv2

_QUANTILES = 4096


def gaussian_noise(shape: Shape, severity: int, rng: np.random.Generator) -> Filter:
    """Weak light: adds normal noise, its deviation a share of the full range."""
    deviation = 255 * (0.08, 0.12, 0.18, 0.26, 0.38)[severity - 1]
    noise = deviation * rng.standard_normal(shape, dtype=np.float32)
    return lambda image: cv2.add(image, noise, dtype=cv2.CV_8U)


def shot_noise(shape: Shape, severity: int, rng: np.random.Generator) -> Filter:
    """Few photons: a Poisson count whose mean is the brightness, in the given number of photons at white.

    The count follows from a quantile drawn once a pixel, to 12 bits. So in a video the noise stands still where the
    scene does, which a generator of Poisson numbers would not give.
    """
    table = _photon_table((60, 25, 12, 5, 3)[severity - 1])
    quantiles = rng.integers(0, _QUANTILES, shape, dtype=np.int32)
    return lambda image: table.take(image.astype(np.int32) * _QUANTILES + quantiles)


def impulse_noise(shape: Shape, severity: int, rng: np.random.Generator) -> Filter:
    """Broken bits: a share of the values becomes white or black, half each."""
    share = (0.03, 0.06, 0.09, 0.17, 0.27)[severity - 1]
    draws = rng.random(shape, dtype=np.float32)
    kept = np.where(draws < share, 0, 255).astype(np.uint8)
    white = np.where(draws < share / 2, 255, 0).astype(np.uint8)
    return lambda image: (image & kept) | white


def speckle_noise(shape: Shape, severity: int, rng: np.random.Generator) -> Filter:
    """Noise that grows with the brightness: each value times a normal number around 1."""
    deviation = (0.15, 0.2, 0.35, 0.45, 0.6)[severity - 1]
    factors = 1 + deviation * rng.standard_normal(shape, dtype=np.float32)
    return lambda image: cv2.multiply(image, factors, dtype=cv2.CV_8U)


@lru_cache(maxsize=5)
def _photon_table(photons: int) -> Image:
    """[256 * 4096]: the level that a brightness takes at a quantile of its Poisson distribution."""
    counts = np.arange(photons + 1)  # above, the level is white anyway
    log_factorials = np.array([math.lgamma(count + 1) for count in counts])
    means = np.maximum(np.arange(256) * photons / 255, 1e-12)[:, None]
    cumulative = np.exp(counts * np.log(means) - means - log_factorials).cumsum(axis=1)
    quantiles = (np.arange(_QUANTILES) + 0.5) / _QUANTILES
    drawn = np.stack([np.searchsorted(row, quantiles, side="right") for row in cumulative])
    return np.rint(np.minimum(drawn / photons, 1) * 255).astype(np.uint8).ravel()

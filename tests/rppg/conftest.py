"""Films that the tests of rppg share."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pytest

SKIN = np.array([200.0, 150.0, 120.0])
PULSATILITY = np.array([0.33, 0.77, 0.53])
Film = Iterator[tuple[np.ndarray, float]]


@pytest.fixture(scope="session")
def flat_film() -> Callable[..., Film]:
    """A film of bare skin: every frame has one colour, which pulses; the mean is exact, since a fixed pattern of
    fractions takes the place of rounding."""
    pattern = np.random.default_rng(0).permutation(48 * 48).reshape(48, 48, 1) / 48**2

    def film(times_s: np.ndarray, bpm: float, *, depth: float = 0.01, gain: float = 1.0) -> Film:
        for time_s in times_s:
            pulse = np.cos(2 * np.pi * bpm / 60 * time_s)
            colour = gain * SKIN * (1 - depth * PULSATILITY * pulse)
            yield np.floor(np.clip(colour + pattern, 0, 255)).astype(np.uint8), float(time_s)

    return film

"""Skin by Fitzpatrick type: its colour, and how much of the light that it returns the pulse takes away."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

PULSATILITY_RGB = (0.33, 0.77, 0.53)
"""Relative strength of the pulse in the three channels, the signature of PBV (de Haan and van Leest 2014)."""

SKIN_TYPES = (1, 2, 3, 4, 5, 6)

_COLOUR = {  # sRGB 0..255: design values, no measurement
    1: (232, 196, 178),
    2: (222, 180, 155),
    3: (203, 158, 128),
    4: (169, 121, 92),
    5: (124, 82, 60),
    6: (84, 54, 42),
}
_AMPLITUDE = {1: 0.0075, 2: 0.0075, 3: 0.0065, 4: 0.0050, 5: 0.0032, 6: 0.0018}


def skin_amplitude(skin_type: int) -> float:
    """Green AC half-amplitude of a cheek, relative to its linear light.

    Args:
        skin_type: Fitzpatrick type, 1 to 6.

    Returns:
        The amplitude A. The values are design choices: real ones vary more between people than between types.
    """
    return _AMPLITUDE[skin_type]


def skin_colour(skin_type: int, rng: np.random.Generator) -> npt.NDArray[np.float32]:
    """Draw the albedo of one person.

    Args:
        skin_type: Fitzpatrick type, 1 to 6.
        rng: Source of randomness.

    Returns:
        float32 [3], linear RGB in 0..1.
    """
    srgb = np.array(_COLOUR[skin_type]) * (1 + 0.03 * rng.standard_normal()) + rng.normal(0, 3, 3)
    return to_linear(srgb / 255)


def to_linear(srgb: npt.ArrayLike) -> npt.NDArray[np.float32]:
    """Undo the sRGB curve (IEC 61966-2-1); values in 0..1."""
    value = np.clip(np.asarray(srgb, np.float64), 0, 1)
    linear = np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)
    return np.asarray(linear, np.float32)

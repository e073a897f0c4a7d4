"""Who is drawn: an identity is a point of a normal space, one coordinate a trait, plus a skin grain of its own."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from robustvision.core.errors import InputError

Colour = npt.NDArray[np.float64]


def _trait(mean: float, spread: float) -> Any:
    return field(metadata={"mean": mean, "spread": spread})


@dataclass(frozen=True)
class Traits:
    """What an identity looks like.

    Lengths on the head are in units of half its height (about 112 mm). Places on its surface (``_s`` across, ``_t``
    down) are coordinates of the surface chart, see ``surface.py``: the face is about 0.6 wide and 0.8 high in it.
    Shares and strengths have no unit; those that lie below 0 mean that the thing is absent.
    """

    head_width: float = _trait(0.72, 0.04)
    head_depth: float = _trait(0.85, 0.04)
    jaw_width: float = _trait(0.03, 0.05)
    chin_length: float = _trait(0.0, 0.05)
    chin_width: float = _trait(0.20, 0.04)
    cheekbone: float = _trait(0.04, 0.025)
    cheek_hollow: float = _trait(0.02, 0.03)
    brow_ridge: float = _trait(0.03, 0.02)
    eye_spacing_s: float = _trait(0.215, 0.016)
    eye_height_t: float = _trait(-0.01, 0.022)
    eye_width_s: float = _trait(0.088, 0.010)
    eye_opening: float = _trait(0.40, 0.075)
    eye_tilt: float = _trait(-0.05, 0.11)
    eye_depth: float = _trait(0.045, 0.018)
    iris_size: float = _trait(0.040, 0.0035)
    iris_lightness: float = _trait(0.0, 1.0)
    iris_hue: float = _trait(0.0, 1.0)
    lid_crease: float = _trait(0.3, 0.35)
    eye_shadow: float = _trait(0.2, 0.3)
    brow_gap_t: float = _trait(0.100, 0.016)
    brow_length_s: float = _trait(0.130, 0.016)
    brow_thickness_t: float = _trait(0.020, 0.007)
    brow_tilt: float = _trait(-0.02, 0.10)
    brow_arch: float = _trait(0.018, 0.014)
    brow_darkness: float = _trait(0.62, 0.20)
    nose_tip_t: float = _trait(0.133, 0.018)
    nose_length: float = _trait(0.17, 0.045)
    nose_bridge: float = _trait(0.075, 0.03)
    nose_width_s: float = _trait(0.058, 0.011)
    nostril_width_s: float = _trait(0.055, 0.009)
    nose_bump: float = _trait(0.0, 0.018)
    mouth_t: float = _trait(0.356, 0.018)
    mouth_width_s: float = _trait(0.188, 0.018)
    upper_lip_t: float = _trait(0.024, 0.008)
    lower_lip_t: float = _trait(0.034, 0.009)
    mouth_curve: float = _trait(0.0, 0.016)
    lip_redness: float = _trait(0.45, 0.22)
    skin_tone: float = _trait(-0.2, 0.7)
    skin_redness: float = _trait(0.0, 1.0)
    skin_yellowness: float = _trait(0.0, 1.0)
    cheek_blush: float = _trait(0.3, 0.35)
    freckles: float = _trait(-0.2, 0.7)
    beard: float = _trait(-0.5, 0.8)
    moustache: float = _trait(-0.6, 0.8)
    wrinkles: float = _trait(0.0, 0.6)
    hair_lightness: float = _trait(0.0, 0.8)
    hair_redness: float = _trait(0.0, 1.0)
    hair_grey: float = _trait(-0.9, 0.9)
    hairline_t: float = _trait(-0.36, 0.06)
    hairline_peak: float = _trait(0.0, 0.06)
    hairline_slant: float = _trait(0.0, 0.10)
    hair_side_s: float = _trait(0.60, 0.06)
    hair_volume: float = _trait(0.12, 0.05)
    hair_length: float = _trait(0.0, 1.0)
    mole_1: float = _trait(-0.4, 0.7)
    mole_1_s: float = _trait(0.22, 0.10)
    mole_1_t: float = _trait(0.25, 0.12)
    mole_2: float = _trait(-0.5, 0.7)
    mole_2_s: float = _trait(-0.25, 0.10)
    mole_2_t: float = _trait(0.18, 0.14)
    mole_3: float = _trait(-0.6, 0.7)
    mole_3_s: float = _trait(0.0, 0.18)
    mole_3_t: float = _trait(-0.20, 0.06)

    @classmethod
    def from_vector(cls, vector: npt.NDArray[np.float64]) -> Traits:
        """Map a normal vector to traits; values beyond 2.2 deviations are clipped, so that every face can be drawn."""
        known = fields(cls)
        if vector.shape != (len(known),) or not np.isfinite(vector).all():
            raise InputError(f"an identity has {len(known)} finite coordinates, got {vector.shape}")
        z = np.clip(vector, -2.2, 2.2).tolist()
        return cls(*(f.metadata["mean"] + f.metadata["spread"] * value for f, value in zip(known, z, strict=True)))


IDENTITY_DIMENSIONS = len(fields(Traits))


@dataclass(frozen=True, eq=False)
class Identity:
    """One person.

    Attributes:
        vector: [IDENTITY_DIMENSIONS] float64, standard normal: the point of the identity space.
        grain_seed: Seed of the skin's and the hair's fine grain.
    """

    vector: npt.NDArray[np.float64]
    grain_seed: int

    @classmethod
    def sample(cls, rng: np.random.Generator) -> Identity:
        """Draw a person."""
        return cls(rng.standard_normal(IDENTITY_DIMENSIONS), int(rng.integers(2**31)))

    @cached_property
    def traits(self) -> Traits:
        """The traits at this point."""
        return Traits.from_vector(self.vector)

    @cached_property
    def skin(self) -> Colour:
        """Skin colour, RGB in 0..255."""
        traits = self.traits
        light, middle, dark = (np.array(c, float) for c in ((238, 203, 182), (205, 156, 124), (104, 70, 52)))
        u = 0.5 + 0.5 * np.tanh(0.8 * traits.skin_tone)
        colour = light + (middle - light) * 2 * u if u < 0.5 else middle + (dark - middle) * (2 * u - 1)
        return colour + traits.skin_redness * np.array([5.0, -4, -3]) + traits.skin_yellowness * np.array([2.0, 2, -7])

    @cached_property
    def hair(self) -> Colour:
        """Hair colour, RGB in 0..255."""
        traits = self.traits
        dark, middle, light = (np.array(c, float) for c in ((24, 19, 17), (82, 54, 36), (205, 170, 110)))
        u = 0.5 + 0.5 * np.tanh(0.8 * (traits.hair_lightness - 0.5))
        colour = dark + (middle - dark) * 2 * u if u < 0.5 else middle + (light - middle) * (2 * u - 1)
        colour = colour + max(traits.hair_redness, 0.0) * np.array([24.0, 2, -8])
        grey = np.clip(traits.hair_grey, 0, 1)
        return np.clip(colour * (1 - grey) + np.array([165.0, 163, 162]) * grey, 10, 250)

    @cached_property
    def iris(self) -> Colour:
        """Colour of the irises, RGB in 0..255."""
        brown, other = np.array([82.0, 52, 32]), np.array([92.0, 128, 150])
        green = np.array([96.0, 122, 84])
        cold = other + (green - other) * (0.5 + 0.5 * np.tanh(self.traits.iris_hue))
        u = 0.5 + 0.5 * np.tanh(1.4 * (self.traits.iris_lightness - 0.4))
        return brown + (cold - brown) * u

"""What differs between two pictures of one person: pose, expression, light, things worn, scene and camera."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Nuisance:
    """The circumstances of one picture, independent of who is in it.

    Attributes:
        yaw_rad, pitch_rad: Turn of the head in radians: to image right, and down.
        jitter: Misalignment of the aligned crop: shift x and y in px of a 112 crop, log-scale, rotation in radians.
        mouth_open, smile, brow_raise, eyes_closed, gaze_s, gaze_t: Expression: 0 to 1, or -1 to 1 for smile and gaze.
        light: Direction to the light (x right, y down, z to the camera), unit length.
        ambient: Share of the light that comes from everywhere, 0 to 1.
        gain, gamma, cast: Exposure factor, exponent, and factors for R, G and B.
        worn: What hides parts of the face: any of "glasses", "sunglasses", "mask", "cap", "fringe".
        occluder: Whether something passes before the camera.
        glare: Strength of a light spot on the lens, 0 for none.
        quality: 0 (worst) to 1 (best); resolution, blur, noise and compression follow from it.
        resolution: Factor on the number of pixels a side before the picture is enlarged again, up to 1.
        blur_px, motion_px, motion_rad: Gaussian sigma; length and direction of the motion blur; px of a 112 crop.
        noise: Standard deviation of the sensor noise in grey levels.
        jpeg: JPEG quality, 1 to 100.
        look_seed: Seed of the rest: colours of things worn, background, occluder.
    """

    yaw_rad: float
    pitch_rad: float
    jitter: tuple[float, float, float, float]
    mouth_open: float
    smile: float
    brow_raise: float
    eyes_closed: float
    gaze_s: float
    gaze_t: float
    light: tuple[float, float, float]
    ambient: float
    gain: float
    gamma: float
    cast: tuple[float, float, float]
    worn: frozenset[str]
    occluder: bool
    glare: float
    quality: float
    resolution: float
    blur_px: float
    motion_px: float
    motion_rad: float
    noise: float
    jpeg: int
    look_seed: int

    @classmethod
    def sample(cls, rng: np.random.Generator, strength: float = 1.0, unidentifiable: bool = False) -> Nuisance:
        """Draw circumstances.

        Args:
            rng: Source of randomness.
            strength: Factor on the strength or the probability of everything; 0 gives a plain frontal portrait.
            unidentifiable: Whether nothing but a blur shall be left of the person.

        Returns:
            The circumstances.
        """
        uniform = rng.uniform

        def normal(deviation: float, limit: float = np.inf) -> float:
            return float(np.clip(strength * deviation * rng.standard_normal(), -limit, limit))

        def happens(chance: float) -> bool:
            return bool(uniform() < chance * strength)

        bad = 1.0 if unidentifiable else min(strength, 1.0) * float(uniform() ** 1.5)
        azimuth, elevation = normal(0.60, 1.3), normal(0.35, 0.8) - 0.25
        chances = {"glasses": 0.10, "sunglasses": 0.03, "mask": 0.04, "cap": 0.08, "fringe": 0.08}
        return cls(
            yaw_rad=normal(0.21, 0.75),
            pitch_rad=normal(0.10, 0.40),
            jitter=(normal(0.8), normal(0.8), normal(0.016), normal(0.02)),
            mouth_open=max(0.0, normal(0.5) - 0.15),
            smile=normal(0.35, 1),
            brow_raise=normal(0.35, 1),
            eyes_closed=min(max(normal(0.2), 0.0), 0.95),
            gaze_s=normal(0.3, 1),
            gaze_t=normal(0.2, 1),
            light=(
                math.sin(azimuth) * math.cos(elevation),
                math.sin(elevation),
                math.cos(azimuth) * math.cos(elevation),
            ),
            ambient=float(uniform(0.3, 0.75)) if strength else 0.5,
            gain=math.exp(normal(0.22)),
            gamma=math.exp(normal(0.17)),
            cast=(math.exp(normal(0.09)), math.exp(normal(0.09)), math.exp(normal(0.09))),
            worn=frozenset(name for name, chance in chances.items() if happens(chance)),
            occluder=happens(0.08),
            glare=float(uniform(0.3, 0.9)) if happens(0.07) else 0.0,
            quality=1 - bad,
            resolution=0.08 if unidentifiable else 1 - 0.6 * bad**2,
            blur_px=float(uniform(9, 14)) if unidentifiable else 1.2 * bad * float(uniform(0.3, 1)),
            motion_px=5 * bad * float(uniform()) if happens(0.3) else 0.0,
            motion_rad=float(uniform(0, np.pi)),
            noise=1 + 12 * bad * float(uniform()),
            jpeg=round(95 - 70 * bad * float(uniform(0.3, 1))),
            look_seed=int(rng.integers(2**31)),
        )

"""What differs between two pictures of one person: pose, expression, light, things worn, scene and camera."""

from __future__ import annotations

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
        normal, uniform = rng.standard_normal, rng.uniform
        quality = float(1 - min(strength, 1.0) * uniform(0, 1))
        bad = 1 - quality
        azimuth, elevation = strength * normal() * 0.75, strength * normal() * 0.45 - 0.25
        azimuth, elevation = float(np.clip(azimuth, -1.3, 1.3)), float(np.clip(elevation, -1.1, 0.9))
        chances = (("glasses", 0.14), ("sunglasses", 0.05), ("mask", 0.06), ("cap", 0.12), ("fringe", 0.12))
        worn = frozenset(name for name, chance in chances if uniform() < chance * strength)
        shift = strength * 1.2 * normal(2)
        return cls(
            yaw_rad=float(np.clip(strength * 0.32 * normal(), -0.75, 0.75)),
            pitch_rad=float(np.clip(strength * 0.16 * normal(), -0.40, 0.40)),
            jitter=(float(shift[0]), float(shift[1]), float(strength * 0.025 * normal()), strength * 0.03 * normal()),
            mouth_open=float(max(0.0, strength * (0.8 * normal() - 0.3))),
            smile=float(np.clip(strength * 0.5 * normal(), -1, 1)),
            brow_raise=float(np.clip(strength * 0.5 * normal(), -1, 1)),
            eyes_closed=float(np.clip(strength * (0.30 * normal() + 0.05), 0, 0.95)),
            gaze_s=float(np.clip(strength * 0.4 * normal(), -1, 1)),
            gaze_t=float(np.clip(strength * 0.3 * normal(), -1, 1)),
            light=(
                float(np.sin(azimuth) * np.cos(elevation)),
                float(np.sin(elevation)),
                float(np.cos(azimuth) * np.cos(elevation)),
            ),
            ambient=float(uniform(0.25, 0.75)) if strength else 0.5,
            gain=float(np.exp(strength * 0.28 * normal())),
            gamma=float(np.exp(strength * 0.22 * normal())),
            cast=tuple(np.exp(strength * 0.11 * normal(3)).tolist()),
            worn=worn,
            occluder=bool(uniform() < 0.12 * strength),
            glare=float(uniform(0.3, 0.9)) if uniform() < 0.10 * strength else 0.0,
            quality=0.0 if unidentifiable else quality,
            resolution=0.08 if unidentifiable else float(1 - 0.68 * bad**2),
            blur_px=float(uniform(9, 14)) if unidentifiable else float(1.3 * bad * uniform(0.3, 1)),
            motion_px=float(5 * bad * uniform()) if uniform() < 0.3 else 0.0,
            motion_rad=float(uniform(0, np.pi)),
            noise=float(1 + 13 * bad * uniform()),
            jpeg=int(round(95 - 70 * bad * uniform(0.3, 1))),
            look_seed=int(rng.integers(2**31)),
        )

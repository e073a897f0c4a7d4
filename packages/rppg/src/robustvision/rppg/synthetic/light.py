"""The light of a film: lamps that stand still while the head moves, and how their brightness changes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from robustvision.rppg.synthetic.motion import rough_noise
from robustvision.rppg.synthetic.scenarios import Scenario

Array = npt.NDArray[np.float32]
Floats = npt.NDArray[np.float64]

_WARM = np.array([1.30, 0.95, 0.48])  # what an incandescent bulb is to a camera set to daylight


@dataclass(frozen=True, eq=False)
class Light:
    """The lamps and their course over T frames.

    Attributes:
        directions: float32 [2, 3], unit vectors to the key and the fill lamp (x right, y down, z to the camera).
        colours: float32 [3, 3], RGB of key, fill and surrounding light.
        slope: float32 [2], how much brighter it is to the right and below, relative, a half frame away.
        course: float32 [T, 3], factor on all light in each frame.
    """

    directions: Array
    colours: Array
    slope: Array
    course: Array

    @classmethod
    def sample(cls, rng: np.random.Generator, scenario: Scenario, time_s: Floats, steps: Floats) -> Light:
        """Draw the light of a film; ``steps`` is the phase of the gait, see ``motion``."""
        side = rng.choice((-1.0, 1.0))
        key = np.array([side * rng.uniform(0.2, 0.8), -rng.uniform(0.2, 0.7), 1.0])
        fill = np.array([-side * rng.uniform(0.5, 1.0), -rng.uniform(-0.2, 0.4), 0.7])
        directions = np.stack([key, fill]) / np.linalg.norm([key, fill], axis=1, keepdims=True)
        colours = rng.normal(1, 0.06, (3, 3)) * np.array([[rng.uniform(0.5, 0.8)], [rng.uniform(0.1, 0.3)], [0.35]])
        warmth = rng.uniform(*scenario.incandescence)
        colours *= 1 + warmth * (_WARM - 1)
        course = np.ones((len(time_s), 3)) if scenario.is_frozen else _course(rng, scenario, time_s, steps)
        return cls(
            directions.astype(np.float32),
            colours.astype(np.float32),
            rng.uniform(-0.35, 0.35, 2).astype(np.float32),
            course.astype(np.float32),
        )


def _course(rng: np.random.Generator, scenario: Scenario, time_s: Floats, steps: Floats) -> Floats:
    shape = (4, len(time_s))
    noise = rough_noise(rng, shape, time_s)
    drift = rough_noise(rng, shape, time_s, high_hz=0.4)
    common = rng.uniform(*scenario.exposure_noise) * noise[0] + rng.uniform(*scenario.drift) * drift[0]
    common += rng.uniform(*scenario.gait_light) * np.sin(steps + rng.uniform(0, 2 * np.pi))
    beat = 2 * np.pi * rng.uniform(*scenario.flicker_hz) * time_s + rng.uniform(0, 2 * np.pi)
    common += rng.uniform(*scenario.flicker) * np.sin(beat)
    jump = rng.choice((-1, 1)) * rng.uniform(*scenario.exposure_step)
    common += jump * (time_s > rng.uniform(0.2, 0.8) * time_s[-1])
    own = rng.uniform(*scenario.chroma_noise) * noise[1:] + rng.uniform(*scenario.chroma_drift) * drift[1:]
    return np.maximum(1 + common[:, None] + own.T, 0.05)

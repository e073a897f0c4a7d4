"""How the head moves: pose, jaw and eyelids over the frames of a film."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from robustvision.rppg.synthetic.scenarios import Scenario

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Motion:
    """The head over T frames.

    Attributes:
        shift: float64 [T, 2], to the right and down, in half head heights.
        angles_rad: float64 [T, 3], yaw (nose to the right of the picture), pitch (nose down), roll (clockwise).
        jaw: float64 [T], how far it is open, on the chart of the head.
        lids: float64 [T], how far the eyes are closed, 0 to 1.
    """

    shift: Floats
    angles_rad: Floats
    jaw: Floats
    lids: Floats

    @classmethod
    def sample(cls, rng: np.random.Generator, scenario: Scenario, time_s: Floats, steps: Floats) -> Motion:
        """Draw the motion of a film; ``steps`` is the phase of `gait_phase`."""
        sway, sway_rad = rng.uniform(*scenario.sway), rng.uniform(*scenario.sway_rad)
        shift = sway * rough_noise(rng, (2, len(time_s)), time_s).T
        angles = sway_rad * np.array([1.0, 0.7, 0.5]) * rough_noise(rng, (3, len(time_s)), time_s).T
        angles += rng.normal(0, (0.08, 0.06, 0.04))
        turns = _turns(rng, time_s, rng.uniform(*scenario.yaw_hz))
        angles[:, 0] += rng.uniform(*scenario.yaw_rad) * turns
        _walk(rng, scenario, steps, shift, angles)
        jaw, lids = _speech(rng, scenario, time_s), _blinks(rng, scenario, time_s)
        if scenario.is_frozen:
            return cls(0 * shift, np.tile(angles[0], (len(time_s), 1)), 0 * jaw, 0 * lids)
        return cls(shift, angles, jaw, lids)


def rough_noise(
    rng: np.random.Generator, shape: tuple[int, ...], time_s: Floats, *, low_hz: float = 0.05, high_hz: float = 6.0
) -> Floats:
    """Noise whose power falls with 1 / f, as that of bodies and lamps does: part of it lies in the heart's band.

    Args:
        rng: Source of randomness.
        shape: [..., T].
        time_s: [T], evenly spaced.
        low_hz: Below this frequency the power rises no more.
        high_hz: Above it there is none.

    Returns:
        float64 [..., T] with mean 0 and rms 1.
    """
    step_s = (time_s[-1] - time_s[0]) / max(len(time_s) - 1, 1)
    padded = 2 * len(time_s)  # the half that is cut away keeps the ends from joining
    frequency = np.fft.rfftfreq(padded, step_s or 1.0)
    weight = np.where(frequency < high_hz, 1 / np.sqrt(np.maximum(frequency, low_hz)), 0)
    spectrum = np.fft.rfft(rng.standard_normal((*shape[:-1], padded)), axis=-1) * weight
    noise = np.fft.irfft(spectrum, padded, axis=-1)[..., : len(time_s)]
    noise -= noise.mean(axis=-1, keepdims=True)
    return np.asarray(noise / np.maximum(noise.std(axis=-1, keepdims=True), 1e-12), np.float64)


def _turns(rng: np.random.Generator, time_s: Floats, frequency_hz: float) -> Floats:
    """From side to side in -1..1, resting at the ends: nobody turns like a pendulum."""
    wander = 1.5 * rough_noise(rng, time_s.shape, time_s, high_hz=0.3)
    swing = np.sin(2 * np.pi * frequency_hz * time_s + rng.uniform(0, 2 * np.pi) + 0.3 * wander)
    return np.asarray(np.tanh(2.5 * swing) / np.tanh(2.5), np.float64)


def _walk(rng: np.random.Generator, scenario: Scenario, steps: Floats, shift: Floats, angles: Floats) -> None:
    """Add the steps: up and down with each, sideways with every second one."""
    gait, nod = rng.uniform(*scenario.gait), rng.uniform(*scenario.gait_rad)
    lag = rng.uniform(0, 2 * np.pi, 4)
    shift[:, 1] += gait * np.sin(steps + lag[0])
    shift[:, 0] += gait * (0.8 * np.sin(steps / 2 + lag[1]) + 0.3 * np.sin(steps + lag[1]))
    angles[:, 1] += nod * np.sin(steps + lag[2])
    angles[:, 0] += nod * np.sin(steps / 2 + lag[3])


def gait_phase(rng: np.random.Generator, scenario: Scenario, time_s: Floats) -> Floats:
    """Phase of the steps, one turn a step; nobody walks like a clock."""
    rate_hz = rng.uniform(*scenario.gait_hz) * (1 + 0.03 * rough_noise(rng, time_s.shape, time_s, high_hz=0.5))
    return 2 * np.pi * np.cumsum(rate_hz) * (time_s[-1] - time_s[0]) / max(len(time_s) - 1, 1)


def _speech(rng: np.random.Generator, scenario: Scenario, time_s: Floats) -> Floats:
    opening, rate_hz = rng.uniform(*scenario.mouth), rng.uniform(*scenario.mouth_hz)
    wander = np.cumsum(rough_noise(rng, time_s.shape, time_s)) * 0.15
    syllables = 0.5 + 0.5 * np.sin(2 * np.pi * rate_hz * time_s + wander)
    phrases = np.clip(1.5 * rough_noise(rng, time_s.shape, time_s, high_hz=0.5) + 0.7, 0, 1)
    return opening * syllables * phrases


def _blinks(rng: np.random.Generator, scenario: Scenario, time_s: Floats) -> Floats:
    length_s = time_s[-1] - time_s[0]
    when_s = rng.uniform(0, length_s, rng.poisson(rng.uniform(*scenario.blink_hz) * length_s))
    return np.exp(-(((time_s[:, None] - when_s) / 0.08) ** 2)).max(axis=1, initial=0.0)

"""The heart: when it beats, and the wave that a beat sends through the skin. The ground truth of all films."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

BREATHING_HZ = 0.25
MAYER_HZ = 0.1

_GRID = 1000
_WAVES = ((0.22, 0.09), (0.47, 0.11), (0.75, 0.12))  # centre and width of the three bumps of a beat, in beats
_LEAD_S = 3.0  # beats before the film begins, so that its first frame lies within one


@dataclass(frozen=True, eq=False)
class Pulse:
    """One heart over one film.

    Attributes:
        beats_s: float64 [N], times at which beats begin; the first ones lie before 0 and the last ones after the film.
        heights: Heights of the three bumps of a beat: upstroke, reflected wave, and what follows.
    """

    beats_s: Floats
    heights: tuple[float, float, float] = (1.0, 0.55, 0.15)

    @classmethod
    def sample(
        cls, rng: np.random.Generator, heart_rate_bpm: float, seconds: float, *, sdnn_s: float, reflected: float = 0.55
    ) -> Pulse:
        """Draw the beats of a film.

        An interval is 60 / heart rate, and what the slow (0.1 Hz) and the breathing rhythm (0.25 Hz) and chance add.

        Args:
            rng: Source of randomness.
            heart_rate_bpm: The heart rate around which it varies.
            seconds: Length of the film.
            sdnn_s: Standard deviation of the intervals.
            reflected: Height of the reflected wave, about 0.55.

        Returns:
            The pulse.
        """
        mean_s = 60 / heart_rate_bpm
        count = int((seconds + 2 * _LEAD_S) / mean_s) + 4
        start_s = -_LEAD_S - rng.uniform(0, mean_s)
        slow, breathing = rng.uniform(0, 2 * np.pi, 2)
        time_s = start_s + mean_s * np.arange(count)
        rhythm = np.sqrt(0.8) * np.sin(2 * np.pi * MAYER_HZ * time_s + slow)
        rhythm += np.sqrt(0.8) * np.sin(2 * np.pi * BREATHING_HZ * time_s + breathing)
        rhythm += np.sqrt(0.2) * rng.standard_normal(count)
        intervals = mean_s + sdnn_s * rhythm
        beats_s = start_s + np.concatenate([[0.0], np.cumsum(np.maximum(intervals, 0.25 * mean_s))])
        return cls(beats_s, (1.0, reflected, 0.15))

    def phase(self, time_s: npt.ArrayLike) -> Floats:
        """Count the beats up to a time, fractions of a beat included.

        Args:
            time_s: [...], within the beats.

        Returns:
            [...] float64.
        """
        return np.asarray(
            np.interp(np.asarray(time_s, np.float64), self.beats_s, np.arange(len(self.beats_s))), np.float64
        )

    def wave(self, time_s: npt.ArrayLike) -> Floats:
        """The waveform p(t): blood volume, upstroke positive, mean 0 over a beat, 2 from trough to peak.

        Args:
            time_s: [...], within the beats.

        Returns:
            [...] float64.
        """
        grid = np.arange(_GRID) / _GRID
        beat = _beat(grid, self.heights)
        return (_beat(self.phase(time_s) % 1, self.heights) - beat.mean()) / (np.ptp(beat) / 2)

    def heart_rate_bpm(self, seconds: float) -> float:
        """Mean heart rate from 0 to a time, by counting beats and fractions of beats."""
        first, last = self.phase(np.array([0.0, seconds]))
        return float(60 * (last - first) / seconds)


def _beat(phase: Floats, heights: tuple[float, float, float]) -> Floats:
    """One beat, closed: what a bump has left at the end goes on at the beginning of the next beat."""
    total = np.zeros_like(phase)
    for height, (centre, width) in zip(heights, _WAVES, strict=True):
        distance = (phase - centre + 0.5) % 1 - 0.5
        total += height * np.exp(-0.5 * (distance / width) ** 2)
    return total

"""From ten seconds of wave and picture to a heart rate, its confidence, and the reasons against it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from robustvision.rppg.classical import METHODS
from robustvision.rppg.confidence import LIVE, Confidence, Signals, measure_signals

LEAST_FPS = 15.0
LEAST_PULSATILITY = -3.2
"""Below this ``log10`` of in-band change over mean colour there is no pulse to see: the picture does not live."""

_EDGE_BPM = 0.5
_HARDLY = 0.3  # the share from which a fault of the picture is named as a cause

Float64 = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Judgement:
    """What ten seconds say.

    Attributes:
        wave: float64 [T] the cleaned wave, z-scored; zeros where there is no pulse.
        raw_bpm: The heart rate that was read, believed or not; None where the wave holds no pulse at all.
        confidence: Probability that it is within 5 bpm, 0 to 1.
        signals: What the confidence is made of.
        objections: Why the heart rate must not be given; empty where it may.
    """

    wave: Float64
    raw_bpm: float | None
    confidence: float
    signals: Signals
    objections: tuple[str, ...]


def judge_pulse(
    wave: Float64,
    traces: Float64,
    picture: Float64,
    fs: float,
    *,
    lost: float,
    frames_per_s: float,
    confidence: Confidence,
    second_method: str,
) -> Judgement:
    """Read a heart rate, and find what speaks against it.

    Args:
        wave: [T] upstroke positive, of any offset and scale.
        traces: [T, 3] mean colours at the same times, without NaN.
        picture: [T, 2] motion and exposure of each sample.
        fs: Samples a second.
        lost: Share of samples without a face.
        frames_per_s: What the camera really gave.
        confidence: Combines the signals.
        second_method: The classical method that is asked for its opinion.
    """
    cleaned = LIVE.clean(wave, fs)
    rate = float(LIVE.heart_rate(cleaned, fs))
    second = float(LIVE.heart_rate(LIVE.clean(METHODS[second_method](traces, fs), fs), fs))
    signals = measure_signals(cleaned, traces, fs, heart_rate_bpm=rate, second_bpm=second, picture=picture, lost=lost)
    probability = float(confidence(signals.vector())) if np.isfinite(rate) else 0.0
    deviation = cleaned.std()
    return Judgement(
        wave=cleaned / deviation if np.isfinite(deviation) else np.zeros(len(cleaned)),
        raw_bpm=rate if np.isfinite(rate) else None,
        confidence=probability,
        signals=signals,
        objections=tuple(_objections(rate, traces, signals, frames_per_s, probability, confidence.threshold)),
    )


def _objections(
    rate: float, traces: Float64, signals: Signals, frames_per_s: float, probability: float, threshold: float
) -> list[str]:
    found = []
    if frames_per_s < LEAST_FPS:
        found.append(f"{frames_per_s:.1f} frames a second: a pulse needs at least {LEAST_FPS:g}; use more light")
    if np.ptp(traces, axis=1).max() < 0.5:
        found.append("the film is grey: a pulse is a change of colour; use a colour camera")
    if not np.isfinite(rate) or signals.pulsatility < LEAST_PULSATILITY:
        found.append("the skin's colour does not change: this is a photo, a frozen camera, or no skin")
    elif not LIVE.band_hz[0] * 60 + _EDGE_BPM < rate < LIVE.band_hz[1] * 60 - _EDGE_BPM:
        low, high = (60 * edge for edge in LIVE.band_hz)
        found.append(f"the strongest beat lies at the edge of {low:.0f} to {high:.0f} bpm, and may be outside")
    if probability < threshold:
        causes = [
            cause
            for is_so, cause in (
                (signals.exposure > _HARDLY, "much of the face is nearly white or nearly black: change the light"),
                (signals.lost > _HARDLY, "the face is often lost: face the camera"),
                (signals.motion > 0.05, "the face moves: hold still"),
                (signals.agreement < 0.5, "two methods read different heart rates"),
            )
            if is_so
        ]
        found.append(f"confidence {probability:.2f} is below {threshold:g}" + "".join(f"; {cause}" for cause in causes))
    return found

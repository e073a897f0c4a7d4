"""From ten seconds of wave and picture to a heart rate, its confidence, and the reasons against it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from robustvision.rppg.classical import METHODS
from robustvision.rppg.confidence import LIVE, Confidence, Signals, measure_signals
from robustvision.rppg.signal import detrend, power_spectrum, scaled_lambda, spectrum_length

LEAST_FPS = 15.0
LEAST_PULSATILITY = -3.2
"""Below this ``log10`` of in-band change over mean colour there is no pulse to see: the picture does not live."""

LEAST_COLOUR, LEAST_COLOUR_SHARE = 2e-4, 0.05
"""Least `colour_change` of a pulse: 5e-4 on the darkest skin, and a share of about 0.6; noise has less than 1.3e-4."""

MOST_EXPOSURE = 0.5
"""Above this share of white and black, what is left of the face is chance."""

_EDGE_HZ = 0.01
_LOWEST_HZ, _HIGHEST_HZ = 0.45, 4.0  # where a heart rate outside the band is looked for
_BLUR_HZ = 0.2  # half the width of a peak in 10 s
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
        objections=tuple(_objections(rate, traces, fs, signals, frames_per_s, probability, confidence.threshold)),
    )


def _objections(
    rate: float, traces: Float64, fs: float, signals: Signals, frames_per_s: float, probability: float, threshold: float
) -> list[str]:
    found = []
    if frames_per_s < LEAST_FPS:
        found.append(f"{frames_per_s:.1f} frames a second: a pulse needs at least {LEAST_FPS:g}; use more light")
    if np.ptp(traces, axis=1).max() < 0.5:
        found.append("the film is grey: a pulse is a change of colour; use a colour camera")
    if traces[:, 2].mean() > traces[:, 0].mean():
        found.append("the face is bluer than it is red: give frames as RGB, not BGR, or use whiter light")
    if signals.exposure > MOST_EXPOSURE:
        found.append("most of the face is nearly white or nearly black: change the light or the exposure")
    if not np.isfinite(rate) or signals.pulsatility < LEAST_PULSATILITY:
        found.append("the skin's colour does not change: this is a photo, a frozen camera, or no skin")
    elif is_outside_band(traces[:, 1], fs, rate):
        low, high = (60 * edge for edge in LIVE.band_hz)
        found.append(f"the strongest beat lies at the edge of {low:.0f} to {high:.0f} bpm or outside")
    else:
        amplitude, share = colour_change(traces, fs, rate)
        if amplitude < LEAST_COLOUR or share < LEAST_COLOUR_SHARE:
            found.append("red and green change alike at that rate: it is light, movement or noise, not blood")
    if probability < threshold:
        causes = [
            cause
            for is_so, cause in (
                (signals.exposure > _HARDLY, "much of the face is nearly white or nearly black"),
                (signals.lost > _HARDLY, "the face is often lost: face the camera"),
                (signals.motion > 0.05, "the face moves: hold still"),
                (signals.agreement < 0.5, "two methods read different heart rates"),
            )
            if is_so
        ]
        found.append(f"confidence {probability:.2f} is below {threshold:g}" + "".join(f"; {cause}" for cause in causes))
    return found


def is_outside_band(green: Float64, fs: float, rate_bpm: float) -> bool:
    """Say whether what was read in the band is but the trace of a beat outside it.

    A heart of 36 bpm leaves its second and third harmonic in the band, one of 200 bpm what the filters make of it. So
    the green channel is searched beyond the band: above it for more power than anywhere inside; below it for a peak
    (not the slope of a drift) with more power, of which the reading is a harmonic or the flank.

    Args:
        green: [T] mean green of the skin.
        fs: Samples a second.
        rate_bpm: What was read.
    """
    low_hz, high_hz = LIVE.band_hz
    rate_hz = rate_bpm / 60
    if not low_hz + _EDGE_HZ < rate_hz < high_hz - _EDGE_HZ:
        return True
    detrended = detrend(green, scaled_lambda(fs)) * np.hanning(len(green))
    frequencies_hz, power = power_spectrum(detrended, fs, spectrum_length(len(green), refine=True))
    inside = power[(frequencies_hz >= low_hz) & (frequencies_hz <= high_hz)].max()
    if power[(frequencies_hz > high_hz) & (frequencies_hz <= _HIGHEST_HZ)].max() > 2 * inside:
        return True
    is_below = (frequencies_hz >= _LOWEST_HZ) & (frequencies_hz < low_hz)
    below, at_hz = power[is_below], frequencies_hz[is_below]
    peak = int(below.argmax())
    if peak in (0, len(below) - 1) or below[peak] <= inside:
        return False
    slow_hz = at_hz[peak]
    is_harmonic = min(abs(rate_hz - k * slow_hz) for k in (2, 3)) < _BLUR_HZ / 3
    return bool(is_harmonic or rate_hz - slow_hz < _BLUR_HZ)


def colour_change(traces: Float64, fs: float, rate_bpm: float) -> tuple[float, float]:
    """Return how much the colour changes at a heart rate: ``|G - R|`` of the relative amplitudes, and its share of |G|.

    Blood takes more green than red. A flickering lamp, a camera that sets its exposure, and a step that shades the face
    change both alike; a projection such as POS removes that but for a rest, which is as regular as a pulse.

    Args:
        traces: [T, 3] mean colours.
        fs: Samples a second.
        rate_bpm: Where to look.

    Example:
        >>> t = np.arange(300) / 30
        >>> lamp = 1 + 0.01 * np.sin(2 * np.pi * 1.2 * t)[:, None] * np.array([1.0, 1.0, 1.0])
        >>> blood = 1 + 0.01 * np.sin(2 * np.pi * 1.2 * t)[:, None] * np.array([0.33, 0.77, 0.53])
        >>> [round(colour_change(100 * change, 30, 72)[1], 2) for change in (lamp, blood)]
        [0.0, 0.57]
    """
    relative = LIVE.clean((traces / np.maximum(traces.mean(axis=0), 1e-9)).T[:2], fs)
    window = np.hanning(len(traces))
    turning = window * np.exp(-2j * np.pi * rate_bpm / 60 * np.arange(len(traces)) / fs)
    red, green = np.nan_to_num(2 * relative @ turning / window.sum())
    return float(abs(green - red)), float(abs(green - red) / max(abs(green), 1e-12))

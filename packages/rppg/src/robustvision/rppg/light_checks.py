"""What the light does to a film: exposure, colour, sudden steps, and lamps that flicker with the mains."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import sliding_window_view

from robustvision.core.findings import Finding, Level
from robustvision.rppg.film import Film
from robustvision.rppg.signal import detrend, resample, scaled_lambda

PULSE_BAND_HZ = (0.6, 3.3)
MAINS_HZ = (50.0, 60.0)
DARK, BLACK = 40.0, 10.0  # mean of the brightest channel, of 255
GREY = 1.5  # |R - G| + |G - B|; a face has 50 and more
LEAST_STEP, LEAST_TINT_STEP = 0.04, 0.02  # of the logarithm of brightness and of colour ratios
LEAST_FLICKER = 0.001  # amplitude relative to the mean; a pulse has 0.002 to 0.01
SHORTEST_SPECTRUM_S = 5.0

Float64 = npt.NDArray[np.float64]


def check_exposure(film: Film) -> Iterator[Finding]:
    whose = "face" if film.faces is not None and film.faces.counts.any() else "middle of the picture"
    saturated = float(np.median(film.saturated))
    if saturated > 0.05:
        level: Level = "error" if saturated > 0.5 else "warning"
        what = f"{saturated:.0%} of the {whose} is saturated: no change shows there"
        yield Finding(level, film.name, what, "less light, or a shorter exposure")
    brightness = float(np.median(film.middle.max(axis=1)))
    if brightness < DARK:
        level = "error" if brightness < BLACK else "warning"
        what = f"the {whose} is dark: {brightness:.0f} of 255"
        yield Finding(level, film.name, what, "light the face from the front, by day or with a steady lamp")


def check_colour(film: Film) -> Iterator[Finding]:
    if float(np.median(film.middle.max(axis=1))) < BLACK:
        return  # the dark hides all colour, and is told
    if float(np.median(film.colourfulness)) < GREY:
        what = "the film is grey: methods that compare colours have nothing to compare"
        yield Finding("error", film.name, what, "record in colour; switch off night mode and filters")
    elif film.faces is not None and film.faces.counts.any():
        red, _, blue = np.median(film.middle, axis=0)
        if red < blue:
            what = f"the face is bluer ({blue:.0f}) than red ({red:.0f})"
            yield Finding("warning", film.name, what, "red and blue may be swapped; or use white light")


def check_jumps_of_light(film: Film) -> Iterator[Finding]:
    """Steps that the background and the middle share: the camera made them, or a lamp."""
    background, middle = (np.log(np.maximum(colours, 1.0)) for colours in (film.background, film.middle))
    gains = [colours.mean(axis=1) for colours in (background, middle)]
    tints = [np.stack([c[:, 0] - c[:, 1], c[:, 2] - c[:, 1]]) for c in (background, middle)]
    kinds = (
        ("brightness", gains, LEAST_STEP, "fix the exposure (no automatic), and keep lamps and screens steady"),
        ("colour", tints, LEAST_TINT_STEP, "fix the white balance, and keep coloured screens away"),
    )
    for kind, (outside, inside), least, advice in kinds:
        is_step = (_steps(outside, film.fps) > least) & (_steps(inside, film.fps) > least)
        anywhere = is_step.reshape(-1, is_step.shape[-1]).any(axis=0)
        starts = np.flatnonzero(np.diff(anywhere.astype(np.int8), prepend=0) == 1)
        if starts.size:
            half = (len(film.times_s) - anywhere.size) // 2
            times = ", ".join(f"{film.times_s[start + half]:.1f}" for start in starts[:3])
            more = ", ..." if starts.size > 3 else ""
            what = f"{starts.size} sudden changes of {kind} in the whole picture, at {times}{more} s"
            yield Finding("warning", film.name, what, advice)


def _steps(x: Float64, fps: float) -> Float64:
    """By how much the median of half a second differs from that before; 0 where either of them is not level.

    Args:
        x: [..., T].
        fps: Frames a second.

    Returns:
        [..., N], one value a place, 0.6 s shorter at each end; empty for a short x.
    """
    length, between = max(round(0.5 * fps), 3), max(round(0.2 * fps), 1)
    if x.shape[-1] < 2 * length + between:
        return np.zeros((*x.shape[:-1], 0))
    windows = sliding_window_view(x, length, axis=-1)
    level, spread = np.median(windows, axis=-1), np.ptp(windows, axis=-1)
    apart = length + between
    step = np.abs(level[..., apart:] - level[..., :-apart])
    is_level = np.maximum(spread[..., apart:], spread[..., :-apart]) < step / 2
    return np.where(is_level, step, 0.0)


def alias_hz(light_hz: float, fps: float) -> float:
    """At which frequency a camera sees a light that flickers faster than it looks.

    Example:
        >>> [round(alias_hz(light, fps), 2) for light, fps in ((100, 30.0), (120, 29.97), (100, 24.9))]
        [10.0, 0.12, 0.4]
    """
    return abs(light_hz - round(light_hz / fps) * fps)


def check_flicker(film: Film) -> Iterator[Finding]:
    low, high = PULSE_BAND_HZ
    fps, seen_hz = film.fps, None
    if (seen := _background_peak(film)) is not None:
        seen_hz, amplitude = seen
        what = f"the background pulsates at {seen_hz:.2f} Hz ({60 * seen_hz:.0f} a minute) by {amplitude:.1%}"
        sources = [
            f"{mains:g} Hz mains"
            for mains in MAINS_HZ
            if any(abs(alias_hz(light, fps) - seen_hz) < 0.1 for light in (mains, 2 * mains))
        ]
        if sources:
            what += f", which is what lamps or screens on {' or '.join(sources)} look like at {fps:.4g} fps"
        advice = "set an exposure of 1/50 s (50 Hz mains) or 1/60 s (60 Hz), use daylight, and hold the camera still"
        yield Finding("warning", film.name, f"{what}: a heart rate near it may be the light's", advice)
    for mains in MAINS_HZ:
        aliases = {light: alias_hz(light, fps) for light in (mains, 2 * mains)}
        inside = {light: alias for light, alias in aliases.items() if low <= alias <= high}
        if inside and not any(seen_hz is not None and abs(alias - seen_hz) < 0.1 for alias in inside.values()):
            light, alias = next(iter(inside.items()))
            what = f"at {fps:.4g} fps, light of {light:g} Hz ({mains:g} Hz mains) would look like {60 * alias:.0f} bpm"
            advice = f"harmless in daylight; else record at {mains / 2:g} fps, and compare with the background"
            yield Finding("warning", film.name, what, advice)


def _background_peak(film: Film) -> tuple[float, float] | None:
    """Frequency and relative amplitude of the oscillation that dominates the background within the pulse's band."""
    fps = film.fps
    light = resample(film.background.mean(axis=1), film.times_s, fps)
    mean = float(light.mean())
    if len(light) < SHORTEST_SPECTRUM_S * fps or mean < 1 or fps <= 2 * PULSE_BAND_HZ[0]:
        return None
    window = np.hanning(len(light))
    power = np.abs(np.fft.rfft(detrend(light / mean, scaled_lambda(fps)) * window)) ** 2
    frequencies_hz = np.fft.rfftfreq(len(light), 1 / fps)
    inside = (frequencies_hz >= PULSE_BAND_HZ[0]) & (frequencies_hz <= PULSE_BAND_HZ[1])
    peak_hz = float(frequencies_hz[inside][power[inside].argmax()])
    near = np.abs(frequencies_hz - peak_hz) <= max(0.1, 2 * fps / len(light))  # a Hann window's main lobe
    amplitude = float(np.sqrt(4 * power[near].sum() / (len(light) * np.sum(window**2))))
    if amplitude < LEAST_FLICKER or power[near].sum() < 0.5 * power[inside].sum():
        return None
    return peak_hz, amplitude

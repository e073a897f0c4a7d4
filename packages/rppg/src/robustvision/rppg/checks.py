"""Why a heart rate read from a film would be unreliable, and what to change before the next recording.

The film is read once (`film.measure_film`), its container asked for its compression (`film_format.read_format`); each
check is a function from what was measured to findings. The limits are this project's choice where no source is named.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import sliding_window_view

from robustvision.core.errors import InputError, MissingExtraError
from robustvision.core.runtime.faces import FaceDetector
from robustvision.rppg.film import GAP, Film, measure_film
from robustvision.rppg.film_format import FilmFormat, read_format
from robustvision.rppg.signal import detrend, resample, scaled_lambda
from robustvision.rppg.tracking import Detector

SHORTEST_S = 5.0
SLOWEST_FPS, USELESS_FPS = 15.0, 8.0
PULSE_BAND_HZ = (0.6, 3.3)
MAINS_HZ = (50.0, 60.0)
SMALL_FACE_PX, TINY_FACE_PX = 60, 30
DARK, BLACK = 40.0, 10.0  # mean of the brightest channel, of 255
GREY = 1.5  # |R - G| + |G - B|; a face has 50 and more
UNCHANGED = 0.02  # mean change of green; the noise of a camera is 0.3 and more
LEAST_STEP, LEAST_TINT_STEP = 0.04, 0.02  # of the logarithm of brightness and of colour ratios
LEAST_FLICKER = 0.001  # amplitude relative to the mean; a pulse has 0.002 to 0.01
LEAST_BITS = {"mjpeg": 0.8, "h264": 0.05, "mpeg4": 0.1, "hevc": 0.03, "vp9": 0.03, "av1": 0.02}  # a pixel

Float64 = npt.NDArray[np.float64]
Level = Literal["error", "warning"]


@dataclass(frozen=True)
class Finding:
    """Something that makes a reading unreliable.

    Attributes:
        level: "error": do not trust a reading; "warning": it may be worse for it, or cannot be verified.
        where: The file.
        what: What was found, with numbers.
        advice: What to change.
    """

    level: Level
    where: str
    what: str
    advice: str


Findings = Iterator[Finding]


def check_video(
    path: str | os.PathLike[str],
    *,
    fps: float | None = None,
    detector: Detector | str | os.PathLike[str] | None = None,
    quiet: bool = False,
) -> list[Finding]:
    """Say why a heart rate read from this film would be unreliable.

    Args:
        path: A video file, or a folder of images with ``fps``.
        fps: Frames a second of a folder of images.
        detector: Finds faces, or a YuNet file; by default core's ``FaceDetector``. Where its extra is not installed, a
            finding says that nobody looked for faces.
        quiet: No progress.

    Returns:
        The findings, errors first; an empty list for a film without fault.

    Raises:
        InputError: The path is no film, or not even its first frame can be read.
    """
    name = os.fspath(path)
    findings: list[Finding] = []
    if detector is None or isinstance(detector, str | os.PathLike):
        try:
            detector = FaceDetector(detector)
        except MissingExtraError as error:
            findings.append(Finding("warning", name, "nobody looked for faces", str(error)))
            detector = None
    film = measure_film(path, fps=fps, detector=detector, quiet=quiet)
    film_format = None
    if not Path(path).is_dir():
        try:
            film_format = read_format(path)
        except (MissingExtraError, InputError) as error:
            what = "codec, bit rate and chroma could not be looked at"
            findings.append(Finding("warning", name, what, str(error)))
    findings += check_film(film, film_format)
    return sorted(findings, key=lambda finding: finding.level != "error")


def check_film(film: Film, film_format: FilmFormat | None = None) -> list[Finding]:
    """Judge what one pass over a film measured.

    Args:
        film: From `measure_film`.
        film_format: From `read_format`; None where it is not known.

    Returns:
        The findings.
    """
    findings = [*_check_length(film)]
    if len(film.times_s) > 1:
        findings += [*_check_steps(film), *_check_clock(film, film_format), *_check_change(film)]
        findings += [*_check_jumps_of_light(film), *_check_flicker(film)]
    findings += [*_check_exposure(film), *_check_colour(film), *_check_faces(film)]
    if film_format is not None:
        findings += _check_format(film, film_format)
    return findings


def _check_length(film: Film) -> Findings:
    if film.broke_off is not None:
        yield Finding("error", film.name, f"reading broke off: {film.broke_off}", "copy or convert the film again")
    if film.duration_s < SHORTEST_S:
        what = f"the film is {film.duration_s:.1f} s long, below the {SHORTEST_S:g} s that a reading needs"
        yield Finding("error", film.name, what, "record at least 10 s, better 30 s")


def _check_steps(film: Film) -> Findings:
    """Frame rate, missing frames, jitter."""
    steps_s, fps = film.steps_s, film.fps
    if fps < SLOWEST_FPS:
        level: Level = "error" if fps < USELESS_FPS else "warning"
        what = f"{fps:.1f} frames a second: the pulse's second harmonic, up to 6.6 Hz, needs {SLOWEST_FPS:g}"
        yield Finding(level, film.name, what, "record at 30 fps; more light shortens the exposure")
    regular = steps_s < GAP * np.median(steps_s)
    missing = int(np.rint(steps_s[~regular] * fps - 1).clip(1).sum())
    share = missing / (missing + len(film.times_s))
    if share > 0.01:
        level = "error" if share > 0.3 else "warning"
        what = f"{missing} frames are missing ({share:.0%}), the longest gap is {steps_s.max():.2f} s"
        yield Finding(level, film.name, what, "close other programs, record to a fast disk, or at a lower resolution")
    jitter = float(steps_s[regular].std() * fps)
    if jitter > 0.1:
        what = f"the time from frame to frame varies by {jitter:.0%}: {1e3 * steps_s[regular].min():.0f} to"
        what += f" {1e3 * steps_s[regular].max():.0f} ms"
        yield Finding("warning", film.name, what, "fix the exposure time and the frame rate of the camera")


def _check_clock(film: Film, film_format: FilmFormat | None) -> Findings:
    """Whether the times can be right."""
    seconds = film.duration_s
    real_fps, stated = (len(film.times_s) - 1) / seconds, film.fps_stated
    if stated and min(abs(stated / real_fps - 1), abs(stated / film.fps - 1)) > 0.03:
        what = f"the file states {stated:.4g} fps, its times give {film.fps:.4g}"
        advice = (
            f"find out which is right with a clock in the picture; counted by frames the heart rate would be off by"
        )
        yield Finding("warning", film.name, what, f"{advice} a factor {stated / film.fps:.2f}")
    estimated = film.is_time_estimated[1:].mean()
    if 0 < estimated < 1:
        what = f"{estimated:.0%} of the frames have no time, or one that does not rise; theirs were counted"
        yield Finding("warning", film.name, what, "convert the film to MP4 with the times of the camera")
        return
    has_times = film_format is None or film_format.has_times
    if estimated or not has_times:
        what = f"the file has no times: {film.fps:.4g} fps is a statement that cannot be verified"
    elif np.ptp(film.steps_s) <= 1.01e-3 and len(film.times_s) > 30:
        what = f"all steps are equal, as a program writes them that assumes {film.fps:.4g} fps: it cannot be verified"
    else:
        return
    advice = (
        f"compare the length of {seconds:.1f} s with a clock; if the camera was slower, all heart rates are too high"
    )
    yield Finding("warning", film.name, what, advice)


def _check_change(film: Film) -> Findings:
    """A photo, or frames that came twice."""
    unchanged = film.change <= UNCHANGED
    if unchanged.mean() > 0.95:
        what = f"{unchanged.mean():.0%} of the frames are the same as the frame before: a photo, or a film whose"
        yield Finding("error", film.name, f"{what} compression removed every change", "film a living face")
        return
    usual = float(np.median(film.change[~unchanged]))
    twice = film.change <= max(UNCHANGED / 2, 0.02 * usual)
    if twice.mean() > 0.02:
        what = f"{int(twice.sum())} frames ({twice.mean():.0%}) repeat the frame before"
        advice = f"the camera gives about {film.fps * (1 - twice.mean()):.1f} fps: set that rate, and more light"
        yield Finding("warning", film.name, what, advice)


def _check_exposure(film: Film) -> Findings:
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


def _check_colour(film: Film) -> Findings:
    if float(np.median(film.colourfulness)) < GREY:
        what = "the film is grey: methods that compare colours have nothing to compare"
        yield Finding("error", film.name, what, "record in colour; switch off night mode and filters")
    elif film.faces is not None and film.faces.counts.any():
        red, _, blue = np.median(film.middle, axis=0)
        if red < blue:
            what = f"the face is bluer ({blue:.0f}) than red ({red:.0f})"
            yield Finding("warning", film.name, what, "red and blue may be swapped; or use white light")


def _check_jumps_of_light(film: Film) -> Findings:
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
        is_step = is_step.reshape(-1, is_step.shape[-1]).any(axis=0)
        starts = np.flatnonzero(np.diff(is_step.astype(np.int8), prepend=0) == 1)
        if starts.size:
            half = (len(film.times_s) - is_step.size) // 2
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
        >>> [round(alias_hz(light, fps), 2) for light, fps in ((100, 30), (120, 29.97), (100, 24.9))]
        [10.0, 0.12, 0.4]
    """
    return abs(light_hz - round(light_hz / fps) * fps)


def _check_flicker(film: Film) -> Findings:
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
    if len(light) < SHORTEST_S * fps or mean < 1 or fps <= 2 * PULSE_BAND_HZ[0]:
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


def _check_faces(film: Film) -> Findings:
    faces = film.faces
    if faces is None:
        return
    missing = float((faces.counts == 0).mean())
    if missing > 0.05:
        level: Level = "error" if missing > 0.5 else "warning"
        what, advice = (
            f"no face in {missing:.0%} of the {len(faces.counts)} frames that were searched",
            "face the camera",
        )
        if faces.turned_deg is not None:
            what += f", but one in frames turned by {faces.turned_deg} degrees anticlockwise"
            advice = "turn the film: the phone did not note how it was held"
        yield Finding(level, film.name, what, advice)
    if missing == 1:
        return
    several = float((faces.counts > 1).mean())
    if several > 0.05:
        what = f"up to {faces.counts.max()} faces, more than one in {several:.0%} of the frames that were searched"
        yield Finding("warning", film.name, what, "film one person; the largest face is taken")
    boxes = faces.boxes_xywh[faces.counts > 0]
    width_px = float(np.median(boxes[:, 2]))
    if width_px < SMALL_FACE_PX:
        level = "error" if width_px < TINY_FACE_PX else "warning"
        what = f"the face is {width_px:.0f} px wide: too few pixels to average the camera's noise away"
        yield Finding(level, film.name, what, f"move closer: {SMALL_FACE_PX} px and more")
    centres = boxes[:, :2] + boxes[:, 2:] / 2
    moved = np.linalg.norm(np.diff(centres, axis=0), axis=1) / boxes[1:, 2]
    if moved.size and moved.max() > 0.5:
        what = f"the face moves by up to {moved.max():.1f} of its width between two looks, {int((moved > 0.5).sum())} times"
        yield Finding("warning", film.name, what, "sit still; if it is another person's face, film one person")


def _check_format(film: Film, film_format: FilmFormat) -> Findings:
    bits_per_s, least = film_format.bits_per_s, LEAST_BITS.get(film_format.codec)
    if bits_per_s is not None and least is not None:
        bits = bits_per_s / (film.size_px[0] * film.size_px[1] * film.fps)
        if bits < least:
            what = f"strong compression: {film_format.codec} with {bits:.3f} bits a pixel, below {least:g}"
            if film_format.chroma == "4:2:0":
                what += ", and chroma at a quarter of the pixels (4:2:0)"
            advice = "record at a higher bit rate (not sent by a messenger), or lossless; compression removes the pulse"
            yield Finding("warning", film.name, what, advice)
    if film_format.bits > 8 or film_format.is_hdr:
        what = f"{'HDR' if film_format.is_hdr else 'deep colour'}: {film_format.bits} bits ({film_format.pixel_format})"
        yield Finding("warning", film.name, f"{what}; frames are read as 8 bits", "record in SDR, 8 bits")

"""Why a heart rate read from a film would be unreliable, and what to change before the next recording.

The film is read once (`film.measure_film`), its container asked for its compression (`film_format.read_format`); each
check is a function from what was measured to findings. The limits are this project's choice where no source is named.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import sliding_window_view

from robustvision.core.errors import InputError, MissingExtraError
from robustvision.core.findings import Finding, Level
from robustvision.core.runtime.faces import FaceDetector
from robustvision.rppg.film import GAP, LOOK_EVERY_S, Film, measure_film
from robustvision.rppg.film_format import FilmFormat, read_format
from robustvision.rppg.light_checks import check_colour, check_exposure, check_flicker, check_jumps_of_light
from robustvision.rppg.tracking import Detector

SHORTEST_S = 5.0
SLOWEST_FPS, USELESS_FPS = 15.0, 8.0
SMALL_FACE_PX, TINY_FACE_PX = 60, 30
UNCHANGED = 0.02  # mean change of green; the noise of a camera is 0.3 and more
USUAL_CHANGE, REPEATED = 0.6, 0.35  # measured over CRF 8 to 23: no false alarm, all repeats up to CRF 14
LEAST_BITS = {"mjpeg": 0.7, "h264": 0.05, "mpeg4": 0.1, "hevc": 0.03, "vp9": 0.03, "av1": 0.02}  # a pixel


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
            film_format = read_format(name)
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
        findings += [*check_jumps_of_light(film), *check_flicker(film)]
    findings += [*check_exposure(film), *check_colour(film), *_check_faces(film)]
    if film_format is not None:
        findings += _check_format(film, film_format)
    return findings


def _check_length(film: Film) -> Iterator[Finding]:
    if film.broke_off is not None:
        yield Finding("error", film.name, f"reading broke off: {film.broke_off}", "copy or convert the film again")
    if film.duration_s < SHORTEST_S:
        what = f"the film is {film.duration_s:.1f} s long, below the {SHORTEST_S:g} s that a reading needs"
        yield Finding("error", film.name, what, "record at least 10 s, better 30 s")


def _check_steps(film: Film) -> Iterator[Finding]:
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


def _check_clock(film: Film, film_format: FilmFormat | None) -> Iterator[Finding]:
    """Whether the times can be right."""
    seconds = film.duration_s
    real_fps, stated = (len(film.times_s) - 1) / seconds, film.fps_stated
    if stated and min(abs(stated / real_fps - 1), abs(stated / film.fps - 1)) > 0.03:
        what = f"the file states {stated:.4g} fps, its times give {film.fps:.4g}"
        advice = "find out which is right with a clock in the picture; counted by frames the heart rate would be off by"
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


def _check_change(film: Film) -> Iterator[Finding]:
    """A photo, or frames that came twice."""
    unchanged = film.change <= UNCHANGED
    if unchanged.mean() > 0.95:
        what = f"{unchanged.mean():.0%} of the frames are the same as the frame before: a photo, or a film whose"
        yield Finding("error", film.name, f"{what} compression removed every change", "film a living face")
        return
    twice = _repeats(film.change)
    if twice.mean() > 0.02:
        what = f"{int(twice.sum())} frames ({twice.mean():.0%}) repeat the frame before"
        advice = f"the camera gives about {film.fps * (1 - twice.mean()):.1f} fps: set that rate, and more light"
        yield Finding("warning", film.name, what, advice)


def _repeats(change: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
    """Where a frame repeats the one before: its change is small beside that within two frames, before and after.

    Strong compression hides it: it removes the noise of the camera, and improves a frame that comes again. So nothing
    is said below a usual change of ``USUAL_CHANGE`` (measured: H.264 above CRF 14 to 18, by the noise).
    """
    if len(change) < 5 or np.median(change[change > UNCHANGED]) < USUAL_CHANGE:
        return np.zeros(len(change), bool)
    largest = sliding_window_view(np.pad(change, 2), 2).max(axis=-1)  # largest[i] of change[i - 2] and change[i - 1]
    return change < REPEATED * np.minimum(largest[:-3], largest[3:])


def _check_faces(film: Film) -> Iterator[Finding]:
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
        what = f"{int((moved > 0.5).sum())} times the face moves by half its width and more within {LOOK_EVERY_S:g} s"
        yield Finding("warning", film.name, what, "sit still; if it is another person's face, film one person")


def _check_format(film: Film, film_format: FilmFormat) -> Iterator[Finding]:
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

"""How well heart rates over time agree with a reference, on recordings of one's own.

A folder of films and a CSV file become two tracks of heart rates a film, one estimated (`estimate_track`) and one
measured (`read_reference`, `reference_track`). Their clocks may differ by a constant lag, which is found by
correlation, taken out, and reported beside the error without it (`heart_rate_track`).
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import sliding_window_view

from robustvision.core.errors import InputError
from robustvision.core.evaluation import bootstrap_interval
from robustvision.core.runtime.progress import track
from robustvision.rppg.estimate import estimate_video
from robustvision.rppg.heart_rate_track import CLOSE_BPM, HeartRateTrack, align_lag, aligned_errors, compare_series
from robustvision.rppg.pipeline import PulseEstimator
from robustvision.rppg.reference_csv import Reference, read_reference
from robustvision.rppg.signal import bandpass, detrend, heart_rate_fft, resample, scaled_lambda, shortest_filtered

FILM_SUFFIXES = frozenset({".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".wmv", ".mpg", ".mpeg", ".ts", ".3gp"})
PPG_WINDOW_S = 10.0
PPG_BAND_HZ = (0.6, 3.3)
LONGEST_PAUSE_S = 0.5  # between two samples of a wave; across a longer one no rate is read
FLAT = 1e-9

Float64 = npt.NDArray[np.float64]


def evaluate_recordings(
    videos: str | os.PathLike[str],
    reference: str | os.PathLike[str],
    estimate: Callable[[Path], HeartRateTrack],
    *,
    quiet: bool = False,
) -> dict[str, Any]:
    """Compare an estimator with the reference on a folder of films.

    Args:
        videos: The folder.
        reference: The CSV file; see `reference_csv`.
        estimate: Gives the heart rates of one film.
        quiet: No progress.

    Returns:
        Plain values: ``recordings``, a row a film; ``overall``, over all readings, with the 95 % interval of the mean
        absolute error from resampling films; ``failed``, the films that could not be estimated, and why;
        ``without_reference``, the films of the folder that the reference does not name.

    Raises:
        InputError: The reference or the folder cannot be used, a film that the reference names is not there, or not
            one film could be estimated.
    """
    folder = Path(videos)
    references = read_reference(reference)
    paths = _match(references, folder, reference)
    rows: list[dict[str, Any]] = []
    errors: list[Float64] = []
    failed: dict[str, str] = {}
    for path, measured in track(list(zip(paths, references, strict=True)), "estimating films", quiet=quiet):
        try:
            estimated, truth = estimate(path), reference_track(measured)
        except InputError as error:
            failed[path.name] = str(error)
            continue
        lag = align_lag(estimated, truth)
        rows.append({"video": path.name, "reference": measured.kind, **compare_series(estimated, truth, lag).row()})
        errors.append(aligned_errors(estimated, truth, lag.seconds))
    if not rows:
        raise InputError(f"not one of {len(paths)} films could be estimated: {next(iter(failed.values()))}")
    return {
        "recordings": rows,
        "overall": _overall(rows, errors),
        "failed": failed,
        "without_reference": sorted(path.name for path in _films(folder) if path not in paths),
    }


def estimate_track(video: Path, estimator: PulseEstimator, *, every_s: float = 1.0) -> HeartRateTrack:
    """Let the live estimator read a film, second by second.

    Args:
        video: The film.
        estimator: Is reset first.
        every_s: Seconds from one reading to the next.

    Returns:
        Its heart rates; NaN wherever it refused, warming up included.
    """
    results = list(estimate_video(video, estimator, every_s=every_s))
    rates = [math.nan if one.heart_rate_bpm is None else one.heart_rate_bpm for one in results]
    return HeartRateTrack(
        np.array([one.time_s for one in results]), np.array(rates), np.array([one.confidence for one in results])
    )


def reference_track(reference: Reference) -> HeartRateTrack:
    """Turn a reference into heart rates over time.

    A pulse wave is read in windows of 10 s, each second, by the peak of the spectrum from 0.6 to 3.3 Hz; a window's
    time is its end, as a live reading's is, so that both look back over the same time.

    Args:
        reference: Of one video.

    Returns:
        The track; confidence 1 where there is a heart rate, else 0.

    Raises:
        InputError: A pulse wave is too short, or sampled too slowly.
    """
    times_s, rates = reference.times_s, reference.values
    if reference.kind == "ppg":
        times_s, rates = _rates_of_wave(times_s, rates, reference.video)
    return HeartRateTrack(times_s, rates, np.isfinite(rates).astype(np.float64))


def _rates_of_wave(times_s: Float64, wave: Float64, name: str) -> tuple[Float64, Float64]:
    fs = float(1 / np.median(np.diff(times_s))) if len(times_s) > 1 else 0.0
    if fs <= 2 * PPG_BAND_HZ[1]:
        raise InputError(
            f"the pulse wave of {name or 'the film'} has {fs:.1f} samples a second: it needs more than 6.6"
        )
    fs = min(fs, 100.0)  # beyond, more samples show no more of 3.3 Hz
    uniform = resample(wave, times_s, fs)
    place = np.searchsorted(times_s, times_s[0] + np.arange(len(uniform)) / fs).clip(1, len(times_s) - 1)
    uniform[np.diff(times_s)[place - 1] > LONGEST_PAUSE_S] = np.nan
    length, hop = round(PPG_WINDOW_S * fs), max(round(fs), 1)
    if len(uniform) < max(length, shortest_filtered()):
        raise InputError(
            f"the pulse wave of {name or 'the film'} is {times_s[-1] - times_s[0]:.1f} s long: it needs 10 s"
        )
    windows = sliding_window_view(uniform, length)[::hop]
    ends_s = times_s[0] + (np.arange(len(windows)) * hop + length - 1) / fs
    # NaN is above nothing; a flat window, as of a finger that slipped off, has no rate
    is_whole = np.ptp(windows, axis=1) > FLAT * np.abs(windows).max(axis=1)
    rates = np.full(len(windows), np.nan)
    if is_whole.any():
        clean = bandpass(detrend(windows[is_whole], scaled_lambda(fs)), fs, PPG_BAND_HZ)
        rates[is_whole] = heart_rate_fft(clean, fs, PPG_BAND_HZ, refine=True)
    return ends_s, rates


def _overall(rows: list[dict[str, Any]], errors: list[Float64]) -> dict[str, Any]:
    """Over all readings; the interval takes films, not readings, as what was drawn at random."""
    pooled = np.concatenate(errors)
    films = np.repeat(np.arange(len(errors)), [len(one) for one in errors])
    answered, moments = (sum(row[name] for row in rows) for name in ("n", "moments"))
    result: dict[str, Any] = {
        "films": len(rows),
        "n": answered,
        "moments": moments,
        "coverage": answered / moments if moments else math.nan,
    }
    if pooled.size:
        close = np.abs(pooled) <= CLOSE_BPM
        result |= {"mae": float(np.abs(pooled).mean()), "rmse": float(np.sqrt((pooled**2).mean()))}
        result |= {"bias": float(pooled.mean()), "within_5_bpm": float(close.mean())}
    if len(np.unique(films)) > 1:
        interval = bootstrap_interval(np.abs(pooled), groups=films)
        result |= {"mae_low": interval.low, "mae_high": interval.high}
    return result


def _films(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise InputError(f"{folder} is no folder: give the folder with the films")
    return sorted(path for path in folder.rglob("*") if path.is_file() and path.suffix.lower() in FILM_SUFFIXES)


def _match(references: list[Reference], folder: Path, csv_path: str | os.PathLike[str]) -> list[Path]:
    """The film of each reference."""
    films = _films(folder)
    if not films:
        raise InputError(f"{folder} holds no film ({', '.join(sorted(FILM_SUFFIXES))}): give the folder with the films")
    by_name: dict[str, list[Path]] = {}
    for path in films:
        relative = path.relative_to(folder)
        for name in {path.name, path.stem, relative.as_posix(), relative.with_suffix("").as_posix()}:
            by_name.setdefault(name, []).append(path)
    matched = []
    for reference in references:
        where = f"{os.fspath(csv_path)}:{reference.line}"
        found = films if not reference.video else by_name.get(reference.video.replace("\\", "/"), [])
        if len(found) != 1:
            named = f"names {reference.video!r}" if reference.video else "names no video"
            held = (
                "no such film" if not found else f"{len(found)} of them: {', '.join(path.name for path in found[:3])}"
            )
            raise InputError(f"{where} {named}, but {folder} holds {held}: name the file, with its ending and folder")
        matched.append(found[0])
    if len(set(matched)) < len(matched):
        twice = next(path for path in matched if matched.count(path) > 1)
        raise InputError(f"{os.fspath(csv_path)} names {twice.name} in two ways: use one name for one film")
    return matched

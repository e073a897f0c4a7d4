"""Bringing a reference pulse to the frames' times, and finding out what is wrong with it. No torch in here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from robustvision.core.errors import InputError
from robustvision.rppg.classical import pos
from robustvision.rppg.data.recording import Clip, Recording
from robustvision.rppg.signal import bandpass, z_score

Kind = Literal["short", "clocks", "stretched", "flat", "inverted"]

_PULSE_HZ, _SHAPE_HZ = (0.7, 3.0), (0.6, 6.0)
_LEAST_RISING = 0.95  # share of a reference's samples that must come after the one before
_MOST_APART_S = 1.0  # between the ends of film and reference
_FLAT_S = 1.0  # a straight line of this length is no pulse
_INVERTED = -0.35  # skewness of the slope: 42 real references have 0.47 to 2.11, noise stays within 0.25
_MOST_LAG_S = 0.5
_LEAST_S = 5.0  # of film from which a lag is estimated


@dataclass(frozen=True)
class LabelFinding:
    """Something wrong with a reference.

    Attributes:
        kind: "short" (does not reach all frames), "clocks" (film and reference last differently long), "stretched" (no
            clock, and not one sample a frame), "flat" (a straight line, as from a lost contact or a gap) or "inverted".
        recording: Name of the recording.
        what: What is wrong.
        advice: What to do.
    """

    kind: Kind
    recording: str
    what: str
    advice: str


@dataclass(frozen=True)
class LabelLag:
    """How far a reference follows or leads the skin.

    Attributes:
        lag_s: By how much the reference is later than the skin in the film; negative where it leads.
        correlation: Of the two at that lag, up to 1; below about 0.5 the lag means nothing.
    """

    lag_s: float
    correlation: float


def label_at(
    where: str,
    frame_times_s: npt.NDArray[np.float64],
    label_times_s: npt.NDArray[np.float64],
    label: npt.NDArray[np.float64],
) -> npt.NDArray[np.float32]:
    """Read a reference at the times of the frames, linearly.

    Args:
        where: The file, for messages.
        frame_times_s: [T].
        label_times_s: [N], on the same clock. A sample whose time is not after the one before is left out.
        label: [N].

    Returns:
        [T] float32; NaN before the first and after the last sample (nothing is held or made up there).

    Raises:
        InputError: The lengths differ, numbers are not finite, more than a twentieth of the times do not rise, or film
            and reference share no time.
    """
    if label_times_s.shape != label.shape or len(label) < 2:
        raise InputError(
            f"{where} has {label.size} samples and {label_times_s.size} times: expected as many, at least 2"
        )
    if not (np.isfinite(label).all() and np.isfinite(label_times_s).all()):
        raise InputError(f"{where} has samples or times that are not finite numbers: export it again")
    latest = np.concatenate([[-np.inf], np.maximum.accumulate(label_times_s)[:-1]])
    rises = label_times_s > latest
    if rises.mean() < _LEAST_RISING:
        raise InputError(f"{where}: {(~rises).sum()} of its {len(rises)} times are not after the one before: sort it")
    times, values = label_times_s[rises], label[rises]
    if times[0] > frame_times_s[-1] or times[-1] < frame_times_s[0]:
        raise InputError(
            f"{where} reaches from {times[0]:.2f} to {times[-1]:.2f} s, the film from {frame_times_s[0]:.2f} to "
            f"{frame_times_s[-1]:.2f} s: they have no common clock"
        )
    return np.interp(frame_times_s, times, values, left=np.nan, right=np.nan).astype(np.float32)


def check_labels(recording: Recording) -> list[LabelFinding]:
    """Say what is wrong with a recording's reference, without decoding the film.

    Args:
        recording: As a reader gives it; of its conditions, "label_samples" and "label_end_s" are used where present.

    Returns:
        The findings; empty where nothing is wrong.
    """
    found: list[LabelFinding] = []

    def add(kind: Kind, what: str, advice: str) -> None:
        found.append(LabelFinding(kind, recording.name, what, advice))

    reached = np.isfinite(recording.bvp)
    missing_s = recording.duration_s * float((~reached).mean())
    if missing_s > _MOST_APART_S:
        add("short", f"the label misses {missing_s:.1f} of {recording.duration_s:.1f} s", "those frames are left out")
    samples, frames = recording.conditions.get("label_samples"), len(recording.timestamps_s)
    end_s = recording.conditions.get("label_end_s")
    if isinstance(end_s, float):
        apart_s = end_s - recording.duration_s
        if abs(apart_s) > _MOST_APART_S:
            hint = "; with one sample a frame, so the film's frame rate is likely wrong" if samples == frames else ""
            add("clocks", f"the label ends {apart_s:+.1f} s after the film{hint}", "check the frame rate in the film")
    elif samples is not None and samples != frames:
        add("stretched", f"{samples} samples for {frames} frames, and no clock", "was the label cut? Then leave it out")
    if reached.sum() > 1:
        found += _check_wave(recording, recording.bvp[reached].astype(np.float64), recording.timestamps_s[reached])
    return found


def _check_wave(
    recording: Recording, bvp: npt.NDArray[np.float64], times_s: npt.NDArray[np.float64]
) -> list[LabelFinding]:
    flat_s = _longest_line_s(bvp, times_s)
    if flat_s > _FLAT_S:
        what = f"the label is a straight line for {flat_s:.1f} s"
        return [LabelFinding("flat", recording.name, what, "the sensor lost contact, or samples are missing: cut it")]
    fs = (len(times_s) - 1) / (times_s[-1] - times_s[0])
    if len(bvp) > 5 * fs and fs > 2 * _SHAPE_HZ[1] and slope_skewness(bvp, fs) < _INVERTED:
        what = "the wave rises slowly and falls fast, which blood does not"
        return [LabelFinding("inverted", recording.name, what, "negate the label")]
    return []


def slope_skewness(bvp: npt.NDArray[np.float64], fs: float) -> float:
    """Return the skewness of a wave's slope: positive for a pulse, whose upstroke is short, negative upside down.

    Args:
        bvp: [T].
        fs: Its rate in Hz, above 12.
    """
    slope = np.diff(bandpass(z_score(bvp), fs, _SHAPE_HZ, order=2))
    slope -= slope.mean()
    return float((slope**3).mean() / (slope**2).mean() ** 1.5)


def _longest_line_s(bvp: npt.NDArray[np.float64], times_s: npt.NDArray[np.float64]) -> float:
    """How long the longest piece is in which the slope does not change."""
    slope = np.diff(bvp) / np.diff(times_s)
    bends = np.abs(np.diff(slope)) > 1e-4 * max(float(np.abs(slope).max()), 1e-12)
    corners = np.concatenate([[0], np.flatnonzero(bends) + 1, [len(bvp) - 1]])
    return float(np.diff(times_s[corners]).max())


def label_lag(clip: Clip) -> LabelLag:
    """Estimate how much later the reference is than the skin, by correlating it with POS within half a second.

    A pulse repeats, so a lag beyond half a beat cannot be told from the next beat. A pulse oximeter on a finger is late
    by some tens to hundreds of milliseconds.

    Args:
        clip: The clip; its longest stretch with a face is taken.

    Returns:
        The lag; both values are NaN where that stretch is shorter than 5 s, or one of the two is flat in it.
    """
    seen = _longest_with_face(clip)
    traces, bvp = clip.traces[seen], clip.bvp[seen]
    if len(bvp) < _LEAST_S * clip.fs or np.ptp(bvp) == 0 or (np.ptp(traces, axis=0) == 0).all():
        return LabelLag(float("nan"), float("nan"))
    skin, label = (z_score(bandpass(wave, clip.fs, _PULSE_HZ)) for wave in (pos(traces, clip.fs), bvp))
    most = int(_MOST_LAG_S * clip.fs)
    middle = skin[most : len(skin) - most]
    shifted = np.lib.stride_tricks.sliding_window_view(label, len(middle))  # row k: the label, k - most frames later
    correlation = z_score(shifted) @ z_score(middle) / len(middle)
    best = int(correlation.argmax())
    return LabelLag((best - most) / clip.fs, float(correlation[best]))


def _longest_with_face(clip: Clip) -> slice:
    edges = np.flatnonzero(np.diff(clip.has_face, prepend=False, append=False)).reshape(-1, 2)
    if not len(edges):
        return slice(0, 0)
    begin, end = edges[np.argmax(edges[:, 1] - edges[:, 0])].tolist()
    return slice(begin, end)

"""Fits the confidence of an exported model on validation clips: which readings were right, and how they looked."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from robustvision.core.errors import InputError
from robustvision.core.runtime.progress import track
from robustvision.rppg.classical import fill_gaps
from robustvision.rppg.confidence import DEFAULT, LIVE, RIGHT_BPM, Confidence, fit_confidence, picture_quality
from robustvision.rppg.data.recording import Clip
from robustvision.rppg.evaluation import Predictor
from robustvision.rppg.judgement import judge_pulse

Float64 = npt.NDArray[np.float64]


def judge_clips(
    predict: Predictor, clips: Sequence[Clip], *, second_method: str = "pos", quiet: bool = False
) -> tuple[Float64, Float64]:
    """Judge the windows of clips as the live estimator judges its last ten seconds.

    Args:
        predict: Gives the wave of a clip.
        clips: With a reference; windows without a face or without a pulse in the reference are left out.
        second_method: The classical method whose opinion is one of the signals.
        quiet: No progress.

    Returns:
        Signals [N, S], and the errors of the heart rates in bpm [N], infinite where the wave holds no pulse.
    """
    assert LIVE.window_s is not None
    signals, errors = [], []
    for clip in track(clips, "judging readings", quiet=quiet):
        wave, picture = predict(clip), picture_quality(clip.frames)
        size = round(LIVE.window_s * clip.fs)
        for start in range(0, len(clip) - size + 1, size):
            span = slice(start, start + size)
            reference = float(LIVE.heart_rate(LIVE.clean(clip.bvp[span], clip.fs), clip.fs))
            if not (clip.has_face[span].all() and np.isfinite(reference)):
                continue
            judgement = judge_pulse(
                wave[span],
                fill_gaps(clip.traces[span], clip.fs),
                picture[span],
                clip.fs,
                lost=0.0,
                frames_per_s=clip.fs,
                confidence=DEFAULT,
                second_method=second_method,
            )
            signals.append(judgement.signals.vector())
            errors.append(np.inf if judgement.raw_bpm is None else abs(judgement.raw_bpm - reference))
    if not errors:
        raise InputError(f"none of {len(clips)} clips has a window of {LIVE.window_s:g} s with a face and a pulse")
    return np.array(signals), np.array(errors)


def calibrate_confidence(
    predict: Predictor, clips: Sequence[Clip], calibrated_on: str, *, quiet: bool = False
) -> Confidence:
    """Fit the coefficients of the confidence.

    Args:
        predict: Gives the wave of a clip.
        clips: Validation clips, easy and hard ones.
        calibrated_on: Which data these are, for the manifest.
        quiet: No progress.

    Returns:
        The confidence.

    Raises:
        InputError: All readings are right, or all wrong.
    """
    signals, errors = judge_clips(predict, clips, quiet=quiet)
    described = f"{calibrated_on}: {len(errors)} readings, {np.mean(errors < RIGHT_BPM):.0%} within {RIGHT_BPM:g} bpm"
    return fit_confidence(signals, errors < RIGHT_BPM, calibrated_on=described)

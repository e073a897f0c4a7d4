"""From a film, a folder of pictures or a camera to heart rates, as it goes."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy.typing as npt

from robustvision.core.errors import InputError
from robustvision.core.runtime.video import open_video
from robustvision.rppg.pipeline import PulseEstimator, PulseResult


def estimate_video(
    source: str | os.PathLike[str] | int,
    estimator: PulseEstimator,
    *,
    fps: float | None = None,
    every_s: float = 1.0,
    boxes_xywh: Sequence[npt.ArrayLike] | None = None,
) -> Iterator[PulseResult]:
    """Estimate the heart rate over a film or a camera, as it goes.

    Args:
        source: A video file, a folder of images, or the number of a camera.
        estimator: Is reset first.
        fps: Frames per second of a folder of images, which has no clock.
        every_s: Seconds from one result to the next.
        boxes_xywh: [T, 4] the face in each frame, NaN where there is none; None looks for it.

    Yields:
        A result every ``every_s``, and one after the last frame.

    Raises:
        InputError: The source cannot be read, or there are fewer boxes than frames.
    """
    if not every_s > 0:
        raise InputError(f"every_s is {every_s}: give the seconds between two results")
    estimator.reset()
    next_s, is_estimated, is_new = every_s, False, False
    with open_video(source, fps=fps) as video:
        for frame in video:
            if boxes_xywh is not None and frame.index >= len(boxes_xywh):
                raise InputError(f"{video.name} has more frames than the {len(boxes_xywh)} boxes: give one a frame")
            is_estimated |= frame.is_time_estimated
            estimator.push(frame.image, frame.timestamp_s, None if boxes_xywh is None else boxes_xywh[frame.index])
            is_new = frame.timestamp_s < next_s
            if not is_new:
                next_s = frame.timestamp_s + every_s
                yield _with_clock(estimator.result(), is_estimated)
    if is_new:
        yield _with_clock(estimator.result(), is_estimated)


def _with_clock(result: PulseResult, is_estimated: bool) -> PulseResult:
    if not is_estimated:
        return result
    note = "the source gives no times, they are counted from its frame rate: if that is wrong, so is the heart rate"
    return replace(result, reasons=(*result.reasons, note))

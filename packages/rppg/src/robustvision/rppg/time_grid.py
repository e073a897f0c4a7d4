"""From frames at the times that a camera gave them to samples on a uniform grid, as they come."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from robustvision.core.errors import InputError

UInt8 = npt.NDArray[np.uint8]

MAX_GAP_S = 0.25
"""Across a longer pause between two frames nothing is interpolated."""

LONGEST_PAUSE_S = 60.0
"""A longer one is a fault of the clock or of its unit, and would fill the memory with empty samples."""

_SNAP = 0.02  # a frame this close to a grid point, in steps, is taken as it is


@dataclass(frozen=True, slots=True)
class Sample:
    """One point of the grid.

    Attributes:
        time_s: Its time.
        crop: uint8 [S, S, 3]; None where there is no face.
        track: Number of the face's track; -1 where there is none.
        between: The crops of the frames before and after it, and the weight of the second; a frame that is taken as
            it is stands for both. None where there is no face.
    """

    time_s: float
    crop: UInt8 | None
    track: int
    between: tuple[UInt8, UInt8, float] | None


_EMPTY = (None, -1, None)


class TimeGrid:
    """Turns frames into samples at ``start + k / fs``; it remembers one frame.

    Args:
        fs: Samples a second.
    """

    def __init__(self, fs: float) -> None:
        self._fs = fs
        self._start_s = 0.0
        self._count = 0
        self._last: Sample | None = None

    def push(self, timestamp_s: float, crop: UInt8 | None, track: int) -> list[Sample]:
        """Take a frame; return the samples that it completes, which lie at or before its time.

        Args:
            timestamp_s: The frame's time. A frame with the time of the one before is left out.
            crop: uint8 [S, S, 3]; None where there is no face. It is not copied.
            track: Number of the face's track.

        Raises:
            InputError: The time is not finite, before the last one, or more than `LONGEST_PAUSE_S` after it.
        """
        before = self._last
        if not is_later(timestamp_s, None if before is None else before.time_s):
            return []
        frame = Sample(timestamp_s, *(_EMPTY if crop is None else (crop, track, (crop, crop, 0.0))))
        self._last = frame
        if before is None:
            self._start_s, self._count = timestamp_s, 1
            return [frame]
        if timestamp_s - before.time_s > LONGEST_PAUSE_S:
            raise InputError(
                f"there is no frame from {before.time_s:.3f} s to {timestamp_s:.3f} s: cut the film there, or mend its "
                "times (they are in seconds)"
            )
        reached = math.floor((timestamp_s - self._start_s) * self._fs + _SNAP)
        samples = [
            _between(before, frame, self._start_s + k / self._fs, _SNAP / self._fs)
            for k in range(self._count, reached + 1)
        ]
        self._count = max(self._count, reached + 1)
        return samples


def is_later(timestamp_s: float, before_s: float | None) -> bool:
    """Say whether a frame comes after the one before; a duplicate does not.

    Args:
        timestamp_s: The frame's time.
        before_s: The time of the frame before; None for the first.

    Raises:
        InputError: The time is not finite, or runs backwards.
    """
    if not math.isfinite(timestamp_s):
        raise InputError(f"a frame's time is {timestamp_s}: give seconds")
    if before_s is not None and timestamp_s < before_s:
        raise InputError(
            f"time runs backwards, from {before_s:.6f} s to {timestamp_s:.6f} s: give frames in order, with the times "
            "at which they were taken"
        )
    return before_s is None or timestamp_s > before_s


def _between(before: Sample, after: Sample, time_s: float, snap_s: float) -> Sample:
    for frame in (after, before):
        if abs(frame.time_s - time_s) <= snap_s:
            return Sample(time_s, frame.crop, frame.track, frame.between)
    gap_s = after.time_s - before.time_s
    if gap_s > MAX_GAP_S or before.track != after.track:
        return Sample(time_s, *_EMPTY)
    if before.crop is None or after.crop is None:
        return Sample(time_s, *_EMPTY)
    weight = (time_s - before.time_s) / gap_s
    mixed = before.crop + weight * (after.crop.astype(np.float32) - before.crop)
    return Sample(time_s, np.rint(mixed).astype(np.uint8), after.track, (before.crop, after.crop, weight))

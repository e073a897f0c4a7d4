"""From recordings to clips, in several processes, kept on disk for the next time."""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Iterable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt

from robustvision.core.errors import InputError
from robustvision.core.runtime.cores import available_cores
from robustvision.core.runtime.files import make_folder, write_atomically
from robustvision.core.runtime.parallel import run_ordered
from robustvision.rppg.data.recording import Clip, Recording
from robustvision.rppg.preprocessing import Preprocessing, prepare
from robustvision.rppg.tracking import Detector

PREPARATION_VERSION = 1
"""Raised whenever the same recording gives other clips, so that what is kept on disk is not taken for it."""

_LEAST_SHARE = 0.95  # of the frames that a film states; the count in a header is sometimes an estimate


Arrays = dict[str, npt.NDArray[Any]]


def prepare_clips(
    recordings: Iterable[Recording],
    preprocessing: Preprocessing | None = None,
    *,
    detector: Detector | None = None,
    workers: int | None = None,
    cache_dir: str | Path | None = None,
    quiet: bool = False,
) -> list[Clip]:
    """Decode recordings, cut out the faces, and bring frames and labels onto one uniform grid of times.

    Frames that the label does not reach are left out. A frame without a face stays, and says so in ``has_face``; see
    ``Clip.face_share``.

    Args:
        recordings: The recordings.
        preprocessing: Size and frame rate of the clips; ``Preprocessing()`` where None.
        detector: Finds the faces of recordings without boxes; it is used in this process alone. None takes core's
            ``FaceDetector``, one in each process.
        workers: Number of processes; as many as there are processors where None. A script that prepares in several
            calls this under ``if __name__ == "__main__":``.
        cache_dir: A folder in which the clips are kept for the next time; it may be shared, and is made if missing. Of
            a detector of your own it knows the class alone: empty it when you change a threshold.
        quiet: No progress.

    Returns:
        The clips, in the order of the recordings.

    Raises:
        InputError: There are no recordings, a film cannot be read or ends early, or a label reaches less than two
            frames or has gaps.
        MissingExtraError: Faces have to be found, and no detector is installed.
    """
    items = list(recordings)
    if not items:
        raise InputError("there are no recordings to prepare: check the folder and the split")
    job = partial(
        _cached_clip,
        preprocessing=preprocessing or Preprocessing(),
        detector=detector,
        folder=None if cache_dir is None else make_folder(cache_dir),
    )
    most = 1 if detector is not None else available_cores() if workers is None else workers
    return run_ordered(job, items, workers=min(most, len(items)), label="preparing clips", quiet=quiet)


def _cached_clip(
    recording: Recording, *, preprocessing: Preprocessing, detector: Detector | None, folder: Path | None
) -> Clip:
    if folder is None:
        return _as_clip(recording, preprocessing, _prepare(recording, preprocessing, detector))
    path = folder / f"clip-{_key(recording, preprocessing, detector)}.npz"
    with suppress(OSError, ValueError, KeyError, BadZipFile), np.load(path) as stored:  # a damaged file: made anew
        return _as_clip(recording, preprocessing, dict(stored))
    arrays = _prepare(recording, preprocessing, detector)
    with write_atomically(path) as temporary:
        np.savez(temporary, **arrays)  # type: ignore[arg-type]
    return _as_clip(recording, preprocessing, arrays)


def _as_clip(recording: Recording, preprocessing: Preprocessing, arrays: Arrays) -> Clip:
    return Clip(
        name=recording.name,
        subject=recording.subject,
        conditions=recording.conditions,
        fs=preprocessing.fs,
        frames=arrays["frames"],
        traces=arrays["traces"],
        has_face=arrays["has_face"],
        bvp=arrays["bvp"],
        beats_s=arrays.get("beats_s"),
    )


def _key(recording: Recording, preprocessing: Preprocessing, detector: Detector | None) -> str:
    """A hash of all that a clip is made from; of a film on disk its name, size and time of change, not its bytes."""
    digest = hashlib.sha256(repr((PREPARATION_VERSION, recording.name, preprocessing, type(detector))).encode())
    digest.update(pickle.dumps(recording.frames))
    for path in getattr(recording.frames, "args", ()):
        if isinstance(path, Path):
            status = path.stat()
            digest.update(repr((str(path.resolve()), status.st_size, status.st_mtime_ns)).encode())
    for array in (recording.timestamps_s, recording.bvp, recording.beats_s, recording.boxes_xywh):
        digest.update(b"-" if array is None else np.ascontiguousarray(array).data)
    return digest.hexdigest()[:24]


def _prepare(recording: Recording, preprocessing: Preprocessing, detector: Detector | None) -> Arrays:
    first, last = _labelled(recording)
    boxes = None if recording.boxes_xywh is None else recording.boxes_xywh[first : last + 1]
    film = prepare(_timed(recording, first, last), preprocessing, boxes_xywh=boxes, detector=detector)
    grid_s = film.start_s + np.arange(len(film.frames)) / film.fs
    bvp = np.interp(grid_s, recording.timestamps_s[first : last + 1], recording.bvp[first : last + 1])
    arrays: Arrays = {"frames": film.frames, "traces": film.traces, "has_face": film.has_face}
    arrays["bvp"] = bvp.astype(np.float32)
    if recording.beats_s is not None:
        beats_s = recording.beats_s - film.start_s
        arrays["beats_s"] = beats_s[(beats_s >= 0) & (beats_s <= grid_s[-1] - film.start_s)]
    return arrays


def _labelled(recording: Recording) -> tuple[int, int]:
    """The first and the last frame that the label reaches."""
    reached = np.flatnonzero(np.isfinite(recording.bvp))
    if len(reached) < 2:
        raise InputError(f"{recording.name}: its label reaches {len(reached)} of its frames: check the clocks of both")
    first, last = int(reached[0]), int(reached[-1])
    if last - first + 1 != len(reached):
        gap = first + int(np.argmin(np.isfinite(recording.bvp[first:])))
        raise InputError(f"{recording.name}: its label has no value at frame {gap}, amidst others: cut the recording")
    return first, last


def _timed(recording: Recording, first: int, last: int) -> Iterator[tuple[npt.NDArray[np.uint8], float]]:
    count, stated = 0, len(recording.timestamps_s)
    for image, time_s in zip(recording.frames(), recording.timestamps_s.tolist(), strict=False):
        if first <= count <= last:
            yield image, time_s
        count += 1
        if count > last:
            return
    if count < _LEAST_SHARE * stated:
        raise InputError(f"{recording.name} ends after {count} of its {stated} frames: copy the film again")

"""Data sets by their origin in one call, for recipes: `dataset=dict(type=synthetic_dataset, num_recordings=300)`."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from robustvision.core.errors import InputError
from robustvision.rppg.data.dataset import Augmentation, PulseDataset
from robustvision.rppg.data.mmpd import read_mmpd
from robustvision.rppg.data.prepare import prepare_clips
from robustvision.rppg.data.pure import read_pure
from robustvision.rppg.data.recording import Clip
from robustvision.rppg.data.scamps import read_scamps
from robustvision.rppg.data.splits import Part, split_recordings
from robustvision.rppg.data.ubfc import read_ubfc
from robustvision.rppg.preprocessing import Preprocessing
from robustvision.rppg.synthetic import SyntheticPulse

READERS = {"pure": read_pure, "ubfc": read_ubfc, "mmpd": read_mmpd, "scamps": read_scamps}
"""Readers by the name of the data set."""


def synthetic_dataset(
    num_recordings: int,
    *,
    scenarios: Sequence[str] = ("still",),
    skin_types: Sequence[int] = (1, 2, 3),
    split: str = "train",
    seed: int = 0,
    seconds: float = 10.0,
    fs: float = 30.0,
    hr_range_bpm: Sequence[float] = (50.0, 130.0),
    size_px: int = 36,
    frames_per_sample: int = 160,
    augmentation: Augmentation | dict[str, Any] | None = None,
    augmentation_seed: int = 0,
    workers: int | None = None,
    cache_dir: str | Path | None = None,
    quiet: bool = False,
) -> PulseDataset:
    """Render a data set into memory.

    Args:
        num_recordings: Number of films.
        scenarios: What happens in them, see ``synthetic.SCENARIOS``.
        skin_types: Fitzpatrick types, 1 to 6.
        split: "train", "validation" or "test"; nobody of one is in another.
        seed: Seed of people and films.
        seconds: Length of each film.
        fs: Frames a second.
        hr_range_bpm: Lowest and highest heart rate.
        size_px: Side of the crops.
        frames_per_sample: Frames of a window.
        augmentation: What is changed in training, an ``Augmentation`` or its fields; None for evaluation.
        augmentation_seed: Seed of the augmentation.
        workers: Processes that render; as many as there are processors where None.
        cache_dir: A folder in which clips are kept for the next time.
        quiet: No progress.

    Returns:
        The data set.
    """
    low, high = hr_range_bpm
    films = SyntheticPulse(
        num_recordings,
        scenarios=tuple(scenarios),
        skin_types=tuple(skin_types),
        split=split,
        seed=seed,
        seconds=seconds,
        fs=fs,
        hr_range_bpm=(low, high),
    )
    clips = _rendered(films, size_px, workers, cache_dir, quiet)
    return PulseDataset(clips, frames_per_sample, augmentation=augmentation, seed=augmentation_seed)


@lru_cache(maxsize=4)
def _rendered(
    films: SyntheticPulse, size_px: int, workers: int | None, cache_dir: str | Path | None, quiet: bool
) -> list[Clip]:
    """Rendered once a process: a run asks again for the report and the calibration, a study for each of its seeds."""
    return films.clips(size_px, workers=workers, cache_dir=cache_dir, quiet=quiet)


def recordings_dataset(
    kind: str,
    root: str | Path,
    *,
    split: str,
    part: Part,
    published: bool = False,
    size_px: int = 36,
    enlarge: float = 1.5,
    fs: float = 30.0,
    frames_per_sample: int = 160,
    augmentation: Augmentation | dict[str, Any] | None = None,
    augmentation_seed: int = 0,
    workers: int | None = None,
    cache_dir: str | Path | None = None,
    quiet: bool = False,
) -> PulseDataset:
    """Open one part of a data set on disk.

    Args:
        kind: "pure", "ubfc", "mmpd" or "scamps".
        root: Its folder.
        split: A name in ``SPLITS``.
        part: "train", "validation" or "test".
        published: Whether a validation on the test subjects is wanted, see ``split_recordings``.
        size_px: Side of the crops.
        enlarge: How much larger than the face box a crop is.
        fs: Frames a second of the clips, whatever the films have.
        frames_per_sample: Frames of a window.
        augmentation: What is changed in training, an ``Augmentation`` or its fields; None for evaluation.
        augmentation_seed: Seed of the augmentation.
        workers: Processes that decode and find faces; as many as there are processors where None.
        cache_dir: A folder in which clips are kept for the next time.
        quiet: No progress.

    Returns:
        The data set.

    Raises:
        InputError: What the reader and ``split_recordings`` refuse, or no window can be used.
        MissingExtraError: No face detector is installed, or h5py is needed.
    """
    if kind not in READERS:
        raise InputError(f"data set {kind!r} is not known; choose {', '.join(READERS)}")
    form = Preprocessing(size_px=size_px, enlarge=enlarge, fs=fs)
    clips = _prepared(kind, root, split, part, published, form, workers, cache_dir, quiet)
    return PulseDataset(clips, frames_per_sample, augmentation=augmentation, seed=augmentation_seed)


@lru_cache(maxsize=4)
def _prepared(
    kind: str,
    root: str | Path,
    split: str,
    part: Part,
    published: bool,
    form: Preprocessing,
    workers: int | None,
    cache_dir: str | Path | None,
    quiet: bool,
) -> list[Clip]:
    """Prepared once a process, as above."""
    recordings = split_recordings(READERS[kind](root), split, part, published=published)
    return prepare_clips(recordings, form, workers=workers, cache_dir=cache_dir, quiet=quiet)

"""Rendered recordings: how many, of whom, in which scenarios. One by one as films, or all at once as clips."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt

from robustvision.core.errors import InputError
from robustvision.core.runtime.files import make_folder, write_atomically
from robustvision.core.runtime.opencv import cv2
from robustvision.core.runtime.parallel import run_ordered
from robustvision.rppg.data.recording import Clip, Condition, Recording
from robustvision.rppg.preprocessing import Preprocessing
from robustvision.rppg.skin import skin_mean
from robustvision.rppg.synthetic.camera import NATIVE_PX
from robustvision.rppg.synthetic.head import View
from robustvision.rppg.synthetic.paint import Face
from robustvision.rppg.synthetic.scenarios import SCENARIOS, scenario
from robustvision.rppg.synthetic.scene import Scene
from robustvision.rppg.synthetic.skin import SKIN_TYPES
from robustvision.rppg.tracking import BoxTracker

GENERATOR_VERSION = 4
"""Raised whenever the same parameters give other films."""

_STREAMS = {"train": 21, "validation": 22, "test": 23}  # nobody of one split is in another
_PERSON, _FILM = 1, 2


@dataclass(frozen=True)
class SyntheticPulse:
    """A data set of rendered recordings. Equal parameters give equal films, whatever is rendered around them.

    Scenarios and skin types take turns, so that each combination comes equally often. Heart rates are drawn
    independently of everything else, so no motion tells them.

    Args:
        num_recordings: How many films.
        scenarios: Names of `SCENARIOS`.
        skin_types: Fitzpatrick types, 1 to 6.
        split: "train", "validation" or "test"; their subjects are different ones.
        seed: Seed of people and films.
        seconds: Length of a film.
        fs: Frames a second.
        size_px: Side of the square frames; from about 128 on, detectors find the faces.
        hr_range_bpm: Lowest and highest heart rate, drawn uniformly.
        recordings_per_subject: Films of each person.
        jpeg: One quality for the compression of all films, instead of the scenario's.

    Raises:
        InputError: For values out of range.
    """

    num_recordings: int
    scenarios: tuple[str, ...] = ("still",)
    skin_types: tuple[int, ...] = (1, 2, 3)
    split: str = "train"
    seed: int = 0
    seconds: float = 10.0
    fs: float = 30.0
    size_px: int = 64
    hr_range_bpm: tuple[float, float] = (50.0, 130.0)
    recordings_per_subject: int = 1
    jpeg: int | None = None

    def __post_init__(self) -> None:
        if self.split not in _STREAMS:
            raise InputError(f"split {self.split!r} is not known; choose train, validation or test")
        for name in self.scenarios:
            scenario(name)
        if not self.scenarios or not self.skin_types or not set(self.skin_types) <= set(SKIN_TYPES):
            raise InputError(
                f"scenarios {self.scenarios}, skin_types {self.skin_types}: give at least one of each; "
                f"skin types are the numbers 1 to 6, scenarios {', '.join(SCENARIOS)}"
            )
        low, high = self.hr_range_bpm
        if not 30 <= low <= high <= 240:
            raise InputError(f"hr_range_bpm is {self.hr_range_bpm}: expected low <= high, both between 30 and 240")
        if self.num_recordings < 1 or self.recordings_per_subject < 1 or self.size_px < 16:
            raise InputError(
                f"num_recordings {self.num_recordings}, recordings_per_subject {self.recordings_per_subject}, size_px "
                f"{self.size_px}: expected at least 1, 1 and 16"
            )
        if self.jpeg is not None and not 1 <= self.jpeg <= 100:
            raise InputError(f"jpeg is {self.jpeg}: a quality lies between 1 and 100; None leaves it to the scenario")
        if not 1 <= self.fs <= 240 or not 1 <= self.seconds <= 3600:
            raise InputError(f"{self.seconds} s at {self.fs} Hz: expected 1 to 3600 s at 1 to 240 frames a second")

    def __len__(self) -> int:
        return self.num_recordings

    def __getitem__(self, index: int) -> Recording:
        """Return a recording; its frames are rendered when they are asked for, block by block."""
        if not 0 <= index < len(self):
            raise IndexError(f"recording {index} of {len(self)}")
        scene = self.scene(index)
        return Recording(
            **self._facts(index, scene),
            timestamps_s=self.time_s,
            frames=partial(_whole_frames, self, index),
            boxes_xywh=(scene.boxes * self.size_px).astype(np.float32),
        )

    def __iter__(self) -> Iterator[Recording]:
        return (self[index] for index in range(len(self)))

    @cached_property
    def time_s(self) -> npt.NDArray[np.float64]:
        """[T] times of the frames."""
        return np.arange(round(self.seconds * self.fs)) / self.fs

    def scenario(self, index: int) -> str:
        """Return the name of a recording's scenario."""
        return self.scenarios[index % len(self.scenarios)]

    def skin_type(self, index: int) -> int:
        """Return the Fitzpatrick type of who is recorded."""
        turn = self._person(index) * self.recordings_per_subject // len(self.scenarios)
        return self.skin_types[turn % len(self.skin_types)]

    def scene(self, index: int) -> Scene:
        """Return everything that a recording shows."""
        stream, person, skin_type = _STREAMS[self.split], self._person(index), self.skin_type(index)
        face = Face.sample(np.random.default_rng((stream, self.seed, person, _PERSON)), skin_type)
        key = (stream, self.seed, index, _FILM)
        rate = np.random.default_rng((*key, 0)).uniform(*self.hr_range_bpm)
        happens = scenario(self.scenario(index))
        if self.jpeg is not None:
            happens = replace(happens, jpeg=(self.jpeg, self.jpeg))
        return Scene.sample(key, face, happens, skin_type=skin_type, heart_rate_bpm=rate, time_s=self.time_s)

    def fingerprint(self) -> str:
        """Return a hash of the parameters and the generator's version."""
        recipe = json.dumps([GENERATOR_VERSION, asdict(self)], sort_keys=True)
        return hashlib.sha256(recipe.encode()).hexdigest()[:16]

    def clip(self, index: int, size_px: int = 36) -> Clip:
        """Render one recording as a clip.

        Only the crop is rendered, at its own size, instead of shrinking it from a frame of 480 pixels; box, tracking,
        edges and skin are those of ``preprocessing``.

        Args:
            index: Which.
            size_px: Side of the crop.

        Returns:
            The clip.
        """
        scene, preprocessing = self.scene(index), Preprocessing(size_px=size_px, fs=self.fs)
        frames = np.concatenate(list(scene.film(_crop_view(scene, preprocessing))))
        return Clip(
            **self._facts(index, scene),
            fs=self.fs,
            frames=frames,
            traces=skin_mean(frames),
            has_face=np.ones(len(frames), bool),
        )

    def clips(
        self,
        size_px: int = 36,
        workers: int | None = None,
        cache_dir: str | Path | None = None,
        quiet: bool = False,
    ) -> list[Clip]:
        """Render every recording as a clip.

        A clip of 300 frames took 0.06 s of one core at 16 px, 0.10 s at 36, 0.15 s at 48 and 0.25 s at 72.

        Args:
            size_px: Side of the crops.
            workers: Number of processes; as many as there are processors where None. A script that renders in several
                calls this under ``if __name__ == "__main__":``.
            cache_dir: A folder in which the clips are kept for the next time; it may be shared, and is made if missing.
            quiet: No progress.

        Returns:
            The clips, in order; the same bytes for any number of workers.
        """
        job = partial(_cached_clip, self, size_px, None if cache_dir is None else make_folder(cache_dir))
        is_small = len(self) < 8
        return run_ordered(
            job,
            range(len(self)),
            workers=workers,
            backend="serial" if is_small else "process",
            label="rendering clips",
            quiet=quiet,
        )

    def _person(self, index: int) -> int:
        return index // self.recordings_per_subject

    def _facts(self, index: int, scene: Scene) -> dict[str, Any]:
        """What a recording and its clip have in common."""
        pulse, time_s = scene.pulse, self.time_s
        conditions: dict[str, Condition] = {
            "scenario": self.scenario(index),
            "skin_type": self.skin_type(index),
            "heart_rate_bpm": pulse.heart_rate_bpm(self.seconds) if pulse else 0.0,
            "amplitude": scene.amplitude if pulse else 0.0,
            "jpeg": scene.camera.jpeg,
        }
        beats_s = pulse.beats_s if pulse else np.zeros(0)
        return {
            "name": f"{self.split}-{self.seed}-{index:04d}",
            "subject": f"{self.split}-{self.seed}-{self._person(index):04d}",
            "conditions": conditions,
            "bvp": (pulse.wave(time_s) if pulse else np.zeros(len(time_s))).astype(np.float32),
            "beats_s": beats_s[(beats_s >= 0) & (beats_s <= time_s[-1])],
        }


def _whole_frames(recordings: SyntheticPulse, index: int) -> Iterator[npt.NDArray[np.uint8]]:
    scene = recordings.scene(index)
    for block in scene.film(View.whole(len(scene.time_s), recordings.size_px)):
        yield from block


def _crop_view(scene: Scene, preprocessing: Preprocessing) -> View:
    """What the crops of the film show, had it been taken with the camera's own pixels."""
    frame = np.zeros((NATIVE_PX, NATIVE_PX, 3), np.uint8)
    tracker, edges = BoxTracker(), []
    for time_s, box in zip(scene.time_s, scene.boxes * NATIVE_PX, strict=True):
        found = tracker.update(frame, float(time_s), box, is_given=True).box_xywh
        edge = None if found is None else preprocessing.pixel_edges(frame.shape, found)
        if edge is None:
            raise AssertionError("a rendered face is always in the frame")
        edges.append(edge)
    left, top, right, bottom = np.array(edges, np.float64).T / NATIVE_PX
    return View(left, top, right - left, bottom - top, preprocessing.size_px)


def _cached_clip(recordings: SyntheticPulse, size_px: int, folder: Path | None, index: int) -> Clip:
    if folder is None:
        return _render(recordings, size_px, index)
    recipe = {**asdict(recordings), "num_recordings": index, "size_px": size_px}  # the whole frame's size is no matter
    key = hashlib.sha256(json.dumps([GENERATOR_VERSION, recipe], sort_keys=True).encode()).hexdigest()[:24]
    path = folder / f"pulse-{key}.npz"
    with suppress(OSError, ValueError, KeyError, BadZipFile), np.load(path) as stored:  # a damaged file: rendered anew
        has_face = np.ones(len(stored["frames"]), bool)
        facts = recordings._facts(index, recordings.scene(index))
        return Clip(**facts, fs=recordings.fs, frames=stored["frames"], traces=stored["traces"], has_face=has_face)
    clip = _render(recordings, size_px, index)
    with write_atomically(path) as temporary:
        np.savez(temporary, frames=clip.frames, traces=clip.traces)
    return clip


def _render(recordings: SyntheticPulse, size_px: int, index: int) -> Clip:
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)  # the processes share the cores
    try:
        return recordings.clip(index, size_px)
    finally:
        cv2.setNumThreads(threads)

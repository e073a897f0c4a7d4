"""Rendered recordings on disk: as PURE, UBFC-rPPG and MMPD, which the readers of real data read, or as plain films."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import scipy.io

from robustvision.core.errors import InputError
from robustvision.core.runtime.files import write_folder_atomically
from robustvision.core.runtime.images import write_image
from robustvision.core.runtime.parallel import run_ordered
from robustvision.rppg.data.recording import Recording
from robustvision.rppg.synthetic.film import write_film
from robustvision.rppg.synthetic.source import GENERATOR_VERSION, SyntheticPulse

RECIPE_NAME = "synthetic.json"
"""The file that marks such a tree: the parameters it was made with."""

_OXIMETER_HZ = 60.0
_EPOCH_NS = 1_392_643_993_000_000_000  # PURE counts nanoseconds from 1970; any start will do
_LIGHT = {"dark": "LED-low", "tint": "Incandescent", "light": "Nature"}
_MOTION = {"rotate": "Rotation", "talk": "Talking", "walk": "Walking"}


def synthesize(
    out: str | Path,
    recordings: SyntheticPulse,
    *,
    layout: str = "ubfc",
    workers: int | None = None,
    quiet: bool = False,
) -> dict[str, Any]:
    """Write a data set to disk.

    Beside the layout's own files lies ``synthetic.json``, the parameters.

    Args:
        out: The folder to write; it must not exist, be empty, or be such a tree, which is then replaced.
        recordings: What to write; frames of 128 pixels or more, so that detectors find the faces.
        layout: "pure" (PNG and JSON), "ubfc" (raw AVI and text), "mmpd" (MAT files), or "film" (MP4, and the pulse
            waves of those that have one in ``reference.csv``, as ``evaluate --videos`` takes both).
        workers: Processes that render; as many as there are processors where None.
        quiet: No progress.

    Returns:
        What was written: folder, layout, recordings, subjects.

    Raises:
        InputError: An unknown layout, a folder that holds something else, or several films of a subject for UBFC.
        MissingExtraError: The films of UBFC and "film" need PyAV.
    """
    if layout not in _WRITERS:
        raise InputError(f"layout is {layout!r}; choose {', '.join(_WRITERS)}")
    if layout == "ubfc" and recordings.recordings_per_subject > 1:
        raise InputError("UBFC-rPPG has one film a subject: set recordings_per_subject to 1, or choose another layout")
    with write_folder_atomically(out, marker=RECIPE_NAME) as folder:
        run_ordered(
            partial(_write_one, recordings, folder, layout),
            range(len(recordings)),
            workers=workers,
            backend="serial" if len(recordings) < 4 else "process",
            label="writing recordings",
            quiet=quiet,
        )
        if layout == "film":
            _write_reference(recordings, folder / "reference.csv")
        recipe = {"generator": GENERATOR_VERSION, "layout": layout, **asdict(recordings)}
        (folder / RECIPE_NAME).write_text(json.dumps(recipe, indent=2) + "\n", encoding="utf-8")
    subjects = -(-len(recordings) // recordings.recordings_per_subject)
    return {"folder": str(out), "layout": layout, "recordings": len(recordings), "subjects": subjects}


def _write_one(recordings: SyntheticPulse, folder: Path, layout: str, index: int) -> None:
    subject, take = divmod(index, recordings.recordings_per_subject)
    _WRITERS[layout](recordings, index, folder, subject + 1, take + 1)


def _write_pure(recordings: SyntheticPulse, index: int, folder: Path, subject: int, take: int) -> None:
    recording, scene = recordings[index], recordings.scene(index)
    name = f"{subject:02d}-{take:02d}"
    images = folder / name / name
    images.mkdir(parents=True)
    stamps = _EPOCH_NS + np.round(recording.timestamps_s * 1e9).astype(np.int64)
    for stamp, frame in zip(stamps, recording.frames(), strict=True):
        write_image(images / f"Image{stamp}.png", frame)
    time_s = np.arange(0, recording.timestamps_s[-1] + 1 / _OXIMETER_HZ, 1 / _OXIMETER_HZ)
    wave = np.zeros(len(time_s)) if scene.pulse is None else scene.pulse.wave(time_s)
    package = [
        {
            "Timestamp": int(_EPOCH_NS + round(second * 1e9)),
            "Value": {"waveform": _eight_bit(value), "pulseRate": rate, "o2saturation": 98, "signalStrength": 4},
        }
        for second, value, rate in zip(time_s, wave, _rates(recording, len(time_s)), strict=True)
    ]
    content = {"/FullPackage": package, "/Image": [{"Timestamp": int(stamp)} for stamp in stamps]}
    (folder / name / f"{name}.json").write_text(json.dumps(content), encoding="utf-8")


def _eight_bit(value: float) -> int:
    return round(64 + 48 * value)


def _rates(recording: Recording, count: int) -> list[int]:
    return [round(float(recording.conditions["heart_rate_bpm"]))] * count


def _write_ubfc(recordings: SyntheticPulse, index: int, folder: Path, subject: int, take: int) -> None:
    recording = recordings[index]
    place = folder / f"subject{subject}"
    place.mkdir()
    write_film(recording, place / "vid.avi", codec="raw")
    rows = (recording.bvp, _rates(recording, len(recording.bvp)), recording.timestamps_s)
    lines = ("  ".join(f"{value: .7e}" for value in row) + "\n" for row in rows)
    (place / "ground_truth.txt").write_text("".join(lines), encoding="utf-8")


def _write_mmpd(recordings: SyntheticPulse, index: int, folder: Path, subject: int, take: int) -> None:
    recording = recordings[index]
    place = folder / f"subject{subject}"
    place.mkdir(exist_ok=True)
    scenario = recordings.scenario(index)
    content = {
        "video": np.stack(list(recording.frames())).astype(np.float32) / np.float32(255),
        "GT_ppg": recording.bvp[None].astype(np.float64),
        "light": _LIGHT.get(scenario, "LED-high"),
        "motion": _MOTION.get(scenario, "Stationary"),
        "exercise": "False",
        "skin_color": recordings.skin_type(index),
        "gender": "female" if subject % 2 else "male",
        "glasser": "False",
        "hair_cover": "False",
        "makeup": "False",
    }
    scipy.io.savemat(place / f"p{subject}_{take - 1}.mat", content)


def _write_film(recordings: SyntheticPulse, index: int, folder: Path, subject: int, take: int) -> None:
    write_film(
        recordings[index], folder / _film_name(recordings, index), quality=0
    )  # what more loss does is a scenario


def _film_name(recordings: SyntheticPulse, index: int) -> str:
    subject, take = divmod(index, recordings.recordings_per_subject)
    return f"subject{subject + 1}-{take + 1}.mp4"


def _write_reference(recordings: SyntheticPulse, path: Path) -> None:
    with open(path, "w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(("video", "timestamp_s", "ppg"))
        for index in range(len(recordings)):
            recording, name = recordings[index], _film_name(recordings, index)
            if recordings.scene(index).pulse is not None:
                times_s = recording.timestamps_s - recording.timestamps_s[0]
                values = zip(times_s, recording.bvp, strict=True)
                rows.writerows((name, f"{time_s:.6f}", f"{value:.7e}") for time_s, value in values)


_WRITERS: dict[str, Callable[[SyntheticPulse, int, Path, int, int], None]] = {
    "pure": _write_pure,
    "ubfc": _write_ubfc,
    "mmpd": _write_mmpd,
    "film": _write_film,
}

"""Reading PURE: PNG frames whose names are their times, and a JSON file with a pulse oximeter on the same clock.

The layout is ``NN-MM/NN-MM/Image<nanoseconds>.png`` beside ``NN-MM/NN-MM.json``, subject NN doing task MM.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from robustvision.core.errors import InputError
from robustvision.core.runtime.images import read_image
from robustvision.rppg.data.folders import numbered
from robustvision.rppg.data.labels import label_at
from robustvision.rppg.data.recording import Recording

PURE_TASKS = (
    "steady",
    "talking",
    "slow translation",
    "fast translation",
    "small rotation",
    "medium rotation",
)
"""Tasks 01 to 06."""

_LEAST_SHARE = 0.95  # of the images that the JSON file lists


def read_pure(root: str | Path) -> list[Recording]:
    """Read PURE. Only the names of the images and the JSON files are read; images are decoded when asked for.

    Args:
        root: The folder with ``01-01``, ``01-02`` and so on.

    Returns:
        The recordings, sorted by subject and task. The wave is read at the times of the frames, by the clock of both;
        frames that it does not reach have NaN.

    Raises:
        InputError: Something is missing, damaged, or contradicts itself; the message names the file.

    References:
        Stricker, Mueller, Gross: Non-contact video-based pulse rate measurement on a mobile service robot, RO-MAN 2014.
    """
    return [
        _read_one(folder, subject, task)
        for (subject, task), folder in numbered(Path(root), r"(\d\d)-(\d\d)", "PURE's folders 01-01, 01-02, ...")
    ]


def _read_one(folder: Path, subject: int, task: int) -> Recording:
    images = numbered(folder / folder.name, r"Image(\d+)\.png", "Image<nanoseconds>.png files")
    stamps_ns = [stamp for (stamp,), _ in images]
    file = folder / f"{folder.name}.json"
    label_ns, wave, listed = _read_json(file)
    if len(images) < _LEAST_SHARE * listed:
        raise InputError(
            f"{folder / folder.name} holds {len(images)} of the {listed} images that {file.name} lists: copy it again"
        )
    start_ns = stamps_ns[0]  # taken off while the times are whole numbers: a float64 of 1.4e18 ns has steps of 256 ns
    times_s = np.array([stamp - start_ns for stamp in stamps_ns], np.float64) / 1e9
    label_times_s = np.array([stamp - start_ns for stamp in label_ns], np.float64) / 1e9
    return Recording(
        name=folder.name,
        subject=f"{subject:02d}",
        timestamps_s=times_s,
        bvp=label_at(str(file), times_s, label_times_s, wave),
        frames=partial(_images, folder / folder.name),
        conditions={
            "task": PURE_TASKS[task - 1] if 1 <= task <= len(PURE_TASKS) else f"task {task}",
            "label_samples": len(wave),
            "label_end_s": float(label_times_s[-1]),
        },
    )


def _images(folder: Path) -> Iterator[npt.NDArray[np.uint8]]:
    for _, path in numbered(folder, r"Image(\d+)\.png", "Image<nanoseconds>.png files"):
        yield read_image(path)


def _read_json(file: Path) -> tuple[list[int], npt.NDArray[np.float64], int]:
    """Return the oximeter's times in ns, its wave, and how many images the file lists."""
    try:
        content: Any = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"cannot read {file} ({error.strerror}): PURE has it beside the folder of images") from error
    except ValueError as error:  # also text that is not UTF-8
        raise InputError(f"{file} is no JSON or is cut short ({error}): copy it again") from None
    try:
        package = content["/FullPackage"]
        times = [int(entry["Timestamp"]) for entry in package]
        wave = np.array([float(entry["Value"]["waveform"]) for entry in package], np.float64)
        return times, wave, len(content.get("/Image", []))
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise InputError(
            f"{file} is not in PURE's form ({type(error).__name__}: {error}): expected '/FullPackage', a list with "
            "Timestamp and Value.waveform"
        ) from None

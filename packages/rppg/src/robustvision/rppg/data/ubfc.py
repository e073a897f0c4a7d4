"""Reading UBFC-rPPG DATASET_2: ``subjectN/vid.avi`` and ``subjectN/ground_truth.txt`` (wave, heart rate, time)."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from robustvision.core.errors import InputError
from robustvision.core.runtime.video import open_video
from robustvision.rppg.data.folders import numbered
from robustvision.rppg.data.labels import label_at
from robustvision.rppg.data.recording import Recording


def read_ubfc(root: str | Path) -> list[Recording]:
    """Read UBFC-rPPG. Of a film only the header is read; frames are decoded when asked for.

    An AVI file has one frame rate for all frames, so frame i lies at i / rate. The wave is read there by its own times
    (line 3), whether or not it has one sample a frame; ``check_labels`` tells where the two clocks disagree.

    Args:
        root: The folder with ``subject1``, ``subject3`` and so on; the numbers have gaps.

    Returns:
        The recordings, sorted by number.

    Raises:
        InputError: Something is missing, damaged, or contradicts itself; the message names the file.

    References:
        Bobbia et al.: Unsupervised skin tissue segmentation for remote photoplethysmography, Pattern Recognition
        Letters 2019.
    """
    return [
        _read_one(folder, number)
        for (number,), folder in numbered(Path(root), r"subject(\d+)", "UBFC-rPPG's folders subject1, subject3, ...")
    ]


def _read_one(folder: Path, number: int) -> Recording:
    film, truth = folder / "vid.avi", folder / "ground_truth.txt"
    wave, _, label_times_s = _read_truth(truth)
    with open_video(film) as video:
        fps, count = video.fps_nominal, video.frame_count
    if not fps or not count:
        raise InputError(f"{film} states no frame rate or number of frames: copy it again, or convert it to AVI")
    times_s = np.arange(count) / fps
    return Recording(
        name=folder.name,
        subject=str(number),
        timestamps_s=times_s,
        bvp=label_at(str(truth), times_s, label_times_s, wave),
        frames=partial(_frames, film),
        conditions={"label_samples": len(wave), "label_end_s": float(label_times_s[-1])},
    )


def _frames(film: Path) -> Iterator[npt.NDArray[np.uint8]]:
    with open_video(film) as video:
        for frame in video:
            yield frame.image


def _read_truth(file: Path) -> list[npt.NDArray[np.float64]]:
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise InputError(f"cannot read {file} ({error.strerror}): DATASET_2 has it beside vid.avi") from error
    except UnicodeDecodeError:
        raise InputError(f"{file} is not text: copy it again") from None
    rows: list[npt.NDArray[np.float64]] = []
    for number, line in enumerate(lines, start=1):
        if line.strip():
            try:
                rows.append(np.array(line.split(), np.float64))
            except ValueError as error:
                raise InputError(f"{file}:{number}: {error}; expected numbers between blanks") from None
    if len(rows) != 3 or len({len(row) for row in rows}) != 1:
        held = ", ".join(str(len(row)) for row in rows) or "nothing"
        raise InputError(f"{file} has lines of {held} numbers; expected 3 of one length: wave, heart rate, time in s")
    return rows

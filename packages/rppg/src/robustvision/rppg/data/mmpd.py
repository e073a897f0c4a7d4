"""Reading MMPD and mini-MMPD: ``subjectS/pS_V.mat``, each with a film, a wave and the conditions it was taken under."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from robustvision.core.errors import InputError
from robustvision.rppg.data.folders import numbered
from robustvision.rppg.data.labels import label_at
from robustvision.rppg.data.mat import mat_frames, mat_shapes, read_mat, text_of
from robustvision.rppg.data.recording import Condition, Recording

MMPD_FS = 30.0
"""Hz; the files have no clock."""

_TEXTS = {"light": "light", "motion": "motion", "gender": "gender"}
_YES_OR_NO = {"exercise": "exercise", "glasser": "glasses", "hair_cover": "hair_cover", "makeup": "makeup"}
_RENAMED = {"Watching Videos": "Walking"}  # what old files call it
_LEAST_SAMPLES = 0.5  # a frame


def read_mmpd(root: str | Path) -> list[Recording]:
    """Read MMPD. Of the films only the sizes are read; a film is decoded when asked for.

    The format has a film decoded as a whole: a minute of 320 x 240 at 30 Hz takes 3.3 GB as float64, and as much again
    for each further process of ``prepare_clips``.

    Neither film nor wave has a clock. Frames are taken to come at 30 Hz, and the wave to span the film;
    ``check_labels`` tells where it has not one sample a frame.

    Args:
        root: The folder with ``subject1``, ``subject2`` and so on.

    Returns:
        The recordings, sorted by subject and clip. Conditions: "light", "motion" ('Watching Videos' of old files is
        Walking), "gender", the booleans "exercise", "glasses", "hair_cover", "makeup", and "skin_type" (Fitzpatrick, 3
        to 6); those that a file lacks are left out.

    Raises:
        InputError: Something is missing, damaged, or contradicts itself; the message names the file.

    References:
        Tang et al.: MMPD: Multi-Domain Mobile Video Physiology Dataset, EMBC 2023.
    """
    return [
        _read_one(path, subject, clip)
        for (subject,), folder in numbered(Path(root), r"subject(\d+)", "MMPD's folders subject1, subject2, ...")
        for (_, clip), path in numbered(folder, r"p(\d+)_(\d+)\.mat", f"p{subject}_0.mat, p{subject}_1.mat, ...")
    ]


def _read_one(path: Path, subject: int, clip: int) -> Recording:
    shape = mat_shapes(path).get("video")
    if shape is None or len(shape) != 4 or shape[3] != 3:
        raise InputError(f"{path} has {f'video {shape}' if shape else 'no video'}; expected video [T, H, W, 3]")
    stored = read_mat(path, ("GT_ppg", "skin_color", *_TEXTS, *_YES_OR_NO))
    if "GT_ppg" not in stored:
        raise InputError(f"{path} has no GT_ppg, the wave: copy it again")
    times_s = np.arange(shape[0]) / MMPD_FS
    return Recording(
        name=path.stem,
        subject=str(subject),
        timestamps_s=times_s,
        bvp=label_over_film(path, times_s, stored["GT_ppg"]),
        frames=partial(mat_frames, path, "video", 0),
        conditions={**_conditions(path, stored), "clip": clip, "label_samples": int(stored["GT_ppg"].size)},
    )


def label_over_film(path: Path, times_s: npt.NDArray[np.float64], wave: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """Spread a wave without a clock over a film, first sample on the first frame and last on the last.

    Raises:
        InputError: It has less than one sample in two frames.
    """
    if wave.size < max(_LEAST_SAMPLES * len(times_s), 2):
        raise InputError(f"{path} has {wave.size} samples of the wave for {len(times_s)} frames: copy it again")
    label_times_s = np.linspace(times_s[0], times_s[-1], wave.size)
    return label_at(str(path), times_s, label_times_s, wave.ravel().astype(np.float64))


def _conditions(path: Path, stored: Mapping[str, npt.NDArray[Any]]) -> dict[str, Condition]:
    conditions: dict[str, Condition] = {}
    for key, name in _TEXTS.items():
        if key in stored:
            text = text_of(stored[key])
            conditions[name] = _RENAMED.get(text, text)
    for key, name in _YES_OR_NO.items():
        if key in stored:
            text = text_of(stored[key])
            if text not in ("True", "False"):
                raise InputError(f"{path}: {key} is {text!r}; expected 'True' or 'False'")
            conditions[name] = text == "True"
    if "skin_color" in stored:
        skin = text_of(stored["skin_color"])
        if skin not in ("1", "2", "3", "4", "5", "6"):
            raise InputError(f"{path}: skin_color is {skin!r}; expected a Fitzpatrick type, 1 to 6")
        conditions["skin_type"] = int(skin)
    return conditions

"""Reading SCAMPS, rendered faces with a pulse: a ``P000001.mat`` a film, with ``RawFrames`` or ``Xsub``, and ``d_ppg``.

The order of the film's axes is RECONSTRUCTED: it is told from the file, time being first or last.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np

from robustvision.core.errors import InputError
from robustvision.rppg.data.folders import numbered
from robustvision.rppg.data.mat import mat_frames, mat_shapes, read_mat
from robustvision.rppg.data.mmpd import label_over_film
from robustvision.rppg.data.recording import Recording

SCAMPS_FS = 30.0
"""Hz [RECONSTRUCTED]; the files have no clock."""

_FILMS = ("RawFrames", "Xsub")


def read_scamps(root: str | Path) -> list[Recording]:
    """Read SCAMPS. Every film shows another face, so each is a subject of its own.

    Args:
        root: The folder with ``P000001.mat`` and so on, of MATLAB version 7.3 or 5.

    Returns:
        The recordings, sorted by number.

    Raises:
        InputError: Something is missing, damaged, or contradicts itself; the message names the file.
        MissingExtraError: The files are of version 7.3, and h5py is not installed.

    References:
        McDuff et al.: SCAMPS: Synthetics for Camera Measurement of Physiological Signals, NeurIPS 2022.
    """
    return [
        _read_one(path, number)
        for (number,), path in numbered(Path(root), r"P(\d+)\.mat", "SCAMPS's files P000001.mat, P000002.mat, ...")
    ]


def _read_one(path: Path, number: int) -> Recording:
    shapes = mat_shapes(path)
    name = next((film for film in _FILMS if film in shapes), None)
    if name is None or "d_ppg" not in shapes:
        raise InputError(f"{path} holds {', '.join(shapes) or 'nothing'}; expected {' or '.join(_FILMS)}, and d_ppg")
    shape = shapes[name]
    if len(shape) == 4 and shape[3] == 3:
        time_axis = 0
    elif len(shape) == 4 and shape[2] == 3:
        time_axis = 3
    else:
        raise InputError(f"{path}: {name} is {shape}; expected [T, H, W, 3] or [H, W, 3, T]")
    wave = read_mat(path, ("d_ppg",))["d_ppg"]
    times_s = np.arange(shape[time_axis]) / SCAMPS_FS
    return Recording(
        name=path.stem,
        subject=str(number),
        timestamps_s=times_s,
        bvp=label_over_film(path, times_s, wave),
        frames=partial(mat_frames, path, name, time_axis),
        conditions={"label_samples": int(wave.size)},
    )

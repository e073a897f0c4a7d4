"""MATLAB files, both kinds: version 5 (scipy) and version 7.3, which is HDF5 (h5py). No torch in here.

Version 7.3 is read piece by piece, version 5 cannot be: a variable of it comes as a whole.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from robustvision.core.errors import InputError, MissingExtraError

_BLOCK = 32  # frames; in version 7.3 the time may be the fastest axis, so single frames would read everything each time


def read_mat(path: Path, names: tuple[str, ...]) -> dict[str, npt.NDArray[Any]]:
    """Read small variables.

    Args:
        path: The file.
        names: The variables wanted; those that the file lacks are left out.

    Returns:
        Arrays with axes in MATLAB's order.

    Raises:
        InputError: The file is missing, damaged, or no MATLAB file.
        MissingExtraError: It is of version 7.3, and h5py is not installed.
    """
    if _is_hdf5(path):
        with _open_hdf5(path) as file:
            try:
                return {name: _from_hdf5(file[name]) for name in names if name in file}
            except (OSError, RuntimeError) as error:
                raise _damaged(path, error) from error
    return _load(path, names)


def mat_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Return the shape of each variable, in MATLAB's order, without reading any.

    Raises:
        InputError: As for ``read_mat``.
        MissingExtraError: As for ``read_mat``.
    """
    if _is_hdf5(path):
        with _open_hdf5(path) as file:
            return {name: tuple(reversed(file[name].shape)) for name in file if hasattr(file[name], "shape")}
    import scipy.io

    try:
        return {name: tuple(shape) for name, shape, _ in scipy.io.whosmat(str(path))}
    except Exception as error:  # scipy tells of damage by a dozen classes, among them TypeError and IndexError
        raise _damaged(path, error) from error


def mat_frames(path: Path, name: str, time_axis: int) -> Iterator[npt.NDArray[np.uint8]]:
    """Go through a film in a MATLAB file.

    Args:
        path: The file.
        name: Its variable, of four axes: time first or last, the others height, width, 3; uint8, or 0..1 in floats,
            which become ``round(255 x)``.
        time_axis: 0 or 3.

    Yields:
        Frames, uint8 [H, W, 3], RGB.

    Raises:
        InputError: The file is damaged, lacks the variable, or holds other numbers.
    """
    blocks = _hdf5_blocks(path, name, time_axis) if _is_hdf5(path) else iter([_whole(path, name, time_axis)])
    shown = 0
    for block in blocks:
        for frame in block:
            yield _as_uint8(frame, f"{path}, {name}, frame {shown}")
            shown += 1


def text_of(value: Any) -> str:
    """Return the text in an array of characters, whichever way it was stored, without the blanks around it."""
    flat = np.asarray(value).ravel()
    if flat.dtype.kind in "ui" and flat.size > 1:  # version 7.3 stores characters as their numbers
        return "".join(map(chr, flat.tolist())).strip()
    return str(flat[0]).strip() if flat.size else ""


def _as_uint8(frame: npt.NDArray[Any], where: str) -> npt.NDArray[np.uint8]:
    if frame.dtype == np.uint8:
        return np.ascontiguousarray(frame)
    if frame.dtype.kind != "f":
        raise InputError(f"{where} is {frame.dtype}: expected uint8, or floats from 0 to 1")
    low, high = float(frame.min()), float(frame.max())
    if not (low >= 0 and high <= 1):  # False for NaN, too
        raise InputError(f"{where} holds values from {low:g} to {high:g}: expected floats from 0 to 1, or uint8")
    return np.rint(frame * 255).astype(np.uint8)


def _is_hdf5(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            head = file.read(520)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error
    return b"\x89HDF\r\n\x1a\n" in (head[:8], head[512:])  # MATLAB puts a text of 512 bytes before it


def _open_hdf5(path: Path) -> Any:
    try:
        import h5py
    except ImportError as error:
        raise MissingExtraError(
            f"{path} is a MATLAB 7.3 file, which needs h5py: pip install 'robustvision-rppg[train]'", name="h5py"
        ) from error
    try:
        return h5py.File(path, "r")
    except OSError as error:
        raise _damaged(path, error) from error


def _from_hdf5(stored: Any) -> npt.NDArray[Any]:
    return np.asarray(stored).T  # HDF5 has MATLAB's axes the other way round


def _hdf5_blocks(path: Path, name: str, time_axis: int) -> Iterator[npt.NDArray[Any]]:
    with _open_hdf5(path) as file:
        if name not in file:
            raise InputError(f"{path} has no variable {name}: it holds {', '.join(sorted(file))}")
        stored = file[name]
        last = stored.ndim - 1 - time_axis
        for start in range(0, stored.shape[last], _BLOCK):
            piece = (slice(None),) * last + (slice(start, start + _BLOCK),)
            try:
                yield np.moveaxis(_from_hdf5(stored[piece]), time_axis, 0)
            except (OSError, RuntimeError) as error:
                raise _damaged(path, error) from error


def _whole(path: Path, name: str, time_axis: int) -> npt.NDArray[Any]:
    loaded = _load(path, (name,))
    if name not in loaded:
        raise InputError(f"{path} has no variable {name}: it holds {', '.join(sorted(mat_shapes(path)))}")
    return np.moveaxis(loaded[name], time_axis, 0)


def _load(path: Path, names: tuple[str, ...]) -> dict[str, npt.NDArray[Any]]:
    import scipy.io

    try:
        loaded = scipy.io.loadmat(str(path), variable_names=list(names))
    except Exception as error:  # as above
        raise _damaged(path, error) from error
    return {name: loaded[name] for name in names if name in loaded}


def _damaged(path: Path, error: BaseException) -> InputError:
    return InputError(f"{path} is no MATLAB file or is damaged ({type(error).__name__}: {error}): copy it again")

"""Nothing half-written: a file or folder is made beside its place, under a hidden name, and renamed when complete."""

from __future__ import annotations

import json
import math
import os
import secrets
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from robustvision.core.errors import InputError


def make_folder(path: str | os.PathLike[str]) -> Path:
    """Make a folder, with its parents, if it is not there.

    Args:
        path: The folder.

    Returns:
        Its path.

    Raises:
        InputError: Something else stands there, or it cannot be made.
    """
    folder = Path(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot make the folder {folder} ({error.strerror}): name another one") from error
    return folder


def strict_json(value: Any) -> Any:
    """Return plain values as strict JSON has them.

    Args:
        value: Plain values; numpy's numbers and arrays are taken as theirs, everything else as its text.

    Returns:
        A copy: lists for tuples, None for numbers that are not finite.
    """
    if isinstance(value, Mapping):
        return {str(name): strict_json(entry) for name, entry in value.items()}
    if hasattr(value, "tolist"):  # numpy's numbers and arrays
        value = value.tolist()
    if isinstance(value, list | tuple):
        return [strict_json(entry) for entry in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, str | int | bool) else str(value)


def json_text(content: Any, *, indent: int | None = None) -> str:
    """Write strict JSON: a number that is not finite becomes null.

    Args:
        content: As for ``strict_json``.
        indent: Spaces a level; one line where None.
    """
    return json.dumps(strict_json(content), indent=indent, ensure_ascii=False, allow_nan=False)


def write_json(path: str | os.PathLike[str], content: Any) -> Path:
    """Write strict JSON to a file, whole or not at all.

    Args:
        path: The file.
        content: As for ``json_text``.

    Returns:
        The path.

    Raises:
        InputError: The file cannot be written.
    """
    with write_atomically(path) as temporary:
        temporary.write_text(json_text(content, indent=1) + "\n", encoding="utf-8")
    return Path(path)


@contextmanager
def write_atomically(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Write a file that appears complete or not at all.

    The body writes to the path that it is given: a hidden file in the same folder with the same suffix, so that writers
    which choose a format by suffix work. On leaving, it is flushed to the disk and takes the place of ``path``; on any
    exception it is removed, and what stood at ``path`` stays as it was. A link at ``path`` is followed.

    Args:
        path: The file to write.

    Yields:
        The path to write to; an empty file lies there already.

    Raises:
        InputError: The parent is not a folder or cannot be written to, or ``path`` is a folder.
    """
    target = Path(os.path.realpath(path))
    if os.path.isdir(target):
        raise InputError(f"{path} is a folder: name a file inside it")
    temporary = _beside(target)
    try:
        temporary.touch(exist_ok=False)
    except OSError as error:
        raise _unwritable(target, error) from error
    try:
        yield temporary
        _flush(temporary)
        os.replace(temporary, target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _flush(target.parent)


@contextmanager
def write_folder_atomically(path: str | os.PathLike[str], *, marker: str) -> Iterator[Path]:
    """Write a folder that appears complete or not at all.

    An older folder at ``path`` is replaced only if it holds ``marker``, the file by which such a folder is known, so
    that a slip in a path never deletes something else. No system call replaces a folder that is not empty: between two
    renames there is an instant with nothing at ``path``.

    Args:
        path: The folder to write.
        marker: Name of the file that every folder of this kind holds, such as ``manifest.json``.

    Yields:
        The folder to write into, empty.

    Raises:
        InputError: The parent is not a folder or cannot be written to, or something else stands at ``path``.
    """
    target = Path(os.path.realpath(path))
    is_older = target.is_dir() and any(target.iterdir())
    if target.is_file() or (is_older and not (target / marker).is_file()):
        raise InputError(f"{path} exists and is not a folder with a {marker}: remove it, or name another folder")
    temporary, retired = _beside(target), _beside(target)
    try:
        temporary.mkdir()
    except OSError as error:
        raise _unwritable(target, error) from error
    try:
        yield temporary
        for file in temporary.rglob("*"):
            _flush(file)
        if target.is_dir():
            os.replace(target, retired)
        os.replace(temporary, target)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        if retired.is_dir() and not target.exists():
            os.replace(retired, target)
        raise
    _flush(target.parent)
    shutil.rmtree(retired, ignore_errors=True)


def _beside(target: Path) -> Path:
    return target.with_name(f".{target.stem}-{secrets.token_hex(4)}{target.suffix}")


def _unwritable(target: Path, error: OSError) -> InputError:
    if not os.path.isdir(target.parent):
        return InputError(f"cannot write {target}: {target.parent} is not a folder: make it first")
    return InputError(f"cannot write {target} ({error.strerror}): choose a folder that can be written to")


def _flush(path: Path) -> None:
    """Wait until a file's data, or a folder's names, are on the disk."""
    if path.is_dir() and os.name == "nt":
        return  # Windows cannot open a folder
    descriptor = os.open(path, os.O_RDWR if os.name == "nt" else os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

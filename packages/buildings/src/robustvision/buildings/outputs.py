"""Where results go: the form that a name asks for, and what stands there: replaced only if it came from here."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path

from robustvision.core.errors import InputError

RASTERS, VECTORS = (".tif", ".tiff"), (".gpkg", ".geojson", ".json")


def is_vector(out: Path) -> bool:
    """Return whether a name asks for polygons, and not for probabilities.

    Raises:
        InputError: It asks for neither.
    """
    if out.suffix.lower() not in (*RASTERS, *VECTORS):
        raise InputError(f"{out} ends in {out.suffix or 'nothing'}: name a file {', '.join((*VECTORS, *RASTERS))}")
    return out.suffix.lower() in VECTORS


def kept_probabilities(out: Path, probability: str | os.PathLike[str] | None) -> Path | None:
    """Return where the probabilities stay; None where they do not.

    Args:
        out: What was asked for.
        probability: What was asked for beside polygons.

    Raises:
        InputError: ``probability`` is no GeoTIFF, or ``out`` is one.
    """
    if probability is None:
        return None if is_vector(out) else out
    kept = Path(probability)
    if kept.suffix.lower() not in RASTERS:
        raise InputError(f"the probabilities are to be kept in {kept}: name a file {', '.join(RASTERS)}")
    if not is_vector(out):
        raise InputError(f"{out} holds the probabilities already: leave {kept} out, or name a .gpkg file for polygons")
    return kept


def check_replaceable(path: Path, is_own: Callable[[Path], bool]) -> None:
    """Refuse a place that cannot be written to, or that holds a file of somebody else.

    Args:
        path: Where a result is to go.
        is_own: Whether a file there is an older result; not asked of an empty one.

    Raises:
        InputError: Its folder is not there, it is a folder itself, or a file that is no result.
    """
    if path.is_dir():
        raise InputError(f"{path} is a folder: name a file inside it")
    if not path.parent.is_dir():
        raise InputError(f"cannot write {path}: {path.parent} is not a folder: make it first")
    if path.is_file() and os.path.getsize(path) and not is_own(path):
        raise InputError(f"{path} is there, and no result of robustvision: name another file, or remove that one")


def refuse_overwriting(out: Path, inputs: Iterable[str | os.PathLike[str] | None]) -> None:
    """Refuse a place from which something is read.

    Args:
        out: Where a result is to go.
        inputs: What is read; None is passed over.

    Raises:
        InputError: It is one of them.
    """
    for one in inputs:
        if one is not None and os.path.realpath(one) == os.path.realpath(out):
            raise InputError(f"{out} is read, so it is not written over: name another file for the result")

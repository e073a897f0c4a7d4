"""Text lists of face images: labels, landmarks, verification pairs. Every complaint names the file and the line."""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from robustvision.core.errors import InputError

LANDMARK_COLUMNS = ("path", *(f"{axis}{point}" for point in range(1, 6) for axis in "xy"))

_MAGFACE = re.compile(r"(.+) 0 (\S+) 0")
_WHOLE = re.compile(r"[+-]?\d+")


@dataclass(frozen=True)
class ListEntry:
    """One line of a list that could be understood.

    Attributes:
        path: The image, as the list has it.
        label: Its identity, at least 0.
        line: Line number, from 1.
    """

    path: str
    label: int
    line: int


@dataclass(frozen=True)
class ListError:
    """One line of a list that could not be understood.

    Attributes:
        what: What is wrong.
        line: Line number, from 1.
    """

    what: str
    line: int


@dataclass(frozen=True, eq=False)
class Pairs:
    """Pairs of images for verification.

    Attributes:
        paths: The images, each once.
        first, second: [P] int64, places in ``paths``.
        same: [P] bool, whether both show one person.
    """

    paths: tuple[str, ...]
    first: npt.NDArray[np.int64]
    second: npt.NDArray[np.int64]
    same: npt.NDArray[np.bool_]


def parse_list(path: str | Path, num_classes: int | None = None) -> Iterator[ListEntry | ListError]:
    """Go through a list of images and labels: "path<TAB>label", "path label", or "path 0 label 0" as MagFace has it.

    The last form is meant when every line has it. Empty lines and lines that begin with # are left out.

    Args:
        path: The list.
        num_classes: Labels must be below it, where given.

    Yields:
        An entry or an error for each line.

    Raises:
        InputError: The file cannot be read as text.
    """
    lines = list(_lines(path))
    is_magface = bool(lines) and all(_MAGFACE.fullmatch(text) for _, text in lines)
    for number, text in lines:
        if is_magface:
            name, label = _MAGFACE.fullmatch(text).groups()  # type: ignore[union-attr]
        else:
            name, _, label = text.rpartition("\t" if "\t" in text else " ")
        name, label = name.strip(), label.strip()
        wrong = f"expected 'path<TAB>label', got {text!r}" if not name else _wrong_label(label, num_classes)
        yield ListError(wrong, number) if wrong else ListEntry(name, int(label), number)


def read_landmarks(path: str | Path) -> dict[str, npt.NDArray[np.float32]]:
    """Read five landmarks an image from a CSV file with the columns ``LANDMARK_COLUMNS``.

    Args:
        path: The file.

    Returns:
        Path, as the file has it with forward slashes, to [5, 2] float32: x and y in pixels.

    Raises:
        InputError: The file cannot be read, has other columns, or a line is incomplete, not finite or a repetition.
    """
    rows = csv.reader(text for _, text in _lines(path, keep_all=True))
    header = tuple(column.strip() for column in next(rows, []))
    if header != LANDMARK_COLUMNS:
        raise InputError(f"{path}:1: the columns are {','.join(header)!r}; expected {','.join(LANDMARK_COLUMNS)!r}")
    landmarks: dict[str, npt.NDArray[np.float32]] = {}
    for row in rows:
        where = f"{path}:{rows.line_num}"
        if not row:
            continue
        name, *numbers = row
        try:
            values = [float(number) for number in numbers]
        except ValueError as error:
            raise InputError(f"{where}: {error}") from None
        if len(values) != 10 or not all(map(math.isfinite, values)):
            raise InputError(f"{where}: expected a path and ten finite numbers, got {row}")
        key = name.replace("\\", "/")
        if key in landmarks:
            raise InputError(f"{where}: {name} is there twice; keep one face an image")
        landmarks[key] = np.array(values, np.float32).reshape(5, 2)
    return landmarks


def read_pairs(path: str | Path) -> Pairs:
    """Read verification pairs, one a line: "path path same", with same 0 or 1, separated by tabs or spaces.

    Args:
        path: The list.

    Returns:
        The pairs.

    Raises:
        InputError: The file cannot be read, a line has another form or repeats an image, or all pairs are of one kind.
    """
    places: dict[str, int] = {}
    found: list[tuple[int, int, bool]] = []
    for number, text in _lines(path):
        parts = text.split("\t") if "\t" in text else text.split()
        if len(parts) != 3 or parts[2] not in ("0", "1"):
            raise InputError(f"{path}:{number}: expected 'path<TAB>path<TAB>1' or '...<TAB>0', got {text!r}")
        if parts[0] == parts[1]:
            raise InputError(f"{path}:{number}: both images are {parts[0]}; compare different ones")
        first, second = (places.setdefault(part, len(places)) for part in parts[:2])
        found.append((first, second, parts[2] == "1"))
    same = np.array([pair[2] for pair in found], bool)
    if not same.any() or same.all():
        kind = "of one person" if same.any() else "of two persons"
        raise InputError(f"{path}: all {len(found)} pairs are {kind}; verification needs both kinds")
    sides = np.array([pair[:2] for pair in found], np.int64)
    return Pairs(tuple(places), sides[:, 0], sides[:, 1], same)


def _lines(path: str | Path, *, keep_all: bool = False) -> Iterator[tuple[int, str]]:
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise InputError(f"{path} is not text: give a list file, or a folder with one sub-folder a person") from None
    except OSError as error:
        raise InputError(f"cannot read {path} ({error.strerror}): give a list file, or a folder") from None
    for number, line in enumerate(text.splitlines(), start=1):
        stripped = line.strip()
        if keep_all or (stripped and not stripped.startswith("#")):
            yield number, stripped


def _wrong_label(label: str, num_classes: int | None) -> str | None:
    if not _WHOLE.fullmatch(label):
        return f"the label {label!r} is not a whole number"
    if int(label) < 0:
        return f"the label {label} is negative; labels count from 0"
    if num_classes is not None and int(label) >= num_classes:
        return f"the label {label} is too large for {num_classes} classes: fix it, or pass a larger num_classes"
    return None

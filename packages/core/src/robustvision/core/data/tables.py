"""Reading tables of numbers with a class in the last column, in the text format of the KEEL repository.

Lines that begin with ``@`` are the header. It may be missing, since copies of these files often lack it; then the
columns have no names. Only numbers are read as features: a file with words or gaps among them is refused, with the line
and the column.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from robustvision.core.errors import InputError

_ATTRIBUTE = re.compile(r"@attribute\s+(?P<name>'[^']*'|\"[^\"]*\"|[^\s{\[]+)\s*(?P<kind>\{.*\}|\w+)", re.IGNORECASE)


@dataclass(frozen=True)
class Table:
    """Samples with numbers for features.

    Attributes:
        features: [N, d] float64, as they stand in the file: nothing is scaled.
        labels: [N] int64, places in ``class_names``.
        feature_names: d names from the header; empty where the file has none.
        class_names: The classes, in the order of the header's list; where there is none, numbers ascend, and words
            stand in alphabetical order.
    """

    features: npt.NDArray[np.float64]
    labels: npt.NDArray[np.int64]
    feature_names: tuple[str, ...]
    class_names: tuple[str, ...]


@dataclass(frozen=True)
class _Column:
    name: str
    values: tuple[str, ...]  # of a column of words; empty for numbers


def read_keel(source: str | os.PathLike[str] | bytes) -> Table:
    """Read a KEEL ``.dat`` file.

    Args:
        source: A path, or the file's bytes (UTF-8).

    Returns:
        The table; the last column is the class, whatever ``@output`` calls it.

    Raises:
        InputError: The file is missing, empty or no text; a line has another number of columns than the others or the
            header; a feature is no finite number; a class is not in the header's list.

    Examples:
        >>> header = b"@relation r\\n@attribute a real [0, 9]\\n@attribute c {no, yes}\\n@data\\n"
        >>> table = read_keel(header + b"1.5, yes\\n2, no\\n")
        >>> table.features.tolist(), table.labels.tolist(), table.class_names
        ([[1.5], [2.0]], [1, 0], ('no', 'yes'))
    """
    text, name = _read_text(source)
    columns: list[_Column] = []
    numbers: list[int] = []
    rows: list[list[str]] = []
    for number, line in enumerate(text.splitlines(), start=1):
        line = line.strip()
        if line.startswith("@"):
            if rows:
                raise InputError(f"{name}:{number} is a header line below the data: {line[:60]!r}")
            if line.lower().startswith("@attribute"):
                columns.append(_parse_attribute(line, f"{name}:{number}"))
        elif line:
            numbers.append(number)
            rows.append([cell.strip() for cell in line.split(",")])
    _check_widths(rows, numbers, columns, name)
    class_names, labels = _classes([row[-1] for row in rows], numbers, columns[-1].values if columns else (), name)
    features = _numbers([row[:-1] for row in rows], numbers, name)
    return Table(features, labels, tuple(column.name for column in columns[:-1]), class_names)


def _read_text(source: str | os.PathLike[str] | bytes) -> tuple[str, str]:
    if isinstance(source, bytes):
        data, name = source, "the KEEL bytes"
    else:
        name = str(Path(source))
        try:
            data = Path(source).read_bytes()
        except OSError as error:
            raise InputError(f"cannot read {name} ({error.strerror or error})") from error
    try:
        return data.decode("utf-8-sig"), name
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise InputError(f"{name}:{line} is no text in UTF-8: is this a KEEL .dat file?") from error


def _parse_attribute(line: str, place: str) -> _Column:
    match = _ATTRIBUTE.match(line)
    if match is None:
        raise InputError(f"{place} is no attribute: {line[:60]!r}; expected '@attribute NAME real' or 'NAME {{a, b}}'")
    kind = match["kind"]
    values = tuple(value.strip() for value in kind[1:-1].split(",")) if kind.startswith("{") else ()
    if len(set(values)) < len(values):
        raise InputError(f"{place} lists a value twice: {line[:60]!r}")
    return _Column(match["name"].strip("'\""), values)


def _check_widths(rows: list[list[str]], numbers: list[int], columns: list[_Column], name: str) -> None:
    if not rows:
        raise InputError(f"{name} holds no data: expected lines of numbers with a class at the end")
    width = len(columns) or len(rows[0])
    if width < 2:
        raise InputError(f"{name} has {width} column: expected a feature and a class at least, set apart by commas")
    for number, row in zip(numbers, rows, strict=True):
        if len(row) != width:
            expected = "the header has" if columns else f"line {numbers[0]} has"
            raise InputError(f"{name}:{number} has {len(row)} columns, but {expected} {width}")


def _classes(
    cells: list[str], numbers: list[int], listed: tuple[str, ...], name: str
) -> tuple[tuple[str, ...], npt.NDArray[np.int64]]:
    class_names = listed or _in_order(set(cells))
    places = {class_name: place for place, class_name in enumerate(class_names)}
    for number, cell in zip(numbers, cells, strict=True):
        if not cell or cell not in places:
            raise InputError(f"{name}:{number} has the class {cell!r}; expected one of {', '.join(class_names)}")
    return class_names, np.array([places[cell] for cell in cells], dtype=np.int64)


def _in_order(classes: set[str]) -> tuple[str, ...]:
    try:
        return tuple(sorted(classes, key=float))
    except ValueError:
        return tuple(sorted(classes))


def _numbers(rows: list[list[str]], numbers: list[int], name: str) -> npt.NDArray[np.float64]:
    try:
        features = np.array(rows, dtype=np.float64)
        bad = ~np.isfinite(features)
    except ValueError:
        bad = np.array([[not _is_number(cell) for cell in row] for row in rows])
    if bad.any():
        row, column = np.argwhere(bad)[0]
        raise InputError(
            f"{name}:{numbers[row]} has {rows[row][column]!r} in column {column + 1}; expected a finite number: "
            "leave out such columns and lines, or turn words into numbers"
        )
    return features


def _is_number(cell: str) -> bool:
    try:
        return bool(np.isfinite(float(cell)))
    except ValueError:
        return False

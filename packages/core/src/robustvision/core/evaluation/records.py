"""One finished run of a study as one JSON file: what was run, what came out, and with what.

The file's name carries a hash of the parameters. Changed parameters therefore make a new file beside the old one:
nothing measured is overwritten, and nothing measured with other parameters is taken for the result.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal

import numpy as np

from robustvision.core.errors import InputError
from robustvision.core.runtime.files import write_atomically

_FILE_NAME = re.compile(r"\w[\w .,+=@-]*")


@dataclass(frozen=True)
class Record:
    """One run: one cell with one seed.

    Attributes:
        study: The study's name.
        cell: The cell's label.
        seed: The seed.
        params: The cell's parameters, as JSON gives them back.
        status: ``done``, or ``failed`` with the traceback in ``error``.
        metrics: Metric -> number or (nested) list of numbers; what was not finite is NaN.
        error: The traceback of a failed run, else empty.
        seconds: Wall-clock time of the run.
        threads: Threads that the run was given; they can change the last digits.
        finished: When, in UTC, ISO 8601.
        versions: Of Python and of libraries.
    """

    study: str
    cell: str
    seed: int
    params: dict[str, Any]
    status: Literal["done", "failed"]
    metrics: dict[str, Any]
    error: str
    seconds: float
    threads: int
    finished: str
    versions: dict[str, str]


def plain_params(params: Mapping[str, Any], cell: str) -> dict[str, Any]:
    """A cell's parameters as JSON would give them back.

    Args:
        params: Numbers, strings, lists and dicts.
        cell: The cell's label, for the error.

    Returns:
        The same with lists for tuples.

    Raises:
        InputError: If JSON cannot hold them; a file cannot then say what was run.
    """
    try:
        return dict(json.loads(json.dumps(dict(params), allow_nan=False)))
    except (TypeError, ValueError) as error:
        raise InputError(
            f"params of cell {cell!r} cannot be written as JSON ({error}): give numbers, strings, lists and dicts, and "
            "let run() build objects from them"
        ) from error


def plain_metrics(metrics: Any) -> dict[str, Any]:
    """What a run returned, as plain numbers and lists, with None for what is not finite.

    Args:
        metrics: Metric -> number, (nested) list, or numpy array.

    Returns:
        The same in Python's own types.

    Raises:
        InputError: If it is anything else.

    Example:
        >>> plain_metrics({"accuracy": np.float32(0.5), "losses": np.array([1.0, np.nan])})
        {'accuracy': 0.5, 'losses': [1.0, None]}
    """
    if not isinstance(metrics, Mapping) or not metrics:
        raise InputError(f"run() returned {type(metrics).__name__}: expected a dict of metrics with at least one entry")
    return {str(name): _plain(value, str(name)) for name, value in metrics.items()}


def _plain(value: Any, name: str) -> Any:
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, list | tuple):
        return [_plain(item, name) for item in value]
    if isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    raise InputError(f"metric {name!r} is a {type(value).__name__}: expected a number, or a list of numbers")


def record_path(folder: Path, cell: str, seed: int, params: Mapping[str, Any]) -> Path:
    """Where a run is kept: ``<folder>/<cell>/seed-<seed>-<hash of params>.json``.

    Args:
        folder: The study's folder.
        cell: The cell's label.
        seed: The seed.
        params: Plain parameters.

    Returns:
        The path.
    """
    digest = hashlib.sha256(json.dumps(params, sort_keys=True).encode()).hexdigest()
    return folder / cell / f"seed-{seed}-{digest[:12]}.json"


def check_label(label: str) -> None:
    """Refuse a label that cannot name a folder everywhere.

    Raises:
        InputError: If it cannot.
    """
    if not _FILE_NAME.fullmatch(label) or label != label.rstrip(" ."):
        raise InputError(
            f"{label!r} cannot name a folder: use letters, digits, spaces and any of . , + = @ _ -, "
            "beginning with a letter or digit"
        )


def write_record(path: Path, record: Record) -> None:
    """Write a record so that it is there whole or not at all.

    Args:
        path: From :func:`record_path`; its folder is made.
        record: With plain metrics.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with write_atomically(path) as temporary:
        temporary.write_text(json.dumps(asdict(record), indent=1, allow_nan=False) + "\n", encoding="utf-8")


def read_record(path: Path) -> Record | None:
    """Read a record.

    Args:
        path: From :func:`record_path`.

    Returns:
        The record with NaN where the file has null, or None if there is no such file or it is not a record; such a run
        is simply done again.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        record = Record(**{field.name: content[field.name] for field in fields(Record)})
    except (OSError, ValueError, KeyError, TypeError):
        return None
    record.metrics.update({name: _with_nan(value) for name, value in record.metrics.items()})
    return record


def _with_nan(value: Any) -> Any:
    if isinstance(value, list):
        return [_with_nan(item) for item in value]
    return math.nan if value is None else value

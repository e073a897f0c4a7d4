"""The reference of own recordings: a CSV file with the video, the time, and a heart rate or a pulse wave.

The first line names the columns, in any order and case; other columns are left alone:

=========  ==================================================================================================
column     names
=========  ==================================================================================================
video      ``video``, ``film``, ``file``, ``filename``: the file in the folder, with or without its ending;
           may be left out where there is one film only
time       ``timestamp_s``, ``time_s``, ``timestamp``, ``time``, ``t``, ``seconds``; or, in milliseconds,
           ``timestamp_ms``, ``time_ms``: since the film's first frame
heart      ``bpm``, ``hr``, ``heart_rate``, ``heart_rate_bpm``, ``hr_bpm``, ``pulse_bpm``: beats a minute; empty,
rate       ``nan`` and 0 are gaps
wave       ``ppg``, ``bvp``, ``pleth``: any unit and sign; used where there is no heart rate
=========  ==================================================================================================

Separated by comma, semicolon or tab; where it is not the comma, numbers may have a decimal comma.
"""

from __future__ import annotations

import csv
import io
import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from robustvision.core.errors import InputError

NAMES: Mapping[str, tuple[str, ...]] = {
    "video": ("video", "film", "file", "filename"),
    "time_s": ("timestamp_s", "time_s", "timestamp", "time", "t", "seconds"),
    "time_ms": ("timestamp_ms", "time_ms"),
    "bpm": ("bpm", "hr", "heart_rate", "heart_rate_bpm", "hr_bpm", "pulse_bpm"),
    "ppg": ("ppg", "bvp", "pleth"),
}
SLOWEST_BPM, FASTEST_BPM = 20.0, 300.0

Float64 = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Reference:
    """The reference of one video.

    Attributes:
        video: Its name as the file states it; empty where it names none.
        line: The line of the first row.
        times_s: float64 [N], strictly rising.
        values: float64 [N], bpm or a pulse wave; NaN in gaps.
        kind: ``bpm`` or ``ppg``.
    """

    video: str
    line: int
    times_s: Float64
    values: Float64
    kind: str


@dataclass(frozen=True)
class _Columns:
    video: int | None
    time: int
    seconds: float  # of one unit of the time
    value: int
    kind: str


def read_reference(path: str | os.PathLike[str]) -> list[Reference]:
    """Read the reference of all videos.

    Args:
        path: The CSV file, UTF-8.

    Returns:
        One reference a video, in the order of the file.

    Raises:
        InputError: The file cannot be read, has no such columns, or a line is wrong; the message names the line.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read {path} as UTF-8 text: {error}") from error
    header = text.partition("\n")[0]
    separator = max(",;\t", key=header.count)
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=separator)
    columns = _columns(next(rows, []), path)
    by_video: dict[str, list[tuple[int, float, float]]] = {}
    for line, row in ((rows.line_num, row) for row in rows):
        if any(cell.strip() for cell in row):
            video, time_s, value = _parse(row, columns, f"{path}:{line}", has_decimal_comma=separator != ",")
            by_video.setdefault(video, []).append((line, time_s, value))
    if not by_video:
        raise InputError(f"{path} has no row below its header: give a time and a value in each")
    return [_reference(video, entries, columns.kind, path) for video, entries in by_video.items()]


def _columns(header: list[str], path: Path) -> _Columns:
    names = [cell.strip().lower() for cell in header]
    found = dict(_places(names))
    time = found.get("time_s", found.get("time_ms"))
    kind = "bpm" if "bpm" in found else "ppg"
    if time is None or kind not in found:
        wanted = "a time (timestamp_s)" if time is None else "a heart rate (bpm) or a pulse wave (ppg)"
        raise InputError(
            f"{path}:1 names the columns {', '.join(names) or '(none)'}, but none for {wanted}: the first line must be"
            " like video,timestamp_s,bpm"
        )
    return _Columns(found.get("video"), time, 1.0 if "time_s" in found else 1e-3, found[kind], kind)


def _places(names: list[str]) -> Iterator[tuple[str, int]]:
    for meaning, known in NAMES.items():
        for name in known:
            if name in names:
                yield meaning, names.index(name)
                break


def _parse(row: list[str], columns: _Columns, where: str, *, has_decimal_comma: bool) -> tuple[str, float, float]:
    if len(row) <= max(columns.time, columns.value, columns.video or 0):
        raise InputError(f"{where} has {len(row)} columns, fewer than the header needs: complete the line")

    def number(place: int, what: str) -> float:
        text = row[place].strip()
        try:
            return float(text.replace(",", ".") if has_decimal_comma else text)
        except ValueError:
            raise InputError(f"{where} has the {what} {text!r}: expected a number") from None

    time_s = number(columns.time, "time") * columns.seconds
    if not math.isfinite(time_s):
        raise InputError(f"{where} has the time {row[columns.time].strip()}: expected seconds since the film's start")
    value = number(columns.value, columns.kind) if row[columns.value].strip() else math.nan
    if columns.kind == "bpm":
        value = math.nan if value == 0 else value
        if not math.isnan(value) and not SLOWEST_BPM <= value <= FASTEST_BPM:
            raise InputError(
                f"{where} has a heart rate of {value:g}: expected {SLOWEST_BPM:g} to {FASTEST_BPM:g} beats a minute,"
                " or nothing where there is none"
            )
    return ("" if columns.video is None else row[columns.video].strip()), time_s, value


def _reference(video: str, entries: list[tuple[int, float, float]], kind: str, path: Path) -> Reference:
    lines, times_s, values = (np.array(column) for column in zip(*entries, strict=True))
    falls = np.flatnonzero(np.diff(times_s) <= 0)
    if falls.size:
        first = int(falls[0])
        raise InputError(
            f"{path}:{lines[first + 1]} has the time {times_s[first + 1]:g} s after {times_s[first]:g} s in line"
            f" {lines[first]}: the times of a video must rise; sort the rows, and drop those that came twice"
        )
    if np.isinf(values).any():
        raise InputError(f"{path}:{lines[np.isinf(values)][0]} has an infinite {kind}: leave gaps empty")
    return Reference(video, int(lines[0]), times_s, values.astype(np.float64), kind)

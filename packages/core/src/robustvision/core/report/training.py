"""The report of a training run, from the files that it left."""

from __future__ import annotations

import contextlib
import datetime
import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from robustvision.core.errors import InputError

from .document import Report

_POSITION = ("kind", "epoch", "step", "seconds")  # where a line stands, not what was measured there
_FACTS = {"seed": "Seed", "device": "Device", "processes": "Processes", "torch_threads": "Threads", "commit": "Commit"}


def report_training(
    log_jsonl: str | os.PathLike[str], run_json: str | os.PathLike[str] | None = None, *, title: str = "Training"
) -> Report:
    """Make the report of a training run.

    Both files are read with tolerance, since a run may have been killed while writing: lines that are not JSON objects
    are counted and left out, fields that are not numbers are ignored, and missing facts are not shown. More sections
    can be added to what is returned.

    Args:
        log_jsonl: The log, a JSON object a line: ``kind`` ("train" or "val"), ``epoch``, ``step``, ``seconds``, and any
            numbers by name.
        run_json: The run's record: ``recipe``, ``seed``, ``status``, ``device``, ``commit``, ``versions``, ``config``,
            ...; None for a report without it.
        title: The heading.

    Returns:
        Tiles with the last values, the curves of losses, validation metrics and everything else that was logged, and
        the recipe.

    Raises:
        InputError: If a file is not there, or the record is not JSON.
    """
    lines, unreadable = _read_log(Path(log_jsonl))
    run = {} if run_json is None else _read_run(Path(run_json))
    train = [line for line in lines if line.get("kind") != "val"]
    val = [line for line in lines if line.get("kind") == "val"]
    report = Report(title, _summary(run), facts=_facts(run), **_when_and_versions(run))
    if run.get("error"):
        report.text(str(run["error"]), "Why it stopped", is_code=True)
    report.metrics(_tiles(train, val), "At the end")
    if not lines:
        report.text("The log holds no steps.")
    _add_curves(report, train, val)
    if unreadable:
        what = "1 line" if unreadable == 1 else f"{unreadable} lines"
        report.text(
            f"{what} of the log could not be read, and {'is' if unreadable == 1 else 'are'} left out.", "The log"
        )
    if run.get("config"):
        report.text(json.dumps(run["config"], indent=2, ensure_ascii=False), "Configuration", is_code=True)
    return report


def _read_log(path: Path) -> tuple[list[dict[str, Any]], int]:
    """The lines that are JSON objects, and how many are not."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise InputError(f"cannot read the log {path} ({error.strerror}): give the log.jsonl of a run") from error
    lines, unreadable = [], 0
    for line in filter(str.strip, text.splitlines()):
        try:
            entry = json.loads(line)
        except ValueError:
            entry = None
        if isinstance(entry, dict):
            lines.append(entry)
        else:
            unreadable += 1
    return lines, unreadable


def _read_run(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(
            f"cannot read the record {path} ({error.strerror}): give the run.json of a run, or none"
        ) from error
    except ValueError as error:
        raise InputError(f"{path} is not JSON ({error}): give the run.json of a run, or none") from error
    if not isinstance(content, dict):
        raise InputError(f"{path} holds a {type(content).__name__}: expected the JSON object of a run")
    return content


def _summary(run: Mapping[str, Any]) -> str:
    """One sentence from the record."""
    recipe = run.get("recipe")
    name = recipe.get("name") if isinstance(recipe, Mapping) else recipe
    parts = [f"Recipe {name}" if name else "", str(run["status"]) if run.get("status") else ""]
    return ", ".join(filter(None, parts))


def _facts(run: Mapping[str, Any]) -> dict[str, Any]:
    """What the header shows of the record."""
    facts = {label: run[name] for name, label in _FACTS.items() if isinstance(run.get(name), str | int | float)}
    data = run.get("data")
    for split, description in data.items() if isinstance(data, Mapping) else ():
        if isinstance(description, Mapping) and "samples" in description:
            facts[f"Samples ({split})"] = description["samples"]
    return facts


def _when_and_versions(run: Mapping[str, Any]) -> dict[str, Any]:
    """The record's own, where it has them: the report may be made later and elsewhere."""
    fields: dict[str, Any] = {}
    with contextlib.suppress(ValueError):
        fields["when"] = datetime.datetime.fromisoformat(str(run.get("started")))
    if isinstance(run.get("versions"), Mapping):
        python = {"python": run["python"]} if "python" in run else {}
        fields["versions"] = {**python, **run["versions"]}
    return fields


def _tiles(train: Sequence[Mapping[str, Any]], val: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    tiles: dict[str, Any] = {}
    for name, label in (("step", "Steps"), ("epoch", "Epochs")):
        counts = [line[name] for line in train if isinstance(line.get(name), int)]
        if counts:
            tiles[label] = max(counts)
    seconds = [line["seconds"] for line in (*train, *val) if _is_number(line.get("seconds"))]
    if seconds:
        tiles["Time"] = _duration(sum(seconds))
    if train and _is_number(train[-1].get("loss")):
        tiles["Loss"] = float(train[-1]["loss"])
    tiles.update({f"Validation {name}": float(val[-1][name]) for name in _names(val) if _is_number(val[-1].get(name))})
    return tiles


def _add_curves(report: Report, train: Sequence[Mapping[str, Any]], val: Sequence[Mapping[str, Any]]) -> None:
    """The losses in one plot; every other number in its own, those of the validation first."""
    names, val_names = _names(train), _names(val)
    losses = [name for name in names if "loss" in name]
    if losses:
        series = {name: _series(train, name) for name in losses}
        series |= {f"{name} (validation)": _series(val, name) for name in val_names if "loss" in name}
        report.curves(series, "Losses", x=_x_axis(train), smooth=True)
    for name in (name for name in val_names if not losses or "loss" not in name):
        report.curves({name: _series(val, name)}, f"{name} (validation)", x=_x_axis(val), half_width=True)
    for name in (name for name in names if name not in losses):
        is_noisy = name != "lr"
        report.curves({name: _series(train, name)}, name, x=_x_axis(train), smooth=is_noisy, half_width=True)
    if any(_is_number(line.get("seconds")) for line in train):
        seconds = {"seconds": _series(train, "seconds")}
        report.curves(seconds, "Time between lines", x=_x_axis(train), y="s", smooth=True, half_width=True)


def _names(lines: Sequence[Mapping[str, Any]]) -> list[str]:
    """Everything that was measured at least once, in the order of its first appearance."""
    return [
        name
        for name in dict.fromkeys(name for line in lines for name in line)
        if name not in _POSITION and any(_is_number(line.get(name)) for line in lines)
    ]


def _series(lines: Sequence[Mapping[str, Any]], name: str) -> tuple[list[float], list[float | None]]:
    """Positions and values of the lines that have the name; None where the value is not a number."""
    axis = _x_axis(lines)
    having = [(i, line) for i, line in enumerate(lines) if name in line]
    x = [float(line[axis]) if axis != "line" else float(i) for i, line in having]
    return x, [float(line[name]) if _is_number(line[name]) else None for _, line in having]


def _x_axis(lines: Sequence[Mapping[str, Any]]) -> str:
    """``step`` where every line has one, else ``epoch``, else the line's number."""
    return next((name for name in ("step", "epoch") if all(_is_number(line.get(name)) for line in lines)), "line")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _duration(seconds: float) -> str:
    """Two or three digits and a unit."""
    for size, unit in ((3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.3g} s"

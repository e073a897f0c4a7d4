"""``run.json`` and ``config.py``: what a run was made of, and how it ended."""

from __future__ import annotations

import datetime
import json
import platform
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from mmengine import Config

from robustvision.core.evaluation import library_versions
from robustvision.core.runtime.files import write_atomically
from robustvision.core.training.tree import as_record, as_text

RECORD = "run.json"
CONFIG = "config.py"
_SCHEMA = 1


class RunRecord:
    """The record of a run, rewritten as a whole whenever something is known.

    Its fields: ``schema``, ``status`` (``running``, ``finished``, ``failed``, ``interrupted``), ``started``,
    ``ended``, ``recipe`` (name, package, options), ``config``, ``seed``, ``device``, ``processes``, ``torch_threads``
    (their number changes the last digits of results), ``versions``, ``commit``, ``platform``, ``data`` (number of
    samples and the data set's own ``fingerprint()``), ``resumed`` (step, time and changed settings of each resume),
    ``metrics``, ``error``.

    Args:
        work_dir: The work folder.
        is_written: False in all processes but the first.
    """

    def __init__(self, work_dir: str | Path, *, is_written: bool) -> None:
        self.path = Path(work_dir) / RECORD
        self.is_written = is_written
        self.fields: dict[str, Any] = {}

    def start(
        self, config: Config, *, seed: int, device: torch.device, processes: int, data: Mapping[str, Any]
    ) -> None:
        """Record what the run is made of.

        Args:
            config: The complete recipe.
            seed: The run's seed.
            device: The first process's device.
            processes: Their number.
            data: What :func:`describe_data` says, by the name of the split.
        """
        if not self.is_written:
            return
        record = as_record(config)
        recipe = record.pop("recipe", None)
        self.fields = {
            "schema": _SCHEMA,
            "status": "running",
            "started": _now(),
            "ended": None,
            "recipe": recipe,
            "config": record,
            "seed": seed,
            "device": _describe(device),
            "processes": processes,
            "torch_threads": torch.get_num_threads(),
            "versions": library_versions(),
            "commit": _commit(),
            "platform": platform.platform(),
            "data": data,
            "resumed": [],
            "metrics": {},
            "error": None,
        }
        self._write()
        with write_atomically(self.path.with_name(CONFIG)) as temporary:
            temporary.write_text(as_text(config), encoding="utf-8")

    def go_on(self, earlier: Mapping[str, Any], step: int) -> list[str]:
        """Carry the earlier part of a resumed run over.

        Args:
            earlier: The record as it was, from :func:`read_record`.
            step: The step after which the run goes on.

        Returns:
            The settings that have changed, one a string.
        """
        if not self.is_written:
            return []
        old, new = _flat(earlier.get("config", {})), _flat(_as_json(self.fields["config"]))
        names = [name for name in sorted(old.keys() | new.keys()) if old.get(name) != new.get(name)]
        changed = {name: [old.get(name), new.get(name)] for name in names} if earlier else {}
        for name in ("torch_threads", "device", "processes"):
            if earlier and earlier.get(name) != self.fields[name]:
                changed[name] = [earlier.get(name), self.fields[name]]
        self.fields["started"] = earlier.get("started", self.fields["started"])
        entry = {"step": step, "time": _now(), "changed": changed}
        self.update(resumed=[*earlier.get("resumed", []), entry])
        return [f"{name}: {before} -> {after}" for name, (before, after) in changed.items()]

    def end(self, status: str, **fields: Any) -> None:
        """Record the end of a run that was started.

        Args:
            status: ``finished``, ``failed`` or ``interrupted``.
            **fields: What else is known.
        """
        if self.fields:
            self.update(status=status, ended=_now(), **fields)

    def update(self, **fields: Any) -> None:
        """Record something.

        Args:
            **fields: New values; must be what JSON can hold.
        """
        if self.is_written:
            self.fields.update(fields)
            self._write()

    def _write(self) -> None:
        with write_atomically(self.path) as temporary:
            temporary.write_text(json.dumps(_as_json(self.fields), indent=1, allow_nan=False) + "\n", encoding="utf-8")


def read_record(work_dir: str | Path) -> dict[str, Any]:
    """Read the record of a run.

    Args:
        work_dir: The work folder.

    Returns:
        Its fields; empty where there is none, or it is broken.
    """
    try:
        content = json.loads((Path(work_dir) / RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def describe_data(dataset: Any) -> dict[str, Any]:
    """What a record says about a data set.

    Args:
        dataset: The data set; its optional method ``fingerprint()`` returns a short string that changes with the data.

    Returns:
        ``samples`` and ``fingerprint`` (None where the data set has no such method).
    """
    fingerprint = getattr(dataset, "fingerprint", None)
    return {"samples": len(dataset), "fingerprint": fingerprint() if callable(fingerprint) else None}


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def _describe(device: torch.device) -> str:
    return f"{device.type} ({torch.cuda.get_device_name(device)})" if device.type == "cuda" else device.type


def _commit() -> str | None:
    """The commit of the clone that this code runs from, with a mark for local changes; None outside a clone."""
    here = Path(__file__)

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(here.parent), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()

    try:
        git("ls-files", "--error-unmatch", here.name)  # an installed package may lie inside a stranger's clone
        return git("rev-parse", "HEAD") + ("+changes" if git("status", "--porcelain", "-uno") else "")
    except (OSError, subprocess.SubprocessError):
        return None


def _flat(value: Any, name: str = "") -> dict[str, Any]:
    if isinstance(value, dict) and value:
        return {key: leaf for part, item in value.items() for key, leaf in _flat(item, f"{name}.{part}").items()}
    return {name.removeprefix("."): value}


def _as_json(value: Any) -> Any:
    """What JSON can hold: tuples as lists, what is not finite as text."""
    if isinstance(value, dict):
        return {str(key): _as_json(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_as_json(item) for item in value]
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return str(value)
    return value

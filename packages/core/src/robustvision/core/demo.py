"""Runs the demo of every installed domain and gathers what they measured in one ``summary.json``.

A domain offers ``robustvision.<domain>.demo.run(out, seed=..., quiet=...)``, which returns a ``DemoResult``.
"""

from __future__ import annotations

import dataclasses
import importlib
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import typer

from robustvision.core.cli import domain_names
from robustvision.core.errors import InputError
from robustvision.core.runtime.files import make_folder, write_json


@dataclass(frozen=True)
class DemoResult:
    """What one domain's demo produced.

    Attributes:
        metrics: What the model that the demo trained reaches on unseen data.
        baseline_metrics: Name of each baseline to its metrics on the same data.
        parity_max_abs: The largest difference between torch and the exported graph.
        model: The exported model, relative to the summary's folder.
        report: The report, likewise.
        pictures: Pictures, likewise.
        seconds: Wall time.
    """

    metrics: dict[str, float]
    baseline_metrics: dict[str, dict[str, float]]
    parity_max_abs: float
    model: str
    report: str
    pictures: list[str] = field(default_factory=list)
    seconds: float = 0.0


def fresh_run(folder: Path) -> Path:
    """Return the work folder for a demo's training; that of an older demo makes way.

    Args:
        folder: The folder; anything in it but a training run stays, and training then refuses it.
    """
    if (folder / "run.json").is_file() or any(folder.glob("*/run.json")):  # a run, or an adaptation's stages
        shutil.rmtree(folder)
    return folder


def run_without_torch(program: str, *arguments: Path) -> str:
    """Run a program as an edge machine would: in a process of its own, which fails if it imports torch.

    Args:
        program: Python code, which reads its arguments from ``sys.argv[1:]``.
        arguments: Files that it is given.

    Returns:
        What it printed.

    Raises:
        RuntimeError: It failed, or imported torch or mmengine; its own message is in the text.
    """
    check = "import sys\nassert not {'torch', 'mmengine'} & set(sys.modules), 'torch was imported'\n"
    command = [sys.executable, "-c", f"{program}\n{check}", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"the program without torch failed:\n{done.stderr}")
    return done.stdout


def run_demos(domains: list[str] | None, out: Path, *, seed: int = 0, quiet: bool = False) -> dict[str, Any]:
    """Run the demos one after another.

    Args:
        domains: Names of domains; all that are installed where None.
        out: The folder to write to; each domain gets a folder of its own name in it.
        seed: Seed of everything random.
        quiet: No progress.

    Returns:
        Domain name to its ``DemoResult`` as plain values, as also written to ``summary.json``.

    Raises:
        InputError: A domain is not installed.
    """
    installed = domain_names()
    unknown = sorted(set(domains or []) - set(installed))
    if unknown or not installed:
        raise InputError(f"no domain {', '.join(unknown) or 'at all'} is installed; there are: {', '.join(installed)}")
    runs = {name: importlib.import_module(f"robustvision.{name}.demo").run for name in domains or installed}
    make_folder(out)
    summary: dict[str, Any] = {}
    for name, run in runs.items():
        if not quiet:
            typer.secho(f"{name}: demo", bold=True, err=True)
        start = time.perf_counter()
        result: DemoResult = run(out / name, seed=seed, quiet=quiet)
        result = dataclasses.replace(
            result,
            seconds=round(time.perf_counter() - start, 1),
            model=f"{name}/{result.model}",
            report=f"{name}/{result.report}",
            pictures=[f"{name}/{picture}" for picture in result.pictures],
        )
        summary[name] = dataclasses.asdict(result)
    write_json(out / "summary.json", summary)
    if not quiet:
        typer.echo(f"reports: {', '.join(str(out / entry['report']) for entry in summary.values())}", err=True)
    return summary

"""Runs that other processes can import."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType

import pytest

RUNS = '''
import os
import random
from pathlib import Path


def measure(params, seed):
    """Log the call, then return something that depends on parameters and seed alone."""
    with Path(params["calls"]).open("a") as calls:
        calls.write(f"{params['level']} {seed}\\n")
    noise = random.Random(seed)
    return {"score": params["level"] + 0.01 * noise.gauss(0, 1), "curve": [noise.random() for _ in range(3)]}


def fail_while_told(params, seed):
    """Raise for one seed while a file lies there."""
    if seed == 1 and params["level"] == 1 and Path(params["calls"]).with_name("trouble").exists():
        raise RuntimeError("no luck today")
    return measure(params, seed)


def die(params, seed):
    """Take the whole process down for one seed of one cell."""
    measure(params, seed)
    if seed == 1 and params["level"] == 1:
        os._exit(9)
    return {"score": float(seed)}


def threads(params, seed):
    return {"threads": int(os.environ["OMP_NUM_THREADS"])}
'''


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A module of run functions that spawned processes find by ``sys.path``."""
    name = f"study_runs_{tmp_path.name}"
    folder = tmp_path / "modules"
    folder.mkdir()
    (folder / f"{name}.py").write_text(RUNS)
    monkeypatch.syspath_prepend(folder)
    return importlib.import_module(name)


@pytest.fixture
def calls(tmp_path: Path) -> Path:
    """Where the runs log their calls, a line each."""
    path = tmp_path / "calls.txt"
    path.touch()
    return path

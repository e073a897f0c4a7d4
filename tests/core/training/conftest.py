"""Shared by the tests of training: the toy domain, and runs of it."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch


@pytest.fixture(scope="session")
def toy() -> ModuleType:
    """The module ``robustvision_toy.py``, importable by its name, also in other processes."""
    sys.path.insert(0, str(Path(__file__).parent))
    return importlib.import_module("robustvision_toy")


@pytest.fixture(scope="session")
def adaptation_toy() -> ModuleType:
    """The module ``robustvision_adaptation_toy.py``, importable by its name, also in other processes."""
    sys.path.insert(0, str(Path(__file__).parent))
    return importlib.import_module("robustvision_adaptation_toy")


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """The number of threads changes the last digits."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def read_log() -> Callable[[Path], list[dict[str, Any]]]:
    """Read a run's log, without its times."""

    def read(work_dir: Path) -> list[dict[str, Any]]:
        lines = [json.loads(line) for line in (work_dir / "log.jsonl").read_text().splitlines()]
        return [{key: value for key, value in line.items() if key != "seconds"} for line in lines]

    return read


@pytest.fixture(scope="session")
def assert_same() -> Callable[..., None]:
    """Compare nested values, tensors to the last bit."""

    def compare(left: Any, right: Any, where: str = "") -> None:
        if isinstance(left, torch.Tensor):
            assert torch.equal(left, right), f"{where}: {(left - right).abs().max()}"
        elif isinstance(left, dict):
            assert left.keys() == right.keys(), where
            for key in left:
                compare(left[key], right[key], f"{where}.{key}")
        elif isinstance(left, (list, tuple)):
            assert len(left) == len(right), where
            for number, (one, other) in enumerate(zip(left, right, strict=True)):
                compare(one, other, f"{where}[{number}]")
        else:
            assert left == right, f"{where}: {left} and {right}"

    return compare

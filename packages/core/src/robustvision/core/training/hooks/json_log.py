"""The run's history as JSON, a line a step."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

from mmengine.dist import is_main_process
from mmengine.hooks import Hook

from robustvision.core.errors import InputError
from robustvision.core.runtime.files import write_atomically

LOG = "log.jsonl"


class JsonLogHook(Hook):
    """Write ``log.jsonl``.

    A training step: ``{"kind": "train", "epoch": 1, "step": 12, "lr": 0.1, "loss": 0.3, ..., "seconds": 0.21}``, with
    every scalar that the model returned or put into mmengine's message hub; a validation has the kind ``val`` and its
    metrics. ``seconds`` is the time since the line before, without what lies between. Epochs and steps count from 1.
    What is not finite is null, since JSON has no NaN. A resumed run drops the lines after its checkpoint and goes on.

    The message hub is emptied each step: mmengine would keep every value of the run in memory, and copy it all each
    step.

    Args:
        interval: Write every so many steps, and the last.

    Raises:
        InputError: ``interval`` is below 1.
    """

    priority = "BELOW_NORMAL"

    def __init__(self, interval: int = 1) -> None:
        if interval < 1:
            raise InputError(f"the log hook has interval {interval}: expected at least 1")
        self.interval = interval
        self._file: IO[str] | None = None
        self._mark = 0.0

    def before_train(self, runner: Any) -> None:
        """Open the log, and drop what a resumed run will write again."""
        if is_main_process():
            path = Path(runner.work_dir) / LOG
            _keep_until(path, runner)
            self._file = path.open("a", encoding="utf-8")

    def before_train_epoch(self, runner: Any) -> None:
        """Start the clock."""
        self._mark = time.perf_counter()

    def before_val_epoch(self, runner: Any) -> None:
        """Start the clock."""
        self._mark = time.perf_counter()

    def after_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Write a step."""
        scalars = _take_scalars(runner.message_hub, "train/")
        if "base_lr" in scalars:  # with settings a parameter, lr is only the first parameter's
            scalars["lr"] = scalars.pop("base_lr")
        step = runner.iter + 1
        if step % self.interval == 0 or step == runner.max_iters:
            self._write("train", runner.epoch + 1, step, scalars)

    def after_val_epoch(self, runner: Any, metrics: Mapping[str, Any] | None = None) -> None:
        """Write a validation."""
        scalars = _take_scalars(runner.message_hub, "val/")
        self._write("val", runner.epoch, runner.iter, scalars)

    def close(self) -> None:
        """Close the log."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _write(self, kind: str, epoch: int, step: int, scalars: Mapping[str, float]) -> None:
        now = time.perf_counter()
        seconds, self._mark = now - self._mark, now
        if self._file is not None:
            line = {"kind": kind, "epoch": epoch, "step": step, **scalars, "seconds": round(seconds, 6)}
            finite = {key: value if _is_json(value) else None for key, value in line.items()}
            self._file.write(json.dumps(finite, allow_nan=False) + "\n")
            self._file.flush()


def _take_scalars(hub: Any, prefix: str) -> dict[str, float]:
    scalars = {name.removeprefix(prefix): history.current() for name, history in hub.log_scalars.items()}
    hub.log_scalars.clear()
    return {name: value.item() if hasattr(value, "item") else value for name, value in scalars.items()}


def _is_json(value: Any) -> bool:
    return not isinstance(value, float) or math.isfinite(value)


def _keep_until(path: Path, runner: Any) -> None:
    """Drop the lines of later steps, the validation that will run again, and a line torn by a kill."""
    if not path.is_file():
        return
    ends_epoch = runner.iter == (runner.epoch + 1) * len(runner.train_dataloader)
    last = {"train": runner.iter, "val": runner.iter - 1 if ends_epoch else runner.iter}
    kept = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True):
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        if line.endswith("\n") and entry["step"] <= last[entry["kind"]]:
            kept.append(line)
    with write_atomically(path) as temporary:
        temporary.write_text("".join(kept), encoding="utf-8")

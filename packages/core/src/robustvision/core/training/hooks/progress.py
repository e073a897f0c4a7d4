"""What a person sees while training runs: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from robustvision.core.runtime.progress import SECONDS_BETWEEN_LINES
from robustvision.core.training.checkpoints import BEST
from robustvision.core.training.hooks.checkpoint import CheckpointHook
from robustvision.core.training.hooks.early_stop import EarlyStopHook


class ProgressHook(Hook):
    """Show progress on stderr: steps, loss, time left, every validation, and where the files lie.

    Args:
        interval_s: Seconds between two lines, where stderr is no terminal.
    """

    priority = "LOWEST"

    def __init__(self, interval_s: float = SECONDS_BETWEEN_LINES) -> None:
        self.interval_s = interval_s
        self._bar: Progress | None = None
        self._is_shown = False
        self._started = self._last_line = 0.0
        self._first_step = 0

    def before_train(self, runner: Any) -> None:
        """Say what begins."""
        self._is_shown = is_main_process()
        self._started = self._last_line = time.monotonic()
        self._first_step = runner.iter
        if not self._is_shown:
            return
        processes = f", {runner.world_size} processes" if runner.world_size > 1 else ""
        threads = torch.get_num_threads()
        going_on = f", going on after step {runner.iter}" if runner.iter else ""
        self._say(
            f"training {runner.recipe_name} on {runner.device}{processes} ({threads} thread{'s' * (threads > 1)}): "
            f"{runner.max_epochs} epochs of {len(runner.train_dataloader)} steps{going_on}; files in {runner.work_dir}"
        )
        console = Console(stderr=True)
        if console.is_terminal:
            columns = (MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn())
            self._bar = Progress(TextColumn("{task.description}"), BarColumn(), *columns, console=console)
            self._bar.add_task("training", total=runner.max_iters, completed=runner.iter)
            self._bar.start()

    def after_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Move on."""
        if not self._is_shown:
            return
        step, loss = runner.iter + 1, float(outputs["loss"].detach())
        if self._bar is not None:
            text = f"epoch {runner.epoch + 1}/{runner.max_epochs}  loss {loss:.4f}"
            self._bar.update(self._bar.task_ids[0], completed=step, description=text)
        elif time.monotonic() - self._last_line >= self.interval_s:
            self._last_line = time.monotonic()
            left = (self._last_line - self._started) / (step - self._first_step) * (runner.max_iters - step)
            epoch = f"epoch {runner.epoch + 1}/{runner.max_epochs}"
            self._say(f"{epoch}, step {step}/{runner.max_iters}: loss {loss:.4f}, {_duration(left)} left")

    def before_val_epoch(self, runner: Any) -> None:
        """Say that a validation runs."""
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], description=f"epoch {runner.epoch}/{runner.max_epochs}  validating")

    def after_val_epoch(self, runner: Any, metrics: Mapping[str, Any] | None = None) -> None:
        """Show a validation's metrics."""
        if self._is_shown:
            checkpoint = _find(runner, CheckpointHook)
            best = " (best so far)" if checkpoint and checkpoint.best_step == runner.iter else ""
            shown = checkpoint.last_metrics if checkpoint else {}
            self._say(f"epoch {runner.epoch}/{runner.max_epochs}: {_listed(shown)}{best}")

    def after_train(self, runner: Any) -> None:
        """Say how it ended."""
        if not self._is_shown:
            return
        self.close()
        early, checkpoint = _find(runner, EarlyStopHook), _find(runner, CheckpointHook)
        if early and early.reason:
            self._say(f"stopped early: {early.reason}")
        end = f"done after {runner.iter} steps, {_duration(time.monotonic() - self._started)}"
        if checkpoint and checkpoint.best_step is not None:
            best = Path(runner.work_dir) / BEST
            end += f"; best at step {checkpoint.best_step}: {_listed(checkpoint.best_metrics)} in {best}"
        self._say(end)

    def close(self) -> None:
        """Give the terminal back."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def _say(self, text: str) -> None:
        if self._bar is not None:
            self._bar.console.print(text, highlight=False, markup=False, soft_wrap=True)
        else:
            sys.stderr.write(text + "\n")
            sys.stderr.flush()


def _find(runner: Any, kind: type[Any]) -> Any:
    return next((hook for hook in runner.hooks if isinstance(hook, kind)), None)


def _listed(metrics: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:.4g}" for name, value in metrics.items()) or "no metrics"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"

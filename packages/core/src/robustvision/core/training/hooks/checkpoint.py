"""When checkpoints are written, and which are kept."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmengine.dist import is_main_process
from mmengine.hooks import Hook

from robustvision.core.errors import InputError
from robustvision.core.training.checkpoints import BEST, numbered_checkpoints
from robustvision.core.training.hooks.score import BestScore, Rule


class CheckpointHook(Hook):
    """Write ``iter_N.pth`` every so many steps, and ``best.pth`` after each validation that is better than all before.

    mmengine's hook of the same name deletes the old file before it writes the new one, and can save between two updates
    of the weights, whose summed gradients are then lost. Here a file is replaced or deleted only after the new one is
    complete, and files are written only after whole updates.

    A file at an epoch's end is written before the validation, and a resume from it runs that validation again: so the
    best score is the same with and without an interruption.

    Args:
        interval: Steps between two files; where accumulated gradients are incomplete, the next whole update. None: once
            an epoch. The last step is always saved.
        max_keep_ckpts: How many ``iter_N.pth`` to keep, at least 2: one may turn out to be broken.
        save_best: The metric that decides about ``best.pth``, with its prefix; None writes no ``best.pth``.
        rule: Whether a greater or a lesser value of it is better.

    Raises:
        InputError: A number or the rule is out of range.
    """

    priority = "VERY_LOW"

    def __init__(
        self,
        interval: int | None = None,
        max_keep_ckpts: int = 2,
        save_best: str | None = None,
        rule: Rule = "greater",
    ) -> None:
        if max_keep_ckpts < 2 or (interval is not None and interval < 1):
            raise InputError(
                f"the checkpoint hook has interval {interval} and max_keep_ckpts {max_keep_ckpts}: expected an "
                "interval of at least 1, and at least 2 files"
            )
        self.interval = interval
        self.max_keep_ckpts = max_keep_ckpts
        self.score = BestScore(save_best, rule) if save_best else None
        self.last_step = 0
        self.best_step: int | None = None
        self.best_metrics: dict[str, float] = {}
        self.last_metrics: dict[str, float] = {}

    def before_run(self, runner: Any) -> None:
        """Refuse a run that could never have a best checkpoint.

        Raises:
            InputError: A best checkpoint is asked for, but the recipe has no validation.
        """
        if self.score is not None and runner.val_loop is None:
            raise InputError(f"save_best={self.score.metric}, but the recipe has no val_dataloader and val_evaluator")

    def before_train(self, runner: Any) -> None:
        """Remove what a killed writer left behind."""
        self.last_step = runner.iter
        if is_main_process():
            for name in ("iter_*", "best"):
                for left_over in Path(runner.work_dir).glob(f".{name}-????????.pth"):
                    left_over.unlink()

    def after_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Write a file if one is due."""
        step = runner.iter + 1
        if not self._is_due(runner, step):
            return
        self._save(runner, step)

    def after_train(self, runner: Any) -> None:
        """Save what an early stop has left between two files."""
        if self.last_step != runner.iter:
            self._save(runner, runner.iter)

    def after_val_epoch(self, runner: Any, metrics: Mapping[str, Any] | None = None) -> None:
        """Write ``best.pth`` if the validation was the best so far.

        Raises:
            TrainingError: The validation gave no such metric.
        """
        self.last_metrics = _numbers(metrics or {})
        if self.score is None or not self.score.update(self.score.read(self.last_metrics)):
            return
        self.best_step, self.best_metrics = runner.iter, self.last_metrics
        meta = {"epoch": runner.epoch, "iter": runner.iter, "metrics": self.best_metrics}
        runner.save_checkpoint(runner.work_dir, BEST, save_optimizer=False, meta=meta)

    def before_save_checkpoint(self, runner: Any, checkpoint: dict[str, Any]) -> None:
        """Save the best score."""
        checkpoint["validation"] = {
            "save_best": self.score.metric if self.score else None,
            "best_score": self.score.value if self.score else None,
            "best_step": self.best_step,
            "best_metrics": self.best_metrics,
            "last_metrics": self.last_metrics,
        }

    def after_load_checkpoint(self, runner: Any, checkpoint: dict[str, Any]) -> None:
        """Restore it, when a run goes on."""
        saved = checkpoint.get("validation")
        if not runner.is_resuming or saved is None:
            return
        self.last_metrics = saved["last_metrics"]
        if self.score is not None and self.score.metric == saved["save_best"]:
            self.score.value, self.best_step = saved["best_score"], saved["best_step"]
            self.best_metrics = saved["best_metrics"]

    def _save(self, runner: Any, step: int) -> None:
        runner.save_checkpoint(runner.work_dir, f"iter_{step}.pth", meta={"epoch": runner.epoch, "iter": step})
        self.last_step = step
        if is_main_process():
            numbered = numbered_checkpoints(runner.work_dir)
            written = [number for number in numbered if number <= step]  # a later one is broken: we resumed before it
            for number in written[: -self.max_keep_ckpts]:
                numbered[number].unlink()

    def _is_due(self, runner: Any, step: int) -> bool:
        if step == runner.max_iters:
            return True
        whole = runner.accumulative_counts
        interval = self.interval or len(runner.train_dataloader)
        return step % whole == 0 and step // interval > (step - whole) // interval


def _numbers(metrics: Mapping[str, Any]) -> dict[str, float]:
    """The metrics that are single numbers, of whatever library."""
    numbers = {}
    for name, value in metrics.items():
        if not isinstance(value, (str, bytes)):
            with contextlib.suppress(TypeError, ValueError, RuntimeError):
                numbers[name] = float(value)
    return numbers

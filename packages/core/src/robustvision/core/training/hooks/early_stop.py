"""Stop when the validation no longer improves."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from mmengine.hooks import Hook

from robustvision.core.errors import InputError
from robustvision.core.training.hooks.score import BestScore, Rule


class EarlyStopHook(Hook):
    """End the training after some validations without improvement; the count survives a resume.

    Args:
        monitor: The metric's name, with its prefix.
        rule: Whether a greater or a lesser value is better.
        patience: After how many validations in a row without improvement to stop, at least 1.
        min_delta: By how much a value must be better to count as an improvement.

    Raises:
        InputError: ``patience`` or ``rule`` is out of range.
    """

    priority = "LOWEST"

    def __init__(self, monitor: str, rule: Rule = "greater", patience: int = 5, min_delta: float = 0.0) -> None:
        if patience < 1:
            raise InputError(f"patience is {patience} in EarlyStopHook: expected at least 1")
        self.score = BestScore(monitor, rule, min_delta)
        self.patience = patience
        self.waited = 0
        self.reason: str | None = None

    def after_val_epoch(self, runner: Any, metrics: Mapping[str, Any] | None = None) -> None:
        """Judge a validation.

        Raises:
            TrainingError: The validation gave no such metric.
        """
        value = self.score.read(metrics or {})
        self.waited = 0 if self.score.update(value) else self.waited + 1
        if not math.isfinite(value):
            self.waited = self.patience
        self._stop_if_due(runner)

    def _stop_if_due(self, runner: Any) -> None:
        if self.waited >= self.patience:
            best = "none" if self.score.value is None else f"{self.score.value:.4g}"
            self.reason = f"{self.score.metric} has not improved on {best} for {self.waited} validation(s)"
            runner.train_loop.stop_training = True

    def before_save_checkpoint(self, runner: Any, checkpoint: dict[str, Any]) -> None:
        """Save the count and the best value."""
        checkpoint["early_stop"] = {"waited": self.waited, "best": self.score.value}

    def after_load_checkpoint(self, runner: Any, checkpoint: dict[str, Any]) -> None:
        """Restore them, when a run goes on."""
        if runner.is_resuming and "early_stop" in checkpoint:
            self.waited = checkpoint["early_stop"]["waited"]
            self.score.value = checkpoint["early_stop"]["best"]
            self._stop_if_due(runner)

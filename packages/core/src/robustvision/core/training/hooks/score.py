"""The best value of a validation metric so far."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal

from robustvision.core.errors import InputError, TrainingError

Rule = Literal["greater", "less"]


class BestScore:
    """Keep the best value of a metric, and tell whether a new one is better.

    Args:
        metric: The metric's name, as the evaluator gives it, with its prefix.
        rule: Whether a greater or a lesser value is better.
        min_delta: By how much a value must be better to count.

    Raises:
        InputError: ``rule`` is something else.
    """

    def __init__(self, metric: str, rule: Rule, min_delta: float = 0.0) -> None:
        if rule not in ("greater", "less"):
            raise InputError(f"rule is {rule!r} for the metric {metric}: expected 'greater' or 'less'")
        self.metric, self.rule, self.min_delta = metric, rule, min_delta
        self.value: float | None = None

    def read(self, metrics: Mapping[str, Any]) -> float:
        """Take the metric out of a validation's metrics.

        Args:
            metrics: What the validation gave.

        Returns:
            The value, which may be NaN.

        Raises:
            TrainingError: The validation gave no such metric.
        """
        if self.metric not in metrics:
            known = ", ".join(metrics) or "none"
            raise TrainingError(f"the validation gave no metric {self.metric}: it gave {known}. Name one of these")
        return float(metrics[self.metric])

    def update(self, value: float) -> bool:
        """Take a new value.

        Args:
            value: The value; NaN is never better.

        Returns:
            Whether it is the best so far.
        """
        gain = 0.0 if self.value is None else value - self.value
        if self.rule == "less":
            gain = -gain
        is_better = math.isfinite(value) and (self.value is None or gain > self.min_delta)
        if is_better:
            self.value = value
        return is_better

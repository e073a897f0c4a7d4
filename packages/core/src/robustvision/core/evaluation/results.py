"""What a study found: tables, paired comparisons and verdicts over its finished runs."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from robustvision.core.errors import InputError
from robustvision.core.runtime.files import strict_json, write_json

from .claims import Claim, Comparison, Direction, Verdict, compare, judge
from .intervals import Interval
from .records import Record
from .student import t_interval


@dataclass(frozen=True)
class StudyResults:
    """The finished, failed and missing runs of a study.

    Attributes:
        name: The study's name.
        cells: Label -> parameters.
        seeds: All seeds, finished or not.
        records: One a run that was finished or failed, seeds in the outer order.
        missing: (cell, seed) of every run that has not been tried yet.
    """

    name: str
    cells: dict[str, dict[str, Any]]
    seeds: tuple[int, ...]
    records: tuple[Record, ...]
    missing: tuple[tuple[str, int], ...]

    @property
    def failures(self) -> tuple[Record, ...]:
        """The runs that raised; their tracebacks are in ``error``. Running the study again tries them again."""
        return tuple(record for record in self.records if record.status == "failed")

    @property
    def complete(self) -> bool:
        """Whether every run is done."""
        return not self.missing and not self.failures

    @property
    def metrics(self) -> dict[str, dict[int, dict[str, Any]]]:
        """Cell label -> seed -> metric -> value, of the finished runs."""
        found: dict[str, dict[int, dict[str, Any]]] = {cell: {} for cell in self.cells}
        for record in self.records:
            if record.status == "done":
                found[record.cell][record.seed] = record.metrics
        return found

    def table(self, metrics: Sequence[str] | None = None, confidence: float = 0.95) -> list[dict[str, Any]]:
        """Mean and t interval of every cell and metric over its finished seeds.

        Args:
            metrics: Which; by default all that are single numbers.
            confidence: Coverage of the intervals.

        Returns:
            A row a cell: ``cell``, ``seeds`` (how many are finished), and an :class:`Interval` a metric. It is NaN
            where a seed gave no finite number, since a mean over the rest would flatter, and None where nothing was
            measured.

        Raises:
            InputError: If a metric was never measured.
        """
        found = self.metrics
        known = list(
            dict.fromkeys(name for record in self.records for name, v in record.metrics.items() if _is_number(v))
        )
        if metrics is not None and not set(metrics) <= set(known):
            raise InputError(
                f"study {self.name!r} has no metric {sorted(set(metrics) - set(known))}: there are {known}"
            )
        rows = []
        for cell in self.cells:
            runs = list(found[cell].values())
            row: dict[str, Any] = {"cell": cell, "seeds": len(runs)}
            for name in known if metrics is None else metrics:
                row[name] = _summary([run[name] for run in runs if _is_number(run.get(name))], confidence)
            rows.append(row)
        return rows

    def compare(
        self,
        treatment: str,
        baseline: str,
        metric: str,
        *,
        better: Direction = "higher",
        minimum_effect: float = 0.0,
        confidence: float = 0.95,
    ) -> Comparison:
        """Compare two cells over the seeds that both have finished.

        Args:
            treatment: Label of the cell that is judged.
            baseline: Label of the cell that it is compared with.
            metric: What is compared.
            better: Whether a ``higher`` or a ``lower`` value is better.
            minimum_effect: What the interval is compared with, in the metric's unit.
            confidence: Coverage of the interval.

        Returns:
            The paired differences and what they say.

        Raises:
            InputError: If a cell or the metric is missing, fewer than two seeds are common, or a value is not finite.
        """
        found = self.metrics
        common = tuple(
            seed for seed in self.seeds if seed in found.get(treatment, ()) and seed in found.get(baseline, ())
        )
        return compare(
            found,
            treatment,
            baseline,
            metric,
            seeds=common,
            better=better,
            minimum_effect=minimum_effect,
            confidence=confidence,
        )

    def judge(self, claim: Claim) -> Verdict:
        """Judge a claim; all its seeds must be finished in all its cells.

        Args:
            claim: The claim.

        Returns:
            The verdict.

        Raises:
            InputError: If anything that the claim names is missing.
        """
        return judge(claim, self.metrics)

    def to_dict(self) -> dict[str, Any]:
        """Everything, as plain values for JSON: parameters, every run, and the table; None for what is not finite."""
        content = {
            "name": self.name,
            "cells": self.cells,
            "seeds": list(self.seeds),
            "complete": self.complete,
            "table": [
                {name: asdict(value) if isinstance(value, Interval) else value for name, value in row.items()}
                for row in self.table()
            ],
            "runs": [asdict(record) for record in self.records],
            "missing": [{"cell": cell, "seed": seed} for cell, seed in self.missing],
        }
        return strict_json(content)

    def to_json(self, path: str | os.PathLike[str]) -> Path:
        """Write :meth:`to_dict` as JSON.

        Args:
            path: The file.

        Returns:
            Its path.
        """
        return write_json(path, self.to_dict())

    def to_markdown(self, metrics: Sequence[str] | None = None, confidence: float = 0.95) -> str:
        """The table as Markdown, with a line for what is not in it.

        Args:
            metrics: As in :meth:`table`.
            confidence: Coverage of the intervals.

        Returns:
            The text.
        """
        lines = [markdown_table(self.table(metrics, confidence))]
        if not self.complete:
            lines.append(f"{len(self.failures)} runs failed, {len(self.missing)} were not started.")
        return "\n\n".join(lines)


def markdown_table(rows: Sequence[dict[str, Any]]) -> str:
    """Rows of equal keys as a Markdown table.

    Args:
        rows: At least one; values are shown by ``str``, floats with four digits, None as a dash.

    Returns:
        The text.

    Example:
        >>> print(markdown_table([{"cell": "a|b", "loss": 0.123456}]))
        | cell | loss |
        |---|---|
        | a\\|b | 0.1235 |
    """
    cells = [[_shown(value) for value in row.values()] for row in rows]
    lines = [[_shown(name) for name in rows[0]], *cells]
    text = ["| " + " | ".join(line) + " |" for line in lines]
    text.insert(1, "|" + "---|" * len(rows[0]))
    return "\n".join(text)


def _summary(values: list[float], confidence: float) -> Interval | None:
    if not values:
        return None
    if not all(map(math.isfinite, values)):
        return Interval(math.nan, math.nan, math.nan, confidence)
    return t_interval(values, confidence)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float)


def _shown(value: Any) -> str:
    text = "–" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)
    return text.replace("|", "\\|").replace("\n", " ")

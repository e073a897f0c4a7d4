"""Equal tuning: every method gets a grid of the same size on the same seeds, and only its best point is compared."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from robustvision.core.errors import InputError
from robustvision.core.runtime.files import strict_json, write_json

from .claims import Direction, check_direction
from .intervals import Interval
from .results import StudyResults, markdown_table
from .study import Run, Study


@dataclass(frozen=True)
class TunedComparison:
    """A tuning study, what it chose, and the study of what was chosen.

    Attributes:
        methods: Method -> its grid, in the order in which ties are broken.
        metric: The validation metric that chose.
        better: Whether a ``higher`` or a ``lower`` value of it was chosen.
        tuning: Results of every grid point on the tuning seeds; cell ``<method>.<i>`` is point i of the method's grid.
        chosen: Method -> index of the chosen point; empty while the tuning is not complete.
        results: The chosen points on the evaluation seeds, one cell a method; None while the tuning is not complete.
    """

    methods: dict[str, tuple[dict[str, Any], ...]]
    metric: str
    better: Direction
    tuning: StudyResults
    chosen: dict[str, int]
    results: StudyResults | None

    @property
    def complete(self) -> bool:
        """Whether every run of both studies is done."""
        return self.results is not None and self.results.complete

    def tuning_table(self) -> list[dict[str, Any]]:
        """Every grid point with its validation metric, so that a reader sees whether the best lies on the grid's edge.

        Returns:
            A row a point: ``method``, ``params``, the metric as an :class:`Interval` (None if not measured),
            ``chosen``.
        """
        measured = {row["cell"]: row.get(self.metric) for row in self.tuning.table()}
        return [
            {
                "method": method,
                "params": ", ".join(f"{name}={value}" for name, value in params.items()),
                self.metric: measured[_cell(method, i)],
                "chosen": self.chosen.get(method) == i,
            }
            for method, grid in self.methods.items()
            for i, params in enumerate(grid)
        ]

    def to_dict(self) -> dict[str, Any]:
        """Everything, as plain values for JSON; None for what is not finite."""
        content = {
            "metric": self.metric,
            "better": self.better,
            "tuning_table": [
                {name: asdict(value) if isinstance(value, Interval) else value for name, value in row.items()}
                for row in self.tuning_table()
            ],
            "chosen": {method: self.methods[method][i] for method, i in self.chosen.items()},
            "tuning": self.tuning.to_dict(),
            "results": None if self.results is None else self.results.to_dict(),
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

    def to_markdown(self) -> str:
        """Both tables as Markdown."""
        tables = [markdown_table(self.tuning_table())]
        if self.results is not None:
            tables.append(self.results.to_markdown())
        return "\n\n".join(tables)


def tune_then_compare(
    name: str,
    run: Run,
    methods: Mapping[str, Sequence[Mapping[str, Any]]],
    *,
    metric: str,
    better: Direction = "higher",
    tuning_seeds: Sequence[int],
    seeds: Sequence[int],
    out_dir: str | os.PathLike[str],
    workers: int = 1,
    threads: int | None = None,
    max_minutes: float | None = None,
    quiet: bool = False,
) -> TunedComparison:
    """Choose the best point of each method's grid on the tuning seeds, then measure it on the evaluation seeds.

    The choice is the best mean of ``metric`` over the tuning seeds; the first point of the grid where means are equal;
    a point that gave a NaN on any seed comes last. Evaluation begins only when every tuning run is done.

    Args:
        name: Name of the comparison.
        run: As for :class:`~robustvision.core.evaluation.Study`; it returns the validation metric and the test metrics.
        methods: Method -> its grid of full parameters. All grids must have the same size: that is the equal budget.
        metric: The validation metric that chooses; it must not be measured on test data.
        better: Whether a ``higher`` or a ``lower`` value of it is better.
        tuning_seeds: Seeds of the tuning; none of them may be an evaluation seed.
        seeds: Seeds of the evaluation.
        out_dir: Files go to ``tuning`` and ``evaluation`` in it; a second call resumes.
        workers: As for :meth:`~robustvision.core.evaluation.Study.execute`.
        threads: Likewise.
        max_minutes: For both parts together.
        quiet: No progress.

    Returns:
        Both studies and the choice. Where time ran out in the tuning, nothing is chosen yet.

    Raises:
        InputError: If grids differ in size, a seed serves both, a tuning run failed, or a method has no finite metric.
    """
    check_direction(better)
    grids = {method: tuple(dict(params) for params in grid) for method, grid in methods.items()}
    if len({len(grid) for grid in grids.values()}) > 1:
        sizes = {method: len(grid) for method, grid in grids.items()}
        raise InputError(
            f"grids have different sizes {sizes}: an equal tuning budget needs as many points for each method"
        )
    if set(tuning_seeds) & set(seeds):
        raise InputError(f"seeds {sorted(set(tuning_seeds) & set(seeds))} serve tuning and evaluation: keep them apart")
    folder, begin = Path(out_dir), time.monotonic()
    points = {_cell(method, i): params for method, grid in grids.items() for i, params in enumerate(grid)}
    tuning = Study(f"{name}: tuning", run, points, tuning_seeds, folder / "tuning").execute(
        workers=workers, threads=threads, max_minutes=max_minutes, quiet=quiet
    )
    if tuning.failures:
        first = tuning.failures[0]
        raise InputError(
            f"{len(tuning.failures)} tuning runs failed, first {first.cell!r} with seed {first.seed}: "
            f"{first.error.strip().splitlines()[-1]}. Repair and run again (finished runs are kept); a run that "
            "diverges should return NaN instead"
        )
    if tuning.missing:
        return TunedComparison(grids, metric, better, tuning, {}, None)
    chosen = {method: _best(tuning, method, len(grid), metric, better) for method, grid in grids.items()}
    evaluation = Study(name, run, {m: grids[m][i] for m, i in chosen.items()}, seeds, folder / "evaluation")
    left = None if max_minutes is None else max_minutes - (time.monotonic() - begin) / 60
    results = evaluation.execute(workers=workers, threads=threads, max_minutes=left, quiet=quiet)
    return TunedComparison(grids, metric, better, tuning, chosen, results)


def _cell(method: str, index: int) -> str:
    return f"{method}.{index}"


def _best(tuning: StudyResults, method: str, points: int, metric: str, better: Direction) -> int:
    """Index of the point with the best mean; the first of equals."""
    worst = -math.inf if better == "higher" else math.inf
    rows = {row["cell"]: row[metric] for row in tuning.table([metric])}
    means = []
    for i in range(points):
        interval = rows[_cell(method, i)]
        means.append(worst if interval is None or math.isnan(interval.estimate) else interval.estimate)
    best = max(means) if better == "higher" else min(means)
    if math.isinf(best):
        raise InputError(f"no point of {method!r} gave a finite {metric} on all tuning seeds: look at the tuning runs")
    return means.index(best)

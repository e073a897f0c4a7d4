"""A study: a grid of cells times seeds, measured once each, in parallel, across interruptions.

The way data goes: ``Study.execute`` hands each (cell, seed) that has no finished file to ``run(params, seed)`` in some
process; that process writes one JSON file (``records``); ``StudyResults`` reads the files back (``results``). The
result of a study is therefore the same whether it was run at once or in ten pieces, serially or in parallel.

The process lines of a script that runs one look like this; the guard is needed wherever processes are spawned::

    def run(params, seed):                       # at the top level of a module
        return {"accuracy": train_and_test(**params, seed=seed)}

    if __name__ == "__main__":
        cells = {"plain": {"loss": "ce"}, "robust": {"loss": "sce"}}
        results = Study("noise", run, cells, seeds=range(5), out_dir="runs/noise").execute(workers=2)
        print(results.to_markdown())
"""

from __future__ import annotations

import contextlib
import datetime
import os
import pickle
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from robustvision.core.errors import InputError
from robustvision.core.runtime.cores import available_cores
from robustvision.core.runtime.parallel import WorkerError, run_ordered

from .records import Record, check_label, plain_metrics, plain_params, read_record, record_path, write_record
from .results import StudyResults
from .versions import library_versions

Run = Callable[[dict[str, Any], int], Mapping[str, Any]]

_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


@dataclass(frozen=True, repr=False)
class _Task:
    run: Run
    study: str
    cell: str
    seed: int
    params: dict[str, Any]
    path: Path
    threads: int
    deadline: float  # of time.time(), which all processes share

    def __repr__(self) -> str:
        return f"<cell {self.cell!r}, seed {self.seed}>"

    def record(self, *, metrics: dict[str, Any] | None = None, error: str = "", seconds: float = 0.0) -> Record:
        return Record(
            study=self.study,
            cell=self.cell,
            seed=self.seed,
            params=self.params,
            status="failed" if error else "done",
            metrics=metrics or {},
            error=error,
            seconds=seconds,
            threads=self.threads,
            finished=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            versions=library_versions(),
        )


class Study:
    """A grid of cells times seeds.

    Args:
        name: The study's name.
        run: ``run(params, seed)`` returns metric -> number or list of numbers. With more than one worker it must be a
            function at the top level of a module. All its randomness must come from the seed. A run that diverges
            should return NaN; what it raises counts as a failure of the run.
        cells: Label -> parameters, which must be plain (JSON). Labels name folders. The code of ``run`` is not part of
            what a finished file is known by: after a change that matters, add a parameter such as ``"version": 2``.
        seeds: Different whole numbers.
        out_dir: The folder for the files; made if it is missing.

    Raises:
        InputError: If there is no cell or no seed, a seed is there twice, or a label or parameter cannot be written.
    """

    def __init__(
        self,
        name: str,
        run: Run,
        cells: Mapping[str, Mapping[str, Any]],
        seeds: Sequence[int],
        out_dir: str | os.PathLike[str],
    ) -> None:
        if not cells or not len(seeds):
            raise InputError(
                f"study {name!r} has {len(cells)} cells and {len(seeds)} seeds: it needs at least one of each"
            )
        if len(set(seeds)) < len(seeds):
            raise InputError(f"study {name!r}: a seed is there twice in {list(seeds)}")
        for label in cells:
            check_label(label)
        if len({label.casefold() for label in cells}) < len(cells):
            raise InputError(
                f"study {name!r}: two labels differ only by case, and would share a folder on some systems"
            )
        self.name = name
        self.run = run
        self.cells = {label: plain_params(params, label) for label, params in cells.items()}
        self.seeds = tuple(int(seed) for seed in seeds)
        self.out_dir = Path(out_dir)

    def results(self) -> StudyResults:
        """What the folder holds so far of these cells, parameters and seeds.

        Returns:
            The results; empty if nothing was run yet.
        """
        records: list[Record] = []
        missing: list[tuple[str, int]] = []
        for cell, seed in self._pairs():
            record = read_record(self._path(cell, seed))
            if record is None:
                missing.append((cell, seed))
            else:
                records.append(record)
        return StudyResults(self.name, self.cells, self.seeds, tuple(records), tuple(missing))

    def execute(
        self,
        *,
        workers: int = 1,
        threads: int | None = None,
        max_minutes: float | None = None,
        quiet: bool = False,
    ) -> StudyResults:
        """Run what is not finished yet, and failed runs again.

        Seeds are the outer loop, so that whatever a time budget leaves is paired. A failing run is recorded with its
        traceback and does not stop the others.

        Args:
            workers: Processes; with 1 everything runs in this one.
            threads: Threads a run may use: told to torch, and to OpenMP, MKL and OpenBLAS where the run loads them. By
                default the cores are shared out among the workers. Thread counts can change results in the last
                digits: fix the number where a study is to come out the same with another number of workers.
            max_minutes: When so much time is used up, no new run is started (those under way are finished), and a
                warning says how many are left.
            quiet: No progress.

        Returns:
            All results so far, those of earlier calls included.

        Raises:
            InputError: If ``run`` cannot be handed to another process, or the folder cannot be written to.
        """
        if workers < 1 or (threads is not None and threads < 1):
            raise InputError(f"workers is {workers} and threads {threads}: expected at least 1 of each")
        if workers > 1:
            self._check_picklable()
        share = threads or max(1, available_cores() // workers)
        deadline = float("inf") if max_minutes is None else time.time() + 60 * max_minutes
        so_far = {(record.cell, record.seed): record for record in self.results().records}
        tasks = [
            _Task(self.run, self.name, cell, seed, self.cells[cell], self._path(cell, seed), share, deadline)
            for cell, seed in self._pairs()
            if (cell, seed) not in so_far or so_far[cell, seed].status == "failed"
        ]
        self._make_folder()
        not_started = self._run_tasks(tasks, so_far, workers, quiet)
        if not_started:
            warnings.warn(
                f"study {self.name!r}: the time is used up; {not_started} of {len(tasks)} runs were not started: run "
                "it again to go on",
                stacklevel=2,
            )
        return self.results()

    def _run_tasks(self, tasks: list[_Task], so_far: dict[tuple[str, int], Record], workers: int, quiet: bool) -> int:
        """Run tasks; one that takes its process down is recorded as failed, and the rest goes on.

        Returns:
            How many were not started because the time was up.
        """
        while tasks:
            try:
                return run_ordered(_run_task, tasks, workers=workers, label=self.name, quiet=quiet).count(False)
            except WorkerError as error:
                deadly = next((task for task in tasks if repr(task) in str(error)), None)
                if deadly is None:  # no process could be started at all
                    raise
                write_record(deadly.path, deadly.record(error=str(error)))
                # Those that were under way are run anew; a record that is new since the start is final.
                tasks = [
                    task
                    for task in tasks
                    if task is not deadly and read_record(task.path) in (None, so_far.get((task.cell, task.seed)))
                ]
        return 0

    def _pairs(self) -> Iterator[tuple[str, int]]:
        return ((cell, seed) for seed in self.seeds for cell in self.cells)

    def _path(self, cell: str, seed: int) -> Path:
        return record_path(self.out_dir, cell, seed, self.cells[cell])

    def _make_folder(self) -> None:
        try:
            self.out_dir.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(
                f"cannot make the folder {self.out_dir} ({error.strerror}): name another out_dir"
            ) from error

    def _check_picklable(self) -> None:
        try:
            pickle.dumps(self.run)
        except Exception as error:
            raise InputError(
                f"study {self.name!r}: run cannot be handed to another process ({error}): define it at the top level "
                "of a module, or use workers=1"
            ) from error


def _run_task(task: _Task) -> bool:
    """Run one (cell, seed) and write its file; False if the time was up before."""
    if time.time() >= task.deadline:
        return False
    metrics: dict[str, Any] = {}
    error = ""
    begin = time.perf_counter()
    with _limited_threads(task.threads):
        try:
            metrics = plain_metrics(task.run(dict(task.params), task.seed))
        except Exception:
            error = traceback.format_exc()
    write_record(task.path, task.record(metrics=metrics, error=error, seconds=time.perf_counter() - begin))
    return True


@contextlib.contextmanager
def _limited_threads(threads: int) -> Iterator[None]:
    """Libraries that are loaded inside read the variables; torch that is loaded already is told (never imported)."""
    before = {name: os.environ.get(name) for name in _THREAD_VARIABLES}
    os.environ.update(dict.fromkeys(_THREAD_VARIABLES, str(threads)))
    torch = sys.modules.get("torch")
    torch_threads = torch.get_num_threads() if torch else 0
    if torch:
        torch.set_num_threads(threads)
    try:
        yield
    finally:
        if torch:
            torch.set_num_threads(torch_threads)
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value

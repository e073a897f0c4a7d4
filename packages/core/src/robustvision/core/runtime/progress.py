"""Progress on stderr: a bar where a person watches, an occasional plain line where a log is written."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

SECONDS_BETWEEN_LINES = 10.0

Item = TypeVar("Item")


def track(iterable: Iterable[Item], label: str, *, total: int | None = None, quiet: bool = False) -> Iterator[Item]:
    """Pass items on and show how far it is.

    Args:
        iterable: The items.
        label: What is being done, such as ``embedding photos``.
        total: How many items there are; ``None`` asks ``len(iterable)``, and does without where it has none.
        quiet: Whether to show nothing.

    Yields:
        The items, unchanged and one at a time.
    """
    if total is None:
        total = _length(iterable)
    with progress_bar(label, total=total, quiet=quiet) as advance:
        for item in iterable:
            yield item
            advance()


@contextmanager
def progress_bar(label: str, *, total: int | None = None, quiet: bool = False) -> Iterator[Callable[[], None]]:
    """Show progress for work that is not a loop over items.

    Args:
        label: What is being done.
        total: How many steps there are, if that is known.
        quiet: Whether to show nothing.

    Yields:
        A function to call after each step.
    """
    if quiet:
        yield lambda: None
    elif sys.stderr.isatty():
        with _rich_bar(label, total) as advance:
            yield advance
    else:
        lines = _PlainLines(label, total)
        yield lines.advance
        lines.finish()


@contextmanager
def _rich_bar(label: str, total: int | None) -> Iterator[Callable[[], None]]:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task(label, total=total)
        yield lambda: progress.advance(task)


class _PlainLines:
    """A line at the end, and one every ten seconds before it."""

    def __init__(self, label: str, total: int | None) -> None:
        self._label = label
        self._total = total
        self._done = 0
        self._start_s = self._shown_s = time.monotonic()

    def advance(self) -> None:
        self._done += 1
        if time.monotonic() - self._shown_s >= SECONDS_BETWEEN_LINES:
            self._show()

    def finish(self) -> None:
        self._show()

    def _show(self) -> None:
        self._shown_s = time.monotonic()
        elapsed_s = self._shown_s - self._start_s
        line = f"{self._label}: {self._done}" + (f" of {self._total}" if self._total is not None else "")
        line += f", {elapsed_s:.0f} s"
        if self._total and 0 < self._done < self._total:
            line += f", about {elapsed_s / self._done * (self._total - self._done):.0f} s to go"
        print(line, file=sys.stderr, flush=True)  # noqa: T201


def _length(iterable: Iterable[Item]) -> int | None:
    try:
        return len(iterable)  # type: ignore[arg-type]
    except TypeError:
        return None

"""One function over many items, in several processes, with the results in order.

Workers are started by ``spawn``, never by ``fork``: onnxruntime, OpenCV and torch keep threads and locks, and a forked
copy of a process inherits the locks without the threads that would open them, so it can hang for ever. A spawned worker
imports anew, which costs as long as the function's own imports take; hand it work that is worth that.

This is an own pool of some lines and not ``concurrent.futures``, because that one breaks as a whole when a worker dies
and cannot say which item killed it.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import pickle
import signal
import traceback
from collections.abc import Callable, Generator, Iterable, Sized
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from multiprocessing.reduction import ForkingPickler
from typing import Any, Literal, TypeVar

from robustvision.core.errors import InputError, MissingExtraError, RobustVisionError
from robustvision.core.runtime.cores import available_cores, default_threads
from robustvision.core.runtime.progress import progress_bar

Item = TypeVar("Item")
Result = TypeVar("Result")
Backend = Literal["process", "ray", "serial"]
Answers = Generator[tuple[int, Any], None, None]

_ATTEMPTS = 2
_CONTEXT = multiprocessing.get_context("spawn")


class WorkerError(RobustVisionError, RuntimeError):
    """A worker process that died, twice on the same item or before it could take one."""


def run_ordered(
    function: Callable[[Item], Result],
    items: Iterable[Item],
    *,
    workers: int | None = None,
    backend: Backend = "process",
    label: str | None = None,
    quiet: bool = False,
) -> list[Result]:
    """Apply a function to every item.

    Items are taken one a free worker, so a long or endless-looking generator is read only as fast as it is worked off.
    A worker that dies (killed for its memory, a crash in a native library) is replaced and its item tried once more;
    the others go on. A worker's ``OMP_NUM_THREADS`` is its share of the cores, so that models opened there share them.

    Args:
        function: Takes one item; for processes it must be importable (not a lambda or nested), and a script must call
            this under ``if __name__ == "__main__":``.
        items: The items; for processes they and the results are pickled.
        workers: Number of processes; ``None`` takes one a core. With one, the work is done here, as with ``serial``.
        backend: ``process``; ``ray`` for more than one machine (needs the extra ``ray``, joins a running cluster if
            ``RAY_ADDRESS`` names one); ``serial`` for none of it.
        label: What is being done, for the progress line; ``None`` shows none.
        quiet: Whether to show no progress.

    Returns:
        The results, in the order of the items.

    Raises:
        WorkerError: A worker died twice on the same item, or cannot start.
        InputError: ``workers`` or ``backend`` is not possible, or something cannot be pickled.
        MissingExtraError: ``ray`` is not installed.
        Exception: Whatever the function raises, with a note (for our own errors: a message) that names the item. The
            first one ends the run.
    """
    workers = available_cores() if workers is None else workers
    if workers < 1:
        raise InputError(f"workers is {workers}: it must be at least 1")
    if backend not in _BACKENDS:
        raise InputError(f"backend is {backend!r}: choose process, ray or serial")
    total = len(items) if isinstance(items, Sized) else None
    run = _serial if workers == 1 and backend == "process" else _BACKENDS[backend]
    results: dict[int, Result] = {}
    answers = run(function, items, workers)
    with progress_bar(label or "", total=total, quiet=quiet or label is None) as advance, contextlib.closing(answers):
        for index, result in answers:
            results[index] = result
            advance()
    return [results[index] for index in range(len(results))]


def _serial(function: Callable[[Any], Any], items: Iterable[Any], workers: int) -> Answers:
    for index, item in enumerate(items):
        try:
            result = function(item)
        except Exception as error:
            _name_item(error, index, item)
            raise
        yield index, result


@dataclass
class _Task:
    index: int
    item: Any
    payload: bytes
    attempts: int = 0


class _Worker:
    """A process and our end of the pipe to it; it holds one task at a time."""

    def __init__(self, function: bytes, threads: int) -> None:
        self.connection, theirs = _CONTEXT.Pipe()
        self.process: SpawnProcess = _CONTEXT.Process(target=_work, args=(theirs, threads))
        self.process.start()
        theirs.close()  # else the end of the process would not close the pipe
        self.is_ready = False
        self.task: _Task | None = None
        with contextlib.suppress(OSError):  # it died already: the answer tells
            self.connection.send_bytes(function)

    def give(self, task: _Task) -> None:
        self.task = task
        task.attempts += 1
        with contextlib.suppress(OSError):
            self.connection.send_bytes(task.payload)

    def answer(self) -> tuple[Any, ...] | None:
        """The message that arrived; ``None`` if the process died."""
        try:
            message: tuple[Any, ...] = pickle.loads(self.connection.recv_bytes())
        except (EOFError, OSError):
            self.process.join(timeout=5)
            return None
        return message

    def stop(self) -> None:
        """End the process: at once if it is at work, else by closing the pipe that it listens to."""
        if self.task is not None:
            self.process.terminate()
        self.connection.close()
        self.process.join(timeout=5)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()


def _in_processes(function: Callable[[Any], Any], items: Iterable[Any], workers: int) -> Answers:
    code = _pickled(function, "the function", "define it at the top of a module")
    threads = max(1, default_threads() // workers)
    tasks = (
        _Task(index, item, _pickled(item, f"item {index}", "pass plain values, arrays or paths"))
        for index, item in enumerate(items)
    )
    pool: list[_Worker] = []
    try:
        while True:
            busy = [worker for worker in pool if worker.task is not None]
            idle = [worker for worker in pool if worker.task is None]
            while len(busy) < workers and (task := next(tasks, None)) is not None:
                if not idle:
                    idle.append(_Worker(code, threads))
                    pool.append(idle[-1])
                busy.append(idle.pop())
                busy[-1].give(task)
            if not busy:
                return
            ready = wait([worker.connection for worker in busy])
            for worker in [worker for worker in busy if worker.connection in ready]:
                message = worker.answer()
                if message is None:
                    pool[pool.index(worker)] = _replace(worker, code, threads)
                elif message[0] == "ready":
                    worker.is_ready = True
                else:
                    yield _result(worker, message)
    finally:
        for worker in pool:
            worker.stop()


def _replace(dead: _Worker, code: bytes, threads: int) -> _Worker:
    """A new worker with the dead one's task, if that has an attempt left."""
    exit_code, task = dead.process.exitcode, dead.task
    dead.task = None
    dead.stop()
    if not dead.is_ready:
        raise WorkerError(
            f"a worker process could not start (exit code {exit_code}; its own message is above): a script must call "
            'run_ordered under `if __name__ == "__main__":`, and the function must lie in a module that can be imported'
        )
    if task is None:
        raise AssertionError("only a worker with a task is listened to")
    if task.attempts >= _ATTEMPTS:
        raise WorkerError(
            f"{_label(task.index, task.item)} ended its worker process {task.attempts} times (exit code {exit_code}; "
            "-9 is often the system's answer to too much memory): leave it out, or use fewer workers"
        )
    worker = _Worker(code, threads)
    worker.give(task)
    return worker


def _result(worker: _Worker, message: tuple[Any, ...]) -> tuple[int, Any]:
    """Take a finished task off its worker."""
    task = worker.task
    if task is None:
        raise AssertionError("only a worker with a task is listened to")
    worker.task = None
    if message[0] == "done":
        return task.index, message[1]
    error, text = message[1:]
    _name_item(error, task.index, task.item)
    raise error from RuntimeError(f"in a worker process:\n{text}")


def _work(connection: Connection, threads: int) -> None:
    """A worker's life: take the function, then item after item until the pipe closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    os.environ["OMP_NUM_THREADS"] = str(threads)  # before the function's module imports its libraries
    try:
        function = pickle.loads(connection.recv_bytes())
        connection.send(("ready",))
        while True:
            connection.send_bytes(_answer(function, connection.recv_bytes()))
    except (EOFError, OSError):
        return


def _answer(function: Callable[[Any], Any], payload: bytes) -> bytes:
    try:
        return bytes(_pickled(("done", function(pickle.loads(payload))), "the result", "return plain values or arrays"))
    except Exception as error:
        text = traceback.format_exc()
        try:
            message = pickle.dumps(("failed", error, text))
            pickle.loads(message)  # an exception may pickle and yet not come back
        except Exception:
            message = pickle.dumps(("failed", RuntimeError(f"{type(error).__name__}: {error}"), text))
        return message


def _with_ray(function: Callable[[Any], Any], items: Iterable[Any], workers: int) -> Answers:
    try:
        import ray
    except ModuleNotFoundError as error:
        raise MissingExtraError("backend='ray' needs ray: pip install 'robustvision-core[ray]'", name="ray") from error
    is_ours = not ray.is_initialized()
    if is_ours:
        size = {} if "RAY_ADDRESS" in os.environ else {"num_cpus": workers}  # a running cluster has its own
        ray.init(include_dashboard=False, log_to_driver=False, logging_level="ERROR", **size)
    try:
        remote = ray.remote(max_retries=_ATTEMPTS - 1)(function)
        numbered = enumerate(items)
        pending: dict[Any, tuple[int, Any]] = {}
        while True:
            while len(pending) < workers and (entry := next(numbered, None)) is not None:
                pending[remote.remote(entry[1])] = entry
            if not pending:
                return
            for reference in ray.wait(list(pending), num_returns=1)[0]:
                index, item = pending.pop(reference)
                try:
                    result = ray.get(reference)
                except ray.exceptions.WorkerCrashedError as error:
                    raise WorkerError(f"{_label(index, item)} ended its worker process: {error}") from error
                except ray.exceptions.RayTaskError as error:
                    _name_item(error.cause, index, item)
                    raise error.cause from error
                yield index, result
    finally:
        if is_ours:
            ray.shutdown()


_BACKENDS: dict[str, Callable[[Callable[[Any], Any], Iterable[Any], int], Answers]] = {
    "process": _in_processes,
    "ray": _with_ray,
    "serial": _serial,
}


def _pickled(value: object, what: str, remedy: str) -> bytes:
    try:
        return bytes(ForkingPickler.dumps(value))
    except (pickle.PicklingError, AttributeError, TypeError, RecursionError) as error:
        raise InputError(f"{what} cannot be sent between processes ({error}): {remedy}") from error


def _name_item(error: Exception, index: int, item: object) -> None:
    """Tell in an error on which item it happened: in the message of our own errors, in a note of others."""
    if isinstance(error, RobustVisionError) and not isinstance(error, ImportError):  # that one keeps its text elsewhere
        error.args = (f"{_label(index, item)}: {error}",)
    else:
        error.add_note(f"while working on {_label(index, item)}")


def _label(index: int, item: object) -> str:
    text = repr(item)
    return f"item {index} ({text if len(text) <= 200 else text[:200] + '...'})"

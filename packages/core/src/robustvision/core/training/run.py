"""Train a recipe: the folder and the device checked first, then the runner, then the record of what came out."""

from __future__ import annotations

import errno
import logging
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch.distributed as dist
from mmengine import Config
from torch.distributed import DistError

from robustvision.core.errors import InputError, TrainingError
from robustvision.core.training.checkpoints import BEST, find_checkpoint
from robustvision.core.training.defaults import check_complete, with_defaults
from robustvision.core.training.hooks.early_stop import EarlyStopHook
from robustvision.core.training.hooks.record import RecordHook
from robustvision.core.training.processes import (
    is_distributed,
    join_group,
    leave_group,
    on_first_process,
    resolve_device,
)
from robustvision.core.training.run_record import RunRecord
from robustvision.core.training.runner import Runner
from robustvision.core.training.tree import as_config, as_tree
from robustvision.core.training.work_dir import check_space, prepare_work_dir


@dataclass(frozen=True)
class TrainResult:
    """What a training run left behind.

    Attributes:
        work_dir: The work folder, with ``run.json``, ``log.jsonl``, ``config.py`` and the checkpoints.
        checkpoint: The weights to evaluate or export: ``best.pth``, or the last checkpoint where no best one is kept.
        metrics: The validation metrics of ``checkpoint``; empty without validation.
        best_step: The step of ``best.pth``; None where there is none.
        last_checkpoint: The last ``iter_N.pth``.
        last_metrics: The metrics of the last validation.
        step: The number of steps that were trained, those before a resume included.
        epoch: The number of epochs.
        stopped_early: Whether an ``EarlyStopHook`` ended the run.
        seconds: How long this call took.
    """

    work_dir: Path
    checkpoint: Path
    metrics: Mapping[str, float]
    best_step: int | None
    last_checkpoint: Path
    last_metrics: Mapping[str, float]
    step: int
    epoch: int
    stopped_early: bool
    seconds: float


def train(
    recipe: Config | Mapping[str, Any],
    *,
    work_dir: str | Path,
    seed: int = 0,
    device: str = "auto",
    resume: bool = False,
    quiet: bool = False,
) -> TrainResult:
    """Train a recipe.

    The same call runs in one process, or under ``torchrun`` in many; ``batch_size`` counts a process. A run that was
    killed goes on with ``resume=True`` as if nothing had happened: on a CPU with the same number of threads, to the
    last bit.

    Args:
        recipe: From :func:`robustvision.core.training.load_recipe`, or a dict of the same form.
        work_dir: Where everything goes; new or empty, unless ``resume``.
        seed: The seed of the weights, the order of the data, dropout, and all else that is random; below 2^32.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        resume: Go on from the newest checkpoint that can be read.
        quiet: Show nothing but errors.

    Returns:
        The checkpoints and metrics.

    Raises:
        InputError: The recipe, the device or the folder cannot be used; nothing has been trained.
        TrainingError: The loss or a weight is not finite, another process died, or the disk is full.
    """
    config = with_defaults(recipe)
    check_complete(config)
    target = resolve_device(device)
    joined = join_group(target, config.env_cfg.dist_cfg.get("timeout", 600))
    try:
        on_first_process(lambda: prepare_work_dir(work_dir, resume=resume))
        start = find_checkpoint(work_dir) if resume else None
        return _train(config, work_dir=work_dir, seed=seed, device=device, resume_from=start, quiet=quiet)
    finally:
        if joined:
            leave_group()


def build_runner(
    recipe: Config | Mapping[str, Any],
    *,
    work_dir: str | Path,
    seed: int = 0,
    device: str = "auto",
    resume_from: Path | None = None,
    quiet: bool = False,
) -> Runner:
    """Build the runner of a recipe; the model is built, the data are not read yet.

    Args:
        recipe: From :func:`robustvision.core.training.load_recipe`, or a dict of the same form.
        work_dir: The work folder, which is made if missing.
        seed: The seed, below 2^32.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        resume_from: The checkpoint to go on from.
        quiet: Show nothing but errors.

    Returns:
        The runner; ``close`` it after use.

    Raises:
        InputError: The recipe or the device cannot be used.
    """
    if not 0 <= seed < 2**32:
        raise InputError(f"seed is {seed}: expected 0 to 2^32 - 1")
    config = with_defaults(recipe)
    check_complete(config)
    tree = as_tree(config)
    load_from = resume_from or tree.get("load_from")
    if load_from is not None and not Path(load_from).is_file():
        raise InputError(f"load_from is {load_from}: expected a local file (addresses of servers are not followed)")
    hooks = {name: hook for name, hook in tree["default_hooks"].items() if hook is not None or name in _ENGINE_HOOKS}
    if quiet:
        hooks.pop("progress", None)
    tree |= {
        "default_hooks": hooks,
        "work_dir": str(work_dir),
        "randomness": {"seed": seed},
        "load_from": None if load_from is None else str(load_from),
        "resume": resume_from is not None,
        "launcher": "pytorch" if is_distributed() else "none",
        "env_cfg": {**tree["env_cfg"], "device": str(resolve_device(device))},
        # mmengine keeps loggers and hubs in globals by this name
        "experiment_name": uuid.uuid4().hex,
    }
    runner = Runner.from_cfg(as_config(tree))
    runner.recipe = config
    return runner


_ENGINE_HOOKS = ("runtime_info", "timer", "sampler_seed", "logger", "param_scheduler", "checkpoint")


def _train(recipe: Config, **settings: Any) -> TrainResult:
    """Build the runner and run it; nothing holds it afterwards."""
    runner = build_runner(recipe, **settings)
    try:
        return _run(runner)
    finally:
        runner.close()


def _run(runner: Runner) -> TrainResult:
    started = time.perf_counter()
    keeper = runner.checkpoint_hook

    def check_disk() -> None:
        check_space(runner.work_dir, runner.model, has_average=runner.has_average, kept=keeper.max_keep_ckpts)

    on_first_process(check_disk)
    record = RunRecord(runner.work_dir, is_written=runner.rank == 0)
    runner.register_hook(RecordHook(record))
    try:
        runner.train()
    except BaseException as error:
        _record_failure(record, error)
        explained = _explain(error, runner)
        if explained is None:
            raise
        raise explained from error
    result = _collect(runner, time.perf_counter() - started)
    record.end(
        "finished",
        steps=result.step,
        epochs=result.epoch,
        stopped_early=result.stopped_early,
        metrics={"checkpoint": dict(result.metrics), "last": dict(result.last_metrics)},
        best_step=result.best_step,
        checkpoint=result.checkpoint.name,
    )
    return result


def _collect(runner: Runner, seconds: float) -> TrainResult:
    if dist.is_initialized():
        dist.barrier()  # the first process has written everything
    keeper = runner.checkpoint_hook
    early = [hook.reason for hook in runner.hooks if isinstance(hook, EarlyStopHook)]
    folder = Path(runner.work_dir)
    has_best = keeper.best_step is not None and (folder / BEST).is_file()
    last = folder / f"iter_{keeper.last_step}.pth"
    return TrainResult(
        work_dir=folder,
        checkpoint=folder / BEST if has_best else last,
        metrics=keeper.best_metrics if has_best else keeper.last_metrics,
        best_step=keeper.best_step,
        last_checkpoint=last,
        last_metrics=keeper.last_metrics,
        step=runner.iter,
        epoch=runner.epoch,
        stopped_early=any(early),
        seconds=seconds,
    )


def _record_failure(record: RunRecord, error: BaseException) -> None:
    status = "interrupted" if isinstance(error, KeyboardInterrupt) else "failed"
    try:
        record.end(status, error=f"{type(error).__name__}: {error}")
    except (OSError, InputError):
        logging.getLogger("robustvision").warning("the failure could not be recorded in %s", record.path)


def _explain(error: BaseException, runner: Runner) -> TrainingError | None:
    """Errors of the machine, in the words of a user; None for all others."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return TrainingError(
            f"the disk of {runner.work_dir} is full: free space and go on with --resume; the checkpoints are good"
        )
    is_broken_off = isinstance(error, DistError) or (isinstance(error, RuntimeError) and "peer" in str(error))
    if runner.distributed and is_broken_off:
        reason = str(error).partition("\n")[0]
        return TrainingError(f"another process of this run ended: see its own error above ({reason})")
    return None

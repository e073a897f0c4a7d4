"""On which device a run trains, and how its processes find each other.

One process is the rule. Under ``torchrun`` every process runs the same program; they form a group with NCCL on CUDA and
gloo on a CPU, and mmengine's part that would insist on CUDA is left out.
"""

from __future__ import annotations

import datetime
import gc
import os
from collections.abc import Callable

import torch
import torch.distributed as dist

from robustvision.core.errors import InputError, TrainingError


def resolve_device(device: str) -> torch.device:
    """Choose the device of this process.

    Args:
        device: ``auto`` (CUDA where there is any), ``cpu``, ``cuda``, or ``cuda:1`` for one process on a certain one.

    Returns:
        The device; under ``torchrun`` every process gets its own CUDA device.

    Raises:
        InputError: There is no such device.
    """
    kind, _, number = device.partition(":")
    if kind not in ("auto", "cpu", "cuda") or (number and not (kind == "cuda" and number.isdigit())):
        raise InputError(f"device {device!r}: expected auto, cpu, cuda or cuda:N")
    available = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if kind == "cpu" or (kind == "auto" and not available):
        return torch.device("cpu")
    if not available:
        raise InputError(
            f"device {device!r}: torch {torch.__version__} finds no CUDA device here; use device cpu or auto"
        )
    index = int(number or os.environ.get("LOCAL_RANK", "0"))
    if index >= available:
        raise InputError(f"CUDA device {index} is asked for, but there are {available}, numbered from 0")
    return torch.device("cuda", index)


def is_distributed() -> bool:
    """Whether this process is one of a group, or was started by ``torchrun`` to become one.

    Returns:
        True or false.
    """
    return dist.is_initialized() or all(name in os.environ for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR"))


def join_group(device: torch.device, timeout_s: float) -> bool:
    """Form the group, if this run has one and it does not stand yet.

    Args:
        device: This process's device.
        timeout_s: After how many seconds without an answer of another process the run ends.

    Returns:
        Whether the group was formed here, and has to be left with ``leave_group``.
    """
    if not is_distributed() or dist.is_initialized():
        return False
    # mmengine would set these with a warning
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("MKL_NUM_THREADS", os.environ["OMP_NUM_THREADS"])
    timeout = datetime.timedelta(seconds=timeout_s)
    if device.type == "cuda":
        torch.cuda.set_device(device)
        dist.init_process_group("nccl", timeout=timeout, device_id=device)
    else:
        dist.init_process_group("gloo", timeout=timeout)
    return True


def leave_group() -> None:
    """Leave the group of processes, and end its threads.

    Models wrapped for many processes hold on to the group, in reference cycles: until these are collected, threads of
    gloo live on, and one that lets go of a tensor while the interpreter shuts down aborts the process.
    """
    if dist.is_initialized():
        dist.destroy_process_group()
        gc.collect()


def is_first_process() -> bool:
    """Whether this process is the one of its run that writes and speaks.

    Returns:
        True in a run of one process, and in the first of several.
    """
    return os.environ.get("RANK", "0") == "0"


def on_first_process(check: Callable[[], None]) -> None:
    """Run a check in the first process alone, and raise its error in all.

    Args:
        check: The check; raises an ``InputError`` or ``TrainingError``, or returns.

    Raises:
        InputError: The check raised it.
        TrainingError: The check raised it.
    """
    if not dist.is_initialized():
        check()
        return
    failure: list[InputError | TrainingError | None] = [None]
    if dist.get_rank() == 0:
        try:
            check()
        except (InputError, TrainingError) as error:
            failure = [error]
    dist.broadcast_object_list(failure, src=0)
    if failure[0] is not None:
        raise failure[0]

"""How many cores there are to use: a container or a batch system often grants fewer than the machine has."""

from __future__ import annotations

import os


def available_cores() -> int:
    """Cores that this process may use, by its CPU affinity where the system has one."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def default_threads() -> int:
    """Threads for one computation: `available_cores`, lowered by ``OMP_NUM_THREADS`` where that is set."""
    limit = os.environ.get("OMP_NUM_THREADS", "")
    return min(available_cores(), int(limit)) if limit.isdecimal() and int(limit) else available_cores()

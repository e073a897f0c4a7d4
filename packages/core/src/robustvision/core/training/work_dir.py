"""The work folder of a run: looked at before anything else, so that no training ends for want of a place to write."""

from __future__ import annotations

import shutil
from pathlib import Path

from torch import nn

from robustvision.core.errors import InputError
from robustvision.core.runtime.files import write_atomically
from robustvision.core.training.checkpoints import numbered_checkpoints

_PROBES = ("probe.tmp", ".probe-")  # files of this check, perhaps of another process
_SLACK = 16 * 2**20  # logs, and what else writes to the disk


def prepare_work_dir(work_dir: str | Path, *, resume: bool) -> None:
    """Make the folder, and make sure that a run can write to it.

    Args:
        work_dir: The folder.
        resume: Whether a run goes on there; otherwise the folder must be empty or new.

    Raises:
        InputError: It cannot be written to, holds something, or holds nothing to resume.
    """
    folder = Path(work_dir)
    if resume and not folder.is_dir():
        raise InputError(f"nothing to resume: there is no folder {folder}. Start anew, without --resume")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        held = sorted(file.name for file in folder.iterdir() if not file.name.startswith(_PROBES))
    except OSError as error:
        reason = error.strerror or str(error)
        raise InputError(f"cannot use {folder} as the work folder ({reason}): choose another one") from error
    if held and not resume:
        raise InputError(_occupied(folder, held))
    try:
        with write_atomically(folder / _PROBES[0]) as probe:
            probe.write_bytes(bytes(4096))
        (folder / _PROBES[0]).unlink(missing_ok=True)
    except OSError as error:
        reason = error.strerror or str(error)
        raise InputError(
            f"cannot write to the work folder {folder} ({reason}): free space, or choose another"
        ) from error


def check_space(work_dir: str | Path, model: nn.Module, *, has_average: bool, kept: int) -> None:
    """Make sure that the checkpoints of a run fit on the disk.

    Args:
        work_dir: The folder.
        model: The model.
        has_average: Whether the checkpoints hold averaged weights as well (EMA).
        kept: How many checkpoints are kept.

    Raises:
        InputError: They do not fit.
    """
    weights = sum(tensor.numel() * tensor.element_size() for tensor in model.state_dict().values())
    copies = 2 if has_average else 1
    full = (copies + 2) * weights  # Adam keeps two values a weight
    # one more of each: the old file goes only when the new one is complete
    need = full * (kept + 1) + copies * weights * 2 + _SLACK
    need -= sum(file.stat().st_size for file in numbered_checkpoints(work_dir).values())
    free = shutil.disk_usage(work_dir).free
    if free < need:
        raise InputError(
            f"the disk of {work_dir} has {free / 2**20:.0f} MiB free, and the checkpoints of this run need up to "
            f"{need / 2**20:.0f} MiB: free space, choose another work folder, or keep fewer "
            f"(default_hooks.checkpoint.max_keep_ckpts, now {kept}, at least 2)"
        )


def _occupied(folder: Path, held: list[str]) -> str:
    numbered = numbered_checkpoints(folder)
    if numbered:
        newest = list(numbered.values())[-1].name
        return f"{folder} already holds a run ({newest}): go on with it by --resume, or choose another work folder"
    if "run.json" in held:
        return f"{folder} holds a run that ended before its first checkpoint: remove the folder, or choose another one"
    listed = ", ".join(held[:3]) + (" ..." if len(held) > 3 else "")
    return f"the work folder {folder} is not empty ({listed}): choose a new one"

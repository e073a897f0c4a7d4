"""Checkpoints: found, read and written. They hold tensors and plain values only, so that reading one runs no code.

``iter_N.pth`` in a work folder goes on with training; ``best.pth`` holds the weights of the best validation. Both keep
the model under ``state_dict`` (with EMA: the averaged weights, with the raw ones under ``ema_state_dict``).
"""

from __future__ import annotations

import pickle
import re
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from robustvision.core.errors import InputError, TrainingError
from robustvision.core.runtime.files import write_atomically

BEST = "best.pth"
_NUMBERED = re.compile(r"iter_(\d+)\.pth")


def numbered_checkpoints(work_dir: str | Path) -> dict[int, Path]:
    """The ``iter_N.pth`` files of a work folder.

    Args:
        work_dir: The folder.

    Returns:
        Path by number of steps, ascending.
    """
    found = {
        int(match[1]): file for file in Path(work_dir).glob("iter_*.pth") if (match := _NUMBERED.fullmatch(file.name))
    }
    return dict(sorted(found.items()))


def find_checkpoint(work_dir: str | Path) -> Path:
    """The newest checkpoint with which training can go on; files that cannot be read are passed over.

    Args:
        work_dir: A work folder, which may have been moved.

    Returns:
        The ``iter_N.pth`` file.

    Raises:
        InputError: There is none.
    """
    failures = []
    for file in reversed(numbered_checkpoints(work_dir).values()):
        try:
            read_checkpoint(file)
        except InputError as error:
            failures.append(str(error))
        else:
            return file
    reason = f": {failures[0]}" if failures else ": there is no iter_N.pth in it"
    raise InputError(f"nothing to resume in {work_dir}{reason}. Start anew in another folder, without --resume")


def find_weights(path: str | Path) -> Path:
    """The weights to evaluate or export.

    Args:
        path: A checkpoint, or the work folder of a run.

    Returns:
        The file; in a folder ``best.pth`` if it is there, else the newest ``iter_N.pth``.

    Raises:
        InputError: There is none.
    """
    path = Path(path)
    if path.is_dir():
        candidates = [path / BEST, *reversed(numbered_checkpoints(path).values())]
        path = next((file for file in candidates if file.is_file()), path / BEST)
    if not path.is_file():
        raise InputError(f"no checkpoint at {path}: give a .pth file, or the work folder of a run that has saved one")
    return path


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """Read a checkpoint without running code from it.

    Args:
        path: A local file.

    Returns:
        Its content, with tensors on the CPU.

    Raises:
        InputError: It is no local file, is torn, or holds more than tensors and plain values.
    """
    file = Path(path)
    if not file.is_file():
        raise InputError(f"no checkpoint at {path}: expected a local file (addresses of servers are not followed)")
    try:
        content = torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise InputError(f"{path} {_foreign(file)}") from error
    except Exception as error:  # a torn file raises whatever its first missing byte leads to
        raise InputError(f"{path} is torn, or no PyTorch file ({type(error).__name__}): get it again") from error
    if not isinstance(content, dict):
        raise InputError(
            f"{path} holds a {type(content).__name__}: expected a dict of tensors, or a checkpoint of a run"
        )
    return content


def load_weights(module: nn.Module, path: str | Path, *, prefix: str = "") -> None:
    """Load weights into a module; every name and shape must fit.

    Args:
        module: The module, changed in place.
        path: A checkpoint of a run, or a plain state dict.
        prefix: Take only the entries that begin with it, and without it: ``"backbone."`` loads a part of a model.

    Raises:
        InputError: The file cannot be read, holds values that are not finite, or does not fit the module.
    """
    content = read_checkpoint(path)
    state = content.get("state_dict", content)
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise InputError(f"{path} holds no weights: expected a dict of tensors, or one under state_dict")
    if all(name.startswith("module.") for name in state):  # saved from inside DistributedDataParallel
        state = {name.removeprefix("module."): value for name, value in state.items()}
    state = {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
    fit_state(module, state, f"{path}")
    broken = not_finite(state) - not_finite(dict(module.named_buffers()))
    if broken:
        raise InputError(f"{path} holds values that are not finite in {_some(broken)}: take an earlier checkpoint")
    module.load_state_dict(state)


def fit_state(module: nn.Module, state: Mapping[str, Tensor], source: str) -> None:
    """Refuse weights that do not fit a module.

    Args:
        module: The module.
        state: The weights by name.
        source: Where they come from, for the message.

    Raises:
        InputError: Names are missing or left over, or shapes differ.
    """
    own = module.state_dict()
    problems = []
    if missing := own.keys() - state.keys():
        problems.append(f"lacks {_some(missing)}")
    if left_over := state.keys() - own.keys():
        problems.append(f"has {_some(left_over)}, which the model has not")
    shapes = {
        f"{name} {tuple(value.shape)} for {tuple(own[name].shape)}"
        for name, value in state.items()
        if name in own and value.shape != own[name].shape
    }
    if shapes:
        problems.append(f"has other shapes: {_some(shapes)}")
    if problems:
        raise InputError(f"{source} does not fit {type(module).__name__}: it {'; it '.join(problems)}")


def write_checkpoint(path: str | Path, checkpoint: Mapping[str, Any]) -> None:
    """Write a checkpoint; it appears complete or not at all.

    Args:
        path: The file.
        checkpoint: Tensors and plain values; arrays and numpy's numbers are turned into these.

    Raises:
        TrainingError: It holds something else, which could not be read back without running code.
    """
    content = as_plain(checkpoint)
    with write_atomically(path) as temporary:
        torch.save(content, temporary)


def as_plain(value: Any, where: str = "checkpoint") -> Any:
    """Turn a value into tensors, dicts, lists, tuples, strings and numbers.

    Args:
        value: The value.
        where: Its place, for the message.

    Returns:
        The plain value; tensors on the CPU.

    Raises:
        TrainingError: It holds something that is none of these.
    """
    if isinstance(value, Tensor):
        return value.detach().cpu()
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray) and value.dtype.kind in "biuf":
        return torch.from_numpy(value.copy())
    if value is None or type(value) in (bool, int, float, str, bytes):
        return value
    if isinstance(value, Mapping):
        plain = {key: as_plain(item, f"{where}[{key!r}]") for key, item in value.items()}
        if not hasattr(value, "_metadata"):
            return plain
        state = OrderedDict(plain)
        state._metadata = value._metadata  # type: ignore[attr-defined]  # the versions of torch's own modules
        return state
    if isinstance(value, (list, tuple)):
        items = [as_plain(item, f"{where}[{number}]") for number, item in enumerate(value)]
        return items if isinstance(value, list) else tuple(items)
    raise TrainingError(
        f"{where} is a {type(value).__module__}.{type(value).__qualname__}: checkpoints hold tensors and plain values "
        "only, so that reading one runs no code. Keep plain values in hooks and in the message hub"
    )


def not_finite(state: Mapping[str, Any]) -> set[str]:
    """Which tensors hold a NaN or an infinity.

    Args:
        state: Tensors by name; other values are passed over.

    Returns:
        Their names.
    """
    tensors = {name: value for name, value in state.items() if isinstance(value, Tensor) and value.is_floating_point()}
    return {name for name, value in tensors.items() if not torch.isfinite(value).all()}


def _foreign(file: Path) -> str:
    try:
        found = torch.serialization.get_unsafe_globals_in_checkpoint(file)
    except Exception:  # it is only for the message
        found = []
    origin = ", as checkpoints of mmengine itself do" if any(name.startswith("mmengine.") for name in found) else ""
    return (
        f"holds Python objects ({', '.join(sorted(found)[:4]) or 'of unknown kinds'}){origin}, and reading these can "
        "run code. Only where you trust who made it, convert it once: "
        "torch.save(torch.load(old, weights_only=False)['state_dict'], new)"
    )


def _some(names: set[str] | Mapping[str, Any], limit: int = 5) -> str:
    first = sorted(names)[:limit]
    return ", ".join(first) + (f" and {len(names) - limit} more" if len(names) > limit else "")

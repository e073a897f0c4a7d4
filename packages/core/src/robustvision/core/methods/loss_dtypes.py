"""Whether a loss over classes stays finite: extreme scores, half precision, one class, zeros, NaN, a compiler."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from robustvision.core.errors import InputError
from robustvision.core.methods.examined_loss import ExaminedLoss

MAGNITUDES = (10.0, 100.0, 1e4)
DTYPES = (torch.float32, torch.bfloat16, torch.float16)
ROUNDING_ERROR = 1e-4
"""The largest relative error of a loss that computes half-precision scores in float32."""


@dataclass(frozen=True)
class DtypeSafety:
    """What a loss does with scores that are extreme, of half precision, or wrong.

    Attributes:
        is_safe: Whether there are no problems.
        problems: What went wrong, a sentence each.
        finite: dtype -> whether value and gradient are finite up to scores of +-1e4 (a cosine loss: +-1).
        bfloat16_error: Relative error of the value of bfloat16 scores against float64 for the same scores.
        bfloat16_rounding: The same against the scores before their rounding to bfloat16, which no loss can avoid.
        one_class: "value 0", "finite", "refused" or what went wrong.
        zero_scores: Whether value and gradient are finite where all scores are 0.
        isolates_nan: Whether a sample of NaN leaves the others and the stored state alone; None where the loss gives
            only a mean or sum.
        compiles: Whether ``torch.compile(fullgraph=True)`` takes it; else the reason.
    """

    is_safe: bool
    problems: tuple[str, ...]
    finite: dict[str, bool]
    bfloat16_error: float
    bfloat16_rounding: float
    one_class: str
    zero_scores: bool
    isolates_nan: bool | None
    compiles: bool | str


def measure_dtypes(loss: ExaminedLoss, scores: list[Tensor]) -> DtypeSafety:
    """Try everything; an error of the loss is a problem, not a crash."""
    problems: list[str] = []
    finite = {}
    for dtype in DTYPES:
        name = str(dtype).removeprefix("torch.")
        broken = _not_finite(loss, dtype)
        finite[name] = not broken
        if broken:
            problems.append(f"{name}: {broken}")
    zero_problem = _trouble(loss, torch.zeros(2, loss.num_classes))
    if zero_problem:
        problems.append(f"scores of 0: {zero_problem}")
    error, rounding = _bfloat16_errors(loss, torch.cat(scores[1:3]))
    if not error <= ROUNDING_ERROR:
        problems.append(f"bfloat16: a relative error of {error:.2g}, computed in half precision")
    one_class = _one_class(loss)
    if one_class not in ("value 0", "finite", "refused"):
        problems.append(f"one class: {one_class}")
    isolates = _isolates_nan(loss, scores[1][:4])
    if isolates is False:
        problems.append("NaN in one sample reaches others, or what is stored")
    compiles = _compiles(loss, scores[1][:4])
    if compiles is not True:
        problems.append(f"torch.compile: {compiles}")
    return DtypeSafety(
        is_safe=not problems,
        problems=tuple(problems),
        finite=finite,
        bfloat16_error=error,
        bfloat16_rounding=rounding,
        one_class=one_class,
        zero_scores=not zero_problem,
        isolates_nan=isolates,
        compiles=compiles,
    )


def _not_finite(loss: ExaminedLoss, dtype: torch.dtype) -> str:
    """Which scores give something that is not finite; nothing where all is well."""
    for magnitude in MAGNITUDES:
        size = min(magnitude, loss.limit)
        f = torch.zeros(6, loss.num_classes)
        f[0], f[0, 0] = size, -size  # the own class last
        f[1], f[1, 0] = -size, size  # the own class first
        f[2, 0], f[3, 0], f[4], f[5] = -size, size, size, -size
        trouble = _trouble(loss, f.to(dtype))
        if trouble:
            return f"{trouble} at scores of +-{size:g}"
    return ""


def _trouble(loss: ExaminedLoss, f: Tensor) -> str:
    try:
        values, gradients = loss.values_and_gradients(f, torch.zeros(len(f), dtype=torch.long))
    except Exception as error:  # whatever a user's loss raises is a finding
        return _first_line(error)
    parts = [name for name, x in (("value", values), ("gradient", gradients)) if not x.isfinite().all()]
    return f"{' and '.join(parts)} not finite" if parts else ""


def _bfloat16_errors(loss: ExaminedLoss, f: Tensor) -> tuple[float, float]:
    target = torch.arange(len(f)) % loss.num_classes
    half = f.bfloat16()
    # Divided here, so that the division of cosines is not done in bfloat16, and counted as the loss's error.
    as_scores = dataclasses.replace(loss, scale=1.0)
    scores = (half.double() / loss.scale).bfloat16()
    try:
        got = as_scores.values(scores, target).detach().double()
    except Exception:  # already told by _not_finite
        return float("nan"), float("nan")
    same, before = (as_scores.values(x, target).detach().double() for x in (scores.double(), f / loss.scale))
    return tuple(((got - x).abs().mean() / x.abs().mean()).item() for x in (same, before))  # type: ignore[return-value]


def _one_class(loss: ExaminedLoss) -> str:
    try:
        single = dataclasses.replace(loss, num_classes=1)
        values, gradients = single.values_and_gradients(torch.tensor([[2.0 * 0.25]]), torch.tensor([0]))
    except InputError:
        return "refused"
    except Exception as error:
        return _first_line(error)
    if not (values.isfinite().all() and gradients.isfinite().all()):
        return "value or gradient not finite"
    return "value 0" if values.abs().max() < 1e-6 else "finite"


def _isolates_nan(loss: ExaminedLoss, f: Tensor) -> bool | None:
    """Compare a batch that holds a sample of NaN with one that lacks it; in training, where state is written."""
    if not loss.knows_samples:
        return None
    target = torch.zeros(len(f), dtype=torch.long)
    clean = dataclasses.replace(loss, call=_in_training(loss)).values_and_gradients(f[:-1], target[:-1])
    poisoned = f.clone()
    poisoned[-1] = torch.nan
    call = _in_training(loss)
    try:
        dirty = dataclasses.replace(loss, call=call).values_and_gradients(poisoned, target)
    except Exception:  # refusing NaN poisons nothing
        return True
    same = all(torch.allclose(a, b[:-1], rtol=1e-4, atol=1e-6) for a, b in zip(clean, dirty, strict=True))
    stored = call.buffers() if isinstance(call, nn.Module) else ()
    return same and all(bool(buffer.isfinite().all()) for buffer in stored)


def _compiles(loss: ExaminedLoss, f: Tensor) -> bool | str:
    torch.compiler.reset()  # losses share code, and a few of one code are all that the compiler takes
    scores, target = (f / loss.scale).float().requires_grad_(), torch.zeros(len(f), dtype=torch.long)
    keywords = {"index": torch.arange(len(f))} if loss.takes_index else {}
    try:
        compiled = torch.compile(_in_training(loss), fullgraph=True, backend="eager")(scores, target, **keywords)
    except Exception as error:
        return _first_line(error)
    plain = _in_training(loss)(scores, target, **keywords)
    return True if torch.allclose(compiled, plain, rtol=1e-5, equal_nan=True) else "other values than without"


def _in_training(loss: ExaminedLoss) -> Callable[..., Any]:
    """A copy in training mode, so that what is measured does not change."""
    return copy.deepcopy(loss.call).train() if isinstance(loss.call, nn.Module) else loss.call


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"

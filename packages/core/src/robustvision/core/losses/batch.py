"""The way of every loss over classes: check a batch, compute one value a sample, weigh and reduce.

A target is a class index, or, where a loss is defined for them, a distribution over the classes (soft targets).
``check_batch`` looks at what came and casts it to float32 at least; ``Batch.reduce`` ends the way.
``ClassificationLoss`` makes a module of a function that goes it, with one signature for all:
``loss(logits, target, *, index, weight)``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, elu

from robustvision.core.errors import InputError
from robustvision.core.losses.labels import (
    IGNORED,
    check_and_count,
    check_reduction,
    check_scores,
    describe,
    mass,
    reduce,
)


class Batch(NamedTuple):
    """The checked scores and targets of one batch.

    Attributes:
        logits: [B, C], float32 or float64.
        target: int64 [B] with class 0 in the place of ignored labels; or, where ``is_soft``, a float [B, C].
        counted: bool [B]: which samples are not ignored; None where all are known to count.
        weight: One weight a sample, [B], or None.
        reduction: "none", "mean" or "sum".
    """

    logits: Tensor
    target: Tensor
    counted: Tensor | None
    weight: Tensor | None
    reduction: str

    @property
    def is_soft(self) -> bool:
        """Whether the targets are distributions over the classes."""
        return self.target.ndim == 2

    def expect(self, of_log_p: Callable[[Tensor], Tensor]) -> Tensor:
        """A function of the log-probability of a sample's class, [B]; its mean under the target where that is soft."""
        if self.is_soft:
            return (self.target * of_log_p(self.logits.log_softmax(1))).sum(1)
        return of_log_p(-cross_entropy(self.logits, self.target, reduction="none"))

    def own(self, values: Tensor) -> Tensor:
        """The entry of each sample's own class, [B, C] to [B]; the mean under the target where that is soft."""
        if self.is_soft:
            return (self.target * values).sum(1)
        return own_entry(values, self.target)

    def reduce(self, losses: Tensor) -> Tensor:
        """Weigh and reduce the losses of the samples, [B]."""
        return reduce(losses, self.counted, self.reduction, self.weight)

    def shares(self) -> Tensor | float:
        """The derivative of ``reduce``'s sum or mean with respect to the losses: one for all, or for each, [B]."""
        share = 1.0 if self.weight is None else self.weight
        if self.reduction == "mean":
            share = share / mass(len(self.target), self.counted, self.weight)
        return share if self.counted is None else share * self.counted


def check_batch(
    logits: Tensor,
    target: Tensor,
    *,
    weight: Tensor | None = None,
    ignore_index: int = IGNORED,
    reduction: str = "mean",
    soft: bool = False,
    least_classes: int = 1,
) -> Batch:
    """Check what a loss over classes was given.

    Args:
        logits: Class scores, [B, C], floating point.
        target: Class indices, integer [B]; or, if ``soft``, distributions over the classes, floating point [B, C].
        weight: One weight a sample, [B], at least 0.
        ignore_index: The label of a sample that does not count.
        reduction: "none", "mean" or "sum".
        soft: Whether the loss is defined for soft targets.
        least_classes: How many classes the loss needs.

    Returns:
        The batch, in float32 at least.

    Raises:
        InputError: Wrong shapes, dtypes, labels, weights or reduction, or too few classes.
    """
    check_reduction(reduction)
    check_scores(logits)
    if logits.shape[1] < least_classes:
        raise InputError(f"the scores have {logits.shape[1]} classes, but this loss needs at least {least_classes}")
    dtype = torch.promote_types(logits.dtype, torch.float32)
    if soft and target.is_floating_point():
        target = _check_distribution(logits, target).to(dtype)
        counted = None
    else:
        target, counted = check_and_count(logits, target, ignore_index)
        target = target if counted is None else target.masked_fill(~counted, 0)
    if weight is not None:
        weight = check_weight(logits, weight).to(dtype)
    return Batch(logits.to(dtype), target, counted, weight, reduction)


def own_entry(values: Tensor, target: Tensor) -> Tensor:
    """The entry of each sample's own class: [B, C] and int64 [B] to [B]."""
    return values.gather(1, target.unsqueeze(1)).squeeze(1)


def expm1(x: Tensor) -> Tensor:
    """exp(x) - 1 of x at most 0, exact to the last digit, and so is its gradient: torch's ELU.

    Torch's expm1 takes value + 1 for the gradient. For log p of an improbable class that is a difference of nearly
    equal numbers, and 0 from p = 3e-8 on.
    """
    return elu(x)


LOG2_E = 1.0 / math.log(2.0)


def exp(x: Tensor, lam: Tensor | float = 1.0, *, uses_up: bool = False) -> Tensor:
    """exp(x / lam), without gradient; in place if it ``uses_up`` x. By exp2, the faster one in torch."""
    return torch.mul(x, LOG2_E / lam, out=x if uses_up else None).exp2_()


def label_margins(scores: Tensor, target: Tensor, margin: float) -> Tensor:
    """How far every other class is ahead of the own one, [B, C]: f_k - f_y + margin, exactly 0 for the own class."""
    own = target[:, None]
    return (scores - (scores.gather(1, own) - margin)).scatter_(1, own, 0.0)


def check_number(
    name: str, value: float, *, above: float | None = None, least: float | None = None, may_be_infinite: bool = False
) -> None:
    """Refuse a parameter of a loss that is out of range.

    Args:
        name: What the parameter is called.
        value: What came.
        above: What it must exceed.
        least: What it must not fall below.
        may_be_infinite: Whether infinity is a value, too.

    Raises:
        InputError: It is not a number, infinite, or out of range.
    """
    if not (math.isfinite(value) or (may_be_infinite and math.isinf(value))):
        raise InputError(f"{name} is {value}, but it must be a finite number")
    if above is not None and not value > above:
        raise InputError(f"{name} is {value}, but it must be above {above:g}")
    if least is not None and not value >= least:
        raise InputError(f"{name} is {value}, but it must be at least {least:g}")


class ClassificationLoss(nn.Module):
    """A function of logits and target as a module.

    A subclass names its function and lists the settings in its ``__init__``.

    Args:
        ignore_index: The label of a sample that does not count.
        reduction: "mean" over the samples that count, "sum", or "none".
        settings: What the function takes beside.
    """

    function: ClassVar[Callable[..., Tensor]]
    remembers_samples: ClassVar[bool] = False
    """Whether the loss has a state for each training sample, and so needs ``num_samples`` and ``index``."""

    def __init__(self, *, ignore_index: int = IGNORED, reduction: str = "mean", **settings: Any) -> None:
        super().__init__()
        check_reduction(reduction)
        self.ignore_index, self.reduction = ignore_index, reduction
        self.settings = settings

    def forward(
        self, logits: Tensor, target: Tensor, *, index: Tensor | None = None, weight: Tensor | None = None
    ) -> Tensor:
        """Compute the loss.

        Args:
            logits: Class scores, [B, C].
            target: Class indices, integer [B], or what else the function takes.
            index: Places of the samples in the training set, integer [B]; only losses that remember samples use them.
            weight: One weight a sample, [B].

        Returns:
            A scalar, or [B] for reduction "none".
        """
        return type(self).function(
            logits, target, **self.settings, weight=weight, ignore_index=self.ignore_index, reduction=self.reduction
        )

    def extra_repr(self) -> str:
        return ", ".join(f"{name}={value}" for name, value in self.settings.items())


def _check_distribution(logits: Tensor, target: Tensor) -> Tensor:
    if target.shape != logits.shape:
        raise InputError(
            f"the soft targets are {describe(target)}, but one distribution of shape {list(logits.shape)} is "
            "expected: pass class indices as integers, or probabilities in the shape of the logits"
        )
    if target.device.type == "cpu" and target.numel() and not torch.compiler.is_compiling():
        farthest = (target.detach().sum(1, dtype=torch.float32) - 1).abs().max().item()
        if not farthest < 1e-2 or target.min() < 0:
            raise InputError(
                f"the soft targets are no distributions: a row sums to 1 with an error of {farthest:.3g}, and the "
                f"smallest entry is {target.min().item():.3g}"
            )
    return target


def check_weight(losses: Tensor, weight: Tensor) -> Tensor:
    """Refuse weights that are not one number of at least 0 for each of the losses' (or scores') rows.

    Raises:
        InputError: Another shape or dtype, or a weight out of range.
    """
    if weight.shape != losses.shape[:1] or weight.is_complex() or weight.dtype == torch.bool:
        raise InputError(f"the weights are {describe(weight)}, but one number for each of {len(losses)} is expected")
    on_cpu = weight.device.type == "cpu" and weight.numel() and not torch.compiler.is_compiling()
    if on_cpu and not (weight.isfinite().all() and weight.min() >= 0):
        raise InputError("the weights hold a negative number or one that is not finite: give weights of at least 0")
    return weight

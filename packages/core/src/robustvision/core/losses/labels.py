"""What the losses over classes share: the check of scores and labels at the border, and the reduction.

A label is a class index in [0, C), or ``IGNORED`` for a sample without one. A sample that counts for nothing does not
count in the mean either.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from robustvision.core.errors import InputError

IGNORED = -1
"""The label of a sample whose class is not known."""

Reduction = Literal["none", "mean", "sum"]


def check_reduction(reduction: str) -> None:
    """Refuse a reduction that is not "none", "mean" or "sum".

    Raises:
        InputError: Another word.
    """
    if reduction not in ("none", "mean", "sum"):
        raise InputError(f"reduction is {reduction!r}, but it must be 'none', 'mean' or 'sum'")


def check_scores_and_labels(scores: Tensor, labels: Tensor, ignore_index: int = IGNORED) -> Tensor:
    """Check a batch of class scores against its labels.

    The range of the labels is read on a CPU only: on an accelerator the reading would make every step wait for the
    device, and there the index kernels stop the run by their own assertion.

    Args:
        scores: Class scores, such as cosines or logits, [B, C], floating point.
        labels: Class indices in [0, C), or ``ignore_index``; [B], integer.
        ignore_index: The label of a sample that does not count; one outside of [0, C) unless the class shall be left
            out.

    Returns:
        The labels as int64.

    Raises:
        InputError: Another shape or dtype, or a label that is neither a class nor ``ignore_index``.
    """
    return check_and_count(scores, labels, ignore_index)[0]


def check_and_count(scores: Tensor, labels: Tensor, ignore_index: int) -> tuple[Tensor, Tensor | None]:
    """Check as :func:`check_scores_and_labels`; also say which samples count, bool [B], or None where all are known to.

    Args:
        scores: [B, C].
        labels: [B].
        ignore_index: The label of a sample that does not count.

    Returns:
        The labels as int64, and which count.
    """
    check_scores(scores)
    batch, classes = scores.shape
    labels = check_labels(labels, batch)
    if labels.device.type != "cpu" or not batch or torch.compiler.is_compiling():
        return labels, labels != ignore_index
    lowest, highest = (int(bound) for bound in labels.aminmax())
    if lowest >= 0 and highest < classes and not lowest <= ignore_index <= highest:
        return labels, None
    counted = labels != ignore_index
    rest = labels[counted]
    lowest, highest = (int(bound) for bound in rest.aminmax()) if rest.numel() else (0, 0)
    if highest >= classes:
        raise InputError(
            f"the labels hold {highest}, but the head has {classes} classes: "
            f"pass num_classes={highest + 1} or mend the labels"
        )
    if lowest < 0:
        raise InputError(
            f"the labels hold {lowest}, but only {ignore_index} (ignored) and 0 to {classes - 1} are labels"
        )
    return labels, counted


def check_labels(labels: Tensor, batch: int) -> Tensor:
    """Check that labels are whole numbers, one a sample.

    Args:
        labels: Integer [B].
        batch: B.

    Returns:
        The labels as int64.

    Raises:
        InputError: Another shape or dtype.
    """
    if labels.dtype == torch.bool or labels.is_floating_point() or labels.is_complex():
        raise InputError(
            f"the labels are {describe(labels)}, but integer class indices are expected: pass labels.long()"
        )
    if labels.shape != (batch,):
        raise InputError(f"the labels are {describe(labels)}, but one index for each of {batch} samples is expected")
    return labels.long()


def in_float32_at_least(values: Tensor) -> Tensor:
    """Half precision to float32; float64 stays."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


def own_index(labels: Tensor) -> Tensor:
    """The index that picks every sample's own class from [B, C]: [B, 1]; class 0 stands in where the label is -1."""
    return labels.masked_fill(labels == IGNORED, 0)[:, None]


def reduce(losses: Tensor, counted: Tensor | None, reduction: str, weight: Tensor | None = None) -> Tensor:
    """Reduce the losses of samples, of which some do not count.

    Args:
        losses: One loss a sample, [B].
        counted: Which samples count, bool [B], or None for all; the others become exactly 0, with no gradient where it
            is finite.
        reduction: "none", "sum", or "mean" over the samples that count (0 where none does).
        weight: One weight a sample, [B], or None for 1 each; the mean is then the weighted one.

    Returns:
        [B] for "none", else a scalar.
    """
    if counted is not None:
        losses = losses.masked_fill(~counted, 0.0)
    if weight is not None:
        losses = losses * weight
    if reduction == "none":
        return losses
    total = losses.sum()
    return total / mass(losses.numel(), counted, weight) if reduction == "mean" else total


def mass(count: int, counted: Tensor | None, weight: Tensor | None) -> Tensor | int:
    """What a mean of ``count`` losses divides by: the number or the weight of those that count; 1 where none does."""
    if weight is None:
        return max(count, 1) if counted is None else counted.sum().clamp_min(1)
    total = (weight if counted is None else weight.masked_fill(~counted, 0.0)).sum()
    return total.masked_fill(total == 0, 1.0)


def check_scores(scores: Tensor) -> None:
    """Refuse scores that are not floating point [batch, classes] with at least one class.

    Raises:
        InputError: Another shape or dtype.
    """
    if scores.ndim != 2 or not scores.is_floating_point():
        raise InputError(f"the scores are {describe(scores)}, but a floating-point [batch, classes] is expected")
    if scores.shape[1] == 0:
        raise InputError("the scores have no classes: a head needs at least one")


def describe(tensor: Tensor) -> str:
    """Dtype and shape of a tensor, for a message."""
    return f"{str(tensor.dtype).removeprefix('torch.')} {list(tensor.shape)}"

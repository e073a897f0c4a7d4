"""The support vector machine's losses for many classes: the worst margin, and the sum of all."""

from __future__ import annotations

from functools import partial

from torch import Tensor

from robustvision.core.losses.batch import ClassificationLoss, check_batch, label_margins
from robustvision.core.losses.labels import IGNORED
from robustvision.core.losses.rows import own_minus, reduce_rows


def crammer_singer_loss(
    logits: Tensor,
    target: Tensor,
    margin: float = 1.0,
    *,
    weight: Tensor | None = None,
    ignore_index: int = IGNORED,
    reduction: str = "mean",
) -> Tensor:
    r"""Crammer-Singer: the worst margin, :math:`\max_k [f_k - f_y + c\,[k \ne y]]_+`.

    Args:
        logits: Class scores, [B, C].
        target: Class indices, integer [B].
        margin: c.
        weight: One weight a sample, [B].
        ignore_index: The label of a sample that does not count.
        reduction: "mean" over the samples that count, "sum", or "none".

    Returns:
        The loss: a scalar, or [B] for "none".

    Raises:
        InputError: Wrong shapes, dtypes, labels or settings.

    References:
        Crammer, Singer, "On the Algorithmic Implementation of Multiclass Kernel-based Vector Machines", JMLR 2001.

    Example:
        >>> import torch
        >>> f, y = torch.tensor([[2.0, 1.0, 0.0]]), torch.tensor([1])
        >>> crammer_singer_loss(f, y)
        tensor(2.)
    """
    batch = check_batch(logits, target, weight=weight, ignore_index=ignore_index, reduction=reduction)
    return reduce_rows(partial(_worst_margin, margin=margin), batch)


class CrammerSingerLoss(ClassificationLoss):
    """As a module: see :func:`crammer_singer_loss`.

    Example:
        >>> import torch
        >>> f, y = torch.tensor([[2.0, 1.0, 0.0]]), torch.tensor([1])
        >>> CrammerSingerLoss(margin=0.0)(f, y)
        tensor(1.)
    """

    function = staticmethod(crammer_singer_loss)

    def __init__(self, margin: float = 1.0, *, ignore_index: int = IGNORED, reduction: str = "mean") -> None:
        super().__init__(ignore_index=ignore_index, reduction=reduction, margin=margin)


def weston_watkins_loss(
    logits: Tensor,
    target: Tensor,
    margin: float = 1.0,
    *,
    weight: Tensor | None = None,
    ignore_index: int = IGNORED,
    reduction: str = "mean",
) -> Tensor:
    r"""Weston-Watkins: the sum of all margins, :math:`\sum_{k \ne y} [f_k - f_y + c]_+`.

    The LDR study's code takes the mean over the classes instead.

    Args:
        logits: Class scores, [B, C].
        target: Class indices, integer [B].
        margin: c.
        weight: One weight a sample, [B].
        ignore_index: The label of a sample that does not count.
        reduction: "mean" over the samples that count, "sum", or "none".

    Returns:
        The loss: a scalar, or [B] for "none".

    Raises:
        InputError: Wrong shapes, dtypes, labels or settings.

    References:
        Weston, Watkins, "Support Vector Machines for Multi-Class Pattern Recognition", ESANN 1999.

    Example:
        >>> import torch
        >>> f, y = torch.tensor([[2.0, 1.0, 0.0]]), torch.tensor([1])
        >>> weston_watkins_loss(f, y)
        tensor(2.)
    """
    batch = check_batch(logits, target, weight=weight, ignore_index=ignore_index, reduction=reduction)
    return reduce_rows(partial(_sum_of_margins, margin=margin), batch)


class WestonWatkinsLoss(ClassificationLoss):
    """As a module: see :func:`weston_watkins_loss`.

    Example:
        >>> import torch
        >>> f, y = torch.tensor([[2.0, 1.0, 0.0]]), torch.tensor([1])
        >>> WestonWatkinsLoss(margin=2.0)(f, y)
        tensor(4.)
    """

    function = staticmethod(weston_watkins_loss)

    def __init__(self, margin: float = 1.0, *, ignore_index: int = IGNORED, reduction: str = "mean") -> None:
        super().__init__(ignore_index=ignore_index, reduction=reduction, margin=margin)


def _worst_margin(logits: Tensor, target: Tensor, margin: float) -> tuple[Tensor, Tensor]:
    margins = label_margins(logits, target, margin)
    losses = margins.amax(1)
    worst = margins.eq_(losses[:, None])  # ties share the gradient
    return losses, own_minus(worst.div_(worst.sum(1, keepdim=True)), target, 1.0)


def _sum_of_margins(logits: Tensor, target: Tensor, margin: float) -> tuple[Tensor, Tensor]:
    margins = label_margins(logits, target, margin).relu_()
    losses, violated = margins.sum(1), margins.sign_()
    return losses, own_minus(violated, target, violated.sum(1))

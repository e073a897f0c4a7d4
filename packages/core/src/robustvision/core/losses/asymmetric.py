"""Asymmetric losses: bounded functions of p_y that prefer the label of the majority."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from robustvision.core.losses.batch import ClassificationLoss, check_batch, check_number
from robustvision.core.losses.labels import IGNORED


def agce_loss(
    logits: Tensor,
    target: Tensor,
    a: float = 3.0,
    q: float = 1.5,
    *,
    weight: Tensor | None = None,
    ignore_index: int = IGNORED,
    reduction: str = "mean",
) -> Tensor:
    r"""Asymmetric GCE :math:`((a+1)^q - (a+p_y)^q)/q`.

    Args:
        logits: Class scores, [B, C].
        target: Class indices, integer [B]; or distributions over the classes, floating point [B, C],
            for which it is the expected loss.
        a: Above 0.
        q: Above 0.
        weight: One weight a sample, [B].
        ignore_index: The label of a sample that does not count.
        reduction: "mean" over the samples that count, "sum", or "none".

    Returns:
        The loss: a scalar, or [B] for "none".

    Raises:
        InputError: Wrong shapes, dtypes, labels or settings.

    References:
        Zhou et al., "Asymmetric Loss Functions for Learning with Noisy Labels", ICML 2021, arXiv 2106.03110.

    Example:
        >>> f, y = torch.tensor([[2.0, 1.0, 0.0]]), torch.tensor([1])
        >>> agce_loss(f, y)
        tensor(1.4368)
    """
    check_number("a", a, above=0.0)
    check_number("q", q, above=0.0)
    batch = check_batch(logits, target, weight=weight, ignore_index=ignore_index, reduction=reduction, soft=True)
    return batch.reduce(batch.expect(lambda log_p: agce(log_p, a, q)))


class AGCELoss(ClassificationLoss):
    """As a module: see :func:`agce_loss`.

    Example:
        >>> f, y = torch.tensor([[2.0, 1.0, 0.0]]), torch.tensor([1])
        >>> AGCELoss()(f, y)
        tensor(1.4368)
    """

    function = staticmethod(agce_loss)

    def __init__(self, a: float = 3.0, q: float = 1.5, *, ignore_index: int = IGNORED, reduction: str = "mean") -> None:
        check_number("a", a, above=0.0)
        check_number("q", q, above=0.0)
        super().__init__(ignore_index=ignore_index, reduction=reduction, a=a, q=q)


def aul_loss(
    logits: Tensor,
    target: Tensor,
    a: float = 6.0,
    q: float = 1.5,
    *,
    weight: Tensor | None = None,
    ignore_index: int = IGNORED,
    reduction: str = "mean",
) -> Tensor:
    r"""Asymmetric unhinged loss :math:`((a-p_y)^q - (a-1)^q)/q`. (The authors' code calls it AUE.)

    Args:
        logits: Class scores, [B, C].
        target: Class indices, integer [B]; or distributions over the classes, floating point [B, C],
            for which it is the expected loss.
        a: Above 1: a smaller one would take the power of a negative number.
        q: Above 0.
        weight: One weight a sample, [B].
        ignore_index: The label of a sample that does not count.
        reduction: "mean" over the samples that count, "sum", or "none".

    Returns:
        The loss: a scalar, or [B] for "none".

    Raises:
        InputError: Wrong shapes, dtypes, labels or settings.

    References:
        Zhou et al., "Asymmetric Loss Functions for Learning with Noisy Labels", ICML 2021, arXiv 2106.03110.

    Example:
        >>> f, y = torch.tensor([[2.0, 1.0, 0.0]]), torch.tensor([1])
        >>> aul_loss(f, y)
        tensor(1.7511)
    """
    check_number("a", a, above=1.0)
    check_number("q", q, above=0.0)
    batch = check_batch(logits, target, weight=weight, ignore_index=ignore_index, reduction=reduction, soft=True)
    return batch.reduce(batch.expect(lambda log_p: aul(log_p, a, q)))


class AULLoss(ClassificationLoss):
    """As a module: see :func:`aul_loss`.

    Example:
        >>> f, y = torch.tensor([[2.0, 1.0, 0.0]]), torch.tensor([1])
        >>> AULLoss()(f, y)
        tensor(1.7511)
    """

    function = staticmethod(aul_loss)

    def __init__(self, a: float = 6.0, q: float = 1.5, *, ignore_index: int = IGNORED, reduction: str = "mean") -> None:
        check_number("a", a, above=1.0)
        check_number("q", q, above=0.0)
        super().__init__(ignore_index=ignore_index, reduction=reduction, a=a, q=q)


def ael_loss(
    logits: Tensor,
    target: Tensor,
    a: float = 2.5,
    *,
    weight: Tensor | None = None,
    ignore_index: int = IGNORED,
    reduction: str = "mean",
) -> Tensor:
    r"""Asymmetric exponential loss :math:`e^{-p_y/a}`.

    Args:
        logits: Class scores, [B, C].
        target: Class indices, integer [B]; or distributions over the classes, floating point [B, C],
            for which it is the expected loss.
        a: Above 0.
        weight: One weight a sample, [B].
        ignore_index: The label of a sample that does not count.
        reduction: "mean" over the samples that count, "sum", or "none".

    Returns:
        The loss: a scalar, or [B] for "none".

    Raises:
        InputError: Wrong shapes, dtypes, labels or settings.

    References:
        Zhou et al., "Asymmetric Loss Functions for Learning with Noisy Labels", ICML 2021, arXiv 2106.03110.

    Example:
        >>> f, y = torch.tensor([[2.0, 1.0, 0.0]]), torch.tensor([1])
        >>> ael_loss(f, y)
        tensor(0.9067)
    """
    check_number("a", a, above=0.0)
    batch = check_batch(logits, target, weight=weight, ignore_index=ignore_index, reduction=reduction, soft=True)
    return batch.reduce(batch.expect(lambda log_p: torch.exp(log_p.exp() / -a)))


class AELLoss(ClassificationLoss):
    """As a module: see :func:`ael_loss`.

    Example:
        >>> f, y = torch.tensor([[2.0, 1.0, 0.0]]), torch.tensor([1])
        >>> AELLoss()(f, y)
        tensor(0.9067)
    """

    function = staticmethod(ael_loss)

    def __init__(self, a: float = 2.5, *, ignore_index: int = IGNORED, reduction: str = "mean") -> None:
        check_number("a", a, above=0.0)
        super().__init__(ignore_index=ignore_index, reduction=reduction, a=a)


def agce(log_p: Tensor, a: float, q: float) -> Tensor:
    return (math.pow(a + 1.0, q) - torch.pow(a + log_p.exp(), q)) / q


def aul(log_p: Tensor, a: float, q: float) -> Tensor:
    return (torch.pow(a - log_p.exp(), q) - math.pow(a - 1.0, q)) / q

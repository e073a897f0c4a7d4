"""Cross-entropy and what is made of it: focal loss, the reverse and the symmetric cross-entropy.

Cross-entropy and focal loss are not robust to wrong labels; they stand here as what the others are compared with. As in
all of these files, everything is computed from log-softmax, never from a power or a logarithm of a probability: p_y
underflows where the network is sure and wrong, and these are the samples that matter.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from robustvision.core.losses.batch import ClassificationLoss, check_batch, check_number, expm1
from robustvision.core.losses.labels import IGNORED

LOG_OF_ZERO = math.log(1e-4)
"""What stands for log 0 in the reverse cross-entropy of the reference implementations."""


def cross_entropy_loss(
    logits: Tensor,
    target: Tensor,
    *,
    weight: Tensor | None = None,
    ignore_index: int = IGNORED,
    reduction: str = "mean",
) -> Tensor:
    r"""Cross-entropy :math:`-\log p_y`, the measure of all others; not robust.

    Args:
        logits: Class scores, [B, C].
        target: Class indices, integer [B]; or distributions over the classes, floating point [B, C],
            for which it is the expected loss.
        weight: One weight a sample, [B].
        ignore_index: The label of a sample that does not count.
        reduction: "mean" over the samples that count, "sum", or "none".

    Returns:
        The loss: a scalar, or [B] for "none".

    Raises:
        InputError: Wrong shapes, dtypes, labels or settings.

    Example:
        >>> f, y = torch.tensor([[2.0, 1.0, 0.0]]), torch.tensor([1])
        >>> cross_entropy_loss(f, y)
        tensor(1.4076)
    """
    batch = check_batch(logits, target, weight=weight, ignore_index=ignore_index, reduction=reduction, soft=True)
    return batch.reduce(batch.expect(torch.neg))


class CrossEntropyLoss(ClassificationLoss):
    """As a module: see :func:`cross_entropy_loss`.

    Example:
        >>> f, y = torch.tensor([[2.0, 1.0, 0.0]]), torch.tensor([1])
        >>> CrossEntropyLoss()(f, y)
        tensor(1.4076)
    """

    function = staticmethod(cross_entropy_loss)

    def __init__(self, *, ignore_index: int = IGNORED, reduction: str = "mean") -> None:
        super().__init__(ignore_index=ignore_index, reduction=reduction)


def focal_loss(
    logits: Tensor,
    target: Tensor,
    gamma: float = 2.0,
    *,
    weight: Tensor | None = None,
    ignore_index: int = IGNORED,
    reduction: str = "mean",
) -> Tensor:
    r"""Focal loss :math:`-(1 - p_y)^\gamma\log p_y`: sure samples count less. It is not robust to wrong labels.

    Args:
        logits: Class scores, [B, C].
        target: Class indices, integer [B]; or distributions over the classes, floating point [B, C],
            for which it is the expected loss.
        gamma: How much less, at least 0; 0 is cross-entropy.
        weight: One weight a sample, [B].
        ignore_index: The label of a sample that does not count.
        reduction: "mean" over the samples that count, "sum", or "none".

    Returns:
        The loss: a scalar, or [B] for "none".

    Raises:
        InputError: Wrong shapes, dtypes, labels or settings.

    References:
        Lin et al., "Focal Loss for Dense Object Detection", ICCV 2017, arXiv 1708.02002.

    Example:
        >>> f, y = torch.tensor([[2.0, 1.0, 0.0]]), torch.tensor([1])
        >>> focal_loss(f, y)
        tensor(0.8029)
    """
    check_number("gamma", gamma, least=0.0)
    batch = check_batch(logits, target, weight=weight, ignore_index=ignore_index, reduction=reduction, soft=True)
    return batch.reduce(batch.expect(lambda log_p: focal(log_p, gamma)))


class FocalLoss(ClassificationLoss):
    """As a module: see :func:`focal_loss`.

    Example:
        >>> f, y = torch.tensor([[2.0, 1.0, 0.0]]), torch.tensor([1])
        >>> FocalLoss(gamma=0.0)(f, y)
        tensor(1.4076)
    """

    function = staticmethod(focal_loss)

    def __init__(self, gamma: float = 2.0, *, ignore_index: int = IGNORED, reduction: str = "mean") -> None:
        check_number("gamma", gamma, least=0.0)
        super().__init__(ignore_index=ignore_index, reduction=reduction, gamma=gamma)


def rce_loss(
    logits: Tensor,
    target: Tensor,
    log_of_zero: float = LOG_OF_ZERO,
    *,
    weight: Tensor | None = None,
    ignore_index: int = IGNORED,
    reduction: str = "mean",
) -> Tensor:
    r"""Reverse cross-entropy :math:`-\sum_k p_k\log y_k = -A(1 - p_y)`, A standing for log 0.

    Args:
        logits: Class scores, [B, C].
        target: Class indices, integer [B]; or distributions over the classes, floating point [B, C],
            for which it is the expected loss.
        log_of_zero: A, below 0; the reference implementations take log 1e-4.
        weight: One weight a sample, [B].
        ignore_index: The label of a sample that does not count.
        reduction: "mean" over the samples that count, "sum", or "none".

    Returns:
        The loss: a scalar, or [B] for "none".

    Raises:
        InputError: Wrong shapes, dtypes, labels or settings.

    References:
        Wang et al., "Symmetric Cross Entropy for Robust Learning with Noisy Labels", ICCV 2019, arXiv 1908.06112.

    Example:
        >>> f, y = torch.tensor([[2.0, 1.0, 0.0]]), torch.tensor([1])
        >>> rce_loss(f, y)
        tensor(6.9563)
    """
    check_number("-log_of_zero", -log_of_zero, above=0.0)
    batch = check_batch(logits, target, weight=weight, ignore_index=ignore_index, reduction=reduction, soft=True)
    return batch.reduce(batch.expect(lambda log_p: log_of_zero * expm1(log_p)))


class RCELoss(ClassificationLoss):
    """As a module: see :func:`rce_loss`.

    Example:
        >>> f, y = torch.tensor([[2.0, 1.0, 0.0]]), torch.tensor([1])
        >>> RCELoss(-1.0)(f, y)
        tensor(0.7553)
    """

    function = staticmethod(rce_loss)

    def __init__(
        self, log_of_zero: float = LOG_OF_ZERO, *, ignore_index: int = IGNORED, reduction: str = "mean"
    ) -> None:
        check_number("-log_of_zero", -log_of_zero, above=0.0)
        super().__init__(ignore_index=ignore_index, reduction=reduction, log_of_zero=log_of_zero)


def sce_loss(
    logits: Tensor,
    target: Tensor,
    alpha: float = 0.1,
    beta: float = 1.0,
    log_of_zero: float = LOG_OF_ZERO,
    *,
    weight: Tensor | None = None,
    ignore_index: int = IGNORED,
    reduction: str = "mean",
) -> Tensor:
    r"""Symmetric cross-entropy :math:`\alpha\,\mathrm{CE} + \beta\,\mathrm{RCE}`; :math:`\mathrm{RCE} = -A(1-p_y)`.

    The authors' weights are 0.1 and 1 for CIFAR-10 and, reconstructed, 6 and 0.1 for CIFAR-100. The form of the LDR
    study, ``(1 - b) CE + 4 b (1 - p_y)``, is alpha 1 - b, beta b and A = -4.

    Args:
        logits: Class scores, [B, C].
        target: Class indices, integer [B]; or distributions over the classes, floating point [B, C],
            for which it is the expected loss.
        alpha: Weight of the cross-entropy.
        beta: Weight of the reverse cross-entropy.
        log_of_zero: A, what stands for log 0; below 0.
        weight: One weight a sample, [B].
        ignore_index: The label of a sample that does not count.
        reduction: "mean" over the samples that count, "sum", or "none".

    Returns:
        The loss: a scalar, or [B] for "none".

    Raises:
        InputError: Wrong shapes, dtypes, labels or settings.

    References:
        Wang et al., "Symmetric Cross Entropy for Robust Learning with Noisy Labels", ICCV 2019, arXiv 1908.06112.

    Example:
        >>> f, y = torch.tensor([[2.0, 1.0, 0.0]]), torch.tensor([1])
        >>> sce_loss(f, y, alpha=0.5, beta=0.5, log_of_zero=-4.0)
        tensor(2.2143)
    """
    check_number("-log_of_zero", -log_of_zero, above=0.0)
    batch = check_batch(logits, target, weight=weight, ignore_index=ignore_index, reduction=reduction, soft=True)
    return batch.reduce(batch.expect(lambda log_p: -alpha * log_p + beta * log_of_zero * expm1(log_p)))


class SCELoss(ClassificationLoss):
    """As a module: see :func:`sce_loss`.

    Example:
        >>> f, y = torch.tensor([[2.0, 1.0, 0.0]]), torch.tensor([1])
        >>> SCELoss(1.0, 0.0)(f, y)
        tensor(1.4076)
    """

    function = staticmethod(sce_loss)

    def __init__(
        self,
        alpha: float = 0.1,
        beta: float = 1.0,
        log_of_zero: float = LOG_OF_ZERO,
        *,
        ignore_index: int = IGNORED,
        reduction: str = "mean",
    ) -> None:
        check_number("-log_of_zero", -log_of_zero, above=0.0)
        super().__init__(
            ignore_index=ignore_index, reduction=reduction, alpha=alpha, beta=beta, log_of_zero=log_of_zero
        )


def focal(log_p: Tensor, gamma: float) -> Tensor:
    """-(1 - p)^gamma log p. At p = 1 a power below 1 has an infinite gradient, times 0: the clamp makes it 0."""
    if gamma == 0:
        return -log_p
    others = (-log_p.expm1()).clamp_min(torch.finfo(log_p.dtype).tiny)
    return -(others**gamma) * log_p

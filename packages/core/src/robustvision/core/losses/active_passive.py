"""Active-passive sums: normalised cross-entropy raises the own class, a passive loss lowers the others.

Alone, either is robust and underfits; the sum learns.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from torch import Tensor

from robustvision.core.losses.asymmetric import agce, aul
from robustvision.core.losses.batch import Batch, ClassificationLoss, check_batch, check_number
from robustvision.core.losses.cross_entropy import LOG_OF_ZERO
from robustvision.core.losses.labels import IGNORED
from robustvision.core.losses.normalized import nce_rows
from robustvision.core.losses.rows import reduce_rows


def nce_rce_loss(
    logits: Tensor,
    target: Tensor,
    alpha: float = 1.0,
    beta: float = 1.0,
    *,
    weight: Tensor | None = None,
    ignore_index: int = IGNORED,
    reduction: str = "mean",
) -> Tensor:
    r"""The active-passive sum :math:`\alpha\,\mathrm{NCE} + \beta\,\mathrm{RCE}`.

    The authors take 1 and 1 for CIFAR-10, 10 and 1 for CIFAR-100.

    Args:
        logits: Class scores, [B, C], C at least 2.
        target: Class indices, integer [B].
        alpha: Weight of NCE.
        beta: Weight of the other.
        weight: One weight a sample, [B].
        ignore_index: The label of a sample that does not count.
        reduction: "mean" over the samples that count, "sum", or "none".

    Returns:
        The loss: a scalar, or [B] for "none".

    Raises:
        InputError: Wrong shapes, dtypes, labels or settings.

    References:
        Ma et al., "Normalized Loss Functions for Deep Learning with Noisy Labels", ICML 2020, arXiv 2006.13554.

    Example:
        >>> import torch
        >>> f, y = torch.tensor([[2.0, 1.0, 0.0]]), torch.tensor([1])
        >>> nce_rce_loss(f, y)
        tensor(7.2896)
    """
    batch = check_batch(logits, target, weight=weight, ignore_index=ignore_index, reduction=reduction, least_classes=2)
    return _sum(batch, alpha, beta, _rce)


class NCERCELoss(ClassificationLoss):
    """As a module: see :func:`nce_rce_loss`.

    Example:
        >>> import torch
        >>> f, y = torch.tensor([[2.0, 1.0, 0.0]]), torch.tensor([1])
        >>> NCERCELoss()(f, y)
        tensor(7.2896)
    """

    function = staticmethod(nce_rce_loss)

    def __init__(
        self, alpha: float = 1.0, beta: float = 1.0, *, ignore_index: int = IGNORED, reduction: str = "mean"
    ) -> None:
        super().__init__(ignore_index=ignore_index, reduction=reduction, alpha=alpha, beta=beta)


def nce_agce_loss(
    logits: Tensor,
    target: Tensor,
    alpha: float = 1.0,
    beta: float = 4.0,
    a: float = 6.0,
    q: float = 1.5,
    *,
    weight: Tensor | None = None,
    ignore_index: int = IGNORED,
    reduction: str = "mean",
) -> Tensor:
    r"""The active-passive sum :math:`\alpha\,\mathrm{NCE} + \beta\,\mathrm{AGCE}`; the defaults are CIFAR-10's.

    For CIFAR-100 the authors take 10, 0.1, a 1.8, q 3.

    Args:
        logits: Class scores, [B, C], C at least 2.
        target: Class indices, integer [B].
        alpha: Weight of NCE.
        beta: Weight of the other.
        a: As for :func:`agce_loss`.
        q: As for :func:`agce_loss`.
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
        >>> import torch
        >>> f, y = torch.tensor([[2.0, 1.0, 0.0]]), torch.tensor([1])
        >>> nce_agce_loss(f, y)
        tensor(8.1067)
    """
    check_number("a", a, above=0.0)
    check_number("q", q, above=0.0)
    batch = check_batch(logits, target, weight=weight, ignore_index=ignore_index, reduction=reduction, least_classes=2)
    return _sum(batch, alpha, beta, partial(_agce, a=a, q=q))


class NCEAGCELoss(ClassificationLoss):
    """As a module: see :func:`nce_agce_loss`.

    Example:
        >>> import torch
        >>> f, y = torch.tensor([[2.0, 1.0, 0.0]]), torch.tensor([1])
        >>> NCEAGCELoss(beta=0.0)(f, y)
        tensor(0.3333)
    """

    function = staticmethod(nce_agce_loss)

    def __init__(
        self,
        alpha: float = 1.0,
        beta: float = 4.0,
        a: float = 6.0,
        q: float = 1.5,
        *,
        ignore_index: int = IGNORED,
        reduction: str = "mean",
    ) -> None:
        check_number("a", a, above=0.0)
        check_number("q", q, above=0.0)
        super().__init__(ignore_index=ignore_index, reduction=reduction, alpha=alpha, beta=beta, a=a, q=q)


def nce_aul_loss(
    logits: Tensor,
    target: Tensor,
    alpha: float = 1.0,
    beta: float = 4.0,
    a: float = 6.3,
    q: float = 1.5,
    *,
    weight: Tensor | None = None,
    ignore_index: int = IGNORED,
    reduction: str = "mean",
) -> Tensor:
    r"""The active-passive sum :math:`\alpha\,\mathrm{NCE} + \beta\,\mathrm{AUL}`; the defaults are CIFAR-10's.

    For CIFAR-100 the authors take 10, 0.015, a 6, q 3.

    Args:
        logits: Class scores, [B, C], C at least 2.
        target: Class indices, integer [B].
        alpha: Weight of NCE.
        beta: Weight of the other.
        a: As for :func:`aul_loss`.
        q: As for :func:`aul_loss`.
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
        >>> import torch
        >>> f, y = torch.tensor([[2.0, 1.0, 0.0]]), torch.tensor([1])
        >>> nce_aul_loss(f, y)
        tensor(7.5306)
    """
    check_number("a", a, above=1.0)
    check_number("q", q, above=0.0)
    batch = check_batch(logits, target, weight=weight, ignore_index=ignore_index, reduction=reduction, least_classes=2)
    return _sum(batch, alpha, beta, partial(_aul, a=a, q=q))


class NCEAULLoss(ClassificationLoss):
    """As a module: see :func:`nce_aul_loss`.

    Example:
        >>> import torch
        >>> f, y = torch.tensor([[2.0, 1.0, 0.0]]), torch.tensor([1])
        >>> NCEAULLoss(beta=0.0)(f, y)
        tensor(0.3333)
    """

    function = staticmethod(nce_aul_loss)

    def __init__(
        self,
        alpha: float = 1.0,
        beta: float = 4.0,
        a: float = 6.3,
        q: float = 1.5,
        *,
        ignore_index: int = IGNORED,
        reduction: str = "mean",
    ) -> None:
        check_number("a", a, above=1.0)
        check_number("q", q, above=0.0)
        super().__init__(ignore_index=ignore_index, reduction=reduction, alpha=alpha, beta=beta, a=a, q=q)


def _sum(batch: Batch, alpha: float, beta: float, passive: Callable[[Tensor], tuple[Tensor, Tensor]]) -> Tensor:
    """alpha NCE + beta times a passive loss, in one pass over the classes.

    ``passive`` maps log p_y, [b], to the loss and its derivative.
    """

    def weighed(log_p: Tensor) -> tuple[Tensor, Tensor]:
        losses, slope = passive(log_p)
        return beta * losses, beta * slope

    return reduce_rows(partial(nce_rows, alpha=alpha, passive=weighed), batch)


def _rce(log_p: Tensor) -> tuple[Tensor, Tensor]:
    return LOG_OF_ZERO * log_p.expm1(), LOG_OF_ZERO * log_p.exp()


def _agce(log_p: Tensor, a: float, q: float) -> tuple[Tensor, Tensor]:
    p = log_p.exp()
    return agce(log_p, a, q), -p * (a + p).pow(q - 1.0)


def _aul(log_p: Tensor, a: float, q: float) -> tuple[Tensor, Tensor]:
    p = log_p.exp()
    return aul(log_p, a, q), -p * (a - p).pow(q - 1.0)

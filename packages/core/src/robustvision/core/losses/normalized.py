"""Losses divided by their own sum over all classes: robust by construction, and slow learners for it."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from robustvision.core.losses.batch import ClassificationLoss, check_batch, check_number, own_entry
from robustvision.core.losses.gce import check_q
from robustvision.core.losses.labels import IGNORED
from robustvision.core.losses.rows import by_rows, own_minus


def nce_loss(
    logits: Tensor,
    target: Tensor,
    *,
    weight: Tensor | None = None,
    ignore_index: int = IGNORED,
    reduction: str = "mean",
) -> Tensor:
    r"""Normalised cross-entropy :math:`\log p_y / \sum_k\log p_k`, in (0, 1).

    Args:
        logits: Class scores, [B, C], C at least 2.
        target: Class indices, integer [B].
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
        >>> f, y = torch.tensor([[2.0, 1.0, 0.0]]), torch.tensor([1])
        >>> nce_loss(f, y)
        tensor(0.3333)
    """
    batch = check_batch(logits, target, weight=weight, ignore_index=ignore_index, reduction=reduction, least_classes=2)
    return batch.reduce(by_rows(_nce_rows, batch.logits, batch.target))


class NCELoss(ClassificationLoss):
    """As a module: see :func:`nce_loss`.

    Example:
        >>> f, y = torch.tensor([[2.0, 1.0, 0.0]]), torch.tensor([1])
        >>> NCELoss()(f, y)
        tensor(0.3333)
    """

    function = staticmethod(nce_loss)

    def __init__(self, *, ignore_index: int = IGNORED, reduction: str = "mean") -> None:
        super().__init__(ignore_index=ignore_index, reduction=reduction)


def nfl_loss(
    logits: Tensor,
    target: Tensor,
    gamma: float = 0.5,
    *,
    weight: Tensor | None = None,
    ignore_index: int = IGNORED,
    reduction: str = "mean",
) -> Tensor:
    r"""Normalised focal loss: the focal loss over its sum over all classes.

    The weight :math:`(1 - p)^\gamma` is differentiated here; the asymmetric losses' reference code holds it constant.

    Args:
        logits: Class scores, [B, C], C at least 2.
        target: Class indices, integer [B].
        gamma: As for :func:`focal_loss`.
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
        >>> f, y = torch.tensor([[2.0, 1.0, 0.0]]), torch.tensor([1])
        >>> nfl_loss(f, y)
        tensor(0.3257)
    """
    check_number("gamma", gamma, least=0.0)
    batch = check_batch(logits, target, weight=weight, ignore_index=ignore_index, reduction=reduction, least_classes=2)
    return batch.reduce(by_rows(partial(_nfl_rows, gamma=gamma), batch.logits, batch.target))


class NFLLoss(ClassificationLoss):
    """As a module: see :func:`nfl_loss`.

    Example:
        >>> f, y = torch.tensor([[2.0, 1.0, 0.0]]), torch.tensor([1])
        >>> NFLLoss(gamma=0.0)(f, y)
        tensor(0.3333)
    """

    function = staticmethod(nfl_loss)

    def __init__(self, gamma: float = 0.5, *, ignore_index: int = IGNORED, reduction: str = "mean") -> None:
        check_number("gamma", gamma, least=0.0)
        super().__init__(ignore_index=ignore_index, reduction=reduction, gamma=gamma)


def ngce_loss(
    logits: Tensor,
    target: Tensor,
    q: float = 0.7,
    *,
    weight: Tensor | None = None,
    ignore_index: int = IGNORED,
    reduction: str = "mean",
) -> Tensor:
    r"""Normalised GCE :math:`(1 - p_y^q) / (C - \sum_k p_k^q)`.

    Args:
        logits: Class scores, [B, C], C at least 2.
        target: Class indices, integer [B].
        q: In (0, 1].
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
        >>> ngce_loss(f, y)
        tensor(0.3709)
    """
    check_q(q)
    batch = check_batch(logits, target, weight=weight, ignore_index=ignore_index, reduction=reduction, least_classes=2)
    return batch.reduce(by_rows(partial(_ngce_rows, q=q), batch.logits, batch.target))


class NGCELoss(ClassificationLoss):
    """As a module: see :func:`ngce_loss`.

    Example:
        >>> f, y = torch.tensor([[2.0, 1.0, 0.0]]), torch.tensor([1])
        >>> NGCELoss(q=1.0)(f, y)
        tensor(0.3776)
    """

    function = staticmethod(ngce_loss)

    def __init__(self, q: float = 0.7, *, ignore_index: int = IGNORED, reduction: str = "mean") -> None:
        check_q(q)
        super().__init__(ignore_index=ignore_index, reduction=reduction, q=q)


def _nce_rows(logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    log_p = logits.log_softmax(1)
    total = log_p.sum(1)
    share = own_entry(log_p, target) / total
    return share, nce_gradient(logits, target, share, total, 1.0, torch.zeros_like(share))


def nce_gradient(
    logits: Tensor, target: Tensor, share: Tensor, total: Tensor, alpha: float, own_slope: Tensor
) -> Tensor:
    """The gradient, [b, C], of alpha log p_y / sum(log p) and something with the slope ``own_slope`` in log p_y.

    From the value without alpha and the sum, [b] each.
    """
    scale = alpha / total
    slope = (1.0 - logits.shape[1] * share) * scale + own_slope
    gradient = logits.softmax(1).mul_(-slope[:, None]).sub_((share * scale)[:, None])
    return own_minus(gradient, target, -scale - own_slope)


def _nfl_rows(logits: Tensor, target: Tensor, gamma: float) -> tuple[Tensor, Tensor]:
    log_p, p = logits.log_softmax(1), logits.softmax(1)
    rest = (1.0 - p).clamp_min_(torch.finfo(p.dtype).tiny)
    weight = rest.pow(gamma)
    # of weight * log_p with respect to log_p; at p = 1, where rest is 0, it is the weight's limit
    slopes = rest.reciprocal_().mul_(p).mul_(log_p).mul_(-gamma).add_(1.0).mul_(weight)
    values = weight.mul_(log_p)
    total = values.sum(1)
    share = own_entry(values, target) / total
    own_slope = own_entry(slopes, target) / total
    by_log_p = own_minus(slopes.mul_((-share / total)[:, None]), target, -own_slope)
    return share, by_log_p.addcmul_(p, by_log_p.sum(1, keepdim=True), value=-1.0)


def _ngce_rows(logits: Tensor, target: Tensor, q: float) -> tuple[Tensor, Tensor]:
    """p_k^q is softmax(q f)_k times the sum of all, which the largest class gives."""
    p, powers = logits.softmax(1), (q * logits).softmax(1)
    total = p.amax(1).pow(q) / powers.amax(1)
    own = own_entry(powers, target) * total
    rest = logits.shape[1] - total
    share = (1.0 - own) / rest
    scale = q / rest
    gradient = p.mul_((scale * (own - share * total))[:, None])
    gradient.addcmul_(powers, (scale * share * total)[:, None])
    return share, own_minus(gradient, target, scale * own)

"""Losses divided by their own sum over all classes: robust by construction, and slow learners for it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from robustvision.core.losses.batch import ClassificationLoss, check_batch, check_number, exp
from robustvision.core.losses.gce import check_q
from robustvision.core.losses.labels import IGNORED
from robustvision.core.losses.rows import reduce_rows


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
    return reduce_rows(nce_rows, batch)


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
    return reduce_rows(partial(_nfl_rows, gamma=gamma), batch)


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
    return reduce_rows(partial(_ngce_rows, q=q), batch)


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


def nce_rows(
    logits: Tensor,
    target: Tensor,
    alpha: float = 1.0,
    passive: Callable[[Tensor], tuple[Tensor, Tensor]] | None = None,
) -> tuple[Tensor, Tensor]:
    """alpha log p_y / sum(log p) of some rows, and a loss of log p_y; and the gradient.

    ``passive`` maps log p_y, [b], to a loss and its derivative.
    """
    own, classes = target.unsqueeze(1), logits.shape[1]
    below = logits - logits.amax(1, keepdim=True)  # log p_k is this less the logarithm of the mass
    own_below, sums = below.gather(1, own), below.sum(1, keepdim=True)
    e = exp(below, uses_up=True)
    mass = e.sum(1, keepdim=True)
    log_mass = mass.log()
    log_p, total = own_below - log_mass, sums - classes * log_mass
    scale = alpha / total
    share = log_p * scale  # times alpha, as the slopes are
    slope = scale
    losses = share.squeeze(1)
    if passive is not None:
        others, others_slope = passive(log_p.squeeze(1))
        losses, slope = losses + others, slope + others_slope[:, None]
    shift = share / total
    gradient = e.mul_((classes * shift - slope) / mass).sub_(shift)
    return losses, gradient.scatter_add_(1, own, slope)


def _nfl_rows(logits: Tensor, target: Tensor, gamma: float) -> tuple[Tensor, Tensor]:
    """The weights (1 - p)^gamma are taken times mass^gamma, which the quotient does not see."""
    own = target.unsqueeze(1)
    log_p = logits - logits.amax(1, keepdim=True)
    e = exp(log_p)
    mass = e.sum(1, keepdim=True)
    log_p.sub_(mass.log())
    rest = (mass - e).clamp_min_(torch.finfo(e.dtype).tiny)
    slopes = rest.pow(gamma)  # so far the weights
    values = log_p.mul_(slopes)
    inverse = values.sum(1, keepdim=True).reciprocal()
    share = values.gather(1, own) * inverse
    # of weight * log_p with respect to log_p; at p = 1, where rest is 0, it is the weight's limit
    slopes.sub_(torch.div(e, rest, out=rest).mul_(values), alpha=gamma)
    own_slope = slopes.gather(1, own) * inverse
    by_log_p = slopes.mul_(-share * inverse).scatter_add_(1, own, own_slope)
    return share.squeeze(1), by_log_p.addcmul_(e, by_log_p.sum(1, keepdim=True) / mass, value=-1.0)


def _ngce_rows(logits: Tensor, target: Tensor, q: float) -> tuple[Tensor, Tensor]:
    own = target.unsqueeze(1)
    p = logits - logits.amax(1, keepdim=True)
    powers = exp(p, 1.0 / q)
    p = exp(p, uses_up=True)  # so far without their mass
    mass = p.sum(1, keepdim=True)
    inverse = mass.pow(-q)
    total, own_power = powers.sum(1, keepdim=True) * inverse, powers.gather(1, own) * inverse  # of p_k^q
    rest = logits.shape[1] - total
    share, scale = (1.0 - own_power) / rest, q / rest
    gradient = p.mul_(scale * (own_power - share * total) / mass).addcmul_(powers, scale * share * inverse)
    return share.squeeze(1), gradient.scatter_add_(1, own, -scale * own_power)

"""The bi-tempered logistic loss: a bounded loss over a heavy-tailed softmax."""

from __future__ import annotations

import math
from functools import partial

import torch
from torch import Tensor

from robustvision.core.errors import InputError
from robustvision.core.losses.batch import ClassificationLoss, check_batch, check_number, own_entry
from robustvision.core.losses.labels import IGNORED
from robustvision.core.losses.rows import own_minus, reduce_rows

NEWTON_STEPS = 50


def bi_tempered_loss(
    logits: Tensor,
    target: Tensor,
    t1: float = 0.8,
    t2: float = 1.2,
    *,
    weight: Tensor | None = None,
    ignore_index: int = IGNORED,
    reduction: str = "mean",
) -> Tensor:
    r"""Bi-tempered logistic loss: tempered logarithm (t1 < 1, bounded) of a tempered softmax (t2 > 1, heavy tails).

    With a one-hot target :math:`-\log_{t_1} p_y - (1 - \sum_k p_k^{2-t_1})/(2-t_1)`, where
    :math:`\log_t x = (x^{1-t} - 1)/(1-t)` and p is the tempered softmax. At t1 = t2 = 1 it is cross-entropy.

    Args:
        logits: Class scores, [B, C].
        target: Class indices, integer [B]; or distributions over the classes, floating point [B, C].
        t1: Temperature of the logarithm, in [0, 1].
        t2: Temperature of the softmax, at least 1.
        weight: One weight a sample, [B].
        ignore_index: The label of a sample that does not count.
        reduction: "mean" over the samples that count, "sum", or "none".

    Returns:
        The loss: a scalar, or [B] for "none".

    Raises:
        InputError: Wrong shapes, dtypes, labels or settings.

    References:
        Amid et al., "Robust Bi-Tempered Logistic Loss Based on Bregman Divergences", NeurIPS 2019, arXiv 1906.03361.

    Example:
        >>> f, y = torch.tensor([[2.0, 1.0, 0.0]]), torch.tensor([1])
        >>> bi_tempered_loss(f, y)
        tensor(1.0333)
    """
    _check_temperatures(t1, t2)
    batch = check_batch(logits, target, weight=weight, ignore_index=ignore_index, reduction=reduction, soft=True)
    return reduce_rows(partial(_bi_tempered_rows, t1=t1, t2=t2), batch)


class BiTemperedLoss(ClassificationLoss):
    """As a module: see :func:`bi_tempered_loss`.

    Example:
        >>> f, y = torch.tensor([[2.0, 1.0, 0.0]]), torch.tensor([1])
        >>> BiTemperedLoss(1.0, 1.0)(f, y)
        tensor(1.4076)
    """

    function = staticmethod(bi_tempered_loss)

    def __init__(
        self, t1: float = 0.8, t2: float = 1.2, *, ignore_index: int = IGNORED, reduction: str = "mean"
    ) -> None:
        _check_temperatures(t1, t2)
        super().__init__(ignore_index=ignore_index, reduction=reduction, t1=t1, t2=t2)


def tempered_softmax(logits: Tensor, t: float) -> Tensor:
    r"""The heavy-tailed softmax :math:`\exp_t(f_k - \lambda)`, with lambda so that a row sums to 1.

    With :math:`\exp_t(u) = [1 + (1-t)u]_+^{1/(1-t)}`. Lambda is found by Newton's method, which comes to it from below;
    its gradient is that of the implicit equation.

    Args:
        logits: [B, C], floating point.
        t: Temperature, at least 1; 1 is softmax.

    Returns:
        Probabilities, [B, C].

    Raises:
        InputError: A temperature below 1, or none.

    Example:
        >>> tempered_softmax(torch.tensor([[2.0, 1.0, 0.0]]), 2.0)  # softmax: 0.67, 0.24, 0.09
        tensor([[0.4516, 0.3111, 0.2373]])
    """
    check_number("t", t, least=1.0)
    if t == 1.0:
        return logits.softmax(1)
    log_p = _log_tempered_softmax(logits.detach(), t)
    p = log_p.exp()
    if not (torch.is_grad_enabled() and logits.requires_grad):
        return p
    slope = (t * log_p).exp()  # p_k^t, and d p_k = p_k^t (d f_k - escort . d f)
    change = logits - logits.detach()
    return p + slope * (change - (slope * change).sum(1, keepdim=True) / slope.sum(1, keepdim=True))


def _log_tempered_softmax(logits: Tensor, t: float) -> Tensor:
    """log exp_t(f_k - lambda). Each start of lambda lies below it: that of one class alone, and that by convexity."""
    scores = logits - logits.amax(1, keepdim=True)
    if t == 1.0:
        return scores.log_softmax(1)
    norm = (scores.mean(1, keepdim=True) + (math.pow(logits.shape[1], t - 1.0) - 1.0) / (t - 1.0)).clamp_min(0.0)
    for _ in range(NEWTON_STEPS):
        base = torch.sub(1.0 + (t - 1.0) * norm, scores, alpha=t - 1.0)  # at least 1
        log_p = base.log().mul_(1.0 / (1.0 - t))
        p = log_p.exp()
        step = ((p.sum(1, keepdim=True) - 1.0) / p.div_(base).sum(1, keepdim=True)).clamp_min(0.0)  # p^t is p / base
        norm = norm + step
        if not torch.compiler.is_compiling() and bool((step <= 4 * torch.finfo(norm.dtype).eps * (1.0 + norm)).all()):
            break
    return log_p


def _log_t(log_p: Tensor, t: float) -> Tensor:
    """The tempered logarithm (p^(1-t) - 1) / (1-t), from log p."""
    return log_p if t == 1.0 else ((1.0 - t) * log_p).expm1() / (1.0 - t)


def _bi_tempered_rows(logits: Tensor, target: Tensor, t1: float, t2: float) -> tuple[Tensor, Tensor]:
    log_p = _log_tempered_softmax(logits, t2)
    p = log_p.exp()
    power = 2.0 - t1
    mass = (power * log_p).exp_().sum(1)
    if target.ndim == 1:
        losses = (mass - 1.0) / power - _log_t(own_entry(log_p, target), t1)
        error = own_minus(p, target, 1.0)
    else:
        log_target = target.clamp_min(torch.finfo(target.dtype).tiny).log()
        losses = (target * (_log_t(log_target, t1) - _log_t(log_p, t1))).sum(1)
        losses = losses - (target.pow(power).sum(1) - mass) / power
        error = p - target
    # d loss / d p_k = p_k^-t1 (p_k - target_k), and d p_k = p_k^t2 (d f_k - escort . d f)
    by_scores = error.mul_(((t2 - t1) * log_p).exp_())
    escort = (t2 * log_p).exp_()
    return losses, by_scores.addcmul_(escort, by_scores.sum(1, keepdim=True) / escort.sum(1, keepdim=True), value=-1.0)


def _check_temperatures(t1: float, t2: float) -> None:
    if not (0.0 <= t1 <= 1.0 <= t2 < math.inf):
        raise InputError(f"t1 is {t1} and t2 {t2}, but they must satisfy 0 <= t1 <= 1 <= t2")

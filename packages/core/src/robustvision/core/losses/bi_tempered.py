"""The bi-tempered logistic loss: a bounded loss over a heavy-tailed softmax."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from robustvision.core.errors import InputError
from robustvision.core.losses.batch import ClassificationLoss, check_batch
from robustvision.core.losses.labels import IGNORED
from robustvision.core.losses.rows import by_rows

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
    return batch.reduce(by_rows(lambda rows, y: _bi_tempered_rows(rows, y, t1, t2), batch.logits, batch.target))


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

    Example:
        >>> tempered_softmax(torch.tensor([[2.0, 1.0, 0.0]]), 2.0)  # softmax: 0.67, 0.24, 0.09
        tensor([[0.4516, 0.3111, 0.2373]])
    """
    if t == 1.0:
        return logits.softmax(1)
    scores = logits.detach() - logits.detach().amax(1, keepdim=True)
    norm = _normaliser(scores, t)
    p = _exp_t(scores - norm, t)
    escort = p**t
    escort = escort / escort.sum(1, keepdim=True)
    # d p_k = p_k^t (d f_k - d lambda), and d lambda = escort . d f
    change = logits - logits.detach()
    shift = (escort * change).sum(1, keepdim=True)
    return _exp_t(scores - norm + change - shift, t)


def _normaliser(scores: Tensor, t: float) -> Tensor:
    """Lambda, [B, 1], for scores with maximum 0. Each start lies below it: of one class alone, and by convexity."""
    classes = scores.shape[1]
    norm = (scores.mean(1, keepdim=True) + (math.pow(classes, t - 1.0) - 1.0) / (t - 1.0)).clamp_min(0.0)
    for _ in range(NEWTON_STEPS):
        p = _exp_t(scores - norm, t)
        step = ((p.sum(1, keepdim=True) - 1.0) / (p**t).sum(1, keepdim=True)).clamp_min(0.0)
        norm = norm + step
        if not torch.compiler.is_compiling() and bool((step <= 4 * torch.finfo(norm.dtype).eps * (1.0 + norm)).all()):
            break
    return norm


def _exp_t(u: Tensor, t: float) -> Tensor:
    """For t > 1 and u <= 0 the base is at least 1."""
    return torch.pow((1.0 + (1.0 - t) * u).clamp_min(1.0), 1.0 / (1.0 - t))


def _log_t(p: Tensor, t: float) -> Tensor:
    """(p^(1-t) - 1) / (1-t) of a probability; the clamp keeps its gradient finite where p underflows."""
    log_p = p.clamp_min(torch.finfo(p.dtype).tiny).log()
    return log_p if t == 1.0 else ((1.0 - t) * log_p).expm1() / (1.0 - t)


def _bi_tempered_rows(logits: Tensor, target: Tensor, t1: float, t2: float) -> Tensor:
    p = tempered_softmax(logits, t2)
    power = 2.0 - t1
    mass = p.square().sum(1) if t1 == 0.0 else (p**power).sum(1)
    if target.ndim == 1:
        return (mass - 1.0) / power - _log_t(p.gather(1, target[:, None]).squeeze(1), t1)
    entropy = (target * (_log_t(target, t1) - _log_t(p, t1))).sum(1)
    return entropy - ((target**power).sum(1) - mass) / power


def _check_temperatures(t1: float, t2: float) -> None:
    if not (0.0 <= t1 <= 1.0 <= t2):
        raise InputError(f"t1 is {t1} and t2 {t2}, but they must satisfy 0 <= t1 <= 1 <= t2")

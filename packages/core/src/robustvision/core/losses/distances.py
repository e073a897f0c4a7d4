"""Bounded distances between target and prediction, symmetric or nearly: MAE, MSE, JS, robust log loss."""

from __future__ import annotations

import math
from functools import partial

import torch
from torch import Tensor

from robustvision.core.errors import InputError
from robustvision.core.losses.batch import ClassificationLoss, check_batch, check_number, expm1, own_entry
from robustvision.core.losses.labels import IGNORED
from robustvision.core.losses.rows import own_minus, reduce_rows


def mae_loss(
    logits: Tensor,
    target: Tensor,
    *,
    weight: Tensor | None = None,
    ignore_index: int = IGNORED,
    reduction: str = "mean",
) -> Tensor:
    r"""Mean absolute error between target and probabilities, :math:`\sum_k |y_k - p_k| = 2(1 - p_y)`.

    Symmetric, so noise tolerant, and slow to train: a sample weighs :math:`2 p_y` times its cross-entropy gradient.
    Some codes take half of it (``comp_sum_loss`` with tau 2); the LDR study's forgets the absolute value, which leaves
    0.

    Args:
        logits: Class scores, [B, C].
        target: Class indices, integer [B]; or distributions over the classes, floating point [B, C].
        weight: One weight a sample, [B].
        ignore_index: The label of a sample that does not count.
        reduction: "mean" over the samples that count, "sum", or "none".

    Returns:
        The loss: a scalar, or [B] for "none".

    Raises:
        InputError: Wrong shapes, dtypes, labels or settings.

    References:
        Ghosh, Kumar, Sastry, "Robust Loss Functions under Label Noise for Deep Neural Networks", AAAI 2017.

    Example:
        >>> f, y = torch.tensor([[2.0, 1.0, 0.0]]), torch.tensor([1])
        >>> mae_loss(f, y)
        tensor(1.5105)
    """
    batch = check_batch(logits, target, weight=weight, ignore_index=ignore_index, reduction=reduction, soft=True)
    if batch.is_soft:
        return batch.reduce((batch.target - batch.logits.softmax(1)).abs().sum(1))
    return batch.reduce(batch.expect(lambda log_p: -2.0 * expm1(log_p)))


class MAELoss(ClassificationLoss):
    """As a module: see :func:`mae_loss`.

    Example:
        >>> f, y = torch.tensor([[2.0, 1.0, 0.0]]), torch.tensor([1])
        >>> MAELoss()(f, y)
        tensor(1.5105)
    """

    function = staticmethod(mae_loss)

    def __init__(self, *, ignore_index: int = IGNORED, reduction: str = "mean") -> None:
        super().__init__(ignore_index=ignore_index, reduction=reduction)


def mse_loss(
    logits: Tensor,
    target: Tensor,
    *,
    weight: Tensor | None = None,
    ignore_index: int = IGNORED,
    reduction: str = "mean",
) -> Tensor:
    r"""Mean squared error between target and probabilities (Brier score), :math:`\sum_k (y_k - p_k)^2`.

    Args:
        logits: Class scores, [B, C].
        target: Class indices, integer [B]; or distributions over the classes, floating point [B, C].
        weight: One weight a sample, [B].
        ignore_index: The label of a sample that does not count.
        reduction: "mean" over the samples that count, "sum", or "none".

    Returns:
        The loss: a scalar, or [B] for "none".

    Raises:
        InputError: Wrong shapes, dtypes, labels or settings.

    References:
        Ghosh, Kumar, Sastry, "Robust Loss Functions under Label Noise for Deep Neural Networks", AAAI 2017.

    Example:
        >>> f, y = torch.tensor([[2.0, 1.0, 0.0]]), torch.tensor([1])
        >>> mse_loss(f, y)
        tensor(1.0211)
    """
    batch = check_batch(logits, target, weight=weight, ignore_index=ignore_index, reduction=reduction, soft=True)
    return reduce_rows(_mse_rows, batch)


class MSELoss(ClassificationLoss):
    """As a module: see :func:`mse_loss`.

    Example:
        >>> f, y = torch.tensor([[2.0, 1.0, 0.0]]), torch.tensor([1])
        >>> MSELoss()(f, y)
        tensor(1.0211)
    """

    function = staticmethod(mse_loss)

    def __init__(self, *, ignore_index: int = IGNORED, reduction: str = "mean") -> None:
        super().__init__(ignore_index=ignore_index, reduction=reduction)


def js_loss(
    logits: Tensor,
    target: Tensor,
    pi: float = 0.5,
    *,
    weight: Tensor | None = None,
    ignore_index: int = IGNORED,
    reduction: str = "mean",
) -> Tensor:
    r"""Jensen-Shannon divergence between target and prediction, scaled: from cross-entropy (pi -> 0) to MAE (pi -> 1).

    :math:`Z\,(\pi\,\mathrm{KL}(e_y, m) + (1-\pi)\,\mathrm{KL}(p, m))` with :math:`m = \pi e_y + (1-\pi)p` and
    :math:`Z = -1/((1-\pi)\log(1-\pi))`.

    Args:
        logits: Class scores, [B, C].
        target: Class indices, integer [B]; or distributions over the classes, floating point [B, C].
        pi: Weight of the target in the mean, in (0, 1).
        weight: One weight a sample, [B].
        ignore_index: The label of a sample that does not count.
        reduction: "mean" over the samples that count, "sum", or "none".

    Returns:
        The loss: a scalar, or [B] for "none".

    Raises:
        InputError: Wrong shapes, dtypes, labels or settings.

    References:
        Englesson, Azizpour, "Generalized Jensen-Shannon Divergence Loss for Learning with Noisy Labels", NeurIPS 2021,
        arXiv 2105.04522.

    Example:
        >>> f, y = torch.tensor([[2.0, 1.0, 0.0]]), torch.tensor([1])
        >>> js_loss(f, y)
        tensor(1.1099)
    """
    _check_pi(pi)
    batch = check_batch(logits, target, weight=weight, ignore_index=ignore_index, reduction=reduction, soft=True)
    if batch.is_soft:
        return batch.reduce(_js_between(batch.target, batch.logits.log_softmax(1), pi))
    return batch.reduce(batch.expect(lambda log_p: _js_of(log_p, pi)))


class JSLoss(ClassificationLoss):
    """As a module: see :func:`js_loss`.

    Example:
        >>> f, y = torch.tensor([[2.0, 1.0, 0.0]]), torch.tensor([1])
        >>> JSLoss(pi=0.1)(f, y)
        tensor(1.3313)
    """

    function = staticmethod(js_loss)

    def __init__(self, pi: float = 0.5, *, ignore_index: int = IGNORED, reduction: str = "mean") -> None:
        _check_pi(pi)
        super().__init__(ignore_index=ignore_index, reduction=reduction, pi=pi)


def rll_loss(
    logits: Tensor,
    target: Tensor,
    a: float = 0.1,
    *,
    weight: Tensor | None = None,
    ignore_index: int = IGNORED,
    reduction: str = "mean",
) -> Tensor:
    r"""Robust log loss: :math:`\log\frac{a+1}{a} - \log(a + p_y) + \frac{1}{C-1}\sum_{k\ne y}\log(a + p_k)`.

    The sum over the other classes makes it symmetric. (The LDR study's code takes the logarithm of a sum there, and of
    differences of logits; its figures for RLL are of another loss.)

    Args:
        logits: Class scores, [B, C], C at least 2.
        target: Class indices, integer [B].
        a: Above 0; the smaller, the nearer to cross-entropy.
        weight: One weight a sample, [B].
        ignore_index: The label of a sample that does not count.
        reduction: "mean" over the samples that count, "sum", or "none".

    Returns:
        The loss: a scalar, or [B] for "none".

    Raises:
        InputError: Wrong shapes, dtypes, labels or settings.

    References:
        Feng et al., "Can Cross Entropy Loss Be Robust to Label Noise?", IJCAI 2020.

    Example:
        >>> f, y = torch.tensor([[2.0, 1.0, 0.0]]), torch.tensor([1])
        >>> rll_loss(f, y)
        tensor(2.4988)
    """
    check_number("a", a, above=0.0)
    batch = check_batch(logits, target, weight=weight, ignore_index=ignore_index, reduction=reduction, least_classes=2)
    return reduce_rows(partial(_rll_rows, a=a), batch)


class RLLLoss(ClassificationLoss):
    """As a module: see :func:`rll_loss`.

    Example:
        >>> f, y = torch.tensor([[2.0, 1.0, 0.0]]), torch.tensor([1])
        >>> RLLLoss(a=1.0)(f, y)
        tensor(0.7723)
    """

    function = staticmethod(rll_loss)

    def __init__(self, a: float = 0.1, *, ignore_index: int = IGNORED, reduction: str = "mean") -> None:
        check_number("a", a, above=0.0)
        super().__init__(ignore_index=ignore_index, reduction=reduction, a=a)


def _mse_rows(logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    p = logits.softmax(1)
    if target.ndim == 2:
        error = p - target
        losses, along = error.square().sum(1), (p * error).sum(1)
        return losses, error.sub_(along[:, None]).mul_(p).mul_(2.0)
    squares, own = p.square().sum(1), own_entry(p, target)
    twice_error = torch.add(2.0 * (own - squares)[:, None], p, alpha=2.0)  # less the mean of the error under p
    return squares - 2.0 * own + 1.0, own_minus(twice_error, target, 2.0).mul_(p)


def _js_of(log_p: Tensor, pi: float) -> Tensor:
    """With a one-hot target m differs from (1 - pi) p in one entry, so p_y alone decides."""
    p, less = log_p.exp(), expm1(log_p)
    log_m = ((1.0 - pi) * p + pi).log()
    from_prediction = p * (log_p.clamp_min(torch.finfo(p.dtype).min) - log_m)
    from_prediction = torch.add(from_prediction, less, alpha=math.log1p(-pi))
    scale = _js_scale(pi)
    return torch.add((1.0 - pi) * scale * from_prediction, log_m, alpha=-pi * scale)


def _js_between(target: Tensor, log_p: Tensor, pi: float) -> Tensor:
    p = log_p.exp()
    m = pi * target + (1.0 - pi) * p
    log_m = m.clamp_min(torch.finfo(p.dtype).tiny).log()
    from_target = (torch.xlogy(target, target) - target * log_m).sum(1)
    return _js_scale(pi) * (pi * from_target + (1.0 - pi) * (p * (log_p - log_m)).sum(1))


def _js_scale(pi: float) -> float:
    return -1.0 / ((1.0 - pi) * math.log1p(-pi))


def _rll_rows(logits: Tensor, target: Tensor, a: float) -> tuple[Tensor, Tensor]:
    others = 1.0 / (logits.shape[1] - 1)
    own = target.unsqueeze(1)
    p = logits.softmax(1)
    shifted = p + a
    own_log = (shifted.gather(1, own) / a).log().squeeze(1)
    losses = torch.add(math.log1p(1.0 / a) - (1.0 + others) * own_log, _sum_of_logs(shifted, a), alpha=others)
    pull = torch.div(p, shifted, out=shifted)  # p_k times the derivative of log(a + p_k)
    pull.scatter_(1, own, (-1.0 / others) * pull.gather(1, own))
    return losses, pull.addcmul_(p, pull.sum(1, keepdim=True), value=-1.0).mul_(others)


def _sum_of_logs(x: Tensor, a: float) -> Tensor:
    """The sums of log(x / a), [b, C] to [b]; x lies between a and a + 1.

    Products cost less than logarithms, so up to eight classes are multiplied, if nothing can over- or underflow.
    """
    limits = torch.finfo(x.dtype)
    share = max(math.log(a + 1.0) / math.log(limits.max), math.log(a) / math.log(limits.tiny))
    factors = max(1, int(min(1.0 / share, 8, x.shape[1])))
    whole = x.shape[1] // factors * factors
    sums: Tensor = x[:, :whole].unflatten(1, (factors, -1)).prod(1).div_(a**factors).log_().sum(1)
    return sums if whole == x.shape[1] else sums + (x[:, whole:].prod(1) / a ** (x.shape[1] - whole)).log()


def _check_pi(pi: float) -> None:
    if not 0 < pi < 1:
        raise InputError(f"pi is {pi}, but it must lie between 0 and 1, both excluded")

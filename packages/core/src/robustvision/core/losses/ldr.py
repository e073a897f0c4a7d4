"""Label distributionally robust losses: the worst reweighting of the classes' margins, near the uniform one in KL.

``ldr_loss`` has one temperature for all samples; ``ldr_k_loss`` limits the weight of a class; ``aldr`` gives every
sample a temperature of its own. All rest on ``dro.kl_dro``, here over labels. Part of the published losses is a
normalisation of the outputs (``normalize_logits``); without it their temperatures mean something else.
"""

from __future__ import annotations

from functools import partial
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import softplus

from robustvision.core.errors import InputError
from robustvision.core.losses.batch import ClassificationLoss, check_batch, check_number, label_margins
from robustvision.core.losses.dro import log_mean_exp, temperature
from robustvision.core.losses.labels import IGNORED
from robustvision.core.losses.rows import own_minus, reduce_rows

SMALLEST_NORM = 1e-12
"""The official code has no such guard: logits of 0, as a head initialised with zeros gives them, become NaN there."""

TEMPERATURES = (1e-37, 1e37)
"""Between these a temperature times a norm has a reciprocal in float32, too."""

Normalization = Literal["none", "l1", "softplus"]


def normalize_logits(logits: Tensor, normalize: Normalization) -> Tensor:
    r"""Bring the outputs of a sample to mean absolute value 1, so that a temperature means the same for every network.

    Args:
        logits: [B, C].
        normalize: "l1": :math:`f_k C / \|f\|_1`, as the official ALDR; "softplus": softplus first, then the same, as
            the official LDR (and its ALDR on CIFAR-100); "none": as they are.

    Returns:
        [B, C], with entries of at most C in absolute value, unless "none".

    Example:
        >>> normalize_logits(torch.tensor([[3.0, -1.0, 2.0]]), "l1")
        tensor([[ 1.5000, -0.5000,  1.0000]])
    """
    if normalize == "none":
        return logits
    sizes, norm = _sizes(logits, normalize)
    return sizes / norm


def ldr_loss(
    logits: Tensor,
    target: Tensor,
    lam: float = 10.0,
    margin: float = 0.1,
    normalize: Normalization = "softplus",
    *,
    weight: Tensor | None = None,
    ignore_index: int = IGNORED,
    reduction: str = "mean",
) -> Tensor:
    r"""LDR-KL: :math:`\psi = \lambda\log\frac1C\sum_k e^{(f_k - f_y + c_k)/\lambda}` with :math:`c_k = c\,[k \ne y]`.

    The mean is over all classes, the true one included. At lam = 1, c = 0 and no normalisation it is the
    cross-entropy minus log C; for lam -> 0 the Crammer-Singer loss; for lam -> infinity the mean margin, which is
    linear and, with normalised outputs, symmetric: noise tolerant.

    Args:
        logits: Class scores f, [B, C], C at least 2.
        target: Class indices, integer [B].
        lam: The temperature, at least 0; the authors search 0.1, 1 and 10.
        margin: c.
        normalize: See :func:`normalize_logits`; the official loss takes "softplus".
        weight: One weight a sample, [B].
        ignore_index: The label of a sample that does not count.
        reduction: "mean" over the samples that count, "sum", or "none".

    Returns:
        The loss: a scalar, or [B] for "none".

    Raises:
        InputError: Wrong shapes, dtypes, labels or settings.

    References:
        Zhu et al., "Label Distributionally Robust Losses for Multi-class Classification", ICML 2023, arXiv 2112.14869.

    Example:
        >>> ldr_loss(torch.tensor([[2.0, 1.0, 0.0]]), torch.tensor([1]), lam=1.0, normalize="none")
        tensor(0.3854)
    """
    check_normalization(normalize)
    check_number("margin", margin)
    check_number("lam", lam, least=0.0, may_be_infinite=True)
    batch = check_batch(logits, target, weight=weight, ignore_index=ignore_index, reduction=reduction, least_classes=2)
    of_rows = partial(ldr_rows, lam=lam, margin=margin, normalize=normalize)
    return reduce_rows(of_rows, batch)


class LDRLoss(ClassificationLoss):
    """LDR-KL as a module: see :func:`ldr_loss`.

    Example:
        >>> LDRLoss(lam=1.0, normalize="none")(torch.tensor([[2.0, 1.0, 0.0]]), torch.tensor([1]))
        tensor(0.3854)
    """

    function = staticmethod(ldr_loss)

    def __init__(
        self,
        lam: float = 10.0,
        margin: float = 0.1,
        normalize: Normalization = "softplus",
        *,
        ignore_index: int = IGNORED,
        reduction: str = "mean",
    ) -> None:
        check_normalization(normalize)
        check_number("margin", margin)
        check_number("lam", lam, least=0.0, may_be_infinite=True)
        super().__init__(ignore_index=ignore_index, reduction=reduction, lam=lam, margin=margin, normalize=normalize)


def ldr_k_loss(
    logits: Tensor,
    target: Tensor,
    k: int = 2,
    lam: float = 1.0,
    margin: float = 0.1,
    normalize: Normalization = "softplus",
    *,
    weight: Tensor | None = None,
    ignore_index: int = IGNORED,
    reduction: str = "mean",
) -> Tensor:
    r"""LDR-k-KL: LDR-KL with no class weighing more than 1/k, so that k classes at least share the blame.

    Reconstructed from the paper's family of losses, not checked against official code: the weights maximise
    :math:`\sum_j w_j d_j - \lambda\sum_j w_j\log(C w_j)` over the simplex with :math:`w_j \le 1/k`. At the optimum
    :math:`w_j = \min(1/k, e^{d_j/\lambda}/Z)`, so the largest d are capped and the others share the rest by softmax.

    Args:
        logits: Class scores f, [B, C], C at least 2.
        target: Class indices, integer [B].
        k: 1 (which is LDR-KL) to C.
        lam: The temperature, above 0.
        margin: c.
        normalize: See :func:`normalize_logits`.
        weight: One weight a sample, [B].
        ignore_index: The label of a sample that does not count.
        reduction: "mean" over the samples that count, "sum", or "none".

    Returns:
        The loss: a scalar, or [B] for "none". It sorts the k largest margins.

    Raises:
        InputError: Wrong shapes, dtypes, labels or settings.

    References:
        Zhu et al., arXiv 2112.14869.

    Example:
        >>> f, y = torch.tensor([[2.0, 1.0, 0.0]]), torch.tensor([1])
        >>> [round(ldr_k_loss(f, y, k, normalize="none").item(), 4) for k in (1, 2, 3)]  # k = 3: the mean margin
        [0.3854, 0.3151, 0.0667]
    """
    check_normalization(normalize)
    check_number("margin", margin)
    check_number("lam", lam, above=0.0)
    batch = check_batch(logits, target, weight=weight, ignore_index=ignore_index, reduction=reduction, least_classes=2)
    classes = batch.logits.shape[1]
    if not 1 <= k <= classes:
        raise InputError(f"k is {k}, but a class weighs at most 1/k: it must lie between 1 and the {classes} classes")
    of_rows = partial(_ldr_k_rows, k=k, lam=lam, margin=margin, normalize=normalize)
    return reduce_rows(of_rows, batch)


class LDRKLoss(ClassificationLoss):
    """LDR-k-KL as a module: see :func:`ldr_k_loss`.

    Example:
        >>> LDRKLoss(k=2, normalize="none")(torch.tensor([[2.0, 1.0, 0.0]]), torch.tensor([1]))
        tensor(0.3151)
    """

    function = staticmethod(ldr_k_loss)

    def __init__(
        self,
        k: int = 2,
        lam: float = 1.0,
        margin: float = 0.1,
        normalize: Normalization = "softplus",
        *,
        ignore_index: int = IGNORED,
        reduction: str = "mean",
    ) -> None:
        check_normalization(normalize)
        check_number("margin", margin)
        check_number("lam", lam, above=0.0)
        super().__init__(
            ignore_index=ignore_index, reduction=reduction, k=k, lam=lam, margin=margin, normalize=normalize
        )


def ldr_rows(
    logits: Tensor, target: Tensor, lam: float | Tensor, margin: float, normalize: Normalization
) -> tuple[Tensor, Tensor]:
    """The LDR-KL losses of some rows, and their gradient: the worst weights minus the label.

    It is ``kl_dro`` of the ``label_margins`` of the normalised outputs, in as few passes over the scores as can be: the
    outputs stay as they are, the temperature and the margin are multiplied by their norm instead.
    """
    own = target.unsqueeze(1)
    lam = temperature(lam, logits)
    if normalize == "none":
        losses, e, total = _worst_mean((logits - logits.gather(1, own)).scatter_(1, own, -margin), lam)
        return losses.squeeze(1) + margin, own_minus(e.div_(total), target, 1.0)
    sizes, norm = _sizes(logits, normalize)
    inverse = norm.reciprocal()
    own_size = sizes.gather(1, own)
    ahead = (sizes - own_size).scatter_(1, own, -margin * norm)
    losses, e, total = _worst_mean(ahead, (norm * lam).clamp_(*TEMPERATURES))
    along = (e * sizes).sum(1, keepdim=True) / total - own_size
    by_sizes = e.mul_(inverse / total).scatter_add_(1, own, -inverse)
    gradient = _through_normalization(by_sizes, along, inverse, logits, normalize)
    return (losses * inverse + margin).squeeze(1), gradient


def _worst_mean(ahead: Tensor, lam: float | Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """``kl_dro`` of [b, C] without gradient: its value, its weights times their sum, the sum. ``ahead`` is used up."""
    top = ahead.amax(1, keepdim=True)
    log_mean, e, mean = log_mean_exp(ahead.sub_(top), lam)  # 0 at the top, whatever the temperature
    value = torch.addcmul(top, log_mean, lam) if isinstance(lam, Tensor) else torch.add(top, log_mean, alpha=lam)
    return value, e, ahead.shape[1] * mean


def scaled_outputs(logits: Tensor, lam: Tensor, normalize: Normalization) -> Tensor:
    """The normalised outputs over each sample's temperature, [b, C] and [b] to [b, C]."""
    if normalize == "none":
        return logits * lam[:, None].reciprocal()
    sizes, norm = _sizes(logits, normalize)
    return sizes * (norm * lam[:, None]).reciprocal()


def _sizes(logits: Tensor, normalize: Literal["l1", "softplus"]) -> tuple[Tensor, Tensor]:
    """The outputs s before they are normalised, [b, C], and the mean of |s|, at least SMALLEST_NORM, [b, 1]."""
    outputs = logits if normalize == "l1" else softplus(logits)
    sizes = logits.abs() if normalize == "l1" else outputs
    return outputs, sizes.mean(1, keepdim=True).clamp_min(SMALLEST_NORM)


def _through_normalization(
    by_sizes: Tensor, along: Tensor, inverse: Tensor, logits: Tensor, normalize: Literal["l1", "softplus"]
) -> Tensor:
    """A gradient with respect to outputs s with the norm held constant, [b, C], as one with respect to the logits.

    In place. ``along`` is the sum of the gradient times s, times the norm, [b, 1]; ``inverse`` is one over the norm.
    """
    is_held = inverse > 0.99 / SMALLEST_NORM  # the norm is SMALLEST_NORM, whatever the logits; 0.99 for rounding
    share = (along * inverse.square()).masked_fill_(is_held, 0.0).div_(logits.shape[1])
    if normalize == "l1":
        return by_sizes.addcmul_(logits.sign(), share, value=-1.0)
    return by_sizes.sub_(share).mul_(logits.sigmoid())


def _ldr_k_rows(
    logits: Tensor, target: Tensor, k: int, lam: float, margin: float, normalize: Normalization
) -> tuple[Tensor, Tensor]:
    if normalize == "none":
        losses, weights = _capped_mean(label_margins(logits, target, margin), k, lam)
        return losses, own_minus(weights, target, 1.0)
    sizes, norm = _sizes(logits, normalize)
    inverse = norm.reciprocal()
    losses, weights = _capped_mean(label_margins(sizes * inverse, target, margin), k, lam)
    by_outputs = own_minus(weights, target, 1.0)
    along = (by_outputs * sizes).sum(1, keepdim=True)
    return losses, _through_normalization(by_outputs.mul_(inverse), along, inverse, logits, normalize)


def _capped_mean(margins: Tensor, k: int, lam: float) -> tuple[Tensor, Tensor]:
    """The worst mean of margins, [b, C] to [b], with no weight above 1/k, and the weights."""
    weights = _capped_weights(margins / lam, k)
    return (weights * margins).sum(1) - lam * kl_from_uniform(weights), weights


def _capped_weights(z: Tensor, k: int) -> Tensor:
    """The weights [B, C] that maximise w.z - KL(w, uniform) under w <= 1/k.

    With the r largest at the cap, the others share 1 - r/k by softmax; the right r is the first at which none of those
    exceeds the cap.
    """
    top, places = z.topk(k, dim=1)
    tail = z.scatter(1, places, -torch.inf).logsumexp(1, keepdim=True)
    # The logsumexp of all but the r largest, r = 0 .. k-1, added up from the small end.
    rest = torch.cat([tail, top.flip(1)], dim=1).logcumsumexp(1)[:, 1:].flip(1)
    share = 1.0 - torch.arange(k, dtype=z.dtype, device=z.device) / k
    fits = share * torch.exp(top - rest) <= 1.0 / k
    fits[:, -1] = True  # one class is left with a share of 1/k: true but for rounding
    r = fits.int().argmax(1, keepdim=True)
    return (share[r] * torch.exp(z - rest.gather(1, r))).clamp_max(1.0 / k)


def kl_from_uniform(weights: Tensor) -> Tensor:
    """KL of distributions [B, C] to the uniform one, [B]."""
    ratio = (weights * weights.shape[1]).clamp_min_(torch.finfo(weights.dtype).tiny)  # 0 log 0 is 0
    return (weights * ratio.log_()).sum(1)


def check_normalization(normalize: str) -> None:
    if normalize not in ("none", "l1", "softplus"):
        raise InputError(f"normalize is {normalize!r}, but it must be 'none', 'l1' or 'softplus'")

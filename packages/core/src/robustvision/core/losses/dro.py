"""Distributional robustness by one primitive: the worst mean over reweightings that stay near a prior in KL.

.. math::
    \\mathrm{KL\\text{-}DRO}_\\lambda(x) = \\max_w \\sum_k w_k x_k - \\lambda\\,\\mathrm{KL}(w, \\pi)
        = \\lambda \\log \\sum_k \\pi_k e^{x_k/\\lambda}

``kl_dro`` pays for the distance, ``kl_dro_ball`` limits it. The LDR losses apply it over labels, iSogCLR over
negatives, ``SampleDRO`` over the samples of a batch.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from robustvision.core.errors import InputError
from robustvision.core.losses.batch import check_number, check_weight, exp
from robustvision.core.losses.labels import IGNORED, check_and_count, in_float32_at_least

SMALLEST, LARGEST = 1e-30, 1e30
"""Beyond these a temperature stands for its limit, 0 or infinity."""

FARTHEST = 200.0
"""exp(-FARTHEST) is nothing beside 1, in float64 too."""

BISECTIONS = 100


class KLDRO(NamedTuple):
    """A robust mean and what it puts its weight on.

    Attributes:
        value: The robust mean; the shape of ``x`` without ``dim``.
        weights: The worst weights w, of the shape of ``x``, without gradient; they are also the gradient of the value
            with respect to ``x``.
    """

    value: Tensor
    weights: Tensor


class KLDROBall(NamedTuple):
    """A robust mean over a KL ball.

    Attributes:
        value: The robust mean; the shape of ``x`` without ``dim``.
        weights: The worst weights, of the shape of ``x``, without gradient.
        lam: The temperature at which the weights lie on the ball's border, of the shape of ``value``; 0 where even the
            largest entries alone lie inside the ball, infinity for a radius of 0.
    """

    value: Tensor
    weights: Tensor
    lam: Tensor


def kl_dro(x: Tensor, lam: float | Tensor, prior: Tensor | None = None, dim: int = -1) -> KLDRO:
    r"""The KL-penalised robust mean :math:`\lambda\log\sum_k\pi_k e^{x_k/\lambda}` along a dimension.

    For lam -> 0 it is the maximum, for lam -> infinity the mean; both limits are exact. Computed in float32 at least,
    without loss of digits at large lam, where a plain logsumexp loses them.

    Args:
        x: What is averaged, floating point; any shape.
        lam: The temperature, at least 0: a number, or a tensor of the shape of ``x`` without ``dim`` (or one that
            broadcasts to it). Its gradient is :math:`-\mathrm{KL}(w, \pi)`.
        prior: pi along ``dim``, at least 0 and summing to 1, of the shape of ``x`` or one that broadcasts to it;
            uniform where None. Entries of prior 0 are left out, whatever they hold.
        dim: The dimension to average over.

    Returns:
        The value and the dual weights.

    Raises:
        InputError: No entry along ``dim``, or a temperature or prior out of range.

    References:
        Zhu et al., "Label Distributionally Robust Losses for Multi-class Classification", ICML 2023, arXiv 2112.14869.

    Example:
        >>> x = torch.tensor([0.0, 1.0, 2.0])
        >>> [round(kl_dro(x, lam).value.item(), 4) for lam in (0.0, 1.0, 1e9)]  # maximum, between, mean
        [2.0, 1.309, 1.0]
        >>> kl_dro(x, 1.0).weights  # softmax
        tensor([0.0900, 0.2447, 0.6652])
    """
    x = _checked(x, dim)
    _check_temperature(lam)
    prior = None if prior is None else _check_prior(prior.to(x.dtype), x, dim)
    lam = temperature(lam, x, dim)
    if prior is None:
        top = x.detach().amax(dim, keepdim=True)
    else:
        top = x.detach().masked_fill(prior == 0, -torch.inf).amax(dim, keepdim=True)
        x = torch.where(prior > 0, x, top)
    below = x - top
    if isinstance(lam, Tensor) and lam.requires_grad:  # its gradient multiplies this by a weight of 0
        below = torch.maximum(below, -FARTHEST * lam)
    log_mean, e, mean = log_mean_exp(below, lam, prior, dim)
    weights, mean = e.detach(), mean.detach()
    if prior is not None:
        weights = prior * weights / mean
    elif log_mean.requires_grad:  # autograd holds on to e
        weights = weights / (x.shape[dim] * mean)
    else:
        weights.div_(x.shape[dim] * mean)
    return KLDRO((top + lam * log_mean).squeeze(dim), weights)


def temperature(lam: float | Tensor, x: Tensor, dim: int = -1) -> float | Tensor:
    """A temperature brought between its limits, and a tensor to the dtype and the dimensions of ``x``."""
    if not isinstance(lam, Tensor):
        return min(max(float(lam), SMALLEST), LARGEST)
    lam = lam.to(x.dtype).clamp(SMALLEST, LARGEST)
    return lam if lam.ndim == 0 else lam.unsqueeze(dim)


NEAR_ONE = 0.78
"""Below this the plain logarithm of a mean of exponentials is right to some units in the last place."""


def log_mean_exp(
    x: Tensor, lam: float | Tensor, prior: Tensor | None = None, dim: int = -1
) -> tuple[Tensor, Tensor, Tensor]:
    """The logarithm of the mean of exp(x / lam), to the last digit also where it is near 0.

    Where x / lam lies near 0 the mean is near 1, its logarithm near 0, and a large temperature multiplies the error:
    there log1p of the mean of expm1 is exact. Elsewhere the plain logarithm is. A compiler is given both ways.

    Args:
        x: At most 0, and 0 somewhere, floating point.
        lam: The temperature, above 0, a number or a tensor that broadcasts to the logarithm.
        prior: The weights of the mean, as for :func:`kl_dro`; uniform where None.
        dim: The dimension of the mean, which is kept.

    Returns:
        The logarithm; exp(x / lam); and its mean.
    """

    def mean_of(values: Tensor) -> Tensor:
        return values.mean(dim, keepdim=True) if prior is None else (prior * values).sum(dim, keepdim=True)

    e = (x / lam).exp() if x.requires_grad else exp(x, lam)
    mean = mean_of(e)
    is_far = mean < NEAR_ONE
    if x.device.type == "cpu" and not torch.compiler.is_compiling() and is_far.all():
        return mean.log(), e, mean
    excess = mean_of((x / lam).expm1()).clamp_min(NEAR_ONE - 1.01)  # of far rows, whose gradient is thrown away
    return torch.where(is_far, mean.log(), excess.log1p()), e, mean


def kl_dro_ball(x: Tensor, radius: float | Tensor, prior: Tensor | None = None, dim: int = -1) -> KLDROBall:
    r"""The worst mean over a KL ball: :math:`\max_w \sum_k w_k x_k` with :math:`\mathrm{KL}(w, \pi) \le \rho`.

    By duality :math:`\min_{\lambda \ge 0} \mathrm{KL\text{-}DRO}_\lambda(x) + \lambda\rho`; the temperature is found by
    bisection, and the gradient with respect to ``x`` is the weights.

    Args:
        x: What is averaged, floating point; any shape.
        radius: rho, at least 0: a number, or a tensor of the shape of ``x`` without ``dim``; it gets no gradient.
        prior: As for :func:`kl_dro`.
        dim: The dimension to average over.

    Returns:
        The value, the weights and the temperature.

    Raises:
        InputError: As for :func:`kl_dro`.

    Example:
        >>> x = torch.tensor([0.0, 1.0, 2.0])
        >>> [round(kl_dro_ball(x, rho).value.item(), 4) for rho in (0.0, 0.1, 1.0986, 5.0)]  # log 3 = 1.0986
        [1.0, 1.3605, 2.0, 2.0]
    """
    x = _checked(x, dim)
    radius = torch.as_tensor(radius, dtype=x.dtype, device=x.device)
    if radius.device.type == "cpu" and not torch.compiler.is_compiling() and not (radius >= 0).all():
        raise InputError(f"the radius of the ball is {radius.min().item():g}, but it must be at least 0")
    with torch.no_grad():
        spread = (x.amax(dim) - x.amin(dim)).clamp_min(torch.finfo(x.dtype).tiny)
        radius = radius.expand(spread.shape)
        # KL(w, pi) falls as the temperature rises: from -log pi(argmax) at 0 to 0; near infinity it is var / (2 lam^2).
        low = spread.log() - math.log(FARTHEST)
        high = spread.log() - 0.5 * radius.clamp_min(1e-12).log() + math.log(2.0)
        for _ in range(BISECTIONS):
            middle = 0.5 * (low + high)
            too_far = _divergence(x, middle.exp(), prior, dim) > radius
            low, high = torch.where(too_far, middle, low), torch.where(too_far, high, middle)
        lam = (0.5 * (low + high)).exp()
        lam = lam.masked_fill(_divergence(x, torch.zeros_like(lam), prior, dim) <= radius, 0.0)
        lam = lam.masked_fill(radius == 0, torch.inf)
    value, weights = kl_dro(x, lam, prior, dim)
    return KLDROBall(value + (lam * radius).nan_to_num(0.0), weights, lam)


class SampleDRO(nn.Module):
    """A classification loss made robust over the samples of a batch: the hard ones weigh more.

    Args:
        loss: A loss with the signature of this library's classification losses and reduction "none".
        lam: The temperature of :func:`kl_dro`; give this or ``radius``.
        radius: The radius of :func:`kl_dro_ball`.

    Raises:
        InputError: Both or neither of ``lam`` and ``radius``, or a loss that reduces.

    Example:
        >>> from robustvision.core.losses import CrossEntropyLoss
        >>> robust = SampleDRO(CrossEntropyLoss(reduction="none"), lam=1e9)  # nearly the mean
        >>> robust(torch.tensor([[0.0, 0.0], [4.0, 0.0]]), torch.tensor([0, 0]))
        tensor(0.3556)
    """

    def __init__(self, loss: nn.Module, *, lam: float | None = None, radius: float | None = None) -> None:
        super().__init__()
        if (lam is None) == (radius is None):
            raise InputError(f"lam is {lam} and radius {radius}: give one of them")
        if getattr(loss, "reduction", "none") != "none":
            raise InputError(f"the loss reduces by {loss.reduction!r}: make it with reduction='none'")
        for name, value in (("lam", lam), ("radius", radius)):
            if value is not None:
                check_number(name, value, least=0.0)
        self.loss, self.lam, self.radius = loss, lam, radius

    def forward(
        self, logits: Tensor, target: Tensor, *, index: Tensor | None = None, weight: Tensor | None = None
    ) -> Tensor:
        """The robust mean of the losses of a batch; ``weight`` [B] is the prior. Ignored samples have none."""
        losses: Tensor = self.loss(logits, target, index=index)
        if losses.numel() == 0:
            return losses.sum()
        counted = None
        if not target.is_floating_point():
            counted = check_and_count(logits, target, getattr(self.loss, "ignore_index", IGNORED))[1]
        prior = None
        if weight is not None or counted is not None:
            mass = torch.ones_like(losses) if weight is None else check_weight(losses, weight).to(losses.dtype)
            mass = mass if counted is None else mass.masked_fill(~counted, 0.0)
            total = mass.sum()
            prior = torch.where(total > 0, mass / total, 1.0 / len(losses))  # where nothing counts, all losses are 0
        if self.radius is not None:
            return kl_dro_ball(losses, self.radius, prior).value
        assert self.lam is not None
        return kl_dro(losses, self.lam, prior).value

    def extra_repr(self) -> str:
        return f"lam={self.lam}" if self.radius is None else f"radius={self.radius}"


def _divergence(x: Tensor, lam: Tensor, prior: Tensor | None, dim: int) -> Tensor:
    """KL(w, pi) of the weights at a temperature."""
    weights = kl_dro(x, lam, prior, dim).weights
    reference = 1.0 / x.shape[dim] if prior is None else prior.to(x.dtype).clamp_min(torch.finfo(x.dtype).tiny)
    return torch.xlogy(weights, weights / reference).sum(dim)


def _checked(x: Tensor, dim: int) -> Tensor:
    if not x.is_floating_point() or x.ndim == 0 or x.shape[dim] == 0:
        raise InputError(
            f"a robust mean needs floating-point entries along dimension {dim}, but {list(x.shape)} of {x.dtype} came"
        )
    return in_float32_at_least(x)


def _check_temperature(lam: float | Tensor) -> None:
    if isinstance(lam, Tensor):
        on_cpu = lam.device.type == "cpu" and not torch.compiler.is_compiling()
        if on_cpu and bool((lam < 0).any()):  # NaN passes, and makes the value NaN
            raise InputError(f"the temperature holds {lam.min().item():g}, but it must be at least 0")
    elif not lam >= 0:
        raise InputError(f"the temperature is {lam}, but it must be at least 0")


def _check_prior(prior: Tensor, x: Tensor, dim: int) -> Tensor:
    if prior.ndim == 1 and x.ndim > 1:
        prior = prior.view([-1 if axis == dim % x.ndim else 1 for axis in range(x.ndim)])
    on_cpu = prior.device.type == "cpu" and not torch.compiler.is_compiling()
    if on_cpu:
        sums = prior.sum(dim)
        if not (prior.min() >= 0 and ((sums - 1).abs() < 1e-3).all()):
            raise InputError(
                f"the prior is no distribution: its smallest entry is {prior.min().item():.3g}, "
                f"and it sums to {sums.flatten()[0].item():.4g}"
            )
    return prior

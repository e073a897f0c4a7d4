r"""What SogCLR and iSogCLR do for an anchor: the robust mean over its negatives, through a memory of earlier batches.

The objective of one anchor is the robust mean of ``dro`` over its negatives, with the anchor's own temperature:

.. math::
    \tau_i \log \mathrm{E}_{z}\, e^{h_i(z)/\tau_i} + \tau_i \rho
        = \mathrm{KL\text{-}DRO}_{\tau_i}(h_i) + \tau_i \rho, \qquad h_i(z) = \cos(i, z) - \cos(i, i^+)

A batch holds few of the negatives, so each sample carries a moving average s of the inner expectation. It is kept as
log s: the temperatures of pictures and texts go down to 0.005, where e^{h/tau} leaves the range of float32.
"""

from __future__ import annotations

import math
from types import MappingProxyType
from typing import NamedTuple

import torch
from torch import Tensor

from robustvision.core.errors import InputError
from robustvision.core.losses.batch import check_number
from robustvision.core.losses.dro import kl_dro
from robustvision.core.losses.sample_state import SampleState


class ISogCLRSetting(NamedTuple):
    """How s and the temperatures move. ``gamma`` and ``beta`` are the weights of the new value."""

    tau_init: float
    tau_min: float
    tau_max: float
    gamma: float
    rho: float
    beta: float
    eta: float
    grad_clip: float | None


ISOGCLR_PUBLISHED = MappingProxyType(
    {
        "unimodal": ISogCLRSetting(0.1, 0.05, 1.0, gamma=0.8, rho=0.4, beta=0.5, eta=0.03, grad_clip=3.0),
        "unimodal_class_default": ISogCLRSetting(0.07, 0.05, 1.0, gamma=0.8, rho=6.0, beta=0.9, eta=0.001, grad_clip=3),
        "unimodal_libauc": ISogCLRSetting(0.1, 0.05, 0.7, gamma=0.9, rho=0.3, beta=0.9, eta=0.01, grad_clip=None),
        "bimodal": ISogCLRSetting(0.01, 0.005, 1.0, gamma=0.8, rho=6.0, beta=0.9, eta=0.03, grad_clip=5.0),
        "bimodal_libauc": ISogCLRSetting(0.01, 0.005, 0.05, gamma=0.9, rho=6.0, beta=0.9, eta=0.01, grad_clip=None),
    }
)
"""The settings of the authors' examples (CIFAR-100 for one modality), of the defaults of their class, whose rho is far
too large for one modality, and of LibAUC. The evaluation text of the bimodal example has rho 8."""


class GlobalContrast(NamedTuple):
    """One step of A anchors.

    Attributes:
        value: Sum over the negatives of their weight times h, [A]; its gradient is that of the robust objective.
        log_s: The new moving average's logarithm, [A], without gradient.
        tau_gradient: The objective's derivative with respect to the temperature, [A], without gradient.
    """

    value: Tensor
    log_s: Tensor
    tau_gradient: Tensor


def global_contrast(
    h: Tensor, negatives: Tensor, tau: Tensor, log_s: Tensor, visited: Tensor, *, gamma: float = 0.8, rho: float = 0.0
) -> GlobalContrast:
    r"""Anchors against their negatives, through the moving average s.

    With g the mean of :math:`e^{h/\tau}` over the M negatives of the batch,

    .. math::
        s \leftarrow (1-\gamma) s + \gamma g, \qquad p = \mathrm{SG}(e^{h/\tau} / s), \qquad
        \text{value} = \frac{1}{M} \sum p\,h, \qquad
        \frac{\partial}{\partial\tau} = \log s + \rho - \frac{1}{M} \sum p\,\frac{h}{\tau}

    At the first visit s is g. By ``kl_dro``, p / M are its dual weights times g / s, and log g its value over tau: no
    exponential is ever taken of more than 0.

    Args:
        h: Similarities of each anchor, [A, N], in float32 at least.
        negatives: Which entries are negatives, bool [A, N], at least one a row.
        tau: Temperatures, [A], above 0.
        log_s: The moving averages before, [A].
        visited: Which anchors have one, bool [A].
        gamma: Weight of the new value, in (0, 1].
        rho: Radius of the ball of the robust mean.

    Returns:
        Value, new moving average, and the derivative.

    References:
        Qiu et al., "Not All Semantics are Created Equal: Contrastive Self-supervised Learning with Automatic
        Temperature Individualization", ICML 2023, arXiv 2305.11965.

    Example:
        >>> h, negatives = torch.tensor([[0.0, -1.0, -1.0]]), torch.tensor([[False, True, True]])
        >>> step = global_contrast(h, negatives, torch.tensor([0.5]), torch.zeros(1), torch.tensor([False]))
        >>> step.value, step.log_s, step.tau_gradient  # all negatives alike: no KL, so the derivative is rho
        (tensor([-1.]), tensor([-2.]), tensor([0.]))
    """
    tau, log_s, prior = tau.to(h.dtype), log_s.to(h.dtype), negatives.to(h.dtype)
    prior = prior / prior.sum(1, keepdim=True)
    with torch.no_grad():
        robust_mean, weights = kl_dro(h, tau, prior)
        log_g = robust_mean / tau
        kept = log_s + (math.log1p(-gamma) if gamma < 1 else -math.inf)
        log_s = torch.where(visited, torch.logaddexp(kept, log_g + math.log(gamma)), log_g)
        weights = weights * (log_g - log_s).exp()[:, None]
    value = (weights * h).sum(1)
    return GlobalContrast(value, log_s, log_s + rho - value.detach() / tau)


class AnchorState(SampleState):
    """What each anchor carries: ``log_s``, its temperature ``tau``, and ``u``, the moving average of tau's gradient.

    Args:
        num_samples: N, the size of the training set.
        setting: How the values move; with an eta of 0 the temperature is fixed.

    Raises:
        InputError: A setting out of range.
    """

    def __init__(self, num_samples: int, setting: ISogCLRSetting) -> None:
        super().__init__(num_samples, log_s=0.0, tau=setting.tau_init, u=0.0)
        check_number("tau_min", setting.tau_min, above=0)
        if not setting.tau_min <= setting.tau_init <= setting.tau_max:
            raise InputError(f"tau_init is {setting.tau_init}, but it must lie in {setting.tau_min, setting.tau_max}")
        for name in ("gamma", "beta"):
            if not 0 < getattr(setting, name) <= 1:
                raise InputError(f"{name} is {getattr(setting, name)}, but a weight of the new value is in (0, 1]")
        check_number("rho", setting.rho, least=0)
        check_number("eta", setting.eta, least=0)
        if setting.grad_clip is not None:
            check_number("grad_clip", setting.grad_clip, above=0)
        self.setting = setting

    def contrast(self, h: Tensor, negatives: Tensor, index: Tensor) -> GlobalContrast:
        """One step of the anchors at some places, [A]; nothing is stored."""
        known, setting = self.read(index), self.setting
        return global_contrast(
            h, negatives, known["tau"], known["log_s"], self.visited[index], gamma=setting.gamma, rho=setting.rho
        )

    @torch.no_grad()
    def remember(self, index: Tensor, log_s: Tensor, tau_gradient: Tensor) -> None:
        """Store the moving averages of some anchors, and move their temperatures."""
        known, setting = self.read(index), self.setting
        if setting.eta == 0:
            self.write(index, log_s=log_s, tau=known["tau"], u=known["u"])
            return
        if setting.grad_clip is not None:
            tau_gradient = tau_gradient.clamp(-setting.grad_clip, setting.grad_clip)
        u = torch.lerp(known["u"], tau_gradient.float(), setting.beta)
        tau = (known["tau"] - setting.eta * u).clamp(setting.tau_min, setting.tau_max)
        self.write(index, log_s=log_s, tau=tau, u=u)

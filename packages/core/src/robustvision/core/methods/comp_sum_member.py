"""Whether a loss is a comp-sum loss, found from its values alone, and the consistency bound that it then has."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from robustvision.core.losses import comp_sum_loss, h_consistency
from robustvision.core.methods.examined_loss import ExaminedLoss
from robustvision.core.methods.loss_behaviour import ROUNDING, Weights, two_level

EXCESSES = (0.01, 0.1, 1.0)
"""Excess losses for which the bound is stated."""


@dataclass(frozen=True)
class Consistency:
    """The comp-sum loss that a loss is: L = offset + factor Phi_tau(1/p_y - 1).

    Attributes:
        tau: Which one.
        factor: Above 0.
        offset: It does not matter for the excess.
        bounds: Excess of L -> bound of the excess zero-one error.
    """

    tau: float
    factor: float
    offset: float
    bounds: dict[str, float]


def measure_consistency(loss: ExaminedLoss, weights: Weights, scores: list[Tensor]) -> Consistency | None:
    """Whether this is a comp-sum loss, up to factor and offset, and the bound that it then has; None if it is not.

    The weight of a comp-sum loss is factor p_y^(tau - 1), which gives tau; then the values must agree, too.
    """
    w, p = (torch.tensor(values, dtype=torch.float64) for values in (weights.weight, weights.p))
    w, p = w[p < 0.5], p[p < 0.5]  # where 1 - p_y, by which the weight was divided, has all its digits
    if len(p) < 3 or not (w > 0).all():
        return None
    design = torch.stack([torch.ones_like(p), p.log()], dim=1)
    log_factor, power = torch.linalg.lstsq(design, w.log()[:, None]).solution.flatten()
    tau, factor = max(0.0, 1.0 + power.item()), log_factor.exp().item()
    nearest_tau = round(tau, 4)
    tau = nearest_tau if abs(tau - nearest_tau) < ROUNDING else tau
    if (w / (factor * p ** (tau - 1)) - 1).abs().max() > ROUNDING:
        return None
    f = torch.cat([two_level(p, loss.num_classes), *scores[:3]])
    target = torch.arange(len(f)) % loss.num_classes
    member = factor * comp_sum_loss(f, target, tau, reduction="none")
    offsets = loss.values(f, target).detach() - member
    offset = offsets.mean().item()
    allowed = ROUNDING * torch.maximum(member.abs(), member.new_tensor(factor))
    if ((offsets - offset).abs() > allowed).any():
        return None
    bounds = {
        f"{excess:g}": h_consistency(excess / factor, tau, loss.num_classes).item()
        for excess in (() if loss.over_cosines else EXCESSES)  # proven for scores without limits
    }
    return Consistency(tau=tau, factor=factor, offset=0.0 if abs(offset) < ROUNDING * factor else offset, bounds=bounds)

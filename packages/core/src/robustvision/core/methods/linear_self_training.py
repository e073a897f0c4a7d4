r"""RSS for linear classifiers: robust losses in closed form, and the fit of two Gaussians' boundary.

The robust loss is the worst loss within reach, :math:`\phi_g(x, y) = \sup_z \ell(z, y) - g\,c(z, x)`; a linear
classifier changes along w only, so that it is known exactly. Everything here takes any number of leading dimensions,
such as one of seeds. For other models see ``self_training``.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import normalize

from robustvision.core.errors import InputError
from robustvision.core.methods.self_training import check_price, check_weight

Cost = Literal["distance", "squared"]
"""The price of moving from x to z over g: ``||z - x||``, or its square."""

SHORTEST = 1e-12
"""Weights up to this length make no decision: nothing that moves a sample changes its loss."""


def ramp_loss(margins: Tensor, gamma: float = 1.0) -> Tensor:
    r"""The ramp loss :math:`r(u) = \min(1, \max(0, 1 - \gamma u))`: a hinge that is cut off at 1.

    Args:
        margins: u, such as y w.x; any shape.
        gamma: Slope.

    Returns:
        The losses, of the same shape.

    Example:
        >>> ramp_loss(torch.tensor([-3.0, 0.25, 2.0]))
        tensor([1.0000, 0.7500, 0.0000])
    """
    return (1.0 - gamma * margins).clamp(0.0, 1.0)


def robust_ramp_loss(
    x: Tensor, y: Tensor, w: Tensor, g: float, gamma: float = 1.0, *, cost: Cost = "distance"
) -> Tensor:
    r"""The robust loss of a linear classifier under the ramp loss, in closed form.

    With :math:`u = y\,w^\top x`: a sample on the right side either stays, or moves to where the loss is worth the way.
    For the cost :math:`\|z - x\|` that is the boundary,

    .. math::
        \phi = \max\Big(r(u),\ 1 - g\,\frac{\max(0, u)}{\|w\|}\Big)

    and for :math:`\|z - x\|^2` it is :math:`u^* = \mathrm{clip}(u - \gamma\|w\|^2 / 2g,\ 0,\ 1/\gamma)`,

    .. math::
        \phi = \max\Big(r(u),\ 1 - \gamma u^* - g\,\frac{(u - u^*)^2}{\|w\|^2}\Big)\quad (u > 0)

    Both are derived here; the paper gives the definition. Half precision is computed in float32.

    Args:
        x: Samples, [..., B, d].
        y: Their classes, -1 or 1, [..., B].
        w: Weights, [..., d].
        g: Price of moving, above 0; infinite for the plain ramp loss.
        gamma: Slope of the ramp, above 0.
        cost: "distance" or "squared".

    Returns:
        The losses, [..., B], in [0, 1].

    Raises:
        InputError: Shapes that do not fit, classes that are not -1 or 1, or a price or slope that is not positive.

    References:
        Saberi et al., "Out-Of-Domain Unlabeled Data Improves Generalization", ICLR 2024, arXiv 2310.00027.

    Example:
        >>> x, y, w = torch.tensor([[2.0, 0.0]]), torch.tensor([1.0]), torch.tensor([1.0, 0.0])
        >>> robust_ramp_loss(x, y, w, g=0.25), robust_ramp_loss(x, y, w, g=math.inf)
        (tensor([0.5000]), tensor([0.]))
    """
    _check(g, gamma, cost)
    _check_classes(y)
    scores, norm = _scores_and_norm(x, w)
    _check_fit(y, scores)
    return _robust_ramp(y * scores, norm, g, gamma, cost)


def robust_hinge_loss(
    x: Tensor, y: Tensor, w: Tensor, g: float, gamma: float = 1.0, *, cost: Cost = "distance"
) -> Tensor:
    r"""The robust loss of a linear classifier under the hinge :math:`\max(0, 1 - \gamma u)`, which has no upper bound.

    For the cost :math:`\|z - x\|` moving pays without end as soon as :math:`g < \gamma\|w\|`, and the robust loss is
    infinite. Above, it never pays, and the robust loss is the hinge itself. For :math:`\|z - x\|^2` it is
    :math:`\max(0, 1 - \gamma u + \gamma^2\|w\|^2 / 4g)`.

    Args:
        x: Samples, [..., B, d].
        y: Their classes, -1 or 1, [..., B].
        w: Weights, [..., d].
        g: Price of moving, above 0.
        gamma: Slope of the hinge, above 0.
        cost: "distance" or "squared".

    Returns:
        The losses, [..., B].

    Raises:
        InputError: As for :func:`robust_ramp_loss`; or g < gamma ||w|| for the cost "distance". That is read on a CPU
            only; on an accelerator such losses are infinite.

    Example:
        >>> x, y, w = torch.tensor([[0.5, 0.0]]), torch.tensor([1.0]), torch.tensor([1.0, 0.0])
        >>> robust_hinge_loss(x, y, w, g=1.0), robust_hinge_loss(x, y, w, g=1.0, cost="squared")
        (tensor([0.5000]), tensor([0.7500]))
    """
    _check(g, gamma, cost)
    _check_classes(y)
    scores, norm = _scores_and_norm(x, w)
    _check_fit(y, scores)
    u = y * scores
    if cost == "squared":
        return (1.0 - gamma * u + (gamma * norm).square() / (4.0 * g)).clamp_min(0.0)
    endless = g < gamma * norm
    if u.device.type == "cpu" and not torch.compiler.is_compiling() and endless.any():
        raise InputError(
            f"g is {g} and gamma ||w|| reaches {float(gamma * norm.max()):.4g}: the robust hinge loss is infinite. "
            "Raise g, bound ||w||, or take the ramp loss"
        )
    return (1.0 - gamma * u).clamp_min(0.0).masked_fill(endless, math.inf)


@torch.enable_grad()
def fit_linear_rss(
    x: Tensor,
    y: Tensor,
    x_out: Tensor | None = None,
    *,
    g: float = math.inf,
    g_out: float = 0.5,
    weight: float = 5.0,
    gamma: float = 1.0,
    unit_norm: bool = True,
    steps: int = 200,
    learning_rate: float = 0.01,
) -> Tensor:
    r"""Fit :math:`\mathrm{sign}(w^\top x)` by RSS with the ramp loss and the cost :math:`\|z - x\|`.

    Starts at the mean of y x and takes steps of Adam over all samples. With an infinite ``g_out`` the unlabelled
    samples have the plain ramp loss; then the length of w must be held, or the loss falls by nothing but its growth.

    Args:
        x: Labelled samples, [..., m, d]; leading dimensions are independent problems, solved together.
        y: Their classes, -1 or 1, [..., m].
        x_out: Unlabelled samples, [..., n, d]; None to learn from the labelled ones alone.
        g: Price of moving for labelled samples; infinite for the plain loss.
        g_out: Price of moving for unlabelled samples.
        weight: Lambda, the weight of the unlabelled samples.
        gamma: Slope of the ramp.
        unit_norm: Whether w is brought back to length 1 after each step.
        steps: Steps of Adam.
        learning_rate: Its learning rate.

    Returns:
        w, [..., d], without gradient.

    Raises:
        InputError: Shapes, classes or prices that do not fit, or no samples.

    References:
        Saberi et al., arXiv 2310.00027, section on two Gaussians. How it was optimised is not said there; start, steps
        and learning rate are choices made here (RECONSTRUCTED).

    Example:
        >>> x = torch.tensor([[2.0, 0.3], [-1.0, 0.2]])
        >>> fit_linear_rss(x, torch.tensor([1.0, -1.0])).norm()
        tensor(1.)
    """
    check_weight(weight)
    _check(g_out, gamma)
    if x.shape[-2] == 0 or (x_out is not None and x_out.shape[-2] == 0):
        raise InputError("there are no samples to learn from: where nothing is unlabelled, leave x_out out")
    w = normalize((y[..., None] * x).mean(-2), dim=-1).requires_grad_()
    optimiser = torch.optim.Adam([w], lr=learning_rate)
    for _ in range(steps):
        objective = robust_ramp_loss(x, y, w, g, gamma).mean(-1)
        if x_out is not None:
            scores, norm = _scores_and_norm(x_out, w)
            # y' = sign(w.x') without a gradient: y' w.x' is |w.x'|, and has its gradient
            objective = objective + weight * _robust_ramp(scores.abs(), norm, g_out, gamma).mean(-1)
        optimiser.zero_grad()
        objective.sum().backward()
        optimiser.step()
        if unit_norm:
            with torch.no_grad():
                w.copy_(normalize(w, dim=-1))
    return w.detach()


def _robust_ramp(u: Tensor, norm: Tensor, g: float, gamma: float, cost: Cost = "distance") -> Tensor:
    """The closed form from margins [..., B] and the length of w, [..., 1]."""
    plain = ramp_loss(u, gamma)
    if math.isinf(g):
        return plain
    norm = norm.masked_fill(norm <= SHORTEST, torch.inf)
    if cost == "distance":
        return torch.maximum(plain, 1.0 - g * u.clamp_min(0.0) / norm)
    target = (u - gamma * norm.square() / (2.0 * g)).clamp(0.0, 1.0 / gamma)
    moved = 1.0 - gamma * target - g * ((u - target) / norm).square()
    return torch.where(u > 0.0, torch.maximum(plain, moved), plain)


def _scores_and_norm(x: Tensor, w: Tensor) -> tuple[Tensor, Tensor]:
    """w.x, [..., B], and the length of w, [..., 1]."""
    if x.ndim < 2 or x.shape[:-2] + x.shape[-1:] != w.shape:
        raise InputError(f"x is {list(x.shape)} and w {list(w.shape)}, but [..., B, d] and [..., d] are expected")
    dtype = torch.promote_types(torch.promote_types(x.dtype, w.dtype), torch.float32)
    w = w.to(dtype)
    scores = (w[..., None, :] @ x.to(dtype).mT).squeeze(-2)  # a row from the left: a column takes 2.6 times as long
    return scores, torch.linalg.vector_norm(w, dim=-1)[..., None]


def _check_fit(y: Tensor, scores: Tensor) -> None:
    if y.shape != scores.shape:
        raise InputError(f"y is {list(y.shape)}, but one class for each of {list(scores.shape)} samples is expected")


def _check_classes(y: Tensor) -> None:
    if y.device.type == "cpu" and not torch.compiler.is_compiling() and not (y.abs() == 1).all():
        raise InputError("y holds other values than -1 and 1: map the two classes to them, such as by 2 * labels - 1")


def _check(g: float, gamma: float, cost: str = "distance") -> None:
    check_price(g)
    if not gamma > 0:
        raise InputError(f"gamma is {gamma}, but a loss falls with the margin by a positive slope")
    if cost not in ("distance", "squared"):
        raise InputError(f"cost is {cost!r}, but it must be 'distance' or 'squared'")

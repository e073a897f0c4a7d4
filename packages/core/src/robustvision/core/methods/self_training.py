r"""RSS: learning from unlabelled samples of a nearby distribution, by robust losses and pseudo-labels.

The robust loss of a sample is the worst loss within reach, where moving away from the sample has its price :math:`g`:

.. math::
    \phi_g(x, y) = \sup_z\ \ell(z, y) - g\, c(z, x)

Here it is found by ascent, for any model and differentiable loss; ``linear_self_training`` has it in closed form. The
estimator adds to the robust losses of labelled samples those of unlabelled ones, under the labels that the model itself
gives them.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from robustvision.core.errors import InputError


def robust_loss(loss: Callable[[Tensor], Tensor], x: Tensor, g: float, *, steps: int = 10) -> Tensor:
    r"""The robust loss of any differentiable loss and model, for the cost :math:`\|z - x\|^2`, by ascent.

    The steps :math:`z \leftarrow x + \nabla\ell(z) / 2g` converge where :math:`2g` exceeds the Lipschitz constant of
    the gradient. The best point of the way counts, x included: the result is never below the plain loss, and never
    above the supremum. Where the gradient at x is 0 (beyond the end of a ramp, say) nothing moves, even if moving would
    pay. No gradient runs through the search (Danskin's theorem); that of the result runs into the parameters and x.

    Args:
        loss: Inputs [B, ...] to one loss a sample, [B]. Samples must not mix: a model with batch normalisation belongs
            into its eval mode.
        x: Inputs, [B, ...], floating point.
        g: Price of moving, above 0; infinite for the plain loss.
        steps: Steps of the ascent, each a forward and backward pass; at least 1.

    Returns:
        The losses, [B].

    Raises:
        InputError: A price that is not positive, no steps, or a loss that does not return one value a sample.

    References:
        Saberi et al., arXiv 2310.00027; the steps are those of Sinha et al., "Certifying Some Distributional Robustness
        with Principled Adversarial Training", ICLR 2018, arXiv 1710.10571.

    Example:
        >>> x = torch.tensor([[0.0, 1.0], [3.0, 0.0]])
        >>> robust_loss(lambda z: -z.square().sum(1), x, g=2.0)  # from x to 2/3 x: -4/9 - 2/9 of the square
        tensor([-0.6667, -6.0000])
    """
    check_price(g)
    if steps < 1:
        raise InputError(f"steps is {steps}, but an ascent has at least 1")
    if math.isinf(g):
        return _one_each(loss(x), x)
    z = _worst_points(loss, x.detach(), g, steps)
    return _one_each(loss(z), x) - g * (z - x).flatten(1).square().sum(1)


def rss_objective(
    model: Callable[[Tensor], Tensor],
    loss: Callable[[Tensor, Tensor], Tensor],
    x: Tensor,
    labels: Tensor,
    x_out: Tensor,
    *,
    g: float = math.inf,
    g_out: float = 1.0,
    weight: float = 1.0,
    steps: int = 10,
) -> Tensor:
    r"""What RSS minimises, for any classifier:

    .. math::
        \frac1m\sum_i \phi_g(x_i, y_i) + \frac{\lambda}{n}\sum_j \phi_{g'}\big(x'_j, h(x'_j)\big)

    The label :math:`h(x')` is the model's own decision, with no gradient through it.

    Args:
        model: Inputs to logits [B, C]; in its eval mode where it has batch normalisation or dropout.
        loss: Logits and labels to one loss a sample, [B]; bounded, so that no single sample can outweigh all others.
        x: Labelled inputs, [m, ...].
        labels: Class indices, [m].
        x_out: Unlabelled inputs, [n, ...], possibly from another distribution.
        g: Price of moving for labelled inputs; infinite for the plain loss.
        g_out: Price of moving for unlabelled inputs, g'.
        weight: Lambda.
        steps: Steps of the ascent.

    Returns:
        A scalar.

    Raises:
        InputError: As for :func:`robust_loss`; or a negative weight, or no inputs.

    References:
        Saberi et al., arXiv 2310.00027.

    Example:
        >>> model = torch.nn.Linear(2, 2)
        >>> one_minus_p = lambda logits, labels: 1 - logits.softmax(1).gather(1, labels[:, None]).squeeze(1)
        >>> x, x_out = torch.randn(4, 2), torch.randn(9, 2)
        >>> objective = rss_objective(model, one_minus_p, x, torch.tensor([0, 1, 1, 0]), x_out)
        >>> objective.backward()
    """
    check_weight(weight)
    if not (len(x) and len(x_out)):
        raise InputError(f"{len(x)} labelled and {len(x_out)} unlabelled inputs: expected at least one of each")
    with torch.no_grad():
        decided = model(x_out).argmax(1)
    labelled = robust_loss(lambda z: loss(model(z), labels), x, g, steps=steps)
    unlabelled = robust_loss(lambda z: loss(model(z), decided), x_out, g_out, steps=steps)
    return labelled.mean() + weight * unlabelled.mean()


def check_price(g: float) -> None:
    """Refuse a price of moving that is not positive.

    Raises:
        InputError: Such a price.
    """
    if not g > 0:
        raise InputError(f"g is {g}, but moving has a positive price: give one, or infinity for the plain loss")


def check_weight(weight: float) -> None:
    """Refuse a weight of the unlabelled samples below 0.

    Raises:
        InputError: Such a weight.
    """
    if not weight >= 0:
        raise InputError(f"weight is {weight}, but unlabelled samples weigh 0 or more")


def _worst_points(loss: Callable[[Tensor], Tensor], x: Tensor, g: float, steps: int) -> Tensor:
    """The best z of the ascent for every sample; one that is not finite never is."""
    z, best = x, x
    highest = x.new_full((len(x),), -math.inf)
    with torch.enable_grad():
        for step in range(steps + 1):
            z = z.requires_grad_()
            losses = _one_each(loss(z), x)
            with torch.no_grad():
                value = losses - g * (z - x).flatten(1).square().sum(1)
                better = value > highest
                highest = torch.where(better, value, highest)
                best = torch.where(better.view(-1, *[1] * (x.ndim - 1)), z, best)
            if step < steps:
                (slope,) = torch.autograd.grad(losses.sum(), z)
                z = x + slope / (2.0 * g)
    return best.detach()


def _one_each(losses: Tensor, x: Tensor) -> Tensor:
    if losses.shape != (len(x),):
        raise InputError(
            f"the loss returned {list(losses.shape)} for {len(x)} samples: it must return one value each, as with "
            "reduction='none'"
        )
    return losses

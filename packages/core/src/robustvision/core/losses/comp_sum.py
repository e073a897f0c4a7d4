"""Comp-sum losses: one family from the sum-exponential loss over cross-entropy and GCE to MAE, and its guarantees.

``comp_sum_loss`` is the family, ``h_consistency`` the bound that ties its excess error to the zero-one loss, and
``smooth_adversarial_comp_sum_loss`` the variant that is trained against perturbed inputs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from robustvision.core.errors import InputError
from robustvision.core.losses.batch import ClassificationLoss, check_batch, check_number, expm1
from robustvision.core.losses.labels import IGNORED

NEAR_ONE = 1e-6
"""Nearer to tau = 1 the cross-entropy is exact to the last digit, and the formula is 0/0."""

SMALLEST_SQUARE = 1e-12
"""Under the root of the distance between two margins, whose gradient is 0/0 where they are equal."""


def comp_sum_loss(
    logits: Tensor,
    target: Tensor,
    tau: float = 1.0,
    *,
    max_exponent: float | None = None,
    weight: Tensor | None = None,
    ignore_index: int = IGNORED,
    reduction: str = "mean",
) -> Tensor:
    r"""The comp-sum loss :math:`\Phi_\tau(1/p_y - 1)` with :math:`\Phi_\tau(u) = ((1+u)^{1-\tau} - 1)/(1-\tau)`.

    tau = 0 is the sum-exponential loss 1/p_y - 1, 1 the cross-entropy, 1 < tau < 2 GCE with q = tau - 1, 2 is MAE
    (1 - p_y). A sample's weight on the cross-entropy gradient is :math:`p_y^{\tau-1}`: below 1 the loss explodes on
    mislabelled samples, above 1 it lets go of them.

    Args:
        logits: Class scores, [B, C].
        target: Class indices, integer [B]; or distributions over the classes, floating point [B, C], for which it is
            the expected loss.
        tau: Which loss of the family, at least 0.
        max_exponent: Where :math:`-(1-\tau)\log p_y` is cut off, so that one sample cannot blow up a batch at tau < 1;
            beyond it a sample has no gradient; above 0. None leaves only the guard against overflow (80 in float32).
        weight: One weight a sample, [B].
        ignore_index: The label of a sample that does not count.
        reduction: "mean" over the samples that count, "sum", or "none".

    Returns:
        The loss: a scalar, or [B] for "none".

    Raises:
        InputError: Wrong shapes, dtypes, labels or settings.

    References:
        Mao, Mohri, Zhong, "Cross-Entropy Loss Functions: Theoretical Analysis and Applications", ICML 2023,
        arXiv 2304.07288.

    Example:
        >>> f, y = torch.tensor([[2.0, 1.0, 0.0]]), torch.tensor([1])
        >>> [round(comp_sum_loss(f, y, tau).item(), 4) for tau in (0.0, 1.0, 1.7, 2.0)]
        [3.0862, 1.4076, 0.8953, 0.7553]
    """
    _check_settings(tau, max_exponent)
    batch = check_batch(logits, target, weight=weight, ignore_index=ignore_index, reduction=reduction, soft=True)
    return batch.reduce(batch.expect(lambda log_p: _phi(-log_p, tau, max_exponent)))


class CompSumLoss(ClassificationLoss):
    """The comp-sum loss as a module: see :func:`comp_sum_loss`.

    Example:
        >>> CompSumLoss(tau=2.0)(torch.tensor([[2.0, 1.0, 0.0]]), torch.tensor([1]))
        tensor(0.7553)
    """

    function = staticmethod(comp_sum_loss)

    def __init__(
        self,
        tau: float = 1.0,
        *,
        max_exponent: float | None = None,
        ignore_index: int = IGNORED,
        reduction: str = "mean",
    ) -> None:
        _check_settings(tau, max_exponent)
        super().__init__(ignore_index=ignore_index, reduction=reduction, tau=tau, max_exponent=max_exponent)


def h_consistency(excess: float | Sequence[float] | Tensor, tau: float, num_classes: int) -> Tensor:
    r"""The most that the zero-one error can exceed its best, given what the comp-sum loss exceeds its own.

    For every hypothesis h, :math:`R_{01}(h) - R_{01}^* + M_{01} \le \Gamma_\tau(R_\tau(h) - R_\tau^* + M_\tau)`, where
    M are the minimizability gaps. Gamma inverts the transform T of :func:`h_consistency_transform`, here by bisection.

    Args:
        excess: The excess of the comp-sum loss (with its gap), at least 0; a number or any shape.
        tau: Which loss of the family, at least 0.
        num_classes: C, at least 2; it matters for tau > 1 only.

    Returns:
        The bound, in [0, 1], float64 of the shape of ``excess``.

    Raises:
        InputError: Values out of range.

    References:
        Mao, Mohri, Zhong, arXiv 2304.07288. That T is the exact transform was checked by brute force for tau in [0, 1]
        and for two classes; for tau in (1, 2) and more classes it is a lower bound, so the result is an upper one.

    Example:
        >>> h_consistency([0.0, 0.01, 0.1, 10.0], tau=1.0, num_classes=10).numpy().round(3)
        array([0.   , 0.141, 0.44 , 1.   ])
    """
    excess = torch.as_tensor(excess, dtype=torch.float64)
    if not (excess >= 0).all():
        raise InputError(f"the excess loss holds {excess.min().item():g}, but it cannot be below 0")
    low, high = torch.zeros_like(excess), torch.ones_like(excess)
    for _ in range(60):
        middle = 0.5 * (low + high)
        below = h_consistency_transform(middle, tau, num_classes) < excess
        low, high = torch.where(below, middle, low), torch.where(below, high, middle)
    # Exact at both ends, where bisection only comes near.
    reached = h_consistency_transform(torch.ones_like(excess), tau, num_classes) <= excess
    return high.masked_fill(reached, 1.0).masked_fill(excess == 0, 0.0)


def h_consistency_transform(t: float | Sequence[float] | Tensor, tau: float, num_classes: int) -> Tensor:
    """The least excess of the comp-sum loss at an excess t of the zero-one error: T of :func:`h_consistency`.

    Args:
        t: Excess of the zero-one error, in [0, 1]; a number or any shape.
        tau: Which loss of the family, at least 0.
        num_classes: C, at least 2.

    Returns:
        T(t), float64 of the shape of ``t``.

    Raises:
        InputError: Values out of range.

    Example:
        >>> h_consistency_transform(0.4, tau=1.0, num_classes=10)
        tensor(0.0823, dtype=torch.float64)
    """
    check_number("tau", tau, least=0.0)
    check_number("num_classes", num_classes, least=2)
    t = torch.as_tensor(t, dtype=torch.float64)
    if not ((t >= 0) & (t <= 1)).all():
        raise InputError("t is an excess of the zero-one error: it must lie in [0, 1]")
    if abs(tau - 1.0) < NEAR_ONE:
        return 0.5 * (torch.xlogy(1 + t, 1 + t) + torch.xlogy(1 - t, 1 - t))
    scale = (tau - 1.0) * math.pow(num_classes, tau - 1.0)
    if tau >= 2.0:
        return t / scale
    power = 1.0 / (2.0 - tau)  # without bound near tau = 2, so the larger of the two stands before the bracket
    rise = (1 + t) * torch.pow(0.5 * (1.0 + torch.pow((1 - t) / (1 + t), power)), 2.0 - tau) - 1.0
    return -rise * math.pow(2.0, 1.0 - tau) / (1.0 - tau) if tau < 1.0 else rise / scale


def smooth_adversarial_comp_sum_loss(
    model: Callable[[Tensor], Tensor],
    images: Tensor,
    target: Tensor,
    attack: Callable[[Callable[[Tensor], Tensor], Tensor], Tensor],
    tau: float = 1.0,
    rho: float = 1.0,
    nu: float = 1.0,
    *,
    weight: Tensor | None = None,
    ignore_index: int = IGNORED,
    reduction: str = "mean",
) -> Tensor:
    r"""The smooth adversarial comp-sum loss: that of the clean input, plus how far an attack moves the margins.

    .. math::
        \Phi_\tau\Big(\sum_{k\ne y} e^{-(f_y - f_k)/\rho}\Big) + \nu \sup_{\|x'-x\|\le\gamma} \|D(x') - D(x)\|_2,
        \qquad D = (f_y - f_k)_{k \ne y}

    Reconstructed from the paper's statement; there is no official code to check against. The inner maximisation is on
    the second term alone, and is left to ``attack``, which must start from noise: at x' = x the distance is 0, and its
    gradient says nothing.

    Args:
        model: Maps inputs [B, ...] to class scores [B, C]; an ``nn.Module`` attacks itself in evaluation mode.
        images: The clean inputs, [B, ...].
        target: Class indices, integer [B].
        attack: ``attack(objective, images)`` returns inputs near ``images`` that make ``objective(inputs)`` [B] large.
        tau: Which loss of the family.
        rho: The margin's scale, above 0.
        nu: Weight of the second term, at least 0; the theory asks for about sqrt(C - 1) / rho, practice tunes it.
        weight: One weight a sample, [B].
        ignore_index: The label of a sample that does not count.
        reduction: "mean" over the samples that count, "sum", or "none".

    Returns:
        The loss: a scalar, or [B] for "none". At nu = 0 the attack is not run.

    Raises:
        InputError: Wrong shapes, dtypes, labels or settings, or an attack that returns another shape.

    References:
        Mao, Mohri, Zhong, arXiv 2304.07288.

    Example:
        >>> model, x = torch.nn.Flatten(), torch.tensor([[2.0, 1.0, 0.0]])
        >>> worse = lambda objective, x: x + 0.1 * torch.tensor([1.0, -1.0, 1.0])
        >>> smooth_adversarial_comp_sum_loss(model, x, torch.tensor([1]), worse)  # 1.4076 + |(0.2, 0.2)|
        tensor(1.6904)
    """
    check_number("rho", rho, above=0.0)
    check_number("nu", nu, least=0.0)
    check_number("tau", tau, least=0.0)
    clean = model(images)
    batch = check_batch(clean, target, weight=weight, ignore_index=ignore_index, reduction=reduction)
    losses = batch._replace(logits=batch.logits / rho).expect(lambda log_p: _phi(-log_p, tau, None))
    if nu == 0:
        return batch.reduce(losses)

    def moved(logits: Tensor, reference: Tensor) -> Tensor:
        """The distance between the margins, [B]; the own class adds (f_y - f_y) = 0."""
        change = logits.to(reference.dtype) - reference
        change = change - batch.own(change)[:, None]
        return (change.square().sum(1) + SMALLEST_SQUARE).sqrt()

    reference = batch.logits.detach()
    with _evaluating(model):
        worst = attack(lambda inputs: moved(model(inputs), reference), images)
    if worst.shape != images.shape:
        raise InputError(f"the attack returned {list(worst.shape)}, but {list(images.shape)} is expected")
    return batch.reduce(losses + nu * moved(model(worst.detach()), batch.logits))


@contextmanager
def _evaluating(model: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """Put a module into evaluation mode, and every part of it back."""
    modes = [(part, part.training) for part in model.modules()] if isinstance(model, nn.Module) else []
    for part, _ in modes:
        part.training = False
    try:
        yield
    finally:
        for part, training in modes:
            part.training = training


def _check_settings(tau: float, max_exponent: float | None) -> None:
    check_number("tau", tau, least=0.0)
    if max_exponent is not None:
        check_number("max_exponent", max_exponent, above=0.0)


def _phi(s: Tensor, tau: float, max_exponent: float | None) -> Tensor:
    """The loss as a function of s = -log p_y: (exp((1 - tau) s) - 1) / (1 - tau)."""
    if abs(tau - 1.0) < NEAR_ONE:
        return s
    exponent = (1.0 - tau) * s
    if tau > 1.0:
        return expm1(exponent) / (1.0 - tau)
    largest = math.log(torch.finfo(s.dtype).max) - 8.0  # room for the sum over a batch
    return exponent.clamp_max(min(largest, max_exponent or largest)).expm1() / (1.0 - tau)

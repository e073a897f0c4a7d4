"""What one network learns from the outputs of another: distillation and mutual learning.

Logits [B, K, ...] are of K exclusive classes; [B, 1, ...] or [B] are of one class against the rest.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import log_softmax, logsigmoid

from robustvision.core.errors import InputError


def output_divergence(
    target_logits: Tensor, logits: Tensor, *, temperature: float = 1.0, valid: Tensor | None = None
) -> Tensor:
    r"""Kullback-Leibler divergence :math:`KL(P \| Q)` of predicted distributions, mean over samples and pixels.

    :math:`P = softmax(z_t / T)` and :math:`Q = softmax(z / T)`; with one logit, the Bernoulli distributions of
    :math:`sigmoid(z_t / T)` and :math:`sigmoid(z / T)`.

    Args:
        target_logits: [B, K, ...], [B, 1, ...] or [B]; they get no gradient.
        logits: Likewise.
        temperature: T, above 0.
        valid: Nonzero where outputs count, [B, ...] or [B, 1, ...]; without any, the result is 0.

    Returns:
        A float32 or float64 scalar, at least 0.

    Raises:
        InputError: The shapes differ, or ``temperature`` is not above 0.

    References:
        Hinton, Vinyals and Dean, Distilling the Knowledge in a Neural Network, 2015 (arXiv 1503.02531).

    Examples:
        >>> teacher, student = torch.tensor([[2.0], [0.0]]), torch.tensor([[0.0], [0.0]])
        >>> round(output_divergence(teacher, student).item(), 4)
        0.1639
        >>> output_divergence(teacher, student, valid=torch.tensor([0, 1])).item()
        0.0
    """
    if target_logits.shape != logits.shape:
        raise InputError(f"logits {tuple(logits.shape)} beside {tuple(target_logits.shape)}: expected equal shapes")
    if not temperature > 0:
        raise InputError(f"temperature is {temperature}: expected above 0")
    wide = torch.promote_types(logits.dtype, torch.float32)
    target, own = (one.to(wide) / temperature for one in (target_logits.detach(), logits))
    if own.ndim < 2 or own.shape[1] == 1:
        rest = torch.sigmoid(-target) * (logsigmoid(-target) - logsigmoid(-own))
        each = torch.sigmoid(target) * (logsigmoid(target) - logsigmoid(own)) + rest
    else:
        log_p, log_q = log_softmax(target, 1), log_softmax(own, 1)
        each = (log_p.exp() * (log_p - log_q)).sum(1)
    if valid is None:
        return each.mean()
    counts = (valid != 0).reshape(each.shape).to(wide)
    return (each * counts).sum() / counts.sum().clamp_min(1)


def distillation_loss(
    logits: Tensor,
    teacher_logits: Tensor,
    target_loss: Tensor,
    *,
    alpha: float = 0.5,
    temperature: float = 2.0,
    valid: Tensor | None = None,
) -> Tensor:
    r"""Knowledge distillation: :math:`(1 - a) L + a T^2 KL(P_{teacher} \| P_{student})`, both softened by T.

    The factor :math:`T^2` keeps the gradient's size about the same for every T.

    Args:
        logits: The student's, [B, K, ...], [B, 1, ...] or [B].
        teacher_logits: Likewise; they get no gradient.
        target_loss: L, the student's loss on the labels.
        alpha: a, the teacher's part, 0..1 [R: the paper does not give it].
        temperature: T, above 0 [R: likewise].
        valid: Nonzero where outputs count, [B, ...] or [B, 1, ...].

    Returns:
        A scalar. With ``alpha=0`` its value and gradient are those of ``target_loss``.

    Raises:
        InputError: The shapes differ, or a setting is out of range.

    References:
        Hinton, Vinyals and Dean, Distilling the Knowledge in a Neural Network, 2015 (arXiv 1503.02531).

    Examples:
        >>> logits = torch.tensor([[1.0, 0.0, -1.0]])
        >>> distillation_loss(logits, logits, torch.tensor(0.8), alpha=0.25).item()
        0.6000000238418579
    """
    if not 0 <= alpha <= 1:
        raise InputError(f"alpha is {alpha}: expected 0 to 1")
    divergence = output_divergence(teacher_logits, logits, temperature=temperature, valid=valid)
    return (1 - alpha) * target_loss + alpha * temperature**2 * divergence

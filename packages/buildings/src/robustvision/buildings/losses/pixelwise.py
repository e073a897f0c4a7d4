"""Losses that are means over pixels: binary cross-entropy and focal loss."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .form import mean_over, prepare


def bce_loss(logits: Tensor, target: Tensor, *, valid: Tensor | None = None, smoothing: float = 0.0) -> Tensor:
    """Binary cross-entropy.

        Args:
            logits: [B, 1, H, W].
            target: Likewise, 0..1.
            valid: Likewise, 1 where a pixel counts; None for all.
            smoothing: f in ``y' = (1 - y) f + y (1 - f)``.

        Returns:
            A scalar, the mean over pixels.

        Raises:
            InputError: The shapes differ.

        Example:
            >>> import torch
    import torch.nn.functional as F
            >>> round(float(bce_loss(torch.zeros(1, 1, 2, 2), torch.ones(1, 1, 2, 2))), 4)
            0.6931
    """
    logits, target, valid = prepare(logits, target, valid)
    if smoothing:
        target = (1 - target) * smoothing + target * (1 - smoothing)
    return mean_over(F.binary_cross_entropy_with_logits(logits, target, reduction="none"), valid)


def focal_loss(
    logits: Tensor,
    target: Tensor,
    *,
    valid: Tensor | None = None,
    gamma: float = 2.0,
    alpha: float | None = None,
) -> Tensor:
    """Focal loss, ``(1 - pt)^gamma BCE`` with ``pt = exp(-BCE)``.

        Args:
            logits: [B, 1, H, W].
            target: Likewise, 0..1.
            valid: Likewise, 1 where a pixel counts; None for all.
            gamma: How much easy pixels count less; 0 is cross-entropy.
            alpha: Weight ``alpha y + (1 - alpha)(1 - y)``; None for 1.

        Returns:
            A scalar, the mean over pixels.

        Raises:
            InputError: The shapes differ.

        References:
            T.-Y. Lin et al., "Focal Loss for Dense Object Detection", arXiv 1708.02002.

        Example:
            >>> import torch
    import torch.nn.functional as F
            >>> round(float(focal_loss(torch.zeros(1, 1, 2, 2), torch.ones(1, 1, 2, 2))), 4)  # log(2) / 4
            0.1733
    """
    logits, target, valid = prepare(logits, target, valid)
    bce = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    values = bce if gamma == 0 else (-torch.expm1(-bce)) ** gamma * bce
    if alpha is not None:
        values = values * (alpha * target + (1 - alpha) * (1 - target))
    return mean_over(values, valid)


class BCELoss(nn.Module):
    """`bce_loss` as a module.

    Args:
        smoothing: f.
    """

    def __init__(self, smoothing: float = 0.0) -> None:
        super().__init__()
        self.smoothing = smoothing

    def forward(self, logits: Tensor, target: Tensor, valid: Tensor | None = None) -> Tensor:
        """Return the loss, a scalar."""
        return bce_loss(logits, target, valid=valid, smoothing=self.smoothing)


class FocalLoss(nn.Module):
    """`focal_loss` as a module.

    Args:
        gamma: How much easy pixels count less.
        alpha: Weight of buildings; None for equal weights.
    """

    def __init__(self, gamma: float = 2.0, alpha: float | None = None) -> None:
        super().__init__()
        self.gamma, self.alpha = gamma, alpha

    def forward(self, logits: Tensor, target: Tensor, valid: Tensor | None = None) -> Tensor:
        """Return the loss, a scalar."""
        return focal_loss(logits, target, valid=valid, gamma=self.gamma, alpha=self.alpha)

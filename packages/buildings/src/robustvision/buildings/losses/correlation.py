"""The loss of Matthews' correlation coefficient."""

from __future__ import annotations

from torch import Tensor, nn

from .form import prepare

EPSILON = 1e-5


def mcc_loss(logits: Tensor, target: Tensor, *, valid: Tensor | None = None) -> Tensor:
    """``1 - MCC`` of probabilities, every count raised by 1e-5.

    Args:
        logits: [B, 1, H, W].
        target: Likewise, 0..1.
        valid: Likewise, 1 where a pixel counts; None for all.

    Returns:
        A scalar in 0..2.

    Raises:
        InputError: The shapes differ.

    References:
        K. Abhishek and G. Hamarneh, "Matthews Correlation Coefficient Loss for Deep Convolutional Networks",
        arXiv 2010.13454.

    Example:
        >>> import torch
        >>> z = torch.tensor([[[[50.0, -50.0]]]])
        >>> round(float(mcc_loss(z, (z > 0).float())), 3), round(float(mcc_loss(z, (z < 0).float())), 3)
        (0.0, 2.0)
    """
    logits, target, valid = prepare(logits, target, valid)
    p, q = logits.sigmoid(), (-logits).sigmoid()
    if valid is not None:
        p, q = p * valid, q * valid
    tp, fn = (p * target).sum() + EPSILON, (q * target).sum() + EPSILON
    fp, tn = (p * (1 - target)).sum() + EPSILON, (q * (1 - target)).sum() + EPSILON
    # roots one by one: the product of four sums over a large batch overflows
    below = (tp + fp).sqrt() * (tp + fn).sqrt() * (tn + fp).sqrt() * (tn + fn).sqrt()
    return 1 - (tp * tn - fp * fn) / below


class MCCLoss(nn.Module):
    """`mcc_loss` as a module."""

    def forward(self, logits: Tensor, target: Tensor, valid: Tensor | None = None) -> Tensor:
        """Return the loss, a scalar."""
        return mcc_loss(logits, target, valid=valid)

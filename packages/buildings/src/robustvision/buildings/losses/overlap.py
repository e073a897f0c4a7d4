"""Losses of overlap: Tversky, and its members Dice and Jaccard.

With P = sum p, Y = sum y and I = sum p y over all pixels that count, FP = P - I and FN = Y - I. That I holds for soft
targets too; published code often takes sum min(p, y), which equals it for hard targets alone.
"""

from __future__ import annotations

from torch import Tensor, nn

from .form import prepare

EPSILON = 1e-7


def tversky_loss(
    logits: Tensor,
    target: Tensor,
    *,
    valid: Tensor | None = None,
    alpha: float = 0.5,
    beta: float = 0.5,
    gamma: float = 1.0,
    smooth: float = 0.0,
    log_loss: bool = False,
) -> Tensor:
    """Tversky loss, ``(1 - (I + s) / (I + alpha FP + beta FN + s))^gamma``.

    A batch without any building contributes 0, as in the field's library: false positives there go unpunished, so
    combine it with cross-entropy where empty pictures are common.

    Args:
        logits: [B, 1, H, W].
        target: Likewise, 0..1.
        valid: Likewise, 1 where a pixel counts; None for all.
        alpha: Weight of false positives.
        beta: Weight of false negatives.
        gamma: Exponent of the loss.
        smooth: s.
        log_loss: ``-log`` of the score in place of ``1 -``; ``gamma`` is then of no effect.

    Returns:
        A scalar.

    Raises:
        InputError: The shapes differ.

    References:
        S. S. M. Salehi et al., "Tversky loss function for image segmentation using 3D fully convolutional deep
        networks", arXiv 1706.05721.

    Example:
        >>> import torch
        >>> z = torch.tensor([[[[50.0, 50.0, -50.0, -50.0]]]])
        >>> y = torch.tensor([[[[1.0, 0.0, 1.0, 0.0]]]])
        >>> round(float(tversky_loss(z, y, alpha=1, beta=1)), 4)  # 1 - IoU
        0.6667
    """
    logits, target, valid = prepare(logits, target, valid)
    p = logits.sigmoid()
    if valid is not None:
        p, target = p * valid, target * valid
    intersection, predicted, true = (p * target).sum(), p.sum(), target.sum()
    below = intersection + alpha * (predicted - intersection) + beta * (true - intersection) + smooth
    score = (intersection + smooth) / below.clamp_min(EPSILON)
    loss = -score.clamp_min(EPSILON).log() if log_loss else (1 - score) if gamma == 1 else (1 - score) ** gamma
    return loss * (true > 0)


def dice_loss(
    logits: Tensor, target: Tensor, *, valid: Tensor | None = None, smooth: float = 0.0, log_loss: bool = False
) -> Tensor:
    """Dice loss, ``1 - (2 I + 2 s) / (P + Y + 2 s)``; arguments as for `tversky_loss`.

    Example:
        >>> import torch
        >>> z = torch.tensor([[[[50.0, 50.0, -50.0, -50.0]]]])
        >>> y = torch.tensor([[[[1.0, 0.0, 1.0, 0.0]]]])
        >>> float(dice_loss(z, y))
        0.5
    """
    return tversky_loss(logits, target, valid=valid, smooth=smooth, log_loss=log_loss)


def jaccard_loss(
    logits: Tensor, target: Tensor, *, valid: Tensor | None = None, smooth: float = 0.0, log_loss: bool = False
) -> Tensor:
    """Jaccard loss, ``1 - (I + s) / (P + Y - I + s)``; arguments as for `tversky_loss`.

    Example:
        >>> import torch
        >>> z = torch.full((1, 1, 2, 2), 50.0)
        >>> float(jaccard_loss(z, torch.ones_like(z)))
        0.0
    """
    return tversky_loss(logits, target, valid=valid, alpha=1.0, beta=1.0, smooth=smooth, log_loss=log_loss)


class TverskyLoss(nn.Module):
    """`tversky_loss` as a module.

    Args:
        alpha: Weight of false positives.
        beta: Weight of false negatives.
        gamma: Exponent of the loss.
        smooth: s.
        log_loss: ``-log`` of the score.
    """

    def __init__(
        self,
        alpha: float = 0.5,
        beta: float = 0.5,
        gamma: float = 1.0,
        smooth: float = 0.0,
        log_loss: bool = False,
    ) -> None:
        super().__init__()
        self.settings = {"alpha": alpha, "beta": beta, "gamma": gamma, "smooth": smooth}
        self.log_loss = log_loss

    def forward(self, logits: Tensor, target: Tensor, valid: Tensor | None = None) -> Tensor:
        """Return the loss, a scalar."""
        return tversky_loss(logits, target, valid=valid, log_loss=self.log_loss, **self.settings)


class DiceLoss(TverskyLoss):
    """`dice_loss` as a module.

    Args:
        smooth: s.
        log_loss: ``-log`` of the score.
    """

    def __init__(self, smooth: float = 0.0, log_loss: bool = False) -> None:
        super().__init__(0.5, 0.5, smooth=smooth, log_loss=log_loss)


class JaccardLoss(TverskyLoss):
    """`jaccard_loss` as a module.

    Args:
        smooth: s.
        log_loss: ``-log`` of the score.
    """

    def __init__(self, smooth: float = 0.0, log_loss: bool = False) -> None:
        super().__init__(1.0, 1.0, smooth=smooth, log_loss=log_loss)

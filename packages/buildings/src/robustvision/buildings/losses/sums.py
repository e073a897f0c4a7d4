"""Cross-entropy and overlap together, and all nine losses by name."""

from __future__ import annotations

from torch import Tensor

from robustvision.buildings.losses.cross_entropy import BCELoss, FocalLoss, bce_loss
from robustvision.buildings.losses.lovasz import LovaszLoss
from robustvision.buildings.losses.mcc import MCCLoss
from robustvision.buildings.losses.overlap import DiceLoss, JaccardLoss, TverskyLoss, dice_loss, jaccard_loss
from robustvision.buildings.losses.pixels import PixelLoss


def bce_dice_loss(logits: Tensor, target: Tensor, *, smooth: float = 0.0, valid: Tensor | None = None) -> Tensor:
    """The sum of :func:`bce_loss` and :func:`dice_loss`.

    Args:
        logits: [B, 1, H, W].
        target: [B, 1, H, W], 0 to 1.
        smooth: Of Dice, at least 0.
        valid: [B, 1, H, W], not 0 where a pixel counts.

    Returns:
        The loss, a scalar.

    Raises:
        InputError: Wrong shapes, values or settings.

    Example:
        >>> import torch
        >>> z, y = torch.tensor([[[[2.0, -2.0, 0.0]]]]), torch.tensor([[[[1, 0, 1]]]])
        >>> bce_dice_loss(z, y)
        tensor(0.5266)
    """
    return bce_loss(logits, target, valid=valid) + dice_loss(logits, target, smooth=smooth, valid=valid)


def bce_jaccard_loss(logits: Tensor, target: Tensor, *, smooth: float = 0.0, valid: Tensor | None = None) -> Tensor:
    """The sum of :func:`bce_loss` and :func:`jaccard_loss`.

    Args:
        logits: [B, 1, H, W].
        target: [B, 1, H, W], 0 to 1.
        smooth: Of Jaccard, at least 0.
        valid: [B, 1, H, W], not 0 where a pixel counts.

    Returns:
        The loss, a scalar.

    Raises:
        InputError: Wrong shapes, values or settings.

    Example:
        >>> import torch
        >>> z, y = torch.tensor([[[[2.0, -2.0, 0.0]]]]), torch.tensor([[[[1, 0, 1]]]])
        >>> bce_jaccard_loss(z, y)
        tensor(0.6641)
    """
    return bce_loss(logits, target, valid=valid) + jaccard_loss(logits, target, smooth=smooth, valid=valid)


class BCEDiceLoss(PixelLoss):
    """As a module: see :func:`bce_dice_loss`.

    Example:
        >>> import torch
        >>> z, y = torch.tensor([[[[2.0, -2.0, 0.0]]]]), torch.tensor([[[[1, 0, 1]]]])
        >>> BCEDiceLoss()(z, y)
        tensor(0.5266)
    """

    function = staticmethod(bce_dice_loss)

    def __init__(self, *, smooth: float = 0.0) -> None:
        super().__init__(smooth=smooth)


class BCEJaccardLoss(PixelLoss):
    """As a module: see :func:`bce_jaccard_loss`.

    Example:
        >>> import torch
        >>> z, y = torch.tensor([[[[2.0, -2.0, 0.0]]]]), torch.tensor([[[[1, 0, 1]]]])
        >>> BCEJaccardLoss()(z, y)
        tensor(0.6641)
    """

    function = staticmethod(bce_jaccard_loss)

    def __init__(self, *, smooth: float = 0.0) -> None:
        super().__init__(smooth=smooth)


LOSSES: dict[str, type[PixelLoss]] = {
    "jaccard": JaccardLoss,
    "dice": DiceLoss,
    "bce": BCELoss,
    "bce+dice": BCEDiceLoss,
    "bce+jaccard": BCEJaccardLoss,
    "focal": FocalLoss,
    "tversky": TverskyLoss,
    "lovasz": LovaszLoss,
    "mcc": MCCLoss,
}
"""Name to module. The first five are the factory of the paper's authors; [R] the paper counts nine, and the other four
are of the library that they use."""

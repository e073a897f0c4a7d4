"""Cross-entropy beside a loss of overlap, and all nine losses by name."""

from __future__ import annotations

from torch import Tensor, nn

from .correlation import MCCLoss
from .lovasz import LovaszLoss
from .overlap import DiceLoss, JaccardLoss, TverskyLoss, dice_loss, jaccard_loss
from .pixelwise import BCELoss, FocalLoss, bce_loss


class BCEDiceLoss(nn.Module):
    """Binary cross-entropy plus Dice loss: the first punishes what is found in empty pictures, which Dice does not."""

    def forward(self, logits: Tensor, target: Tensor, valid: Tensor | None = None) -> Tensor:
        """Return the loss, a scalar."""
        return bce_loss(logits, target, valid=valid) + dice_loss(logits, target, valid=valid)


class BCEJaccardLoss(nn.Module):
    """Binary cross-entropy plus Jaccard loss."""

    def forward(self, logits: Tensor, target: Tensor, valid: Tensor | None = None) -> Tensor:
        """Return the loss, a scalar."""
        return bce_loss(logits, target, valid=valid) + jaccard_loss(logits, target, valid=valid)


LOSSES: dict[str, type[nn.Module]] = {
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
"""The nine losses: the first five are those of the published code, the other four RECONSTRUCTED from their number."""

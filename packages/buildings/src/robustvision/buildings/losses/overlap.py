r"""Losses of overlap: Tversky and its two cases, Dice and Jaccard.

With p the probabilities and y the target, over all pixels of the batch that count:
:math:`I = \sum p y`, :math:`FP = \sum p - I`, :math:`FN = \sum y - I`. For a soft target I is this sum of products,
not the sum of minima that segmentation-models-pytorch takes; they are the same for a hard one. Such a loss is least for
a confident prediction, not for p = y, where it is above 0.

A batch without any positive target has score 0 whatever is predicted. Without smoothing it contributes 0 (as in
segmentation-models-pytorch) and no gradient: false positives on empty tiles go unpunished, so add BCE where tiles may
be empty. With smoothing the formula holds there, too, and false positives cost.
"""

from __future__ import annotations

import torch
from torch import Tensor

from robustvision.buildings.losses.pixels import PixelLoss, check_pixels
from robustvision.core.losses.batch import check_number

EPS = 1e-7
"""The least denominator, and the least score of which a logarithm is taken."""


def tversky_loss(
    logits: Tensor,
    target: Tensor,
    alpha: float = 0.5,
    beta: float = 0.5,
    gamma: float = 1.0,
    *,
    smooth: float = 0.0,
    log_loss: bool = False,
    valid: Tensor | None = None,
) -> Tensor:
    r"""Tversky loss: :math:`(1 - (I + s)/(I + \alpha FP + \beta FN + s))^\gamma`.

    Alpha = beta = 0.5 is Dice, alpha = beta = 1 is Jaccard.

    Args:
        logits: [B, 1, H, W].
        target: [B, 1, H, W], 0 to 1.
        alpha: What a false positive costs, at least 0.
        beta: What a false negative costs, at least 0.
        gamma: The power, above 0.
        smooth: s, at least 0.
        log_loss: Take the power of minus the logarithm of the score in place of one minus the score.
        valid: [B, 1, H, W], not 0 where a pixel counts.

    Returns:
        The loss, a scalar.

    Raises:
        InputError: Wrong shapes, values or settings.

    References:
        Salehi et al., "Tversky loss function for image segmentation using 3D fully convolutional deep networks",
        arXiv 1706.05721; Abraham and Khan, arXiv 1810.07842 (gamma).

    Example:
        >>> import torch
        >>> z, y = torch.tensor([[[[2.0, -2.0, 0.0]]]]), torch.tensor([[[[1, 0, 1]]]])
        >>> tversky_loss(z, y, alpha=0.3, beta=0.7)
        tensor(0.2536)
    """
    check_number("alpha", alpha, least=0.0)
    check_number("beta", beta, least=0.0)
    check_number("gamma", gamma, above=0.0)
    check_number("smooth", smooth, least=0.0)
    pixels = check_pixels(logits, target, valid)
    p, positives = pixels.probabilities, pixels.target.sum()
    overlap = (p * pixels.target).sum()
    false_positives, false_negatives = p.sum() - overlap, positives - overlap
    denominator = overlap + alpha * false_positives + beta * false_negatives + smooth
    score = (overlap + smooth) / denominator.clamp_min(EPS)
    loss = -score.clamp_min(EPS).log() if log_loss else 1.0 - score
    if gamma != 1.0:
        loss = loss.clamp_min(EPS).pow(gamma)  # a power below 1 has no finite slope at 0
    return loss if smooth > 0 else loss.where(positives > 0, torch.zeros_like(loss))


def dice_loss(
    logits: Tensor, target: Tensor, *, smooth: float = 0.0, log_loss: bool = False, valid: Tensor | None = None
) -> Tensor:
    r"""Dice loss: :math:`1 - (2I + 2s)/(\sum p + \sum y + 2s)`.

    The form that the paper's authors trained with, :math:`1 - (2I + 1)/(\sum p + \sum y + 1)`, is smooth = 0.5.

    Args:
        logits: [B, 1, H, W].
        target: [B, 1, H, W], 0 to 1.
        smooth: s, at least 0.
        log_loss: Minus the logarithm of the score in place of one minus the score.
        valid: [B, 1, H, W], not 0 where a pixel counts.

    Returns:
        The loss, a scalar.

    Raises:
        InputError: Wrong shapes, values or settings.

    References:
        Milletari, Navab and Ahmadi, "V-Net", 3DV 2016, arXiv 1606.04797, with sums in place of squares.

    Example:
        >>> import torch
        >>> z, y = torch.tensor([[[[2.0, -2.0, 0.0]]]]), torch.tensor([[[[1, 0, 1]]]])
        >>> dice_loss(z, y)
        tensor(0.2110)
    """
    return tversky_loss(logits, target, 0.5, 0.5, smooth=smooth, log_loss=log_loss, valid=valid)


def jaccard_loss(
    logits: Tensor, target: Tensor, *, smooth: float = 0.0, log_loss: bool = False, valid: Tensor | None = None
) -> Tensor:
    r"""Jaccard loss: :math:`1 - (I + s)/(\sum p + \sum y - I + s)`; the paper's authors have smooth = 1.

    Args:
        logits: [B, 1, H, W].
        target: [B, 1, H, W], 0 to 1.
        smooth: s, at least 0.
        log_loss: Minus the logarithm of the score in place of one minus the score.
        valid: [B, 1, H, W], not 0 where a pixel counts.

    Returns:
        The loss, a scalar.

    Raises:
        InputError: Wrong shapes, values or settings.

    References:
        Rahman and Wang, "Optimizing Intersection-Over-Union in Deep Neural Networks for Image Segmentation", ISVC 2016.

    Example:
        >>> import torch
        >>> z, y = torch.tensor([[[[2.0, -2.0, 0.0]]]]), torch.tensor([[[[1, 0, 1]]]])
        >>> jaccard_loss(z, y)
        tensor(0.3484)
    """
    return tversky_loss(logits, target, 1.0, 1.0, smooth=smooth, log_loss=log_loss, valid=valid)


class TverskyLoss(PixelLoss):
    """As a module: see :func:`tversky_loss`.

    Example:
        >>> import torch
        >>> z, y = torch.tensor([[[[2.0, -2.0, 0.0]]]]), torch.tensor([[[[1, 0, 1]]]])
        >>> TverskyLoss(0.3, 0.7)(z, y)
        tensor(0.2536)
    """

    function = staticmethod(tversky_loss)

    def __init__(
        self,
        alpha: float = 0.5,
        beta: float = 0.5,
        gamma: float = 1.0,
        *,
        smooth: float = 0.0,
        log_loss: bool = False,
    ) -> None:
        super().__init__(alpha=alpha, beta=beta, gamma=gamma, smooth=smooth, log_loss=log_loss)


class DiceLoss(PixelLoss):
    """As a module: see :func:`dice_loss`.

    Example:
        >>> import torch
        >>> z, y = torch.tensor([[[[2.0, -2.0, 0.0]]]]), torch.tensor([[[[1, 0, 1]]]])
        >>> DiceLoss()(z, y)
        tensor(0.2110)
    """

    function = staticmethod(dice_loss)

    def __init__(self, *, smooth: float = 0.0, log_loss: bool = False) -> None:
        super().__init__(smooth=smooth, log_loss=log_loss)


class JaccardLoss(PixelLoss):
    """As a module: see :func:`jaccard_loss`.

    Example:
        >>> import torch
        >>> z, y = torch.tensor([[[[2.0, -2.0, 0.0]]]]), torch.tensor([[[[1, 0, 1]]]])
        >>> JaccardLoss()(z, y)
        tensor(0.3484)
    """

    function = staticmethod(jaccard_loss)

    def __init__(self, *, smooth: float = 0.0, log_loss: bool = False) -> None:
        super().__init__(smooth=smooth, log_loss=log_loss)

"""Losses that are a mean over pixels: binary cross-entropy, and focal."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from robustvision.buildings.losses.pixels import PixelLoss, Pixels, check_pixels
from robustvision.core.errors import InputError
from robustvision.core.losses.batch import check_number


def bce_loss(logits: Tensor, target: Tensor, *, smoothing: float = 0.0, valid: Tensor | None = None) -> Tensor:
    r"""Binary cross-entropy, the mean over the pixels that count of :math:`-y\log p - (1-y)\log(1-p)`.

    Args:
        logits: [B, 1, H, W].
        target: [B, 1, H, W], 0 to 1.
        smoothing: f, from 0 to 0.5: y becomes (1 - y) f + y (1 - f).
        valid: [B, 1, H, W], not 0 where a pixel counts. The mean is over those alone; segmentation-models-pytorch
            divides by all pixels.

    Returns:
        The loss, a scalar; 0 where no pixel counts.

    Raises:
        InputError: Wrong shapes, values or settings.

    Example:
        >>> import torch
        >>> z, y = torch.tensor([[[[2.0, -2.0, 0.0]]]]), torch.tensor([[[[1, 0, 1]]]])
        >>> bce_loss(z, y)
        tensor(0.3157)
    """
    if not 0 <= smoothing <= 0.5:
        raise InputError(f"smoothing is {smoothing}, but it must lie in [0, 0.5]: at 0.5 no label is left")
    pixels = check_pixels(logits, target, valid)
    softened = pixels.target * (1 - 2 * smoothing) + smoothing
    return pixels.mean(_bce(pixels._replace(target=softened)))


def focal_loss(
    logits: Tensor, target: Tensor, gamma: float = 2.0, alpha: float | None = None, *, valid: Tensor | None = None
) -> Tensor:
    r"""Focal loss: the mean of :math:`(1 - p_t)^\gamma \, BCE` with :math:`p_t = \exp(-BCE)`; gamma = 0 is BCE.

    Args:
        logits: [B, 1, H, W].
        target: [B, 1, H, W], 0 to 1.
        gamma: How much a pixel that is right already is left out, at least 0.
        alpha: Weight of buildings, 0 to 1, against 1 - alpha of background; None weighs both 1.
        valid: [B, 1, H, W], not 0 where a pixel counts.

    Returns:
        The loss, a scalar; 0 where no pixel counts.

    Raises:
        InputError: Wrong shapes, values or settings.

    References:
        Lin et al., "Focal Loss for Dense Object Detection", ICCV 2017, arXiv 1708.02002, equation 5.

    Example:
        >>> import torch
        >>> z, y = torch.tensor([[[[2.0, -2.0, 0.0]]]]), torch.tensor([[[[1, 0, 1]]]])
        >>> focal_loss(z, y)
        tensor(0.0590)
    """
    check_number("gamma", gamma, least=0.0)
    if alpha is not None and not 0 <= alpha <= 1:
        raise InputError(f"alpha is {alpha}, but it must lie in [0, 1]: it is the weight of buildings")
    pixels = check_pixels(logits, target, valid)
    cross_entropy = _bce(pixels)
    # 1 - p_t without cancellation; at 0 a power below 1 has no finite slope
    wrong = -torch.expm1(-cross_entropy)
    losses = wrong.clamp_min(torch.finfo(wrong.dtype).tiny).pow(gamma) * cross_entropy
    if alpha is not None:
        losses = losses * (alpha * pixels.target + (1 - alpha) * (1 - pixels.target))
    return pixels.mean(losses)


def _bce(pixels: Pixels) -> Tensor:
    return binary_cross_entropy_with_logits(pixels.logits, pixels.target, reduction="none")


class BCELoss(PixelLoss):
    """As a module: see :func:`bce_loss`.

    Example:
        >>> import torch
        >>> z, y = torch.tensor([[[[2.0, -2.0, 0.0]]]]), torch.tensor([[[[1, 0, 1]]]])
        >>> BCELoss()(z, y)
        tensor(0.3157)
    """

    function = staticmethod(bce_loss)

    def __init__(self, *, smoothing: float = 0.0) -> None:
        super().__init__(smoothing=smoothing)


class FocalLoss(PixelLoss):
    """As a module: see :func:`focal_loss`.

    Example:
        >>> import torch
        >>> z, y = torch.tensor([[[[2.0, -2.0, 0.0]]]]), torch.tensor([[[[1, 0, 1]]]])
        >>> FocalLoss(gamma=0.0)(z, y)
        tensor(0.3157)
    """

    function = staticmethod(focal_loss)

    def __init__(self, gamma: float = 2.0, alpha: float | None = None) -> None:
        super().__init__(gamma=gamma, alpha=alpha)

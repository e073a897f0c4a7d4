"""One minus Matthews' correlation coefficient."""

from __future__ import annotations

from torch import Tensor

from robustvision.buildings.losses.pixels import PixelLoss, check_pixels

EPS = 1e-5
"""Added to each of the four counts: with one class alone the coefficient is 0 over 0."""


def mcc_loss(logits: Tensor, target: Tensor, *, valid: Tensor | None = None) -> Tensor:
    r"""One minus the correlation of prediction and target as binary variables, 0 to 2.

    :math:`1 - (TP\,TN - FP\,FN)/\sqrt{(TP+FP)(TP+FN)(TN+FP)(TN+FN)}` with the soft counts TP = sum p y,
    TN = sum (1-p)(1-y), FP = sum p(1-y), FN = sum (1-p)y, each plus 1e-5. Unlike the losses of overlap it counts the
    background that is right.

    Args:
        logits: [B, 1, H, W].
        target: [B, 1, H, W], 0 to 1.
        valid: [B, 1, H, W], not 0 where a pixel counts.

    Returns:
        The loss, a scalar.

    Raises:
        InputError: Wrong shapes or values.

    References:
        Abhishek and Hamarneh, "Matthews Correlation Coefficient Loss for Deep Convolutional Networks", ISBI 2021,
        arXiv 2010.13454.

    Example:
        >>> import torch
        >>> z, y = torch.tensor([[[[2.0, -2.0, 0.0]]]]), torch.tensor([[[[1, 0, 1]]]])
        >>> mcc_loss(z, y)
        tensor(0.4615)
    """
    pixels = check_pixels(logits, target, valid)
    p, y = pixels.probabilities, pixels.target
    q, n = (-pixels.logits).sigmoid() * pixels.counts, pixels.counts - y  # 1 - p and 1 - y, of those that count
    tp, tn, fp, fn = ((a * b).sum() + EPS for a, b in ((p, y), (q, n), (p, n), (q, y)))
    # two roots of two factors each: the product of all four is beyond float32 for a few hundred million pixels
    return 1.0 - (tp * tn - fp * fn) / (((tp + fp) * (tp + fn)).sqrt() * ((tn + fp) * (tn + fn)).sqrt())


class MCCLoss(PixelLoss):
    """As a module: see :func:`mcc_loss`.

    Example:
        >>> import torch
        >>> z, y = torch.tensor([[[[2.0, -2.0, 0.0]]]]), torch.tensor([[[[1, 0, 1]]]])
        >>> MCCLoss()(z, y)
        tensor(0.4615)
    """

    function = staticmethod(mcc_loss)

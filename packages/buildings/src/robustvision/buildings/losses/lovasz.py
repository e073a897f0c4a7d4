"""The Lovász hinge: the convex surrogate of the Jaccard loss."""

from __future__ import annotations

import torch
from torch import Tensor

from robustvision.buildings.losses.pixels import PixelLoss, check_pixels


def lovasz_loss(logits: Tensor, target: Tensor, *, valid: Tensor | None = None) -> Tensor:
    r"""Lovász hinge over all pixels of the batch: :math:`\sum_k \max(m_k, 0)\,(J_k - J_{k-1})`.

    :math:`m = 1 - z(2y-1)` in falling order, and :math:`J_k` is one minus the IoU that is left when the k worst pixels
    are wrong and all others right. Where every error is 0 or 1 it is the Jaccard loss of the wrong pixels exactly. With
    no positive target it is the largest error. The paper defines it for hard targets; a soft one enters the same sums
    [R].

    Args:
        logits: z, [B, 1, H, W].
        target: y, [B, 1, H, W], 0 to 1.
        valid: [B, 1, H, W], not 0 where a pixel counts.

    Returns:
        The loss, a scalar; 0 where no pixel counts.

    Raises:
        InputError: Wrong shapes or values.

    References:
        Berman, Triki and Blaschko, "The Lovász-Softmax loss", CVPR 2018, arXiv 1705.08790, algorithm 1; Yu and
        Blaschko, "The Lovász Hinge", arXiv 1512.07797.

    Example:
        >>> import torch
        >>> z, y = torch.tensor([[[[2.0, -2.0, 0.0]]]]), torch.tensor([[[[1, 0, 1]]]])
        >>> lovasz_loss(z, y)  # one of two building pixels has error 1, the others have none
        tensor(0.5000)
    """
    pixels = check_pixels(logits, target, valid)
    margins = 1.0 - pixels.logits * (2.0 * pixels.target - 1.0)
    margins = margins.where(pixels.counts > 0, margins.new_full((), -torch.inf))
    worst, order = margins.sort(descending=True)
    return (worst.relu() * _jaccard_steps(pixels.target[order])).sum()


def _jaccard_steps(labels: Tensor) -> Tensor:
    """J_k - J_{k-1} for labels in the order of their errors, [N]; written without a difference, which loses digits.

    After pixel k the intersection is the sum of the labels that follow, the union grows by its 1 - y.
    """
    positives = labels.sum()
    intersection = positives - labels.cumsum(0)
    union = positives + (1.0 - labels).cumsum(0)
    before = (intersection + labels, union - (1.0 - labels))
    steps = (before[0] * (1.0 - labels) + before[1] * labels) / (before[1] * union).clamp_min(1e-12)
    return torch.cat((1.0 - intersection[:1] / union[:1], steps[1:]))


class LovaszLoss(PixelLoss):
    """As a module: see :func:`lovasz_loss`.

    Example:
        >>> import torch
        >>> z, y = torch.tensor([[[[2.0, -2.0, 0.0]]]]), torch.tensor([[[[1, 0, 1]]]])
        >>> LovaszLoss()(z, y)
        tensor(0.5000)
    """

    function = staticmethod(lovasz_loss)

"""The Lovasz hinge: the tight convex surrogate of the Jaccard loss."""

from __future__ import annotations

from torch import Tensor, nn

from .form import prepare

CUT = 0.5


def lovasz_loss(logits: Tensor, target: Tensor, *, valid: Tensor | None = None) -> Tensor:
    """Lovasz hinge over all pixels of the batch together.

    Args:
        logits: [B, 1, H, W].
        target: Likewise; a building from 0.5 on, since the surrogate is defined for sets.
        valid: Likewise, 1 where a pixel counts; None for all.

    Returns:
        A scalar; 0 where nothing counts.

    Raises:
        InputError: The shapes differ.

    References:
        M. Berman et al., "The Lovasz-Softmax loss", arXiv 1705.08790, algorithm 1.

    Example:
        >>> import torch
        >>> z = torch.tensor([[[[2.0, -2.0, 1.0]]]])
        >>> float(lovasz_loss(z, torch.tensor([[[[1.0, 0.0, 1.0]]]])))
        0.0
    """
    logits, target, valid = prepare(logits, target, valid)
    counts = slice(None) if valid is None else valid.flatten() > 0
    scores, truth = logits.flatten()[counts], (target.flatten()[counts] >= CUT).to(logits.dtype)
    if not scores.numel():
        return logits.sum() * 0
    errors, order = (1 - scores * (2 * truth - 1)).sort(descending=True)
    sorted_truth = truth[order]
    missed = sorted_truth.sum() - sorted_truth.cumsum(0)
    jaccard = 1 - missed / (sorted_truth.sum() + (1 - sorted_truth).cumsum(0))
    steps = jaccard.clone()
    steps[1:] -= jaccard[:-1]
    return errors.relu().dot(steps)


class LovaszLoss(nn.Module):
    """`lovasz_loss` as a module."""

    def forward(self, logits: Tensor, target: Tensor, valid: Tensor | None = None) -> Tensor:
        """Return the loss, a scalar."""
        return lovasz_loss(logits, target, valid=valid)

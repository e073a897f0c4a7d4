"""Penalties on embeddings alone, to be added to a pair loss: the mean of an embedding, and how far it is from bits."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from robustvision.core.losses.labels import check_reduction, in_float32_at_least, reduce
from robustvision.core.losses.pair_distances import check_embeddings


def zero_mean_penalty(embeddings: Tensor, weight: float = 0.005, *, reduction: str = "mean") -> Tensor:
    r"""The zero-mean regulariser of SNR metric learning, :math:`\lambda_r\,|\sum_m h_{im}|`.

    The SNR distance ignores the mean of an embedding, so nothing else holds it. With zero means the distance is the
    squared Euclidean one over the anchor's squared length.

    Args:
        embeddings: Floating point [B, D].
        weight: lambda_r.
        reduction: "mean" over the samples, "sum", or "none".

    Returns:
        A scalar, or [B] for "none"; 0 for an empty batch.

    Raises:
        InputError: Wrong shape, dtype or reduction.

    References:
        Yuan et al., CVPR 2019, arXiv 1904.02616; the default weight is the one of its reimplementations.

    Example:
        >>> zero_mean_penalty(torch.tensor([[1.0, 2.0], [3.0, -3.0]]), weight=1.0)
        tensor(1.5000)
    """
    sums = _checked(embeddings, reduction).sum(1)
    return reduce(weight * sums.abs(), torch.ones_like(sums, dtype=torch.bool), reduction)


def quantisation_penalty(embeddings: Tensor, weight: float = 1.0, *, reduction: str = "mean") -> Tensor:
    r"""How far embeddings are from bits +-1: :math:`\lambda\,\frac{1}{D}\sum_m \big||h_{im}| - 1\big|`.

    Args:
        embeddings: Floating point [B, D].
        weight: lambda.
        reduction: "mean" over the samples, "sum", or "none".

    Returns:
        A scalar, or [B] for "none"; 0 for an empty batch.

    Raises:
        InputError: Wrong shape, dtype or reduction.

    Example:
        >>> quantisation_penalty(torch.tensor([[1.0, -1.0], [0.5, -3.0]]))
        tensor(0.6250)
    """
    gaps = (_checked(embeddings, reduction).abs() - 1.0).abs().mean(1)
    return reduce(weight * gaps, torch.ones_like(gaps, dtype=torch.bool), reduction)


class ZeroMeanPenalty(nn.Module):
    """The zero-mean regulariser as a module: see :func:`zero_mean_penalty`.

    Example:
        >>> ZeroMeanPenalty(weight=1.0)(torch.tensor([[1.0, 2.0], [3.0, -3.0]]))
        tensor(1.5000)
    """

    def __init__(self, weight: float = 0.005, *, reduction: str = "mean") -> None:
        super().__init__()
        check_reduction(reduction)
        self.weight, self.reduction = weight, reduction

    def forward(self, embeddings: Tensor) -> Tensor:
        """Embeddings [B, D] to the penalty."""
        return zero_mean_penalty(embeddings, self.weight, reduction=self.reduction)

    def extra_repr(self) -> str:
        return f"weight={self.weight}"


def _checked(embeddings: Tensor, reduction: str) -> Tensor:
    check_reduction(reduction)
    check_embeddings(embeddings)
    return in_float32_at_least(embeddings)

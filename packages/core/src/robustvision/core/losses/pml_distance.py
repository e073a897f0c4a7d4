"""The SNR distance for pytorch-metric-learning's losses and miners. This module alone imports that library."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from robustvision.core.errors import InputError, MissingExtraError
from robustvision.core.losses.pair_distances import centred_signals, snr_distance

try:
    from pytorch_metric_learning.distances import BaseDistance
except ModuleNotFoundError as error:
    raise MissingExtraError(
        f"PMLSNRDistance needs {error.name}: pip install pytorch-metric-learning", name=error.name
    ) from error


class PMLSNRDistance(BaseDistance):
    """The SNR distance as a ``distance=`` of pytorch-metric-learning.

    Where its own ``SNRDistance`` builds a tensor of B x B x D, this takes one matrix product. By default embeddings are
    not normalised: on the unit sphere the SNR distance is almost the squared Euclidean one.

    Args:
        normalize_embeddings: Whether embeddings are scaled to length 1 before.
        eps: As in :func:`~robustvision.core.losses.pair_distances.snr_distance`.
        settings: What else the library's ``BaseDistance`` takes.

    Raises:
        InputError: ``is_inverted=True``: a large SNR distance means unlike.

    Example:
        >>> import torch
        >>> PMLSNRDistance()(torch.tensor([[1.0, 2.0, 3.0, 4.0], [1.0, 3.0, 2.0, 5.0]]))
        tensor([[0.0000, 0.5500],
                [0.3143, 0.0000]])
    """

    def __init__(self, *, normalize_embeddings: bool = False, eps: float | None = None, **settings: Any) -> None:
        super().__init__(normalize_embeddings=normalize_embeddings, **settings)
        if self.is_inverted:
            raise InputError("is_inverted is True, but a large SNR distance means unlike: leave it out")
        self.eps = eps

    def compute_mat(self, query_emb: Tensor, ref_emb: Tensor) -> Tensor:
        """Embeddings [B, D] and [N, D] to distances [B, N]."""
        return snr_distance(query_emb, None if ref_emb is query_emb else ref_emb, self.eps)

    def pairwise_distance(self, query_emb: Tensor, ref_emb: Tensor) -> Tensor:
        """Embeddings [B, D] and [B, D], row by row, to distances [B]."""
        signals, inverse_powers = centred_signals(query_emb, self.eps)
        others, _ = centred_signals(ref_emb, self.eps)
        return (signals - others).square().sum(1) * inverse_powers

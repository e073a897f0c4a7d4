"""Learning binary codes with the SNR distance (DSNRH): a pairwise logistic loss and a penalty on what is not a bit.

The codes are the signs of the embeddings; ``robustvision.core.evaluation.hamming_mean_average_precision`` judges them.
RECONSTRUCTED throughout: the paper gives no formula that could be checked.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from robustvision.core.losses.embedding_penalties import quantisation_penalty
from robustvision.core.losses.labels import IGNORED, reduce
from robustvision.core.losses.pair_distances import snr_distance
from robustvision.core.losses.pair_mining import Distance, Miner, all_pairs, measured_and_mined


def hashing_loss(
    embeddings: Tensor,
    labels: Tensor,
    threshold: float = 1.0,
    quantisation: float = 0.1,
    *,
    distance: Distance = snr_distance,
    miner: Miner = all_pairs,
) -> Tensor:
    r"""Pairwise logistic loss on a distance, plus a quantisation penalty.

    .. math::
        \mathrm{mean}_{+} \log(1 + e^{d_{ij} - t}) + \mathrm{mean}_{-} \log(1 + e^{t - d_{ij}})
        + \lambda\,\mathrm{mean}_i\, \frac{1}{D} \sum_m \big||h_{im}| - 1\big|

    RECONSTRUCTED: a pair is of one class with probability :math:`\sigma(t - d)`. Between balanced codes of D bits the
    SNR distance is 4/D times the Hamming distance: 0 for equal codes, 2 for unrelated, 4 for opposite ones. The default
    threshold is half-way to unrelated. The two kinds of pairs have means of their own, as negatives are many more.

    Args:
        embeddings: h, floating point [B, D], D bits.
        labels: Class indices, integer [B]; -1 for a sample to ignore.
        threshold: t, in the unit of the distance.
        quantisation: lambda, the weight of the penalty.
        distance: Embeddings to distances [B, B].
        miner: Chooses the pairs.

    Returns:
        A scalar.

    Raises:
        InputError: Wrong shapes, dtypes or labels.

    References:
        Yuan et al., CVPR 2019, arXiv 1904.02616 (DSNRH).

    Example:
        >>> codes = torch.tensor([[1.0, -1.0, 1.0, -1.0], [-1.0, 1.0, -1.0, 1.0]])
        >>> hashing_loss(codes, torch.tensor([0, 1]))  # log(1 + exp(1 - 4))
        tensor(0.0486)
    """
    distances, mined = measured_and_mined(embeddings, labels, distance, miner)
    pull = reduce(softplus(distances - threshold), mined.positives, "mean")
    push = reduce(softplus(threshold - distances), mined.negatives, "mean")
    gaps = quantisation_penalty(embeddings, quantisation, reduction="none")
    return pull + push + reduce(gaps, labels != IGNORED, "mean")


def hash_codes(embeddings: Tensor) -> Tensor:
    """The bits of embeddings: their signs, with 0 counted as positive.

    Args:
        embeddings: [N, D].

    Returns:
        bool [N, D].

    Example:
        >>> hash_codes(torch.tensor([[0.3, -2.0, 0.0]]))
        tensor([[ True, False,  True]])
    """
    return torch.ge(embeddings, 0)


class HashingLoss(nn.Module):
    """The hashing loss as a module: see :func:`hashing_loss`.

    Example:
        >>> HashingLoss()(torch.tensor([[1.0, -1.0, 1.0, -1.0], [-1.0, 1.0, -1.0, 1.0]]), torch.tensor([0, 1]))
        tensor(0.0486)
    """

    def __init__(
        self,
        threshold: float = 1.0,
        quantisation: float = 0.1,
        *,
        distance: Distance = snr_distance,
        miner: Miner = all_pairs,
    ) -> None:
        super().__init__()
        self.threshold, self.quantisation = threshold, quantisation
        self.distance, self.miner = distance, miner

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """Embeddings [B, D] and labels [B] to the loss."""
        return hashing_loss(
            embeddings, labels, self.threshold, self.quantisation, distance=self.distance, miner=self.miner
        )

    def extra_repr(self) -> str:
        return f"threshold={self.threshold}, quantisation={self.quantisation}"

"""Pair losses ``loss(embeddings, labels)``: contrastive, triplet, lifted structure and N-pair, over any distance.

Distance, mining and reduction are parts: ``distance=`` measures all pairs (``pair_distances``), ``miner=`` chooses
those that count (``pair_mining``), and a loss says what a chosen pair costs. All need O(B^2) memory, the triplets of a
batch too. A sample labelled -1 counts for nothing. Where a batch holds nothing to count, a loss is 0 with gradient 0.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import pad, relu, softplus

from robustvision.core.errors import InputError
from robustvision.core.losses.labels import check_reduction, reduce
from robustvision.core.losses.pair_distances import snr_distance
from robustvision.core.losses.pair_mining import Distance, Miner, all_pairs, measured_and_mined


def contrastive_loss(
    embeddings: Tensor,
    labels: Tensor,
    margin: float = 0.2,
    *,
    distance: Distance = snr_distance,
    miner: Miner = all_pairs,
    reduction: str = "mean",
) -> Tensor:
    r"""Contrastive loss: :math:`\mathrm{mean}_{+}\,d_{ij} + \mathrm{mean}_{-}\,[m - d_{ij}]_+`.

    Args:
        embeddings: Floating point [B, D].
        labels: Class indices, integer [B]; -1 for a sample to ignore.
        margin: m, in the unit of the distance.
        distance: Embeddings to distances [B, B].
        miner: Chooses the pairs.
        reduction: "mean" over the positives plus the mean over the negatives, "sum" of both, or "none".

    Returns:
        A scalar, or for "none" one loss a pair, [B, B], 0 where a pair does not count.

    Raises:
        InputError: Wrong shapes, dtypes, labels or reduction.

    References:
        Hadsell et al., "Dimensionality Reduction by Learning an Invariant Mapping", CVPR 2006, for the form; Yuan et
        al., CVPR 2019, arXiv 1904.02616, with the SNR distance.

    Example:
        >>> embeddings = torch.tensor([[1.0, 2.0, 3.0, 4.0], [1.0, 3.0, 2.0, 5.0]])
        >>> contrastive_loss(embeddings, torch.tensor([0, 0]))  # the mean of 0.55 and 0.3143
        tensor(0.4321)
    """
    check_reduction(reduction)
    distances, mined = measured_and_mined(embeddings, labels, distance, miner)
    pull = reduce(distances, mined.positives, reduction)
    return pull + reduce(relu(margin - distances), mined.negatives, reduction)


def triplet_loss(
    embeddings: Tensor,
    labels: Tensor,
    margin: float = 0.2,
    *,
    distance: Distance = snr_distance,
    miner: Miner = all_pairs,
    reduction: str = "mean",
) -> Tensor:
    r"""Triplet loss: :math:`[d_{ap} - d_{an} + m]_+` over all triplets of an anchor's chosen positives and negatives.

    The sum over the negatives of a pair (a, p) is read off the sorted distances of the anchor and their running sum:
    with the k negatives below :math:`d_{ap} + m` it is :math:`k\,(d_{ap} + m) - \sum_{n \le k} d_{a(n)}`. This is
    exact, gradient included, and needs O(B^2) memory and O(B^2 log B) time for B^3 triplets.

    Args:
        embeddings: Floating point [B, D].
        labels: Class indices, integer [B]; -1 for a sample to ignore.
        margin: m, at least 0, in the unit of the distance.
        distance: Embeddings to distances [B, B].
        miner: Chooses the pairs that triplets are made of; after ``semi_hard_pairs`` only semi-hard triplets count.
        reduction: "mean" over the triplets that count (those of loss 0 are among them, but not after
            ``semi_hard_pairs``), "sum", or "none".

    Returns:
        A scalar, or for "none" the sum over the negatives for each pair of anchor and positive, [B, B].

    Raises:
        InputError: Wrong shapes, dtypes, labels or reduction, or a negative margin.

    References:
        Schroff et al., "FaceNet: A Unified Embedding for Face Recognition and Clustering", CVPR 2015,
        arXiv 1503.03832, eq. 3; Yuan et al., CVPR 2019, arXiv 1904.02616, with the SNR distance.

    Example:
        >>> on_a_line = torch.tensor([[0.0], [1.0], [1.5]])
        >>> triplet_loss(on_a_line, torch.tensor([0, 0, 1]), margin=2.0, distance=lambda h: (h - h.T).abs())
        tensor(2.)
    """
    check_reduction(reduction)
    if margin < 0:
        raise InputError(f"margin is {margin}, but a triplet loss needs one of at least 0")
    distances, mined = measured_and_mined(embeddings, labels, distance, miner)
    ascending = distances.masked_fill(~mined.negatives, torch.inf).sort(dim=1).values
    running = pad(ascending.masked_fill(ascending == torch.inf, 0.0).cumsum(1), (1, 0))
    limits = distances + margin
    stop = torch.searchsorted(ascending.detach(), limits.detach())
    losses = stop * limits - running.gather(1, stop)
    triplets = mined.negatives.sum(1, keepdim=True).expand_as(stop)
    if mined.only_beyond:
        start = torch.searchsorted(ascending.detach(), distances.detach(), right=True).minimum(stop)
        losses = losses - (start * limits - running.gather(1, start))
        triplets = stop - start
    losses = losses.masked_fill(~mined.positives, 0.0)
    if reduction == "none":
        return losses
    total = losses.sum()
    return total if reduction == "sum" else total / triplets.masked_fill(~mined.positives, 0).sum().clamp_min(1)


def lifted_structure_loss(
    embeddings: Tensor,
    labels: Tensor,
    margin: float = 1.0,
    *,
    distance: Distance = snr_distance,
    miner: Miner = all_pairs,
    reduction: str = "mean",
) -> Tensor:
    r"""Lifted structure loss: each positive pair against all negatives of both its samples.

    .. math::
        L_{ij} = \tfrac12\Big[\log\Big(\sum_{k \in N_i} e^{m - d_{ik}} + \sum_{l \in N_j} e^{m - d_{jl}}\Big)
                 + d_{ij}\Big]_+^2

    Positive pairs are taken in both orders, since the SNR distance is not symmetric. The half is the paper's, so the
    mean over the ordered pairs is its :math:`\frac{1}{2|P|}\sum_P`. pytorch-metric-learning's loss, with its
    ``neg_margin=1, pos_margin=0``, is the same.

    Args:
        embeddings: Floating point [B, D].
        labels: Class indices, integer [B]; -1 for a sample to ignore.
        margin: m, in the unit of the distance.
        distance: Embeddings to distances [B, B].
        miner: Chooses the pairs.
        reduction: "mean" over the ordered positive pairs, "sum", or "none".

    Returns:
        A scalar, or for "none" one loss a pair, [B, B].

    Raises:
        InputError: Wrong shapes, dtypes, labels or reduction.

    References:
        Song et al., "Deep Metric Learning via Lifted Structured Feature Embedding", CVPR 2016, arXiv 1511.06452,
        eq. 4; Yuan et al., CVPR 2019, arXiv 1904.02616, with the SNR distance.

    Example:
        >>> on_a_line = torch.tensor([[0.0], [1.0], [2.0]])
        >>> lifted_structure_loss(on_a_line, torch.tensor([0, 0, 1]), distance=lambda h: (h - h.T).abs())
        tensor(0.8623)
    """
    check_reduction(reduction)
    distances, mined = measured_and_mined(embeddings, labels, distance, miner)
    pushes = _log_sum_exp(margin - distances, mined.negatives)
    hinge = relu(torch.logaddexp(pushes[:, None], pushes[None, :]) + distances)
    return reduce(0.5 * hinge.square(), mined.positives, reduction)


def n_pair_loss(
    embeddings: Tensor,
    labels: Tensor,
    *,
    distance: Distance = snr_distance,
    miner: Miner = all_pairs,
    reduction: str = "mean",
) -> Tensor:
    r"""N-pair loss over a distance: :math:`\log\big(1 + \sum_n e^{d_{ap} - d_{an}}\big)` for each positive pair (a, p).

    RECONSTRUCTED: the SNR paper puts its similarity in the place of the inner product; :math:`s = -d` is the reading
    taken here, and all negatives of the anchor stand in the sum (the N-pair paper draws one of each class).

    Args:
        embeddings: Floating point [B, D].
        labels: Class indices, integer [B]; -1 for a sample to ignore.
        distance: Embeddings to distances [B, B].
        miner: Chooses the pairs.
        reduction: "mean" over the positive pairs, "sum", or "none".

    Returns:
        A scalar, or for "none" one loss a positive pair, [B, B].

    Raises:
        InputError: Wrong shapes, dtypes, labels or reduction.

    References:
        Sohn, "Improved Deep Metric Learning with Multi-class N-pair Loss Objective", NIPS 2016, eq. 6; Yuan et al.,
        CVPR 2019, arXiv 1904.02616.

    Example:
        >>> on_a_line = torch.tensor([[0.0], [1.0], [2.0]])
        >>> n_pair_loss(on_a_line, torch.tensor([0, 0, 1]), distance=lambda h: (h - h.T).abs())
        tensor(0.5032)
    """
    check_reduction(reduction)
    distances, mined = measured_and_mined(embeddings, labels, distance, miner)
    pushes = _log_sum_exp(-distances, mined.negatives)
    return reduce(softplus(distances + pushes[:, None]), mined.positives, reduction)


class PairLoss(nn.Module):
    """A function of embeddings and labels as a module; a subclass names its function.

    Args:
        distance: Embeddings to distances [B, B]: a function or a module.
        miner: Chooses the pairs.
        reduction: "mean", "sum" or "none".
        settings: What the function takes beside.
    """

    function: ClassVar[Callable[..., Tensor]]

    def __init__(
        self, *, distance: Distance = snr_distance, miner: Miner = all_pairs, reduction: str = "mean", **settings: Any
    ) -> None:
        super().__init__()
        check_reduction(reduction)
        self.distance, self.miner, self.reduction = distance, miner, reduction
        self.settings = settings

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """Embeddings [B, D] and labels [B] to the loss."""
        return type(self).function(
            embeddings, labels, **self.settings, distance=self.distance, miner=self.miner, reduction=self.reduction
        )

    def extra_repr(self) -> str:
        return ", ".join(f"{name}={value}" for name, value in self.settings.items())


class ContrastiveLoss(PairLoss):
    """The contrastive loss as a module: see :func:`contrastive_loss`.

    Example:
        >>> ContrastiveLoss()(torch.tensor([[1.0, 2.0, 3.0, 4.0], [1.0, 3.0, 2.0, 5.0]]), torch.tensor([0, 0]))
        tensor(0.4321)
    """

    function = staticmethod(contrastive_loss)

    def __init__(self, margin: float = 0.2, **parts: Any) -> None:
        super().__init__(margin=margin, **parts)


class TripletLoss(PairLoss):
    """The triplet loss as a module: see :func:`triplet_loss`.

    Example:
        >>> TripletLoss(2.0, distance=lambda h: (h - h.T).abs())(
        ...     torch.tensor([[0.0], [1.0], [1.5]]), torch.tensor([0, 0, 1])
        ... )
        tensor(2.)
    """

    function = staticmethod(triplet_loss)

    def __init__(self, margin: float = 0.2, **parts: Any) -> None:
        super().__init__(margin=margin, **parts)


class LiftedStructureLoss(PairLoss):
    """The lifted structure loss as a module: see :func:`lifted_structure_loss`.

    Example:
        >>> LiftedStructureLoss()(torch.eye(4), torch.tensor([0, 0, 1, 1])).item() > 0
        True
    """

    function = staticmethod(lifted_structure_loss)

    def __init__(self, margin: float = 1.0, **parts: Any) -> None:
        super().__init__(margin=margin, **parts)


class NPairLoss(PairLoss):
    """The N-pair loss as a module: see :func:`n_pair_loss`.

    Example:
        >>> NPairLoss()(torch.eye(4), torch.tensor([0, 0, 1, 1]))  # all distances are equal: log 3
        tensor(1.0986)
    """

    function = staticmethod(n_pair_loss)


def _log_sum_exp(values: Tensor, mask: Tensor) -> Tensor:
    """Over the masked entries of each row, [B]; very negative, and without a gradient, for a row that has none."""
    # Not minus infinity, of which a row has a gradient of NaN.
    return values.masked_fill(~mask, torch.finfo(values.dtype).min / 4).logsumexp(1)

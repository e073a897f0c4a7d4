"""Margin losses that end in a cross-entropy over scaled cosines: normalised softmax, CosFace, ArcFace and their union.

Each changes the cosine of a sample's own class, scales all by ``s`` and takes the cross-entropy. All compute in float32
at least.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from robustvision.core.errors import InputError
from robustvision.core.losses.batch import Batch, ClassificationLoss, check_batch
from robustvision.core.losses.labels import IGNORED


def normalized_softmax_loss(
    cosines: Tensor,
    labels: Tensor,
    scale: float = 64.0,
    *,
    weight: Tensor | None = None,
    ignore_index: int = IGNORED,
    reduction: str = "mean",
) -> Tensor:
    r"""Cross-entropy on scaled cosines: :math:`L_i = -\log\mathrm{softmax}(s\cos_{i,:})_y`.

    Args:
        cosines: Cosines between embeddings and class centres, [B, C].
        labels: Class indices, integer [B].
        scale: s, the inverse temperature.
        weight: One weight a sample, [B].
        ignore_index: The label of a sample that does not count.
        reduction: "mean" over the samples that count, "sum", or "none".

    Returns:
        The loss: a scalar, or [B] for "none".

    Raises:
        InputError: Wrong shapes, dtypes, labels or reduction.

    References:
        Wang et al., "NormFace: L2 Hypersphere Embedding for Face Verification", ACM MM 2017, arXiv 1704.06369.

    Example:
        >>> normalized_softmax_loss(torch.tensor([[0.5, 0.0]]), torch.tensor([0]), scale=2.0)
        tensor(0.3133)
    """
    batch = check_batch(cosines, labels, weight=weight, ignore_index=ignore_index, reduction=reduction)
    return _cross_entropy(batch, batch.logits * scale)


def cosface_loss(
    cosines: Tensor,
    labels: Tensor,
    scale: float = 64.0,
    margin: float = 0.35,
    *,
    weight: Tensor | None = None,
    ignore_index: int = IGNORED,
    reduction: str = "mean",
) -> Tensor:
    r"""CosFace: the own class must win by a margin in the cosine, :math:`s(\cos\theta_y - m)`.

    Args:
        cosines: Cosines between embeddings and class centres, [B, C].
        labels: Class indices, integer [B].
        scale: s, the inverse temperature.
        margin: m. 0.35 is the paper's and the SFace authors' value, 0.40 is arcface_torch's.
        weight: One weight a sample, [B].
        ignore_index: The label of a sample that does not count.
        reduction: "mean" over the samples that count, "sum", or "none".

    Returns:
        The loss: a scalar, or [B] for "none".

    Raises:
        InputError: Wrong shapes, dtypes, labels or reduction.

    References:
        Wang et al., "CosFace: Large Margin Cosine Loss for Deep Face Recognition", CVPR 2018, arXiv 1801.09414, eq. 4.

    Example:
        >>> cosface_loss(torch.tensor([[0.5, 0.0]]), torch.tensor([0]), scale=2.0, margin=0.5)  # log 2
        tensor(0.6931)
    """
    batch = check_batch(cosines, labels, weight=weight, ignore_index=ignore_index, reduction=reduction)
    change = batch.logits.new_full(batch.target.shape, -scale * margin)
    return _cross_entropy(batch, batch.logits * scale, change)


def arcface_loss(
    cosines: Tensor,
    labels: Tensor,
    scale: float = 64.0,
    margin: float = 0.5,
    *,
    fallback: bool = True,
    weight: Tensor | None = None,
    ignore_index: int = IGNORED,
    reduction: str = "mean",
) -> Tensor:
    r"""ArcFace: the own class must win by a margin in the angle, :math:`s\cos(\theta_y + m)`.

    Beyond :math:`\theta_y = \pi - m` that cosine rises again: a bad sample would be rewarded for
    becoming worse. The fallback continues it there by :math:`s(\cos\theta_y - m\sin m)`, which keeps falling.

    Args:
        cosines: Cosines between embeddings and class centres, [B, C].
        labels: Class indices, integer [B].
        scale: s, the inverse temperature.
        margin: m, in radians.
        fallback: Whether angles beyond pi - m take the fallback (as the SFace authors' code), or the plain
            cos(theta + m) (as arcface_torch).
        weight: One weight a sample, [B].
        ignore_index: The label of a sample that does not count.
        reduction: "mean" over the samples that count, "sum", or "none".

    Returns:
        The loss: a scalar, or [B] for "none".

    Raises:
        InputError: Wrong shapes, dtypes, labels or reduction.

    References:
        Deng et al., "ArcFace: Additive Angular Margin Loss for Deep Face Recognition", CVPR 2019,
        arXiv 1801.07698, eq. 3.

    Example:
        >>> arcface_loss(torch.tensor([[0.5, 0.0]]), torch.tensor([0]), scale=2.0)
        tensor(0.6698)
    """
    batch = check_batch(cosines, labels, weight=weight, ignore_index=ignore_index, reduction=reduction)
    own = batch.own(batch.logits)
    target = _cosine_of_shifted_angle(own, margin)
    if fallback:
        target = torch.where(own > -math.cos(margin), target, own - margin * math.sin(margin))
    return _cross_entropy(batch, batch.logits * scale, scale * (target - own))


def combined_margin_loss(
    cosines: Tensor,
    labels: Tensor,
    scale: float = 64.0,
    margins: tuple[float, float, float] = (1.0, 0.5, 0.0),
    *,
    filter_above: float | None = None,
    weight: Tensor | None = None,
    ignore_index: int = IGNORED,
    reduction: str = "mean",
) -> Tensor:
    r"""The union of the margins, :math:`s(\cos(m_1\theta_y + m_2) - m_3)`, with inter-class filtering.

    ``(1, 0.5, 0)`` is ArcFace without its fallback, ``(1, 0, 0.4)`` is CosFace. The cosine rises again beyond
    :math:`\theta_y = (\pi - m_2)/m_1`; nothing is done about that, so an m1 above 1 suits only networks that are
    already trained. Filtering sets the cosines of other classes above a threshold to 0, before the scaling: in noisy
    data such a class is likely to be the same person under another label.

    Args:
        cosines: Cosines between embeddings and class centres, [B, C].
        labels: Class indices, integer [B].
        scale: s, the inverse temperature.
        margins: m1 (factor), m2 (radians), m3 (cosine).
        filter_above: The cosine above which another class is filtered out (0.4 is usual), or None for no filtering.
        weight: One weight a sample, [B].
        ignore_index: The label of a sample that does not count.
        reduction: "mean" over the samples that count, "sum", or "none".

    Returns:
        The loss: a scalar, or [B] for "none".

    Raises:
        InputError: Wrong shapes, dtypes, labels, margins or reduction.

    References:
        Deng et al., arXiv 1801.07698, eq. 4. Filtering: An et al., "Killing Two Birds with One Stone: Efficient and
        Robust Training of Face Recognition CNNs by Partial FC", CVPR 2022, arXiv 2203.15565.

    Example:
        >>> cosines = torch.tensor([[0.5, 0.0]])
        >>> combined_margin_loss(cosines, torch.tensor([0]), scale=2.0, margins=(1.0, 0.0, 0.5))  # log 2
        tensor(0.6931)
        >>> combined_margin_loss(cosines, torch.tensor([1]), scale=2.0, margins=(1.0, 0.0, 0.0), filter_above=0.4)
        tensor(0.6931)
    """
    batch = check_batch(cosines, labels, weight=weight, ignore_index=ignore_index, reduction=reduction)
    m1, m2, m3 = margins
    if m1 <= 0:
        raise InputError(f"margins are {margins}, but the first is a factor of the angle: it must be above 0")
    own = batch.own(batch.logits)
    target = _cosine_of_shifted_angle(own, m2) if m1 == 1 else torch.cos(m1 * _angle(own) + m2)
    if filter_above is None:
        logits = batch.logits * scale
    else:
        likely_same = (batch.logits > filter_above).scatter_(1, batch.target[:, None], False)
        logits = batch.logits.masked_fill(likely_same, 0.0) * scale
    return _cross_entropy(batch, logits, scale * (target - m3 - own))


class NormalizedSoftmaxLoss(ClassificationLoss):
    """Cross-entropy on scaled cosines as a module: see :func:`normalized_softmax_loss`.

    Example:
        >>> NormalizedSoftmaxLoss(scale=2.0)(torch.tensor([[0.5, 0.0]]), torch.tensor([0]))
        tensor(0.3133)
    """

    function = staticmethod(normalized_softmax_loss)

    def __init__(self, scale: float = 64.0, *, ignore_index: int = IGNORED, reduction: str = "mean") -> None:
        super().__init__(ignore_index=ignore_index, reduction=reduction, scale=scale)


class CosFaceLoss(ClassificationLoss):
    """CosFace as a module: see :func:`cosface_loss`.

    Example:
        >>> CosFaceLoss(scale=2.0, margin=0.5)(torch.tensor([[0.5, 0.0]]), torch.tensor([0]))
        tensor(0.6931)
    """

    function = staticmethod(cosface_loss)

    def __init__(
        self, scale: float = 64.0, margin: float = 0.35, *, ignore_index: int = IGNORED, reduction: str = "mean"
    ) -> None:
        super().__init__(ignore_index=ignore_index, reduction=reduction, scale=scale, margin=margin)


class ArcFaceLoss(ClassificationLoss):
    """ArcFace as a module: see :func:`arcface_loss`.

    Example:
        >>> ArcFaceLoss(scale=2.0)(torch.tensor([[0.5, 0.0]]), torch.tensor([0]))
        tensor(0.6698)
    """

    function = staticmethod(arcface_loss)

    def __init__(
        self,
        scale: float = 64.0,
        margin: float = 0.5,
        *,
        fallback: bool = True,
        ignore_index: int = IGNORED,
        reduction: str = "mean",
    ) -> None:
        super().__init__(ignore_index=ignore_index, reduction=reduction, scale=scale, margin=margin, fallback=fallback)


class CombinedMarginLoss(ClassificationLoss):
    """The union of the margins as a module: see :func:`combined_margin_loss`.

    Example:
        >>> CombinedMarginLoss(scale=2.0, margins=(1.0, 0.0, 0.5))(torch.tensor([[0.5, 0.0]]), torch.tensor([0]))
        tensor(0.6931)
    """

    function = staticmethod(combined_margin_loss)

    def __init__(
        self,
        scale: float = 64.0,
        margins: tuple[float, float, float] = (1.0, 0.5, 0.0),
        *,
        filter_above: float | None = None,
        ignore_index: int = IGNORED,
        reduction: str = "mean",
    ) -> None:
        super().__init__(
            ignore_index=ignore_index, reduction=reduction, scale=scale, margins=margins, filter_above=filter_above
        )


def _cosine_of_shifted_angle(cosine: Tensor, shift: float) -> Tensor:
    """cos(theta + shift) by the addition theorem: exact for shift 0, finite in value and gradient at +-1 and beyond."""
    return cosine * math.cos(shift) - _sine(cosine) * math.sin(shift)


def _sine(cosine: Tensor) -> Tensor:
    """sqrt(1 - cosine^2), with gradient 0 where rounding leaves nothing of it."""
    square = 1.0 - cosine.square()
    positive = square > torch.finfo(cosine.dtype).eps
    return torch.where(positive, square.masked_fill(~positive, 1.0).sqrt(), 0.0)


def _angle(cosine: Tensor) -> Tensor:
    """The arccos, through atan2, with a finite gradient at +-1."""
    return torch.atan2(_sine(cosine), cosine)


def _cross_entropy(batch: Batch, logits: Tensor, change: Tensor | None = None) -> Tensor:
    """Cross-entropy after a change [B] of the own-class logits; added in place: replacing would copy the gradient."""
    if change is not None:
        if batch.counted is not None:
            change = change.masked_fill(~batch.counted, 0.0)
        logits = logits.scatter_add_(1, batch.target[:, None], change[:, None])
    return batch.reduce(cross_entropy(logits, batch.target, reduction="none"))

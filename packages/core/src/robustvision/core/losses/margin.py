"""Margin losses that end in a cross-entropy over scaled cosines: normalised softmax, CosFace, ArcFace and their union.

Each changes the cosine of a sample's own class, scales all by ``s`` and takes the cross-entropy. All compute in float32
at least and ignore samples labelled -1.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from robustvision.core.errors import InputError
from robustvision.core.losses.labels import IGNORED, check_reduction, check_scores_and_labels, own_index, reduce


def normalized_softmax_loss(cosines: Tensor, labels: Tensor, scale: float = 64.0, *, reduction: str = "mean") -> Tensor:
    r"""Cross-entropy on scaled cosines: :math:`L_i = -\log\mathrm{softmax}(s\cos_{i,:})_y`.

    Args:
        cosines: Cosines between embeddings and class centres, [B, C].
        labels: Class indices, integer [B]; -1 for a sample to ignore.
        scale: s, the inverse temperature.
        reduction: "mean" over the samples that are not ignored, "sum", or "none".

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
    check_reduction(reduction)
    labels = check_scores_and_labels(cosines, labels)
    return _cross_entropy(_scaled(cosines, scale), labels, reduction)


def cosface_loss(
    cosines: Tensor, labels: Tensor, scale: float = 64.0, margin: float = 0.35, *, reduction: str = "mean"
) -> Tensor:
    r"""CosFace: the own class must win by a margin in the cosine, :math:`s(\cos\theta_y - m)`.

    Args:
        cosines: Cosines between embeddings and class centres, [B, C].
        labels: Class indices, integer [B]; -1 for a sample to ignore.
        scale: s, the inverse temperature.
        margin: m. 0.35 is the paper's and the SFace authors' value, 0.40 is arcface_torch's.
        reduction: "mean" over the samples that are not ignored, "sum", or "none".

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
    check_reduction(reduction)
    labels = check_scores_and_labels(cosines, labels)
    change = torch.full_like(labels, -scale * margin, dtype=_working_dtype(cosines))
    return _cross_entropy(_add_to_own(_scaled(cosines, scale), labels, change), labels, reduction)


def arcface_loss(
    cosines: Tensor,
    labels: Tensor,
    scale: float = 64.0,
    margin: float = 0.5,
    *,
    fallback: bool = True,
    reduction: str = "mean",
) -> Tensor:
    r"""ArcFace: the own class must win by a margin in the angle, :math:`s\cos(\theta_y + m)`.

    Beyond :math:`\theta_y = \pi - m` that cosine rises again: a bad sample would be rewarded for
    becoming worse. The fallback continues it there by :math:`s(\cos\theta_y - m\sin m)`, which keeps falling.

    Args:
        cosines: Cosines between embeddings and class centres, [B, C].
        labels: Class indices, integer [B]; -1 for a sample to ignore.
        scale: s, the inverse temperature.
        margin: m, in radians.
        fallback: Whether angles beyond pi - m take the fallback (as the SFace authors' code), or the plain
            cos(theta + m) (as arcface_torch).
        reduction: "mean" over the samples that are not ignored, "sum", or "none".

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
    check_reduction(reduction)
    labels = check_scores_and_labels(cosines, labels)
    own = _own(cosines, labels)
    target = _cosine_of_shifted_angle(own, margin)
    if fallback:
        target = torch.where(own > -math.cos(margin), target, own - margin * math.sin(margin))
    return _cross_entropy(_add_to_own(_scaled(cosines, scale), labels, scale * (target - own)), labels, reduction)


def combined_margin_loss(
    cosines: Tensor,
    labels: Tensor,
    scale: float = 64.0,
    margins: tuple[float, float, float] = (1.0, 0.5, 0.0),
    *,
    filter_above: float | None = None,
    reduction: str = "mean",
) -> Tensor:
    r"""The union of the margins, :math:`s(\cos(m_1\theta_y + m_2) - m_3)`, with inter-class filtering.

    ``(1, 0.5, 0)`` is ArcFace without its fallback, ``(1, 0, 0.4)`` is CosFace. The cosine rises again beyond
    :math:`\theta_y = (\pi - m_2)/m_1`; nothing is done about that, so an m1 above 1 suits only networks that are
    already trained. Filtering sets the cosines of other classes above a threshold to 0, before the scaling: in noisy
    data such a class is likely to be the same person under another label.

    Args:
        cosines: Cosines between embeddings and class centres, [B, C].
        labels: Class indices, integer [B]; -1 for a sample to ignore.
        scale: s, the inverse temperature.
        margins: m1 (factor), m2 (radians), m3 (cosine).
        filter_above: The cosine above which another class is filtered out (0.4 is usual), or None for no filtering.
        reduction: "mean" over the samples that are not ignored, "sum", or "none".

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
    check_reduction(reduction)
    labels = check_scores_and_labels(cosines, labels)
    m1, m2, m3 = margins
    if m1 <= 0:
        raise InputError(f"margins are {margins}, but the first is a factor of the angle: it must be above 0")
    own = _own(cosines, labels)
    target = _cosine_of_shifted_angle(own, m2) if m1 == 1 else torch.cos(m1 * _angle(own) + m2)
    if filter_above is None:
        logits = _scaled(cosines, scale)
    else:
        likely_same = (cosines > filter_above).scatter_(1, own_index(labels), False)
        logits = _scaled(cosines.masked_fill(likely_same, 0.0), scale)
    return _cross_entropy(_add_to_own(logits, labels, scale * (target - m3 - own)), labels, reduction)


class NormalizedSoftmaxLoss(nn.Module):
    """Cross-entropy on scaled cosines as a module: see :func:`normalized_softmax_loss`.

    Example:
        >>> NormalizedSoftmaxLoss(scale=2.0)(torch.tensor([[0.5, 0.0]]), torch.tensor([0]))
        tensor(0.3133)
    """

    def __init__(self, scale: float = 64.0, *, reduction: str = "mean") -> None:
        super().__init__()
        check_reduction(reduction)
        self.scale, self.reduction = scale, reduction

    def forward(self, cosines: Tensor, labels: Tensor) -> Tensor:
        """Cosines [B, C] and labels [B] to the loss."""
        return normalized_softmax_loss(cosines, labels, self.scale, reduction=self.reduction)

    def extra_repr(self) -> str:
        return f"scale={self.scale}"


class CosFaceLoss(nn.Module):
    """CosFace as a module: see :func:`cosface_loss`.

    Example:
        >>> CosFaceLoss(scale=2.0, margin=0.5)(torch.tensor([[0.5, 0.0]]), torch.tensor([0]))
        tensor(0.6931)
    """

    def __init__(self, scale: float = 64.0, margin: float = 0.35, *, reduction: str = "mean") -> None:
        super().__init__()
        check_reduction(reduction)
        self.scale, self.margin, self.reduction = scale, margin, reduction

    def forward(self, cosines: Tensor, labels: Tensor) -> Tensor:
        """Cosines [B, C] and labels [B] to the loss."""
        return cosface_loss(cosines, labels, self.scale, self.margin, reduction=self.reduction)

    def extra_repr(self) -> str:
        return f"scale={self.scale}, margin={self.margin}"


class ArcFaceLoss(nn.Module):
    """ArcFace as a module: see :func:`arcface_loss`.

    Example:
        >>> ArcFaceLoss(scale=2.0)(torch.tensor([[0.5, 0.0]]), torch.tensor([0]))
        tensor(0.6698)
    """

    def __init__(
        self, scale: float = 64.0, margin: float = 0.5, *, fallback: bool = True, reduction: str = "mean"
    ) -> None:
        super().__init__()
        check_reduction(reduction)
        self.scale, self.margin, self.fallback, self.reduction = scale, margin, fallback, reduction

    def forward(self, cosines: Tensor, labels: Tensor) -> Tensor:
        """Cosines [B, C] and labels [B] to the loss."""
        return arcface_loss(cosines, labels, self.scale, self.margin, fallback=self.fallback, reduction=self.reduction)

    def extra_repr(self) -> str:
        return f"scale={self.scale}, margin={self.margin}, fallback={self.fallback}"


class CombinedMarginLoss(nn.Module):
    """The union of the margins as a module: see :func:`combined_margin_loss`.

    Example:
        >>> CombinedMarginLoss(scale=2.0, margins=(1.0, 0.0, 0.5))(torch.tensor([[0.5, 0.0]]), torch.tensor([0]))
        tensor(0.6931)
    """

    def __init__(
        self,
        scale: float = 64.0,
        margins: tuple[float, float, float] = (1.0, 0.5, 0.0),
        *,
        filter_above: float | None = None,
        reduction: str = "mean",
    ) -> None:
        super().__init__()
        check_reduction(reduction)
        self.scale, self.margins, self.filter_above, self.reduction = scale, margins, filter_above, reduction

    def forward(self, cosines: Tensor, labels: Tensor) -> Tensor:
        """Cosines [B, C] and labels [B] to the loss."""
        return combined_margin_loss(
            cosines, labels, self.scale, self.margins, filter_above=self.filter_above, reduction=self.reduction
        )

    def extra_repr(self) -> str:
        return f"scale={self.scale}, margins={self.margins}, filter_above={self.filter_above}"


def _working_dtype(cosines: Tensor) -> torch.dtype:
    return torch.promote_types(cosines.dtype, torch.float32)


def _own(cosines: Tensor, labels: Tensor) -> Tensor:
    """The cosine of every sample's own class, [B]; that of class 0 where the label is -1."""
    return cosines.gather(1, own_index(labels)).squeeze(1).to(_working_dtype(cosines))


def _scaled(cosines: Tensor, scale: float) -> Tensor:
    return cosines.to(_working_dtype(cosines)) * scale


def _add_to_own(logits: Tensor, labels: Tensor, change: Tensor) -> Tensor:
    """Add [B] to the own-class entries of [B, C], in place; unlike replacing, this needs no copy of the gradient."""
    change = change.masked_fill(labels == IGNORED, 0.0)
    return logits.scatter_add_(1, own_index(labels), change[:, None])


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


def _cross_entropy(logits: Tensor, labels: Tensor, reduction: str) -> Tensor:
    losses = cross_entropy(logits, labels, ignore_index=IGNORED, reduction="none")
    return reduce(losses, labels != IGNORED, reduction)

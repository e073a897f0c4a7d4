"""SFace: the sigmoid-constrained hypersphere loss, its published settings and its diagnostics.

Two gates weigh the pull of a sample towards its own class centre and the push from all others. They are constants for
the gradient, and there is no softmax. So the gradient with respect to a cosine is the gate itself, and the value of the
loss says little: it is normally negative and may rise while the model improves. Look at the diagnostics instead.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import NamedTuple

import torch
from torch import Tensor, nn

from robustvision.core.losses.batch import check_batch
from robustvision.core.losses.labels import (
    IGNORED,
    check_reduction,
    check_scores_and_labels,
    in_float32_at_least,
    own_index,
    reduce,
)


class SFaceSetting(NamedTuple):
    """The four parameters of SFace; ``a`` and ``b`` are angles in radians."""

    scale: float
    k: float
    a: float
    b: float


SFACE_PUBLISHED = MappingProxyType(
    {
        "casia_webface": SFaceSetting(scale=64.0, k=80.0, a=0.87, b=1.20),
        "vggface2": SFaceSetting(scale=64.0, k=80.0, a=0.88, b=1.25),
        "ms1mv2": SFaceSetting(scale=64.0, k=80.0, a=0.90, b=1.20),
    }
)
"""The authors' settings by training set: ResNet-50 on the first two, ResNet-100 on the third, 512 dimensions."""

BLOCK = 2**22
"""Cosines that the diagnostics look at in one go."""


def sface_loss(
    cosines: Tensor,
    labels: Tensor,
    scale: float = 64.0,
    k: float = 80.0,
    a: float | Tensor = 0.87,
    b: float | Tensor = 1.20,
    *,
    push_unlabelled: bool = False,
    weight: Tensor | None = None,
    reduction: str = "mean",
) -> Tensor:
    r"""The SFace loss.

    With :math:`\theta = \arccos\cos` and gates that carry no gradient (:math:`\mathrm{SG}`),

    .. math::
        L_i = -\mathrm{SG}\big(s\,\sigma(k(\theta_{i,y} - a))\big)\cos_{i,y}
              + \sum_{j \ne y} \mathrm{SG}\big(s\,\sigma(-k(\theta_{i,j} - b))\big)\cos_{i,j}

    A sample nearer to its centre than ``a`` is no longer pulled; a centre farther away than ``b`` no longer pushes. The
    sum runs over the classes undivided. Half-precision cosines are computed in float32.

    Args:
        cosines: Cosines between embeddings and class centres, [B, C], in [-1, 1] (rounding beyond is harmless).
        labels: Class indices, integer [B]; -1 for a sample without a class.
        scale: s, the largest gradient of a cosine.
        k: Slope of both gates, in 1/rad.
        a: Angle where the pull is half open, in radians.
        b: Angle where the push is half open, in radians.
        push_unlabelled: Whether a sample labelled -1 is pushed from every centre. By default it counts for nothing.
        weight: One weight a sample, [B].
        reduction: "mean" over the samples that count, "sum", or "none".

    Returns:
        The loss: a scalar, or [B] for "none".

    Raises:
        InputError: Wrong shapes, dtypes, labels or reduction.

    References:
        Zhong et al., "SFace: Sigmoid-Constrained Hypersphere Loss for Robust Face Recognition", IEEE TIP 2021,
        arXiv 2205.12010. (Not the paper of the same name on synthetic faces, arXiv 2206.10520.)

    Example:
        >>> cosines = torch.tensor([[0.5, 0.1, 0.4]], requires_grad=True)
        >>> loss = sface_loss(cosines, torch.tensor([0]))
        >>> loss.backward()
        >>> cosines.grad.round(decimals=2)  # pull, nothing (too far), push
        tensor([[-64.0000,   0.0000,  61.6300]])
    """
    batch = check_batch(cosines, labels, weight=weight, reduction=reduction)
    cosines, labels = batch.logits, labels.long()
    with torch.no_grad():
        gates = _signed_gates(cosines, labels, k, a, b)
    losses = scale * (gates * cosines).sum(1)  # not vecdot, which autocast takes to bfloat16
    return reduce(losses, None if push_unlabelled else batch.counted, reduction, batch.weight)


class SFaceLoss(nn.Module):
    """The SFace loss as a module: see :func:`sface_loss`.

    Args:
        scale: s, the largest gradient of a cosine.
        k: Slope of both gates, in 1/rad.
        a: Angle where the pull is half open, in radians.
        b: Angle where the push is half open, in radians.
        push_unlabelled: Whether a sample labelled -1 is pushed from every centre.
        reduction: "mean", "sum" or "none".

    Example:
        >>> loss = SFaceLoss(**SFACE_PUBLISHED["ms1mv2"]._asdict())
        >>> loss
        SFaceLoss(scale=64.0, k=80.0, a=0.9, b=1.2)
        >>> round(loss(torch.tensor([[0.8, -0.1]]), torch.tensor([1])).item(), 2)
        57.6
    """

    def __init__(
        self,
        scale: float = 64.0,
        k: float = 80.0,
        a: float = 0.87,
        b: float = 1.20,
        *,
        push_unlabelled: bool = False,
        reduction: str = "mean",
    ) -> None:
        super().__init__()
        check_reduction(reduction)
        self.scale, self.k, self.b = scale, k, b
        self.a: float | Tensor = a
        self.push_unlabelled = push_unlabelled
        self.reduction = reduction

    def forward(
        self, cosines: Tensor, labels: Tensor, *, index: Tensor | None = None, weight: Tensor | None = None
    ) -> Tensor:
        """Cosines [B, C] and labels [B] to the loss; ``index`` is not used."""
        return sface_loss(
            cosines,
            labels,
            self.scale,
            self.k,
            self.a,
            self.b,
            push_unlabelled=self.push_unlabelled,
            weight=weight,
            reduction=self.reduction,
        )

    def extra_repr(self) -> str:
        return f"scale={self.scale}, k={self.k}, a={self.a}, b={self.b}"


@torch.no_grad()
def sface_diagnostics(
    cosines: Tensor,
    labels: Tensor,
    scale: float = 64.0,
    k: float = 80.0,
    a: float | Tensor = 0.87,
    b: float | Tensor = 1.20,
) -> dict[str, Tensor]:
    """What to watch while training with SFace, since the loss itself says little.

    Costs about one forward pass of the loss and does not wait for the device. Samples labelled -1 are left out; without
    a labelled sample (or, for the values over other classes, with one class) a value is NaN.

    Args:
        cosines: Cosines, [B, C].
        labels: Class indices, integer [B]; -1 for a sample without a class.
        scale: s of the loss.
        k: Slope of the loss.
        a: Shift of the pull, in radians.
        b: Shift of the push, in radians.

    Returns:
        Scalars without gradient: ``intra`` and ``inter`` (the two terms of the loss), ``theta_y`` and ``theta_j``
        (the mean angles to the own and to all other centres, in radians), ``intra_open`` and ``inter_open`` (the
        fractions of pairs with theta_y > a and theta_j < b: what is still pulled and pushed), ``top1`` (the own centre
        is the nearest).

    Raises:
        InputError: Wrong shapes, dtypes or labels.

    Example:
        >>> watch = sface_diagnostics(torch.tensor([[0.5, 0.1, 0.4]]), torch.tensor([0]))
        >>> {name: round(watch[name].item(), 2) for name in ("theta_y", "theta_j", "intra_open", "inter_open")}
        {'theta_y': 1.05, 'theta_j': 1.31, 'intra_open': 1.0, 'inter_open': 0.5}
    """
    labels = check_scores_and_labels(cosines, labels)
    # By blocks of rows: on a CPU, fresh memory for [B, C] costs more than the arithmetic.
    rows = max(1, BLOCK // cosines.shape[1])
    blocks = zip(cosines.split(rows), labels.split(rows), strict=True)
    watched = [_watch_block(in_float32_at_least(block), y, scale, k, a, b) for block, y in blocks]
    labelled = labels != IGNORED
    return {
        name: torch.cat([block[name] for block in watched]).masked_fill(~labelled, 0.0).sum() / labelled.sum()
        for name in watched[0]
    }


def _watch_block(
    cosines: Tensor, labels: Tensor, scale: float, k: float, a: float | Tensor, b: float | Tensor
) -> dict[str, Tensor]:
    """The diagnostics of each sample, [B]."""
    own = own_index(labels)
    own_cosine = cosines.gather(1, own).squeeze(1)
    theta = cosines.clamp(-1.0, 1.0).acos_()
    theta_y = theta.gather(1, own).squeeze(1)
    others = cosines.shape[1] - 1
    theta_j = (theta.sum(1) - theta_y) / others
    inter_open = ((theta < b).sum(1) - (theta_y < b).int()) / others
    gates = theta.sub_(b).mul_(-k).sigmoid_().scatter_(1, own, 0.0)
    return {
        "intra": -scale * torch.sigmoid(k * (theta_y - a)) * own_cosine,
        "inter": scale * gates.mul_(cosines).sum(1),
        "theta_y": theta_y,
        "theta_j": theta_j,
        "intra_open": (theta_y > a).to(theta.dtype),
        "inter_open": inter_open,
        "top1": (own_cosine >= cosines.amax(1)).to(theta.dtype),
    }


def _signed_gates(cosines: Tensor, labels: Tensor, k: float, a: float | Tensor, b: float | Tensor) -> Tensor:
    """The gates over s, [B, C]: minus the pull at a sample's own class, the push at the others.

    One buffer, changed in place. The clamp is for the arccos alone: float32 rounds the cosine of parallel vectors above
    1, where it is NaN.
    """
    own = own_index(labels)
    gates = cosines.clamp(-1.0, 1.0).acos_()
    pull = gates.gather(1, own).sub_(a).mul_(k).sigmoid_().neg_()
    gates.sub_(b).mul_(-k).sigmoid_()
    unlabelled = (labels == IGNORED)[:, None]
    return gates.scatter_(1, own, torch.where(unlabelled, gates.gather(1, own), pull))

"""The shifts of SFace chosen by rule instead of by search: ``b`` from chance, ``a`` from the angles met in training.

Neither rule is the paper's: its authors tuned both shifts for each training set (``SFACE_PUBLISHED``).
"""

from __future__ import annotations

import math

import torch
import torch.distributed as dist
from torch import Tensor

from robustvision.core.errors import InputError
from robustvision.core.losses.labels import IGNORED, check_scores_and_labels, own_index
from robustvision.core.losses.sface import SFaceLoss


def sface_b_from_null(embedding_size: int, num_classes: int, expected_open: float = 1.0) -> float:
    r"""The shift ``b`` at which chance alone brings so many other classes nearer than ``b`` to a sample.

    The angle :math:`\theta` between independent uniform directions in d dimensions has
    :math:`\cos^2\theta \sim \mathrm{Beta}(1/2, (d-1)/2)`. So b solves
    :math:`(C-1)\,P(\theta < b) = ` ``expected_open``, exactly. A b beyond that makes the push fight pure
    chance in every sample, and training may stall; a b far below leaves classes nearer together than they need be.

    Args:
        embedding_size: d, at least 2.
        num_classes: C, at least 2.
        expected_open: Number of other classes nearer than b to be expected of random directions, in (0, C - 1).

    Returns:
        b in radians, in (0, pi).

    Raises:
        InputError: Sizes or an expectation out of range.

    Example:
        >>> round(sface_b_from_null(512, 10_572), 3)  # CASIA-WebFace; its authors' choice is 1.20
        1.406
        >>> round(sface_b_from_null(128, 1_000), 3), round(sface_b_from_null(32, 1_000), 3)
        (1.298, 1.026)
    """
    from scipy.special import betaincinv

    if embedding_size < 2 or num_classes < 2:
        raise InputError(f"b needs at least 2 dimensions and 2 classes, not {embedding_size} and {num_classes}")
    if not 0 < expected_open < num_classes - 1:
        raise InputError(
            f"expected_open is {expected_open}, but with {num_classes} classes "
            f"it must lie between 0 and {num_classes - 1}, both excluded"
        )
    chance = expected_open / (num_classes - 1)
    # sin^2(theta) ~ Beta((d-1)/2, 1/2), and half of its mass is on either side of pi/2.
    angle = math.asin(math.sqrt(betaincinv((embedding_size - 1) / 2, 0.5, 2 * min(chance, 1 - chance))))
    return angle if chance <= 0.5 else math.pi - angle


def sface_a_from_angles(theta_y: Tensor, quantile: float = 0.02) -> Tensor:
    """The shift ``a`` as a low quantile of the angles between samples and their own centres.

    Only the samples that are nearer than nearly all others are let go. A high quantile would hand the pull to the far
    samples alone, and these are the mislabelled ones.

    Args:
        theta_y: Angles in radians, any shape; NaN entries are left out.
        quantile: In [0, 1].

    Returns:
        a in radians, a scalar; NaN where no angle is given.

    Example:
        >>> sface_a_from_angles(torch.linspace(0.8, 1.8, 101))
        tensor(0.8200)
    """
    theta_y = theta_y.flatten()
    return theta_y.nanquantile(quantile) if theta_y.numel() else theta_y.new_tensor(float("nan"))


class AutoSFaceLoss(SFaceLoss):
    """The SFace loss that sets its own shifts.

    ``b`` is fixed by :func:`sface_b_from_null`. ``a`` is a running mean of the batches' :func:`sface_a_from_angles`,
    kept in a buffer, so that a checkpoint resumes exactly. It moves in training mode only. With several processes it is
    averaged over them, so each must call the loss in every step.

    Args:
        num_classes: C, as of the head.
        embedding_size: d, as of the head.
        scale: s of the loss.
        k: Slope of both gates, in 1/rad.
        quantile: Which quantile of the own-class angles ``a`` follows; the more wrong labels, the lower.
        expected_open: What :func:`sface_b_from_null` takes.
        momentum: Weight of the newest batch in the running mean; the first batches have equal weight.
        push_unlabelled: Whether a sample labelled -1 is pushed from every centre.
        reduction: "mean", "sum" or "none".

    Attributes:
        a: The shift now in use, in radians: float32 scalar, pi / 2 before the first batch.
        b: The fixed shift, in radians.

    Example:
        >>> loss = AutoSFaceLoss(num_classes=3, embedding_size=128)
        >>> value = loss(torch.tensor([[0.6, 0.1, 0.2]]), torch.tensor([0]))
        >>> round(loss.a.item(), 3), round(loss.b, 3)  # the only angle is arccos 0.6
        (0.927, 1.571)
    """

    a: Tensor
    batches: Tensor

    def __init__(
        self,
        num_classes: int,
        embedding_size: int,
        scale: float = 64.0,
        k: float = 80.0,
        *,
        quantile: float = 0.02,
        expected_open: float = 1.0,
        momentum: float = 0.01,
        push_unlabelled: bool = False,
        reduction: str = "mean",
    ) -> None:
        b = sface_b_from_null(embedding_size, num_classes, expected_open)
        super().__init__(scale, k, b=b, push_unlabelled=push_unlabelled, reduction=reduction)
        if not 0 <= quantile <= 1 or not 0 < momentum <= 1:
            raise InputError(f"quantile={quantile} and momentum={momentum} were given, but both are fractions of 1")
        self.quantile, self.momentum = quantile, momentum
        del self.a  # a number there, a buffer here
        self.register_buffer("a", torch.tensor(math.pi / 2, dtype=torch.float32))  # finite, so it can be saved
        self.register_buffer("batches", torch.tensor(0, dtype=torch.long))

    def forward(
        self, cosines: Tensor, labels: Tensor, *, index: Tensor | None = None, weight: Tensor | None = None
    ) -> Tensor:
        """Cosines [B, C] and labels [B] to the loss; ``index`` is not used."""
        labels = check_scores_and_labels(cosines, labels)
        if self.training:
            self._follow(cosines.detach(), labels)
        return super().forward(cosines, labels, weight=weight)

    def _follow(self, cosines: Tensor, labels: Tensor) -> None:
        """Move ``a`` towards this batch, unless it has no labelled sample; without a wait for the device."""
        labelled = labels != IGNORED
        theta_y = cosines.gather(1, own_index(labels)).squeeze(1).float().clamp(-1.0, 1.0).acos()
        newest = sface_a_from_angles(theta_y.masked_fill(~labelled, torch.nan), self.quantile)
        weight = labelled.sum()
        sums = torch.stack([newest.nan_to_num() * weight, weight])
        if dist.is_available() and dist.is_initialized():
            dist.all_reduce(sums)
        met = sums[1] > 0
        self.batches += met
        rate = self.batches.clamp_min(1).reciprocal().clamp_min(self.momentum)
        moved = self.a.lerp(sums[0] / sums[1], rate)
        self.a.copy_(torch.where(met, moved, self.a))

    def extra_repr(self) -> str:
        return f"scale={self.scale}, k={self.k}, a={self.a.item():.3f}, b={self.b:.3f}, quantile={self.quantile}"

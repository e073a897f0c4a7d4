"""Generalised cross-entropy, plain and truncated."""

from __future__ import annotations

import torch
from torch import Tensor

from robustvision.core.errors import InputError
from robustvision.core.losses.batch import Batch, ClassificationLoss, check_batch, expm1
from robustvision.core.losses.labels import IGNORED
from robustvision.core.losses.sample_state import SampleState


def gce_loss(
    logits: Tensor,
    target: Tensor,
    q: float = 0.7,
    *,
    weight: Tensor | None = None,
    ignore_index: int = IGNORED,
    reduction: str = "mean",
) -> Tensor:
    r"""Generalised cross-entropy :math:`(1 - p_y^q)/q`: between cross-entropy (q -> 0) and 1 - p_y (q = 1).

    Args:
        logits: Class scores, [B, C].
        target: Class indices, integer [B]; or distributions over the classes, floating point [B, C],
            for which it is the expected loss.
        q: In (0, 1].
        weight: One weight a sample, [B].
        ignore_index: The label of a sample that does not count.
        reduction: "mean" over the samples that count, "sum", or "none".

    Returns:
        The loss: a scalar, or [B] for "none".

    Raises:
        InputError: Wrong shapes, dtypes, labels or settings.

    References:
        Zhang, Sabuncu, "Generalized Cross Entropy Loss for Training Deep Neural Networks with Noisy Labels",
        NeurIPS 2018, arXiv 1805.07836.

    Example:
        >>> f, y = torch.tensor([[2.0, 1.0, 0.0]]), torch.tensor([1])
        >>> gce_loss(f, y)
        tensor(0.8953)
    """
    check_q(q)
    batch = check_batch(logits, target, weight=weight, ignore_index=ignore_index, reduction=reduction, soft=True)
    return batch.reduce(batch.expect(lambda log_p: gce(log_p, q)))


class GCELoss(ClassificationLoss):
    """As a module: see :func:`gce_loss`.

    Example:
        >>> f, y = torch.tensor([[2.0, 1.0, 0.0]]), torch.tensor([1])
        >>> GCELoss(q=1.0)(f, y)
        tensor(0.7553)
    """

    function = staticmethod(gce_loss)

    def __init__(self, q: float = 0.7, *, ignore_index: int = IGNORED, reduction: str = "mean") -> None:
        check_q(q)
        super().__init__(ignore_index=ignore_index, reduction=reduction, q=q)


def truncated_gce_loss(
    logits: Tensor,
    target: Tensor,
    q: float = 0.7,
    k: float = 0.5,
    *,
    weight: Tensor | None = None,
    ignore_index: int = IGNORED,
    reduction: str = "mean",
) -> Tensor:
    r"""GCE cut off at :math:`p_y = k`: samples that are less probable have a constant loss and no gradient.

    Args:
        logits: Class scores, [B, C].
        target: Class indices, integer [B]; or distributions over the classes, floating point [B, C],
            for which it is the expected loss.
        q: As for :func:`gce_loss`.
        k: The probability at which it is cut off, in [0, 1).
        weight: One weight a sample, [B].
        ignore_index: The label of a sample that does not count.
        reduction: "mean" over the samples that count, "sum", or "none".

    Returns:
        The loss: a scalar, or [B] for "none".

    Raises:
        InputError: Wrong shapes, dtypes, labels or settings.

    References:
        Zhang, Sabuncu, arXiv 1805.07836, eq. 8.

    Example:
        >>> f, y = torch.tensor([[2.0, 1.0, 0.0]]), torch.tensor([1])
        >>> truncated_gce_loss(f, y)
        tensor(0.5492)
    """
    check_q(q)
    _check_k(k)
    batch = check_batch(logits, target, weight=weight, ignore_index=ignore_index, reduction=reduction, soft=True)
    cut = (1.0 - k**q) / q
    return batch.reduce(batch.expect(lambda log_p: gce(log_p, q).clamp_max(cut)))


class TruncatedGCELoss(ClassificationLoss):
    """Truncated GCE as a module, which may remember which samples it has pruned: see :func:`truncated_gce_loss`.

    The authors prune now and then instead of in every step: :meth:`prune` sets a mask, a sample that is masked has the
    constant loss until the next pruning, and the others have the plain GCE.

    Args:
        q: As for :func:`gce_loss`.
        k: The probability at which it is cut off, in [0, 1).
        num_samples: Size of the training set, to remember; by default every step prunes for itself.
        ignore_index: The label of a sample that does not count.
        reduction: "mean" over the samples that count, "sum", or "none".

    Attributes:
        state: ``state.kept``, float32 [num_samples], 1 or 0; None where nothing is remembered.

    Example:
        >>> f, y = torch.tensor([[2.0, 1.0, 0.0]]), torch.tensor([1])
        >>> TruncatedGCELoss()(f, y)
        tensor(0.5492)
        >>> loss, index = TruncatedGCELoss(num_samples=10), torch.tensor([3])
        >>> before = loss(f, y, index=index)
        >>> loss.prune(f, y, index=index)
        >>> before, loss(f, y, index=index)
        (tensor(0.8953), tensor(0.5492))
    """

    function = staticmethod(truncated_gce_loss)

    def __init__(
        self,
        q: float = 0.7,
        k: float = 0.5,
        num_samples: int | None = None,
        *,
        ignore_index: int = IGNORED,
        reduction: str = "mean",
    ) -> None:
        check_q(q)
        _check_k(k)
        super().__init__(ignore_index=ignore_index, reduction=reduction, q=q, k=k)
        self.state = None if num_samples is None else SampleState(num_samples, kept=1.0)

    def forward(
        self, logits: Tensor, target: Tensor, *, index: Tensor | None = None, weight: Tensor | None = None
    ) -> Tensor:
        """Compute the loss: see :class:`ClassificationLoss`; ``index`` is needed where samples are remembered."""
        if self.state is None:
            return super().forward(logits, target, weight=weight)
        batch = self._check(logits, target, weight)
        kept = self.state.read(self.state.check(index, len(logits)))["kept"] > 0
        q, k = self.settings["q"], self.settings["k"]
        return batch.reduce(torch.where(kept, batch.expect(lambda log_p: gce(log_p, q)), (1.0 - k**q) / q))

    @torch.no_grad()
    def prune(self, logits: Tensor, target: Tensor, *, index: Tensor) -> None:
        """Decide which of these samples are kept, :math:`p_y > k`, until they are pruned again.

        Args:
            logits: Class scores, [B, C].
            target: Class indices, integer [B].
            index: Places in the training set, integer [B].
        """
        if self.state is None:
            raise InputError("this loss remembers no samples: make it with num_samples=size of the training set")
        batch = self._check(logits, target, None)
        own = batch.expect(torch.exp)
        kept = torch.where(own.isfinite(), (own > self.settings["k"]).float(), torch.nan)
        self.state.write(self.state.check(index, len(logits)), counted=batch.counted, kept=kept)

    def state_for(self, index: Tensor) -> dict[str, Tensor]:
        """Which of some samples are kept: ``{"kept": float32 [B]}`` for integer places [B]."""
        if self.state is None:
            raise InputError("this loss remembers no samples: make it with num_samples=size of the training set")
        return self.state.read(self.state.check(index, len(index)))

    def _check(self, logits: Tensor, target: Tensor, weight: Tensor | None) -> Batch:
        return check_batch(logits, target, weight=weight, ignore_index=self.ignore_index, reduction=self.reduction)


def gce(log_p: Tensor, q: float) -> Tensor:
    """(1 - p^q) / q from log p: no power, whose gradient at p = 0 is infinite."""
    return expm1(q * log_p) / -q


def check_q(q: float) -> None:
    if not 0 < q <= 1:
        raise InputError(f"q is {q}, but it must lie in (0, 1]: cross-entropy is the limit at 0")


def _check_k(k: float) -> None:
    if not 0 <= k < 1:
        raise InputError(f"k is {k}, but it is a probability: it must lie in [0, 1)")

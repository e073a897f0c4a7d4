"""The SDM activation: a softmax whose base grows with the similarity to the training data, and shrinks with distance.

``q`` counts the nearest training neighbours that speak for the prediction, ``d`` says how near the nearest one is;
``nn/sdm.py`` measures both. Here is only what is made of them: the activation, and its negative log-likelihood.
"""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor, nn

from robustvision.core.errors import InputError
from robustvision.core.losses.batch import check_batch
from robustvision.core.losses.labels import IGNORED, check_reduction, check_scores
from robustvision.core.losses.sample_state import SampleState

SOFTMAX_Q = math.e - 2.0
"""The q at which the base 2 + q is e; with d = 1 the activation is then the softmax."""


def sdm(logits: Tensor, q: Tensor, d: Tensor) -> Tensor:
    r"""The SDM activation, :math:`p_i = (2+q)^{d z_i} / \sum_c (2+q)^{d z_c}`.

    Computed as :math:`\mathrm{softmax}(d z \log(2+q))`, so nothing overflows. For d > 0 the order of the classes is
    that of the logits; d = 0 gives the uniform distribution, q = e - 2 with d = 1 the softmax.

    Args:
        logits: z, floating point [B, C].
        q: Similarity of every sample, [B], at least 0; a number of neighbours, but any real number will do.
        d: Distance quantile of every sample, [B], in [0, 1]; 1 is near.

    Returns:
        Probabilities [B, C], float32 or float64.

    Raises:
        InputError: Wrong shapes or dtypes, or (read on a CPU only) q or d out of range.

    References:
        Schmaltz, "Similarity-Distance-Magnitude Universal Verification", arXiv 2502.20167.

    Example:
        >>> sdm(torch.tensor([[2.0, 1.0, 0.0]]), torch.tensor([0.0]), torch.tensor([1.0]))
        tensor([[0.5714, 0.2857, 0.1429]])
    """
    return _scaled(logits, q, d).softmax(1)


def sdm_loss(
    logits: Tensor,
    target: Tensor,
    q: Tensor,
    d: Tensor,
    *,
    weight: Tensor | None = None,
    ignore_index: int = IGNORED,
    reduction: str = "mean",
) -> Tensor:
    r"""Negative log-likelihood of the SDM activation in its own base, :math:`L = -\log_{2+q} p_y`.

    That is :math:`\log\sum_c (2+q)^{d z_c} / \log(2+q) - d z_y`: a sample with many neighbours has a sharper
    distribution, not a larger gradient. A sample with d = 0 has no gradient.

    Args:
        logits: z, floating point [B, C].
        target: Class indices, integer [B].
        q: Similarity of every sample, [B], at least 0.
        d: Distance quantile of every sample, [B], in [0, 1].
        weight: One weight a sample, [B].
        ignore_index: The label of a sample that does not count.
        reduction: "mean" over the samples that count, "sum", or "none".

    Returns:
        The loss: a scalar, or [B] for "none".

    Raises:
        InputError: Wrong shapes, dtypes, labels, weights or reduction, or q or d out of range.

    References:
        arXiv 2502.20167. The authors' code raises to a power and adds float32's epsilon inside the logarithm, which
        bounds the loss of an improbable class near log(1.2e-7) / log(2+q); this one does not saturate.

    Example:
        >>> sdm_loss(torch.tensor([[2.0, 1.0, 0.0]]), torch.tensor([0]), torch.tensor([0.0]), torch.tensor([1.0]))
        tensor(0.8074)
    """
    batch = check_batch(logits, target, weight=weight, ignore_index=ignore_index, reduction=reduction)
    log_base = torch.log(2.0 + q.to(batch.logits.dtype))
    losses = -batch.own(_scaled(batch.logits, q, d).log_softmax(1)) / log_base
    return batch.reduce(losses)


class SDMLoss(nn.Module):
    """The SDM loss with the q and d of every training sample: see :func:`sdm_loss`.

    They begin as the softmax's (q = e - 2, d = 1) and are set anew after every epoch, from the layer as it is then.

    Args:
        num_samples: N, the size of the training set.
        ignore_index: The label of a sample that does not count.
        reduction: "mean", "sum" or "none".

    Attributes:
        state: q and d of every sample, float32 [N] each, as buffers.

    Raises:
        InputError: N below 1, or an unknown reduction.

    Example:
        >>> loss = SDMLoss(num_samples=4)
        >>> logits, labels, ids = torch.tensor([[2.0, 1.0, 0.0]]), torch.tensor([0]), torch.tensor([3])
        >>> loss(logits, labels, index=ids)  # the first epoch: cross-entropy
        tensor(0.4076)
        >>> loss.set_state(q=torch.full((4,), 10.0), d=torch.full((4,), 0.5))
        >>> loss(logits, labels, index=ids)
        tensor(0.1273)
    """

    remembers_samples: ClassVar[bool] = True

    def __init__(self, num_samples: int, *, ignore_index: int = IGNORED, reduction: str = "mean") -> None:
        super().__init__()
        check_reduction(reduction)
        self.ignore_index, self.reduction = ignore_index, reduction
        self.state = SampleState(num_samples, q=SOFTMAX_Q, d=1.0)

    def forward(
        self, logits: Tensor, target: Tensor, *, index: Tensor | None = None, weight: Tensor | None = None
    ) -> Tensor:
        """Logits [B, C], labels [B] and the samples' places in the training set, integer [B], to the loss."""
        state = self.state_for(self.state.check(index, len(logits)))
        return sdm_loss(
            logits, target, **state, weight=weight, ignore_index=self.ignore_index, reduction=self.reduction
        )

    def state_for(self, index: Tensor) -> dict[str, Tensor]:
        """Return ``q`` and ``d`` of the samples at some places, [B] each."""
        return self.state.read(index)

    @torch.no_grad()
    def set_state(self, q: Tensor, d: Tensor) -> None:
        """Set q and d of all samples, [N] each; every process must set the same.

        Raises:
            InputError: Another length, or values out of range.
        """
        check_similarity_and_distance(q, d, self.state.num_samples)
        self.state.get_buffer("q").copy_(q)
        self.state.get_buffer("d").copy_(d)
        self.state.visited.fill_(True)


def check_similarity_and_distance(q: Tensor, d: Tensor, batch: int) -> None:
    """Refuse q and d that are not one each a sample, or (read on a CPU only) out of range.

    Raises:
        InputError: Another shape, q below 0, d outside of [0, 1], or NaN.
    """
    for name, values in (("q", q), ("d", d)):
        if values.shape != (batch,):
            raise InputError(f"{name} has shape {list(values.shape)}, but one for each of {batch} samples is expected")
    if batch == 0 or torch.compiler.is_compiling() or q.device.type != "cpu" or d.device.type != "cpu":
        return
    if not bool((q >= 0).all()):
        raise InputError(f"q holds {float(q.min())}, but a similarity is at least 0: it is a number of neighbours")
    if not bool(((d >= 0) & (d <= 1)).all()):
        raise InputError(
            f"d runs from {float(d.min())} to {float(d.max())}, but a distance quantile lies in [0, 1], 1 being near"
        )


def _scaled(logits: Tensor, q: Tensor, d: Tensor) -> Tensor:
    """The logits as a softmax takes them, d z log(2 + q)."""
    check_scores(logits)
    check_similarity_and_distance(q, d, logits.shape[0])
    dtype = torch.promote_types(logits.dtype, torch.float32)
    factor = d.to(dtype) * torch.log(2.0 + q.to(dtype))
    return logits.to(dtype) * factor[:, None]

"""ALDR-KL: LDR-KL with a temperature for every training sample, found from how sure its prediction is."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from robustvision.core.errors import InputError
from robustvision.core.losses.batch import Batch, ClassificationLoss, check_batch, check_number, label_margins
from robustvision.core.losses.dro import kl_dro
from robustvision.core.losses.labels import IGNORED, in_float32_at_least
from robustvision.core.losses.ldr import (
    Normalization,
    check_normalization,
    kl_from_uniform,
    ldr_rows,
    normalize_logits,
    scaled_outputs,
)
from robustvision.core.losses.rows import map_rows, reduce_rows
from robustvision.core.losses.sample_state import SampleState

SMOOTHING = 1e-5
"""What the official update adds to every probability before it takes their KL."""

FIXED_POINT_STEPS = 60


def aldr_loss(
    logits: Tensor,
    target: Tensor,
    lam: Tensor,
    lam0: float = 10.0,
    alpha: float = 2.0,
    margin: float = 0.1,
    normalize: Normalization = "l1",
    *,
    weight: Tensor | None = None,
    ignore_index: int = IGNORED,
    reduction: str = "mean",
) -> Tensor:
    r"""ALDR-KL at given temperatures: :math:`\psi_i(\lambda_i) - \frac{a}{2}(\lambda_i - \lambda_0)^2`.

    With :math:`\psi_i` the LDR-KL loss and :math:`a = \alpha\log C/\lambda_0`. No gradient goes through lam, which
    :func:`aldr_temperature` finds.

    Args:
        logits: Class scores f, [B, C], C at least 2.
        target: Class indices, integer [B].
        lam: The temperature of each sample, [B].
        lam0: The largest temperature.
        alpha: How far the temperatures may fall, above 1: to lam0 (1 - 1/alpha).
        margin: c.
        normalize: See :func:`normalize_logits`; the official loss takes "l1".
        weight: One weight a sample, [B].
        ignore_index: The label of a sample that does not count.
        reduction: "mean" over the samples that count, "sum", or "none".

    Returns:
        The loss: a scalar, or [B] for "none".

    Raises:
        InputError: Wrong shapes, dtypes, labels or settings.

    References:
        Zhu et al., arXiv 2112.14869.

    Example:
        >>> f, y = torch.tensor([[2.0, 1.0, 0.0]]), torch.tensor([1])
        >>> aldr_loss(f, y, aldr_temperature(f, lam0=1.0), lam0=1.0)
        tensor(0.4070)
    """
    _check_aldr(lam0, alpha, normalize)
    batch = check_batch(logits, target, weight=weight, ignore_index=ignore_index, reduction=reduction, least_classes=2)
    return _aldr_of(batch, lam, lam0, alpha, margin, normalize)


@torch.no_grad()
def aldr_temperature(
    logits: Tensor,
    lam: float | Tensor | None = None,
    lam0: float = 10.0,
    alpha: float = 2.0,
    normalize: Normalization = "l1",
) -> Tensor:
    r"""One step of the official update, :math:`\lambda_i = \lambda_0\,(1 - \mathrm{KL}(q_i, 1/C)/(\alpha\log C))`.

    q is the softmax of the normalised outputs at the last temperature, with 1e-5 added to every entry. The margin is
    not part of it (that is so in the official code; :func:`aldr_fixed_point` has it).

    Args:
        logits: Class scores, [B, C], C at least 2.
        lam: The last temperature of each sample, [B]; lam0 where None.
        lam0: The largest temperature.
        alpha: As for :func:`aldr_loss`.
        normalize: See :func:`normalize_logits`.

    Returns:
        The temperatures, [B], in [lam0 (1 - 1/alpha), lam0]: near lam0 where the prediction is unsure.

    Example:
        >>> aldr_temperature(torch.tensor([[2.0, 1.0, 0.0], [1.0, 1.0, 1.0]]), lam0=1.0)
        tensor([0.8788, 1.0000])
    """
    _check_aldr(lam0, alpha, normalize)
    logits = in_float32_at_least(logits)
    last = torch.full_like(logits[:, 0], lam0) if lam is None else torch.as_tensor(lam).to(logits).expand(len(logits))
    classes = logits.shape[1]

    def divergence(rows: Tensor, last: Tensor) -> Tensor:
        q = scaled_outputs(rows, last, normalize).softmax(1).add_(SMOOTHING)
        mass = 1.0 + classes * SMOOTHING
        return q.log().mul_(q).sum(1) / mass + math.log(classes / mass)

    return _temperature_at(map_rows(divergence, logits, last), lam0, alpha, classes)


@torch.no_grad()
def aldr_fixed_point(
    logits: Tensor,
    target: Tensor,
    lam0: float = 10.0,
    alpha: float = 2.0,
    margin: float = 0.1,
    normalize: Normalization = "l1",
) -> Tensor:
    """The temperature that ALDR-KL's definition asks for: the maximum over lam, margin included.

    The stationary points are the fixed points of a rising map of [lam0 (1 - 1/alpha), lam0] into itself. Iteration from
    above comes to the largest of them, from below to the smallest; the better one is taken.

    Args:
        logits: Class scores, [B, C], C at least 2.
        target: Class indices, integer [B], all of them classes.
        lam0: The largest temperature.
        alpha: As for :func:`aldr_loss`.
        margin: c.
        normalize: See :func:`normalize_logits`.

    Returns:
        The temperatures, [B].

    Example:
        >>> aldr_fixed_point(torch.tensor([[2.0, 1.0, 0.0]]), torch.tensor([1]), lam0=1.0)
        tensor([0.8291])
    """
    _check_aldr(lam0, alpha, normalize)
    outputs = normalize_logits(in_float32_at_least(logits), normalize)
    margins = label_margins(outputs, target, margin)
    classes = logits.shape[1]
    curvature = alpha * math.log(classes) / lam0
    low, high = (torch.full_like(margins[:, 0], lam0 * share) for share in (1.0 - 1.0 / alpha, 1.0))
    for _ in range(FIXED_POINT_STEPS):
        before = torch.stack([low, high])
        low, high = (
            _temperature_at(kl_from_uniform(kl_dro(margins, lam).weights), lam0, alpha, classes) for lam in (low, high)
        )
        moved = (torch.stack([low, high]) - before).abs()
        if not torch.compiler.is_compiling() and bool((moved <= 4 * torch.finfo(moved.dtype).eps * lam0).all()):
            break
    at_low, at_high = (kl_dro(margins, lam).value - 0.5 * curvature * (lam - lam0).square() for lam in (low, high))
    return torch.where(at_low > at_high, low, high)


class ALDRLoss(ClassificationLoss):
    """ALDR-KL with a temperature of its own for every training sample.

    In training each call moves the temperatures of its samples by one step (:func:`aldr_temperature`) and stores them;
    ignored samples and NaN leave them as they were. In evaluation they stay, and without ``index`` the step is taken
    from lam0.

    Args:
        num_samples: Size of the training set; not needed if ``exact``.
        lam0: The largest temperature; the authors search 0.1, 1 and 10. At 10 with "l1" the temperatures hardly move.
        alpha: How far they may fall, above 1: to lam0 (1 - 1/alpha).
        margin: c.
        normalize: See :func:`normalize_logits`; "l1" is the official one.
        exact: Solve for the temperature in every call (:func:`aldr_fixed_point`); then nothing is remembered.
        ignore_index: The label of a sample that does not count.
        reduction: "mean" over the samples that count, "sum", or "none".

    Attributes:
        state: The temperatures, ``state.lam``, float32 [num_samples]; part of a checkpoint. None if ``exact``.

    Raises:
        InputError: Settings out of range, or neither ``num_samples`` nor ``exact``.

    Example:
        >>> loss = ALDRLoss(num_samples=100, lam0=1.0)
        >>> loss(torch.tensor([[2.0, 1.0, 0.0]]), torch.tensor([1]), index=torch.tensor([42]))
        tensor(0.4070)
        >>> loss.state_for(torch.tensor([42, 43]))
        {'lam': tensor([0.8788, 1.0000])}
    """

    function = staticmethod(aldr_loss)
    remembers_samples = True

    def __init__(
        self,
        num_samples: int | None = None,
        lam0: float = 10.0,
        alpha: float = 2.0,
        margin: float = 0.1,
        normalize: Normalization = "l1",
        *,
        exact: bool = False,
        ignore_index: int = IGNORED,
        reduction: str = "mean",
    ) -> None:
        _check_aldr(lam0, alpha, normalize)
        super().__init__(
            ignore_index=ignore_index,
            reduction=reduction,
            lam0=lam0,
            alpha=alpha,
            margin=margin,
            normalize=normalize,
        )
        self.exact = exact
        if not exact and num_samples is None:
            raise InputError(
                "ALDRLoss remembers every sample: pass num_samples=size of the training set, or exact=True"
            )
        self.state = None if exact or num_samples is None else SampleState(num_samples, lam=lam0)

    def forward(
        self, logits: Tensor, target: Tensor, *, index: Tensor | None = None, weight: Tensor | None = None
    ) -> Tensor:
        """Compute the loss: see :class:`ClassificationLoss`; in training ``index`` is needed, unless ``exact``."""
        # Checked before the temperatures move: a batch that is refused leaves no trace.
        batch = check_batch(
            logits,
            target,
            weight=weight,
            ignore_index=self.ignore_index,
            reduction=self.reduction,
            least_classes=2,
        )
        lam = self._temperatures(batch.logits.detach(), batch.target, batch.counted, index)
        return _aldr_of(batch, lam, **self.settings)

    def _temperatures(self, logits: Tensor, target: Tensor, counted: Tensor | None, index: Tensor | None) -> Tensor:
        shape = {name: self.settings[name] for name in ("lam0", "alpha", "normalize")}
        if self.state is None:
            return aldr_fixed_point(logits, target, margin=self.settings["margin"], **shape)
        if index is None and not self.training:
            return aldr_temperature(logits, **shape)
        index = self.state.check(index, len(logits))
        lam = aldr_temperature(logits, self.state.read(index)["lam"], **shape)
        if self.training:
            self.state.write(index, counted=counted, lam=lam)
        return lam

    def state_for(self, index: Tensor) -> dict[str, Tensor]:
        """The temperatures of some samples: ``{"lam": float32 [B]}`` for integer places [B]."""
        if self.state is None:
            raise InputError("an exact ALDRLoss remembers no sample: make it with num_samples=... and exact=False")
        return self.state.read(self.state.check(index, len(index)))


def _aldr_of(batch: Batch, lam: Tensor, lam0: float, alpha: float, margin: float, normalize: Normalization) -> Tensor:
    half_curvature = 0.5 * alpha * math.log(batch.logits.shape[1]) / lam0

    def rows(logits: Tensor, target: Tensor, lam: Tensor) -> tuple[Tensor, Tensor]:
        losses, gradient = ldr_rows(logits, target, lam, margin, normalize)
        return losses - half_curvature * (lam - lam0).square(), gradient

    return reduce_rows(rows, batch, lam.detach().to(batch.logits.dtype))


def _temperature_at(divergence: Tensor, lam0: float, alpha: float, classes: int) -> Tensor:
    return lam0 * (1.0 - divergence / (alpha * math.log(classes)))


def _check_aldr(lam0: float, alpha: float, normalize: str) -> None:
    check_normalization(normalize)
    check_number("lam0", lam0, above=0.0)
    check_number("alpha", alpha, above=1.0)

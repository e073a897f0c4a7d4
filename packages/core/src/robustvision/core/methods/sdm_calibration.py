"""Calibration of the SDM layer: from logits, q and d to a lower probability, and to whether it is admitted.

Four steps, each over the calibration set and each small enough to read on its own: the rank of every class's output
among the outputs of that class (v), a rescaling of the ranks (W'' v) in the base 2 + q~, a Dvoretzky-Kiefer-Wolfowitz
band around the ranks from the effective sample size, and the thresholds beyond which predictions are admitted.
"""

from __future__ import annotations

import copy
import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from robustvision.core.errors import InputError
from robustvision.core.losses.sdm_activation import sdm, sdm_loss
from robustvision.core.methods.sdm_admission import admission_thresholds, check_alpha, dkw_band
from robustvision.core.nn.class_ecdf import ClassECDF

TIE = 1e-5
"""Log-odds this close are the same: at d = 0 all outputs are uniform, and rounding must not order them."""

PATIENCE = 10
"""The rescaling's training ends after more than so many epochs in a row that were worse than the best."""


class SDMEstimate(NamedTuple):
    """What the calibration says about a batch.

    Attributes:
        q: q~, the rescaled similarity, [B]; 0 where the rescaled output disagrees with the prediction.
        probabilities: The rescaled output o, [B, K].
        q_lower: q~ at the lower end of the band, [B].
        lower: The lower estimate of the predicted class's probability, [B].
        admitted: Bool [B].
    """

    q: Tensor
    probabilities: Tensor
    q_lower: Tensor
    lower: Tensor
    admitted: Tensor


class SDMCalibration(nn.Module):
    """What was learned from the calibration set. :func:`calibrate_sdm` makes it.

    Args:
        num_classes: K.
        alpha: alpha', the accuracy that admitted predictions shall have, above 1/2.
        cap: The highest q of the layer.

    Attributes:
        magnitudes: Log-odds of the SDM output of every calibration point's true class.
        rescale: W'', [K, K].
        similarities: q~ of the calibration points by true class.
        q_min: Admitted predictions have at least this q~ at the lower end; infinity where no threshold was found.
        thresholds: psi, [K].
        offsets: m, what is taken off the lower probability by predicted class and floor(q~), [K, bins].

    Raises:
        InputError: alpha out of range.
    """

    q_min: Tensor
    thresholds: Tensor
    offsets: Tensor

    def __init__(self, num_classes: int, alpha: float = 0.95, cap: int = 1000) -> None:
        super().__init__()
        check_alpha(alpha)
        self.alpha = alpha
        self.magnitudes = ClassECDF(num_classes)
        self.similarities = ClassECDF(num_classes)
        self.rescale = nn.Linear(num_classes, num_classes, bias=False)
        self.register_buffer("q_min", torch.tensor(torch.inf))
        self.register_buffer("thresholds", torch.zeros(num_classes))
        self.register_buffer("offsets", torch.zeros(num_classes, math.floor(math.log(2 + cap)) + 1))

    def ranks(self, logits: Tensor, q: Tensor, d: Tensor) -> Tensor:
        """v: the share of calibration points of each class whose SDM output for that class is smaller, [B, K]."""
        return self.magnitudes.share(log_odds(logits, q, d) - TIE)

    def rescaled(self, v: Tensor, prediction: Tensor, q: Tensor) -> tuple[Tensor, Tensor]:
        """Ranks [B, K], one-hot predictions bool [B, K] and q [B] to q~ [B] and the output o [B, K]."""
        q_rescaled = (v * prediction).sum(1) * torch.log(2.0 + q)
        return q_rescaled, sdm(self.rescale(v), q_rescaled, torch.ones_like(q))

    def agreed(self, v: Tensor, prediction: Tensor, q: Tensor) -> tuple[Tensor, Tensor]:
        """As :meth:`rescaled`, with q~ = 0 where the output does not choose the predicted class."""
        q_rescaled, probabilities = self.rescaled(v, prediction, q)
        agrees = (one_hot(probabilities) & prediction).any(1)
        return q_rescaled * agrees, probabilities

    def forward(self, logits: Tensor, q: Tensor, d: Tensor) -> SDMEstimate:
        """Logits [B, K], q [B] and d [B] to the estimates and the admission."""
        prediction = one_hot(logits)
        q = similarity_that_counts(q, d)
        v = self.ranks(logits, q, d)
        q_rescaled, probabilities = self.agreed(v, prediction, q)
        band = dkw_band(self.similarities.smaller(q_rescaled), self.alpha)
        v_lower = torch.where(prediction, v - band, v + band).clamp(0.0, 1.0)
        q_lower, p_lower = self.agreed(v_lower, prediction, q)
        p_lower = (p_lower - prediction * self._offset(prediction, q_lower)[:, None]).clamp_min(0.0)
        over = p_lower >= self.thresholds
        only = (over == prediction).all(1)  # the predicted class is over its threshold, and no other
        admitted = only & (q_lower >= self.q_min) & (q_lower >= 1.0)
        return SDMEstimate(q_rescaled, probabilities, q_lower, (p_lower * prediction).sum(1), admitted)

    def _offset(self, prediction: Tensor, q_lower: Tensor) -> Tensor:
        """m of each sample, [B]."""
        offsets = (prediction[:, :, None] * self.offsets).sum(1)
        bins = q_lower[:, None].floor() == torch.arange(self.offsets.shape[1], device=q_lower.device)
        return (offsets * bins).sum(1)

    def extra_repr(self) -> str:
        return f"alpha={self.alpha}"


def calibrate_sdm(
    logits: Tensor,
    q: Tensor,
    d: Tensor,
    labels: Tensor,
    *,
    alpha: float = 0.95,
    cap: int = 1000,
    epochs: int = 1000,
    batch_size: int = 1,
    learning_rate: float = 1e-4,
    seed: int = 0,
) -> SDMCalibration:
    """Calibrate on points that the layer was not trained with.

    Args:
        logits: [n, K], of the calibration set.
        q: Similarities, [n].
        d: Distance quantiles, [n].
        labels: True classes, int64 [n].
        alpha: alpha'.
        cap: The highest q of the layer.
        epochs: At most so many over W''; it ends earlier, see ``PATIENCE``.
        batch_size: The paper takes 1; larger batches want a larger learning rate.
        learning_rate: Of Adam.
        seed: Of the start values of W'' and of the order of the samples.

    Returns:
        The calibration, with the thresholds of this one run and no offsets.

    Raises:
        InputError: alpha out of range, or no calibration point.

    References:
        arXiv 2502.20167. The ranks are taken of log-odds, a strictly growing function of the outputs: the same ranks in
        exact arithmetic, where the outputs themselves saturate at 1 and tie.
    """
    if len(labels) == 0:
        raise InputError("the calibration set is empty: hold out points that the layer is not trained with")
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        calibration = SDMCalibration(logits.shape[1], alpha, cap).to(logits)
        prediction, q = one_hot(logits), similarity_that_counts(q, d)
        own = log_odds(logits, q, d).gather(1, labels[:, None]).squeeze(1)
        calibration.magnitudes.fit(own, labels)
        v = calibration.ranks(logits, q, d)
        _train_rescaling(calibration, v, prediction, q, labels, epochs, batch_size, learning_rate)
    with torch.no_grad():
        q_rescaled, probabilities = calibration.rescaled(v, prediction, q)
        calibration.similarities.fit(q_rescaled, labels)
        agreed = calibration.agreed(v, prediction, q)[0]
        q_min, thresholds = admission_thresholds(probabilities, agreed, labels, alpha)
    calibration.q_min.fill_(q_min)
    calibration.thresholds.copy_(thresholds)
    return calibration


def log_odds(logits: Tensor, q: Tensor, d: Tensor) -> Tensor:
    """Log-odds of every class under the SDM activation, [B, K]: log p - log(1 - p), where p itself would saturate."""
    scaled = logits * (d * torch.log(2.0 + q))[:, None]
    classes = logits.shape[1]
    others = scaled[:, None, :].masked_fill(torch.eye(classes, dtype=torch.bool, device=logits.device), -torch.inf)
    return scaled - others.logsumexp(2)


def similarity_that_counts(q: Tensor, d: Tensor) -> Tensor:
    """q, but 0 where d is 0: the output is uniform there, and no neighbour speaks for any class.

    The authors' code compares the argmax of the uniform output, class 0, with the prediction and so keeps q for that
    class alone.
    """
    return q * (d > 0)


def one_hot(scores: Tensor) -> Tensor:
    """The class with the highest score, bool [B, K]."""
    return scores.argmax(1, keepdim=True) == torch.arange(scores.shape[1], device=scores.device)


def _train_rescaling(
    calibration: SDMCalibration,
    v: Tensor,
    prediction: Tensor,
    q: Tensor,
    labels: Tensor,
    epochs: int,
    batch_size: int,
    learning_rate: float,
) -> None:
    """Train W'' with the SDM loss in the base 2 + q~ and keep the epoch of the smallest mean loss."""
    layer = calibration.rescale
    q_rescaled = calibration.rescaled(v, prediction, q)[0].detach()
    near = torch.ones_like(q)
    optimizer = torch.optim.Adam(layer.parameters(), lr=learning_rate)
    best, best_loss, worse = copy.deepcopy(layer.state_dict()), math.inf, 0
    for _ in range(epochs):
        total = 0.0
        for rows in torch.randperm(len(labels)).to(labels.device).split(batch_size):
            loss = sdm_loss(layer(v[rows]), labels[rows], q_rescaled[rows], near[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += float(loss.detach()) * len(rows)
        if total < best_loss:
            best, best_loss, worse = copy.deepcopy(layer.state_dict()), total, 0
        else:
            worse += 1
            if worse > PATIENCE:
                break
    layer.load_state_dict(best)
    layer.requires_grad_(False)

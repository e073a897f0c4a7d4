"""The statistics of SDM admission: the band from the sample size, the thresholds, the spread over runs, the check.

Functions of plain tensors; ``sdm_calibration`` puts them together.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from robustvision.core.errors import InputError
from robustvision.core.nn.class_ecdf import ClassECDF


def check_alpha(alpha: float) -> None:
    """Refuse an alpha' that is no accuracy to ask for.

    Raises:
        InputError: alpha out of (0.5, 1).
    """
    if not 0.5 < alpha < 1.0:
        raise InputError(f"alpha is {alpha}, but it is the accuracy asked for: above 0.5, below 1")


def dkw_band(counts: Tensor, alpha: float = 0.95) -> Tensor:
    r"""Half-width of the Dvoretzky-Kiefer-Wolfowitz band, :math:`\sqrt{\log(2/(1-\alpha')) / (2 n)}`; 1 for n = 0.

    Args:
        counts: n, effective sample sizes, any shape.
        alpha: alpha', the coverage.

    Returns:
        The half-widths, in the shape of the counts.

    Example:
        >>> dkw_band(torch.tensor([0.0, 100.0]))
        tensor([1.0000, 0.1358])
    """
    band = torch.sqrt(math.log(2.0 / (1.0 - alpha)) / (2.0 * counts.clamp_min(1)))
    return torch.where(counts > 0, band, 1.0)


def cauchy_offset(values: Sequence[float], alpha: float = 0.95) -> float:
    """How far a value may lie from its centre: the alpha quantile of a Cauchy of the scale of the values' MAD.

    Args:
        values: The same statistic of every run.
        alpha: The quantile.

    Returns:
        The offset; 0 for one run, and where the spread is not finite (a run that found no threshold has infinity).

    Example:
        >>> round(cauchy_offset([1.0, 2.0, 4.0]), 4)  # MAD 1
        6.3138
    """
    sample = torch.tensor(values, dtype=torch.float64)
    deviation = float((sample - sample.quantile(0.5)).abs().quantile(0.5)) if len(sample) else 0.0
    return deviation * math.tan(math.pi * (alpha - 0.5)) if math.isfinite(deviation) else 0.0


def admission_thresholds(probabilities: Tensor, q: Tensor, labels: Tensor, alpha: float) -> tuple[float, Tensor]:
    """Find the smallest q~ beyond which the output of every true class is at least alpha' for a share of alpha'.

    Points with floor(q~) = 0 count as out of distribution and are left out. psi_c is the (1 - alpha') quantile of the
    outputs of true class c among the rest; all must be at least alpha', and a class without points has none.

    Args:
        probabilities: Rescaled outputs, [n, K].
        q: q~, [n]; 0 where the output disagrees with the prediction.
        labels: True classes, int64 [n].
        alpha: alpha'.

    Returns:
        q_min and psi [K]; infinity and zeros where there is no such q~, so that nothing is admitted.
    """
    classes = probabilities.shape[1]
    own = probabilities.gather(1, labels[:, None]).squeeze(1)
    candidates = q[q >= 1.0].unique()  # ascending
    counts, small = ClassECDF(classes), ClassECDF(classes)
    counts.fit(q, labels)
    small.fit(q[own < alpha], labels[own < alpha])
    n = counts.counts - counts.smaller(candidates)
    below = small.counts - small.smaller(candidates)
    # psi_c >= alpha' exactly where no more outputs lie below alpha' than the quantile's place
    fulfilled = (below <= _place(n, alpha)).all(1)
    if not bool(fulfilled.any()):
        return math.inf, torch.zeros(classes, dtype=probabilities.dtype)
    q_min = candidates[int(fulfilled.int().argmax())]
    kept = q >= q_min
    outputs = [own[kept & (labels == label)].sort().values for label in range(classes)]
    psi = [values[int(_place(torch.tensor(float(len(values))), alpha))] for values in outputs]
    return float(q_min), torch.stack(psi)


def index_conditional_accuracy(
    labels: Tensor, predictions: Tensor, admitted: Tensor, num_classes: int
) -> dict[str, Any]:
    """Accuracy among admitted points: in all, by predicted class and by true class.

    Args:
        labels: True classes, int64 [n].
        predictions: int64 [n].
        admitted: Bool [n].
        num_classes: K.

    Returns:
        ``marginal``, a number, and ``by_prediction`` and ``by_class``, a list of K; NaN where nothing was admitted.
        Index-conditional calibration holds where all of them are at least alpha'.
    """
    labels, predictions = labels[admitted], predictions[admitted]
    right = (labels == predictions).double()

    def by(classes: Tensor) -> list[float]:
        total = torch.bincount(classes, right, minlength=num_classes)
        return (total / torch.bincount(classes, minlength=num_classes)).tolist()

    return {"marginal": float(right.mean()), "by_prediction": by(predictions), "by_class": by(labels)}


def _place(n: Tensor, alpha: float) -> Tensor:
    """Place of the (1 - alpha) quantile among n ascending values; -1 where there are none."""
    return torch.minimum(((1.0 - alpha) * n + 1e-6).floor(), n - 1)

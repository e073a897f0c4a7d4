"""The dynamic hybrid loss: the wave first, the heart rate with more weight as training goes on.

The paper names such a loss and gives neither its terms nor its weights. The terms here are those of the field
(PhysFormer), the schedules are those that are known, and one more; all of it is a reconstruction.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from types import MappingProxyType
from typing import Literal

from torch import Tensor, nn

from robustvision.core.errors import InputError
from robustvision.rppg.losses.band_power import PHYSFORMER_BINS_BPM
from robustvision.rppg.losses.frequency import Outside, frequency_cross_entropy, label_distribution_kl
from robustvision.rppg.losses.pearson import neg_pearson

GROWTH = 5.0


def physformer(epoch: int, epochs: int) -> tuple[float, float]:
    """alpha = 0.1; beta = 5^(epoch / epochs).

    Args:
        epoch: The epoch, from 0.
        epochs: How many there are.

    Returns:
        alpha, the weight of the correlation; beta, the weight of the heart-rate terms.

    References:
        Yu et al., PhysFormer, CVPR 2022, arXiv 2111.12082, equation 8 (whose epochs count from 1).

    Example:
        >>> physformer(0, 10), physformer(5, 10)
        ((0.1, 1.0), (0.1, 2.23606797749979))
    """
    return 0.1, float(GROWTH ** _progress(epoch, epochs))


def rhythmformer_repo(epoch: int, epochs: int) -> tuple[float, float]:
    """alpha = 1; beta = 5^(epoch / 30) up to epoch 30, then 5, however many epochs there are: as RhythmFormer's code.

    Example:
        >>> rhythmformer_repo(15, 100), rhythmformer_repo(60, 100)
        ((1.0, 2.23606797749979), (1.0, 5.0))
    """
    _progress(epoch, epochs)
    return 1.0, float(GROWTH ** min(epoch / 30, 1.0))


def static(epoch: int, epochs: int) -> tuple[float, float]:
    """alpha = beta = 1, the toolbox's schedule for the ten epochs that its own recipe trains.

    Example:
        >>> static(3, 10)
        (1.0, 1.0)
    """
    _progress(epoch, epochs)
    return 1.0, 1.0


def cosine(epoch: int, epochs: int) -> tuple[float, float]:
    """alpha falls from 1 to 0.1 by half a cosine; beta rises from 0.1 to 0.5 geometrically. A design of this project.

    Example:
        >>> [(round(alpha, 3), round(beta, 3)) for alpha, beta in (cosine(0, 10), cosine(5, 10), cosine(10, 10))]
        [(1.0, 0.1), (0.55, 0.224), (0.1, 0.5)]
    """
    progress = _progress(epoch, epochs)
    return 0.55 + 0.45 * math.cos(math.pi * progress), 0.1 * float(GROWTH**progress)


def _progress(epoch: int, epochs: int) -> float:
    if epochs < 1 or epoch < 0:
        raise InputError(f"epoch {epoch} of {epochs}: epochs count from 0, and there is at least one")
    return min(epoch / epochs, 1.0)


Schedule = Callable[[int, int], tuple[float, float]]
SCHEDULES: MappingProxyType[str, Schedule] = MappingProxyType(
    {"physformer": physformer, "rhythmformer_repo": rhythmformer_repo, "static": static, "cosine": cosine}
)
"""Name to schedule: (epoch from 0, epochs) to (alpha, beta)."""


class DynamicHybridLoss(nn.Module):
    r"""Correlation, bin of the heart rate and distribution about it, with weights that change from epoch to epoch.

    :math:`L(e) = \alpha(e) L_{time} + \beta(e) (L_{CE} + L_{KL})`.

    Args:
        fs: Frames a second.
        schedule: A name of ``SCHEDULES``.
        frequency_weight: Multiplies beta; 0 leaves the correlation alone, whatever the schedule.
        sigma_bpm: The width of the distribution.
        bins_bpm: The first and the last heart rate.
        mode: Of the cross-entropy, see :func:`frequency_cross_entropy`.
        outside: What becomes of a heart rate outside the bins.

    Raises:
        InputError: An unknown schedule, or a negative weight.

    References:
        Cen, Fu and Hong, arXiv 2507.07795 (the name); Yu et al., PhysFormer, CVPR 2022, arXiv 2111.12082 (the form).

    Example:
        >>> import torch
        >>> loss = DynamicHybridLoss(fs=30.0, schedule="static")
        >>> wave = torch.sin(2 * torch.pi * 1.2 * torch.arange(300) / 30)[None]
        >>> terms = loss(wave, wave, torch.tensor([72.0]), epoch=0, epochs=10)
        >>> {name: round(float(value), 2) for name, value in terms.items()}
        {'loss': 3.02, 'time': 0.0, 'cross_entropy': 2.2, 'divergence': 0.82}
    """

    def __init__(
        self,
        fs: float = 30.0,
        schedule: str = "physformer",
        *,
        frequency_weight: float = 1.0,
        sigma_bpm: float = 1.0,
        bins_bpm: tuple[int, int] = PHYSFORMER_BINS_BPM,
        mode: Literal["log", "published"] = "log",
        outside: Outside = "refuse",
    ) -> None:
        super().__init__()
        if schedule not in SCHEDULES:
            raise InputError(f"schedule is {schedule!r}: choose from {', '.join(SCHEDULES)}")
        if not 0.0 <= frequency_weight < math.inf:
            raise InputError(f"frequency_weight is {frequency_weight}: it must be a number from 0")
        self.fs, self.schedule, self.frequency_weight = fs, schedule, frequency_weight
        self.sigma_bpm, self.bins_bpm = sigma_bpm, bins_bpm
        self.mode: Literal["log", "published"] = mode
        self.outside: Outside = outside

    def forward(
        self, prediction: Tensor, bvp: Tensor, heart_rate_bpm: Tensor, *, epoch: int, epochs: int
    ) -> dict[str, Tensor]:
        """Weigh the terms of an epoch.

        Args:
            prediction: [B, T].
            bvp: [B, T].
            heart_rate_bpm: [B].
            epoch: The epoch, from 0.
            epochs: How many there are.

        Returns:
            ``loss``, a scalar; and its terms without their weights and without gradient, for the log: ``time``,
            ``cross_entropy`` and ``divergence``.
        """
        alpha, beta = SCHEDULES[self.schedule](epoch, epochs)
        time = neg_pearson(prediction, bvp)
        if not self.frequency_weight:
            return {"loss": time, "time": time.detach()}
        cross_entropy = frequency_cross_entropy(
            prediction, heart_rate_bpm, self.fs, bins_bpm=self.bins_bpm, mode=self.mode, outside=self.outside
        )
        divergence = label_distribution_kl(
            prediction,
            heart_rate_bpm,
            self.fs,
            sigma_bpm=self.sigma_bpm,
            bins_bpm=self.bins_bpm,
            outside=self.outside,
        )
        loss = alpha * time + self.frequency_weight * beta * (cross_entropy + divergence)
        return {
            "loss": loss,
            "time": time.detach(),
            "cross_entropy": cross_entropy.detach(),
            "divergence": divergence.detach(),
        }

    def extra_repr(self) -> str:
        return (
            f"fs={self.fs}, schedule={self.schedule!r}, frequency_weight={self.frequency_weight}, "
            f"sigma_bpm={self.sigma_bpm}, bins_bpm={self.bins_bpm}, mode={self.mode!r}, outside={self.outside!r}"
        )

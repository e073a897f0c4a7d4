"""Is the power of a wave at the heart rate? As a class, and as a distribution."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn

from robustvision.core.errors import InputError
from robustvision.rppg.losses.band_power import PHYSFORMER_BINS_BPM, band_power

Outside = Literal["refuse", "clamp"]
LEAST_DENSITY = 1e-15


def frequency_cross_entropy(
    prediction: Tensor,
    heart_rate_bpm: Tensor,
    fs: float,
    *,
    bins_bpm: tuple[int, int] = PHYSFORMER_BINS_BPM,
    mode: Literal["log", "published"] = "log",
    outside: Outside = "refuse",
) -> Tensor:
    r"""Cross-entropy of the heart rate's bin: :math:`-\log P_h`, with P of :func:`band_power`.

    ``published`` is what PhysFormer and RhythmFormer compute: P is taken for logits, and a softmax is laid over it. It
    never comes below :math:`\log(e + K - 1) - 1` for K bins (3.954 for 140), is :math:`\log K` for a uniform P, and its
    gradient is tens to hundreds of times smaller.

    Args:
        prediction: [B, T].
        heart_rate_bpm: [B], rounded to whole bpm.
        fs: Frames a second.
        bins_bpm: The first and the last heart rate.
        mode: ``log``, or ``published`` for comparison with published numbers.
        outside: A heart rate outside the bins is refused, or moved to the nearest bin.

    Returns:
        The loss, a scalar: the mean over clips.

    Raises:
        InputError: A heart rate that is not finite, or outside the bins; an unknown mode.

    References:
        Yu et al., PhysFormer, CVPR 2022, arXiv 2111.12082; Zou et al., RhythmFormer, arXiv 2402.12788.

    Example:
        >>> t = torch.arange(300) / 30
        >>> wave, rate = torch.sin(2 * torch.pi * 1.2 * t)[None], torch.tensor([72.0])
        >>> frequency_cross_entropy(wave, rate, fs=30.0).round(decimals=2)
        tensor(2.2000)
        >>> frequency_cross_entropy(wave, rate, fs=30.0, mode="published").round(decimals=2)
        tensor(4.8400)
    """
    if mode not in ("log", "published"):
        raise InputError(f"mode is {mode!r}: choose log or published")
    rate = within_bins(heart_rate_bpm, bins_bpm, outside)
    power = band_power(prediction, fs, bins_bpm)
    bin_of_rate = rate.round().long() - bins_bpm[0]
    if mode == "published":
        return nn.functional.cross_entropy(power, bin_of_rate)
    return nn.functional.nll_loss(power.log(), bin_of_rate)


def label_distribution_kl(
    prediction: Tensor,
    heart_rate_bpm: Tensor,
    fs: float,
    *,
    sigma_bpm: float = 1.0,
    bins_bpm: tuple[int, int] = PHYSFORMER_BINS_BPM,
    mode: Literal["log", "toolbox"] = "log",
    outside: Outside = "refuse",
) -> Tensor:
    r"""Divergence of the power from a normal distribution about the heart rate.

    :math:`\sum_b q_b (\log q_b - \log P_b)` with P of :func:`band_power`. q is the density of the normal
    distribution at each bin, not normalised over the bins, and at least 1e-15.

    Args:
        prediction: [B, T].
        heart_rate_bpm: [B].
        fs: Frames a second.
        sigma_bpm: The width of q: 1 in PhysFormer, 3 in RhythmFormer.
        bins_bpm: The first and the last heart rate.
        mode: ``log``; or ``toolbox``, which lays a softmax over P as rPPG-Toolbox's PhysFormer does, a defect that
            leaves the loss nearly constant, for comparison with its numbers.
        outside: A heart rate outside the bins is refused, or moved to the nearest bin.

    Returns:
        The loss, a scalar: the mean over clips.

    Raises:
        InputError: A heart rate that is not finite, or outside the bins; an unknown mode; a width that is not positive.

    References:
        Yu et al., PhysFormer, CVPR 2022, arXiv 2111.12082; Zou et al., RhythmFormer, arXiv 2402.12788.

    Example:
        >>> t = torch.arange(300) / 30
        >>> wave = torch.sin(2 * torch.pi * 1.2 * t)[None]
        >>> right, wrong = torch.tensor([72.0]), torch.tensor([90.0])
        >>> label_distribution_kl(wave, right, fs=30.0) < label_distribution_kl(wave, wrong, fs=30.0)
        tensor(True)
    """
    if mode not in ("log", "toolbox") or not sigma_bpm > 0:
        raise InputError(f"mode is {mode!r} and sigma_bpm {sigma_bpm}: choose log or toolbox, and a positive width")
    rate = within_bins(heart_rate_bpm, bins_bpm, outside)
    power = band_power(prediction, fs, bins_bpm)
    log_power = power.log() if mode == "log" else power.log_softmax(dim=1)
    bins = torch.arange(bins_bpm[0], bins_bpm[1] + 1, device=power.device, dtype=power.dtype)
    z = (bins - rate.to(power.dtype)[:, None]) / sigma_bpm
    density = (torch.exp(-0.5 * z.square()) / (sigma_bpm * math.sqrt(2 * math.pi))).clamp_min(LEAST_DENSITY)
    return (density * (density.log() - log_power)).sum(dim=1).mean()


def within_bins(heart_rate_bpm: Tensor, bins_bpm: tuple[int, int], outside: Outside) -> Tensor:
    """Heart rates [B] that all lie in the bins.

    Raises:
        InputError: One is not finite; or one rounds to a bin that there is not, and is not to be clamped.
    """
    if outside not in ("refuse", "clamp"):
        raise InputError(f"outside is {outside!r}: choose refuse or clamp")
    first, last = bins_bpm
    kept = heart_rate_bpm.clamp(first, last)
    wrong = ~heart_rate_bpm.isfinite() if outside == "clamp" else heart_rate_bpm.round() != kept.round()
    if bool(wrong.any()):
        raise InputError(
            f"a heart rate of {heart_rate_bpm[wrong][0].item():g} bpm, the bins go from {first} to {last}: leave the "
            "clip out, widen bins_bpm, or pass outside='clamp'"
        )
    return kept


class FrequencyCrossEntropy(nn.Module):
    """As a module: see :func:`frequency_cross_entropy`.

    Example:
        >>> FrequencyCrossEntropy(fs=30.0)(torch.zeros(1, 160), torch.tensor([60.0]))  # log 140
        tensor(4.9416)
    """

    def __init__(
        self,
        fs: float,
        *,
        bins_bpm: tuple[int, int] = PHYSFORMER_BINS_BPM,
        mode: Literal["log", "published"] = "log",
        outside: Outside = "refuse",
    ) -> None:
        super().__init__()
        self.fs, self.bins_bpm = fs, bins_bpm
        self.mode: Literal["log", "published"] = mode
        self.outside: Outside = outside

    def forward(self, prediction: Tensor, heart_rate_bpm: Tensor) -> Tensor:
        """Waves [B, T] and heart rates [B] to a scalar."""
        return frequency_cross_entropy(
            prediction, heart_rate_bpm, self.fs, bins_bpm=self.bins_bpm, mode=self.mode, outside=self.outside
        )

    def extra_repr(self) -> str:
        return f"fs={self.fs}, bins_bpm={self.bins_bpm}, mode={self.mode!r}, outside={self.outside!r}"


class LabelDistributionKL(nn.Module):
    """As a module: see :func:`label_distribution_kl`.

    Example:
        >>> LabelDistributionKL(fs=30.0)(torch.zeros(1, 160), torch.tensor([60.0]))  # log 140 minus the entropy of q
        tensor(3.5227)
    """

    def __init__(
        self,
        fs: float,
        *,
        sigma_bpm: float = 1.0,
        bins_bpm: tuple[int, int] = PHYSFORMER_BINS_BPM,
        mode: Literal["log", "toolbox"] = "log",
        outside: Outside = "refuse",
    ) -> None:
        super().__init__()
        self.fs, self.sigma_bpm, self.bins_bpm = fs, sigma_bpm, bins_bpm
        self.mode: Literal["log", "toolbox"] = mode
        self.outside: Outside = outside

    def forward(self, prediction: Tensor, heart_rate_bpm: Tensor) -> Tensor:
        """Waves [B, T] and heart rates [B] to a scalar."""
        return label_distribution_kl(
            prediction,
            heart_rate_bpm,
            self.fs,
            sigma_bpm=self.sigma_bpm,
            bins_bpm=self.bins_bpm,
            mode=self.mode,
            outside=self.outside,
        )

    def extra_repr(self) -> str:
        return f"fs={self.fs}, sigma_bpm={self.sigma_bpm}, bins_bpm={self.bins_bpm}, mode={self.mode!r}"

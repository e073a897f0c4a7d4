"""How the power of a wave is shared among heart rates."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from robustvision.core.errors import InputError
from robustvision.rppg.losses.pearson import standardise

PHYSFORMER_BINS_BPM = (40, 179)
RHYTHMFORMER_BINS_BPM = (45, 149)

FLOOR = 1e-4
"""Added to the power of every bin of a standardised wave, whose tone has T^2 / 16: a constant wave is uniform."""


def band_power(wave: Tensor, fs: float, bins_bpm: tuple[int, int] = PHYSFORMER_BINS_BPM) -> Tensor:
    r"""The share of each whole heart rate in the power of a wave under a Hann window.

    :math:`A_b = (\sum_n w_n x_n \sin 2\pi k_b n/N)^2 + (\sum_n w_n x_n \cos 2\pi k_b n/N)^2` with
    :math:`k_b = (b/60) N/f_s`, and :math:`P_b = A_b / \sum A`. Bins are 1 bpm apart, so that neighbours say nearly the
    same where a clip is shorter than a minute. The wave is standardised first, which changes P only if it has an
    offset.

    Args:
        wave: x, [B, T].
        fs: Frames a second.
        bins_bpm: The first and the last heart rate.

    Returns:
        P, [B, last - first + 1], at least float32; each row sums to 1. Uniform for a constant wave.

    Raises:
        InputError: Bins out of order, or beyond half the frame rate.

    References:
        Yu et al., "PhysFormer: Facial Video-Based Physiological Measurement with Temporal Difference Transformer", CVPR
        2022, arXiv 2111.12082.

    Example:
        >>> t = torch.arange(300) / 30
        >>> power = band_power(torch.sin(2 * torch.pi * 1.2 * t)[None], fs=30.0)
        >>> int(power.argmax()) + 40
        72
    """
    first, last = bins_bpm
    if not 0 < first < last <= 30.0 * fs:
        raise InputError(f"bins from {first} to {last} bpm at {fs} frames a second: they must rise, up to {30 * fs:g}")
    with torch.autocast(wave.device.type, enabled=False):
        x = standardise(wave)
        n = torch.arange(x.shape[1], device=x.device, dtype=x.dtype)
        window = 0.5 - 0.5 * torch.cos(n * (2 * math.pi / max(x.shape[1] - 1, 1)))
        bins = torch.arange(first, last + 1, device=x.device, dtype=x.dtype)
        phase = n[:, None] * (bins * (2 * math.pi / (60.0 * fs)))
        power = ((x * window) @ phase.sin()).square() + ((x * window) @ phase.cos()).square() + FLOOR
        return power / power.sum(dim=1, keepdim=True)

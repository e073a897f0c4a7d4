"""Differential frame fusion: the frames keep the spatial context, their differences stress the change of blood volume.

A pulse changes a pixel by less than 1 %, skin tone and light by far more. The difference of neighbouring frames over
their sum is free of both: it is half the relative change, whatever the pixel's brightness.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from robustvision.core.errors import InputError
from robustvision.rppg.networks.causal import Past

Mode = Literal["dff", "diff", "raw"]
MODES = ("dff", "diff", "raw")

LEAST_SUM = 1e-7
LEAST_VARIANCE = 1e-14
MEMORY_FRAMES = 150
"""Time constant of the running scale: 5 s at 30 frames a second."""


def normalised_difference(frames: Tensor) -> Tensor:
    """Differences of neighbouring frames over their sum, divided by the standard deviation of all of them in a clip.

    ``d_t = (x_{t+1} - x_t) / max(x_{t+1} + x_t, 1e-7)`` and ``d_{T-1} = 0``. A clip without any change gives zeros.

    Args:
        frames: Un-standardised frames, floating point [B, C, T, H, W], at least 0: a standardised frame has negative
            values, and its differences are not free of scale.

    Returns:
        Differences, [B, C, T, H, W].

    References:
        Chen and McDuff, "DeepPhys: Video-Based Physiological Measurement Using Convolutional Attention Networks", ECCV
        2018, arXiv 1805.07888.

    Example:
        >>> frames = torch.tensor([1.0, 3.0, 1.0]).reshape(1, 1, 3, 1, 1)
        >>> normalised_difference(frames).flatten()
        tensor([ 1., -1.,  0.])
    """
    before, after = frames[:, :, :-1], frames[:, :, 1:]
    d = (after - before) / (after + before).clamp_min(LEAST_SUM)
    variance = _clip_mean((d - _clip_mean(d)).square())
    return nn.functional.pad(d / variance.clamp_min(LEAST_VARIANCE).sqrt(), (0, 0, 0, 0, 0, 1))


def _clip_mean(x: Tensor) -> Tensor:
    """In two steps: onnxruntime adds numbers in a row, which costs digits where there are 100,000 of them."""
    return x.mean(dim=(3, 4), keepdim=True).mean(dim=(1, 2), keepdim=True)


def running_difference(frames: Tensor, past: Past) -> Tensor:
    r"""The causal form: differences to the frame before, over a running root mean square of them.

    ``d_t = (x_t - x_{t-1}) / max(x_t + x_{t-1}, 1e-7)`` and ``d_0 = 0``. The scale at frame t is
    :math:`\sqrt{\sum_{s \le t} \lambda^{t-s} q_s / \sum_{s \le t} \lambda^{t-s}}` with q_s the mean square of d_s,
    :math:`\lambda = e^{-1/150}`, and both sums over the frames that have one before them.

    Args:
        frames: Un-standardised frames, floating point [B, C, T, H, W], at least 0.
        past: Two caches: the frame before; and [B, 3]: whether there was one, sum of weights, sum of weighted squares.

    Returns:
        Differences, [B, C, T, H, W].

    Example:
        >>> frames = torch.tensor([1.0, 3.0, 1.0]).reshape(1, 1, 3, 1, 1)
        >>> running_difference(frames, Past()).flatten()
        tensor([ 0.,  1., -1.])
    """
    before = past.join(frames, 1)[:, :, :-1]
    state = past.recall()
    state = frames.new_zeros(frames.shape[0], 3) if state is None else state
    began, weight, power = state[:, 0:1], state[:, 1:2], state[:, 2:3]
    t = torch.arange(frames.shape[2], device=frames.device, dtype=frames.dtype)
    counts = (began + t).clamp_max(1.0)
    d = (frames - before) / (frames + before).clamp_min(LEAST_SUM) * counts[:, None, :, None, None]
    # the sums as one product with decaying weights: a cumulative sum scaled by lambda^-t loses float32's digits
    carried = (-(t + 1) / MEMORY_FRAMES).exp()
    decay = torch.tril((-(t[:, None] - t).clamp_min(0.0) / MEMORY_FRAMES).exp())
    weights = weight * carried + (decay * counts[:, None]).sum(-1)
    powers = power * carried + (decay * d.square().mean(dim=(1, 3, 4))[:, None]).sum(-1)
    past.keep(torch.stack([torch.ones_like(weights[:, -1]), weights[:, -1], powers[:, -1]], dim=1))
    variance = (powers / weights.clamp_min(1.0)).clamp_min(LEAST_VARIANCE)
    return d / variance.sqrt()[:, None, :, None, None]


class DifferenceFusion(nn.Module):
    """The front end: a branch for the frames, one for their differences, and a 1x1x1 convolution that joins them.

    Each branch is a 5x5 convolution a frame, batch normalisation, ReLU and a spatial maximum over 2x2. The branches
    are identical and own their weights. That physFSUNet fuses by concatenation is a reconstruction.

    Args:
        channels: Channels of each branch and of the output.
        mode: ``dff`` both branches, ``diff`` the differences alone, ``raw`` the frames alone (for the ablation).

    Raises:
        InputError: An unknown mode.
    """

    def __init__(self, channels: int, mode: Mode = "dff") -> None:
        super().__init__()
        if mode not in MODES:
            raise InputError(f"mode is {mode!r}: choose from {', '.join(MODES)}")
        self.mode = mode
        self.raw = Branch(channels) if mode != "diff" else None
        self.difference = Branch(channels) if mode != "raw" else None
        self.fuse = nn.Conv3d(channels * (2 if mode == "dff" else 1), channels, 1)

    def forward(self, frames: Tensor, past: Past | None = None) -> Tensor:
        """RGB [B, 3, T, S, S], 0 to 255, floating point, to features [B, channels, T, S // 2, S // 2]."""
        features = []
        if self.raw is not None:
            features.append(self.raw(frames / 127.5 - 1.0))
        if self.difference is not None:
            d = normalised_difference(frames) if past is None else running_difference(frames, past)
            features.append(self.difference(d))
        return self.fuse(torch.cat(features, dim=1))


class Branch(nn.Module):
    """The stem of PhysNet, frame by frame: 5x5 convolution, batch normalisation, ReLU, maximum over 2x2.

    As a 2-D network over all frames of the batch, with ReLU after the maximum, it is the same function and takes a CPU
    half the time.

    Args:
        channels: Channels out.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, channels, 5, padding=2), nn.BatchNorm2d(channels), nn.MaxPool2d(2), nn.ReLU()
        )

    def forward(self, x: Tensor) -> Tensor:
        """RGB or differences [B, 3, T, S, S] to features [B, channels, T, S // 2, S // 2]."""
        y: Tensor = self.layers(x.transpose(1, 2).flatten(0, 1))
        return y.reshape(x.shape[0], x.shape[2], *y.shape[1:]).transpose(1, 2)

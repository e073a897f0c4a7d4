"""physFSUNet: differential frame fusion, shift-and-attend blocks, an encoder-decoder over time; and its causal twin.

The paper's text beyond the abstract was not available: the three named parts and the 831 K parameters are its own, how
they are put together here is a reconstruction around PhysNet.

The causal twin has the same layers and the same number of weights but sees only the past. Where the network halves the
frame rate, the twin keeps the rate and spreads its kernels over time instead (a trous), so that it has a value for
every frame at the same reach.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

from robustvision.core.errors import InputError
from robustvision.rppg.networks.attention_mask import AttentionMask
from robustvision.rppg.networks.causal import Past
from robustvision.rppg.networks.difference_fusion import DifferenceFusion, Mode
from robustvision.rppg.networks.temporal_shift import temporal_shift

T_MULTIPLE = 4
LEAST_SIZE_PX = 16
LEAST_CHANNELS = 8
"""Fewer channels cost a CPU the same time."""


class PhysFSUNet(nn.Module):
    """physFSUNet: 0.79 M parameters at width 64.

    Args:
        width: Channels of the encoder and the decoder; 64 is the paper's size, 8 to 32 suit a CPU.
        mode: What the front end sees: ``dff`` frames and differences, ``diff`` or ``raw`` one of them.
        stas: Whether blocks shift channels in time and attend; without, they are plain convolutions.
        causal: Whether only the past is seen.

    Raises:
        InputError: A width or mode that cannot be used.

    References:
        Cen, Fu and Hong, "Robust and Generalizable Heart Rate Estimation via Deep Learning for Remote
        Photoplethysmography in Complex Scenarios", arXiv 2507.07795.

    Example:
        >>> network = PhysFSUNet(width=8).eval()
        >>> network(torch.zeros(2, 3, 12, 16, 16, dtype=torch.uint8)).shape
        torch.Size([2, 12])
    """

    def __init__(self, width: int = 64, mode: Mode = "dff", stas: bool = True, causal: bool = False) -> None:
        super().__init__()
        if width < LEAST_CHANNELS:
            raise InputError(f"width is {width}: it must be at least {LEAST_CHANNELS}")
        self.causal = causal
        narrow, half = max(LEAST_CHANNELS, width // 4), max(LEAST_CHANNELS, width // 2)
        slow, slower = (2, 4) if causal else (1, 1)  # frames between two taps, where the frame rate would be 1/2, 1/4
        self.stem = DifferenceFusion(narrow, mode)
        self.block_full = STAS(narrow, half, width, stas=stas, causal=causal)
        self.pool_half = Pool(1, causal)
        self.block_half = STAS(width, width, width, stas=stas, dilation=slow, causal=causal)
        self.pool_quarter = Pool(slow, causal)
        self.block_quarter = STAS(width, width, width, width, stas=stas, dilation=slower, causal=causal)
        self.block_coarse = STAS(width, width, width, width, stas=stas, dilation=slower, causal=causal)
        self.up_half = Up(width, slow, slow, causal)
        self.up_full = Up(width, 1, 1, causal)
        self.head = nn.Conv1d(width, 1, 1)

    def forward(self, frames: Tensor, past: Past | None = None) -> Tensor:
        """Frames to waves.

        Args:
            frames: RGB [B, 3, T, S, S], 0 to 255, uint8 or floating point; S at least 16, T a multiple of 4 unless
                causal.
            past: What a causal network remembers; None begins a clip.

        Returns:
            BVP [B, T], of any offset and scale.

        Raises:
            InputError: Frames of another form.
        """
        check_frames(frames, 1 if self.causal else T_MULTIPLE)
        if self.causal and past is None:
            past = Past()
        x = self.stem(as_channels_last(frames), past)
        at_full = self.block_full(x, past)
        at_half = self.block_half(self.pool_half(at_full, past), past)
        x = self.block_quarter(self.pool_quarter(at_half, past), past)
        x = self.block_coarse(nn.functional.max_pool3d(x, (1, 2, 2)), past)
        x = self.up_half(x.mean(dim=(3, 4)), at_half.mean(dim=(3, 4)), past)
        x = self.up_full(x, at_full.mean(dim=(3, 4)), past)
        wave: Tensor = self.head(x)[:, 0]
        return wave


class STAS(nn.Module):
    """Shift channels in time, filter each frame, filter over time, attend.

    Args:
        *channels: In, after the convolution of a frame, after each convolution over time.
        stas: Whether to shift and attend.
        dilation: Frames between two taps of a causal convolution.
        causal: Whether only the past is seen.
    """

    def __init__(self, *channels: int, stas: bool, dilation: int = 1, causal: bool = False) -> None:
        super().__init__()
        self.shifts = stas
        self.spatial = Filter(channels[0], channels[1], 1)
        self.temporal = nn.ModuleList(
            Filter(before, after, 3, dilation, causal) for before, after in pairwise(channels[1:])
        )
        self.attend = AttentionMask(channels[-1]) if stas else nn.Identity()

    def forward(self, x: Tensor, past: Past | None = None) -> Tensor:
        """Features [B, C, T, H, W] to features of the same size."""
        x = self.spatial(temporal_shift(x, past=past) if self.shifts else x, past)
        for layer in self.temporal:
            x = layer(x, past)
        attended: Tensor = self.attend(x)
        return attended


class Filter(nn.Module):
    """A convolution over frames x 3 x 3, batch normalisation, ReLU; the size stays."""

    def __init__(
        self, channels_in: int, channels_out: int, frames: int, dilation: int = 1, causal: bool = False
    ) -> None:
        super().__init__()
        self.look_back = (frames - 1) * dilation if causal else 0
        padding = (0 if causal else frames // 2, 1, 1)
        self.filter = nn.Conv3d(
            channels_in, channels_out, (frames, 3, 3), padding=padding, dilation=(dilation, 1, 1), bias=False
        )
        self.standardise = nn.BatchNorm3d(channels_out)

    def forward(self, x: Tensor, past: Past | None) -> Tensor:
        if past is not None and self.look_back:
            x = past.join(x, self.look_back)
        return self.standardise(self.filter(x)).relu()


class Pool(nn.Module):
    """The maximum over 2x2 pixels and two frames, with half the frames; causal: this frame and one before, all frames.

    Args:
        distance: Frames between the two, where causal.
        causal: Whether to keep all frames.
    """

    def __init__(self, distance: int, causal: bool) -> None:
        super().__init__()
        self.distance, self.causal = distance, causal

    def forward(self, x: Tensor, past: Past | None) -> Tensor:
        if past is None:
            return nn.functional.max_pool3d(x, 2)
        x = nn.functional.max_pool3d(x, (1, 2, 2))
        return torch.maximum(x, past.join(x, self.distance)[:, :, : -self.distance])


class Up(nn.Module):
    """One level up in the decoder, over time alone: double the frames, add what the encoder saw there, and smooth.

    The encoder's features are averaged over the frame and projected by a 1x1 convolution. The causal form keeps the
    frames, and its four taps are as far apart as those of the transposed convolution.

    Args:
        channels: Channels in and out.
        spread: Frames between two of the four taps, where causal.
        dilation: Frames between two taps of the smoothing, where causal.
        causal: Whether only the past is seen.
    """

    def __init__(self, channels: int, spread: int, dilation: int, causal: bool) -> None:
        super().__init__()
        self.look_back = (3 * spread, 2 * dilation)
        self.upsample = (
            nn.Conv1d(channels, channels, 4, dilation=spread, bias=False)
            if causal
            else nn.ConvTranspose1d(channels, channels, 4, stride=2, padding=1, bias=False)
        )
        self.standardise = nn.BatchNorm1d(channels)
        self.project = nn.Conv1d(channels, channels, 1)
        self.smooth = nn.Conv1d(channels, channels, 3, padding=0 if causal else 1, dilation=dilation, bias=False)
        self.standardise_smooth = nn.BatchNorm1d(channels)

    def forward(self, x: Tensor, skip: Tensor, past: Past | None) -> Tensor:
        if past is not None:
            x = past.join(x, self.look_back[0])
        x = nn.functional.elu(self.standardise(self.upsample(x))) + self.project(skip)
        if past is not None:
            x = past.join(x, self.look_back[1])
        return nn.functional.elu(self.standardise_smooth(self.smooth(x)))


def check_frames(frames: Tensor, multiple: int) -> None:
    """Refuse frames that are not [B, 3, T, S, S] with T a multiple, and S at least 16.

    Raises:
        InputError: Frames of another form.
    """
    if frames.ndim != 5 or frames.shape[1] != 3 or min(frames.shape[3:]) < LEAST_SIZE_PX:
        raise InputError(
            f"frames are {list(frames.shape)}: expected RGB [B, 3, T, S, S] with S at least {LEAST_SIZE_PX}"
        )
    if frames.shape[2] % multiple:
        raise InputError(f"a clip has {frames.shape[2]} frames: cut or pad it to a multiple of {multiple}")


def as_channels_last(frames: Tensor) -> Tensor:
    """Frames as at least float32, with the colours of a pixel side by side in memory: a CPU filters these faster."""
    frames = frames if frames.dtype == torch.float64 else frames.float()
    return frames.permute(0, 2, 3, 4, 1).contiguous().permute(0, 4, 1, 2, 3)

"""MobileFaceNet and its wider sister: inverted residuals, and a depthwise convolution in place of pooling.

Two layouts of one family, each read from top to bottom: ``MobileFaceNet`` as the SFace authors train it, and ``MBF`` as
arcface_torch does ("mbf": twice the channels at the same expansions).
"""

from __future__ import annotations

from torch import Tensor, nn

from robustvision.face.networks.conv_block import conv_block, draw_weights
from robustvision.face.networks.input_normalisation import MINUS_ONE_TO_ONE, InputNormalisation, Normalisation


class Bottleneck(nn.Module):
    """Expand by 1x1, filter each channel by 3x3, project linearly by 1x1; added to its input where the shape allows."""

    def __init__(
        self, channels_in: int, channels_out: int, expansion: int, *, stride: int = 1, eps: float = 1e-3
    ) -> None:
        super().__init__()
        self.residual = stride == 1 and channels_in == channels_out
        self.expand = conv_block(channels_in, expansion, 1, eps=eps)
        self.filter = conv_block(expansion, expansion, 3, stride=stride, groups=expansion, eps=eps)
        self.project = conv_block(expansion, channels_out, 1, linear=True, eps=eps)

    def forward(self, x: Tensor) -> Tensor:
        y = self.project(self.filter(self.expand(x)))
        return x + y if self.residual else y


def bottlenecks(channels: int, expansion: int, repeats: int, *, eps: float = 1e-3) -> nn.Sequential:
    """A run of residual bottlenecks at one resolution."""
    return nn.Sequential(*(Bottleneck(channels, channels, expansion, eps=eps) for _ in range(repeats)))


class MobileFaceNet(nn.Module):
    """MobileFaceNet: 1.00 M parameters at 128 dimensions, 1.20 M at 512.

    Args:
        embedding_size: d.
        normalisation: Mean and scale of the pixel values.

    References:
        Chen et al., "MobileFaceNets: Efficient CNNs for Accurate Real-Time Face Verification on Mobile Devices", CCBR
        2018, arXiv 1804.07573; layout of the SFace authors (zhongyy/SFace).

    Example:
        >>> import torch
        >>> network = MobileFaceNet(embedding_size=128).eval()
        >>> network(torch.full((1, 3, 112, 112), 127.5)).shape
        torch.Size([1, 128])
    """

    def __init__(self, embedding_size: int = 128, *, normalisation: Normalisation = MINUS_ONE_TO_ONE) -> None:
        super().__init__()
        self.normalise = InputNormalisation(normalisation)
        self.body = nn.Sequential(
            conv_block(3, 64, 3, stride=2),  # 56 x 56
            conv_block(64, 64, 3, groups=64),
            Bottleneck(64, 64, 128, stride=2),  # 28 x 28
            bottlenecks(64, 128, repeats=4),
            Bottleneck(64, 128, 256, stride=2),  # 14 x 14
            bottlenecks(128, 256, repeats=6),
            Bottleneck(128, 128, 512, stride=2),  # 7 x 7
            bottlenecks(128, 256, repeats=2),
            conv_block(128, 512, 1),
            conv_block(512, 512, 7, groups=512, padding=0, linear=True),  # 1 x 1
        )
        self.embed = nn.Linear(512, embedding_size)
        self.standardise = nn.BatchNorm1d(embedding_size, eps=2e-5)
        draw_weights(self)

    def forward(self, pixels: Tensor) -> Tensor:
        """RGB [B, 3, 112, 112], 0 to 255, to embeddings [B, d]."""
        return self.standardise(self.embed(self.body(self.normalise(pixels)).flatten(1)))


class MBF(nn.Module):
    """The "mbf" of arcface_torch: 2.06 M parameters at 512 dimensions, 0.45 GFLOP.

    Args:
        embedding_size: d.
        normalisation: Mean and scale of the pixel values; arcface_torch's weights want (127.5, 1 / 127.5).

    Example:
        >>> sum(parameter.numel() for parameter in MBF().parameters())
        2059520
    """

    def __init__(self, embedding_size: int = 512, *, normalisation: Normalisation = MINUS_ONE_TO_ONE) -> None:
        super().__init__()
        eps = 1e-5
        self.normalise = InputNormalisation(normalisation)
        self.body = nn.Sequential(
            conv_block(3, 128, 3, stride=2, eps=eps),  # 56 x 56
            conv_block(128, 128, 3, groups=64, eps=eps),  # pairs of channels, not single ones
            Bottleneck(128, 128, 128, stride=2, eps=eps),  # 28 x 28
            bottlenecks(128, 128, repeats=4, eps=eps),
            Bottleneck(128, 256, 256, stride=2, eps=eps),  # 14 x 14
            bottlenecks(256, 256, repeats=6, eps=eps),
            Bottleneck(256, 256, 512, stride=2, eps=eps),  # 7 x 7
            bottlenecks(256, 256, repeats=2, eps=eps),
            conv_block(256, 512, 1, eps=eps),
            conv_block(512, 512, 7, groups=512, padding=0, linear=True, eps=eps),  # 1 x 1
        )
        self.embed = nn.Linear(512, embedding_size, bias=False)
        self.standardise = nn.BatchNorm1d(embedding_size, eps=eps)
        draw_weights(self, gain=1.0)

    def forward(self, pixels: Tensor) -> Tensor:
        """RGB [B, 3, 112, 112], 0 to 255, to embeddings [B, d]."""
        return self.standardise(self.embed(self.body(self.normalise(pixels)).flatten(1)))

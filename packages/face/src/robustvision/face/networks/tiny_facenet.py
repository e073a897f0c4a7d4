"""The network that ships and that the demo trains: small, and fast to train on a CPU.

On a CPU a plain 3x3 convolution at low resolution trains three times as fast as the depthwise convolutions and PReLUs
of a MobileFaceNet of the same size, whose many thin layers wait for memory. So this one goes to a quarter of the
resolution in two steps, and takes residual blocks with ReLU from there. From MobileFaceNet it keeps the end: a
depthwise convolution over the whole map in place of pooling.
"""

from __future__ import annotations

from torch import Tensor, nn

from robustvision.face.networks.conv_block import conv_block, draw_weights
from robustvision.face.networks.input_normalisation import MINUS_ONE_TO_ONE, InputNormalisation, Normalisation


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions with BN; the shortcut is a 1x1 convolution with BN where the shape changes."""

    def __init__(self, channels_in: int, channels_out: int, *, stride: int = 1) -> None:
        super().__init__()
        self.residue = nn.Sequential(
            conv_block(channels_in, channels_out, 3, stride=stride, linear=True),
            nn.ReLU(inplace=True),
            conv_block(channels_out, channels_out, 3, linear=True),
        )
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or channels_in != channels_out:
            self.shortcut = conv_block(channels_in, channels_out, 1, stride=stride, linear=True)
        self.activation = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.activation(self.residue(x) + self.shortcut(x))


class TinyFaceNet(nn.Module):
    """A residual network of 0.28 M parameters at 128 dimensions.

    Args:
        embedding_size: d.
        normalisation: Mean and scale of the pixel values.

    Example:
        >>> sum(parameter.numel() for parameter in TinyFaceNet().parameters()) * 4 < 1.5e6  # bytes of an exported file
        True
    """

    def __init__(self, embedding_size: int = 128, *, normalisation: Normalisation = MINUS_ONE_TO_ONE) -> None:
        super().__init__()
        self.normalise = InputNormalisation(normalisation)
        self.body = nn.Sequential(
            conv_block(3, 16, 3, stride=2, linear=True),  # 56 x 56
            nn.ReLU(inplace=True),
            conv_block(16, 32, 3, stride=2, linear=True),  # 28 x 28
            nn.ReLU(inplace=True),
            ResidualBlock(32, 64, stride=2),  # 14 x 14
            ResidualBlock(64, 64),
            ResidualBlock(64, 64, stride=2),  # 7 x 7
            conv_block(64, 256, 1, linear=True),
            nn.ReLU(inplace=True),
            conv_block(256, 256, 7, groups=256, padding=0, linear=True),  # 1 x 1
        )
        self.embed = nn.Linear(256, embedding_size)
        self.standardise = nn.BatchNorm1d(embedding_size, eps=2e-5)
        draw_weights(self)

    def forward(self, pixels: Tensor) -> Tensor:
        """RGB [B, 3, 112, 112], 0 to 255, to embeddings [B, d]."""
        return self.standardise(self.embed(self.body(self.normalise(pixels)).flatten(1)))

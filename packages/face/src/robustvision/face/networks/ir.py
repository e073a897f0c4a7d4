"""IR, the residual network that the SFace authors train. Close to IResNet, but not the same: see the block."""

from __future__ import annotations

from torch import Tensor, nn

from robustvision.core.errors import InputError
from robustvision.face.networks.conv_block import draw_weights
from robustvision.face.networks.input_normalisation import MINUS_ONE_TO_ONE, InputNormalisation, Normalisation

BLOCKS = {50: (3, 4, 14, 3), 101: (3, 13, 30, 3)}
"""Blocks in the four stages, by depth."""


class IRBlock(nn.Module):
    """BN, 3x3, PReLU (no BN between), 3x3 with the stride, BN; the shortcut subsamples where the channels stay."""

    def __init__(self, channels_in: int, channels_out: int, *, stride: int = 1) -> None:
        super().__init__()
        self.shortcut: nn.Module = nn.MaxPool2d(1, stride)  # a window of 1: takes every stride-th pixel
        if channels_in != channels_out:
            self.shortcut = nn.Sequential(
                nn.Conv2d(channels_in, channels_out, 1, stride, bias=False), nn.BatchNorm2d(channels_out)
            )
        self.residue = nn.Sequential(
            nn.BatchNorm2d(channels_in),
            nn.Conv2d(channels_in, channels_out, 3, padding=1, bias=False),
            nn.PReLU(channels_out),
            nn.Conv2d(channels_out, channels_out, 3, stride, padding=1, bias=False),
            nn.BatchNorm2d(channels_out),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.residue(x) + self.shortcut(x)


class IR(nn.Module):
    """IR-50 (43.6 M parameters at 512 dimensions) and IR-101 (65.1 M) of the SFace authors.

    Args:
        embedding_size: d.
        depth: 50 or 101.
        normalisation: Mean and scale of the pixel values; the authors' PyTorch weights want (127.5, 1 / 12.8).

    Raises:
        InputError: Another depth.

    References:
        Layout of zhongyy/SFace, which is that of Deng et al., arXiv 1801.07698, in an earlier form.

    Example:
        >>> sum(parameter.numel() for parameter in IR(depth=50).parameters())
        43574976
    """

    def __init__(
        self, embedding_size: int = 512, *, depth: int = 50, normalisation: Normalisation = MINUS_ONE_TO_ONE
    ) -> None:
        super().__init__()
        if depth not in BLOCKS:
            raise InputError(
                f"an IR network of depth {depth} was asked for, but there are {', '.join(map(str, BLOCKS))}"
            )
        self.normalise = InputNormalisation(normalisation)
        self.stem = nn.Sequential(nn.Conv2d(3, 64, 3, padding=1, bias=False), nn.BatchNorm2d(64), nn.PReLU(64))
        blocks, channels_in = [], 64
        for channels, repeats in zip((64, 128, 256, 512), BLOCKS[depth], strict=True):  # 56, 28, 14, 7 pixels
            blocks.append(IRBlock(channels_in, channels, stride=2))
            blocks.extend(IRBlock(channels, channels) for _ in range(repeats - 1))
            channels_in = channels
        self.blocks = nn.Sequential(*blocks)
        self.last_norm = nn.BatchNorm2d(512)
        self.dropout = nn.Dropout(0.5)
        self.embed = nn.Linear(512 * 7 * 7, embedding_size)
        self.standardise = nn.BatchNorm1d(embedding_size)
        draw_weights(self)

    def forward(self, pixels: Tensor) -> Tensor:
        """RGB [B, 3, 112, 112], 0 to 255, to embeddings [B, d]."""
        maps = self.last_norm(self.blocks(self.stem(self.normalise(pixels))))
        return self.standardise(self.embed(self.dropout(maps).flatten(1)))

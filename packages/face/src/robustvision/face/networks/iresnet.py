"""IResNet, the "improved residual network" of the ArcFace authors: the usual large network of face recognition."""

from __future__ import annotations

from torch import Tensor, nn

from robustvision.core.errors import InputError
from robustvision.face.networks.input_normalisation import MINUS_ONE_TO_ONE, InputNormalisation, Normalisation

BLOCKS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 14, 3), 100: (3, 13, 30, 3)}
"""Blocks in the four stages, by depth."""


class IResNetBlock(nn.Module):
    """BN, 3x3, BN, PReLU, 3x3 with the stride, BN; a 1x1 convolution with BN as shortcut where the shape changes."""

    def __init__(self, channels_in: int, channels_out: int, *, stride: int = 1) -> None:
        super().__init__()
        self.residue = nn.Sequential(
            nn.BatchNorm2d(channels_in),
            nn.Conv2d(channels_in, channels_out, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels_out),
            nn.PReLU(channels_out),
            nn.Conv2d(channels_out, channels_out, 3, stride, padding=1, bias=False),
            nn.BatchNorm2d(channels_out),
        )
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or channels_in != channels_out:
            self.shortcut = nn.Sequential(
                nn.Conv2d(channels_in, channels_out, 1, stride, bias=False), nn.BatchNorm2d(channels_out)
            )

    def forward(self, x: Tensor) -> Tensor:
        return self.residue(x) + self.shortcut(x)


class IResNet(nn.Module):
    """IResNet as in arcface_torch: 24.0 M (18), 43.6 M (50) or 65.2 M (100) parameters at 512 dimensions.

    Not the network of the SFace authors: that is :class:`~robustvision.face.networks.IR`, and their weights do not mix.

    Args:
        embedding_size: d.
        depth: 18, 34, 50 or 100.
        normalisation: Mean and scale of the pixel values; arcface_torch's weights want (127.5, 1 / 127.5).

    Raises:
        InputError: Another depth.

    References:
        Deng et al., arXiv 1801.07698, section 4.1; layout of deepinsight/insightface, arcface_torch.

    Example:
        >>> sum(parameter.numel() for parameter in IResNet(depth=18).parameters())
        24025600
    """

    def __init__(
        self, embedding_size: int = 512, *, depth: int = 50, normalisation: Normalisation = MINUS_ONE_TO_ONE
    ) -> None:
        super().__init__()
        if depth not in BLOCKS:
            raise InputError(f"an IResNet of depth {depth} was asked for, but there are {', '.join(map(str, BLOCKS))}")
        self.normalise = InputNormalisation(normalisation)
        self.stem = nn.Sequential(nn.Conv2d(3, 64, 3, padding=1, bias=False), nn.BatchNorm2d(64), nn.PReLU(64))
        stages, channels_in = [], 64
        for channels, blocks in zip((64, 128, 256, 512), BLOCKS[depth], strict=True):  # 56, 28, 14, 7 pixels
            first = IResNetBlock(channels_in, channels, stride=2)
            stages.append(nn.Sequential(first, *(IResNetBlock(channels, channels) for _ in range(blocks - 1))))
            channels_in = channels
        self.stages = nn.Sequential(*stages)
        self.last_norm = nn.BatchNorm2d(512)
        self.embed = nn.Linear(512 * 7 * 7, embedding_size)
        self.standardise = nn.BatchNorm1d(embedding_size)
        self.standardise.weight.requires_grad_(False)  # stays 1, as in arcface_torch
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, std=0.1)

    def forward(self, pixels: Tensor) -> Tensor:
        """RGB [B, 3, 112, 112], 0 to 255, to embeddings [B, d]."""
        maps = self.last_norm(self.stages(self.stem(self.normalise(pixels))))
        return self.standardise(self.embed(maps.flatten(1)))

"""A narrow U-Net of plain convolutions, which trains from scratch in minutes on a CPU: the demo's, and what ships."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from robustvision.core.errors import InputError


class CompactUNet(nn.Module):
    """U-Net with one level a width, each of two 3x3 convolutions with batch norm; max pooling down, nearest up.

    Args:
        widths: Channels of the levels, from the finest; at least two.
        in_channels: Channels of the picture.
        classes: Channels of the logits.

    Attributes:
        encoder: The levels on the way down, the bottleneck last.
        decoder: The levels on the way up.
        segmentation_head: The last convolution.
        multiple: Height and width must be multiples of it.

    Raises:
        InputError: There are fewer than two widths.
    """

    def __init__(self, widths: Sequence[int] = (12, 24, 48, 64), in_channels: int = 3, classes: int = 1) -> None:
        super().__init__()
        if len(widths) < 2:
            raise InputError(f"widths are {tuple(widths)}: a U-Net needs at least two levels")
        self.multiple = 2 ** (len(widths) - 1)
        into = [in_channels, *widths[:-1]]
        self.encoder = nn.ModuleList(_level(a, b) for a, b in zip(into, widths, strict=True))
        self.decoder = nn.ModuleList(
            _level(deep + skip, skip) for deep, skip in zip(widths[:0:-1], widths[-2::-1], strict=True)
        )
        self.segmentation_head = nn.Conv2d(widths[0], classes, 1)

    def forward(self, image: Tensor) -> Tensor:
        """Return logits [B, classes, H, W] of normalised pictures [B, in_channels, H, W]."""
        skips = []
        features = image
        for number, level in enumerate(self.encoder):
            features = level(features if number == 0 else functional.max_pool2d(features, 2))
            skips.append(features)
        for level, skip in zip(self.decoder, skips[-2::-1], strict=True):
            features = level(
                torch.cat((functional.interpolate(features, scale_factor=2.0, mode="nearest"), skip), dim=1)
            )
        logits: Tensor = self.segmentation_head(features)
        return logits


def _level(into: int, out: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(into, out, 3, padding=1, bias=False),
        nn.BatchNorm2d(out),
        nn.ReLU(inplace=True),
        nn.Conv2d(out, out, 3, padding=1, bias=False),
        nn.BatchNorm2d(out),
        nn.ReLU(inplace=True),
    )

"""U-Net3+: every level of the decoder sees every scale."""

from __future__ import annotations

import segmentation_models_pytorch as smp
import torch
from segmentation_models_pytorch.base import SegmentationHead, SegmentationModel
from torch import Tensor, nn
from torch.nn.functional import interpolate, max_pool2d

from robustvision.core.errors import InputError


class UNet3Plus(SegmentationModel):
    """U-Net3+ over any encoder of segmentation-models-pytorch with a feature at every scale.

    The scales are the encoder's five features at strides 2 to 32. Each level of the decoder brings all five maps to its
    own size (finer encoder maps by max pooling, its own as it is, coarser ones, which are the decoder's own levels and
    the encoder's deepest map, by bilinear upsampling), turns each into 64 channels by a 3x3 convolution, joins them to
    320, and aggregates those by a 3x3 convolution. The published network has its finest level at stride 1; here the
    head doubles the finest, stride 2. The published deep supervision and classification-guided module are not here.

    Args:
        encoder_name: An encoder's name.
        encoder_depth: The number of scales, 3 to 5.
        encoder_weights: None; downloads are not offered.
        decoder_channels: Channels that each scale is brought to.
        in_channels: Channels of the picture.
        classes: Channels of the logits.

    Raises:
        InputError: The encoder has no feature at some scale.

    References:
        Huang et al., "UNet 3+: A Full-Scale Connected UNet for Medical Image Segmentation", ICASSP 2020,
        arXiv 2004.08790.
    """

    def __init__(
        self,
        encoder_name: str = "resnet18",
        encoder_depth: int = 5,
        encoder_weights: None = None,
        decoder_channels: int = 64,
        in_channels: int = 3,
        classes: int = 1,
    ) -> None:
        super().__init__()
        self.encoder = smp.encoders.get_encoder(
            encoder_name, in_channels=in_channels, depth=encoder_depth, weights=encoder_weights
        )
        scales = list(self.encoder.out_channels)[1:]
        if 0 in scales:
            raise InputError(
                f"encoder {encoder_name!r} has no feature at stride {2 ** (scales.index(0) + 1)}, U-Net3+ joins every "
                "scale: choose unet, fpn or segformer for it, or a convolutional encoder"
            )
        self.decoder = FullScaleDecoder(scales, decoder_channels)
        self.segmentation_head = SegmentationHead(
            in_channels=decoder_channels * len(scales), out_channels=classes, kernel_size=3, upsampling=2
        )
        self.classification_head = None
        self.name = f"unet3plus-{encoder_name}"
        self.initialize()


class FullScaleDecoder(nn.Module):
    """The decoder of U-Net3+: one level a scale but the deepest, each from all scales.

    Args:
        scales: Channels of the encoder's features, from the finest.
        channels: Channels that each of them is brought to.
    """

    def __init__(self, scales: list[int], channels: int) -> None:
        super().__init__()
        joined, deepest = channels * len(scales), len(scales) - 1
        self.levels = nn.ModuleList(
            FullScaleLevel(
                [into if scale <= level or scale == deepest else joined for scale, into in enumerate(scales)], channels
            )
            for level in range(deepest)
        )

    def forward(self, features: list[Tensor]) -> Tensor:
        """Return the finest level, [B, channels * scales, H/2, W/2], of features whose first is the picture's size."""
        maps = list(features[1:])
        for level in reversed(range(len(maps) - 1)):  # coarser entries of maps have become decoder levels by now
            size = maps[level].shape[2:]
            scaled = [
                max_pool2d(values, 2 ** (level - scale))
                if scale < level
                else values
                if scale == level
                else interpolate(values, size=size, mode="bilinear", align_corners=False)
                for scale, values in enumerate(maps)
            ]
            maps[level] = self.levels[level](scaled)
        return maps[0]


class FullScaleLevel(nn.Module):
    """One level: each map becomes ``channels``, and all of them one.

    Args:
        into: Channels of the maps.
        channels: What each is brought to.
    """

    def __init__(self, into: list[int], channels: int) -> None:
        super().__init__()
        self.branches = nn.ModuleList(_convolution(number, channels) for number in into)
        self.aggregation = _convolution(channels * len(into), channels * len(into))

    def forward(self, maps: list[Tensor]) -> Tensor:
        """Maps of one size to one map [B, channels * maps, H, W]."""
        joined = torch.cat([branch(values) for branch, values in zip(self.branches, maps, strict=True)], dim=1)
        result: Tensor = self.aggregation(joined)
        return result


def _convolution(into: int, out: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(into, out, 3, padding=1, bias=False), nn.BatchNorm2d(out), nn.ReLU(inplace=True))

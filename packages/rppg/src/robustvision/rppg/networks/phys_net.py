"""PhysNet: the field's baseline, a spatio-temporal encoder and a decoder over time."""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn

from robustvision.rppg.networks.difference_fusion import Branch, normalised_difference
from robustvision.rppg.networks.phys_fsu_net import T_MULTIPLE, as_channels_last, check_frames


class PhysNet(nn.Module):
    """PhysNet on normalised differences: 768,577 parameters at width 64.

    Args:
        width: Channels of the encoder and the decoder.

    References:
        Yu, Li and Zhao, "Remote Photoplethysmograph Signal Measurement from Facial Videos Using Spatio-Temporal
        Networks", BMVC 2019, arXiv 1905.02419.

    Example:
        >>> import torch
        >>> sum(parameter.numel() for parameter in PhysNet().parameters())
        768577
        >>> PhysNet(width=8).eval()(torch.zeros(1, 3, 8, 16, 16)).shape
        torch.Size([1, 8])
    """

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        self.encoder = nn.Sequential(
            Branch(width // 4),
            *_filters(width // 4, width // 2, width),
            nn.MaxPool3d(2),
            *_filters(width, width, width),
            nn.MaxPool3d(2),
            *_filters(width, width, width),
            nn.MaxPool3d((1, 2, 2)),
            *_filters(width, width, width),
        )
        self.decoder = nn.Sequential(*_doubling(width), *_doubling(width))
        self.head = nn.Conv3d(width, 1, 1)

    def forward(self, frames: Tensor) -> Tensor:
        """RGB [B, 3, T, S, S], 0 to 255, T a multiple of 4, to BVP [B, T].

        Raises:
            InputError: Frames of another form.
        """
        check_frames(frames, T_MULTIPLE)
        x = self.decoder(self.encoder(normalised_difference(as_channels_last(frames))))
        wave: Tensor = self.head(x.mean(dim=(3, 4), keepdim=True))[:, 0, :, 0, 0]
        return wave


def _filters(*channels: int) -> list[nn.Module]:
    layers: list[nn.Module] = []
    for before, after in pairwise(channels):
        layers += [nn.Conv3d(before, after, 3, padding=1), nn.BatchNorm3d(after), nn.ReLU()]
    return layers


def _doubling(channels: int) -> list[nn.Module]:
    double = nn.ConvTranspose3d(channels, channels, (4, 1, 1), stride=(2, 1, 1), padding=(1, 0, 0))
    return [double, nn.BatchNorm3d(channels), nn.ELU()]

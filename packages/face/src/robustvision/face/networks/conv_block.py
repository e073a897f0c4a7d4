"""Convolution, batch normalisation, PReLU: the brick of the mobile networks."""

from __future__ import annotations

import math

from torch import nn


def conv_block(
    channels_in: int,
    channels_out: int,
    kernel: int,
    *,
    stride: int = 1,
    groups: int = 1,
    padding: int | None = None,
    linear: bool = False,
    eps: float = 1e-3,
) -> nn.Sequential:
    """Convolution without bias, batch normalisation and, unless ``linear``, a PReLU with a slope for each channel.

    Args:
        channels_in: Channels in.
        channels_out: Channels out.
        kernel: Side of the square kernel.
        stride: Stride of the convolution.
        groups: Groups; as many as channels for a depthwise convolution.
        padding: Padding; half the kernel by default.
        linear: Whether to leave the PReLU out.
        eps: Epsilon of the batch normalisation.
    """
    padding = kernel // 2 if padding is None else padding
    layers: list[nn.Module] = [
        nn.Conv2d(channels_in, channels_out, kernel, stride, padding, groups=groups, bias=False),
        nn.BatchNorm2d(channels_out, eps=eps),
    ]
    if not linear:
        layers.append(nn.PReLU(channels_out))
    return nn.Sequential(*layers)


def draw_weights(network: nn.Module, *, gain: float = 2.0) -> None:
    """Start values of convolutions and linear layers: normal with standard deviation ``gain * sqrt(2 / fan_out)``.

    Args:
        network: Changed in place.
        gain: 2 in the SFace authors' PyTorch code, 1 in their MXNet code.
    """
    for module in network.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            fan_out = module.weight.shape[0] * module.weight[0, 0].numel()
            nn.init.normal_(module.weight, std=gain * math.sqrt(2.0 / fan_out))
            if module.bias is not None:
                nn.init.zeros_(module.bias)

"""MobileNetV1 with an embedding: the network inside OpenCV's face_recognition_sface_2021dec.onnx.

That file's card says MobileFaceNet, but it is this one, as its author has confirmed (opencv/opencv_zoo#107). Hence
its 39 MB, where a MobileFaceNet has 5.
"""

from __future__ import annotations

from torch import Tensor, nn

from robustvision.face.networks.conv_block import conv_block, draw_weights
from robustvision.face.networks.input_normalisation import MINUS_ONE_TO_ONE, InputNormalisation, Normalisation

WIDTHS = (64, 128, 128, 256, 256, 512, 512, 512, 512, 512, 512, 1024, 1024)
"""Channels after each pair of a depthwise and a pointwise convolution."""

STRIDE_2 = (1, 3, 5, 11)
"""The pairs whose depthwise convolution halves the resolution."""


class MobileNetV1Embedding(nn.Module):
    """MobileNetV1 and a linear layer over all of its last map: 9.667 M values with BN statistics, at 128 dimensions.

    Args:
        embedding_size: d.
        normalisation: Mean and scale of the pixel values.

    References:
        Howard et al., "MobileNets", arXiv 1704.04861; layout of opencv_zoo, face_recognition_sface_2021dec.

    Example:
        >>> values = MobileNetV1Embedding(embedding_size=128).state_dict()
        >>> sum(tensor.numel() for name, tensor in values.items() if "num_batches" not in name)
        9667072
    """

    def __init__(self, embedding_size: int = 128, *, normalisation: Normalisation = MINUS_ONE_TO_ONE) -> None:
        super().__init__()
        self.normalise = InputNormalisation(normalisation)
        layers, channels_in = [conv_block(3, 32, 3)], 32
        for pair, channels in enumerate(WIDTHS):
            stride = 2 if pair in STRIDE_2 else 1
            layers.append(conv_block(channels_in, channels_in, 3, stride=stride, groups=channels_in))
            layers.append(conv_block(channels_in, channels, 1))
            channels_in = channels
        self.body = nn.Sequential(*layers)  # 112, 56, 28, 14, 7 pixels
        self.last_norm = nn.BatchNorm2d(1024, eps=2e-5)
        self.dropout = nn.Dropout(0.4)
        self.embed = nn.Linear(1024 * 7 * 7, embedding_size)
        self.standardise = nn.BatchNorm1d(embedding_size, eps=2e-5)
        draw_weights(self)

    def forward(self, pixels: Tensor) -> Tensor:
        """RGB [B, 3, 112, 112], 0 to 255, to embeddings [B, d]."""
        maps = self.dropout(self.last_norm(self.body(self.normalise(pixels))))
        return self.standardise(self.embed(maps.flatten(1)))

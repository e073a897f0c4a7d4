"""The first layer of every face network: raw pixels to numbers around zero."""

from __future__ import annotations

from torch import Tensor, nn

Normalisation = tuple[float, float]
"""Mean and scale: a pixel value p becomes (p - mean) * scale."""

MINUS_ONE_TO_ONE: Normalisation = (127.5, 1.0 / 128.0)
"""The default, of the SFace authors' MXNet code and of OpenCV's file. Their PyTorch code scales by 1 / 12.8 instead."""


class InputNormalisation(nn.Module):
    """``(pixels - mean) * scale``, as constants of the graph.

    Args:
        normalisation: Mean and scale.

    Example:
        >>> import torch
        >>> InputNormalisation((127.5, 1 / 127.5))(torch.tensor([0.0, 255.0]))
        tensor([-1.,  1.])
    """

    def __init__(self, normalisation: Normalisation = MINUS_ONE_TO_ONE) -> None:
        super().__init__()
        self.mean, self.scale = normalisation

    def forward(self, pixels: Tensor) -> Tensor:
        """Values 0 to 255, uint8 or floating point, of any shape."""
        return (pixels - self.mean) * self.scale

    def extra_repr(self) -> str:
        return f"mean={self.mean}, scale={self.scale}"

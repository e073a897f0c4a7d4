"""Adaptive average pooling that leaves torch with a free height and width: what PSPNet and UPerNet need.

Both exporters of torch write ``AdaptiveAvgPool2d`` for the traced size only. The same averages are two matrix products
whose matrices follow from the size, and those a graph computes for any size.
"""

from __future__ import annotations

import torch
from segmentation_models_pytorch.decoders.pspnet.decoder import PSPBlock
from torch import Tensor, nn
from torch.nn.functional import interpolate


class AdaptiveMean2d(nn.Module):
    """The numbers of ``AdaptiveAvgPool2d``: cell i of n averages the pixels from floor(i L / n) to ceil((i + 1) L / n).

    Args:
        cells: n, along height and width.

    Example:
        >>> AdaptiveMean2d(2)(torch.arange(3.0).expand(1, 1, 3, 3))
        tensor([[[[0.5000, 1.5000],
                  [0.5000, 1.5000]]]])
    """

    def __init__(self, cells: int) -> None:
        super().__init__()
        self.cells = cells

    def forward(self, values: Tensor) -> Tensor:
        """[B, C, H, W] to [B, C, cells, cells]."""
        rows = self._averages(torch.ones_like(values[0, 0, :, 0]))
        columns = self._averages(torch.ones_like(values[0, 0, 0, :]))
        return torch.matmul(torch.matmul(rows, values), columns.transpose(0, 1))

    def _averages(self, ones: Tensor) -> Tensor:
        """The matrix [cells, L] of an axis; its length comes as a tensor, lest an exporter take it for a number."""
        place = torch.cumsum(ones.float(), 0) - 1
        length = ones.float().sum()
        cell = torch.arange(self.cells, device=ones.device, dtype=torch.float32)[:, None]
        inside = (place >= torch.floor(cell * length / self.cells)) & (
            place < torch.ceil((cell + 1) * length / self.cells)
        )
        weights = inside.to(ones.dtype)
        return weights / weights.sum(1, keepdim=True)

    def extra_repr(self) -> str:
        return f"cells={self.cells}"


class PyramidBlock(nn.Module):
    """smp's ``PSPBlock`` with its own sub-modules, without its branch for the export, which fixes the size."""

    def __init__(self, block: PSPBlock) -> None:
        super().__init__()
        self.pool = block.pool

    def forward(self, values: Tensor) -> Tensor:
        """[B, C, H, W] to [B, D, H, W]."""
        return interpolate(self.pool(values), size=values.shape[2:], mode="bilinear", align_corners=True)


def free_the_size(network: nn.Module) -> None:
    """Replace, in place, every pooling to more than one cell; the parameters and their names stay.

    Args:
        network: Any network.
    """
    for parent in list(network.modules()):
        for name, child in parent.named_children():
            if isinstance(child, PSPBlock):
                setattr(parent, name, PyramidBlock(child))
            elif isinstance(child, nn.AdaptiveAvgPool2d) and _cells(child) > 1:
                setattr(parent, name, AdaptiveMean2d(_cells(child)))


def _cells(pool: nn.AdaptiveAvgPool2d) -> int:
    size = pool.output_size
    return int(size[0] or 0) if isinstance(size, tuple) else int(size or 0)

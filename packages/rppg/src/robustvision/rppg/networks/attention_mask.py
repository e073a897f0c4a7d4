"""The self-attention mask: where in the frame the pulse is worth looking at."""

from __future__ import annotations

from torch import Tensor, nn

LEAST_SCORE = -10.0


class AttentionMask(nn.Module):
    r"""Multiply features by a mask drawn from themselves, whose mean over each frame is 1/2.

    :math:`m = \sigma(\mathrm{conv}_{1\times 1}(z))`, :math:`m' = \frac{HW}{2}\, m / \sum_{h,w} m`, and z becomes
    :math:`z \cdot m'`. Scores below -10 count as -10, so that the sum is positive in half precision too.

    Args:
        channels: C.

    References:
        Liu et al., "Multi-Task Temporal Shift Attention Networks for On-Device Contactless Vitals Measurement", NeurIPS
        2020, arXiv 2006.03790 (TS-CAN). That physFSUNet uses this mask is a reconstruction.

    Example:
        >>> import torch
        >>> mask = AttentionMask(8)
        >>> mask.weights(torch.rand(2, 8, 5, 6, 6)).sum(dim=(3, 4))[0, 0, 0].round(decimals=4)  # 6 * 6 / 2
        tensor(18., grad_fn=<RoundBackward1>)
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.score = nn.Conv3d(channels, 1, 1)

    def weights(self, z: Tensor) -> Tensor:
        """Features [B, C, T, H, W] to the mask [B, 1, T, H, W]."""
        m = self.score(z).clamp_min(LEAST_SCORE).sigmoid()
        return 0.5 * m / m.mean(dim=(3, 4), keepdim=True)

    def forward(self, z: Tensor) -> Tensor:
        """Features [B, C, T, H, W] to masked features of the same shape."""
        return z * self.weights(z)

"""The temporal shift: some channels show the next frame, some the previous one, for no arithmetic at all."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from robustvision.rppg.networks.causal import Past


def temporal_shift(x: Tensor, fold_div: int = 8, past: Past | None = None) -> Tensor:
    """Shift a part of the channels by one frame; what enters at the ends is zero, nothing wraps around.

    With ``fold = C // fold_div``: channels [0, fold) take frame t+1, channels [fold, 2 fold) take frame t-1, the rest
    stays. With a past, channels [0, fold) take frame t-1 and the rest stays (the online form).

    Args:
        x: Features, [B, C, T, ...].
        fold_div: The share of channels that moves each way is 1 / fold_div.
        past: What a causal network remembers; None for the form that also looks ahead.

    Returns:
        Features of the same shape.

    References:
        Lin et al., "TSM: Temporal Shift Module for Efficient Video Understanding", ICCV 2019, arXiv 1811.08383.

    Example:
        >>> x = torch.tensor([[[1.0, 2.0, 3.0], [4.0, 5.0, 6.0], [7.0, 8.0, 9.0]]])
        >>> temporal_shift(x, fold_div=3)
        tensor([[[2., 3., 0.],
                 [0., 4., 5.],
                 [7., 8., 9.]]])
    """
    fold = x.shape[1] // fold_div
    if past is not None:
        return torch.cat([past.join(x[:, :fold], 1)[:, :, :-1], x[:, fold:]], dim=1)
    space = (0, 0) * (x.ndim - 3)
    ahead = nn.functional.pad(x[:, :fold, 1:], (*space, 0, 1))
    behind = nn.functional.pad(x[:, fold : 2 * fold, :-1], (*space, 1, 0))
    return torch.cat([ahead, behind, x[:, 2 * fold :]], dim=1)

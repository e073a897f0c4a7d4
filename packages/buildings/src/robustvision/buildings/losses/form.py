"""What all losses do first: check the form, and leave half precision."""

from __future__ import annotations

import torch
from torch import Tensor

from robustvision.core.errors import InputError


def prepare(logits: Tensor, target: Tensor, valid: Tensor | None) -> tuple[Tensor, Tensor, Tensor | None]:
    """Return all three in one precision, float32 at least.

    Args:
        logits: [B, 1, H, W].
        target: Likewise, 0..1.
        valid: Likewise, 0 or 1; None where all counts.

    Raises:
        InputError: The shapes differ.
    """
    for name, other in (("target", target), ("valid", valid)):
        if other is not None and other.shape != logits.shape:
            raise InputError(f"{name} is {list(other.shape)}, the logits are {list(logits.shape)}: give one form")
    dtype = torch.promote_types(logits.dtype, torch.float32)
    return logits.to(dtype), target.to(dtype), None if valid is None else valid.to(dtype)


def mean_over(values: Tensor, valid: Tensor | None) -> Tensor:
    """Return the mean over the valid pixels; 0 where there are none.

    Args:
        values: [B, 1, H, W].
        valid: Likewise, or None.
    """
    if valid is None:
        return values.mean() if values.numel() else values.sum()
    return (values * valid).sum() / valid.sum().clamp_min(1.0)

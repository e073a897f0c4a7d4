"""The way into every loss: check what came, widen half precision, take out what does not count."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from robustvision.core.errors import InputError


class Pixels(NamedTuple):
    """All pixels of a batch in one row. One that does not count has logit 0, target 0 and ``counts`` 0.

    Attributes:
        logits: [N], float32 or float64.
        target: [N], of that dtype, 0 to 1.
        counts: [N], of that dtype, 1 or 0.
    """

    logits: Tensor
    target: Tensor
    counts: Tensor

    @property
    def probabilities(self) -> Tensor:
        """Sigmoid of the logits, 0 where a pixel does not count, [N]."""
        return self.logits.sigmoid() * self.counts

    def mean(self, losses: Tensor) -> Tensor:
        """The mean over the pixels that count of one value each; 0 where none counts."""
        return (losses * self.counts).sum() / self.counts.sum().clamp_min(1.0)


def check_pixels(logits: Tensor, target: Tensor, valid: Tensor | None) -> Pixels:
    """Check a batch and flatten it.

    Args:
        logits: [B, 1, H, W], floating point.
        target: [B, 1, H, W], 0 to 1, of any dtype.
        valid: [B, 1, H, W], bool or numbers that are not 0 where a pixel counts; None counts all.

    Returns:
        The pixels, at least float32.

    Raises:
        InputError: Other shapes, logits that are no floating point numbers, or (looked for on the CPU) a target that
            counts and is not within 0 to 1.
    """
    for name, tensor in (("target", target), ("valid", valid)):
        if tensor is not None and tensor.shape != logits.shape:
            raise InputError(f"{name} is {list(tensor.shape)}, the logits are {list(logits.shape)}: give one shape")
    if logits.ndim != 4 or logits.shape[1] != 1:
        raise InputError(f"the logits are {list(logits.shape)}: expected [B, 1, H, W], buildings against background")
    if not logits.is_floating_point():
        raise InputError(f"the logits are {logits.dtype}: expected floating point numbers before the sigmoid")
    scores = logits.float() if logits.dtype.itemsize < 4 else logits
    scores, labels = scores.reshape(-1), target.reshape(-1).to(scores.dtype)
    counts = torch.ones_like(labels)
    if valid is not None:
        kept = valid.reshape(-1) != 0
        scores = scores.where(kept, scores.new_zeros(()))
        labels = labels.where(kept, labels.new_zeros(()))
        counts = kept.to(labels.dtype)
    if labels.device.type == "cpu" and labels.numel() and not torch.compiler.is_compiling():
        low, high = (value.item() for value in labels.detach().aminmax())
        if not 0 <= low <= high <= 1:
            raise InputError(f"the target holds {low:g} to {high:g}: expected 0 to 1; a mask of 0 and 255 needs > 0")
    return Pixels(scores, labels, counts)


class PixelLoss(nn.Module):
    """A function of logits and target as a module; a subclass names its function and its settings.

    Args:
        settings: What the function takes beside.
    """

    function: ClassVar[Callable[..., Tensor]]

    def __init__(self, **settings: Any) -> None:
        super().__init__()
        self.settings = settings

    def forward(self, logits: Tensor, target: Tensor, *, valid: Tensor | None = None) -> Tensor:
        """Logits [B, 1, H, W] and target [B, 1, H, W] to a scalar; only pixels that are ``valid`` count."""
        return type(self).function(logits, target, valid=valid, **self.settings)

    def extra_repr(self) -> str:
        return ", ".join(f"{name}={value}" for name, value in self.settings.items())

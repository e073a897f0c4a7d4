"""Losses of large batches of scores, block by block, so that what lies between stays in the processor's cache.

A loss that is written in a few plain tensor operations makes a copy of the scores in each, and at 100,000 classes
fresh memory costs more than the arithmetic. Since the loss of a sample depends on its own row alone, rows can be worked
off in blocks: value and gradient of a block are computed at once, and only the gradient is kept.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

BLOCK = 2**19
"""Scores in one block. Batches that fit into one take the plain way, which can also be differentiated twice."""

LossOfRows = Callable[..., Tensor]


def by_rows(loss_of_rows: LossOfRows, logits: Tensor, *of_samples: Tensor | None) -> Tensor:
    """Apply a loss that treats every sample on its own.

    Args:
        loss_of_rows: Maps logits [b, C] and the entries of ``of_samples`` for the same b samples to losses [b]. The
            gradient goes to the logits alone.
        logits: [B, C].
        of_samples: Tensors with B rows each, or None, handed on.

    Returns:
        The losses, [B].
    """
    large = logits.numel() > BLOCK and len(logits) > 1
    if torch.compiler.is_compiling() or not large:  # a compiler fuses the operations by itself
        return loss_of_rows(logits, *of_samples)
    losses: Tensor = _ByRows.apply(loss_of_rows, logits, *of_samples)
    return losses


class _ByRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, loss_of_rows: LossOfRows, logits: Tensor, *of_samples: Tensor | None) -> Tensor:
        wants_gradient = ctx.needs_input_grad[1]
        gradient = torch.empty_like(logits) if wants_gradient else None
        losses = []
        rows = max(1, BLOCK // logits.shape[1])
        for start in range(0, len(logits), rows):
            here = slice(start, start + rows)
            others = [None if one is None else one[here] for one in of_samples]
            with torch.set_grad_enabled(wants_gradient):
                block = logits[here].detach().requires_grad_(wants_gradient)
                values = loss_of_rows(block, *others)
                if gradient is not None:
                    (gradient[here],) = torch.autograd.grad(values.sum(), block)
            losses.append(values.detach())
        if gradient is not None:
            ctx.save_for_backward(gradient)
        ctx.count = len(of_samples)
        return torch.cat(losses)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = ctx.saved_tensors
        return None, gradient * upstream[:, None], *(None for _ in range(ctx.count))

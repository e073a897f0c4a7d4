"""Losses with sums over all classes: value and gradient at once, block by block, while the rows are in the cache.

Left to autograd, such a loss makes a copy of the scores in every operation and again in every step back, and at 100,000
classes fresh memory costs more than the arithmetic. Since the loss of a sample depends on its own row alone, its
gradient can be written down beside it, and rows can be worked off in blocks. The price: these losses cannot be
differentiated twice.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from robustvision.core.errors import InputError
from robustvision.core.losses.batch import Batch

BLOCK, WHOLE = 2**19, 2**20
"""Scores in one block, and in a batch that is small enough to stay whole: two MiB and four in float32."""

ValueAndGradient = Callable[..., tuple[Tensor, Tensor]]


def reduce_rows(value_and_gradient: ValueAndGradient, batch: Batch, *of_samples: Tensor) -> Tensor:
    """Apply a loss that treats every sample on its own, then weigh and reduce.

    Args:
        value_and_gradient: Maps logits [b, C], the targets and the entries of ``of_samples`` for the same b samples to
            losses [b] and their gradient with respect to the logits, [b, C], both tensors of their own. It is called
            without autograd.
        batch: B samples; the gradient goes to their logits, and to their weights.
        of_samples: Tensors with B rows each, handed on.

    Returns:
        The loss: a scalar, or [B] for reduction "none".

    Raises:
        InputError: The target or one of ``of_samples`` wants a gradient.
    """
    of_samples = (batch.target, *of_samples)
    if any(one.requires_grad for one in of_samples):
        raise InputError("this loss has a gradient for its scores alone: pass soft targets by target.detach()")
    # The second question is the one that autograd.Function itself asks.
    is_traced = torch.compiler.is_compiling() or torch._C._are_functorch_transforms_active()
    learns_weight = batch.weight is not None and batch.weight.requires_grad
    if is_traced or learns_weight or batch.reduction == "none":
        return batch.reduce(_ByRows.apply(value_and_gradient, batch.logits, *of_samples)[0])
    loss: Tensor = _SumOfRows.apply(value_and_gradient, batch, batch.logits, *of_samples)
    return loss


@torch.no_grad()
def map_rows(function: Callable[..., Tensor], logits: Tensor, *of_samples: Tensor) -> Tensor:
    """Apply a function of rows, [b, C] to [b], block by block and without gradient."""
    return torch.cat([function(*block) for block in _blocks(logits, *of_samples)])


def own_minus(values: Tensor, target: Tensor, amount: Tensor | float) -> Tensor:
    """Take ``amount``, [b] or a number, from each sample's own class in [b, C]; in place."""
    own = target.unsqueeze(1)
    if isinstance(amount, Tensor):
        return values.scatter_add_(1, own, -amount.unsqueeze(1))
    return values.scatter_(1, own, -amount, reduce="add")


def _blocks(*tensors: Tensor) -> list[tuple[Tensor, ...]]:
    """Rows that belong together, in blocks; a compiler, which fuses operations by itself, gets one."""
    rows = max(1, BLOCK // tensors[0].shape[1])
    if torch.compiler.is_compiling() or tensors[0].numel() <= WHOLE or len(tensors[0]) <= rows:
        return [tensors]
    return list(zip(*(tensor.split(rows) for tensor in tensors), strict=True))


def _compute(value_and_gradient: ValueAndGradient, *tensors: Tensor) -> tuple[Tensor, Tensor]:
    blocks = _blocks(*tensors)
    if len(blocks) == 1:
        return value_and_gradient(*blocks[0])
    losses, gradient = [], torch.empty_like(tensors[0])
    for block, place in zip(blocks, gradient.split(len(blocks[0][0])), strict=True):
        values, by_logits = value_and_gradient(*block)
        place.copy_(by_logits)
        losses.append(values)
    return torch.cat(losses), gradient


class _ByRows(torch.autograd.Function):
    """The losses of the samples, for tracers too."""

    @staticmethod
    def forward(value_and_gradient: ValueAndGradient, logits: Tensor, *of_samples: Tensor) -> tuple[Tensor, Tensor]:
        return _compute(value_and_gradient, logits, *of_samples)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(output[1])
        ctx.count = len(inputs)

    @staticmethod
    def backward(ctx: Any, upstream: Tensor | None, again: Tensor | None) -> tuple[Tensor | None, ...]:
        # The saved gradient is an output of this function, so who differentiates it comes back here. Not
        # once_differentiable: where upstream has no graph, as after a sum, it would let the second derivative be 0.
        if again is not None and not torch.compiler.is_compiling():
            raise RuntimeError("this loss has no second derivative: its gradient is computed beside its value")
        (gradient,) = ctx.saved_tensors
        by_logits = None if upstream is None else gradient * upstream[:, None]
        return None, by_logits, *(None for _ in range(ctx.count - 2))


class _SumOfRows(torch.autograd.Function):
    """The sum or the mean of the losses, which hands its gradient out without a copy.

    It does so once: a graph that is kept computes it anew, and for one that is differentiated ``_ByRows`` steps in.
    """

    @staticmethod
    def forward(
        ctx: Any,
        value_and_gradient: ValueAndGradient,
        batch: Batch,
        logits: Tensor,
        *of_samples: Tensor,
    ) -> Tensor:
        losses, ctx.gradient = _compute(value_and_gradient, logits, *of_samples)
        ctx.value_and_gradient, ctx.shares = value_and_gradient, batch.shares()
        ctx.save_for_backward(logits, *of_samples)
        return batch.reduce(losses)

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        upstream = upstream * ctx.shares
        gradient, ctx.gradient = ctx.gradient, None
        if torch.is_grad_enabled():
            logits, *of_samples = ctx.saved_tensors
            alias = logits.view_as(logits)  # the hooks of the scores themselves come after this function
            losses = _ByRows.apply(ctx.value_and_gradient, alias, *of_samples)[0]
            (gradient,) = torch.autograd.grad(losses, alias, upstream.expand_as(losses), create_graph=True)
        else:
            if gradient is None:
                gradient = _compute(ctx.value_and_gradient, *ctx.saved_tensors)[1]
            gradient.mul_(upstream[:, None] if upstream.ndim else upstream)
        return None, None, gradient, *(None for _ in ctx.needs_input_grad[3:])

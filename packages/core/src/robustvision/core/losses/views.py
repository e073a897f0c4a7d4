"""What the contrastive losses share: two features a sample, checked, gathered from all processes, as unit vectors.

Every process sees the samples of all as negatives, so that several processes compute what one would on the whole batch:
the same loss in each, and, once the gradients are averaged over the processes, the same gradient.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn.functional import normalize

from robustvision.core.errors import InputError
from robustvision.core.losses.labels import describe


def unit_pairs(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor, slice]:
    """Check two features a sample, gather them from all processes, and take them to length 1.

    Args:
        first: One view of each sample, [B, D], floating point, of any length.
        second: The other view of the same samples, [B, D].

    Returns:
        Both as unit vectors in float32 at least, [A, D] for the A samples of all processes in the order of their
        ranks; and the rows of this process.

    Raises:
        InputError: Other shapes or dtypes, or less than two samples in all.
    """
    if first.ndim != 2 or first.shape != second.shape or not (first.is_floating_point() and second.is_floating_point()):
        raise InputError(
            f"the two features are {describe(first)} and {describe(second)}, but two floating-point [batch, size] of "
            "one shape are expected: row i of both belongs to sample i"
        )
    dtype = torch.promote_types(torch.promote_types(first.dtype, second.dtype), torch.float32)
    both, own = gather_rows(torch.stack([first.to(dtype), second.to(dtype)], dim=1))
    if len(both) < 2:
        raise InputError(
            f"a batch of {len(both)} came, but a contrastive loss needs at least 2 samples, since the negatives of "
            "one are the others: drop the last batch (drop_last=True) or choose another batch size"
        )
    both = normalize(both, dim=2)
    return both[:, 0], both[:, 1], own


def similarities(a: Tensor, b: Tensor) -> Tensor:
    """Dot products of all pairs, [A, D] and [B, D] to [A, B]; autocast does not take them to half precision.

    A temperature of 0.05 multiplies the rounding by 20.
    """
    with torch.autocast(a.device.type, enabled=False):
        return a @ b.T


def gather_rows(rows: Tensor) -> tuple[Tensor, slice]:
    """The rows of all processes in the order of their ranks, with gradient; the processes may differ in how many.

    Args:
        rows: [B, ...], any dtype.

    Returns:
        The rows of all, and which of them are this process's own.
    """
    if not (dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1):
        return rows, slice(0, len(rows))
    counts = [torch.zeros((), dtype=torch.int64, device=rows.device) for _ in range(dist.get_world_size())]
    dist.all_gather(counts, torch.tensor(len(rows), device=rows.device))
    sizes = [int(count) for count in counts]
    padded = torch.cat([rows, rows.new_zeros(max(sizes) - len(rows), *rows.shape[1:])])
    gathered: Tensor = _Gather.apply(padded)
    start = sum(sizes[: dist.get_rank()])
    return torch.cat([part[:size] for part, size in zip(gathered, sizes, strict=True)]), slice(start, start + len(rows))


class _Gather(torch.autograd.Function):
    """[B, ...] of each process to [processes, B, ...]; the gradients of all processes are summed."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:
        parts = [torch.empty_like(rows) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, rows.contiguous())
        return torch.stack(parts)

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> Tensor:
        total = upstream.contiguous().clone()
        dist.all_reduce(total)
        return total[dist.get_rank()]

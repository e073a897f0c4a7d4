"""What a loss remembers of every training sample: float32 buffers by the sample's place in the training set."""

from __future__ import annotations

from collections.abc import Callable
from typing import Self

import torch
import torch.distributed as dist
from torch import Tensor, nn

from robustvision.core.errors import InputError


class SampleState(nn.Module):
    """Named float32 values of each of N training samples.

    They are buffers: a checkpoint holds them and a resumed run goes on exactly. They move with the model, and stay
    float32 where it becomes half. With several processes each hands in its own samples and all store all, so every
    process must write in every step. A value that is not finite is not stored. Of a sample that is there twice in a
    batch the mean is stored.

    Args:
        num_samples: N, at least 1.
        initial: Name of each value, and what it is before the first visit.

    Attributes:
        visited: Bool [N]: whether a sample was ever written.

    Raises:
        InputError: N below 1.

    Example:
        >>> state = SampleState(4, lam=1.0)
        >>> state.write(torch.tensor([2, 0, 2]), lam=torch.tensor([3.0, torch.nan, 5.0]))
        >>> state.lam, state.visited
        (tensor([1., 1., 4., 1.]), tensor([False, False,  True, False]))
    """

    visited: Tensor
    _tally: Tensor

    def __init__(self, num_samples: int, **initial: float) -> None:
        super().__init__()
        if num_samples < 1:
            raise InputError(f"num_samples is {num_samples}, but it must be the size of the training set, at least 1")
        self.num_samples = num_samples
        self.names = tuple(initial)
        for name, value in initial.items():
            self.register_buffer(name, torch.full((num_samples,), value, dtype=torch.float32))
        self.register_buffer("visited", torch.zeros(num_samples, dtype=torch.bool))
        self.register_buffer("_tally", torch.zeros(num_samples), persistent=False)  # all 0 between calls

    def check(self, index: Tensor | None, batch: int) -> Tensor:
        """Check the places of a batch.

        Args:
            index: Places in the training set, integer [batch].
            batch: How many samples the batch has.

        Returns:
            The places as int64 on the device of the buffers.

        Raises:
            InputError: No places, another shape or dtype, or a place outside of the training set.
        """
        if index is None:
            raise InputError(
                "this loss remembers every sample, but came without index: call loss(..., index=places of the samples "
                "in the training set)"
            )
        if index.shape != (batch,) or index.is_floating_point() or index.dtype == torch.bool:
            raise InputError(
                f"index is {index.dtype} {list(index.shape)}, but one whole number for each of {batch} samples is "
                "expected"
            )
        on_cpu = index.device.type == "cpu" and not torch.compiler.is_compiling()
        if on_cpu and batch and not 0 <= int(index.min()) <= int(index.max()) < self.num_samples:
            cure = "mend the index" if index.min() < 0 else f"pass num_samples={int(index.max()) + 1} or mend the index"
            raise InputError(
                f"index holds {int(index.min())} to {int(index.max())}, but the loss was made for the samples 0 to "
                f"{self.num_samples - 1}: {cure}"
            )
        return index.to(self.visited.device, torch.int64)

    def read(self, index: Tensor) -> dict[str, Tensor]:
        """The values of some samples.

        Args:
            index: Places, integer [B].

        Returns:
            Name to float32 [B], copies.
        """
        return {name: getattr(self, name)[index] for name in self.names}

    @torch.no_grad()
    def write(self, index: Tensor, *, counted: Tensor | None = None, **values: Tensor) -> None:
        """Store values of some samples.

        Args:
            index: Places, int64 [B].
            counted: Which samples to store, bool [B]; all where None.
            values: Name to values [B].
        """
        stacked = torch.stack([values[name].detach().float() for name in values], dim=1)
        valid = stacked.isfinite().all(1)
        if counted is not None:
            valid = valid & counted
        index, stacked, valid = _gather(index, stacked, valid)
        count = self._sum_by_sample(index, valid.float())
        for name, column in zip(values, stacked.masked_fill(~valid[:, None], 0.0).unbind(1), strict=True):
            mean = self._sum_by_sample(index, column) / count
            stored: Tensor = getattr(self, name)
            stored[index] = torch.where(count > 0, mean, stored[index])
        self.visited[index] = self.visited[index] | (count > 0)

    def _sum_by_sample(self, index: Tensor, values: Tensor) -> Tensor:
        """Each row's sum over all rows of the same sample, so that duplicates agree; costs nothing of size N."""
        self._tally.index_add_(0, index, values)
        sums = self._tally[index]
        self._tally[index] = 0.0
        return sums

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Move with the model, but stay float32 where it becomes half: 9.99 and 10 are one number in bfloat16."""

        def moved(buffer: Tensor) -> Tensor:
            other = fn(buffer)
            return other if other.dtype == buffer.dtype else buffer.to(other.device)

        super()._apply(moved, recurse)
        return self

    def extra_repr(self) -> str:
        return f"num_samples={self.num_samples}, values={', '.join(self.names)}"


def _gather(index: Tensor, values: Tensor, valid: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The rows of all processes, in the order of their ranks; batches may differ in size."""
    if not (dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1):
        return index, values, valid
    longest = index.new_tensor(len(index))
    dist.all_reduce(longest, dist.ReduceOp.MAX)
    missing = int(longest) - len(index)
    rows = torch.cat([index[:, None].double(), valid[:, None].double(), values.double()], dim=1)
    rows = torch.cat([rows, rows.new_zeros(missing, rows.shape[1])])  # not valid, so place 0 is not touched
    gathered = [torch.empty_like(rows) for _ in range(dist.get_world_size())]
    dist.all_gather(gathered, rows)
    everything = torch.cat(gathered)
    return everything[:, 0].long(), everything[:, 2:].float(), everything[:, 1] > 0

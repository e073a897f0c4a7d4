"""Distribution functions of values by class, as a module whose table grows to the data and still goes into a graph.

Comparisons with stored values make large intermediate tensors; ``in_blocks`` keeps them bounded.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

BLOCK_ENTRIES = 2**24
"""Entries of the largest matrix that is held at once (64 MiB of float32): queries are worked off in blocks."""


class ClassECDF(nn.Module):
    """Values by class, and how many of each class are smaller than a new value.

    Args:
        num_classes: K.

    Attributes:
        values: The values of every class, [K, n], filled up with infinity.
        counts: How many values each class has, [K].

    Example:
        >>> ecdf = ClassECDF(2)
        >>> ecdf.fit(torch.tensor([0.1, 0.2, 0.3]), torch.tensor([0, 0, 1]))
        >>> ecdf.smaller(torch.tensor([0.2, 0.5]))
        tensor([[1., 0.],
                [2., 1.]])
    """

    values: Tensor
    counts: Tensor

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.register_buffer("values", torch.empty(num_classes, 0))
        self.register_buffer("counts", torch.zeros(num_classes))

    def fit(self, values: Tensor, labels: Tensor) -> None:
        """Take values [n] and the class of each, int64 [n]."""
        counts = torch.bincount(labels, minlength=len(self.counts))
        by_class = labels.argsort(stable=True)
        first = counts.cumsum(0) - counts
        place = torch.arange(len(labels), device=labels.device) - first[labels[by_class]]
        width = max(1, int(counts.max()))  # a table without columns is one that was never fitted
        table = values.new_full((len(counts), width), torch.inf)
        table[labels[by_class], place] = values[by_class]
        self.values, self.counts = table, counts.to(values.dtype)

    def smaller(self, values: Tensor) -> Tensor:
        """Count the strictly smaller values of every class, [B, K]: for values [B], or [B, K], one for each class."""
        if values.ndim == 1:
            values = values[:, None]
        return (self.values < values[:, :, None]).sum(2).to(values.dtype)

    def share(self, values: Tensor) -> Tensor:
        """The empirical distribution function of every class, [B, K]; 0 for a class without values."""
        return self.smaller(values) / self.counts.clamp_min(1)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        take_shapes(self, ("values",), state_dict, prefix)
        super()._load_from_state_dict(state_dict, prefix, *rest)


def in_blocks(function: Callable[..., tuple[Tensor, ...]], entries: int, *rows: Tensor) -> tuple[Tensor, ...]:
    """Apply a function of rows to so many rows at once that ``BLOCK_ENTRIES`` intermediate numbers are not exceeded.

    Args:
        function: Maps tensors [b, ...] to a tuple of tensors [b, ...].
        entries: How many intermediate numbers it needs for one row.
        rows: Tensors [B, ...].

    Returns:
        What the function gives for all rows. In a graph that is being traced there are no blocks.
    """
    if torch.compiler.is_compiling():
        return function(*rows)
    size = max(1, BLOCK_ENTRIES // max(1, entries))
    parts = [function(*block) for block in zip(*(tensor.split(size) for tensor in rows), strict=True)]
    return tuple(torch.cat(part) for part in zip(*parts, strict=True))


def take_shapes(module: nn.Module, names: tuple[str, ...], state_dict: dict[str, Any], prefix: str) -> None:
    """Before a state is loaded, give buffers whose size depends on the data the size that they have in it."""
    for name in names:
        if prefix + name in state_dict:
            setattr(module, name, getattr(module, name).new_empty(state_dict[prefix + name].shape))

"""What a causal network remembers between two calls, and the network as one step of a stream.

Every layer that looks back asks ``Past`` for the frames before the ones at hand. At the start of a clip these are
zeros, as in a zero-padded convolution. So a clip in one call, in chunks, and frame by frame are the same computation.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn


class Past:
    """The caches of the layers that look back, used up and written anew in the order of the layers.

    Args:
        caches: The caches that the call before left behind; None at the start of a clip.

    Attributes:
        after: The caches for the next call.

    Example:
        >>> past = Past()
        >>> past.join(torch.tensor([[[1.0, 2.0]]]), frames=1)
        tensor([[[0., 1., 2.]]])
        >>> Past(past.after).join(torch.tensor([[[3.0]]]), frames=1)
        tensor([[[2., 3.]]])
    """

    def __init__(self, caches: Iterable[Tensor] | None = None) -> None:
        self._before = None if caches is None else iter(caches)
        self.after: list[Tensor] = []

    def recall(self) -> Tensor | None:
        """The next cache; None at the start of a clip."""
        return None if self._before is None else next(self._before)

    def keep(self, cache: Tensor) -> None:
        """Hand a cache on to the next call."""
        self.after.append(cache)

    def join(self, x: Tensor, frames: int) -> Tensor:
        """Put the frames before these in front of them.

        Args:
            x: Features, [B, C, T, ...].
            frames: How many earlier frames are needed.

        Returns:
            Features, [B, C, frames + T, ...].
        """
        before = self.recall()
        space = (0, 0) * (x.ndim - 3)
        joined = nn.functional.pad(x, (*space, frames, 0)) if before is None else torch.cat([before, x], dim=2)
        self.keep(joined[:, :, -frames:])
        return joined


class CausalStep(nn.Module):
    """A causal network as one step of a stream: frames, or one, and a memory in, values and the next memory out.

    The memory is all caches of the network in one row a clip, since every further tensor that a stream hands on costs
    it time. The step holds the network itself, so both share their weights.

    Args:
        network: A causal network: called as ``network(frames, past)``. It is put into ``eval()``.
        size_px: Side of the frames.

    Attributes:
        memory_size: Numbers in the memory of one clip.

    Example:
        >>> from robustvision.rppg.networks import PhysFSUNet
        >>> step = CausalStep(PhysFSUNet(width=8, causal=True).eval(), size_px=16)
        >>> value, memory = step(torch.zeros(1, 3, 1, 16, 16), step.start(batch=1))
        >>> value.shape, memory.shape
        (torch.Size([1, 1]), torch.Size([1, 3344]))
    """

    def __init__(self, network: nn.Module, size_px: int) -> None:
        super().__init__()
        self.network = network.eval()
        past = Past()
        with torch.no_grad():
            network(next(network.parameters()).new_zeros(1, 3, 1, size_px, size_px), past)
        self._shapes = [cache.shape[1:] for cache in past.after]
        self._sizes = [shape.numel() for shape in self._shapes]
        self.memory_size = sum(self._sizes)

    def start(self, batch: int) -> Tensor:
        """The memory before the first frame: zeros, [batch, memory_size]."""
        return next(self.network.parameters()).new_zeros(batch, self.memory_size)

    def forward(self, frames: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
        """RGB [B, 3, T, S, S], 0 to 255, and the memory after the frame before; BVP [B, T] and the next memory."""
        parts = zip(memory.split(self._sizes, dim=1), self._shapes, strict=True)
        past = Past(part.reshape(memory.shape[0], *shape) for part, shape in parts)
        wave = self.network(frames, past)
        after = torch.cat([cache.flatten(1) for cache in past.after], dim=1)
        return wave, after.reshape(memory.shape[0], self.memory_size)  # says in a graph that its size stays

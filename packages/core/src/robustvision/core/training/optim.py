"""Optimiser wrappers beside mmengine's own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from mmengine.optim import OptimWrapper
from torch import nn


class AutocastOptimWrapper(OptimWrapper):
    """Train the forward pass in bfloat16, on a CPU or on CUDA.

    The weights and the optimiser stay in float32. bfloat16 has float32's range, so nothing is scaled; for float16 on
    CUDA use mmengine's ``AmpOptimWrapper``. Losses should be computed in float32 inside the model.

    Args:
        optimizer: The optimiser.
        accumulative_counts: Steps whose gradients are summed before the weights move.
        clip_grad: What ``torch.nn.utils.clip_grad_norm_`` takes, such as ``{"max_norm": 1.0}``.
    """

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """Wrap the forward pass.

        Args:
            model: The model, whose first parameter tells the device.

        Yields:
            Nothing.
        """
        device = next(model.parameters()).device.type
        with super().optim_context(model), torch.autocast(device, dtype=torch.bfloat16):
            yield

"""With several processes, the loss of all of them instead of the first one's part."""

from __future__ import annotations

from typing import Any

import torch
from mmengine.dist import all_reduce, get_world_size
from mmengine.hooks import Hook


class ReduceLossHook(Hook):
    """Average what the model returns over all processes, before anything logs it or judges it.

    So the logged curve is that of the whole batch, and a loss that is not finite in one process stops all of them in
    the same step. A model has to return the same names in every process.
    """

    priority = "HIGHEST"

    def after_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Replace the values in ``outputs``."""
        if get_world_size() == 1 or not outputs:
            return
        names = sorted(outputs)
        values = torch.stack([outputs[name].detach().float() for name in names])
        all_reduce(values, op="mean")
        outputs.update(zip(names, values, strict=True))

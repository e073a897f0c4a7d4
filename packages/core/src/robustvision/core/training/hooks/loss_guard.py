"""A loss that is not finite ends the run at that step."""

from __future__ import annotations

import math
from typing import Any

import torch
from mmengine.hooks import Hook

from robustvision.core.errors import TrainingError


class LossGuardHook(Hook):
    """Stop when the loss is NaN or infinite.

    The optimiser has stepped by then, so the weights may be broken; :meth:`Runner.save_checkpoint` refuses to write
    such weights, and the last checkpoint stays good.
    """

    priority = "VERY_HIGH"

    def after_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Check the losses.

        Raises:
            TrainingError: One is not finite.
        """
        losses = {name: float(value.detach()) for name, value in (outputs or {}).items() if "loss" in name}
        if all(math.isfinite(value) for value in losses.values()):
            return
        values = ", ".join(f"{name}={value:g}" for name, value in losses.items())
        rate = runner.optim_wrapper.get_lr()["lr"][0]
        raise TrainingError(
            f"the loss is not finite at step {runner.iter + 1} (epoch {runner.epoch + 1}): "
            f"{values}{_samples(data_batch)}. Nothing was saved in this step. Lower the learning rate (now {rate:g}), "
            "clip the gradients (optim_wrapper.clip_grad.max_norm=1), or look at these samples"
        )


def _samples(batch: Any) -> str:
    index = batch.get("index") if isinstance(batch, dict) else None
    if not isinstance(index, torch.Tensor):
        return ""
    first = index.flatten()[:8].tolist()
    return f", samples {first}{' and more' if index.numel() > 8 else ''}"

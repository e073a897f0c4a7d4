"""Random numbers that need no memory: every step seeds its own."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch
from mmengine.hooks import Hook


class SeedingHook(Hook):
    """Seed torch, numpy and random before each training step and each validation, from (seed, step, process).

    So dropout after a resume draws what it would have drawn, and no state of a generator has to be saved or gathered.
    """

    priority = "VERY_HIGH"

    def before_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:
        """Seed the step."""
        _seed(runner, phase=0)

    def before_val_epoch(self, runner: Any) -> None:
        """Seed the validation."""
        _seed(runner, phase=1)


def _seed(runner: Any, phase: int) -> None:
    sequence = np.random.SeedSequence([runner.seed, runner.iter, runner.rank, phase])
    words = [int(word) for word in sequence.generate_state(3, np.uint64)]
    torch.manual_seed(words[0])
    np.random.seed(words[1] % 2**32)  # noqa: NPY002  (code of others may draw from it)
    random.seed(words[2])

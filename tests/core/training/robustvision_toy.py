"""A toy domain for the tests of training: small enough to train in a second, with all that makes a resume hard.

The tests get it from the fixture ``toy``; subprocesses and ``torchrun`` run this file as a program.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from mmengine.evaluator import BaseMetric
from mmengine.hooks import EMAHook, Hook
from mmengine.model import BaseModel
from mmengine.optim import CosineAnnealingLR, LinearLR
from torch import Tensor, nn

from robustvision.core.errors import InputError, TrainingError
from robustvision.core.training import sample_rng, split_index, train
from robustvision.core.training.hooks import EarlyStopHook
from robustvision.core.training.processes import leave_group

CLASSES = 4


class Squares(torch.utils.data.Dataset):
    """Images [3, 8, 8] of a few patterns under noise, which is drawn anew each epoch."""

    def __init__(self, size: int, seed: int = 0, noise: float = 0.5) -> None:
        self.size, self.seed, self.noise = size, seed, noise
        rng = np.random.default_rng(7)
        self.patterns = rng.standard_normal((CLASSES, 3, 8, 8)).astype(np.float32)

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, key: Any) -> dict[str, Any]:
        epoch, index = split_index(key)
        label = index % CLASSES
        noise = sample_rng(self.seed, epoch, index).standard_normal((3, 8, 8)).astype(np.float32)
        return {"image": torch.from_numpy(self.patterns[label] + self.noise * noise), "label": label, "index": index}

    def fingerprint(self) -> str:
        return f"squares-{self.size}-{self.seed}"


class Classifier(BaseModel):
    """A small net with dropout and, if wanted, batch norm, and with noise on its predictions."""

    def __init__(self, width: int = 8, dropout: float = 0.3, batch_norm: bool = True, jitter: float = 0.0) -> None:
        super().__init__()
        norm = nn.BatchNorm2d(width) if batch_norm else nn.Identity()
        convolution = nn.Conv2d(3, width, 3, stride=2)
        self.features = nn.Sequential(convolution, norm, nn.ReLU(), nn.Dropout(dropout), nn.Flatten())
        self.head = nn.Linear(width * 9, CLASSES)
        self.jitter = jitter
        self.register_buffer("mask", torch.full((2,), -torch.inf))  # not finite, and rightly so

    def forward(self, image: Tensor, label: Tensor, index: Tensor, mode: str = "tensor") -> Any:
        logits = self.head(self.features(image)).float()
        if mode == "predict":
            logits = logits + self.jitter * torch.randn_like(logits)
            return [{"logits": row, "label": int(one)} for row, one in zip(logits, label, strict=True)]
        loss = nn.functional.cross_entropy(logits, label)
        return {"loss": loss, "largest": logits.detach().abs().max()}


class Accuracy(BaseMetric):
    """The share of right answers, and the mean loss."""

    default_prefix = "toy"

    def process(self, data_batch: Any, data_samples: Any) -> None:
        for sample in data_samples:
            loss = nn.functional.cross_entropy(sample["logits"][None], torch.tensor([sample["label"]]))
            self.results.append((int(sample["logits"].argmax()) == sample["label"], float(loss)))

    def compute_metrics(self, results: list[Any]) -> dict[str, float]:
        right, losses = np.array(results, dtype=float).T
        return {"accuracy": float(right.mean()), "nll": float(losses.mean()), "count": float(len(results))}


class KilledError(Exception):
    """Stands for a kill in the tests that stay in one process."""


class KillHook(Hook):
    """End the run after a step: by an exception, by SIGKILL, or by leaving."""

    priority = "LOWEST"

    def __init__(self, step: int, how: str = "raise", rank: int = 0, stage: str = "iter") -> None:
        self.step, self.how, self.rank, self.stage = step, how, rank, stage

    def after_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        if self.stage == "iter" and runner.iter + 1 == self.step:
            self.kill(runner)

    def after_val_epoch(self, runner: Any, metrics: Any = None) -> None:
        if self.stage == "val" and runner.iter >= self.step:
            self.kill(runner)

    def kill(self, runner: Any) -> None:
        if runner.rank != self.rank:
            return
        if self.how == "raise":
            raise KilledError
        if self.how == "exit":
            os._exit(7)
        os.kill(os.getpid(), signal.SIGKILL)


class DrawHook(KillHook):
    """Write down a random number in each step."""

    priority = "LOW"

    def before_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:
        with Path(f"draws{runner.rank}.txt").open("a") as file:
            file.write(f"{float(torch.rand(()))}\n")


class PoisonHook(KillHook):
    """Break the weights of the second process."""

    priority = 0  # with the hook that averages, but before it

    def kill(self, runner: Any) -> None:
        if runner.rank == 1:
            runner.model.module.head.weight.data.fill_(torch.nan)


def train_one_of(
    rank: int, size: int, meeting: Path, folder: Path, settings: dict[str, Any], options: dict[str, Any]
) -> None:
    """Train as one of several processes, and write down how it ended."""
    from robustvision_adaptation_toy import gloo_threads  # here, since a test copies this file alone

    os.chdir(folder)
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=size)
    try:
        result = train(recipe(**settings), work_dir=folder / "run", quiet=True, **options)
        (folder / f"metrics{rank}.json").write_text(json.dumps(result.metrics))
    except (InputError, TrainingError, KilledError) as error:
        (folder / f"error{rank}.txt").write_text(f"{type(error).__name__}: {error}")
    finally:
        leave_group()
    assert not gloo_threads()


def recipe(
    *,
    samples: int = 36,
    batch_size: int = 6,
    epochs: int = 3,
    ema: bool = False,
    accumulate: int = 1,
    workers: int = 0,
    early_stop: bool = False,
    hooks: tuple[dict[str, Any], ...] = (),
    model: dict[str, Any] | None = None,
    checkpoint: dict[str, Any] | None = None,
    validation: bool = True,
    steps: int | None = None,
    **sections: Any,
) -> dict[str, Any]:
    """A recipe of the toy domain; ``steps`` is the length of the schedule."""
    custom = list(hooks)
    if ema:
        custom.append({"type": EMAHook, "momentum": 0.1})
    if early_stop:
        custom.append({"type": EarlyStopHook, "monitor": "toy/nll", "rule": "less", "patience": 2, "min_delta": 0.9})
    steps = steps or epochs * (samples // batch_size)
    best = {"save_best": "toy/nll", "rule": "less"} if validation else {}
    data = {"type": Squares, "size": samples}
    built: dict[str, Any] = {
        "model": {"type": Classifier, **(model or {})},
        "train_dataloader": {"dataset": data, "batch_size": batch_size, "num_workers": workers},
        "train_cfg": {"max_epochs": epochs},
        "optim_wrapper": {
            "optimizer": {"type": torch.optim.AdamW, "lr": 0.01, "weight_decay": 0.01},
            "accumulative_counts": accumulate,
            "clip_grad": {"max_norm": 5.0},
        },
        "param_scheduler": [
            {"type": LinearLR, "start_factor": 0.1, "by_epoch": False, "end": 4},
            {"type": CosineAnnealingLR, "by_epoch": False, "begin": 4, "end": steps},
        ],
        "custom_hooks": custom,
        "default_hooks": {"checkpoint": {**best, **(checkpoint or {})}, "progress": None},
    }
    if validation:
        built["val_dataloader"] = {"dataset": {"type": Squares, "size": 22, "seed": 1}, "batch_size": 5}
        built["val_evaluator"] = {"type": Accuracy}
    return {**built, **sections}


def main() -> None:
    """Train in a process of its own; the options are JSON for ``recipe`` and ``train``."""
    parser = argparse.ArgumentParser()
    parser.add_argument("recipe", type=json.loads)
    parser.add_argument("train", type=json.loads)
    parser.add_argument("--kill", type=json.loads)
    options = parser.parse_args()
    torch.set_num_threads(1)
    kill = ({"type": KillHook, **options.kill},) if options.kill else ()
    result = train(recipe(hooks=kill, **options.recipe), **options.train)
    if int(os.environ.get("RANK", "0")) == 0:
        sys.stdout.write(json.dumps({"step": result.step, "metrics": dict(result.metrics)}))


if __name__ == "__main__":
    main()

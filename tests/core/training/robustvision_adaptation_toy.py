"""Toys for the tests of adaptation: a classifier and a segmenter that keep their net in ``network``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from mmengine.evaluator import BaseMetric
from mmengine.model import BaseModel
from torch import Tensor, nn

from robustvision.core.training import AdaptationOptions, adapt, sample_rng, split_index
from robustvision.core.training.processes import leave_group

CLASSES = 3


class Blobs(torch.utils.data.Dataset):
    """Points [6] around a centre a class; some labels are wrong, the noise is drawn anew in each epoch."""

    def __init__(self, size: int, seed: int = 0, wrong: float = 0.0) -> None:
        rng = np.random.default_rng([seed, 1])
        self.size, self.seed = size, seed
        self.truth = rng.integers(CLASSES, size=size)
        flipped = rng.random(size) < wrong
        self.labels = np.where(flipped, (self.truth + 1) % CLASSES, self.truth)
        self.centres = np.random.default_rng(5).standard_normal((CLASSES, 6)) * 1.5

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, key: Any) -> dict[str, Any]:
        epoch, index = split_index(key)
        point = self.centres[self.truth[index]] + sample_rng(self.seed, epoch, index).standard_normal(6)
        return {"image": torch.tensor(point, dtype=torch.float32), "label": int(self.labels[index]), "index": index}


class Stripes(torch.utils.data.Dataset):
    """Images [2, 8, 8] with a bright rectangle; a noisy label is the rectangle moved by two pixels."""

    def __init__(self, size: int, seed: int = 0, shift: int = 0) -> None:
        self.size, self.seed, self.shift = size, seed, shift

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, key: Any) -> dict[str, Any]:
        epoch, index = split_index(key)
        left, top = np.random.default_rng([self.seed, index]).integers(0, 4, 2)
        mask = np.zeros((1, 8, 8), np.float32)
        mask[:, top : top + 4, left : left + 3] = 1
        image = mask + 0.3 * sample_rng(self.seed, epoch, index).standard_normal((2, 8, 8))
        valid = np.ones((1, 8, 8), np.float32)
        valid[:, 0] = 0
        label = np.roll(mask, self.shift, axis=2)
        return {
            "image": torch.tensor(image, dtype=torch.float32),
            "label": torch.from_numpy(label.copy()),
            "valid": torch.from_numpy(valid),
        }


class PointModel(BaseModel):
    """A classifier: logits [B, 3] and cross-entropy."""

    def __init__(self, width: int = 16, dropout: float = 0.2) -> None:
        super().__init__()
        encoder = nn.Sequential(nn.Linear(6, width), nn.BatchNorm1d(width), nn.ReLU(), nn.Dropout(dropout))
        self.network = nn.Sequential()
        self.network.add_module("encoder", encoder)
        self.network.add_module("middle", nn.Sequential(nn.Linear(width, width), nn.BatchNorm1d(width), nn.ReLU()))
        self.network.add_module("head", nn.Linear(width, CLASSES))

    def forward(self, image: Tensor, label: Tensor, index: Tensor | None = None, mode: str = "tensor") -> Any:
        logits = self.network(image)
        if mode == "predict":
            return [{"logits": row, "label": int(one)} for row, one in zip(logits, label, strict=True)]
        return {"loss": nn.functional.cross_entropy(logits, label)}


class MaskModel(BaseModel):
    """A segmenter: logits [B, 1, 8, 8] and masked binary cross-entropy."""

    def __init__(self, width: int = 6) -> None:
        super().__init__()
        encoder = nn.Sequential(nn.Conv2d(2, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU())
        self.network = nn.Sequential()
        self.network.add_module("encoder", encoder)
        self.network.add_module("head", nn.Conv2d(width, 1, 3, padding=1))

    def forward(self, image: Tensor, label: Tensor, valid: Tensor, mode: str = "tensor") -> Any:
        logits = self.network(image)
        if mode == "predict":
            return [{"logits": row, "label": one} for row, one in zip(logits, label, strict=True)]
        each = nn.functional.binary_cross_entropy_with_logits(logits, label, reduction="none")
        return {"loss": (each * valid).sum() / valid.sum()}


class RightShare(BaseMetric):
    """The share of points, or pixels, whose class is right."""

    default_prefix = "toy"

    def process(self, data_batch: Any, data_samples: Any) -> None:
        for sample in data_samples:
            logits, label = sample["logits"], sample["label"]
            right = logits.argmax() == label if logits.ndim == 1 else ((logits > 0) == (label > 0.5)).float().mean()
            self.results.append(float(right))

    def compute_metrics(self, results: list[float]) -> dict[str, float]:
        return {"accuracy": float(np.mean(results))}


def recipe(kind: str = "points", *, batch_size: int = 8, hooks: tuple[Any, ...] = (), **model: Any) -> dict[str, Any]:
    """A recipe; data for training come from ``adapt``."""
    validation = Blobs(60, seed=9) if kind == "points" else Stripes(20, seed=9)
    return {
        "model": {"type": PointModel if kind == "points" else MaskModel, **model},
        "train_dataloader": {"dataset": None, "batch_size": batch_size},
        "train_cfg": {"max_epochs": 1},
        "optim_wrapper": {"optimizer": {"type": torch.optim.Adam, "lr": 0.01}},
        "val_dataloader": {"dataset": validation, "batch_size": 20},
        "val_evaluator": {"type": RightShare},
        "custom_hooks": list(hooks),
        "default_hooks": {"checkpoint": {"save_best": "toy/accuracy"}, "progress": None},
    }


def adapt_as_one_of(rank: int, meeting: Path, folder: Path, method: str, options: AdaptationOptions) -> None:
    """Adapt as one of two processes."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=2)
    try:
        data = {"noisy": Blobs(100, wrong=0.4), "clean": Blobs(12, seed=2)}
        adapt(method, recipe(batch_size=4), **data, work_dir=folder, options=options, device="cpu", quiet=True)
    finally:
        leave_group()
    assert not gloo_threads()


def gloo_threads() -> list[str]:
    """This process's threads of gloo, where the system lists threads in files.

    One that lets go of a tensor while the interpreter shuts down aborts the process, now and then.
    """
    return [name for name in map(_read, Path("/proc/self/task").glob("*/comm")) if "gloo" in name]


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:  # the thread has ended
        return ""

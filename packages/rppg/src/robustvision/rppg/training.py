"""Trains a recipe on rendered films or on the user's own data set, and writes a report beside the checkpoints."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mmengine import Config
from mmengine.registry import DATASETS

from robustvision.core.errors import InputError
from robustvision.core.report import report_training
from robustvision.core.training import load_recipe, prepare_work_dir, train
from robustvision.core.training.processes import is_first_process, resolve_device
from robustvision.rppg.data import PulseDataset, recordings_dataset, synthetic_dataset

PACKAGE = "robustvision.rppg"
SOURCE_SPLIT = "cross_source"
SHOWN = 8


def load_pulse_recipe(
    recipe: str | Path,
    *,
    data: Path | None = None,
    kind: str | None = None,
    split: str | None = None,
    cfg_options: Sequence[str] = (),
) -> Config:
    """Load a recipe, and point it at the user's data; nothing is read yet.

    Args:
        recipe: A recipe's name or file.
        data: The folder of a data set, split by subjects; the recipe's own data where None.
        kind: Its layout: ``pure``, ``ubfc``, ``mmpd`` or ``scamps``.
        split: A name of ``SPLITS``; that of a source data set where None: four fifths of the subjects train.
        cfg_options: Changes, ``key=value``.

    Returns:
        The recipe.

    Raises:
        InputError: The recipe or an option is not there, or the data are given by halves.
    """
    config = load_recipe(recipe, PACKAGE, cfg_options)
    if (data is None) != (kind is None) or (data is None and split is not None):
        raise InputError("--data needs --kind, its layout (pure, ubfc, mmpd or scamps); --kind and --split need --data")
    if data is None:
        return config
    if not data.is_dir():
        raise InputError(f"{data} is not a folder: give the root of the data set")
    for loader, part in (("train_dataloader", "train"), ("val_dataloader", "validation")):
        old = config[loader].dataset
        kept = {name: old[name] for name in ("size_px", "frames_per_sample", "augmentation") if name in old}
        source = {"kind": kind, "root": str(data), "split": split or SOURCE_SPLIT, "part": part}
        config[loader].dataset = {"type": recordings_dataset, **source, **kept}
    return config


def build_training_set(config: Config, *, quiet: bool = False) -> PulseDataset:
    """Read or render the training set of a recipe.

    Args:
        config: The recipe.
        quiet: No progress while films are rendered or faces looked for.

    Returns:
        The training set.

    Raises:
        InputError: The data cannot be used.
    """
    for loader in ("train_dataloader", "val_dataloader"):
        if config.get(loader) and config[loader].dataset.type in (synthetic_dataset, recordings_dataset):
            config[loader].dataset.quiet = quiet
    dataset: PulseDataset = DATASETS.build(config.train_dataloader.dataset)
    return dataset


def train_pulse(
    recipe: str | Path,
    *,
    data: Path | None = None,
    kind: str | None = None,
    split: str | None = None,
    work_dir: Path,
    seed: int = 0,
    device: str = "auto",
    cfg_options: Sequence[str] = (),
    resume: bool = False,
    quiet: bool = False,
) -> dict[str, Any]:
    """Train, and write ``report.html`` into the work folder.

    Args:
        recipe: ``tiny``, ``small``, ``paper`` or a file.
        data: The folder of a data set; the recipe's own data where None.
        kind: Its layout.
        split: How its subjects are split.
        work_dir: Where everything goes; new or empty, unless ``resume``.
        seed: Seed of everything random but the data.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        cfg_options: Changes to the recipe, ``key=value``.
        resume: Go on from the newest checkpoint.
        quiet: No progress.

    Returns:
        Plain values: metrics, steps, and the paths of checkpoint and report.

    Raises:
        InputError: The recipe, the data or the folder cannot be used.
        TrainingError: The loss or a weight is not finite.
    """
    config = load_pulse_recipe(recipe, data=data, kind=kind, split=split, cfg_options=cfg_options)
    resolve_device(device)
    prepare_work_dir(work_dir, resume=resume)  # before minutes go into rendering
    dataset = build_training_set(config, quiet=quiet)
    result = train(config, work_dir=work_dir, seed=seed, device=device, resume=resume, quiet=quiet)
    if is_first_process():
        _write_report(result.work_dir, dataset)
    return {
        "metrics": dict(result.metrics),
        "steps": result.step,
        "epochs": result.epoch,
        "seconds": round(result.seconds, 1),
        "checkpoint": str(result.checkpoint),
        "report": str(result.work_dir / "report.html"),
    }


def _write_report(work_dir: Path, dataset: PulseDataset) -> None:
    report = report_training(work_dir / "log.jsonl", work_dir / "run.json")
    clips = dataset.clips
    chosen = np.random.default_rng(0).choice(len(clips), min(SHOWN, len(clips)), replace=False)
    report.pictures(
        [(clips[place].frames[0], f"{clips[place].name} {dict(clips[place].conditions)}") for place in chosen],
        title="First frames of training clips",
    )
    report.write(work_dir / "report.html")

"""Trains a recipe on rendered faces or on the user's own, and writes a report beside the checkpoints."""

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
from robustvision.core.training.classes import fit_loss
from robustvision.core.training.processes import is_first_process, resolve_device
from robustvision.face.data import FaceDataset, files_dataset, synthetic_dataset

PACKAGE = "robustvision.face"
SHOWN = 16


def load_face_recipe(
    recipe: str | Path,
    *,
    data: Path | None = None,
    val_data: Path | None = None,
    landmarks: Path | None = None,
    cfg_options: Sequence[str] = (),
) -> Config:
    """Load a recipe, and point it at the user's data; nothing is read yet.

    Args:
        recipe: A recipe's name or file.
        data: Training identities, a folder or a list; the recipe's own data where None.
        val_data: Validation identities, likewise; without them a run on own data is not validated.
        landmarks: A CSV file with five landmarks for every image of both, for photos that are not aligned yet.
        cfg_options: Changes, ``key=value``.

    Returns:
        The recipe.

    Raises:
        InputError: The recipe or an option is not there, or the data are given by halves.
    """
    config = load_recipe(recipe, PACKAGE, cfg_options)
    if data is None:
        for option, value in (("--val-data", val_data), ("--landmarks", landmarks)):
            if value is not None:
                raise InputError(f"{option} without --data: rendered faces come with their own")
        return config
    for path in (data, val_data, landmarks):
        if path is not None and not path.exists():
            raise InputError(f"{path} is not there: give a folder with one sub-folder a person, or a list file")
    files = {"type": files_dataset, "landmarks": None if landmarks is None else str(landmarks)}
    config.train_dataloader.dataset = {**files, "path": str(data)}
    if val_data is not None:
        config.val_dataloader.dataset = {**files, "path": str(val_data), "flip": 0.0}
    else:
        for section in ("val_dataloader", "val_evaluator", "val_cfg"):
            config.pop(section, None)
        config.default_hooks.checkpoint.save_best = None
    return config


def build_training_set(config: Config, *, quiet: bool = False) -> FaceDataset:
    """Read or render the training set of a recipe, and fit the head to the number of its identities.

    Args:
        config: The recipe; the number of classes of its head is set, and the sizes that its loss needs.
        quiet: No progress while faces are rendered.

    Returns:
        The training set.

    Raises:
        InputError: The data cannot be used.
    """
    for loader in ("train_dataloader", "val_dataloader"):
        if config.get(loader) and config[loader].dataset.type is synthetic_dataset:
            config[loader].dataset.quiet = quiet
    dataset = DATASETS.build(config.train_dataloader.dataset)
    config.model.head.num_classes = dataset.num_classes
    fit_loss(config.model.loss, num_classes=dataset.num_classes, num_samples=len(dataset))
    return dataset


def train_face(
    recipe: str | Path,
    *,
    data: Path | None = None,
    val_data: Path | None = None,
    landmarks: Path | None = None,
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
        data: Training identities; the recipe's own data where None.
        val_data: Validation identities.
        landmarks: A CSV file with five landmarks an image.
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
    config = load_face_recipe(recipe, data=data, val_data=val_data, landmarks=landmarks, cfg_options=cfg_options)
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


def _write_report(work_dir: Path, dataset: FaceDataset) -> None:
    report = report_training(work_dir / "log.jsonl", work_dir / "run.json")
    shown = np.random.default_rng(0).choice(len(dataset), min(SHOWN, len(dataset)), replace=False)
    report.pictures(
        [(dataset.source.image(int(place)), _caption(dataset, int(place))) for place in shown], title="Training images"
    )
    report.write(work_dir / "report.html")


def _caption(dataset: FaceDataset, place: int) -> str:
    said, true = int(dataset.labels[place]), int(dataset.clean_labels[place])
    return f"label {said}" if said == true else f"label {said}, really {true}"

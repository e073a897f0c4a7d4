"""Trains a recipe on rendered scenes or on the user's own images, adapts it to clean labels, and writes a report."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mmengine import Config
from mmengine.registry import DATASETS

from robustvision.buildings.data import BuildingDataset, files_dataset, synthetic_dataset
from robustvision.buildings.pictures import label_overlay
from robustvision.core.errors import InputError
from robustvision.core.report import report_training
from robustvision.core.runtime.files import write_atomically
from robustvision.core.training import load_recipe
from robustvision.core.training.adaptation import AdaptationOptions, adapt
from robustvision.core.training.adaptation_options import METHODS
from robustvision.core.training.processes import is_first_process
from robustvision.core.training.tree import as_text
from robustvision.core.training.work_dir import prepare_work_dir

PACKAGE = "robustvision.buildings"
RECIPE = "recipe.py"
SHOWN = 8
KEPT = ("augmentation", "tile_px", "size_px")
"""What a recipe says of its own data set that holds for the user's as well."""


def load_building_recipe(
    recipe: str | Path,
    *,
    data: Path | None = None,
    kind: str | None = None,
    images: Path | None = None,
    labels: Path | None = None,
    clean_images: Path | None = None,
    clean_labels: Path | None = None,
    target: str = "roof",
    method: str | None = None,
    cfg_options: Sequence[str] = (),
) -> Config:
    """Load a recipe, and point it at the user's data; nothing is read yet.

    Args:
        recipe: A recipe's name or file.
        data: The root of a data set; the recipe's own data where neither it nor ``images`` is given.
        kind: Its layout, a name in ``data.READERS``.
        images: A folder of images.
        labels: A vector file, or a folder of masks.
        clean_images: The few images with clean labels.
        clean_labels: Their labels.
        target: What the labels show, and the model learns: ``roof``, ``footprint`` or ``shape``.
        method: A name in ``METHODS``; the recipe's own where None.
        cfg_options: Changes, ``key=value``.

    Returns:
        The recipe.

    Raises:
        InputError: The recipe or an option is not there, or the data are given by halves.
    """
    config = load_recipe(recipe, PACKAGE, cfg_options)
    if method is not None:
        config.method = method
    if config.method not in METHODS:
        raise InputError(f"method is {config.method!r}: expected {', '.join(METHODS)}")
    wide = _source(data, kind, images, labels, "")
    few = _source(None, None, clean_images, clean_labels, "clean-")
    if wide is None and few is not None:
        raise InputError("--clean-images came without the large set: give it too, by --data or --images")
    if wide is None:
        return config
    if few is None and config.method != "noisy-only":
        raise InputError(
            f"method {config.method} needs clean labels: give --clean-images and --clean-labels, or --method noisy-only"
        )
    config.train_dataloader.dataset = _files(config.train_dataloader.dataset, wide, "train", target)
    config.clean_dataset = _files(config.clean_dataset, few or wide, "train", target)
    config.val_dataloader.dataset = _files(config.val_dataloader.dataset, few or wide, "validation", target)
    return config


def _source(
    data: Path | None, kind: str | None, images: Path | None, labels: Path | None, prefix: str
) -> dict[str, str] | None:
    """The arguments of ``files_dataset`` that say where a data set lies; None where nothing was given."""
    if (images is None) != (labels is None):
        raise InputError(f"--{prefix}images and --{prefix}labels belong together: give both")
    if (data is None) != (kind is None) or (data is not None and images is not None):
        raise InputError("give --data with --kind, its layout, or --images with --labels")
    for folder in (data, images):
        if folder is not None and not folder.is_dir():
            raise InputError(f"{folder} is not a folder")
    if data is not None:
        return {"kind": str(kind), "root": str(data)}
    if images is None or labels is None:
        return None
    if not labels.exists():
        raise InputError(f"{labels} does not exist: give a vector file, or a folder of masks")
    return {"kind": "images", "root": str(images), "labels": str(labels)}


def _files(old: dict[str, Any], source: dict[str, str], part: str, target: str) -> dict[str, Any]:
    kept = {name: old[name] for name in KEPT if name in old}
    return {"type": files_dataset, **source, "part": part, "target": target, **kept}


def train_buildings(
    recipe: str | Path,
    *,
    work_dir: Path,
    seed: int = 0,
    device: str = "auto",
    resume: bool = False,
    quiet: bool = False,
    **choices: Any,
) -> dict[str, Any]:
    """Train and adapt, and write ``report.html`` into the work folder.

    Args:
        recipe: ``tiny``, ``small``, ``paper`` or a file.
        work_dir: Where everything goes; new or empty, unless ``resume``.
        seed: Seed of everything random but the data.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        resume: Go on from the newest checkpoint.
        quiet: No progress.
        choices: What ``load_building_recipe`` takes: method, data, options.

    Returns:
        Plain values: method, metrics, steps on clean labels and in all, and the paths of weights and report.

    Raises:
        InputError: The recipe, the data or the folder cannot be used.
        TrainingError: The loss or a weight is not finite.
    """
    config = load_building_recipe(recipe, **choices)
    if not resume and is_first_process():
        prepare_work_dir(work_dir, resume=False)  # before minutes of reading or rendering
    for entry in (config.train_dataloader.dataset, config.clean_dataset, config.val_dataloader.dataset):
        if entry.type in (synthetic_dataset, files_dataset):
            entry.quiet = quiet
    noisy: BuildingDataset = DATASETS.build(config.train_dataloader.dataset)
    clean: BuildingDataset = DATASETS.build(config.clean_dataset)
    result = adapt(
        config.method,
        config,
        noisy=noisy,
        clean=clean,
        work_dir=work_dir,
        seed=seed,
        device=device,
        options=AdaptationOptions(**config.adaptation),
        resume=resume,
        quiet=quiet,
    )
    if is_first_process():
        with write_atomically(Path(work_dir) / RECIPE) as temporary:
            temporary.write_text(as_text(config), encoding="utf-8")
        _write_report(Path(work_dir), {"labels of the large set": noisy, "clean labels": clean})
    return {
        "method": result.method,
        "metrics": dict(result.metrics),
        "clean_steps": result.clean_steps,
        "steps": result.total_steps,
        "weights": str(result.weights),
        "report": str(Path(work_dir) / "report.html"),
    }


def _write_report(work_dir: Path, datasets: dict[str, BuildingDataset]) -> None:
    last = sorted(work_dir.glob("*/log.jsonl"), key=lambda file: file.stat().st_mtime)[-1].parent
    report = report_training(last / "log.jsonl", last / "run.json")
    for title, dataset in datasets.items():
        chosen = np.random.default_rng(0).choice(len(dataset.tiles), min(SHOWN, len(dataset.tiles)), replace=False)
        shown = [dataset.tiles[place] for place in chosen]
        report.pictures([(label_overlay(tile.image, tile.label), tile.name) for tile in shown], title=title)
    report.write(work_dir / "report.html")

"""What leaves: one graph from a normalised picture to logits, with tile, normalisation and target in its manifest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mmengine import Config
from mmengine.registry import DATASETS, MODELS
from torch import nn

from robustvision.buildings.contract import IMAGE, TASK, Preprocessing
from robustvision.buildings.data import BuildingDataset, Tile
from robustvision.buildings.evaluation import evaluate_tiles, model_predictor
from robustvision.buildings.graphs import multiple_of, segmentation_graph
from robustvision.buildings.model import BuildingModel
from robustvision.buildings.training import RECIPE
from robustvision.core.errors import InputError
from robustvision.core.export import ExportReport, export_model, update_manifest
from robustvision.core.export.files import staged_model
from robustvision.core.runtime.manifest import MAIN_GRAPH
from robustvision.core.runtime.session import open_model
from robustvision.core.training import load_weights
from robustvision.core.training.adaptation_options import AdaptationResult, read_adaptation

LICENCE = "Apache-2.0"
STRIDE = 0.75
"""Step between tiles of a raster, as a share of the tile: each pixel is seen by up to four tiles."""


def export_network(
    network: nn.Module, path: Path, settings: Preprocessing, *, name: str, training: Mapping[str, Any]
) -> ExportReport:
    """Write a segmentation network as one ONNX file.

    Args:
        network: Maps normalised pictures [B, 3, H, W] to logits [B, 1, H, W].
        path: The file.
        settings: Tile, normalisation and target.
        name: The model's name in the manifest.
        training: What the manifest says about the training.

    Returns:
        The report, with the parity figures.

    Raises:
        ExportError: The graph does not compute what torch computes; nothing is written.
    """
    return export_model(
        path,
        {MAIN_GRAPH: segmentation_graph(network.cpu().eval(), settings.tile_px)},
        task=TASK,
        name=name,
        preprocessing=settings.entry(),
        classes=("building",),
        training=training,
        licence=LICENCE,
        self_test_inputs={IMAGE: self_test_image(settings)},
    )


def self_test_image(settings: Preprocessing) -> np.ndarray:
    """Return the fixed input of the self-test, float32 [1, 3, S, S]: bright squares on a gradient, 64 pixels."""
    size = min(settings.tile_px, -(-64 // settings.multiple) * settings.multiple)
    y, x = np.mgrid[0:size, 0:size]
    roofs = ((x // 12 + y // 12) % 3 == 0) * 80
    planes = [60 + 90 * x / size + roofs, 90 + 60 * y / size + roofs, 70 + roofs]
    return settings.normalise(np.stack(planes, axis=-1).round().astype(np.uint8))[None]


def export_run(work_dir: Path, path: Path, *, quiet: bool = False) -> dict[str, Any]:
    """Export what a training run ended with, and measure the file on the validation tiles.

    Args:
        work_dir: The work folder of the run.
        path: The ``.onnx`` file to write.
        quiet: No progress.

    Returns:
        Plain values: path, parity, validation metrics.

    Raises:
        InputError: The folder holds no finished run, or the path is not a file's.
        ExportError: The graph does not compute what torch computes.
    """
    if path.suffix != ".onnx":
        raise InputError(f"{path} must end in .onnx: a building model is one file")
    finished = read_adaptation(work_dir)
    recipe = Path(work_dir) / RECIPE
    if finished is None or not recipe.is_file():
        raise InputError(
            f"{work_dir} holds no finished training: give the work folder of `train`, or go on with --resume"
        )
    config = Config.fromfile(str(recipe), format_python_code=False)
    config.val_dataloader.dataset.quiet = quiet
    validation: BuildingDataset = DATASETS.build(config.val_dataloader.dataset)
    model = MODELS.build(config.model)
    load_weights(model.network, finished.weights)
    with staged_model(path) as place:
        report = export_network(
            model.network,
            place,
            settings_of(model, config, validation.tiles),
            name=f"buildings_{config.recipe.name}",
            training=_describe(config, finished),
        )
        predictors = {"model": model_predictor(open_model(place, task=TASK))}
        measured = evaluate_tiles(predictors, validation.tiles, quiet=quiet).rows()[0]
        update_manifest(place, metrics={"validation": measured})
    return {"model": str(path), "parity_max_abs": report.parity_max_abs, "validation": measured}


def settings_of(model: BuildingModel, config: Config, tiles: Sequence[Tile]) -> Preprocessing:
    """Say how pictures become the model's input.

    Args:
        model: The trained model.
        config: Its recipe: ``tile_px`` is the side that rasters are cut into, ``target`` what the labels show.
        tiles: Tiles that it was validated on, for the scale of their values and the range of the
            ground sampling distance.
    """
    known = [tile.gsd_m for tile in tiles if tile.gsd_m is not None]
    multiple = multiple_of(model.network)
    return Preprocessing(
        tile_px=config.tile_px,
        stride_px=round(STRIDE * config.tile_px / multiple) * multiple,
        multiple=multiple,
        mean=model.mean,
        std=model.std,
        target=config.target,
        gsd_m=(min(known), max(known)) if known else None,
        scale=next((tile.scale for tile in tiles if tile.scale is not None), None),
    )


def _describe(config: Config, finished: AdaptationResult) -> dict[str, Any]:
    dataset = config.train_dataloader.dataset
    return {
        "recipe": config.recipe.name,
        "method": finished.method,
        "clean_steps": finished.clean_steps,
        "total_steps": finished.total_steps,
        "trained_on": dataset.get("kind", "synthetic"),
    }

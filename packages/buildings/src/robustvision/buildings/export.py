"""What leaves: one graph from a normalised picture to logits, with tile, normalisation and target in its manifest."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from mmengine import Config
from mmengine.registry import DATASETS, MODELS
from torch import nn

from robustvision.buildings.contract import IMAGE, TASK, Preprocessing
from robustvision.buildings.data import BuildingDataset
from robustvision.buildings.evaluation import evaluate_tiles, model_predictor
from robustvision.buildings.graphs import segmentation_graph
from robustvision.core.errors import InputError
from robustvision.core.export import ExportReport, export_model, update_manifest
from robustvision.core.export.files import staged_model
from robustvision.core.runtime.manifest import MAIN_GRAPH
from robustvision.core.runtime.session import open_model
from robustvision.core.training import load_weights
from robustvision.core.training.run_record import read_record

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
    """Return the fixed input of the self-test, float32 [1, 3, S, S]: bright squares on a gradient, at most 64 pixels."""
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
    final = final_run(work_dir)
    record = read_record(final)
    config = Config.fromfile(str(final / "config.py"), format_python_code=False)
    config.val_dataloader.dataset.quiet = quiet
    validation: BuildingDataset = DATASETS.build(config.val_dataloader.dataset)
    model = MODELS.build(config.model)
    load_weights(model.network, final_weights(work_dir))
    settings = model_settings(model, validation)
    with staged_model(path) as place:
        report = export_network(
            model.network,
            place,
            settings,
            name=f"buildings_{(record['recipe'] or {}).get('name', 'model')}",
            training=_describe(record, config),
        )
        rows = evaluate_tiles({"model": model_predictor(open_model(place, task=TASK))}, validation.tiles, quiet=quiet)
        measured = rows.rows()[0]
        update_manifest(place, metrics={"validation": measured})
    return {"model": str(path), "parity_max_abs": report.parity_max_abs, "validation": measured}

"""The demo of the buildings package: a rendered city, misaligned labels, and what a few clean tiles repair."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import shapely
import torch
from mmengine.registry import DATASETS, MODELS
from pyogrio.raw import read

from robustvision.buildings.data import synthetic_dataset
from robustvision.buildings.data.tile import Tile
from robustvision.buildings.evaluation import BuildingEvaluation, Predictor, evaluate_tiles, model_predictor
from robustvision.buildings.export import export_run
from robustvision.buildings.models import shipped_model
from robustvision.buildings.pictures import LABEL, enlarged, polygon_overlay, probability_picture
from robustvision.buildings.pipeline import BuildingMapper
from robustvision.buildings.synthetic import City, write_city
from robustvision.buildings.training import load_building_recipe, train_buildings
from robustvision.core.demo import DemoResult, fresh_run, run_without_torch
from robustvision.core.report import Report, report_training
from robustvision.core.runtime.files import make_folder
from robustvision.core.runtime.images import write_image
from robustvision.core.runtime.session import open_model
from robustvision.core.training import load_weights
from robustvision.core.training.adaptation import AdaptationOptions, adapt
from robustvision.core.training.adaptation_options import Method

RIVALS: tuple[Method, ...] = ("kd", "dml")
TEST_TILES = 120
CITY_PX, SHOWN_PX = 768, 384
MAP_CITY = """
import sys
from robustvision.buildings import BuildingMapper
BuildingMapper(sys.argv[1]).predict(sys.argv[2], out=sys.argv[3], quiet=True)
"""


def run(out: Path, *, seed: int = 0, quiet: bool = False) -> DemoResult:
    """Render, train ``tiny`` by SDA and beside it by KD and DML, evaluate, export, and map a city without torch.

    Args:
        out: The folder to write to; its ``run``, ``kd`` and ``dml`` folders must be new, empty, or of an older demo.
        seed: Seed of everything random.
        quiet: No progress.

    Returns:
        What was measured and written; paths are relative to ``out``.
    """
    make_folder(out)
    model = out / "buildings.onnx"
    work_dir = fresh_run(out / "run")
    train_buildings("tiny", method="sda", work_dir=work_dir, seed=seed, quiet=quiet)
    exported = export_run(work_dir, model, quiet=quiet)
    weights = {"noisy labels only": work_dir / "noisy_network.pth"}
    weights |= _rivals(out, weights["noisy labels only"], seed, quiet)
    test = synthetic_dataset(TEST_TILES, label="roof", split="test", seed=seed, size_px=96, quiet=quiet).tiles
    predictors = {"SDA, trained here": model_predictor(open_model(model))}
    predictors |= {name: _network_predictor(path) for name, path in weights.items()}
    predictors["small, shipped"] = model_predictor(open_model(shipped_model()))
    evaluation = evaluate_tiles(predictors, test, quiet=quiet)
    table = {row["predictor"]: row for row in evaluation.rows()}

    city = write_city(out / "city", size_px=CITY_PX, seed=seed)
    polygons = out / "city.gpkg"
    run_without_torch(MAP_CITY, model, city.image, polygons)
    metrics = _shown(table["SDA, trained here"]) | {"city_polygons": float(len(_outlines(polygons, city.image)))}
    report = report_training(work_dir / "final" / "log.jsonl", work_dir / "final" / "run.json")
    pictures = _fill(report, out, evaluation, model, city, polygons)
    report.write(out / "report.html")
    return DemoResult(
        metrics=metrics,
        baseline_metrics={name: _shown(row) for name, row in table.items() if name != "SDA, trained here"},
        parity_max_abs=exported["parity_max_abs"],
        model="buildings.onnx",
        report="report.html",
        pictures=pictures,
    )


def _rivals(out: Path, pretrained: Path, seed: int, quiet: bool) -> dict[str, Path]:
    """Train the rivals on the same scenes, for as many steps on clean labels, and return their weights."""
    config = load_building_recipe("tiny")
    entries = (config.train_dataloader.dataset, config.clean_dataset)
    noisy, clean = (DATASETS.build({**entry, "quiet": quiet}) for entry in entries)
    return {
        method: adapt(
            method,
            config,
            noisy=noisy,
            clean=clean,
            work_dir=fresh_run(out / method),
            seed=seed,
            options=AdaptationOptions(**config.adaptation),
            pretrained=pretrained if method == "kd" else None,
            quiet=quiet,
        ).weights
        for method in RIVALS
    }


def _network_predictor(weights: Path) -> Predictor:
    model = MODELS.build(load_building_recipe("tiny").model).eval()
    load_weights(model.network, weights)

    @torch.no_grad()
    def predict(tile: Tile) -> np.ndarray:
        image = torch.from_numpy(np.ascontiguousarray(tile.image.transpose(2, 0, 1)))
        return model(image[None]).sigmoid()[0, 0].numpy()

    return predict


def _shown(row: Mapping[str, Any]) -> dict[str, float]:
    return {name: float(row[name]) for name in ("f1", "iou", "precision", "recall", "image_mean_f1")}


def _outlines(polygons: Path, image: Path) -> list[shapely.Polygon]:
    """The mapped buildings in the image's pixels."""
    _, _, geometries, _ = read(polygons, layer=0, columns=[])
    with rasterio.open(image) as raster:
        inverse = ~raster.transform

    def to_pixels(points: np.ndarray) -> np.ndarray:
        return np.stack(inverse * (points[:, 0], points[:, 1]), axis=1)

    return list(shapely.transform(shapely.from_wkb(geometries), to_pixels))


def _fill(
    report: Report, out: Path, evaluation: BuildingEvaluation, model: Path, city: City, polygons: Path
) -> list[str]:
    """Add what people look at to the report, and write it as pictures beside it."""
    with rasterio.open(city.image) as raster:
        image = np.ascontiguousarray(raster.read().transpose(1, 2, 0)[:SHOWN_PX, :SHOWN_PX, :3])
    probability = BuildingMapper(model).probabilities(image)
    noisy = _outlines(city.footprints, city.image)
    pictures = {
        "city_image": (enlarged(image), "The image"),
        "city_labels": (polygon_overlay(image, noisy, LABEL), "The map's footprints: what it is trained on"),
        "city_probability": (probability_picture(probability), "What the adapted network sees"),
        "city_polygons": (polygon_overlay(image, _outlines(polygons, city.image)), "Polygons, made without torch"),
    }
    for name, (picture, _) in pictures.items():
        write_image(out / f"{name}.png", picture)
    report.pictures([*pictures.values()], title="A city")
    report.table(evaluation.rows(), "Test scenes: visible roofs")
    report.table(evaluation.rows("height_class"), "By height class")
    report.text("Rendered scenes: these are no results on a real city.")
    return [f"{name}.png" for name in pictures]

"""``robustvision-buildings evaluate``: a model in pixels, buildings and polygons, on data or on rendered scenes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from rasterio.features import shapes
from scipy.ndimage import label, mean
from shapely import Polygon
from shapely.geometry import shape

from robustvision.buildings.contract import TARGETS, TASK, Target
from robustvision.buildings.data import choose_sources, load_tiles, synthetic_dataset
from robustvision.buildings.data.tile import Tile
from robustvision.buildings.evaluation import evaluate_tiles, model_predictor
from robustvision.buildings.metrics import (
    THRESHOLD,
    coco_scores,
    complexity_iou,
    max_tangent_angle_errors_deg,
    polis_score,
    polygon_overlaps,
    spacenet_f1,
)
from robustvision.buildings.models import shipped_model
from robustvision.buildings.pictures import FOUND, label_overlay
from robustvision.core.errors import InputError
from robustvision.core.report import Report
from robustvision.core.runtime.files import make_folder, write_json
from robustvision.core.runtime.progress import track
from robustvision.core.runtime.session import open_model

TEST_TILES = 160
SIMPLIFY_PX = 1.0
SHOWN = 8


def evaluate_data(
    model: Path | None,
    *,
    data: Path | None = None,
    kind: str | None = None,
    images: Path | None = None,
    labels: Path | None = None,
    target: Target = "roof",
    work_dir: Path = Path("runs/buildings-evaluation"),
    seed: int = 0,
    quiet: bool = False,
) -> dict[str, Any]:
    """Measure a model, and write ``metrics.json`` and ``report.html``.

    Args:
        model: An exported model; the shipped one where None.
        data: The root of a data set that the model never saw; its test part is taken, or all of a set without parts.
        kind: Its layout.
        images: A folder of images, all of which are taken; rendered scenes where neither is given.
        labels: A vector file, or a folder of masks.
        target: What the labels show.
        work_dir: The folder to write to.
        seed: Seed of the rendered scenes.
        quiet: No progress.

    Returns:
        Plain values: the tables, every row with the version and the model's hash, and the report's path.

    Raises:
        InputError: The data or the folder cannot be used.
        MissingExtraError: The extra ``train`` is not installed.
    """
    if target not in TARGETS:
        raise InputError(f"target is {target!r}: choose from {', '.join(TARGETS)}")
    opened = open_model(shipped_model() if model is None else model, task=TASK)
    name, predict = opened.manifest.name, model_predictor(opened)
    make_folder(work_dir)
    tiles, origin = _tiles(data, kind, images, labels, target, seed, quiet)
    found = [predict(tile) for tile in track(tiles, "predicting", quiet=quiet)]
    given = {tile.name: probability for tile, probability in zip(tiles, found, strict=True)}
    evaluation = evaluate_tiles({name: lambda tile: given[tile.name]}, tiles, hashes={name: opened.sha256}, quiet=True)
    tables = {"pixels": evaluation.rows()}
    if all("height_class" in tile.conditions for tile in tiles):
        tables["pixels by height class"] = evaluation.rows("height_class")
    tables["buildings and polygons"] = [{"predictor": name} | polygon_scores(found, tiles)]
    report = Report("Buildings found", f"{name} on {origin}, {len(tiles)} tiles")
    for title, rows in tables.items():
        report.table(rows, title)
    shown = np.random.default_rng(seed).choice(len(tiles), min(SHOWN, len(tiles)), replace=False)
    pairs = [(tiles[place], found[place]) for place in shown]
    report.pictures(
        [(label_overlay(tile.image, probability >= THRESHOLD, FOUND), tile.name) for tile, probability in pairs],
        title="What was found",
    )
    result = {"data": origin, "model": name, "sha256": opened.sha256, "tables": tables}
    write_json(work_dir / "metrics.json", result)
    return result | {"report": str(report.write(work_dir / "report.html"))}


def polygon_scores(found: Sequence[npt.NDArray[Any]], tiles: Sequence[Tile]) -> dict[str, float]:
    """Score buildings and outlines: components of the prediction against components of the label, simplified by 1 px.

    What is not ``valid`` is building in neither.

    Args:
        found: Probabilities [H, W] of each tile.
        tiles: The tiles.

    Returns:
        SpaceNet's F1, COCO's AP, AP50 and AR, PoLiS in px, C-IoU, and the maximum tangent angle error in degrees.
    """
    predicted = [
        outlines(_counted(probability >= THRESHOLD, tile), probability)
        for probability, tile in zip(found, tiles, strict=True)
    ]
    truth = [[polygon for polygon, _ in outlines(_counted(tile.label > 0, tile))] for tile in tiles]
    plain = [[polygon for polygon, _ in each] for each in predicted]
    overlaps = [
        polygon_overlaps(mine, true, scores=[score for _, score in each])
        for mine, true, each in zip(plain, truth, predicted, strict=True)
    ]
    coco = coco_scores(overlaps)
    pairs = list(zip(plain, truth, strict=True))
    angles = np.concatenate([max_tangent_angle_errors_deg(*pair) for pair in pairs])
    return {
        "spacenet_f1": spacenet_f1(overlaps).f1,
        "ap": coco.ap,
        "ap50": coco.ap50,
        "ar": coco.ar,
        "polis_px": polis_score(pairs),
        "c_iou": float(np.mean([complexity_iou(*pair) for pair in pairs])),
        "tangent_angle_deg": float(angles.mean()) if angles.size else float("nan"),
    }


def outlines(mask: npt.NDArray[np.bool_], probability: npt.NDArray[Any] | None = None) -> list[tuple[Polygon, float]]:
    """Return the outline of each component (4-connected) in pixels, with its mean probability.

    Args:
        mask: bool [H, W].
        probability: [H, W]; 1 everywhere where None.
    """
    parts, count = label(mask)
    scores = np.ones(count) if probability is None else mean(probability, parts, np.arange(1, count + 1))
    return [
        (shape(geometry).simplify(SIMPLIFY_PX), float(scores[int(number) - 1]))
        for geometry, number in shapes(parts.astype(np.int32), mask=mask, connectivity=4)
    ]


def _counted(mask: npt.NDArray[np.bool_], tile: Tile) -> npt.NDArray[np.bool_]:
    return mask if tile.valid is None else mask & tile.valid


def _tiles(
    data: Path | None,
    kind: str | None,
    images: Path | None,
    labels: Path | None,
    target: Target,
    seed: int,
    quiet: bool,
) -> tuple[list[Tile], str]:
    if not any((data, kind, images, labels)):
        rendered = synthetic_dataset(TEST_TILES, label=target, split="test", seed=seed, quiet=quiet)
        return list(rendered.tiles), "rendered scenes"
    parts = choose_sources(data, kind, images, labels, target=target)
    part = "test" if "test" in parts else "all"
    if part not in parts:
        raise InputError(
            f"{data or images} has no test part, only {', '.join(parts)}: give held-out images with --images"
        )
    return load_tiles(parts[part], quiet=quiet), f"{data or images}, {part}"

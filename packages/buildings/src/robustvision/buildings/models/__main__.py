"""Trains the shipped model anew from its recipe and seed, measures it, and replaces the file when all has passed."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

from robustvision.buildings.contract import TASK
from robustvision.buildings.data import synthetic_dataset
from robustvision.buildings.evaluation import evaluate_tiles, model_predictor
from robustvision.buildings.export import export_run
from robustvision.buildings.models import SHIPPED_MODEL, shipped_model
from robustvision.buildings.training import train_buildings
from robustvision.core.errors import ExportError
from robustvision.core.export import update_manifest
from robustvision.core.export.files import staged_model
from robustvision.core.runtime.session import open_model

MAX_BYTES = 1_500_000
TEST_TILES = 320


def make_model(path: Path, *, seed: int = 0, work_dir: Path | None = None, quiet: bool = False) -> list[dict[str, Any]]:
    """Train, export and measure the shipped model.

    Args:
        path: The file to write.
        seed: Seed of the training.
        work_dir: A finished run of the recipe to take instead of training anew.
        quiet: No progress.

    Returns:
        The scores on rendered test tiles, over all and by height class.

    Raises:
        ExportError: The model is too large to ship.
    """
    with tempfile.TemporaryDirectory() as folder:
        if work_dir is None:
            work_dir = Path(folder) / "run"
            train_buildings("small", work_dir=work_dir, seed=seed, quiet=quiet)
        with staged_model(path) as place:
            export_run(work_dir, place, quiet=quiet)
            test = synthetic_dataset(TEST_TILES, label="roof", split="test", quiet=quiet).tiles
            predictors = {"small": model_predictor(open_model(place, task=TASK))}
            evaluation = evaluate_tiles(predictors, test, quiet=quiet)
            rows = [*evaluation.rows(), *evaluation.rows("height_class")]
            update_manifest(place, name=SHIPPED_MODEL, metrics={"test (synthetic)": rows[0]})
            if place.stat().st_size > MAX_BYTES:
                raise ExportError(f"{path.name} has {place.stat().st_size} bytes, at most {MAX_BYTES} ship")
    return rows


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=shipped_model())
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--work-dir", type=Path, help="a finished run of the recipe small")
    arguments = parser.parse_args()
    for row in make_model(arguments.out, seed=arguments.seed, work_dir=arguments.work_dir):
        print(f"{row.get('height_class', 'all'):10} F1 {row['f1']:.3f}, IoU {row['iou']:.3f}, tiles {row['tiles']}")  # noqa: T201


if __name__ == "__main__":
    main()

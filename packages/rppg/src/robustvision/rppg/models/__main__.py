"""Trains the shipped model anew from its recipe and seed, measures it, and replaces the folder when all has passed."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

from robustvision.core.errors import ExportError
from robustvision.core.export import update_manifest
from robustvision.core.export.files import staged_model
from robustvision.core.runtime.session import open_model
from robustvision.rppg.contract import TASK
from robustvision.rppg.evaluation import classical_predictor, evaluate_clips, model_predictor
from robustvision.rppg.export import export_run
from robustvision.rppg.models import SHIPPED_MODEL, shipped_model
from robustvision.rppg.protocol import FINE_GRID
from robustvision.rppg.synthetic import SyntheticPulse
from robustvision.rppg.training import train_pulse

MAX_BYTES = 1_500_000
SCENARIOS = ("still", "talk", "light", "rotate", "walk", "dark")
TEST = SyntheticPulse(180, scenarios=SCENARIOS, skin_types=(1, 2, 3, 4, 5, 6), split="test", seed=0)


def make_model(path: Path, *, seed: int = 0, work_dir: Path | None = None, quiet: bool = False) -> list[dict[str, Any]]:
    """Train, export and measure the shipped model.

    Args:
        path: The folder to write.
        seed: Seed of the training.
        work_dir: A finished run of the recipe to take instead of training anew.
        quiet: No progress.

    Returns:
        The metrics on rendered people whom neither training nor calibration saw, by scenario, beside POS.

    Raises:
        ExportError: The model is too large to ship.
    """
    with tempfile.TemporaryDirectory() as folder:
        if work_dir is None:
            work_dir = Path(folder) / "run"
            train_pulse("small", work_dir=work_dir, seed=seed, quiet=quiet)
        with staged_model(path) as place:
            export_run(work_dir, place, quiet=quiet)
            opened = open_model(place, task=TASK)
            clips = TEST.clips(int(opened.manifest.preprocessing["size"]), quiet=quiet)
            predictors = {"small": model_predictor(opened), "pos": classical_predictor("pos")}
            evaluation = evaluate_clips(predictors, clips, FINE_GRID, quiet=quiet)
            rows = [*evaluation.rows(), *evaluation.rows("scenario"), *evaluation.rows("skin_type")]
            update_manifest(place, name=SHIPPED_MODEL, metrics={"test (synthetic)": evaluation.metrics("small")})
            size = sum(file.stat().st_size for file in place.iterdir())
            if size > MAX_BYTES:
                raise ExportError(f"{path.name} has {size} bytes, at most {MAX_BYTES} ship")
    return rows


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=shipped_model())
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--work-dir", type=Path, help="a finished run of the recipe small")
    arguments = parser.parse_args()
    for row in make_model(arguments.out, seed=arguments.seed, work_dir=arguments.work_dir):
        group = row.get("scenario", row.get("skin_type", "all"))
        print(f"{row['predictor']:6} {group:7} MAE {row['mae']:5.2f} bpm, rho {row['rho']:.2f}, n {row['n']}")  # noqa: T201


if __name__ == "__main__":
    main()

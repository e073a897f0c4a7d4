"""Trains the shipped model anew from its recipe and seed, measures it, and replaces the file when all has passed."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

from robustvision.core.errors import ExportError
from robustvision.core.export import update_manifest
from robustvision.face.evaluation import evaluate_source
from robustvision.face.export import export_run
from robustvision.face.pipeline import SHIPPED_MODEL, FaceRecognizer
from robustvision.face.synthetic import SyntheticFaces
from robustvision.face.training import train_face

MAX_BYTES = 1_500_000
TEST = SyntheticFaces(200, 10, split="test", seed=0, strength=0.4)


def make_model(path: Path, *, seed: int = 0, quiet: bool = False) -> dict[str, Any]:
    """Train, export and measure the shipped model.

    Args:
        path: The ONNX file to write.
        seed: Seed of the training.
        quiet: No progress.

    Returns:
        The metrics on rendered people whom neither training nor calibration saw.

    Raises:
        ExportError: The file is too large to ship.
    """
    with tempfile.TemporaryDirectory() as folder:
        work_dir = Path(folder) / "run"
        train_face("small", work_dir=work_dir, seed=seed, quiet=quiet)
        staged = Path(folder) / path.name
        export_run(work_dir, staged, quiet=quiet)
        test = TEST.arrays(quiet=quiet)
        metrics = evaluate_source(FaceRecognizer(staged), test, seed=seed, quiet=quiet).metrics
        update_manifest(staged, name="sface_small", metrics={"test (synthetic)": metrics})
        if staged.stat().st_size > MAX_BYTES:
            raise ExportError(f"{staged.name} has {staged.stat().st_size} bytes, at most {MAX_BYTES} ship")
        path.write_bytes(staged.read_bytes())
    return metrics


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name(SHIPPED_MODEL))
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    for name, value in make_model(arguments.out, seed=arguments.seed).items():
        print(f"{name}: {value}")  # noqa: T201


if __name__ == "__main__":
    main()

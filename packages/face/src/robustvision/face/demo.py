"""The demo of the face package: rendered faces under 40 % wrong labels, from training to an answer about a picture."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from mmengine.registry import MODELS

from robustvision.core.demo import DemoResult, fresh_run, run_without_torch
from robustvision.core.evaluation import roc_auc
from robustvision.core.report import report_training
from robustvision.core.runtime.files import make_folder
from robustvision.core.runtime.images import write_image
from robustvision.core.training import find_weights, load_weights, train
from robustvision.face.data import FaceDataset
from robustvision.face.data.source import FaceArrays
from robustvision.face.evaluation import evaluate_source, hardest_pairs
from robustvision.face.export import export_run
from robustvision.face.metrics import verification_metrics
from robustvision.face.own_angle import own_angles
from robustvision.face.pipeline import FaceRecognizer
from robustvision.face.predict import GREEN, RED
from robustvision.face.synthetic import SyntheticFaces
from robustvision.face.training import build_training_set, load_face_recipe

COLUMNS = 8
SHOWN = ("tar@far=0.01", "tar@far=0.001", "auc", "eer", "accuracy")
EMBED = """
import sys
import numpy as np
from robustvision.face import FaceRecognizer
crops = np.load(sys.argv[2])
embeddings = FaceRecognizer(sys.argv[1]).embed(crops)
np.save(sys.argv[3], embeddings)
"""


def run(out: Path, *, seed: int = 0, quiet: bool = False) -> DemoResult:
    """Render, train ``tiny`` with SFace, evaluate beside the shipped model, export, run the ONNX file without torch.

    Args:
        out: The folder to write to; its ``run`` folder must be new or empty.
        seed: Seed of everything random.
        quiet: No progress.

    Returns:
        What was measured and written; paths are relative to ``out``.
    """
    make_folder(out)
    work_dir = fresh_run(out / "run")
    config = load_face_recipe("tiny", cfg_options=[f"train_dataloader.dataset.noise_seed={seed}"])
    dataset = build_training_set(config, quiet=quiet)
    train(config, work_dir=work_dir, seed=seed, quiet=quiet)
    exported = export_run(work_dir, out / "face.onnx", quiet=quiet)

    test = SyntheticFaces(100, 10, split="test", seed=seed, strength=0.4).arrays(quiet=quiet)
    recognizer = FaceRecognizer(out / "face.onnx")
    evaluation = evaluate_source(recognizer, test, seed=seed, quiet=quiet)
    measured, embeddings = evaluation.metrics, evaluation.embeddings
    shipped = evaluate_source(FaceRecognizer.synthetic(), test, seed=seed, quiet=quiet).metrics
    raw = test.images[:, ::4, ::4].reshape(len(test), -1).astype(np.float32) - 127.5
    model = MODELS.build(config.model)
    load_weights(model, find_weights(work_dir))
    angles = own_angles(model, dataset, quiet=quiet)
    metrics = {
        **{name: measured[name] for name in SHOWN},
        "mislabel_auc": roc_auc(angles[dataset.is_noisy], angles[~dataset.is_noisy]),
        "edge_max_abs": _embed_without_torch(out, test, embeddings),
    }
    baselines = {
        "shipped small model": {name: shipped[name] for name in SHOWN},
        "raw pixels": verification_metrics(raw, test.clean_labels),
    }
    pictures = _write_pictures(out, dataset, test, embeddings)
    report = report_training(work_dir / "log.jsonl", work_dir / "run.json")
    report.table(
        [{"model": "tiny, trained here", **measured}, {"model": "small, shipped", **shipped}], title="Unseen people"
    )
    report.histogram(
        {"one person": evaluation.genuine, "two people": evaluation.impostor},
        title="Cosines on unseen people",
        x="cosine",
    )
    report.histogram(
        {"right label": angles[~dataset.is_noisy], "wrong label": angles[dataset.is_noisy]},
        title="Angle of training images to the centre of the label they were given",
        x="radians",
    )
    report.pictures([(picture, name.replace("_", " ")) for name, picture in pictures.items()], title="Pictures")
    report.write(out / "report.html")
    return DemoResult(
        metrics=metrics,
        baseline_metrics=baselines,
        parity_max_abs=exported["parity_max_abs"],
        model="face.onnx",
        report="report.html",
        pictures=[f"{name}.png" for name in pictures],
    )


def _embed_without_torch(out: Path, test: FaceArrays, expected: np.ndarray) -> float:
    """Embed some crops in a process that never imports torch, and return the largest difference."""
    crops, answer = out / "crops.npy", out / "embeddings.npy"
    np.save(crops, test.images[:16])
    run_without_torch(EMBED, out / "face.onnx", crops, answer)
    difference = float(np.abs(np.load(answer) - expected[:16]).max())
    crops.unlink()
    answer.unlink()
    return difference


def _write_pictures(out: Path, dataset: FaceDataset, test: FaceArrays, embeddings: np.ndarray) -> dict[str, np.ndarray]:
    """Write what a person would look at.

    ``training_faces``: in each column two images under one label, the upper one rightly and the lower one wrongly.
    ``hardest_pairs``: the test pairs of one person least alike, then those of two people most alike.
    """
    columns = [
        [places[~dataset.is_noisy[places]], places[dataset.is_noisy[places]]]
        for places in (np.flatnonzero(dataset.labels == label) for label in range(dataset.num_classes))
    ]
    columns = [column for column in columns if all(len(places) for places in column)][:COLUMNS]
    right, wrong = (np.hstack([dataset.source.image(int(column[row][0])) for column in columns]) for row in (0, 1))
    pairs = [
        np.vstack([test.images[first], test.images[second]])
        for first, second, _ in hardest_pairs(embeddings, np.asarray(test.clean_labels))
    ]
    pictures = {
        "training_faces": np.vstack([right, _bar(right, GREEN), wrong, _bar(wrong, RED)]),
        "hardest_pairs": np.hstack(pairs),
    }
    for name, picture in pictures.items():
        write_image(out / f"{name}.png", picture)
    return pictures


def _bar(row: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    return np.full((6, row.shape[1], 3), colour, np.uint8)

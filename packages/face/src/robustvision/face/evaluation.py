"""Measures an exported model on identities that it never saw, through the pipeline that will use it."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from robustvision.core.errors import InputError
from robustvision.core.evaluation import bootstrap_interval, kfold_verification
from robustvision.core.runtime.files import make_folder, write_json
from robustvision.core.runtime.manifest import Threshold
from robustvision.core.runtime.progress import track
from robustvision.core.runtime.session import open_model
from robustvision.face.data.source import FaceSource
from robustvision.face.metrics import genuine_identities, pair_scores, score_metrics, verification_metrics
from robustvision.face.pipeline import FaceRecognizer

if TYPE_CHECKING:
    from robustvision.core.report import Report

BATCH = 64
FARS = (1e-2, 1e-3)
FOLDS = 10
HARDEST = 4

Float32 = npt.NDArray[np.float32]


def embed_dataset(recognizer: FaceRecognizer, source: FaceSource, *, quiet: bool = False) -> Float32:
    """Embed every crop of a source.

    Args:
        recognizer: The exported model.
        source: The crops.
        quiet: No progress.

    Returns:
        [N, d] unit vectors.
    """
    batches = range(0, len(source), BATCH)
    return np.concatenate(
        [
            recognizer.embed(np.stack([source.image(place) for place in range(start, min(start + BATCH, len(source)))]))
            for start in track(batches, "embedding faces", quiet=quiet)
        ]
    )


def calibrate_thresholds(
    embeddings: npt.ArrayLike, labels: npt.ArrayLike, calibrated_on: str
) -> tuple[tuple[Threshold, ...], dict[str, float]]:
    """Choose the cosine thresholds that hold a false accept rate, the strictest first.

    Args:
        embeddings: [N, d].
        labels: [N] identities.
        calibrated_on: Which data this is, for the manifest.

    Returns:
        The thresholds for the rates that this many impostor pairs can measure, perhaps none, and the finite metrics.

    Raises:
        InputError: The embeddings are degenerate, or one kind of pair is missing.
    """
    metrics = verification_metrics(embeddings, labels, FARS)
    thresholds = tuple(
        Threshold(
            name=f"same person at FAR {far:g}",
            score="cosine",
            value=metrics[f"threshold@far={far:g}"],
            calibrated_on=calibrated_on,
            target=far,
        )
        for far in sorted(FARS)
        if np.isfinite(metrics[f"threshold@far={far:g}"])
    )
    return thresholds, {name: value for name, value in metrics.items() if np.isfinite(value)}


@dataclass(frozen=True)
class Evaluation:
    """What a model reaches on a source.

    Attributes:
        metrics: Plain values. ``tar@far=1e-3 low`` and ``high`` are 95 % bootstrap bounds over identities, at a fixed
            threshold: pairs of one identity are not independent. ``accuracy`` is the 10-fold accuracy on drawn pairs,
            embedded with their mirror images as the protocol has it.
        embeddings: [N, d] unit vectors.
        genuine: Cosines of all pairs of one identity.
        impostor: Cosines of all pairs of two identities.
    """

    metrics: dict[str, Any]
    embeddings: Float32
    genuine: Float32
    impostor: Float32


def evaluate_source(
    recognizer: FaceRecognizer, source: FaceSource, *, seed: int = 0, quiet: bool = False
) -> Evaluation:
    """Measure a model on a source of crops.

    Args:
        recognizer: The exported model.
        source: Crops of identities that training never saw.
        seed: Seed of the drawn pairs and of the bootstrap.
        quiet: No progress.

    Returns:
        Metrics, embeddings and scores.

    Raises:
        InputError: The labels leave no genuine, or no impostor pairs.
    """
    embeddings = embed_dataset(recognizer, source, quiet=quiet)
    labels = np.asarray(source.clean_labels)
    result: dict[str, Any] = {"images": len(labels), "identities": len(np.unique(labels))}
    genuine, impostor = pair_scores(embeddings, labels)
    result |= score_metrics(genuine, impostor, FARS)
    owners = genuine_identities(labels)
    for far in FARS:
        threshold = result[f"threshold@far={far:g}"]
        if np.isfinite(threshold) and len(np.unique(owners)) > 1:
            interval = bootstrap_interval(genuine > threshold, groups=owners, seed=seed)
            result |= {f"tar@far={far:g} low": interval.low, f"tar@far={far:g} high": interval.high}
    if len(np.unique(labels)) >= 2 * FOLDS:
        result |= _kfold(recognizer, source, embeddings, labels, seed)
    return Evaluation(result, embeddings, genuine, impostor)


def _kfold(
    recognizer: FaceRecognizer, source: FaceSource, embeddings: Float32, labels: npt.NDArray[np.int64], seed: int
) -> dict[str, float]:
    """10-fold accuracy; each fold has identities of its own, and as many genuine as impostor pairs."""
    rng = np.random.default_rng(seed)
    folds = [_fold_pairs(labels, ids, rng) for ids in np.array_split(rng.permutation(np.unique(labels)), FOLDS)]
    count = min(len(same) for same, _ in folds)
    if not count:
        return {}
    pairs = np.concatenate([np.concatenate([same[:count], other[:count]]) for same, other in folds])
    images, places = np.unique(pairs, return_inverse=True)
    mirrored = np.concatenate(
        [
            recognizer.embed(np.stack([source.image(int(i))[:, ::-1] for i in images[start : start + BATCH]]))
            for start in range(0, len(images), BATCH)
        ]
    )
    both = embeddings[images] + mirrored
    both /= np.linalg.norm(both, axis=1, keepdims=True)
    first, second = both[places.reshape(pairs.shape)].transpose(1, 0, 2)
    same = np.tile(np.repeat([True, False], count), FOLDS)
    outcome = kfold_verification(((first - second) ** 2).sum(1), same, FOLDS)
    return {"accuracy": outcome.accuracy, "accuracy std": outcome.std}


def _fold_pairs(
    labels: npt.NDArray[np.int64], identities: npt.NDArray[np.int64], rng: np.random.Generator
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    places = np.flatnonzero(np.isin(labels, identities))
    first, second = np.triu_indices(len(places), 1)
    same = labels[places[first]] == labels[places[second]]
    pairs = np.stack([places[first], places[second]], axis=1)
    return rng.permutation(pairs[same])[:300], rng.permutation(pairs[~same])[:300]


def evaluate_face(
    model: Path | None,
    *,
    data: Path | None = None,
    landmarks: Path | None = None,
    work_dir: Path = Path("runs/face-evaluation"),
    calibrate: bool = False,
    seed: int = 0,
    quiet: bool = False,
) -> dict[str, Any]:
    """Measure an ONNX file, and write ``metrics.json`` and ``report.html``.

    Args:
        model: The ONNX file; the shipped synthetic one where None.
        data: A folder or list of identities that the model never saw; rendered ones where None.
        landmarks: A CSV file with five landmarks an image, for photos that are not aligned yet.
        work_dir: The folder to write to.
        calibrate: Write the thresholds found here into the model's manifest.
        seed: Seed of rendered faces, drawn pairs and the bootstrap.
        quiet: No progress.

    Returns:
        Plain values: the metrics, the model's hash (and that of the file after ``calibrate``), and the report's path.

    Raises:
        InputError: The data or the folder cannot be used, or the shipped model shall be calibrated.
        MissingExtraError: The report needs the extra ``train``.
    """
    from robustvision.core.export import update_manifest
    from robustvision.core.report import Report
    from robustvision.face.data import read_faces
    from robustvision.face.synthetic import SyntheticFaces

    if calibrate and model is None:
        raise InputError("--calibrate writes into the model's file: give your own with --model")
    if landmarks is not None and data is None:
        raise InputError("--landmarks without --data: rendered faces come with their own")
    recognizer = FaceRecognizer.synthetic() if model is None else FaceRecognizer(model)
    make_folder(work_dir)
    if data is None:
        source: FaceSource = SyntheticFaces(100, 10, split="test", seed=seed, strength=0.4).arrays(quiet=quiet)
        origin = f"synthetic test faces, seed {seed}"
    else:
        source, origin = read_faces(data, landmarks=landmarks), str(data)
    evaluation = evaluate_source(recognizer, source, seed=seed, quiet=quiet)
    opened = recognizer.model
    result = {"data": origin, **evaluation.metrics, "model": opened.manifest.name, "sha256": opened.sha256}
    report = Report("Face verification", subtitle=f"{opened.manifest.name} on {origin}")
    result["report"] = str(_fill(report, evaluation, source).write(work_dir / "report.html"))
    if calibrate and model is not None:
        described = f"{origin}: {len(source)} images"
        thresholds, _ = calibrate_thresholds(evaluation.embeddings, source.clean_labels, described)
        if not thresholds:
            raise InputError(f"{described}: too few pairs to calibrate FAR {max(FARS):g}: use more identities")
        update_manifest(model, thresholds=thresholds)
        result["thresholds"] = [dataclasses.asdict(threshold) for threshold in thresholds]
        result["sha256 calibrated"] = open_model(model).sha256
    write_json(work_dir / "metrics.json", result)
    return result


def hardest_pairs(
    embeddings: Float32, labels: npt.NDArray[np.int64], count: int = HARDEST
) -> list[tuple[int, int, float]]:
    """Find the genuine pairs least alike and the impostor pairs most alike.

    Args:
        embeddings: [N, d] unit vectors.
        labels: [N] identities.
        count: How many of each.

    Returns:
        (first, second, cosine): ``count`` genuine pairs, then ``count`` impostor pairs.
    """
    first, second = np.triu_indices(len(embeddings), 1)
    scores = np.einsum("nd,nd->n", embeddings[first], embeddings[second])
    same = labels[first] == labels[second]
    genuine, impostor = np.flatnonzero(same), np.flatnonzero(~same)
    chosen = [
        *genuine[np.argsort(scores[genuine])[:count]],
        *impostor[np.argsort(-scores[impostor])[:count]],
    ]
    return [(int(first[place]), int(second[place]), float(scores[place])) for place in chosen]


def _fill(report: Report, evaluation: Evaluation, source: FaceSource) -> Report:
    labels, impostor = np.asarray(source.clean_labels), evaluation.impostor
    shown = np.random.default_rng(0).choice(impostor, min(len(impostor), 100_000), replace=False)
    few = np.arange(min(len(labels), 2000))
    pairs = [
        (
            np.hstack([source.image(first), source.image(second)]),
            f"{'same person' if labels[first] == labels[second] else 'two people'}, cosine {cosine:.2f}",
        )
        for first, second, cosine in hardest_pairs(evaluation.embeddings[few], labels[few])
    ]
    report.metrics({name: value for name, value in evaluation.metrics.items() if isinstance(value, float)})
    report.histogram({"one person": evaluation.genuine, "two people": shown}, title="Cosines of all pairs", x="cosine")
    return report.pictures(pairs, title="The pairs that it finds hardest")

"""The demo of the rppg package: rendered films of beating faces, from training to a live reading without torch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from robustvision.core.demo import DemoResult, fresh_run, run_without_torch
from robustvision.core.report import Report, report_training
from robustvision.core.runtime.files import make_folder
from robustvision.core.runtime.session import Model, open_model
from robustvision.core.training import train
from robustvision.rppg.contract import TASK
from robustvision.rppg.data.recording import Clip
from robustvision.rppg.evaluation import PulseEvaluation, classical_predictor, evaluate_clips, model_predictor
from robustvision.rppg.export import export_run
from robustvision.rppg.models import shipped_model
from robustvision.rppg.pipeline import PulseResult
from robustvision.rppg.plots import agreement_figure, rate_figure, wave_figure
from robustvision.rppg.protocol import FINE_GRID
from robustvision.rppg.synthetic import SyntheticPulse, write_film
from robustvision.rppg.training import build_training_set, load_pulse_recipe

SCENARIOS = ("still", "talk", "light", "rotate", "walk", "dark")
TEST_FILMS = 72
LIVE_SECONDS, LIVE_PX = 30.0, 96
READ_FILM = """
import json, sys
import numpy as np
from robustvision.rppg import PulseEstimator, estimate_video
boxes = np.load(sys.argv[3])
results = list(estimate_video(sys.argv[2], PulseEstimator(sys.argv[1]), boxes_xywh=boxes))
rows = [[one.state, one.time_s, one.heart_rate_bpm, one.raw_bpm, one.confidence] for one in results]
print(json.dumps(rows))
"""


def run(out: Path, *, seed: int = 0, quiet: bool = False) -> DemoResult:
    """Render, train ``tiny``, evaluate beside the shipped model, POS and CHROM, export, stream one film without torch.

    Args:
        out: The folder to write to; its ``run`` folder must be new or empty.
        seed: Seed of everything random.
        quiet: No progress.

    Returns:
        What was measured and written; paths are relative to ``out``.
    """
    make_folder(out)
    work_dir, path = fresh_run(out / "run"), out / "pulse"
    config = load_pulse_recipe("tiny")
    build_training_set(config, quiet=quiet)
    train(config, work_dir=work_dir, seed=seed, quiet=quiet)
    exported = export_run(work_dir, path, quiet=quiet)

    models = {"tiny, trained here": open_model(path, task=TASK), "small, shipped": open_model(shipped_model())}
    films = SyntheticPulse(TEST_FILMS, scenarios=SCENARIOS, skin_types=(1, 2, 3, 4), split="test", seed=seed)
    evaluation = _evaluate(models, films, quiet)
    table = {row["predictor"]: row for row in evaluation.rows()}
    live, truth = _stream_without_torch(out, path, seed)
    given = [one.heart_rate_bpm for one in live if one.heart_rate_bpm is not None]
    metrics = _shown(table["tiny, trained here"]) | {
        "live_error_bpm": abs(float(np.median(given)) - truth) if given else float("nan"),
        "live_given": len(given) / len(live),
    }
    report = report_training(work_dir / "log.jsonl", work_dir / "run.json")
    pictures = _fill(report, out, evaluation, live, truth)
    report.write(out / "report.html")
    return DemoResult(
        metrics=metrics,
        baseline_metrics={name: _shown(row) for name, row in table.items() if name != "tiny, trained here"},
        parity_max_abs=exported["parity_max_abs"],
        model="pulse/manifest.json",
        report="report.html",
        pictures=pictures,
    )


def _evaluate(models: Mapping[str, Model], films: SyntheticPulse, quiet: bool) -> PulseEvaluation:
    """Every model on crops of its own size; all of the same films."""
    size_px = {name: int(model.manifest.preprocessing["size"]) for name, model in models.items()}
    clips = {size: films.clips(size, quiet=quiet) for size in sorted(set(size_px.values()))}
    at_size = {size: {clip.name: clip for clip in each} for size, each in clips.items()}

    def resized(name: str) -> Any:
        predict = model_predictor(models[name])
        return lambda clip: predict(at_size[size_px[name]][clip.name])

    largest: list[Clip] = clips[max(clips)]
    predictors = {name: resized(name) for name in models} | {
        name: classical_predictor(name) for name in ("pos", "chrom")
    }
    hashes = {name: model.sha256 for name, model in models.items()}
    return evaluate_clips(predictors, largest, FINE_GRID, hashes=hashes, quiet=quiet)


def _stream_without_torch(out: Path, model: Path, seed: int) -> tuple[list[PulseResult], float]:
    """Write a film as a webcam gives it, without compression, and read it frame by frame in a process without torch.

    Also returns the true heart rate.
    """
    film = SyntheticPulse(1, split="test", seed=1000 + seed, seconds=LIVE_SECONDS, size_px=LIVE_PX)[0]
    video, boxes = write_film(film, out / "film.avi", codec="raw"), out / "boxes.npy"
    np.save(boxes, np.asarray(film.boxes_xywh))
    printed = run_without_torch(READ_FILM, model, video, boxes)
    boxes.unlink()
    names = ("state", "time_s", "heart_rate_bpm", "raw_bpm", "confidence")
    results = [PulseResult(**dict(zip(names, row, strict=True))) for row in json.loads(printed)]
    return results, float(film.conditions["heart_rate_bpm"])


def _shown(row: Mapping[str, Any]) -> dict[str, float]:
    return {name: float(row[name]) for name in ("mae", "rmse", "rho", "snr_db", "macc", "coverage")}


def _fill(report: Report, out: Path, evaluation: PulseEvaluation, live: list[PulseResult], truth: float) -> list[str]:
    """Add what people look at to the report, and write it as pictures beside it."""
    clip = evaluation.clips[0]
    waves = {name: each[0] for name, each in evaluation.waves.items()}
    times = [one.time_s for one in live]
    figures = {
        "waves": (wave_figure(waves, clip.bvp, clip.fs, FINE_GRID), f"Waves and spectra: {dict(clip.conditions)}"),
        "live": (rate_figure(live, (times, [truth] * len(times))), "One film, frame by frame, without torch"),
        "agreement": (agreement_figure(*evaluation.rates("tiny, trained here")), "Agreement of tiny on unseen people"),
    }
    report.table(evaluation.rows(), "Unseen people")
    for by in ("scenario", "skin_type"):
        report.table(evaluation.rows(by), f"By {by.replace('_', ' ')}")
    for name, (figure, caption) in figures.items():
        figure.savefig(out / f"{name}.png", dpi=120)
        report.figure(figure, caption)
    report.text("Rendered films: these are no results on real people, and no clinical ones.")
    return [f"{name}.png" for name in figures]

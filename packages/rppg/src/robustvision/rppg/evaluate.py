"""``robustvision-rppg evaluate``: a model beside POS and CHROM on a data set, rendered films, or own recordings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from robustvision.core.errors import InputError
from robustvision.core.evaluation.results import markdown_table
from robustvision.core.report import Report
from robustvision.core.runtime.files import make_folder, write_json
from robustvision.core.runtime.session import open_model
from robustvision.rppg.classical import METHODS
from robustvision.rppg.contract import TASK, read_preprocessing
from robustvision.rppg.data.build import READERS
from robustvision.rppg.data.labels import LabelFinding, check_labels
from robustvision.rppg.data.prepare import prepare_clips
from robustvision.rppg.data.recording import Clip
from robustvision.rppg.evaluation import PulseEvaluation, classical_predictor, evaluate_clips, model_predictor
from robustvision.rppg.models import shipped_model
from robustvision.rppg.plots import agreement_figure, wave_figure
from robustvision.rppg.predict import open_estimator
from robustvision.rppg.preprocessing import Preprocessing
from robustvision.rppg.protocol import PROTOCOLS
from robustvision.rppg.recordings import estimate_track, evaluate_recordings
from robustvision.rppg.synthetic import SyntheticPulse

BESIDE = ("pos", "chrom")
TEST_FILMS = 90
TEST_SCENARIOS = ("still", "talk", "light", "rotate", "walk", "dark")
COLUMNS = ("mae", "mae_error", "rmse", "mape", "rho", "snr_db", "macc", "coverage", "n")
WAVES_SHOWN = 3


def evaluate_data(
    model: str | None,
    *,
    data: Path | None = None,
    kind: str | None = None,
    protocol: str = "paper2023",
    sensitivity: bool = False,
    work_dir: Path = Path("runs/rppg-evaluation"),
    seed: int = 0,
    quiet: bool = False,
) -> dict[str, Any]:
    """Measure a model beside POS and CHROM, and write ``metrics.json`` and ``report.html``.

    Args:
        model: An exported model or a classical method; the shipped model where None.
        data: The root of a data set that the model never saw; rendered films where None.
        kind: Its layout.
        protocol: A name of ``PROTOCOLS``.
        sensitivity: Measure the same predictions under many protocols.
        work_dir: The folder to write to.
        seed: Seed of the rendered films.
        quiet: No progress.

    Returns:
        Plain values: the tables, every row with its protocol, the version and the model's hash, and the report's path.

    Raises:
        InputError: The data, the protocol or the folder cannot be used.
        MissingExtraError: The report needs the extra ``train``.
    """
    if protocol not in PROTOCOLS:
        raise InputError(f"there is no protocol {protocol!r}: choose from {', '.join(PROTOCOLS)}")
    if (data is None) != (kind is None):
        raise InputError("--data and --kind belong together: the folder, and its layout (pure, ubfc, mmpd or scamps)")
    settings, hashes = Preprocessing(), {}
    if model is not None and model in METHODS:
        first, predictors = model, {model: classical_predictor(model)}
    else:
        path = shipped_model() if model is None else Path(model)
        if not path.exists():
            raise InputError(f"{model} is neither an exported model nor a method ({', '.join(METHODS)})")
        opened = open_model(path, task=TASK)
        settings = read_preprocessing(opened.manifest.preprocessing, str(opened.path))
        first, predictors = opened.manifest.name, {opened.manifest.name: model_predictor(opened)}
        hashes[first] = opened.sha256
    make_folder(work_dir)
    clips, origin, findings = _clips(data, kind, settings, seed, quiet)
    predictors |= {name: classical_predictor(name) for name in BESIDE}
    evaluation = evaluate_clips(predictors, clips, PROTOCOLS[protocol], hashes=hashes, quiet=quiet)
    result: dict[str, Any] = {"data": origin, "model": first, **({"sha256": hashes[first]} if hashes else {})}
    result |= {"label findings": [vars(finding) for finding in findings], "table": evaluation.rows()}
    result |= {
        f"by {by.replace('_', ' ')}": evaluation.rows(by)
        for by in ("scenario", "skin_type", "task", "motion", "light", "skin_color")
        if all(by in clip.conditions for clip in clips)
    }
    if sensitivity:
        result["sensitivity"] = evaluation.sensitivity(first)
    result["report"] = str(_report(evaluation, result, origin).write(work_dir / "report.html"))
    write_json(work_dir / "metrics.json", result)
    return result


def evaluate_videos(
    videos: Path | None,
    reference: Path | None,
    *,
    model: str | None = None,
    work_dir: Path = Path("runs/rppg-evaluation"),
    quiet: bool = False,
) -> dict[str, Any]:
    """Measure the live estimator on own recordings, and write ``metrics.json``.

    Args:
        videos: The folder of the films.
        reference: The CSV file with the truth.
        model: An exported model or a classical method; the shipped model where None.
        work_dir: The folder to write to.
        quiet: No progress.

    Returns:
        Plain values: errors after the lag is taken out, the share within 5 bpm, the coverage.

    Raises:
        InputError: One of the two is missing, or cannot be used.
    """
    if videos is None or reference is None:
        raise InputError("--videos and --reference belong together: the films, and the CSV file with the truth")
    make_folder(work_dir)
    estimator = open_estimator(model)
    result = evaluate_recordings(videos, reference, lambda video: estimate_track(video, estimator), quiet=quiet)
    write_json(work_dir / "metrics.json", result)
    return result


def markdown_rows(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return metric rows as a table for a terminal, in the columns that a reader compares."""
    named = [name for name in rows[0] if name in ("predictor", "scenario", "skin_type", "protocol")]
    return markdown_table([{name: row[name] for name in (*named, *COLUMNS)} for row in rows])


def _clips(
    data: Path | None, kind: str | None, settings: Preprocessing, seed: int, quiet: bool
) -> tuple[list[Clip], str, list[LabelFinding]]:
    if data is None or kind is None:
        films = SyntheticPulse(
            TEST_FILMS, scenarios=TEST_SCENARIOS, skin_types=(1, 2, 3, 4, 5, 6), split="test", seed=seed, fs=settings.fs
        )
        return films.clips(settings.size_px, quiet=quiet), f"synthetic test films, seed {seed}", []
    if kind not in READERS:
        raise InputError(f"data set {kind!r} is not known; choose {', '.join(READERS)}")
    recordings = READERS[kind](data)
    findings = [finding for recording in recordings for finding in check_labels(recording)]
    return prepare_clips(recordings, settings, quiet=quiet), f"{kind}: {data}", findings


def _report(evaluation: PulseEvaluation, result: Mapping[str, Any], origin: str) -> Report:
    report = Report("Heart rate from video", subtitle=f"{result['model']} on {origin}")
    for title, rows in result.items():
        if isinstance(rows, list) and rows:
            report.table(rows, title)
    for place, clip in enumerate(evaluation.clips[:WAVES_SHOWN]):
        waves = {name: each[place] for name, each in evaluation.waves.items()}
        figure = wave_figure(waves, clip.bvp, clip.fs, evaluation.protocol)
        report.figure(figure, f"{clip.name}: {dict(clip.conditions)}", "Waves and spectra")
    for name in evaluation.readings:
        rates = evaluation.rates(name)
        if len(rates[0]) > 2:
            report.figure(agreement_figure(*rates), name, "Bland-Altman", half_width=True)
    return report

"""Which graphs leave: ``window`` for whole clips and, of a causal network, ``stream`` for one frame after the other.

The confidence in the manifest is fitted on the finished file, on the validation clips of the run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mmengine import Config
from mmengine.registry import DATASETS, MODELS
from torch import nn

from robustvision.core.errors import InputError
from robustvision.core.export import ExportReport, export_model, update_manifest
from robustvision.core.export.files import staged_model
from robustvision.core.runtime.session import open_model
from robustvision.core.training import find_weights, load_weights
from robustvision.core.training.run_record import read_record
from robustvision.rppg.calibration import calibrate_confidence
from robustvision.rppg.confidence import MANIFEST_KEY
from robustvision.rppg.contract import FRAMES, STREAM_GRAPH, TASK, WINDOW_GRAPH, preprocessing
from robustvision.rppg.data import Clip, PulseDataset
from robustvision.rppg.evaluation import evaluate_clips, model_predictor
from robustvision.rppg.graphs import stream_graph, window_graph
from robustvision.rppg.preprocessing import Preprocessing
from robustvision.rppg.protocol import FINE_GRID
from robustvision.rppg.synthetic import SCENARIOS, SyntheticPulse

LICENCE = "Apache-2.0"
SELF_TEST_FRAMES = 32
CALIBRATION_FILMS = 180


def export_network(
    network: nn.Module, path: Path, settings: Preprocessing, *, name: str, training: dict[str, Any]
) -> ExportReport:
    """Write a pulse network as a folder of graphs.

    Args:
        network: Maps frames [B, 3, T, S, S], 0..255, to waves [B, T].
        path: The folder.
        settings: The crop and the clock that it was trained with.
        name: The model's name in the manifest.
        training: What the manifest says about the training.

    Returns:
        The report, with the parity figures.

    Raises:
        ExportError: A graph does not compute what torch computes; nothing is written.
    """
    network = network.cpu().eval()
    graphs = {WINDOW_GRAPH: window_graph(network, settings.size_px)}
    if getattr(network, "causal", False):
        graphs[STREAM_GRAPH] = stream_graph(network, settings.size_px)
    return export_model(
        path,
        graphs,
        task=TASK,
        name=name,
        preprocessing=preprocessing(settings),
        training=training,
        licence=LICENCE,
        self_test_inputs={FRAMES: self_test_frames(settings.size_px)},
        self_test_graph=WINDOW_GRAPH,
    )


def self_test_frames(size_px: int) -> np.ndarray:
    """Return the fixed input of the self-test, uint8 [1, 3, 32, S, S]: each channel has its own pattern and beat."""
    time, y, x = np.mgrid[0:SELF_TEST_FRAMES, 0:size_px, 0:size_px]
    beat = 1 + 0.02 * np.sin(2 * np.pi * 1.2 * time / 30)
    patterns = [60 + 90 * x / size_px, 60 + 90 * y / size_px, 100 + 40 * np.sin((x + 2 * y) / 5)]
    planes = [pattern * beat**power for power, pattern in enumerate(patterns, start=1)]
    return np.stack(planes).round()[None].astype(np.uint8)


def export_run(work_dir: Path, path: Path, *, quiet: bool = False) -> dict[str, Any]:
    """Export the best checkpoint of a training run, and fit its confidence.

    The confidence needs easy and hard readings. A run on rendered films is calibrated on validation people in every
    scenario and of every skin type; a run on a data set on its validation clips.

    Args:
        work_dir: The work folder of the run.
        path: The folder to write.
        quiet: No progress.

    Returns:
        Plain values: path, parity, graphs, validation metrics, the calibration.

    Raises:
        InputError: The folder holds no run, or the path is a file's.
        ExportError: A graph does not compute what torch computes.
    """
    if path.suffix == ".onnx":
        raise InputError(f"{path} must not end in .onnx: a pulse model is a folder of graphs")
    record = read_record(work_dir)
    if not record:
        raise InputError(f"{work_dir} holds no run.json: give the work folder of a training run")
    config = Config.fromfile(str(Path(work_dir) / "config.py"), format_python_code=False)
    config.val_dataloader.dataset.quiet = quiet
    validation: PulseDataset = DATASETS.build(config.val_dataloader.dataset)
    model = MODELS.build(config.model)
    load_weights(model, find_weights(work_dir))
    settings = Preprocessing(size_px=validation.size_px, fs=validation.fs)
    with staged_model(path) as place:
        report = export_network(
            model.network,
            place,
            settings,
            name=f"rppg_{(record['recipe'] or {}).get('name', 'model')}",
            training=_describe_training(record, config),
        )
        found = _calibrate(place, validation.clips, config, settings, quiet)
    return {
        "model": str(path),
        "parity_max_abs": report.parity_max_abs,
        "graphs": list(report.manifest.graphs),
        **found,
    }


def _describe_training(record: Mapping[str, Any], config: Config) -> dict[str, Any]:
    recipe = record["recipe"] or {}
    return {
        "recipe": recipe.get("name"),
        "options": recipe.get("options"),
        "seed": record["seed"],
        "trained_on": "synthetic" if _is_synthetic(config) else str(config.train_dataloader.dataset.get("root")),
        "data": record["data"],
    }


def _is_synthetic(config: Config) -> bool:
    return "synthetic" in str(config.train_dataloader.dataset.get("type"))


def _calibrate(
    path: Path, validation: Sequence[Clip], config: Config, settings: Preprocessing, quiet: bool
) -> dict[str, Any]:
    predict = model_predictor(open_model(path, task=TASK))
    measured = evaluate_clips({"model": predict}, validation, FINE_GRID, quiet=True).metrics("model")
    clips, origin = list(validation), f"{len(validation)} validation clips"
    if _is_synthetic(config):
        clips, origin = _every_kind(settings, quiet), "synthetic validation films of every scenario and skin type"
    try:
        confidence = calibrate_confidence(predict, clips, origin, quiet=quiet)
    except InputError as error:
        update_manifest(path, metrics={"validation": measured})
        return {"validation": measured, "confidence": f"not calibrated: {error}"}
    update_manifest(path, metrics={"validation": measured, MANIFEST_KEY: confidence.entry()})
    return {"validation": measured, "confidence": confidence.calibrated_on}


def _every_kind(settings: Preprocessing, quiet: bool) -> list[Clip]:
    living = tuple(name for name, scenario in SCENARIOS.items() if scenario.has_pulse)
    films = SyntheticPulse(
        CALIBRATION_FILMS,
        scenarios=living,
        skin_types=(1, 2, 3, 4, 5, 6),
        split="validation",
        seed=1,  # other people than those that chose the checkpoint
        fs=settings.fs,
    )
    return films.clips(settings.size_px, quiet=quiet)

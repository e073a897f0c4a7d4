"""Which graph leaves: the backbone as one ONNX file that is a drop-in for OpenCV's ``FaceRecognizerSF``.

The thresholds in its manifest are calibrated on the finished file, with the pipeline that will use them, on the
validation identities of the run.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine import Config
from mmengine.registry import DATASETS, MODELS
from torch import Tensor, nn

from robustvision.core.errors import InputError
from robustvision.core.export import (
    ExportReport,
    GraphExport,
    export_model,
    quantise_dynamic,
    quantise_static,
    to_fp16,
    update_manifest,
)
from robustvision.core.runtime.files import write_atomically
from robustvision.core.runtime.manifest import MAIN_GRAPH
from robustvision.core.training import find_weights, load_weights
from robustvision.core.training.run_record import read_record
from robustvision.face.contract import (
    CROP_PX,
    DESCRIPTIONS,
    INPUT,
    RAW_OUTPUT,
    TASK,
    UNIT_OUTPUT,
    preprocessing,
    self_test_crop,
)
from robustvision.face.data import FaceDataset
from robustvision.face.evaluation import calibrate_thresholds, embed_dataset
from robustvision.face.metrics import verification_metrics
from robustvision.face.networks import InputNormalisation
from robustvision.face.pipeline import FaceRecognizer

CALIBRATION_CROPS = 64
LICENCE = "Apache-2.0"


class UnitEmbedding(nn.Module):
    """A backbone whose embeddings have length 1."""

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, pixels: Tensor) -> Tensor:
        """RGB [B, 3, 112, 112], 0 to 255, to unit vectors [B, d]."""
        return nn.functional.normalize(self.backbone(pixels))


def export_backbone(
    backbone: nn.Module, path: str | os.PathLike[str], *, name: str, l2: bool = False, training: dict[str, Any]
) -> ExportReport:
    """Write a backbone as one ONNX file with input ``data`` and output ``fc1``.

    Args:
        backbone: Maps RGB crops [B, 3, 112, 112], 0..255, to embeddings [B, d].
        path: The ``.onnx`` file.
        name: The model's name in the manifest.
        l2: Unit vectors, under the output name ``embedding``.
        training: What the manifest says about the training.

    Returns:
        The report, with the parity figures.

    Raises:
        ExportError: The graph does not compute what torch computes; nothing is written.
    """
    module = (UnitEmbedding(backbone) if l2 else backbone).cpu().eval()
    output = UNIT_OUTPUT if l2 else RAW_OUTPUT
    example = torch.from_numpy(self_test_crop()).repeat(2, 1, 1, 1)
    graph = GraphExport(
        module=module,
        example_inputs=(example,),
        input_names=(INPUT,),
        output_names=(output,),
        value_ranges={INPUT: (0, 255)},
        descriptions={place: DESCRIPTIONS[place] for place in (INPUT, output)},
    )
    return export_model(
        path,
        {MAIN_GRAPH: graph},
        task=TASK,
        name=name,
        preprocessing=preprocessing(f"inside the graph: {_normalisation(backbone)}"),
        training=training,
        licence=LICENCE,
        self_test_inputs={INPUT: self_test_crop()},
    )


def _normalisation(backbone: nn.Module) -> str:
    for part in backbone.modules():
        if isinstance(part, InputNormalisation):
            return part.extra_repr()
    return "the backbone's own"


def export_run(
    work_dir: Path, path: Path, *, l2: bool = False, variants: Sequence[str] = (), quiet: bool = False
) -> dict[str, Any]:
    """Export the best checkpoint of a training run, and calibrate its thresholds on the run's validation identities.

    Args:
        work_dir: The work folder of the run.
        path: The ``.onnx`` file; variants go beside it, as ``NAME.fp16.onnx``.
        l2: Unit vectors, under the output name ``embedding``.
        variants: Any of ``fp16``, ``int8-dynamic`` and ``int8-static``.
        quiet: No progress.

    Returns:
        Plain values: paths, parity, thresholds, and for each variant its size and the change of its metrics.

    Raises:
        InputError: The folder holds no run, a variant is unknown, or there is nothing to measure it on.
        ExportError: The graph does not compute what torch computes.
    """
    unknown = sorted(set(variants) - {"fp16", "int8-dynamic", "int8-static"})
    if unknown:
        raise InputError(f"no variant {', '.join(unknown)}: choose from fp16, int8-dynamic, int8-static")
    if path.suffix != ".onnx":
        raise InputError(f"{path} must end in .onnx: a face model is a single file")
    record = read_record(work_dir)
    if not record:
        raise InputError(f"{work_dir} holds no run.json: give the work folder of a training run")
    config = Config.fromfile(str(Path(work_dir) / "config.py"), format_python_code=False)
    validation = DATASETS.build(config.val_dataloader.dataset) if config.get("val_dataloader") else None
    if variants and validation is None:
        raise InputError("variants are measured on validation data, and this run had none: train it with --val-data")
    model = MODELS.build(config.model)
    load_weights(model, find_weights(work_dir))
    with write_atomically(path) as place:
        report = export_backbone(
            model.backbone,
            place,
            name=f"face {(record['recipe'] or {}).get('name', 'model')}",
            l2=l2,
            training=_describe_training(record, config, model),
        )
        thresholds = {} if validation is None else _calibrate(place, validation, config, quiet)
    result = {
        "model": str(path),
        "parity_max_abs": report.parity_max_abs,
        "bytes": path.stat().st_size,
        "thresholds": thresholds or "none: the run has no validation data, or too few pairs of it",
    }
    if validation is not None and variants:
        measure = _measurement(validation, quiet)
        result["variants"] = {kind: _write_variant(path, kind, validation, measure) for kind in variants}
    return result


def _describe_training(record: Mapping[str, Any], config: Config, model: nn.Module) -> dict[str, Any]:
    recipe = record["recipe"] or {}
    return {
        "recipe": recipe.get("name"),
        "options": recipe.get("options"),
        "seed": record["seed"],
        "loss": str(model.loss),
        "backbone": type(model.backbone).__name__,
        "trained_on": _origin(config.train_dataloader.dataset),
        "data": record["data"],
    }


def _origin(dataset: Any) -> str:
    return "synthetic" if "synthetic" in str(dataset.get("type")) else str(dataset.get("path", "a data set"))


def _calibrate(path: Path, validation: FaceDataset, config: Config, quiet: bool) -> dict[str, float]:
    embeddings = embed_dataset(FaceRecognizer(path), validation.source, quiet=quiet)
    labels = np.asarray(validation.labels)
    origin = _origin(config.val_dataloader.dataset)
    described = f"{origin}: {len(labels)} validation images of {len(np.unique(labels))} identities"
    thresholds, metrics = calibrate_thresholds(embeddings, labels, described)
    update_manifest(path, thresholds=thresholds, metrics={"validation": metrics})
    return {threshold.name: threshold.value for threshold in thresholds}


def _measurement(validation: FaceDataset, quiet: bool) -> Callable[[Path], dict[str, float]]:
    """How a model does on the validation data; the fp32 original is measured once for all its variants."""

    @lru_cache
    def measure(model: Path) -> dict[str, float]:
        embeddings = embed_dataset(FaceRecognizer(model), validation.source, quiet=quiet)
        measured = verification_metrics(embeddings, validation.labels)
        return {name: value for name, value in measured.items() if np.isfinite(value)}

    return measure


def _write_variant(
    path: Path, kind: str, validation: FaceDataset, measure: Callable[[Path], dict[str, float]]
) -> dict[str, Any]:
    target = path.with_suffix(f".{kind}.onnx")
    if kind == "fp16":
        report = to_fp16(path, target, measure=measure)
    elif kind == "int8-dynamic":
        report = quantise_dynamic(path, target, measure=measure)
    else:
        chosen = np.linspace(0, len(validation) - 1, CALIBRATION_CROPS).astype(int)
        crops = ({INPUT: _blob(validation.source.image(int(index)))} for index in chosen)
        report = quantise_static(path, target, crops, measure=measure)
    return {"model": str(target), "bytes": target.stat().st_size, "change": report.difference}


def _blob(crop: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(crop.transpose(2, 0, 1)[None], dtype=np.float32).reshape(1, 3, CROP_PX, CROP_PX)

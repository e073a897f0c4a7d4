"""Giving a published ONNX file the manifest that our pipelines ask for. Needs onnx and onnxruntime, not torch."""

from __future__ import annotations

import importlib.metadata
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy.typing as npt
import onnx
import onnxruntime

from robustvision.core.errors import ExportError
from robustvision.core.export.files import is_single_file, json_of, staged_model, write_model
from robustvision.core.export.proto import describe_graph, opset_of, read_graph
from robustvision.core.export.self_test import make_self_test, open_session, reopen
from robustvision.core.runtime.manifest import MAIN_GRAPH, METADATA_KEY, Manifest, Threshold

Array = npt.NDArray[Any]


def adopt_model(
    source: str | os.PathLike[str],
    destination: str | os.PathLike[str],
    *,
    task: str,
    name: str,
    self_test_inputs: Mapping[str, Array],
    preprocessing: Mapping[str, Any] | None = None,
    thresholds: Iterable[Threshold] = (),
    training: Mapping[str, Any] | None = None,
    metrics: Mapping[str, Any] | None = None,
    variant: str = "fp32",
    licence: str = "",
    descriptions: Mapping[str, str] | None = None,
) -> Manifest:
    """Write a copy of an ONNX file that somebody else made, with a manifest; the graph itself stays as it is.

    What the manifest says about preprocessing, thresholds and origin is the caller's word: nothing in such a file
    proves it.

    Args:
        source: The ONNX file, after ``repair_inputs`` where it needs that.
        destination: The ``.onnx`` file to write; may be the source.
        task: What the model is for; a pipeline opens only its own task.
        name: The model's name.
        self_test_inputs: Input name to array; the outputs that they give on this machine become the self-test.
        preprocessing: How an input image becomes the graph's input.
        thresholds: Published thresholds, with their source in ``calibrated_on``.
        training: Where the weights come from.
        metrics: Published figures, with their source.
        variant: The precision of the weights.
        licence: The licence of the weights.
        descriptions: Tensor name to what it holds.

    Returns:
        The manifest.

    Raises:
        ModelError: The source is not an ONNX file, or a torn one.
        ExportError: It has a manifest already, does not run, or does not repeat its outputs.
    """
    model = read_graph(source)
    if any(entry.key == METADATA_KEY for entry in model.metadata_props):
        raise ExportError(f"{source} carries a manifest already: change it with update_manifest")
    if not is_single_file(destination):
        raise ExportError(f"{destination} must end in .onnx: the model is a single file")
    manifest = Manifest(
        task=task,
        name=name,
        graphs={MAIN_GRAPH: describe_graph(model, descriptions=descriptions)},
        preprocessing=dict(preprocessing or {}),
        thresholds=tuple(thresholds),
        training=dict(training or {}),
        metrics=dict(metrics or {}),
        variant=variant,
        versions={
            "robustvision": importlib.metadata.version("robustvision-core"),
            "onnx": onnx.__version__,
            "onnxruntime": onnxruntime.__version__,
            "opset": str(opset_of(model)),
        },
        licence=licence,
        self_test=make_self_test(MAIN_GRAPH, open_session(model), self_test_inputs),
    )
    json_of(manifest)
    with staged_model(Path(destination)) as place:
        write_model(place, {MAIN_GRAPH: model}, manifest)
        reopen(place, task)
    return manifest

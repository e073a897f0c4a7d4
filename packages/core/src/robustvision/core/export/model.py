"""A torch model becomes a model file: exported, described, compared with torch, opened as its user will open it.

Nothing stands at the path until everything has passed, and what stood there before stays when anything fails.
"""

from __future__ import annotations

import importlib.metadata
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy.typing as npt
import onnx
import onnxruntime
import torch

from robustvision.core.errors import ExportError
from robustvision.core.export.files import is_single_file, json_of, staged_model, write_model
from robustvision.core.export.graphs import GraphExport
from robustvision.core.export.onnx_graph import to_onnx
from robustvision.core.export.parity import ParityRecord, measure_parity
from robustvision.core.export.probes import BEYOND_RANGE, repeat_rows
from robustvision.core.export.proto import describe_graph
from robustvision.core.export.self_test import make_self_test, open_session, reopen
from robustvision.core.runtime.manifest import MAIN_GRAPH, Manifest, Threshold

Array = npt.NDArray[Any]

SHOWN_FAILURES = 8


@dataclass(frozen=True)
class ExportReport:
    """What was written, and how closely it computes what torch computes.

    Attributes:
        path: The file or folder.
        manifest: Its manifest.
        parity: The figures of every graph at every size and kind of inputs.
        self_test_max_abs: The largest difference of the self-test, run on the file after it was opened again.
    """

    path: Path
    manifest: Manifest
    parity: tuple[ParityRecord, ...]
    self_test_max_abs: float

    @property
    def parity_max_abs(self) -> float:
        """The largest absolute difference on inputs within their value range; beyond it outputs grow without limit."""
        return float(_worst(_within_range(self.parity))["max_abs"])


def export_model(
    path: str | os.PathLike[str],
    graphs: Mapping[str, GraphExport],
    *,
    task: str,
    name: str,
    preprocessing: Mapping[str, Any] | None = None,
    classes: Iterable[str] = (),
    thresholds: Iterable[Threshold] = (),
    training: Mapping[str, Any] | None = None,
    metrics: Mapping[str, Any] | None = None,
    licence: str = "",
    self_test_inputs: Mapping[str, Array] | None = None,
    self_test_graph: str | None = None,
    seed: int = 0,
) -> ExportReport:
    """Write a model: one ``.onnx`` file, or a folder of graphs.

    Args:
        path: ``*.onnx`` for a single file, which holds one graph called ``main``; anything else names a folder.
        graphs: Graph name to what is exported. Names are small letters, digits, ``_`` and ``-``.
        task: What the model is for; a pipeline opens only its own task.
        name: The model's name.
        preprocessing: How an input image becomes the graph's input.
        classes: Class names in the order of the outputs.
        thresholds: Calibrated thresholds; ``update_manifest`` adds those that are calibrated on the finished file.
        training: Recipe, loss, data, seed.
        metrics: What was measured, on what. The parity figures are added under ``parity``.
        licence: The licence of the weights.
        self_test_inputs: Input name to array. None takes the example inputs, at a batch of 1.
        self_test_graph: The graph that the self-test runs; None takes the first.
        seed: The seed of the random inputs of the parity check.

    Returns:
        The report.

    Raises:
        ExportError: The model could not be exported, is not what was asked for, or does not compute what torch
            computes; the figures are in the message, nothing was written, and an older file at ``path`` is unharmed.
        InputError: The place cannot be written to.
    """
    _check_graph_names(path, graphs)
    manifest = Manifest(
        task=task,
        name=name,
        graphs={},
        preprocessing=dict(preprocessing or {}),
        classes=tuple(classes),
        thresholds=tuple(thresholds),
        training=dict(training or {}),
        metrics=dict(metrics or {}),
        versions=_versions(graphs),
        licence=licence,
    )
    json_of(manifest)
    chosen = next(iter(graphs)) if self_test_graph is None else self_test_graph
    if chosen not in graphs:
        raise ExportError(f"self_test_graph is {chosen!r}, the graphs are {list(graphs)}")
    export = graphs[chosen]
    if self_test_inputs is not None and set(self_test_inputs) != set(export.input_names):
        raise ExportError(f"self_test_inputs has {list(self_test_inputs)}, {chosen!r} takes {list(export.input_names)}")
    with staged_model(path) as place:
        models = {graph: to_onnx(graph, graphs[graph]) for graph in graphs}
        sessions = {graph: open_session(model) for graph, model in models.items()}
        records = _accepted_parity(graphs, sessions, seed)
        inputs = repeat_rows(export, export.example_inputs, 1) if self_test_inputs is None else self_test_inputs
        single = is_single_file(path)
        manifest = manifest.replace(
            graphs={
                graph: describe_graph(
                    model, "" if single else f"{graph}.onnx", graphs[graph].states, graphs[graph].descriptions
                )
                for graph, model in models.items()
            },
            self_test=make_self_test(chosen, sessions[chosen], inputs),
            metrics={**manifest.metrics, "parity": _summary(records)},
        )
        json_of(manifest)
        write_model(place, models, manifest)
        difference = reopen(place, task)
    return ExportReport(Path(path), manifest, records, difference)


def _check_graph_names(path: str | os.PathLike[str], graphs: Mapping[str, GraphExport]) -> None:
    if is_single_file(path) and list(graphs) != [MAIN_GRAPH]:
        raise ExportError(
            f"{path} is a single file, which holds one graph called {MAIN_GRAPH!r}, not {list(graphs)}: "
            "rename the graph, or give a folder's name (without .onnx)"
        )
    bad = [name for name in graphs if not re.fullmatch(r"[a-z0-9][a-z0-9_-]*", name)]
    if bad or not graphs:
        raise ExportError(f"graph names {bad} are not small letters, digits, '_' and '-'" if bad else "no graph given")


def _accepted_parity(
    graphs: Mapping[str, GraphExport], sessions: Mapping[str, onnxruntime.InferenceSession], seed: int
) -> tuple[ParityRecord, ...]:
    records = [
        record for graph, export in graphs.items() for record in measure_parity(graph, export, sessions[graph], seed)
    ]
    refused = [record for record in records if not record.figures.ok]
    if refused:
        lines = "\n  ".join(str(record) for record in refused[:SHOWN_FAILURES])
        more = f"\n  and {len(refused) - SHOWN_FAILURES} more" if len(refused) > SHOWN_FAILURES else ""
        raise ExportError(
            f"onnxruntime does not compute what torch computes in {len(refused)} of {len(records)} comparisons; "
            f"nothing was written:\n  {lines}{more}"
        )
    return tuple(records)


def _summary(records: tuple[ParityRecord, ...]) -> dict[str, Any]:
    """The parity figures that go into the manifest: the worst of all, of each graph and size, and beyond the range."""
    cases: dict[str, list[ParityRecord]] = {}
    for record in _within_range(records):
        sizes = ", ".join(f"{label}={size}" for label, size in record.sizes.items()) or "fixed"
        cases.setdefault(f"{record.graph} {sizes}", []).append(record)
    return {
        "against": "torch",
        **_worst(_within_range(records)),
        "inputs": list(dict.fromkeys(record.inputs for record in records)),
        "cases": {case: _worst(entries) for case, entries in cases.items()},
        "beyond_range": _worst([record for record in records if record.inputs in BEYOND_RANGE]),
    }


def _within_range(records: Iterable[ParityRecord]) -> list[ParityRecord]:
    return [record for record in records if record.inputs not in BEYOND_RANGE]


def _worst(records: Iterable[ParityRecord]) -> dict[str, float]:
    figures = [record.figures for record in records]
    return {
        "max_abs": max(figure.max_abs for figure in figures),
        "max_rel": max(figure.max_rel for figure in figures),
        "min_cosine": min(figure.min_cosine for figure in figures),
    }


def _versions(graphs: Mapping[str, GraphExport]) -> dict[str, str]:
    return {
        "robustvision": importlib.metadata.version("robustvision-core"),
        "torch": str(torch.__version__),
        "onnx": onnx.__version__,
        "onnxruntime": onnxruntime.__version__,
        "opset": ", ".join(sorted({str(graph.opset) for graph in graphs.values()})),
    }

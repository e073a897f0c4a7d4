"""What ``robustvision info`` says about a model: its manifest as plain, printable values."""

from __future__ import annotations

import dataclasses
from typing import Any

from robustvision.core.runtime.manifest import GraphSpec, Manifest, TensorSpec


def summary(manifest: Manifest) -> dict[str, Any]:
    """Return a manifest without its arrays, with one line a tensor.

    Args:
        manifest: The manifest.
    """
    fields = {field.name: getattr(manifest, field.name) for field in dataclasses.fields(manifest)}
    del fields["self_test"]
    fields["graphs"] = {name: _graph(spec) for name, spec in manifest.graphs.items()}
    fields["thresholds"] = {
        threshold.name: f"{threshold.score} > {threshold.value:.4f}, calibrated on {threshold.calibrated_on}"
        for threshold in manifest.thresholds
    }
    return {name: value for name, value in fields.items() if value not in ((), {}, "")}


def _graph(spec: GraphSpec) -> dict[str, Any]:
    graph: dict[str, Any] = {
        "inputs": {tensor.name: _tensor(tensor) for tensor in spec.inputs},
        "outputs": {tensor.name: _tensor(tensor) for tensor in spec.outputs},
    }
    return {**graph, "states": spec.states} if spec.states else graph


def _tensor(tensor: TensorSpec) -> str:
    shape = ", ".join(str(length) for length in tensor.shape)
    return f"{tensor.dtype} [{shape}] {tensor.description}".rstrip()

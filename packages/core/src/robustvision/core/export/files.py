"""Model files as they lie on the disk: one ``.onnx`` with its manifest inside, or a folder of graphs with a manifest.

Reading and writing both forms for the rest of this package. Needs onnx, not torch.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import onnx
from onnx import ModelProto

from robustvision.core.errors import ExportError, ModelError
from robustvision.core.export.proto import read_graph
from robustvision.core.runtime.files import write_atomically, write_folder_atomically
from robustvision.core.runtime.manifest import MAIN_GRAPH, MANIFEST_FILE, METADATA_KEY, Manifest
from robustvision.core.runtime.session import open_model

MERGED_FIELDS = ("preprocessing", "training", "metrics", "versions")
FIXED_FIELDS = ("graphs", "schema")


def is_single_file(path: str | os.PathLike[str]) -> bool:
    """Whether a model of this name is one file (``.onnx``) and not a folder."""
    return Path(path).suffix == ".onnx"


@contextmanager
def staged_model(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a place beside ``path`` to write a model to; it takes the place of ``path`` when the block succeeds."""
    if is_single_file(path):
        with write_atomically(path) as place:
            yield place
    else:
        with write_folder_atomically(path, marker=MANIFEST_FILE) as place:
            yield place


def write_model(place: Path, models: Mapping[str, ModelProto], manifest: Manifest) -> None:
    """Write the graphs and their manifest.

    Args:
        place: The ``.onnx`` file, or the folder, which exists.
        models: Graph name to ONNX model.
        manifest: The manifest; it names a file for each graph of a folder.
    """
    if is_single_file(place):
        place.write_bytes(with_manifest(models[MAIN_GRAPH], manifest).SerializeToString(deterministic=True))
        return
    for name, model in models.items():
        (place / manifest.graphs[name].file).write_bytes(model.SerializeToString(deterministic=True))
    (place / MANIFEST_FILE).write_text(manifest.to_json() + "\n", encoding="utf-8")


def read_model(path: str | os.PathLike[str]) -> tuple[Manifest, dict[str, ModelProto]]:
    """Read the manifest and all graphs of a model.

    Raises:
        ModelError: The path holds no model of ours, or a broken one.
    """
    open_model(path)  # a manifest from a stranger may name files outside its folder: this refuses them
    manifest, main = _read_manifest(Path(path))
    if main is not None:
        return manifest, {MAIN_GRAPH: main}
    return manifest, {name: read_graph(Path(path) / spec.file) for name, spec in manifest.graphs.items()}


def with_manifest(model: ModelProto, manifest: Manifest) -> ModelProto:
    """Return a copy of a model that carries the manifest."""
    stamped = ModelProto()
    stamped.CopyFrom(model)
    others = {entry.key: entry.value for entry in model.metadata_props if entry.key != METADATA_KEY}
    onnx.helper.set_model_props(stamped, {**others, METADATA_KEY: manifest.to_json()})
    return stamped


def update_manifest(path: str | os.PathLike[str], **changes: Any) -> Manifest:
    """Change fields of the manifest of a file or folder that exists, in one step: calibrated thresholds, metrics.

    Args:
        path: The model.
        **changes: Fields of ``Manifest``. ``preprocessing``, ``training``, ``metrics`` and ``versions`` are merged key
            by key into what is there; every other field is replaced.

    Returns:
        The new manifest.

    Raises:
        ModelError: The path holds no model of ours, or a broken one.
        ExportError: A field that a manifest does not have, that describes the graphs, or that JSON cannot hold.
    """
    allowed = sorted({field.name for field in dataclasses.fields(Manifest)} - set(FIXED_FIELDS))
    unknown = sorted(set(changes) - set(allowed))
    if unknown:
        raise ExportError(f"the manifest fields {unknown} cannot be changed: choose from {allowed}")
    path = Path(path)
    manifest, main = _read_manifest(path)
    merged = {name: {**getattr(manifest, name), **changes[name]} for name in MERGED_FIELDS if name in changes}
    manifest = manifest.replace(**{**changes, **merged})
    text = json_of(manifest)
    if main is not None:
        with write_atomically(path) as place:
            write_model(place, {MAIN_GRAPH: main}, manifest)
    else:
        with write_atomically(path / MANIFEST_FILE) as place:
            place.write_text(text + "\n", encoding="utf-8")
    return manifest


def json_of(manifest: Manifest) -> str:
    """Return the manifest as JSON that reads back.

    Raises:
        ExportError: It holds something that JSON cannot hold, such as NaN or an object.
    """
    try:
        text = manifest.to_json()
        Manifest.from_json(text)
    except (TypeError, ValueError) as error:
        raise ExportError(
            f"the manifest cannot be written: {error}: give plain values, arrays, finite numbers"
        ) from error
    return text


def _read_manifest(path: Path) -> tuple[Manifest, ModelProto | None]:
    """Read the manifest, and of a single file its graph, which has to be read for that anyway."""
    if path.is_dir():
        file = path / MANIFEST_FILE
        if not file.is_file():
            raise ModelError(f"{path} holds no {MANIFEST_FILE}: name a model's folder, or a single .onnx file")
        try:
            return Manifest.from_json(file.read_text(encoding="utf-8"), origin=str(file)), None
        except UnicodeDecodeError as error:
            raise ModelError(f"{file} is not text: export the model again") from error
    model = read_graph(path)
    text = next((entry.value for entry in model.metadata_props if entry.key == METADATA_KEY), None)
    if text is None:
        raise ModelError(f"{path} carries no manifest: it was not exported by robustvision")
    return Manifest.from_json(text, origin=str(path)), model

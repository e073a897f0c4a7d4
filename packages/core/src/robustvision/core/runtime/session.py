"""Opening an exported model: a single ``.onnx`` file, or a folder of graphs with one ``manifest.json``.

Everything is checked here, once: that the file is a model of this schema and task, that its graphs are what the
manifest says, and that a folder names no file outside itself. What passes is trusted afterwards.
"""

from __future__ import annotations

import io
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort

from robustvision.core.errors import InputError, ModelError
from robustvision.core.runtime.cores import available_cores, default_threads
from robustvision.core.runtime.graph import Graph
from robustvision.core.runtime.manifest import MANIFEST_FILE, METADATA_KEY, Array, GraphSpec, Manifest, TensorSpec

DTYPES = {
    "tensor(float)": "float32",
    "tensor(double)": "float64",
    "tensor(float16)": "float16",
    "tensor(bool)": "bool",
    **{f"tensor({sign}int{bits})": f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)},
}
"""onnxruntime's name of an element type to numpy's."""


@dataclass(frozen=True)
class SelfTestResult:
    """What a model's self-test found.

    Attributes:
        max_abs: The largest absolute difference to the expected outputs; infinite where shapes differ or an output is
            not finite.
        atol: The difference that the manifest allows.
        ok: Whether the model does on this machine what it did where it was exported.
    """

    max_abs: float
    atol: float
    ok: bool


class Model:
    """An opened model.

    Attributes:
        path: The file or folder that it was opened from.
        manifest: All that it says about itself.
        graphs: Graph name to graph.
        providers: The onnxruntime providers in use, the preferred one first.
    """

    def __init__(self, path: Path, manifest: Manifest, graphs: dict[str, Graph], providers: tuple[str, ...]) -> None:
        self.path = path
        self.manifest = manifest
        self.graphs = graphs
        self.providers = providers

    def __repr__(self) -> str:
        return f"Model({str(self.path)!r}, task={self.manifest.task!r}, graphs={list(self.graphs)})"

    @property
    def main(self) -> Graph:
        """The only graph.

        Raises:
            ModelError: The model has several.
        """
        if len(self.graphs) > 1:
            raise ModelError(f"{self.path} has the graphs {', '.join(self.graphs)}: choose one with model.graphs[...]")
        return next(iter(self.graphs.values()))

    @cached_property
    def sha256(self) -> str:
        """The file's hash, read on first use; of a folder, over the names and hashes of its manifest and graphs."""
        if self.path.is_file():
            return _sha256(self.path)
        files = sorted({MANIFEST_FILE, *(spec.file for spec in self.manifest.graphs.values())})
        lines = "".join(f"{_sha256(self.path / name)}  {name}\n" for name in files)
        return _hash(io.BytesIO(lines.encode()))

    def self_test(self) -> SelfTestResult:
        """Run the input that the model carries and compare with the output that it must give.

        Raises:
            ModelError: The model carries no self-test, or one that does not fit its graphs.
        """
        test = self.manifest.self_test
        if test is None:
            raise ModelError(f"{self.path} carries no self-test: export it again with robustvision")
        if test.graph not in self.graphs:
            raise ModelError(f"{self.path}: its self-test is for the graph {test.graph!r}, which it does not have")
        try:
            outputs = self.graphs[test.graph].run(test.inputs)
        except InputError as error:
            raise ModelError(f"{self.path}: its self-test does not fit its graph: {error}") from error
        unknown = set(test.outputs) - set(outputs)
        if unknown:
            raise ModelError(f"{self.path}: its self-test expects the output {min(unknown)!r}, which it does not have")
        max_abs = max((_max_abs(outputs[name], expected) for name, expected in test.outputs.items()), default=0.0)
        return SelfTestResult(max_abs=max_abs, atol=test.atol, ok=max_abs <= test.atol)


def open_model(
    path: str | os.PathLike[str],
    *,
    task: str | None = None,
    providers: Sequence[str] | None = None,
    threads: int | None = None,
    spinning: bool = True,
    warm_up: bool = False,
) -> Model:
    """Open an exported model.

    Args:
        path: A ``.onnx`` file that carries its manifest, or a folder with ``manifest.json``.
        task: The task that the model must be for; ``None`` takes any.
        providers: onnxruntime providers by preference; ``None`` takes CUDA where onnxruntime offers it, else the CPU.
        threads: Threads for one run; ``None`` takes the cores that this process may use, or fewer where
            ``OMP_NUM_THREADS`` says so. More threads than cores are slower (twice, with four on two), so a larger
            number is lowered.
        spinning: Whether idle threads wait actively: a fifth faster alone, a waste of cores in a pool of processes.
        warm_up: Whether to run each graph once on zeros now. The first run costs 1.2 to 2 times a later one; a program
            that answers one question gains nothing by paying it here, so it is off by default and meant for servers.

    Returns:
        The model, its graphs ready to run.

    Raises:
        ModelError: The file is missing, broken, without manifest, of another task or schema, or not what its manifest
            says.
        InputError: An unknown provider, or less than one thread.
    """
    path = Path(path)
    if not path.exists():
        raise ModelError(f"{path} does not exist: give an exported .onnx file, or a folder with {MANIFEST_FILE}")
    chosen = _choose_providers(providers)
    options = _session_options(threads, spinning)
    if path.is_dir():
        manifest = _read_folder_manifest(path)
        sessions = {
            name: _open_session(_inside(path, spec.file, name), options, chosen)
            for name, spec in manifest.graphs.items()
        }
    else:
        session = _open_session(path, options, chosen)
        manifest = _read_embedded_manifest(path, session)
        sessions = dict.fromkeys(manifest.graphs, session)
    if task is not None and manifest.task != task:
        raise ModelError(f"{path} is a model for {manifest.task}, but one for {task} is needed: choose another file")
    graphs = {}
    for name, spec in manifest.graphs.items():
        origin = path.name if len(sessions) == 1 else f"{path.name}, graph {name}"
        _check_session(sessions[name], spec, origin)
        graphs[name] = Graph(name, spec, sessions[name], origin)
    in_use = tuple(next(iter(sessions.values())).get_providers())
    _check_providers(providers, in_use)
    model = Model(path, manifest, graphs, in_use)
    if warm_up:
        for graph in graphs.values():
            _warm_up(graph, manifest)
    return model


def _session_options(threads: int | None, spinning: bool) -> ort.SessionOptions:
    if threads is not None and threads < 1:
        raise InputError(f"threads is {threads}: it must be at least 1")
    options = ort.SessionOptions()
    options.log_severity_level = 4  # what goes wrong becomes an error of ours; warnings are for the exporter
    options.intra_op_num_threads = min(threads or default_threads(), available_cores())
    if not spinning:
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return options


def _choose_providers(wanted: Sequence[str] | None) -> list[str]:
    available = ort.get_available_providers()
    if wanted is None:
        return [name for name in ("CUDAExecutionProvider", "CPUExecutionProvider") if name in available]
    names = [wanted] if isinstance(wanted, str) else list(wanted)
    for name in names:
        if name not in available:
            raise InputError(
                f"provider {name!r} is not in this onnxruntime, which has {', '.join(available)}: "
                "choose one of them, or install the onnxruntime build that brings it"
            )
    if not names:
        raise InputError(f"providers is empty: choose from {', '.join(available)}")
    return names


def _check_providers(wanted: Sequence[str] | None, in_use: tuple[str, ...]) -> None:
    """onnxruntime falls back to the CPU without an error when a provider's libraries do not load."""
    for name in [wanted] if isinstance(wanted, str) else wanted or ():
        if name not in in_use:
            raise InputError(
                f"provider {name!r} could not start (its driver or libraries are missing); onnxruntime would run on "
                f"{', '.join(in_use)} instead: mend the installation, or ask for that"
            )


def _open_session(path: Path, options: ort.SessionOptions, providers: list[str]) -> Any:
    if not path.is_file():
        raise ModelError(f"{path} is not a file: give an exported .onnx file, or a folder with {MANIFEST_FILE}")
    if path.stat().st_size == 0:
        raise ModelError(f"{path} is empty: copy or export it again")
    try:
        return ort.InferenceSession(str(path), options, providers=providers)
    except Exception as error:  # onnxruntime's own classes are not public
        reason = re.sub(r"^\[ONNXRuntimeError\] : \d+ : \w+ : ", "", str(error)).strip()
        raise ModelError(f"{path} is not an ONNX file that onnxruntime can open: {reason}") from error


def _read_embedded_manifest(path: Path, session: Any) -> Manifest:
    text = session.get_modelmeta().custom_metadata_map.get(METADATA_KEY)
    if text is None:
        raise ModelError(
            f"{path} carries no robustvision manifest: export it with robustvision, or turn a published file into a "
            "robustvision model with its domain's repair command (such as `robustvision-face repair`)"
        )
    manifest = Manifest.from_json(text, origin=str(path))
    if len(manifest.graphs) != 1:
        raise ModelError(f"{path}: its manifest names {len(manifest.graphs)} graphs, a single file has one")
    return manifest


def _read_folder_manifest(folder: Path) -> Manifest:
    file = folder / MANIFEST_FILE
    if not file.is_file():
        raise ModelError(f"{folder} holds no {MANIFEST_FILE}: give the folder that robustvision exported")
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ModelError(f"{file} cannot be read as UTF-8 text ({error}): export the model again") from error
    manifest = Manifest.from_json(text, origin=str(file))
    if not manifest.graphs:
        raise ModelError(f"{file} names no graph: export the model again")
    return manifest


def _inside(folder: Path, file: str, graph: str) -> Path:
    """The graph's file, which must lie in the model's folder: a manifest may come from a stranger."""
    parts = file.replace("\\", "/").split("/")
    resolved = (folder / file).resolve()
    if not file or ".." in parts or Path(file).is_absolute() or ":" in file or folder.resolve() not in resolved.parents:
        raise ModelError(f"{folder}: its manifest puts graph {graph!r} at {file!r}, which is not inside the folder")
    return resolved


def _check_session(session: Any, spec: GraphSpec, origin: str) -> None:
    """The graph's inputs and outputs must be what the manifest says, in the same order."""
    for side, found, expected in (
        ("inputs", session.get_inputs(), spec.inputs),
        ("outputs", session.get_outputs(), spec.outputs),
    ):
        names, wanted = [node.name for node in found], [tensor.name for tensor in expected]
        if names != wanted:
            raise ModelError(
                f"{origin}: the graph's {side} are {', '.join(names)}, its manifest says {', '.join(wanted)}: "
                "export it again"
            )
        for node, tensor in zip(found, expected, strict=True):
            if DTYPES.get(node.type) != tensor.dtype or not _shapes_agree(node.shape, tensor):
                raise ModelError(
                    f"{origin}: the graph's {node.name} is {node.type} {node.shape}, its manifest says {tensor.dtype} "
                    f"{list(tensor.shape)}: export it again"
                )


def _shapes_agree(found: Sequence[int | str | None], tensor: TensorSpec) -> bool:
    """A manifest may fix an axis that the graph leaves open, but not promise an open axis where the graph fixes it."""
    return len(found) == len(tensor.shape) and all(
        not isinstance(size, int) or size == wish for size, wish in zip(found, tensor.shape, strict=True)
    )


def _warm_up(graph: Graph, manifest: Manifest) -> None:
    """Run once on zeros; sizes of dynamic axes come from the self-test, else they are 1."""
    test = manifest.self_test
    known: dict[str, Array] = test.inputs if test and test.graph == graph.name else {}
    shapes = {
        tensor.name: [1 if isinstance(size, str) else size for size in tensor.shape] for tensor in graph.spec.inputs
    }
    graph.run(
        {
            tensor.name: np.zeros(np.shape(known.get(tensor.name, np.empty(shapes[tensor.name]))), tensor.dtype)
            for tensor in graph.spec.inputs
        }
    )


def _max_abs(found: Array, expected: Array) -> float:
    if found.shape != expected.shape:
        return float("inf")
    if not found.size:
        return 0.0
    difference = np.abs(found.astype(np.float64) - expected.astype(np.float64)).max()
    return float(difference) if np.isfinite(difference) else float("inf")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return _hash(file)


def _hash(file: io.BufferedIOBase) -> str:
    import hashlib  # it loads OpenSSL, a tenth of the time to the first result

    return hashlib.file_digest(file, "sha256").hexdigest()

"""A few lines of Python that run a model, for people who meet the file before they meet its documentation."""

from __future__ import annotations

import os

from robustvision.core.runtime.manifest import Manifest, TensorSpec


def python_snippet(manifest: Manifest, path: str | os.PathLike[str]) -> str:
    """Write a program that runs a model's first graph on zeros.

    Args:
        manifest: The model's manifest.
        path: Where the model lies, as the program shall name it.

    Returns:
        The source: about ten lines, one more for each further input. Dynamic axes have the size that the self-test
        gives them, else 1.
    """
    name, spec = next(iter(manifest.graphs.items()))
    test = manifest.self_test
    known = test.inputs if test and test.graph == name else {}
    inputs = [
        _input_line(tensor, known[tensor.name].shape if tensor.name in known else None)
        for tensor in spec.inputs
        if tensor.name not in spec.states
    ]
    stream = ".stream()  # remembers its states: one stream a sequence" if spec.states else ""
    lines = [
        "import numpy as np",
        "",
        "from robustvision.core.runtime import open_model",
        "",
        f"model = open_model({os.fspath(path)!r}, task={manifest.task!r})",
        f"graph = model.graphs[{name!r}]{stream}",
        "inputs = {",
        *inputs,
        "}",
        f"outputs = graph.{'step(**inputs)' if spec.states else 'run(inputs)'}",
        "for name, array in outputs.items():",
        "    print(name, array.dtype, array.shape)",
    ]
    return "\n".join(lines) + "\n"


def _input_line(tensor: TensorSpec, known: tuple[int, ...] | None) -> str:
    shape = tuple(1 if isinstance(size, str) else size for size in tensor.shape) if known is None else known
    comment = f"  # {' '.join(tensor.description.split())}" if tensor.description else ""
    return f"    {tensor.name!r}: np.zeros({shape}, {tensor.dtype!r}),{comment}"

"""The self-test that a model file carries: an input and the outputs that onnxruntime gave where the file was made.

Needs onnx and onnxruntime, not torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime
from onnx import ModelProto

from robustvision.core.errors import ExportError
from robustvision.core.runtime.manifest import SelfTest
from robustvision.core.runtime.session import open_model

Array = npt.NDArray[Any]

TOLERANCE = 1e-3  # of the largest expected value: what TF32 and other providers' kernels may differ by


def open_session(model: ModelProto) -> onnxruntime.InferenceSession:
    """Open a plain CPU session on a model in memory.

    Raises:
        ExportError: onnxruntime refuses it.
    """
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's error classes are not public
        raise ExportError(f"onnxruntime refuses the exported graph: {error}") from error


def make_self_test(
    graph: str, session: onnxruntime.InferenceSession, inputs: Mapping[str, Array], atol: float = 0.0
) -> SelfTest:
    """Compute the outputs that a graph must give; ``atol`` widens the tolerance.

    Raises:
        ExportError: The graph does not take the inputs, or gives numbers that are not finite.
    """
    names = [output.name for output in session.get_outputs()]
    try:
        outputs = dict(zip(names, session.run(names, dict(inputs)), strict=True))
    except Exception as error:  # onnxruntime's error classes are not public
        raise ExportError(f"graph {graph!r} does not run on the self-test inputs: {error}") from error
    if not all(np.isfinite(array).all() for array in outputs.values()):
        raise ExportError(f"graph {graph!r} gives numbers that are not finite on the self-test inputs: choose others")
    largest = max(float(np.abs(array.astype(np.float64)).max(initial=0.0)) for array in outputs.values())
    return SelfTest(graph, dict(inputs), outputs, atol=max(TOLERANCE * largest, atol, 1e-6))


def reopen(place: Path, task: str) -> float:
    """Open the written model as its user will, run its self-test, and return the largest difference.

    Raises:
        ExportError: The self-test fails.
        ModelError: The model cannot be opened.
    """
    result = open_model(place, task=task, warm_up=False).self_test()
    if not result.ok:
        raise ExportError(
            f"the written file does not reproduce its own self-test: off by {result.max_abs:.3g}, "
            f"{result.atol:.3g} is allowed: is the graph deterministic?"
        )
    return float(result.max_abs)

"""How two sets of outputs are judged to be the same: the default rule, and what a rule of one's own must return.

Everything here is numpy. A rule is any callable ``(torch_outputs, onnx_outputs) -> ParityFigures``; detectors, whose
order of boxes may differ, bring one that matches boxes first.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class ParityFigures:
    """How far the outputs of onnxruntime are from those of torch, for one set of inputs.

    Attributes:
        max_abs: The largest absolute difference.
        max_rel: The largest absolute difference over the largest absolute value of the same output (or over the
            absolute tolerance, where the output is smaller than that).
        min_cosine: The smallest cosine between the two outputs of one sample; 1 where no sample has a direction.
        failure: Why the outputs are refused; empty where they are accepted.
    """

    max_abs: float
    max_rel: float
    min_cosine: float = 1.0
    failure: str = ""

    @property
    def ok(self) -> bool:
        """Whether the outputs are accepted."""
        return not self.failure and math.isfinite(self.max_abs)

    @classmethod
    def failed(cls, failure: str) -> ParityFigures:
        """Return the figures of outputs that cannot be compared at all."""
        return cls(max_abs=math.inf, max_rel=math.inf, min_cosine=-1.0, failure=failure)


ComparisonRule = Callable[[Sequence[Array], Sequence[Array]], ParityFigures]


@dataclass(frozen=True)
class CloseOutputs:
    """The default rule: every number is close, and every sample points the same way.

    A difference may be ``atol + rtol * scale``, where scale is the output's largest absolute value: inputs far outside
    the usual range give outputs of a thousand times the usual size, and float32 has no more than seven digits. NaN and
    infinity must stand at the same places. The cosine is taken for each sample (axis 0) that has more than one number
    and whose root mean square is above 100 times the allowed difference; a smaller one is rounding noise.
    Choose a smaller ``atol`` for outputs that are themselves not far above 1e-4.

    Attributes:
        atol: Allowed absolute difference.
        rtol: Allowed difference relative to the output's largest absolute value.
        min_cosine: Smallest allowed cosine.

    Example:
        >>> import numpy as np
        >>> rule = CloseOutputs()
        >>> rule([np.array([[3.0, 4.0]])], [np.array([[3.0, 4.00001]])]).ok
        True
        >>> figures = rule([np.array([[3.0, 4.0]])], [np.array([[4.0, 3.0]])])
        >>> figures.max_abs, figures.max_rel, round(figures.min_cosine, 2), figures.ok
        (1.0, 0.25, 0.96, False)
    """

    atol: float = 1e-4
    rtol: float = 1e-5
    min_cosine: float = 0.99999

    def __call__(self, expected: Sequence[Array], actual: Sequence[Array]) -> ParityFigures:
        """Compare two lists of outputs, one array each."""
        figures = [self._compare(index, a, b) for index, (a, b) in enumerate(zip(expected, actual, strict=True))]
        return ParityFigures(
            max_abs=max(figure.max_abs for figure in figures),
            max_rel=max(figure.max_rel for figure in figures),
            min_cosine=min(figure.min_cosine for figure in figures),
            failure="; ".join(figure.failure for figure in figures if figure.failure),
        )

    def _compare(self, index: int, expected: Array, actual: Array) -> ParityFigures:
        if expected.shape != actual.shape or expected.dtype != actual.dtype:
            return ParityFigures.failed(
                f"output {index} is {expected.dtype}{list(expected.shape)} in torch, "
                f"{actual.dtype}{list(actual.shape)} in onnxruntime"
            )
        a, b = expected.astype(np.float64), actual.astype(np.float64)
        finite = np.isfinite(a)
        if not np.array_equal(a[~finite], b[~finite], equal_nan=True) or not np.isfinite(b[finite]).all():
            return ParityFigures.failed(f"output {index} is not finite at different places")
        a, b = np.where(finite, a, 0), np.where(finite, b, 0)
        difference, scale = np.abs(a - b).max(initial=0.0), np.abs(a).max(initial=0.0)
        allowed = self.atol + self.rtol * scale
        cosine = _smallest_cosine(a, b, above=100 * allowed)
        failure = ""
        if difference > allowed:
            failure = f"output {index} differs by {difference:.3g}, {allowed:.3g} is allowed"
        elif cosine < self.min_cosine:
            failure = f"output {index} has cosine {cosine:.7f}, {self.min_cosine} is needed"
        relative = difference / max(scale, self.atol, np.finfo(np.float64).tiny)
        return ParityFigures(float(difference), float(relative), cosine, failure)


def _smallest_cosine(a: Array, b: Array, above: float) -> float:
    rows = a.shape[0] if a.ndim > 1 else 1
    if a.size <= rows:
        return 1.0
    a, b = a.reshape(rows, -1), b.reshape(rows, -1)
    kept = np.sqrt((a**2).mean(axis=1)) > above
    norms = np.linalg.norm(a[kept], axis=1) * np.linalg.norm(b[kept], axis=1)
    cosines = (a[kept] * b[kept]).sum(axis=1) / np.maximum(norms, np.finfo(np.float64).tiny)
    return float(cosines.min(initial=1.0))

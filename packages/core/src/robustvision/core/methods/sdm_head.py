"""The rejection head: embeddings to class scores and the answer whether the prediction is admitted, as one graph.

The graph carries support, calibration and thresholds, so it stands behind any encoder. It has no sort and no loop:
distances come from one matrix product, q from a minimum and a comparison, every distribution function from a comparison
with stored values.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt
from torch import Tensor, nn

from robustvision.core.losses.sdm_activation import sdm
from robustvision.core.methods.sdm_calibration import SDMCalibration
from robustvision.core.nn.class_ecdf import in_blocks
from robustvision.core.nn.sdm import SDMLayer

if TYPE_CHECKING:
    from robustvision.core.export.comparison import ParityFigures
    from robustvision.core.export.graphs import GraphExport
    from robustvision.core.export.model import ExportReport

OUTPUTS = {
    "logits": "class scores; the prediction is their argmax",
    "probabilities": "SDM activation of the logits",
    "q": "nearest training neighbours in a row that speak for the prediction",
    "d": "distance quantile: 1 near the training set, 0 farther than every calibration point of some class",
    "lower": "lower estimate of the prediction's probability",
    "admitted": "whether the prediction may be used",
}

NEAR_TIE = 0.1
"""How far d and the probabilities of a row may be apart where two neighbours changed places."""


class SDMDecision(NamedTuple):
    """What the head says about a batch, in the order of the graph's outputs.

    Attributes:
        logits: [B, K].
        probabilities: SDM activation, [B, K].
        q: Similarity, [B].
        d: Distance quantile, [B].
        lower: Lower estimate of the predicted class's probability, [B].
        admitted: Bool [B]; false for an embedding that is not finite.
    """

    logits: Tensor
    probabilities: Tensor
    q: Tensor
    d: Tensor
    lower: Tensor
    admitted: Tensor


class SDMHead(nn.Module):
    """An SDM layer with its calibration: embeddings [B, D] to :class:`SDMDecision`.

    Args:
        layer: The layer, with support and distances.
        calibration: What was learned from the calibration set.
    """

    def __init__(self, layer: SDMLayer, calibration: SDMCalibration) -> None:
        super().__init__()
        self.layer, self.calibration = layer, calibration

    def forward(self, embeddings: Tensor) -> SDMDecision:
        """Decide on a batch; a large one is worked off in blocks."""
        magnitudes = self.calibration.magnitudes.values
        entries = max(self.layer.entries, magnitudes.numel(), len(magnitudes) ** 2)
        return SDMDecision(*in_blocks(self._one_block, entries, embeddings))

    def _one_block(self, embeddings: Tensor) -> SDMDecision:
        output = self.layer(embeddings)
        estimate = self.calibration(output.logits, output.q, output.d)
        probabilities = sdm(output.logits, output.q, output.d)
        return SDMDecision(output.logits, probabilities, output.q, output.d, estimate.lower, estimate.admitted)


def sdm_graph(head: SDMHead, embeddings: Tensor) -> GraphExport:
    """Describe the head as a graph, for :func:`~robustvision.core.export.export_model`.

    A domain that has an encoder puts it beside that encoder's graph in one folder.

    Args:
        head: The head, on the CPU, in ``eval()``.
        embeddings: Real embeddings, [n, D] with n at least 2; the first 8 are examples, and all of them say how large
            the values are.

    Returns:
        The description.
    """
    from robustvision.core.export.graphs import GraphExport

    examples = embeddings[:8].detach().float()
    return GraphExport(
        head,
        (examples,),
        ("embeddings",),
        tuple(OUTPUTS),
        value_ranges={"embeddings": (float(embeddings.min()), float(embeddings.max()))},
        compare=same_decisions,
        descriptions={"embeddings": "image embeddings or raw features, as the head was fitted on", **OUTPUTS},
    )


def export_sdm_head(
    path: str | os.PathLike[str],
    head: SDMHead,
    embeddings: Tensor,
    *,
    name: str,
    task: str = "rejection",
    classes: Iterable[str] = (),
    **fields: Any,
) -> ExportReport:
    """Write the head as a model file with manifest, parity figures and self-test.

    Args:
        path: ``*.onnx``.
        head: The head, on the CPU, in ``eval()``.
        embeddings: Real embeddings, [n, D]: see :func:`sdm_graph`.
        name: The model's name.
        task: What the model is for.
        classes: Class names in the order of the outputs.
        fields: What :func:`~robustvision.core.export.export_model` takes beside.

    Returns:
        The report.

    Raises:
        ExportError: onnxruntime does not decide as torch does; nothing was written.
    """
    from robustvision.core.export.model import export_model

    return export_model(path, {"main": sdm_graph(head, embeddings)}, task=task, name=name, classes=classes, **fields)


def same_decisions(expected: Sequence[npt.NDArray[Any]], actual: Sequence[npt.NDArray[Any]]) -> ParityFigures:
    """Compare two sides' :class:`SDMDecision`: a parity rule that knows near ties.

    The logits must be close. q, d and the ranks behind ``lower`` are counts, and where two distances agree to float32's
    rounding, the sides may order them differently. So a quarter of the rows (rounded up) may differ by a step: in q by
    one or one per cent, in d and the probabilities by 0.1; only they may differ in ``lower`` and ``admitted``.

    Args:
        expected: The outputs of torch.
        actual: The outputs of onnxruntime.

    Returns:
        The figures: those of the logits and of the rows without a step.
    """
    from robustvision.core.export.comparison import CloseOutputs, ParityFigures

    if any(a.shape != b.shape or a.dtype != b.dtype for a, b in zip(expected, actual, strict=True)):
        return CloseOutputs()(expected, actual)
    a, b = SDMDecision(*expected), SDMDecision(*actual)  # type: ignore[arg-type]
    gaps = [np.nan_to_num(np.abs(x - y)).reshape(len(x), -1).max(1) for x, y in zip(a[1:5], b[1:5], strict=True)]
    step = (np.max(gaps, axis=0) > 1e-4) | (np.asarray(a.admitted) != np.asarray(b.admitted))
    in_probability, in_q, in_d, _ = gaps
    too_far = (in_q > np.maximum(1.0, 0.01 * np.asarray(a.q))) | (in_d > NEAR_TIE) | (in_probability > NEAR_TIE)
    if too_far.any() or step.sum() > np.ceil(len(step) / 4):
        return ParityFigures.failed(
            f"{int(step.sum())} of {len(step)} rows differ in q, d, probabilities or admission, "
            f"{int(too_far.sum())} of them by more than a near tie can explain"
        )
    kept = [expected[0], *(x[~step] for x in expected[1:])], [actual[0], *(x[~step] for x in actual[1:])]
    return CloseOutputs()(*kept)

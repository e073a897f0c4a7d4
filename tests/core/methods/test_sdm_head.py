"""The rejection head as an ONNX graph: what it holds, what onnxruntime makes of it, and what parity accepts."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from robustvision.core.export import ExportReport, GraphExport, export_model
from robustvision.core.methods import SDMDecision, SDMHead, SDMSettings, export_sdm_head, fit_sdm, sdm_graph
from robustvision.core.methods.sdm_head import same_decisions
from robustvision.core.runtime import open_model

SETTINGS = SDMSettings(
    exemplar_size=16,
    epochs=5,
    batch_size=20,
    learning_rate=1e-2,
    rescaling_epochs=40,
    rescaling_batch_size=20,
    rescaling_learning_rate=3e-2,
)


def clusters(rows: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 3, (rows,), generator=g)
    return 3.0 * torch.eye(3, 8)[labels] + 0.7 * torch.randn(rows, 8, generator=g), labels


@pytest.fixture(scope="module")
def head() -> SDMHead:
    return fit_sdm(*clusters(600, 0), 3, runs=2, settings=SETTINGS).head


@pytest.fixture(scope="module")
def report(head: SDMHead, tmp_path_factory: pytest.TempPathFactory) -> ExportReport:
    path = tmp_path_factory.mktemp("head") / "head.onnx"
    return export_sdm_head(path, head, clusters(64, 1)[0], name="clusters", classes=("a", "b", "c"))


def test_file_carries_manifest_support_and_thresholds(head: SDMHead, report: ExportReport) -> None:
    manifest = open_model(report.path, task="rejection").manifest
    assert manifest.classes == ("a", "b", "c")
    graph = manifest.graphs["main"]
    assert [(tensor.name, tensor.dtype, tensor.shape) for tensor in graph.inputs] == [
        ("embeddings", "float32", ("batch", 8))
    ]
    assert [(tensor.name, tensor.dtype, tensor.shape) for tensor in graph.outputs] == [
        ("logits", "float32", ("batch", 3)),
        ("probabilities", "float32", ("batch", 3)),
        ("q", "float32", ("batch",)),
        ("d", "float32", ("batch",)),
        ("lower", "float32", ("batch",)),
        ("admitted", "bool", ("batch",)),
    ]
    stored = [onnx.numpy_helper.to_array(tensor) for tensor in onnx.load(report.path).graph.initializer]
    for tensor in (head.layer.support, head.calibration.thresholds):
        wanted = tensor.numpy()
        assert any(np.array_equal(wanted, array) or np.array_equal(wanted.T, array) for array in stored)


def test_graph_has_no_sort_and_no_loop(report: ExportReport) -> None:
    operators = {node.op_type for node in onnx.load(report.path).graph.node}
    assert not operators & {"TopK", "Loop", "Scan", "If", "CDist", "CumSum"}


@pytest.mark.parametrize("batch", [1, 2, 7, 300])
def test_onnxruntime_decides_as_torch(head: SDMHead, report: ExportReport, batch: int) -> None:
    x = torch.cat([clusters(batch, 5)[0], clusters(batch, 6)[0] + 40.0])  # the second half is far away
    expected = head(x)
    found = open_model(report.path).main.run({"embeddings": x.numpy()})
    for name in ("logits", "probabilities", "q", "d", "lower"):
        np.testing.assert_allclose(found[name], getattr(expected, name).numpy(), atol=1e-4, err_msg=name)
    assert found["admitted"].tolist() == expected.admitted.tolist()
    assert not found["admitted"][batch:].any()
    assert (found["d"][batch:] == 0).all()
    if batch == 300:
        assert 0.3 < found["admitted"][:batch].mean() < 1


def test_parity_figures_are_measured_at_every_batch(report: ExportReport) -> None:
    assert {record.sizes["batch"] for record in report.parity} == {1, 2, 3, 8}
    assert 0 < report.parity_max_abs < 1e-4


@pytest.mark.parametrize("value", [math.nan, math.inf, 1e30])
def test_the_graph_rejects_what_is_not_finite(report: ExportReport, value: float) -> None:
    """Our own runtime refuses such input before; others do not."""
    session = onnxruntime.InferenceSession(report.path, providers=["CPUExecutionProvider"])
    x = clusters(20, 5)[0].numpy()
    clean = session.run(["admitted"], {"embeddings": x})[0]
    row = int(clean.argmax())
    assert clean[row]
    x[row, 3] = value
    admitted, d = session.run(["admitted", "d"], {"embeddings": x})
    assert not admitted[row]
    assert d[row] == 0
    assert np.delete(admitted, row).tolist() == np.delete(clean, row).tolist()


def test_a_domain_exports_the_head_behind_its_encoder(head: SDMHead, tmp_path: Path) -> None:
    encoder = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 8)).eval()
    images = torch.rand(2, 3, 2, 2)
    graphs = {
        "encoder": GraphExport(encoder, (images,), ("image",), ("embeddings",)),
        "rejection": sdm_graph(head, clusters(64, 1)[0]),
    }
    export_model(tmp_path / "toy", graphs, task="toy", name="toy")
    model = open_model(tmp_path / "toy", task="toy")
    embeddings = model.graphs["encoder"].run({"image": images.numpy()})["embeddings"]
    found = model.graphs["rejection"].run({"embeddings": embeddings})
    assert found["admitted"].tolist() == head(torch.from_numpy(embeddings)).admitted.tolist()


# ---- the parity rule


def decision(rows: int = 8) -> SDMDecision:
    rng = np.random.default_rng(0)
    p = rng.dirichlet(np.ones(3), rows).astype(np.float32)
    q = rng.integers(1, 200, rows).astype(np.float32)
    return SDMDecision(10 * p, p, q, p[:, 0].copy(), p[:, 1].copy(), q > 100)


def changed(field: str, rows: slice | int, by: float) -> SDMDecision:
    values = decision()
    array = getattr(values, field)
    array[rows] = ~array[rows] if array.dtype == bool else array[rows] + by
    return values


def test_parity_accepts_the_same_and_one_near_tie_in_four_rows() -> None:
    assert same_decisions(decision(), decision()).ok
    for field, by in (("q", 1), ("d", 0.05), ("probabilities", 0.05), ("lower", 0.7), ("admitted", 0)):
        assert same_decisions(decision(), changed(field, slice(0, 2), by)).ok, field


@pytest.mark.parametrize(
    ("field", "rows", "by"),
    [
        ("logits", 0, 0.01),
        ("q", slice(0, 3), 1),
        ("q", 0, 5),
        ("d", 0, 0.2),
        ("probabilities", 0, 0.2),
        ("lower", slice(0, 3), 0.01),
        ("admitted", slice(0, 3), 0),
        ("probabilities", 0, math.nan),
        ("d", 0, math.nan),
    ],
)
def test_parity_refuses_what_near_ties_do_not_explain(field: str, rows: slice | int, by: float) -> None:
    assert not same_decisions(decision(), changed(field, rows, by)).ok


def test_the_graph_is_judged_by_this_rule(head: SDMHead) -> None:
    assert sdm_graph(head, clusters(64, 1)[0]).compare is same_decisions

"""Changing the manifest of a model that exists, and what happens to files that are broken."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from robustvision.core.errors import ExportError, ModelError
from robustvision.core.export import update_manifest
from robustvision.core.export.proto import drop_unused_domains, read_graph, strip
from robustvision.core.runtime import open_model
from robustvision.core.runtime.manifest import Threshold

THRESHOLD = Threshold("same person", "cosine", 0.36, "toy pairs", target=1e-3)


@pytest.fixture(params=["file", "folder"])
def model(request: pytest.FixtureRequest, toy: SimpleNamespace, tmp_path: Path) -> Path:
    if request.param == "file":
        return Path(shutil.copy(toy.file, tmp_path / "model.onnx"))
    return Path(shutil.copytree(toy.folder, tmp_path / "model"))


def test_thresholds_and_metrics_are_stamped_into_a_model_that_exists(model: Path) -> None:
    before = open_model(model)
    hash_before = before.sha256
    returned = update_manifest(model, thresholds=(THRESHOLD,), metrics={"accuracy": 0.9}, name="calibrated")
    after = open_model(model)
    assert after.manifest.thresholds == returned.thresholds == (THRESHOLD,)
    assert after.manifest.metrics == {**before.manifest.metrics, "accuracy": 0.9}
    assert after.manifest.name == "calibrated"
    assert after.manifest.graphs == before.manifest.graphs
    assert after.sha256 != hash_before
    assert after.self_test().ok
    assert {file.name for file in model.parent.iterdir()} == {model.name}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"treshold": 1}, "'treshold'.*cannot be changed: choose from"),
        ({"graphs": {}}, "'graphs'.*cannot be changed"),
        ({"schema": 2}, "'schema'.*cannot be changed"),
        ({"metrics": {"accuracy": float("inf")}}, "finite numbers"),
    ],
)
def test_a_change_that_cannot_be_made_changes_nothing(model: Path, changes: dict, message: str) -> None:
    before = {file: file.read_bytes() for file in model.parent.rglob("*") if file.is_file()}
    with pytest.raises(ExportError, match=message):
        update_manifest(model, **changes)
    assert {file: file.read_bytes() for file in model.parent.rglob("*") if file.is_file()} == before


def test_broken_models_are_named(toy: SimpleNamespace, tmp_path: Path) -> None:
    data = toy.file.read_bytes()
    for name, content in (("torn", data[: len(data) // 2]), ("noise", b"\xff" * 99), ("empty", b"")):
        (tmp_path / f"{name}.onnx").write_bytes(content)
        with pytest.raises(ModelError, match=f"{name}.onnx"):
            update_manifest(tmp_path / f"{name}.onnx", name="x")
    with pytest.raises(ModelError, match="not a file"):
        update_manifest(tmp_path / "missing.onnx", name="x")
    with pytest.raises(ModelError, match=r"holds no manifest\.json"):
        update_manifest(tmp_path, name="x")
    (tmp_path / "manifest.json").write_bytes(b'{"schema": 1, "task": "t')
    with pytest.raises(ModelError, match="not JSON"):
        update_manifest(tmp_path, name="x")
    strange = onnx.load(str(toy.file))
    del strange.metadata_props[:]
    onnx.save(strange, str(tmp_path / "strange.onnx"))
    with pytest.raises(ModelError, match="carries no manifest"):
        update_manifest(tmp_path / "strange.onnx", name="x")


def test_weights_in_another_file_are_not_read(toy: SimpleNamespace, tmp_path: Path) -> None:
    model = onnx.load(str(toy.file))
    onnx.save(model, str(tmp_path / "model.onnx"), save_as_external_data=True, size_threshold=0, location="weights")
    with pytest.raises(ModelError, match="keeps its weights in another file"):
        read_graph(tmp_path / "model.onnx")


def test_strip_reaches_branches_and_functions_and_leaves_the_numbers() -> None:
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, [2], doc_string="/secret/input")
    out = helper.make_tensor_value_info("y", TensorProto.FLOAT, [2])
    constant = numpy_helper.from_array(np.array([1.0, 2.0], np.float32), "c")
    constant.doc_string = "/secret/initialiser"
    inner = helper.make_node("Add", ["x", "c"], ["z"], doc_string="/secret/inner")
    branch = helper.make_graph([inner], "/branch", [], [helper.make_tensor_value_info("z", TensorProto.FLOAT, [2])])
    branch.doc_string = "/secret/branch"
    node = helper.make_node("If", ["b"], ["y"], then_branch=branch, else_branch=branch)
    entry = node.metadata_props.add()
    entry.key, entry.value = "stack_trace", "/secret/node"
    node.attribute[0].doc_string = "/secret/attribute"
    flag = numpy_helper.from_array(np.array(True), "b")
    graph = helper.make_graph([node], "g", [value], [out], initializer=[constant, flag], doc_string="/secret/graph")
    imports = [helper.make_opsetid("", 18), helper.make_opsetid("com.microsoft", 1)]
    function = helper.make_function(
        "local", "Same", ["a"], ["b"], [helper.make_node("Relu", ["a"], ["b"], doc_string="/secret/f")], imports[:1]
    )
    model = helper.make_model(graph, opset_imports=imports, functions=[function], doc_string="/secret/model")
    numbers = model.graph.initializer[0].raw_data
    strip(model)
    drop_unused_domains(model)
    assert b"/secret" not in model.SerializeToString()
    assert model.graph.initializer[0].raw_data == numbers
    assert [entry.domain for entry in model.opset_import] == [""]

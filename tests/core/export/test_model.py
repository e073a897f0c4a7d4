"""What leaves is what was asked for and computes what torch computes; what is not, does not leave."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import onnx
import pytest
import torch
from torch import nn

from robustvision.core.errors import ExportError, InputError
from robustvision.core.export import CloseOutputs, GraphExport, ParityFigures, export_model
from robustvision.core.runtime import open_model

ROW = (torch.randn(2, 4),)
TRACED = {"exporter": "torchscript", "opset": 17}  # ten times as fast, where the exporter does not matter


class OneInput(nn.Module):
    """A module of one function."""

    def __init__(self, function: Callable[..., object]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: torch.Tensor) -> object:
        return self.function(x)


class TwoInputs(OneInput):
    """A module of one function of two tensors."""

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> object:  # type: ignore[override]
        return self.function(x, y)


def export(path: Path, graph: GraphExport, **fields: object) -> None:
    export_model(path, {"main": graph}, task="test", name="test", **fields)


def graph_of(function: Callable[..., object], **fields: object) -> GraphExport:
    fields = {"example_inputs": ROW, "input_names": ("x",), "output_names": ("y",), **fields}
    module = OneInput(function) if len(fields["input_names"]) == 1 else TwoInputs(function)
    return GraphExport(module.eval(), **fields)


# ---- the two-graph, stateful toy domain


def test_the_folder_holds_the_graphs_and_one_manifest(toy: SimpleNamespace) -> None:
    assert sorted(file.name for file in toy.folder.iterdir()) == ["decoder.onnx", "encoder.onnx", "manifest.json"]
    assert sorted(file.name for file in toy.root.iterdir()) == ["encoder.onnx", "toy"]
    manifest = open_model(toy.folder, task="toy").manifest
    assert (manifest.name, manifest.licence, manifest.variant) == ("toy-1", "Apache-2.0", "fp32")
    assert manifest.graphs["encoder"].inputs[0].shape == ("batch", 3, 16, 16)
    assert manifest.graphs["encoder"].inputs[0].description == "RGB, 0 to 255"
    assert manifest.graphs["decoder"].states == {"cache": "next_cache"}
    assert [(tensor.name, tensor.dtype, tensor.shape) for tensor in manifest.graphs["decoder"].outputs] == [
        ("score", "float32", ("batch", 2)),
        ("next_cache", "float32", ("batch", 5)),
    ]
    assert manifest.versions["torch"] == torch.__version__
    assert manifest.versions["opset"] == "18"


@pytest.mark.parametrize("batch", [1, 2, 5, 33])
def test_onnxruntime_computes_what_torch_computes(toy: SimpleNamespace, batch: int) -> None:
    image = torch.rand(batch, 3, 16, 16) * 255
    with torch.no_grad():
        expected = toy.encoder(image).numpy()
    found = open_model(toy.folder).graphs["encoder"].run({"image": image.numpy()})["features"]
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_a_stream_is_torch_step_by_step(toy: SimpleNamespace) -> None:
    stream = open_model(toy.folder).graphs["decoder"].stream()
    cache = torch.zeros(3, 5)
    first = None
    for step in range(12):
        features = torch.randn(3, 6, generator=torch.Generator().manual_seed(step))
        with torch.no_grad():
            expected, cache = toy.decoder(features, cache)
        found = stream.step(features=features.numpy())
        np.testing.assert_allclose(found["score"], expected.numpy(), atol=1e-5)
        first = found["score"] if step == 0 else first
    stream.reset()
    features = torch.randn(3, 6, generator=torch.Generator().manual_seed(0))
    np.testing.assert_array_equal(stream.step(features=features.numpy())["score"], first)


def test_the_report_has_figures_for_every_graph_batch_and_kind(toy: SimpleNamespace) -> None:
    seen = {(record.graph, record.sizes["batch"], record.inputs) for record in toy.report.parity}
    kinds = ("example", "uniform", "zeros", "ones", "high", "large", "negative")
    assert seen == {
        *((graph, batch, kind) for graph in ("encoder", "decoder") for batch in (1, 2, 3, 8) for kind in kinds),
        *(("decoder", batch, "stream") for batch in (1, 2, 3, 8)),
    }
    assert 0 < toy.report.parity_max_abs < 1e-4
    assert toy.report.self_test_max_abs < 1e-5
    assert all(record.figures.min_cosine > 0.99999 for record in toy.report.parity)


def test_the_figures_stand_in_the_manifest_beside_the_metrics(toy: SimpleNamespace) -> None:
    metrics = json.loads((toy.folder / "manifest.json").read_text())["metrics"]
    assert metrics["accuracy"] == 0.5
    parity = metrics["parity"]
    within = [record.figures.max_abs for record in toy.report.parity if record.inputs not in ("large", "negative")]
    assert parity["max_abs"] == toy.report.parity_max_abs == max(within)
    assert parity["beyond_range"]["max_abs"] >= max(
        record.figures.max_abs for record in toy.report.parity if record.inputs == "large"
    )
    assert set(parity["cases"]) == {
        f"{graph} batch={batch}" for graph in ("encoder", "decoder") for batch in (1, 2, 3, 8)
    }


def test_no_path_of_this_machine_is_in_the_files(toy: SimpleNamespace) -> None:
    program = torch.onnx.export(toy.decoder, toy.graphs["decoder"].example_inputs, dynamo=True, verbose=False)
    assert __file__.rsplit("/", 1)[0].encode() in program.model_proto.SerializeToString()  # torch does write them
    paths = [__file__, sys.prefix, Path(__file__).parent, Path.cwd(), toy.root, torch.__path__[0]]
    for file in [*toy.folder.iterdir(), toy.file]:
        data = file.read_bytes()
        assert [path for path in map(str, paths) if path.encode() in data] == []
        assert b"stack_trace" not in data
        assert b"site-packages" not in data


def test_the_same_module_gives_the_same_bytes(toy: SimpleNamespace, tmp_path: Path) -> None:
    graph = graph_of(lambda x: torch.relu(x) + 1, example_inputs=(torch.ones(2, 4),))
    export(tmp_path / "a.onnx", graph)
    export(tmp_path / "b.onnx", graph)
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()


def test_opencv_loads_a_single_file_and_agrees(toy: SimpleNamespace) -> None:
    image = (np.random.default_rng(0).random((2, 3, 16, 16)) * 255).astype(np.float32)
    net = cv2.dnn.readNetFromONNX(str(toy.file))
    net.setInput(image)  # no name: there is one input
    expected = open_model(toy.file, task="toy-encoder").main.run({"image": image})["features"]
    np.testing.assert_allclose(net.forward(), expected, atol=1e-4)


# ---- what is refused, and what stays


def doubled_when_exported(x: torch.Tensor) -> torch.Tensor:
    return x * (2 if torch.onnx.is_in_onnx_export() else 1)


def test_failing_parity_leaves_nothing_and_says_the_figures(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"main, batch 1, uniform: max_abs 0\.\d+.*min_cosine 1\.0+ ") as caught:
        export(tmp_path / "model.onnx", graph_of(doubled_when_exported))
    assert "nothing was written" in str(caught.value)
    assert "comparisons" in str(caught.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["model.onnx", "model"])
def test_a_good_model_stays_when_the_next_export_fails(toy: SimpleNamespace, tmp_path: Path, name: str) -> None:
    graphs = {"main": graph_of(lambda x: x + 1, **TRACED)}
    export_model(tmp_path / name, graphs, task="test", name="good")
    before = {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()}
    with pytest.raises(ExportError):
        export_model(tmp_path / name, {"main": graph_of(doubled_when_exported, **TRACED)}, task="test", name="bad")
    assert {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()} == before
    assert open_model(tmp_path / name).manifest.name == "good"


def test_an_error_that_grows_from_step_to_step_is_found_by_the_stream(tmp_path: Path) -> None:
    def accumulate(x: torch.Tensor, state: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        state = state * (3 * (1 + 8e-6) if torch.onnx.is_in_onnx_export() else 3) + x
        return state[:, :2], state

    graph = graph_of(
        accumulate,
        example_inputs=(torch.ones(2, 4), torch.zeros(2, 4)),
        input_names=("x", "state"),
        output_names=("y", "next_state"),
        states={"state": "next_state"},
        **TRACED,
    )
    with pytest.raises(ExportError, match=r"stream: .*step \d") as caught:
        export(tmp_path / "model.onnx", graph)
    kinds = [line.split(": ")[0].rsplit(", ", 1)[1] for line in str(caught.value).splitlines()[1:]]
    assert set(kinds) == {"stream"}  # one step alone is within the tolerance


@pytest.mark.parametrize("exporter", ["dynamo", "torchscript"])
def test_a_baked_in_batch_is_refused(tmp_path: Path, exporter: str) -> None:
    with pytest.raises(ExportError, match="a batch size is baked into the module"):
        export(tmp_path / "model.onnx", graph_of(lambda x: x.reshape(2, -1), exporter=exporter, opset=18))
    assert list(tmp_path.iterdir()) == []


def test_a_branch_on_the_batch_is_refused(tmp_path: Path) -> None:
    def branch(x: torch.Tensor) -> torch.Tensor:
        return x * 2 if x.shape[0] == 2 else x * 3

    with pytest.raises(ExportError, match=r"could not export it with 'dynamo' .*static shape of 2"):
        export(tmp_path / "model.onnx", graph_of(branch))
    with pytest.raises(ExportError, match="batch 1, uniform"):  # the tracer takes the example's branch in silence
        export(tmp_path / "model.onnx", graph_of(branch, **TRACED))


def test_an_opset_that_the_exporter_cannot_reach_is_refused(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ExportError, match="opset 13 was asked for, 'dynamo' wrote 18"):
        export(tmp_path / "model.onnx", graph_of(lambda x: x.mean(dim=1), opset=13))
    assert capfd.readouterr() == ("", "")


def test_an_input_that_the_module_ignores_is_refused(tmp_path: Path) -> None:
    graph = graph_of(lambda x, y: x * 2, example_inputs=ROW * 2, input_names=("x", "ignored"), **TRACED)
    with pytest.raises(ExportError, match=r"inputs should be \['x', 'ignored'\], torch wrote \['x'\]"):
        export(tmp_path / "model.onnx", graph)


def test_broken_weights_are_refused_though_both_sides_agree(tmp_path: Path) -> None:
    module = nn.Linear(4, 3).eval()
    nn.init.constant_(module.weight, torch.nan)
    with pytest.raises(ExportError, match="holds NaN on ordinary inputs"):
        export(tmp_path / "model.onnx", GraphExport(module, ROW, ("x",), ("y",), **TRACED))


def test_a_state_that_comes_back_in_another_shape_is_refused(tmp_path: Path) -> None:
    graph = graph_of(
        lambda x, state: (x + state, torch.cat((state, x), dim=1)),
        example_inputs=ROW * 2,
        input_names=("x", "state"),
        output_names=("y", "next_state"),
        states={"state": "next_state"},
        **TRACED,
    )
    with pytest.raises(ExportError, match=r"state 'state' \['batch', 4\] comes back as 'next_state' \['batch', 8\]"):
        export(tmp_path / "model.onnx", graph)


def test_too_few_outputs_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="graph 'main'"):
        export(tmp_path / "model.onnx", graph_of(lambda x: x + 1, output_names=("y", "z")))


@pytest.mark.parametrize(
    ("path", "graphs", "fields", "message"),
    [
        ("model.onnx", ("encoder",), {}, "one graph called 'main'"),
        ("model.onnx", ("main", "second"), {}, "give a folder's name"),
        ("model", ("../main",), {}, "small letters"),
        ("model", (), {}, "no graph given"),
        ("model.onnx", ("main",), {"metrics": {"accuracy": float("nan")}}, "finite numbers"),
        ("model.onnx", ("main",), {"training": {"loss": object()}}, "plain values"),
        ("model.onnx", ("main",), {"self_test_graph": "other"}, "self_test_graph is 'other'"),
    ],
)
def test_a_request_that_cannot_be_met_is_refused_at_once(
    tmp_path: Path, path: str, graphs: tuple[str, ...], fields: dict, message: str
) -> None:
    with pytest.raises(ExportError, match=message):
        export_model(
            tmp_path / path, {name: graph_of(lambda x: x) for name in graphs}, **{"task": "t", "name": "n", **fields}
        )
    assert list(tmp_path.iterdir()) == []


def test_a_folder_of_something_else_is_never_replaced(toy: SimpleNamespace, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "me.jpg").write_bytes(b"precious")
    with pytest.raises(InputError, match=r"not a folder with a manifest\.json"):
        export_model(tmp_path / "photos", {"main": toy.graphs["encoder"]}, task="t", name="n")
    assert (tmp_path / "photos" / "me.jpg").read_bytes() == b"precious"


def test_the_self_test_runs_the_given_inputs(tmp_path: Path) -> None:
    x = np.array([[1.0, 2.0, 3.0, 4.0]], np.float32)
    export(tmp_path / "model.onnx", graph_of(lambda x: x * 10, **TRACED), self_test_inputs={"x": x})
    test = open_model(tmp_path / "model.onnx").manifest.self_test
    assert test is not None
    np.testing.assert_array_equal(test.outputs["y"], x * 10)
    assert test.atol == pytest.approx(40 * 1e-3)
    with pytest.raises(ExportError, match=r"self_test_inputs has \['image'\], 'main' takes \['x'\]"):
        export(tmp_path / "model.onnx", graph_of(lambda x: x), self_test_inputs={"image": x})
    with pytest.raises(ExportError, match="does not run on the self-test inputs"):
        export(tmp_path / "model.onnx", graph_of(lambda x: x + 1, **TRACED), self_test_inputs={"x": x[:, :3]})


# ---- other exporters, axes and rules


def test_every_axis_dynamic(tmp_path: Path) -> None:
    torch.manual_seed(1)
    module = nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1), nn.ReLU(), nn.Upsample(scale_factor=2), nn.Conv2d(4, 1, 3, 1, 1))
    graph = GraphExport(
        module.eval(),
        (torch.rand(2, 3, 16, 24),),
        ("image",),
        ("map",),
        dynamic_axes={"image": {0: "batch", 2: "height", 3: "width"}},
        parity_sizes={"height": (18, 40), "width": (64, 16)},
        value_ranges={"image": (0, 1)},
    )
    export(tmp_path / "model.onnx", graph)
    image = torch.rand(3, 3, 30, 50)
    found = open_model(tmp_path / "model.onnx").main.run({"image": image.numpy()})["map"]
    np.testing.assert_allclose(found, module(image).detach().numpy(), atol=1e-5)


class Detector(nn.Module):
    """Boxes and scores of the cells whose score is high; the exported graph gives them in another order."""

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        scores = torch.sigmoid(image.mean(dim=(0, 1)).flatten())
        if torch.onnx.is_in_onnx_export():
            order = torch.arange(scores.shape[0] - 1, -1, -1)
        else:
            order = torch.arange(scores.shape[0])
        corner = torch.stack((order % 16, order // 16), dim=1).float() * 10
        keep = scores[order] > 0.55
        return torch.cat((corner, corner + 8), dim=1)[keep], scores[order][keep]


def matched_boxes(expected: list[np.ndarray], actual: list[np.ndarray]) -> ParityFigures:
    """Every box of torch has one of onnxruntime that covers it, with the same score."""
    if expected[0].shape != actual[0].shape:
        return ParityFigures.failed(f"{len(expected[0])} boxes in torch, {len(actual[0])} in onnxruntime")
    if not len(expected[0]):
        return ParityFigures(0.0, 0.0)
    low = np.maximum(expected[0][:, None, :2], actual[0][None, :, :2])
    high = np.minimum(expected[0][:, None, 2:], actual[0][None, :, 2:])
    shared = np.prod(np.clip(high - low, 0, None), axis=2)
    iou = shared / (2 * 64 - shared)
    match = iou.argmax(axis=1)
    worst = float(np.abs(expected[1] - actual[1][match]).max())
    failure = "" if worst < 1e-5 and iou.max(axis=1).min() > 0.99 else "a box has no partner"
    return ParityFigures(worst, worst, failure=failure)


def test_the_old_exporter_without_a_batch_axis_and_with_a_rule_of_ones_own(tmp_path: Path) -> None:
    graph = GraphExport(
        Detector().eval(),
        (torch.randn(1, 3, 16, 16),),
        ("image",),
        ("boxes", "scores"),
        exporter="torchscript",
        opset=17,
        dynamic_axes={},
        samples=((torch.randn(1, 3, 16, 16) + 0.3,),),
        compare=matched_boxes,
    )
    report = export_model(tmp_path / "model.onnx", {"main": graph}, task="t", name="n")
    assert {record.inputs: dict(record.sizes) for record in report.parity}["sample 0"] == {}
    image = np.random.default_rng(0).normal(size=(1, 3, 16, 16)).astype(np.float32)
    outputs = open_model(tmp_path / "model.onnx").main.run({"image": image})
    assert len(outputs["boxes"]) == len(outputs["scores"]) > 0
    with pytest.raises(ExportError, match="output 0 differs by"):
        export(tmp_path / "strict.onnx", replace(graph, compare=CloseOutputs()))
    with pytest.raises(ExportError, match="a box has no partner"):
        export(tmp_path / "strict.onnx", replace(graph, compare=lambda a, b: matched_boxes(a, [b[0] + 5, b[1]])))


def test_the_old_exporter_with_a_batch_axis_names_it(tmp_path: Path) -> None:
    graph = graph_of(lambda x: x.flatten(1) * 2, example_inputs=(torch.ones(2, 3, 4),), **TRACED)
    export(tmp_path / "model.onnx", graph)
    assert open_model(tmp_path / "model.onnx").manifest.graphs["main"].outputs[0].shape == ("batch", 12)


def test_token_inputs_stay_inside_their_range(tmp_path: Path) -> None:
    graph = GraphExport(
        nn.Embedding(10, 4).eval(),
        (torch.tensor([[1, 2, 3], [4, 5, 6]]),),
        ("tokens",),
        ("vectors",),
        value_ranges={"tokens": (0, 9)},
        **TRACED,
    )
    export(tmp_path / "model.onnx", graph)
    tokens = np.array([[9, 0, 9]])
    found = open_model(tmp_path / "model.onnx").main.run({"tokens": tokens})["vectors"]
    np.testing.assert_array_equal(found, graph.module.weight.detach().numpy()[tokens])


def test_a_cache_with_the_batch_in_the_middle(tmp_path: Path) -> None:
    def forward(x: torch.Tensor, state: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        total = x.cumsum(dim=0) + state
        return torch.tanh(total), total[-1:]

    graph = graph_of(
        forward,
        example_inputs=(torch.randn(5, 2, 3), torch.zeros(1, 2, 3)),
        input_names=("steps", "state"),
        output_names=("out", "next_state"),
        dynamic_axes={"steps": {1: "batch"}, "state": {1: "batch"}, "out": {1: "batch"}},
        states={"state": "next_state"},
    )
    export(tmp_path / "model.onnx", graph)
    model = open_model(tmp_path / "model.onnx")
    assert [tensor.shape for tensor in model.main.spec.outputs] == [(5, "batch", 3), (1, "batch", 3)]
    stream, steps = model.main.stream(), torch.randn(10, 4, 3)
    found = np.concatenate([stream.step(steps=part.numpy())["out"] for part in steps.split(5)])
    np.testing.assert_allclose(found, torch.tanh(steps.cumsum(dim=0)).numpy(), atol=1e-5)


def test_the_checker_sees_one_input_and_no_external_data(toy: SimpleNamespace) -> None:
    model = onnx.load(str(toy.file), load_external_data=False)
    onnx.checker.check_model(model, full_check=True)
    assert [tensor.name for tensor in model.graph.input] == ["image"]
    assert {tensor.data_location for tensor in model.graph.initializer} == {onnx.TensorProto.DEFAULT}

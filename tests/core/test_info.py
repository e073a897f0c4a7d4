import json

import numpy as np
import pytest

from robustvision.core import cli
from robustvision.core.info import summary
from robustvision.core.runtime.manifest import GraphSpec, Manifest, SelfTest, TensorSpec, Threshold
from robustvision.face import FaceRecognizer


def run(*args):
    with pytest.raises(SystemExit) as stop:
        cli.run(cli.app, [str(arg) for arg in args])
    return stop.value.code


def test_a_summary_is_printable_and_leaves_arrays_out():
    graph = GraphSpec(
        inputs=(TensorSpec("x", "float32", ("batch", 3), "pixels"), TensorSpec("h", "float32", (1, 4))),
        outputs=(TensorSpec("y", "float32", ("batch", 2)), TensorSpec("g", "float32", (1, 4))),
        states={"h": "g"},
    )
    manifest = Manifest(
        task="toy",
        name="t",
        graphs={"main": graph},
        thresholds=(Threshold("hit", "cosine", 0.25, "toys", 0.01),),
        self_test=SelfTest("main", {"x": np.zeros(3)}, {}),
    )
    shown = summary(manifest)
    assert shown["graphs"]["main"]["inputs"]["x"] == "float32 [batch, 3] pixels"
    assert shown["graphs"]["main"]["states"] == {"h": "g"}
    assert shown["thresholds"] == {"hit": "cosine > 0.2500, calibrated on toys"}
    assert "self_test" not in shown
    assert "classes" not in shown
    json.dumps(shown)


def test_info_checks_the_shipped_model_and_prints_a_snippet_that_runs(capsys):
    path = FaceRecognizer.synthetic().model.path
    assert run("info", path, "--check", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["self_test"]["ok"] is True
    assert told["task"] == "face-recognition"
    assert run("info", path, "--snippet") == 0
    exec(compile(capsys.readouterr().out, "snippet", "exec"), {})
    assert "(1, 128)" in capsys.readouterr().out


def test_info_on_something_else_is_one_line(tmp_path, capsys):
    other = tmp_path / "other.onnx"
    other.write_bytes(b"\x00garbage")
    assert run("info", other) == 2
    assert str(other) in capsys.readouterr().err

"""The way of a user along the command line: render, check, train, resume, export, evaluate, predict."""

import json

import numpy as np
import pytest

from robustvision.core.runtime import open_model
from robustvision.face import FaceRecognizer, cli
from robustvision.face.synthetic import SyntheticFaces


def run(*args):
    with pytest.raises(SystemExit) as stop:
        cli.run(cli.app, [str(arg) for arg in args])
    return stop.value.code


@pytest.fixture(scope="module")
def trees(tmp_path_factory):
    """Rendered people on disk: for training (with wrong labels), and others for validation."""
    folder = tmp_path_factory.mktemp("faces")
    assert run("synthesize", folder / "train", "--identities", 16, "--images", 6, "--flip-rate", 0.25, "--quiet") == 0
    assert run("synthesize", folder / "val", "--identities", 12, "--images", 4, "--seed", 9, "--quiet") == 0
    return folder


SHORT = (
    "--cfg-options",
    "train_cfg.max_epochs=2",
    "train_cfg.val_interval=1",
    "train_dataloader.batch_size=32",
    "param_scheduler.1.end=2",
    "val_evaluator.fars=[0.05]",
    "default_hooks.checkpoint.save_best=val/auc",
)


@pytest.fixture(scope="module")
def work_dir(trees, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run") / "work"
    args = ("--data", trees / "train", "--val-data", trees / "val", "--work-dir", folder, "--quiet")
    assert run("train", "tiny", *args, *SHORT) == 0
    return folder


@pytest.fixture(scope="module")
def model(work_dir):
    path = work_dir.parent / "face.onnx"
    assert run("export", work_dir, "--out", path, "--variant", "int8-static", "--variant", "fp16", "--quiet") == 0
    return path


def test_a_rendered_tree_passes_the_check_and_a_broken_one_does_not(trees, capsys):
    assert run("check", trees / "val") == 0
    (trees / "val" / "list.txt").write_text("0000/missing.png\t3\n")
    assert run("check", trees / "val" / "list.txt", "--json") == 1
    captured = capsys.readouterr().out.strip().splitlines()[-1]
    assert "list.txt:1" in json.loads(captured)["findings"][0]["where"]


def test_training_writes_what_the_guide_promises(work_dir):
    names = {path.name for path in work_dir.iterdir()}
    assert {"run.json", "log.jsonl", "report.html", "best.pth"} <= names
    record = json.loads((work_dir / "run.json").read_text())
    assert record["status"] == "finished"
    assert record["config"]["model"]["head"]["num_classes"] == 16
    assert record["data"]["train"]["fingerprint"]
    log = [json.loads(line) for line in (work_dir / "log.jsonl").read_text().splitlines()]
    assert {"intra", "inter", "theta_y", "theta_j", "intra_open", "inter_open", "top1"} <= set(log[0])


def test_the_exported_model_runs_and_carries_its_origin(model, trees):
    opened = open_model(model, task="face-recognition")
    assert opened.self_test().ok
    assert opened.manifest.training["seed"] == 0
    assert "SFaceLoss" in opened.manifest.training["loss"]
    assert opened.manifest.thresholds[0].calibrated_on.startswith(str(trees / "val"))


def test_variants_lie_beside_it_with_their_measured_change(model):
    for kind in ("int8-static", "fp16"):
        variant = open_model(model.with_suffix(f".{kind}.onnx"))
        assert variant.manifest.variant == kind
        assert "auc" in variant.manifest.metrics["change"]["difference"]
        assert variant.path.stat().st_size < model.stat().st_size


def test_evaluate_prints_json_and_writes_a_report(model, trees, tmp_path, capsys):
    args = ("--data", trees / "val", "--work-dir", tmp_path / "evaluation", "--json")
    assert run("evaluate", "--model", model, *args, "--calibrate") == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["images"], result["identities"]) == (48, 12)
    assert result["tar@far=0.01 low"] <= result["tar@far=0.01"] <= result["tar@far=0.01 high"]
    assert FaceRecognizer(model).threshold == pytest.approx(result["thresholds"][0]["value"])
    assert (tmp_path / "evaluation" / "report.html").read_text().startswith("<!")


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("train", "tinny"), "tiny"),
        (("train", "tiny", "--cfg-options", "model.loss.kk=60"), "model.loss.k"),
        (("train", "tiny", "--data", "no/such/folder"), "no/such/folder"),
        (("train", "tiny", "--val-data", "somewhere"), "--data"),
        (("train", "tiny", "--device", "tpu"), "tpu"),
        (("export", "no/such/run"), "run.json"),
        (("evaluate", "--calibrate"), "--model"),
        (("evaluate", "--model", "no.onnx"), "no.onnx"),
        (("predict", "no.png"), "no.png"),
        (("repair", "no.onnx"), "no.onnx"),
        (("check", "no/such"), "no/such"),
    ],
)
def test_mistakes_are_one_line_and_exit_code_2(args, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert run(*args) == 2
    error = capsys.readouterr().err.strip()
    assert error.startswith("error: ")
    assert message in error
    assert list(tmp_path.iterdir()) == []


def test_resume_without_a_run_is_an_error(tmp_path, trees, capsys):
    assert run("train", "tiny", "--data", trees / "train", "--work-dir", tmp_path / "none", "--resume") == 2
    assert "resume" in capsys.readouterr().err


def test_the_folder_that_synthesize_writes_is_the_source_that_it_came_from(trees):
    from robustvision.face.data import read_faces

    rendered, read = SyntheticFaces(12, 4, split="train", seed=9), read_faces(trees / "val")
    assert (read.num_classes, len(read)) == (12, 48)
    np.testing.assert_array_equal(read.labels, rendered.labels)


def test_a_run_without_validation_exports_without_thresholds(trees, tmp_path, capsys):
    args = ("--data", trees / "train", "--work-dir", tmp_path / "run", "--quiet")
    short = [option for option in SHORT if not option.startswith(("val_", "default_hooks", "train_cfg.val"))]
    assert run("train", "tiny", *args, *short) == 0
    assert run("export", tmp_path / "run", "--out", tmp_path / "v.onnx", "--variant", "fp16", "--quiet") == 2
    assert not (tmp_path / "v.onnx").exists()
    capsys.readouterr()
    assert run("export", tmp_path / "run", "--out", tmp_path / "plain.onnx", "--json") == 0
    assert json.loads(capsys.readouterr().out)["thresholds"].startswith("none")
    assert open_model(tmp_path / "plain.onnx").manifest.thresholds == ()


def test_calibrate_changes_nothing_when_the_folder_cannot_be_used(model, trees, tmp_path, capsys):
    (tmp_path / "file").touch()
    before = model.read_bytes()
    args = ("--model", model, "--data", trees / "val", "--calibrate", "--quiet")
    assert run("evaluate", *args, "--work-dir", tmp_path / "file") == 2
    assert "cannot make the folder" in capsys.readouterr().err
    assert model.read_bytes() == before


def test_results_are_strict_json(tmp_path, capsys):
    """FAR 1e-3 cannot be measured on 5 people with 3 images: null, not NaN."""
    assert run("synthesize", tmp_path / "few", "--identities", 5, "--images", 3, "--quiet") == 0
    capsys.readouterr()
    with pytest.warns(UserWarning, match="cannot be measured"):
        assert run("evaluate", "--data", tmp_path / "few", "--work-dir", tmp_path / "e", "--json") == 0
    for text in (capsys.readouterr().out, (tmp_path / "e" / "metrics.json").read_text()):
        assert json.loads(text, parse_constant=pytest.fail)["tar@far=0.001"] is None

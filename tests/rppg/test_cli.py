"""The way of a user along the command line: render, check, train, resume, export, evaluate, predict."""

import json

import pytest

from robustvision.core.runtime import open_model
from robustvision.rppg import cli, export
from robustvision.rppg.synthetic import SyntheticPulse, write_film

SHORT = (
    "--cfg-options",
    "train_cfg.max_epochs=2",
    "train_cfg.val_interval=1",
    "param_scheduler.1.end=3",
    "model.network.width=8",
    "train_dataloader.dataset.num_recordings=16",
    "val_dataloader.dataset.num_recordings=6",
)


def run(*args):
    with pytest.raises(SystemExit) as stop:
        cli.run(cli.app, [str(arg) for arg in args])
    return stop.value.code


def answer(capsys):
    return json.loads(capsys.readouterr().out.strip().splitlines()[-1])


@pytest.fixture(scope="module")
def work_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run") / "work"
    assert run("train", "tiny", "--work-dir", folder, "--quiet", *SHORT) == 0
    return folder


@pytest.fixture(scope="module")
def model(work_dir):
    path = work_dir.parent / "pulse"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(export, "CALIBRATION_FILMS", 45)
        assert run("export", work_dir, "--out", path, "--quiet") == 0
    return path


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    recording = SyntheticPulse(1, split="test", seed=8, seconds=12.0, size_px=192)[0]
    return write_film(recording, tmp_path_factory.mktemp("film") / "still.mp4", quality=18), recording


def test_a_run_leaves_its_report_and_goes_on(work_dir, capsys):
    assert (work_dir / "report.html").stat().st_size > 10_000
    assert run("train", "tiny", "--work-dir", work_dir, "--resume", "--json", *SHORT) == 0
    assert answer(capsys)["steps"] == 4


def test_the_exported_folder_has_both_graphs_and_says_what_it_is(model):
    opened = open_model(model, task="heart-rate")
    assert set(opened.graphs) == {"window", "stream"}
    assert opened.self_test().ok
    manifest = opened.manifest
    assert manifest.training["recipe"] == "tiny"
    assert manifest.training["trained_on"] == "synthetic"
    assert manifest.preprocessing["size"] == 16
    assert manifest.metrics["validation"]["coverage"] == 1


def test_a_pulse_model_is_no_single_file(work_dir, tmp_path, capsys):
    assert run("export", work_dir, "--out", tmp_path / "pulse.onnx") == 2
    assert "is a folder of graphs" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_evaluation_measures_under_one_protocol_and_under_many(model, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("robustvision.rppg.evaluate.TEST_FILMS", 12)
    args = ("--model", model, "--work-dir", tmp_path, "--protocol", "toolbox_current", "--protocol-sensitivity")
    assert run("evaluate", *args, "--json") == 0
    result = answer(capsys)
    assert [row["predictor"] for row in result["table"]] == ["rppg_tiny", "pos", "chrom"]
    assert result["table"][0]["sha256"] == result["sha256"]
    assert {row["band_hz"][0] for row in result["table"]} == {0.6}
    assert len({row["mae"] for row in result["sensitivity"]}) > 1
    assert len(result["sensitivity"]) == 18
    assert {row["scenario"] for row in result["by scenario"]} >= {"still", "walk"}
    assert (tmp_path / "metrics.json").exists()
    assert "Bland-Altman" in (tmp_path / "report.html").read_text()


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("--protocol", "mine"), "there is no protocol 'mine': choose from paper2023, toolbox_current"),
        (("--kind", "pure"), "--data and --kind belong together"),
        (("--videos", "films"), "--videos and --reference belong together"),
        (("--model", "magic"), "magic is neither an exported model nor a method (green, chrom, pos"),
    ],
)
def test_what_cannot_be_evaluated_is_said_in_one_line(args, message, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run("evaluate", *args) == 2
    assert message in capsys.readouterr().err


def test_a_film_is_read_second_by_second(film, tmp_path, capsys):
    path, recording = film
    assert run("predict", path, "--model", "pos", "--out", tmp_path / "rates.csv", "--json") == 0
    result = answer(capsys)
    assert result["heart_rate_bpm"] == pytest.approx(recording.conditions["heart_rate_bpm"], abs=5)
    assert result["states"]["warming_up"] >= 4
    lines = (tmp_path / "rates.csv").read_text().splitlines()
    assert lines[0].startswith("time_s,state,heart_rate_bpm")
    assert len(lines) == len(result["readings"]) + 1


def test_own_recordings_are_compared_with_their_reference(film, tmp_path, capsys):
    path, recording = film
    truth = recording.conditions["heart_rate_bpm"]
    rows = [f"{path.name},{second},{truth}" for second in range(13)]
    (tmp_path / "ref.csv").write_text("\n".join(["video,timestamp_s,bpm", *rows]) + "\n")
    args = (
        "--videos",
        path.parent,
        "--reference",
        tmp_path / "ref.csv",
        "--model",
        "pos",
        "--work-dir",
        tmp_path / "w",
    )
    assert run("evaluate", *args, "--json") == 0
    text = json.dumps(answer(capsys))
    assert "coverage" in text
    assert (tmp_path / "w" / "metrics.json").exists()


def test_a_rendered_film_passes_the_check(film, capsys):
    assert run("check", film[0], "--json") == 0
    assert isinstance(answer(capsys)["findings"], list)


def test_trees_are_rendered_in_public_layouts(tmp_path, capsys):
    args = ("--layout", "ubfc", "--recordings", 2, "--seconds", 2, "--size", 64, "--json")
    assert run("synthesize", tmp_path / "tree", *args) == 0
    assert answer(capsys)["recordings"] == 2
    assert len(list((tmp_path / "tree").glob("subject*/vid.avi"))) == 2


def test_rendered_films_are_own_recordings(tmp_path, capsys):
    films, truth = tmp_path / "films", tmp_path / "films" / "reference.csv"
    args = ("--layout", "film", "--recordings", 2, "--seconds", 20, "--scenario", "still", "--scenario", "photo")
    assert run("synthesize", films, *args, "--quiet") == 0
    assert sorted(file.name for file in films.glob("*.mp4")) == ["subject1-1.mp4", "subject2-1.mp4"]
    capsys.readouterr()
    assert run("evaluate", "--videos", films, "--reference", truth, "--work-dir", tmp_path / "work", "--json") == 0
    found = answer(capsys)
    assert [row["video"] for row in found["recordings"]] == ["subject1-1.mp4"]
    assert found["without_reference"] == ["subject2-1.mp4"]  # a photo has no pulse to refer to
    assert found["overall"]["within_5_bpm"] == 1


def test_a_data_set_with_an_inverted_label_is_measured_and_the_label_named(tmp_path, capsys):
    args = ("--layout", "ubfc", "--recordings", 2, "--seconds", 12, "--size", 192, "--quiet")
    assert run("synthesize", tmp_path / "tree", *args) == 0
    truth = next(iter(sorted((tmp_path / "tree").glob("subject*/ground_truth.txt"))))
    wave, *rest = truth.read_text().splitlines()
    truth.write_text("\n".join([" ".join(str(-float(value)) for value in wave.split()), *rest]) + "\n")
    capsys.readouterr()
    args = ("--data", tmp_path / "tree", "--kind", "ubfc", "--model", "pos", "--work-dir", tmp_path / "work")
    assert run("evaluate", *args, "--json") == 0
    result = answer(capsys)
    assert [finding["kind"] for finding in result["label findings"]] == ["inverted"]
    assert result["table"][0]["n"] + result["table"][0]["unlabelled"] >= 1
    assert result["data"] == f"ubfc: {tmp_path / 'tree'}"

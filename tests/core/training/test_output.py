"""What a user sees, what a run leaves in memory, and what it records."""

from __future__ import annotations

import json
import logging
import re
import subprocess
import warnings

import pytest
import torch
from mmengine.logging import MessageHub, MMLogger

from robustvision.core.training import build_runner, train
from robustvision.core.training.hooks import ProgressHook, progress
from robustvision.core.training.run_record import read_record


def shown(toy, **settings):
    """A recipe whose progress is shown, with every possible source of noise."""
    recipe = toy.recipe(accumulate=2, ema=True, early_stop=True, **settings)
    recipe["default_hooks"].pop("progress")
    recipe["optim_wrapper"]["paramwise_cfg"] = {"norm_decay_mult": 0.0}
    return recipe


def test_lines_without_a_terminal(toy, tmp_path, capfd, caplog):
    with warnings.catch_warnings(), caplog.at_level(logging.WARNING):
        warnings.simplefilter("error")
        result = train(shown(toy), work_dir=tmp_path / "run")
    out, err = capfd.readouterr()
    assert out == ""
    lines = err.splitlines()
    assert lines[0] == f"training Classifier on cpu (1 thread): 3 epochs of 6 steps; files in {tmp_path / 'run'}"
    assert re.fullmatch(r"epoch 1/3: toy/accuracy [\d.]+, toy/nll [\d.]+, toy/count 22 \(best so far\)", lines[1])
    assert lines[-2].startswith("stopped early: toy/nll") == result.stopped_early
    assert re.fullmatch(
        rf"done after 18 steps, \d+ s; best at step 18: .* in {tmp_path / 'run' / 'best.pth'}", lines[-1]
    )
    assert len(lines) <= 7
    assert not caplog.text


def test_lines_now_and_then(toy, tmp_path, capsys, monkeypatch):
    """One line an interval, with the time left: the clock goes on by 3 seconds a step, and lines come every 20."""
    clock = iter(range(0, 10_000, 3))
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    recipe = toy.recipe(validation=False)
    recipe["default_hooks"]["progress"] = {"type": ProgressHook, "interval_s": 20}
    train(recipe, work_dir=tmp_path)
    lines = [line for line in capsys.readouterr().err.splitlines() if ", step " in line]
    assert 1 <= len(lines) <= 3
    step, left = re.fullmatch(r"epoch \d/3, step (\d+)/18: loss \d\.\d{4}, (\d+) s left", lines[0]).groups()
    assert int(left) == pytest.approx(3 * (18 - int(step)), rel=0.3)


def test_a_terminal_shows_a_bar_and_is_given_back(toy, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    with pytest.raises(toy.KilledError):
        train(shown(toy, hooks=({"type": toy.KillHook, "step": 14},)), work_dir=tmp_path)
    err = capsys.readouterr().err
    assert "14/18" in re.sub(r"\x1b\[[\d;?]*[a-zA-Z]", "", err)
    assert err.count("\x1b[?25l") == err.count("\x1b[?25h") >= 1  # the cursor is back


def test_quiet(toy, tmp_path, capfd):
    recipe = shown(toy)
    train(recipe, work_dir=tmp_path, quiet=True)
    assert capfd.readouterr() == ("", "")


def test_durations():
    assert [progress._duration(seconds) for seconds in (0.4, 59.6, 61, 3600, 7325)] == [
        "0 s", "1 min 0 s", "1 min 1 s", "1 h 0 min", "2 h 2 min",
    ]  # fmt: skip


def test_runs_leave_nothing_in_globals(toy, tmp_path):
    before = [len(kind._instance_dict) for kind in (MMLogger, MessageHub)]
    for number in range(2):
        train(toy.recipe(epochs=1), work_dir=tmp_path / f"{number}", quiet=True)
    with pytest.raises(toy.KilledError):
        train(toy.recipe(hooks=({"type": toy.KillHook, "step": 2},)), work_dir=tmp_path / "killed", quiet=True)
    assert [len(kind._instance_dict) for kind in (MMLogger, MessageHub)] == before


def test_runs_at_the_same_time_do_not_share_a_hub(toy, tmp_path):
    runners = [build_runner(toy.recipe(), work_dir=tmp_path / name, quiet=True) for name in ("a", "b")]
    runners[0].message_hub.update_info("who", 1)
    assert runners[1].message_hub.get_info("who") is None
    for runner in runners:
        runner.close()


def test_weights_lie_in_the_fast_layout(toy, tmp_path):
    for wanted in (True, False):
        runner = build_runner(toy.recipe(channels_last=wanted), work_dir=tmp_path, quiet=True)
        weight = runner.model.features[0].weight
        assert weight.is_contiguous(memory_format=torch.channels_last) == wanted
        runner.close()


def test_the_record_of_a_run(toy, tmp_path):
    recipe = {**toy.recipe(epochs=1), "recipe": {"name": "tiny", "package": "toy", "options": {"a.b": 1}}}
    result = train(recipe, work_dir=tmp_path, seed=5, quiet=True)
    record = json.loads((tmp_path / "run.json").read_text())
    assert record == read_record(tmp_path)
    assert record["status"] == "finished"
    assert record["recipe"] == {"name": "tiny", "package": "toy", "options": {"a.b": 1}}
    assert record["config"]["model"]["type"] == "robustvision_toy.Classifier"
    assert record["config"]["optim_wrapper"]["optimizer"]["type"].endswith(".AdamW")
    assert (record["seed"], record["device"], record["processes"], record["torch_threads"]) == (5, "cpu", 1, 1)
    assert record["versions"]["torch"] == torch.__version__.split("+")[0]
    assert record["data"] == {
        "train": {"samples": 36, "fingerprint": "squares-36-0"},
        "val": {"samples": 22, "fingerprint": "squares-22-1"},
    }
    assert record["metrics"] == {"checkpoint": dict(result.metrics), "last": dict(result.last_metrics)}
    assert (record["steps"], record["epochs"], record["checkpoint"]) == (6, 1, "best.pth")
    assert record["started"] <= record["ended"]
    assert record["error"] is None
    if record["commit"]:
        here = ["git", "rev-parse", "HEAD"]
        head = subprocess.run(here, cwd=str(pytest.importorskip("pathlib").Path(__file__).parent), capture_output=True)
        assert record["commit"].split("+")[0] == head.stdout.decode().strip()


def test_the_record_of_an_interrupted_run(toy, tmp_path):
    class Stop(toy.KillHook):
        def kill(self, runner):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(toy.recipe(hooks=({"type": Stop, "step": 8},)), work_dir=tmp_path, quiet=True)
    assert read_record(tmp_path)["status"] == "interrupted"
    train(toy.recipe(), work_dir=tmp_path, resume=True, quiet=True)
    record = read_record(tmp_path)
    assert record["status"] == "finished"
    assert [resume["step"] for resume in record["resumed"]] == [6]


def test_seeds_matter(toy, tmp_path, read_log):
    logs = {}
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        logs[name] = read_log(train(toy.recipe(epochs=1), work_dir=tmp_path / name, seed=seed, quiet=True).work_dir)
    assert logs["a"] == logs["b"]
    assert logs["a"] != logs["c"]

"""A run that was killed goes on as if nothing had happened."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from robustvision.core.errors import InputError
from robustvision.core.training import read_checkpoint, train

# 6 steps an epoch, 3 epochs; with early stop the run ends after epoch 3 of 5
SETTINGS = {
    "plain": {},
    "ema": {"ema": True, "model": {"jitter": 0.01}},
    "accumulate": {"accumulate": 4, "ema": True, "checkpoint": {"interval": 2}},  # 6 is no multiple of 4
    "early stop": {"early_stop": True, "epochs": 5, "ema": True},
    "every third": {"checkpoint": {"interval": 3}, "ema": True},
}


def compare_runs(left, right, assert_same, read_log):
    for name in ("best.pth", left.last_checkpoint.name):
        one, other = read_checkpoint(left.work_dir / name), read_checkpoint(right.work_dir / name)
        for content in (one, other):
            content["meta"].pop("time")
            content["meta"].pop("cfg")  # the resumed run's hooks and workers may differ
        assert_same(one, other, name)
    assert read_log(left.work_dir) == read_log(right.work_dir)
    assert (left.metrics, left.best_step, left.step) == (right.metrics, right.best_step, right.step)
    assert left.stopped_early == right.stopped_early


@pytest.fixture(scope="module")
def uninterrupted(toy, tmp_path_factory):
    """The run of each setting that nothing disturbs."""
    runs = {}

    def run(name):
        if name not in runs:
            runs[name] = train(
                toy.recipe(**SETTINGS[name]), work_dir=tmp_path_factory.mktemp("whole") / "run", quiet=True
            )
        return runs[name]

    return run


def interrupt(toy, settings, work_dir, step, stage="iter"):
    hook = {"type": toy.KillHook, "step": step, "stage": stage}
    with pytest.raises(toy.KilledError):
        train(toy.recipe(**settings, hooks=(hook,)), work_dir=work_dir, quiet=True)


@pytest.mark.parametrize(
    ("setting", "step", "stage"),
    [
        ("plain", 9, "iter"),  # in mid-epoch: back to step 6
        ("plain", 12, "iter"),  # at the last step of an epoch, before its validation
        ("plain", 12, "val"),  # just after that validation
        ("ema", 13, "iter"),
        ("accumulate", 11, "iter"),  # back to step 8, the last whole update
        ("accumulate", 18, "iter"),  # the last step of all
        ("early stop", 17, "iter"),
        ("early stop", 18, "iter"),  # the validation that stops the run comes after the resume
        ("every third", 10, "iter"),
    ],
)
def test_resume_is_bit_identical(toy, tmp_path, uninterrupted, assert_same, read_log, setting, step, stage):
    whole = uninterrupted(setting)
    interrupt(toy, SETTINGS[setting], tmp_path, step, stage)
    resumed = train(toy.recipe(**SETTINGS[setting]), work_dir=tmp_path, resume=True, quiet=True)
    compare_runs(whole, resumed, assert_same, read_log)


def test_settings_do_what_they_say(uninterrupted):
    """Otherwise the comparisons above would compare nothing."""
    early = uninterrupted("early stop")
    assert early.stopped_early
    assert early.step < 30
    averaged = read_checkpoint(uninterrupted("ema").last_checkpoint)
    name = "head.weight"
    assert not torch.equal(averaged["state_dict"][name], averaged["ema_state_dict"][f"module.{name}"])
    assert uninterrupted("plain").metrics["toy/accuracy"] > 0.5


def test_resume_with_workers(toy, tmp_path, uninterrupted, assert_same, read_log):
    """No workers before the kill, two after it, and killed twice."""
    interrupt(toy, SETTINGS["ema"], tmp_path, 9)
    settings = {**SETTINGS["ema"], "workers": 2}
    hook = {"type": toy.KillHook, "step": 14}
    with pytest.raises(toy.KilledError) as failure:
        train(toy.recipe(**settings, hooks=(hook,)), work_dir=tmp_path, resume=True, quiet=True)
    assert failure.value.__traceback__ is not None  # it still holds the loader
    assert not multiprocessing.active_children()
    resumed = train(toy.recipe(**settings), work_dir=tmp_path, resume=True, quiet=True)
    assert not multiprocessing.active_children()
    compare_runs(uninterrupted("ema"), resumed, assert_same, read_log)


def test_resume_in_a_moved_folder_past_a_torn_file(toy, tmp_path, uninterrupted, assert_same, read_log):
    interrupt(toy, SETTINGS["every third"], tmp_path / "old", 10)
    (tmp_path / "old").rename(tmp_path / "new")
    newest = tmp_path / "new" / "iter_9.pth"
    newest.write_bytes(newest.read_bytes()[:5000])
    with (tmp_path / "new" / "log.jsonl").open("a") as log:
        log.write('{"kind": "train", "st')
    resumed = train(toy.recipe(**SETTINGS["every third"]), work_dir=tmp_path / "new", resume=True, quiet=True)
    compare_runs(uninterrupted("every third"), resumed, assert_same, read_log)


def test_resume_of_a_finished_run_changes_nothing(toy, tmp_path, assert_same, read_log):
    settings = {"epochs": 1}
    first = train(toy.recipe(**settings), work_dir=tmp_path, quiet=True)
    before = read_checkpoint(first.checkpoint)
    log = read_log(tmp_path)
    again = train(toy.recipe(**settings), work_dir=tmp_path, resume=True, quiet=True)
    after = read_checkpoint(again.checkpoint)
    for content in (before, after):
        content["meta"].pop("time")
    assert_same(before, after)
    assert read_log(tmp_path) == log
    assert again.metrics == first.metrics


def test_an_early_stop_between_two_files(toy, tmp_path, read_log):
    """The run still ends with a file, from which a resume stops at once, or goes on with more patience."""
    settings = {"early_stop": True, "epochs": 5, "ema": True, "validation": True}

    def run(name, resume=False, patience=2):
        recipe = toy.recipe(checkpoint={"interval": 100, "save_best": None}, **settings)
        recipe["custom_hooks"][-1]["patience"] = patience
        return train(recipe, work_dir=tmp_path / name, resume=resume, quiet=True)

    stopped = run("run")
    assert stopped.stopped_early
    assert stopped.step == 18
    assert stopped.checkpoint == stopped.last_checkpoint == tmp_path / "run" / "iter_18.pth"
    log = read_log(tmp_path / "run")
    again = run("run", resume=True)
    assert (again.stopped_early, again.step, again.metrics) == (True, 18, stopped.metrics)
    assert read_log(tmp_path / "run") == log
    longer, whole = run("run", resume=True, patience=50), run("whole", patience=50)
    assert longer.step == whole.step == 30
    assert longer.metrics == whole.metrics
    assert read_log(tmp_path / "run") == read_log(tmp_path / "whole")


def test_other_settings_that_would_shift_the_data_are_refused(toy, tmp_path):
    interrupt(toy, {}, tmp_path, 9)
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    with pytest.raises(InputError, match=r"seed 0, and this one has 1"):
        train(toy.recipe(), work_dir=tmp_path, seed=1, resume=True, quiet=True)
    with pytest.raises(InputError, match=r"steps_per_epoch 6"):
        train(toy.recipe(batch_size=4), work_dir=tmp_path, resume=True, quiet=True)
    with pytest.raises(InputError, match=r"accumulative_counts"):
        train(toy.recipe(accumulate=2), work_dir=tmp_path, resume=True, quiet=True)
    with pytest.raises(InputError, match=r"other shapes: features.0.bias"):
        train(toy.recipe(model={"width": 9}), work_dir=tmp_path, resume=True, quiet=True)
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before


def test_changed_settings_are_recorded(toy, tmp_path, caplog):
    interrupt(toy, {}, tmp_path, 9)
    train(toy.recipe(epochs=4), work_dir=tmp_path, resume=True, quiet=True)
    record = json.loads((tmp_path / "run.json").read_text())
    (resume,) = record["resumed"]
    assert resume["step"] == 6
    assert resume["changed"]["train_cfg.max_epochs"] == [3, 4]
    assert "train_cfg.max_epochs: 3 -> 4" in caplog.text


def test_nothing_to_resume(toy, tmp_path):
    with pytest.raises(InputError, match=r"no folder"):
        train(toy.recipe(), work_dir=tmp_path / "missing", resume=True, quiet=True)
    with pytest.raises(InputError, match=r"no iter_N.pth.*without --resume"):
        train(toy.recipe(), work_dir=tmp_path, resume=True, quiet=True)


@pytest.mark.slow
def test_resume_after_a_real_kill(toy, tmp_path, assert_same, read_log):
    """SIGKILL in a process of its own, with workers; then go on, and compare with a run in yet another process."""
    settings = {"ema": True, "accumulate": 2, "workers": 1}

    def run(folder: str, *, kill: dict | None = None, resume: bool = False) -> subprocess.CompletedProcess:
        options = {"work_dir": str(tmp_path / folder), "resume": resume, "quiet": True}
        command = [sys.executable, str(Path(toy.__file__)), json.dumps(settings), json.dumps(options)]
        command += ["--kill", json.dumps(kill)] if kill else []
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        return subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment)

    killed = run("killed", kill={"step": 15, "how": "kill"})
    assert killed.returncode == -signal.SIGKILL
    assert json.loads((tmp_path / "killed" / "run.json").read_text())["status"] == "running"
    resumed, whole = run("killed", resume=True), run("whole")
    assert resumed.returncode == whole.returncode == 0, resumed.stderr + whole.stderr
    assert resumed.stdout == whole.stdout
    one, other = (read_checkpoint(tmp_path / name / "iter_18.pth") for name in ("killed", "whole"))
    for part in ("state_dict", "ema_state_dict", "optimizer", "param_schedulers", "validation"):
        assert_same(one[part], other[part], part)
    assert read_log(tmp_path / "killed") == read_log(tmp_path / "whole")

"""Several processes train as one, and end together."""

from __future__ import annotations

import json
import multiprocessing
import os
import subprocess
import sys

import pytest
import torch

from robustvision.core.errors import InputError
from robustvision.core.training import read_checkpoint, train
from robustvision.core.training.processes import resolve_device

# no batch norm, since it sees each process's part alone; no dropout, since each process draws its own
TOGETHER = {"model": {"batch_norm": False, "dropout": 0.0}, "samples": 48, "steps": 9, "ema": True, "early_stop": True}


@pytest.fixture
def in_two(toy, tmp_path):
    """Train in two processes, from a fork server that has imported all and trained nothing.

    A fork of this process would not do: once autograd has run threads here, it refuses to run in a fork.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["mmengine.optim", "robustvision.core.training.run"])

    def run(name, settings, codes=(0, 0), **options):
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        meeting = folder / f"meeting{len(list(folder.iterdir()))}"
        arguments = (2, meeting, folder, settings, options)
        processes = [context.Process(target=toy.train_one_of, args=(rank, *arguments)) for rank in (0, 1)]
        for process in processes:
            process.start()
        for process in processes:
            process.join(timeout=120)
        assert tuple(process.exitcode for process in processes) == codes
        return folder

    return run


def losses(read_log, work_dir):
    return torch.tensor([line["loss"] for line in read_log(work_dir) if line["kind"] == "train"], dtype=torch.float64)


@pytest.mark.parametrize("accumulate", [1, 2])
def test_two_processes_follow_the_curve_of_one(toy, tmp_path, in_two, read_log, accumulate):
    """At the same total batch, 16: the logged loss, the weights, the metrics, and how the run ends."""
    settings = {**TOGETHER, "accumulate": accumulate}
    one = train(toy.recipe(batch_size=16, **settings), work_dir=tmp_path / "one", quiet=True)
    folder = in_two("two", {"batch_size": 8, **settings})
    curve, other = losses(read_log, one.work_dir), losses(read_log, folder / "run")
    assert len(curve) == one.step
    torch.testing.assert_close(other, curve, rtol=0, atol=1e-4)
    assert curve[-1] < curve[0] - 0.1
    left, right = (read_checkpoint(path / f"iter_{one.step}.pth") for path in (one.work_dir, folder / "run"))
    for part in ("state_dict", "ema_state_dict"):
        torch.testing.assert_close(right[part], left[part], rtol=0, atol=1e-4)
    metrics = [json.loads((folder / f"metrics{rank}.json").read_text()) for rank in (0, 1)]
    assert metrics[0] == metrics[1] == pytest.approx(one.metrics, abs=1e-4)
    assert metrics[0]["toy/count"] == 22  # an odd rest is not counted twice
    assert json.loads((folder / "run" / "run.json").read_text())["processes"] == 2
    assert {file.name for file in (folder / "run").iterdir()} == {file.name for file in one.work_dir.iterdir()}
    assert {file.name for file in folder.iterdir() if file.is_dir()} == {"run"}  # the current folder stays clean


def test_resume_in_two_processes_is_bit_identical(toy, in_two, read_log, assert_same):
    """With batch norm and dropout, whose buffers and seeds differ between the processes."""
    settings = {"batch_size": 3, "ema": True}
    whole = in_two("whole", settings)
    killed = in_two("killed", {**settings, "hooks": ({"type": toy.KillHook, "step": 12, "stage": "val"},)})
    assert "KilledError" in (killed / "error0.txt").read_text()
    in_two("killed", settings, resume=True)
    one, other = (read_checkpoint(folder / "run" / "iter_18.pth") for folder in (whole, killed))
    for part in ("state_dict", "ema_state_dict", "optimizer", "validation"):
        assert_same(one[part], other[part], part)
    assert read_log(whole / "run") == read_log(killed / "run")


def test_each_process_draws_its_own(toy, in_two):
    folder = in_two("draws", {"batch_size": 3, "epochs": 1, "hooks": ({"type": toy.DrawHook, "step": -1},)})
    draws = [float(line) for rank in (0, 1) for line in (folder / f"draws{rank}.txt").read_text().split()]
    assert len(set(draws)) == len(draws) == 12


def test_a_nan_in_one_process_stops_both_in_the_same_step(toy, in_two):
    folder = in_two("nan", {"batch_size": 3, "hooks": ({"type": toy.PoisonHook, "step": 4},)})
    errors = [(folder / f"error{rank}.txt").read_text() for rank in (0, 1)]
    assert all("not finite at step 5" in error for error in errors)
    assert not list((folder / "run").glob("*.pth"))


def test_a_bad_folder_is_an_error_in_both(in_two, tmp_path):
    (tmp_path / "used" / "run").mkdir(parents=True)
    (tmp_path / "used" / "run" / "notes.txt").touch()
    folder = in_two("used", {})
    errors = [(folder / f"error{rank}.txt").read_text() for rank in (0, 1)]
    assert errors[0] == errors[1]
    assert "not empty" in errors[0]


def test_a_dead_process_ends_the_other_with_an_error(toy, in_two):
    hook = {"type": toy.KillHook, "step": 8, "how": "exit", "rank": 1}
    folder = in_two("dead", {"batch_size": 3, "hooks": (hook,)}, codes=(0, 7))
    assert "TrainingError: another process of this run ended" in (folder / "error0.txt").read_text()
    assert json.loads((folder / "run" / "run.json").read_text())["status"] == "failed"


@pytest.mark.parametrize("device", ["gpu", "cuda:x", "cpu:0", "mps", ""])
def test_devices_that_are_none(device):
    with pytest.raises(InputError, match="expected auto, cpu, cuda or cuda:N"):
        resolve_device(device)


def test_cuda_where_there_is_none(toy, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(InputError, match="finds no CUDA device here; use device cpu or auto"):
        train(toy.recipe(), work_dir=tmp_path / "run", device="cuda", quiet=True)
    assert not (tmp_path / "run").exists()
    assert resolve_device("auto") == torch.device("cpu")


def test_devices_where_there_are_two(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert resolve_device("cpu") == torch.device("cpu")
    assert resolve_device("auto") == resolve_device("cuda") == torch.device("cuda", 0)
    assert resolve_device("cuda:1") == torch.device("cuda", 1)
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert resolve_device("auto") == torch.device("cuda", 1)
    with pytest.raises(InputError, match="device 2 is asked for, but there are 2"):
        resolve_device("cuda:2")


def torchrun(toy, settings, options, *kill):
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", toy.__file__]
    command += [json.dumps(settings), json.dumps(options), *kill]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, capture_output=True, text=True, timeout=240, env=environment)


@pytest.mark.slow
def test_torchrun(toy, tmp_path, read_log):
    """The real launcher: the same curve as one process, clean output, no process left behind."""
    options = {"work_dir": str(tmp_path / "two")}
    done = torchrun(toy, {**TOGETHER, "batch_size": 8}, options)
    assert done.returncode == 0, done.stderr
    one = train(toy.recipe(**TOGETHER, batch_size=16), work_dir=tmp_path / "one", quiet=True)
    torch.testing.assert_close(losses(read_log, tmp_path / "two"), losses(read_log, one.work_dir), rtol=0, atol=1e-4)
    assert json.loads(done.stdout)["step"] == one.step
    noise = [line for line in done.stderr.splitlines() if "arning" in line and "setting OMP" not in line]
    assert not noise


@pytest.mark.slow
def test_torchrun_ends_when_a_process_dies(toy, tmp_path):
    kill = json.dumps({"step": 8, "how": "exit", "rank": 1})
    done = torchrun(toy, {"batch_size": 3}, {"work_dir": str(tmp_path / "run")}, "--kill", kill)
    assert done.returncode != 0
    assert "exitcode  : 7" in done.stderr or "exitcode: 7" in done.stderr
    assert (tmp_path / "run" / "iter_6.pth").is_file()

"""What is not finite stops the run, and never reaches a file."""

from __future__ import annotations

import json

import pytest
import torch
from mmengine.hooks import Hook

from robustvision.core.errors import TrainingError
from robustvision.core.training import read_checkpoint, train


@pytest.fixture
def poison(toy):
    """Configs of hooks that put a NaN into a run after a step."""

    class Poison(Hook):
        def __init__(self, step, where):
            self.step, self.where = step, where

        def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
            if runner.iter + 1 == self.step:
                self.where(runner, outputs)

    def build(step, where, priority="NORMAL"):
        return {"type": Poison, "step": step, "where": where, "priority": priority}

    return build


def set_weight(runner, outputs):
    runner.model.head.weight.data[0, 0] = torch.nan


def set_average(runner, outputs):
    average = next(hook for hook in runner.hooks if hasattr(hook, "ema_model"))
    average.ema_model.module.head.weight.data[0, 0] = torch.inf


def set_buffer(runner, outputs):
    runner.model.features[1].running_var[0] = torch.inf


def set_loss(runner, outputs):
    outputs["loss"] = torch.tensor(torch.nan)


def assert_good_files(work_dir, last):
    assert not list(work_dir.glob(".*"))
    files = sorted(work_dir.glob("*.pth"))
    assert max(int(file.stem[5:]) for file in files if file.stem.startswith("iter")) == last
    for file in files:
        content = read_checkpoint(file)
        for part in ("state_dict", "ema_state_dict"):
            for name, value in content.get(part, {}).items():
                assert torch.isfinite(value).all() or name.endswith("mask"), (file, name)


def test_nan_loss_stops_with_the_step_and_samples(toy, tmp_path, poison):
    hooks = (poison(8, set_loss, "HIGHEST"),)
    settings = {"hooks": hooks, "checkpoint": {"interval": 1}}
    with pytest.raises(TrainingError, match=r"not finite at step 8 \(epoch 2\): loss=nan, samples \[\d+, .*now 0\.00"):
        train(toy.recipe(**settings), work_dir=tmp_path, quiet=True)
    assert_good_files(tmp_path, last=7)
    record = json.loads((tmp_path / "run.json").read_text())
    assert record["status"] == "failed"
    assert "step 8" in record["error"]
    assert json.loads((tmp_path / "log.jsonl").read_text().splitlines()[-1])["step"] == 7


def test_a_diverging_run_is_caught(toy, tmp_path):
    """No hook: the learning rate alone makes the weights overflow."""
    recipe = toy.recipe(checkpoint={"interval": 1}, model={"batch_norm": False})
    recipe["optim_wrapper"] = {"optimizer": {"type": torch.optim.SGD, "lr": 1e30}}
    recipe["param_scheduler"] = None
    with pytest.raises(TrainingError, match="not finite"):
        train(recipe, work_dir=tmp_path, quiet=True)
    assert all(
        torch.isfinite(read_checkpoint(file)["state_dict"]["head.weight"]).all() for file in tmp_path.glob("*.pth")
    )


@pytest.mark.parametrize(
    ("where", "ema", "part"),
    [
        (set_weight, False, "state_dict: head.weight"),
        (set_weight, True, "ema_state_dict: head.weight"),  # with EMA the raw weights are saved there
        (set_average, True, "state_dict: head.weight"),
        (set_buffer, False, "state_dict: features.1.running_var"),
    ],
)
def test_poisoned_weights_are_not_saved(toy, tmp_path, poison, where, ema, part):
    """The loss of that step is still good, so only the check before saving can see it."""
    settings = {"hooks": (poison(5, where, "LOW"),), "ema": ema, "checkpoint": {"interval": 1}}
    with pytest.raises(TrainingError, match=rf"after step 5 .*\({part}\): iter_5.pth was not written"):
        train(toy.recipe(**settings), work_dir=tmp_path, quiet=True)
    assert_good_files(tmp_path, last=4)


def test_go_on_after_a_nan_with_a_lower_rate(toy, tmp_path, poison):
    with pytest.raises(TrainingError):
        train(toy.recipe(hooks=(poison(8, set_loss, "HIGHEST"),)), work_dir=tmp_path, quiet=True)
    assert train(toy.recipe(), work_dir=tmp_path, resume=True, quiet=True).step == 18

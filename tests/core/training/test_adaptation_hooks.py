"""What is frozen stays as it is, and gradual fine-tuning goes through its phases."""

from __future__ import annotations

from types import SimpleNamespace
from typing import ClassVar

import pytest
import torch
from mmengine.hooks import Hook
from torch import nn

from robustvision.core.errors import InputError
from robustvision.core.training import load_weights, read_checkpoint, train
from robustvision.core.training.hooks import (
    FreezeHook,
    GradualUnfreezeHook,
    InitialNetworkHook,
    freeze,
    frozen_below,
    keep_in_eval,
    slanted_triangular,
)

LEVELS = (("head",), ("middle",), ("encoder",))


class WatchHook(Hook):
    """Note each epoch's learning rate and which parts of the network can learn."""

    priority = "VERY_LOW"

    notes: ClassVar[list] = []  # recipes, and what they hold, are copied

    def after_train_epoch(self, runner):
        network = runner.model.network
        learning = {name.split(".")[0] for name, one in network.named_parameters() if one.requires_grad}
        steps = [int(state["step"]) for state in runner.optim_wrapper.optimizer.state.values()]
        self.notes.append((sorted(learning), runner.optim_wrapper.get_lr()["lr"][0], max(steps)))


class ScriptHook(Hook):
    """Let validations be better or not as wanted: the weights of the run do not matter."""

    priority = "LOW"

    def __init__(self, scores):
        self.scores = scores

    def after_val_epoch(self, runner, metrics=None):
        metrics["toy/accuracy"] = self.scores[runner.epoch - 1]


def recipe(toy, hooks, *, epochs=1, samples=16, **model):
    made = toy.recipe(hooks=hooks, **model)
    made["train_dataloader"]["dataset"] = toy.Blobs(samples)
    made["train_cfg"] = {"max_epochs": epochs}
    return made


def state_of(path):
    state = read_checkpoint(path)["state_dict"]
    return {name.removeprefix("network."): value for name, value in state.items()}


def moved(before, after, part):
    names = [name for name in before if name.startswith(f"{part}.")]
    assert names
    return {name for name in names if not torch.equal(before[name], after[name])}


def test_freezing_means_running_statistics_too(adaptation_toy, tmp_path):
    torch.manual_seed(0)
    start = adaptation_toy.PointModel()
    torch.save(start.network.state_dict(), tmp_path / "start.pth")
    hooks = ({"type": InitialNetworkHook, "weights": tmp_path / "start.pth"}, {"type": FreezeHook, "freeze": "encoder"})
    result = train(recipe(adaptation_toy, hooks, epochs=3), work_dir=tmp_path / "run", quiet=True)
    before, after = start.network.state_dict(), state_of(result.last_checkpoint)
    assert not moved(before, after, "encoder")
    assert {"middle.1.running_mean", "middle.0.weight"} <= moved(before, after, "middle")
    assert moved(before, after, "head")


def test_without_the_hook_they_move(adaptation_toy, tmp_path):
    """The trap: requires_grad=False stops no running statistics."""
    network = adaptation_toy.PointModel().network
    freeze(network, ["encoder"])
    before = {name: value.clone() for name, value in network.state_dict().items()}
    network.train()
    network(torch.randn(8, 6))
    assert moved(before, network.state_dict(), "encoder") == {
        "encoder.1.running_mean",
        "encoder.1.running_var",
        "encoder.1.num_batches_tracked",
    }


def test_parts_are_named_exactly():
    """``2`` is not ``21``."""
    network = nn.Sequential(*(nn.Linear(2, 2) for _ in range(22)))
    frozen = freeze(network, ["2"])
    assert frozen == [network[2]]
    learning = {name for name, one in network.named_parameters() if not one.requires_grad}
    assert learning == {"2.weight", "2.bias"}
    freeze(network, ["3"])
    assert all(one.requires_grad for one in network[2].parameters())
    with pytest.raises(InputError, match=r"no part 'encoder\.2'"):
        freeze(network, ["encoder.2"])


def test_eval_reaches_all_that_a_frozen_part_holds():
    network = nn.ModuleDict({"encoder": nn.ModuleList([nn.Sequential(nn.BatchNorm1d(2))]), "head": nn.BatchNorm1d(2)})
    frozen = freeze(network, ["encoder"])
    network.train()
    keep_in_eval(frozen)
    assert not network["encoder"][0][0].training
    assert network["head"].training


def test_nothing_left_to_train(adaptation_toy, tmp_path):
    hook = {"type": FreezeHook, "freeze": ("encoder", "middle", "head")}
    with pytest.raises(InputError, match="nothing is left to train"):
        train(recipe(adaptation_toy, (hook,)), work_dir=tmp_path / "run", quiet=True)


def test_a_model_without_network_is_refused(toy, tmp_path):
    with pytest.raises(InputError, match="no `network`"):
        train(toy.recipe(hooks=({"type": FreezeHook, "freeze": "encoder"},)), work_dir=tmp_path / "run", quiet=True)


def test_initial_weights_must_fit(adaptation_toy, tmp_path):
    torch.save(adaptation_toy.PointModel(width=5).network.state_dict(), tmp_path / "other.pth")
    hook = {"type": InitialNetworkHook, "weights": tmp_path / "other.pth"}
    with pytest.raises(InputError, match="does not fit"):
        train(recipe(adaptation_toy, (hook,)), work_dir=tmp_path / "run", quiet=True)


def test_frozen_below():
    assert frozen_below(LEVELS, 1) == ("middle", "encoder")
    assert frozen_below(LEVELS, 3) == ()
    for count in (0, 4):
        with pytest.raises(InputError, match="1 to 3"):
            frozen_below(LEVELS, count)


def test_slanted_triangular_by_hand():
    """E = 20: cut = 6, p = 0, 1/6, ..., 1, 13/14, ...; factor = 1/32 + p * 31/32."""
    got = [slanted_triangular(epoch, 20) for epoch in range(20)]
    parts = [epoch / 6 for epoch in range(6)] + [1 - (epoch - 6) / 14 for epoch in range(6, 20)]
    assert got == pytest.approx([1 / 32 + part * 31 / 32 for part in parts])
    assert got[0] == 0.03125
    assert got[3] == pytest.approx(0.515625)
    assert got[6] == 1
    assert got[13] == pytest.approx(0.515625)
    assert got[19] == pytest.approx(0.1004464, abs=1e-7)


def test_slanted_triangular_of_few_epochs_only_falls():
    assert [slanted_triangular(epoch, 2) for epoch in (0, 1)] == [1, pytest.approx(0.515625)]


@pytest.mark.parametrize("slanted", [False, True])
def test_phases(adaptation_toy, tmp_path, slanted):
    """Patience 2; validations: better, better, no, no | no, better, no, no | no, no."""
    scores = [0.1, 0.2, 0.2, 0.1, 0.2, 0.3, 0.1, 0.3, 0.1, 0.1, 0.9]
    notes = WatchHook.notes
    notes.clear()
    gradual = {
        "type": GradualUnfreezeHook,
        "levels": LEVELS,
        "patience": 2,
        "factors": (1.0, 0.8, 0.6, 0.4),
        "slanted": slanted,
    }
    hooks = ({"type": WatchHook}, {"type": ScriptHook, "scores": scores}, gradual)
    result = train(recipe(adaptation_toy, hooks, epochs=20), work_dir=tmp_path / "run", quiet=True)
    assert result.epoch == 10  # the last phase's end is the run's
    learning = [learning for learning, _, _ in notes]
    assert learning == [["head"]] * 4 + [["head", "middle"]] * 4 + [["encoder", "head", "middle"]] * 2
    slants = [slanted_triangular(epoch, 20) if slanted else 1 for epoch in range(10)]
    factors = [1.0] * 4 + [0.8] * 4 + [0.6] * 2
    rates = [rate for _, rate, _ in notes]
    assert rates == pytest.approx([0.01 * one * two for one, two in zip(factors, slants, strict=True)])
    steps = [steps for _, _, steps in notes]  # two an epoch; Adam counts anew in each phase
    assert steps == [2, 4, 6, 8, 2, 4, 6, 8, 2, 4]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"levels": (("head",), ("middle",))}, r"leave out encoder\.0\.weight"),
        ({"levels": (("head",), ("middle", "encode"))}, "did you mean encoder"),
        ({"levels": ()}, "at least one"),
        ({"patience": 0}, "at least one"),
        ({"factors": (1.0, 0.5)}, "2 factors for 3 levels"),
    ],
)
def test_gradual_settings_that_cannot_be(adaptation_toy, tmp_path, change, message):
    hook = {"type": GradualUnfreezeHook, "levels": LEVELS, **change}
    with pytest.raises(InputError, match=message):
        train(recipe(adaptation_toy, (hook,)), work_dir=tmp_path / "run", quiet=True)


def test_gradual_needs_a_validation_and_no_schedule(adaptation_toy, tmp_path):
    hook = {"type": GradualUnfreezeHook, "levels": LEVELS}
    made = recipe(adaptation_toy, (hook,))
    made["default_hooks"]["checkpoint"] = {"save_best": None}
    with pytest.raises(InputError, match="save_best"):
        train(made, work_dir=tmp_path / "one", quiet=True)
    made = recipe(adaptation_toy, (hook,))
    made["param_scheduler"] = [{"type": "mmengine.optim.ConstantLR", "factor": 0.5}]
    with pytest.raises(InputError, match="leave param_scheduler out"):
        train(made, work_dir=tmp_path / "two", quiet=True)


def test_kept_weights_load_strictly(adaptation_toy, tmp_path):
    network = adaptation_toy.PointModel().network
    torch.save(network.state_dict(), tmp_path / "network.pth")
    hook = InitialNetworkHook(tmp_path / "network.pth")
    fresh = adaptation_toy.PointModel()
    hook.before_train(SimpleNamespace(model=fresh, is_resuming=False))
    load_weights(network, tmp_path / "network.pth")
    assert all(torch.equal(one, two) for one, two in zip(network.parameters(), fresh.network.parameters(), strict=True))
    untouched = adaptation_toy.PointModel()
    before = untouched.network.head.weight.clone()
    hook.before_train(SimpleNamespace(model=untouched, is_resuming=True))
    assert torch.equal(untouched.network.head.weight, before)

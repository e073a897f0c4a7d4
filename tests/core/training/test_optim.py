"""bfloat16 on a CPU, and weight decay that leaves norms alone."""

from __future__ import annotations

import pytest
import torch
from mmengine.optim import OptimWrapper, build_optim_wrapper

from robustvision.core.training import AutocastOptimWrapper, read_checkpoint, train


@pytest.fixture
def seen(toy, monkeypatch):
    """The dtypes that the convolution gave."""
    types = []

    class Spy(toy.Classifier):
        def __init__(self, **options):
            super().__init__(**options)
            self.features[0].register_forward_hook(lambda module, args, output: types.append(output.dtype))

    monkeypatch.setattr(toy, "Classifier", Spy)
    return types


def test_bf16_trains_on_a_cpu(toy, tmp_path, seen, read_log):
    recipe = toy.recipe()
    full = train(recipe, work_dir=tmp_path / "full", quiet=True)
    assert set(seen) == {torch.float32}
    seen.clear()
    recipe["optim_wrapper"]["type"] = AutocastOptimWrapper
    half = train(recipe, work_dir=tmp_path / "half", quiet=True)
    assert set(seen) == {torch.bfloat16, torch.float32}  # validation stays in float32
    assert half.metrics["toy/accuracy"] == full.metrics["toy/accuracy"] == 1.0
    curves = [torch.tensor([line["loss"] for line in read_log(run.work_dir) if "loss" in line]) for run in (full, half)]
    torch.testing.assert_close(*curves, rtol=0, atol=0.05)
    assert not torch.equal(*curves)
    state = read_checkpoint(half.last_checkpoint)["state_dict"]
    assert {value.dtype for value in state.values() if value.is_floating_point()} == {torch.float32}


def test_bf16_with_accumulation_and_resume(toy, tmp_path, assert_same):
    def recipe(*hooks):
        built = toy.recipe(accumulate=2, hooks=hooks)
        built["optim_wrapper"]["type"] = AutocastOptimWrapper
        return built

    whole = train(recipe(), work_dir=tmp_path / "whole", quiet=True)
    with pytest.raises(toy.KilledError):
        train(recipe({"type": toy.KillHook, "step": 9}), work_dir=tmp_path / "killed", quiet=True)
    resumed = train(recipe(), work_dir=tmp_path / "killed", resume=True, quiet=True)
    one, other = (read_checkpoint(run.last_checkpoint)["state_dict"] for run in (whole, resumed))
    assert_same(one, other)


def test_decay_leaves_norms_and_biases_alone(toy):
    """mmengine's ``paramwise_cfg`` in a lazy recipe."""
    model = toy.Classifier()
    config = {
        "type": OptimWrapper,
        "optimizer": {"type": torch.optim.SGD, "lr": 0.1, "weight_decay": 0.5},
        "paramwise_cfg": {"norm_decay_mult": 0.0, "bias_decay_mult": 0.0},
    }
    wrapper = build_optim_wrapper(model, config)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    decays = {names[id(group["params"][0])]: group["weight_decay"] for group in wrapper.optimizer.param_groups}
    decayed = {name for name, decay in decays.items() if decay == 0.5}
    assert decayed == {"features.0.weight", "head.weight"}
    assert {decay for name, decay in decays.items() if name not in decayed} == {0.0}


def test_the_logged_rate_is_the_base_rate(toy, tmp_path, read_log):
    recipe = toy.recipe(epochs=1)
    recipe["param_scheduler"] = None
    recipe["optim_wrapper"]["paramwise_cfg"] = {"custom_keys": {"features": {"lr_mult": 0.1}}}
    result = train(recipe, work_dir=tmp_path, quiet=True)
    assert {line["lr"] for line in read_log(result.work_dir) if line["kind"] == "train"} == {0.01}

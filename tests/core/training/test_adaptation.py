"""The protocol: who trains on what, from which weights, for how long; and that a killed study goes on."""

from __future__ import annotations

import json
import multiprocessing
from pathlib import Path

import pytest
import torch

from robustvision.core.errors import InputError
from robustvision.core.training import (
    METHODS,
    AdaptationOptions,
    Runner,
    adapt,
    find_weights,
    read_adaptation,
    read_checkpoint,
)

LEVELS = {"points": (("head",), ("middle",), ("encoder",)), "masks": (("head",), ("encoder",))}
TWO_STAGES = ("sda", "gradual", "kd")


def options(kind="points", **changes):
    settings = {
        "noisy_epochs": 2,
        "clean_epochs": 3,
        "noisy_steps_per_epoch": 6,
        "clean_steps_per_epoch": 4,
        "levels": LEVELS[kind],
        "patience": 1,
        "factors": None,
    }
    return AdaptationOptions(**{**settings, **changes})


@pytest.fixture
def run(adaptation_toy, tmp_path):
    """Adapt the toy of a kind; every call gets a folder of its own, unless one is named."""

    def call(method, *, kind="points", folder=None, hooks=(), settings=None, recipe=None, **arguments):
        if kind == "points":
            noisy, clean = adaptation_toy.Blobs(100, wrong=0.4), adaptation_toy.Blobs(12, seed=2)
        else:
            noisy, clean = adaptation_toy.Stripes(50, shift=2), adaptation_toy.Stripes(6, seed=3)
        call.count += 1
        arguments = {"noisy": noisy, "clean": clean, "options": settings or options(kind), "quiet": True, **arguments}
        made = recipe or adaptation_toy.recipe(kind, hooks=hooks)
        return adapt(method, made, work_dir=tmp_path / (folder or f"run{call.count}"), **arguments)

    call.count = 0
    return call


def log(result, stage):
    return [json.loads(line) for line in (result.work_dir / stage / "log.jsonl").read_text().splitlines()]


def weights(result):
    return read_checkpoint(result.weights)


@pytest.mark.parametrize("kind", ["points", "masks"])
@pytest.mark.parametrize("method", METHODS)
def test_every_method_gives_a_network_alone(adaptation_toy, run, kind, method):
    result = run(method, kind=kind)
    network = (adaptation_toy.PointModel if kind == "points" else adaptation_toy.MaskModel)().network
    network.load_state_dict(torch.load(result.weights, weights_only=True), strict=True)
    assert 0 <= result.metrics["toy/accuracy"] <= 1
    assert read_adaptation(result.work_dir) == result


def test_steps_are_those_planned(run):
    steps = {method: run(method) for method in METHODS}
    clean = {method: result.clean_steps for method, result in steps.items()}
    total = {method: result.total_steps for method, result in steps.items()}
    for method in ("clean-only", "sda", "kd", "dml"):
        assert clean[method] == 12
    assert clean["gradual"] <= 12
    assert clean["noisy-only"] == 0
    assert total["noisy-only"] == 12
    assert total["clean-only"] == total["dml"] == 12
    assert total["sda"] == total["kd"] == 24
    assert total["mixed"] == total["oracle"] == 25  # five epochs of as many whole steps as hold 24
    assert clean["oracle"] == 25
    assert clean["mixed"] == round(25 * 12 / 112)


def test_epochs_are_as_long_as_the_data_where_no_steps_are_given(run):
    """100 samples by 8 are 13 steps, 12 are 2: the last batch is filled up."""
    result = run("sda", settings=options(noisy_steps_per_epoch=None, clean_steps_per_epoch=None))
    assert (result.clean_steps, result.total_steps) == (3 * 2, 3 * 2 + 2 * 13)


@pytest.mark.parametrize("method", METHODS)
def test_same_seed_same_weights(run, assert_same, method):
    first, second = run(method, seed=5), run(method, seed=5)
    assert_same(weights(first), weights(second))
    assert first.metrics == second.metrics
    other = weights(run(method, seed=6))
    assert not torch.equal(other["head.weight"], weights(first)["head.weight"])


def initial_states(monkeypatch, run, method, **arguments):
    """The state of the model in each stage's folder, as it is before the first step."""
    states = {}
    train = Runner.call_hook

    def call_hook(runner, name, **given):
        train(runner, name, **given)
        if name == "before_train":
            states[Path(runner.work_dir).name] = {
                key: value.clone() for key, value in runner.model.state_dict().items()
            }

    with monkeypatch.context() as patch:
        patch.setattr(Runner, "call_hook", call_hook)
        run(method, **arguments)
    return states


def network_of(state, prefix="network."):
    return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}


def test_fine_tuning_begins_with_all_of_the_noisy_network(run, monkeypatch, assert_same):
    """The best validation's weights, with the running statistics of batch norm."""
    noisy = run("noisy-only")
    start = network_of(initial_states(monkeypatch, run, "sda", seed=9, pretrained=noisy.weights)["final"])
    assert_same(start, dict(weights(noisy)))
    assert start["encoder.1.running_mean"].abs().max() > 0.01
    assert start["encoder.1.num_batches_tracked"] > 0
    best = read_checkpoint(find_weights(noisy.work_dir / "noisy"))
    assert best["meta"]["iter"] == noisy.best_step


def test_trained_from_scratch_means_the_same_beginning(run, monkeypatch, assert_same):
    """clean-only, the student of kd and the wanted network of dml; and noisy-only."""

    def begin(method):
        return initial_states(monkeypatch, run, method, seed=3)

    alone = network_of(begin("clean-only")["final"])
    assert_same(network_of(begin("kd")["final"], "student.network."), alone)
    assert_same(network_of(begin("dml")["final"], "models.1.network."), alone)
    assert_same(network_of(begin("noisy-only")["noisy"]), alone)


@pytest.mark.parametrize("method", TWO_STAGES)
def test_a_shared_pretraining_changes_nothing(run, assert_same, method):
    shared = run("noisy-only")
    alone, shares = run(method), run(method, pretrained=shared.weights)
    assert_same(weights(alone), weights(shares))
    assert (alone.clean_steps, alone.total_steps) == (shares.clean_steps, shares.total_steps)
    assert not (shares.work_dir / "noisy").exists()
    from_run = run(method, pretrained=find_weights(shared.work_dir / "noisy"))
    assert_same(weights(alone), weights(from_run))


def test_noisy_only_can_take_a_pretraining_too(run, assert_same):
    shared = run("noisy-only")
    taken = run("noisy-only", pretrained=shared.weights)
    assert_same(weights(shared), weights(taken))
    assert taken.total_steps == shared.total_steps


def test_rates(run):
    settings = {"learning_rate": 0.02, "rate_ratio": 0.25, "schedule": "constant"}
    for method, rate in {"clean-only": 0.02, "sda": 0.005, "kd": 0.02, "dml": 0.02, "gradual": 0.005}.items():
        result = run(method, settings=options(**settings))
        train = [line["lr"] for line in log(result, "final") if line["kind"] == "train"]
        assert set(train) == {rate}, method
    noisy = [line["lr"] for line in log(run("sda", settings=options(**settings)), "noisy") if line["kind"] == "train"]
    assert set(noisy) == {0.02}


def test_cosine_climbs_and_falls(adaptation_toy, run):
    """40 steps: four up from a tenth, then down to nearly nothing; the recipe's own rate is the highest."""
    made = adaptation_toy.recipe()
    result = run("clean-only", recipe=made, settings=options(clean_epochs=40, clean_steps_per_epoch=1))
    rates = [line["lr"] for line in log(result, "final") if line["kind"] == "train"]
    assert rates[0] == pytest.approx(0.001)
    assert max(rates) == pytest.approx(0.01)
    assert rates.index(max(rates)) in (3, 4)
    assert rates[-1] < 2e-4
    assert rates[4:] == sorted(rates[4:], reverse=True)


def test_frozen_levels_stay_and_others_move(run):
    noisy = run("noisy-only")
    before = weights(noisy)
    after = weights(
        run("sda", pretrained=noisy.weights, settings=options(freeze=("encoder", "middle"), rate_ratio=1.0))
    )
    same = {name for name in before if torch.equal(before[name], after[name])}
    assert same == {name for name in before if not name.startswith("head.")}


def test_a_teacher_of_another_kind(adaptation_toy, run):
    """A larger net trains on the noisy labels, and the recipe's learns from it."""
    teacher = {"type": adaptation_toy.PointModel, "width": 24}
    result = run("kd", settings=options(teacher=teacher))
    assert read_checkpoint(result.work_dir / "noisy_network.pth")["head.weight"].shape == (3, 24)
    assert weights(result)["head.weight"].shape == (3, 16)


def test_the_labels_decide(run):
    """With enough steps the noisy-only net is worse than the fine-tuned, which sees the classes as they are."""
    settings = options(
        noisy_epochs=5, noisy_steps_per_epoch=40, clean_epochs=5, clean_steps_per_epoch=20, rate_ratio=1.0
    )
    noisy = run("noisy-only", kind="masks", settings=settings)
    adapted = run("sda", kind="masks", settings=settings, pretrained=noisy.weights)
    assert adapted.metrics["toy/accuracy"] > noisy.metrics["toy/accuracy"] + 0.1


@pytest.mark.parametrize("method", ["sda", "gradual", "kd", "dml"])
@pytest.mark.parametrize("step", [2, 9])
def test_a_kill_in_the_last_stage_changes_nothing(toy, adaptation_toy, run, assert_same, method, step):
    """Before the stage's first checkpoint, and between two."""
    whole = run(method)
    kill = {"type": toy.KillHook, "step": step}
    shared = None
    if method in TWO_STAGES:  # the first stage's steps have the same numbers
        shared = run("noisy-only").weights
    with pytest.raises(toy.KilledError):
        run(method, folder="killed", hooks=(kill,), pretrained=shared)
    resumed = run(method, folder="killed", pretrained=shared, resume=True)
    assert_same(weights(whole), weights(resumed))
    assert (whole.metrics, whole.clean_steps, whole.total_steps, whole.best_step) == (
        resumed.metrics,
        resumed.clean_steps,
        resumed.total_steps,
        resumed.best_step,
    )


def test_a_kill_in_the_second_stage_of_two(toy, run, assert_same):
    """The first stage has 12 steps, the second 20: step 17 is in the second."""
    settings = options(clean_epochs=5)
    whole = run("sda", settings=settings)
    with pytest.raises(toy.KilledError):
        run("sda", folder="killed", hooks=({"type": toy.KillHook, "step": 17},), settings=settings)
    assert read_adaptation(whole.work_dir.parent / "killed") is None
    resumed = run("sda", folder="killed", resume=True, settings=settings)
    assert_same(weights(whole), weights(resumed))
    assert whole.total_steps == resumed.total_steps == 32


def test_a_finished_adaptation_is_not_trained_again(run):
    first = run("clean-only", folder="one")
    stamp = first.weights.stat().st_mtime_ns
    again = run("clean-only", folder="one", resume=True, noisy=[0], clean=[0])
    assert again == first
    assert first.weights.stat().st_mtime_ns == stamp
    with pytest.raises(InputError, match="result of clean-only, not sda"):
        run("sda", folder="one", resume=True)
    with pytest.raises(InputError, match="is not empty"):
        run("clean-only", folder="one")


def test_a_moved_folder_still_has_its_result(run, tmp_path):
    first = run("clean-only", folder="old")
    (tmp_path / "old").rename(tmp_path / "new")
    moved = read_adaptation(tmp_path / "new")
    assert moved.weights == tmp_path / "new" / first.weights.name
    assert moved.weights.is_file()


def test_data_sets_as_configs(adaptation_toy, run, assert_same):
    configs = {
        "noisy": {"type": adaptation_toy.Blobs, "size": 100, "wrong": 0.4},
        "clean": {"type": adaptation_toy.Blobs, "size": 12, "seed": 2},
    }
    assert_same(weights(run("mixed", **configs)), weights(run("mixed")))


def test_data_in_memory_are_never_copied(adaptation_toy, run):
    class Precious(adaptation_toy.Blobs):
        def __deepcopy__(self, memo):
            raise AssertionError("copied")

    for method in ("sda", "mixed", "dml"):
        run(method, noisy=Precious(40), clean=Precious(12))
    record = json.loads((run("clean-only", clean=Precious(12)).work_dir / "final" / "run.json").read_text())
    assert "Repeated of 32 samples" in record["config"]["train_dataloader"]["dataset"]["type"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"noisy_epochs": 0}, "at least 1"),
        ({"clean_steps_per_epoch": 0}, "at least 1"),
        ({"rate_ratio": 0.0}, "above 0"),
        ({"learning_rate": -1.0}, "above 0"),
        ({"schedule": "linear"}, "cosine"),
    ],
)
def test_options_out_of_range(change, message):
    with pytest.raises(InputError, match=message):
        AdaptationOptions(**change)


def test_what_cannot_be_adapted(toy, run, tmp_path):
    with pytest.raises(InputError, match="expected noisy-only, clean-only"):
        run("magic")
    with pytest.raises(InputError, match="no checkpoint at"):
        run("sda", pretrained=tmp_path / "nothing.pth")
    torch.save({"state_dict": {"backbone.weight": torch.zeros(2)}}, tmp_path / "other.pth")
    with pytest.raises(InputError, match=r"no network\.\*"):
        run("sda", pretrained=tmp_path / "other.pth")
    with pytest.raises(InputError, match="at least one"):
        run("gradual", settings=options(levels=()))


@pytest.mark.parametrize("method", ["sda", "gradual", "kd", "dml"])
def test_two_processes(adaptation_toy, tmp_path, method):
    """Frozen parts of changing extent, teachers and peers, all wrapped; steps as in one process."""
    context = multiprocessing.get_context("spawn")
    settings = options(freeze="encoder") if method == "sda" else options()
    arguments = (tmp_path / "meeting", tmp_path / "run", method, settings)
    processes = [context.Process(target=adaptation_toy.adapt_as_one_of, args=(rank, *arguments)) for rank in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
    assert [process.exitcode for process in processes] == [0, 0]
    result = read_adaptation(tmp_path / "run")
    assert result.clean_steps == (12 if method != "gradual" else result.clean_steps) <= 12
    state = weights(result)
    if method == "sda":
        before = read_checkpoint(tmp_path / "run" / "noisy_network.pth")
        assert torch.equal(before["encoder.0.weight"], state["encoder.0.weight"])
        assert torch.equal(before["encoder.1.running_mean"], state["encoder.1.running_mean"])
        assert not torch.equal(before["head.weight"], state["head.weight"])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
@pytest.mark.parametrize("method", METHODS)
def test_on_cuda(run, method):
    result = run(method, kind="masks", device="cuda")
    assert all(torch.isfinite(value.float()).all() for value in weights(result).values())

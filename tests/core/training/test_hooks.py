"""The hooks one by one: best scores, early stop, the log."""

from __future__ import annotations

import json
import math
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from robustvision.core.errors import InputError, TrainingError
from robustvision.core.training import train
from robustvision.core.training.hooks import CheckpointHook, EarlyStopHook, JsonLogHook
from robustvision.core.training.hooks.score import BestScore

values = st.lists(st.floats(-100, 100) | st.just(math.nan), min_size=1, max_size=20)


@given(values)
def test_the_best_score_is_the_maximum(scores):
    best, worst = BestScore("x", "greater"), BestScore("x", "less")
    steps = [(best.update(score), worst.update(score)) for score in scores]
    finite = [score for score in scores if not math.isnan(score)]
    assert best.value == (max(finite) if finite else None)
    assert worst.value == (min(finite) if finite else None)
    if finite:
        assert scores[max(step for step, (better, _) in enumerate(steps) if better)] == max(finite)


def test_ties_are_not_better():
    score = BestScore("x", "greater", min_delta=0.5)
    assert [score.update(value) for value in (1.0, 1.0, 1.5, 1.6, 2.0)] == [True, False, False, True, False]


@given(values, st.integers(1, 4))
def test_early_stop_counts_validations_without_improvement(scores, patience):
    """Against the plain definition: `patience` in a row without a new maximum, or a value that is not finite."""
    hook = EarlyStopHook("x", patience=patience)
    runner = SimpleNamespace(train_loop=SimpleNamespace(stop_training=False))
    stopped = None
    for number, score in enumerate(scores):
        hook.after_val_epoch(runner, {"x": score})
        if runner.train_loop.stop_training:
            stopped = number
            break
    expected = None
    for number, score in enumerate(scores):
        records = [i for i in range(number + 1) if all(scores[j] < scores[i] for j in range(i))]
        if math.isnan(score) or number - records[-1] >= patience:
            expected = number
            break
    assert stopped == expected
    assert (hook.reason is None) == (stopped is None)


def test_early_stop_survives_a_checkpoint():
    scores = [1.0, 3.0, 2.0, 2.5, 2.6]
    runner = SimpleNamespace(train_loop=SimpleNamespace(stop_training=False), is_resuming=True)
    first = EarlyStopHook("x", patience=3)
    for score in scores[:3]:
        first.after_val_epoch(runner, {"x": score})
    saved = {}
    first.before_save_checkpoint(runner, saved)
    second = EarlyStopHook("x", patience=3)
    second.after_load_checkpoint(runner, saved)
    stops = []
    for score in scores[3:]:
        second.after_val_epoch(runner, {"x": score})
        stops.append(runner.train_loop.stop_training)
    assert stops == [False, True]
    runner.is_resuming = False  # only its weights are taken: the count is not
    third = EarlyStopHook("x", patience=3)
    third.after_load_checkpoint(runner, saved)
    assert (third.waited, third.score.value) == (0, None)


def test_an_unknown_metric_names_the_known(toy, tmp_path):
    with pytest.raises(TrainingError, match=r"no metric accuracy: it gave toy/accuracy, toy/nll, toy/count"):
        train(toy.recipe(checkpoint={"save_best": "accuracy"}), work_dir=tmp_path / "a", quiet=True)
    stop = {"type": EarlyStopHook, "monitor": "auc"}
    with pytest.raises(TrainingError, match="no metric auc"):
        train(toy.recipe(hooks=(stop,)), work_dir=tmp_path / "b", quiet=True)


def test_wrong_settings():
    for settings in ({"max_keep_ckpts": 1}, {"interval": 0}):
        with pytest.raises(InputError, match="at least 2 files"):
            CheckpointHook(**settings)
    with pytest.raises(InputError, match="expected 'greater' or 'less'"):
        CheckpointHook(save_best="x", rule="max")
    with pytest.raises(InputError, match="patience is 0"):
        EarlyStopHook("x", patience=0)
    with pytest.raises(InputError, match="interval 0"):
        JsonLogHook(interval=0)


def test_best_without_validation(toy, tmp_path):
    recipe = toy.recipe(validation=False)
    recipe["default_hooks"]["checkpoint"]["save_best"] = "toy/nll"
    with pytest.raises(InputError, match="has no val_dataloader"):
        train(recipe, work_dir=tmp_path, quiet=True)
    assert not list(tmp_path.iterdir())


def test_the_checkpoint_hook_cannot_be_left_out(toy, tmp_path):
    recipe = toy.recipe()
    recipe["default_hooks"]["checkpoint"] = {"type": "mmengine.hooks.CheckpointHook", "interval": 1}
    with pytest.raises(InputError, match="Leave `type` out"):
        train(recipe, work_dir=tmp_path, quiet=True)


def test_less_data_than_a_batch(toy, tmp_path):
    with pytest.raises(InputError, match="hold 5 samples, fewer than one batch: 6 in each of 1 process"):
        train(toy.recipe(samples=5), work_dir=tmp_path, quiet=True)
    assert train(toy.recipe(epochs=1), work_dir=tmp_path, quiet=True).step == 6  # nothing is in the way


def test_another_sampler_is_refused(toy, tmp_path):
    recipe = toy.recipe()
    recipe["train_dataloader"]["sampler"] = {"type": "mmengine.dataset.DefaultSampler"}
    with pytest.raises(InputError, match="has the sampler DefaultSampler"):
        train(recipe, work_dir=tmp_path, quiet=True)


def test_the_log(toy, tmp_path):
    """Every step and validation, every scalar of the model and the hub, strict JSON."""

    class More(toy.KillHook):
        priority = "NORMAL"

        def before_train_iter(self, runner, batch_idx, data_batch=None):
            runner.message_hub.update_scalar("train/extra", math.nan if runner.iter == 2 else runner.iter)

    recipe = toy.recipe(epochs=2, hooks=({"type": More, "step": -1},))
    result = train(recipe, work_dir=tmp_path, quiet=True)

    def refuse(text):
        raise AssertionError(text)

    lines = [json.loads(line, parse_constant=refuse) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [(line["kind"], line["step"], line["epoch"]) for line in lines] == [
        *(("train", step, 1) for step in range(1, 7)), ("val", 6, 1),
        *(("train", step, 2) for step in range(7, 13)), ("val", 12, 2),
    ]  # fmt: skip
    assert set(lines[0]) == {"kind", "epoch", "step", "lr", "grad_norm", "loss", "largest", "extra", "seconds"}
    assert [line["extra"] for line in lines if line["kind"] == "train"][:4] == [0, 1, None, 3]
    assert lines[0]["lr"] == pytest.approx(0.001)  # the warm-up's first, of AdamW's 0.01
    assert {name: lines[-1][name] for name in result.metrics} == result.last_metrics
    assert all(line["seconds"] > 0 for line in lines)


def test_a_sparse_log(toy, tmp_path):
    recipe = toy.recipe(epochs=1)
    recipe["default_hooks"]["log"] = {"interval": 4}
    train(recipe, work_dir=tmp_path, quiet=True)
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [(line["kind"], line["step"]) for line in lines] == [("train", 4), ("train", 6), ("val", 6)]

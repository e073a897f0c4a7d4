"""Checkpoints hold tensors and plain values; reading one runs no code, and tells what is wrong with it."""

from __future__ import annotations

import os
import pickle
import pickletools
import zipfile
from collections import OrderedDict

import numpy as np
import pytest
import torch
from torch import nn

from robustvision.core.errors import InputError, TrainingError
from robustvision.core.training import build_runner, find_checkpoint, find_weights, load_weights, read_checkpoint, train
from robustvision.core.training.checkpoints import as_plain, write_checkpoint


@pytest.fixture(scope="module")
def run(toy, tmp_path_factory):
    return train(toy.recipe(ema=True), work_dir=tmp_path_factory.mktemp("run"), quiet=True)


def test_files_hold_nothing_that_needs_trust(run):
    for file in run.work_dir.glob("*.pth"):
        assert torch.serialization.get_unsafe_globals_in_checkpoint(file) == []
        torch.load(file)  # with torch's own defaults, and no allow-list
        with zipfile.ZipFile(file) as archive:
            (name,) = [name for name in archive.namelist() if name.endswith("data.pkl")]
            opcodes = {code.name for code, _, _ in pickletools.genops(archive.read(name))}
        assert not opcodes & {"INST", "OBJ", "NEWOBJ", "NEWOBJ_EX"}


def test_names_of_files(run):
    assert sorted(file.name for file in run.work_dir.iterdir()) == [
        "best.pth", "config.py", "iter_12.pth", "iter_18.pth", "log.jsonl", "run.json",
    ]  # fmt: skip
    assert run.checkpoint == run.work_dir / "best.pth"
    assert run.last_checkpoint == find_checkpoint(run.work_dir)


def test_best_holds_the_averaged_weights_that_were_validated(toy, run):
    model = toy.Classifier()
    load_weights(model, run.checkpoint)
    model.eval()
    metric = toy.Accuracy()
    data = toy.Squares(22, seed=1)
    batch = torch.utils.data.default_collate([data[index] for index in range(22)])
    with torch.no_grad():
        metric.process(batch, model(**batch, mode="predict"))
    assert metric.compute_metrics(metric.results)["nll"] == pytest.approx(run.metrics["toy/nll"], rel=1e-6)


def test_the_better_one_stays(toy, tmp_path):
    """With the rule turned round, the first validation is the best, and stays so."""
    result = train(toy.recipe(checkpoint={"rule": "greater"}), work_dir=tmp_path, quiet=True)
    assert result.best_step == read_checkpoint(result.checkpoint)["meta"]["iter"] == 6
    assert result.metrics["toy/nll"] > result.last_metrics["toy/nll"]


def test_whole_updates_and_the_newest_files_stay(toy, tmp_path):
    written = []

    class Watch(toy.KillHook):
        def before_save_checkpoint(self, runner, checkpoint):
            written.append(checkpoint["meta"]["iter"])

    settings = {"accumulate": 4, "checkpoint": {"interval": 5, "max_keep_ckpts": 3}, "validation": False}
    hooks = ({"type": Watch, "step": -1},)
    result = train(toy.recipe(hooks=hooks, **settings), work_dir=tmp_path, quiet=True)
    # the multiples of 5, each moved to the next whole update of 4 steps, and the last step
    assert written == [8, 12, 16, 18]
    assert sorted(file.name for file in tmp_path.glob("iter_*")) == ["iter_12.pth", "iter_16.pth", "iter_18.pth"]
    assert result.checkpoint == result.last_checkpoint == tmp_path / "iter_18.pth"
    assert result.metrics == {}


def test_foreign_objects_are_not_saved(toy, tmp_path):
    class Tell(toy.KillHook):
        def before_train(self, runner):
            runner.message_hub.update_info("who", toy.KilledError())

    with pytest.raises(
        TrainingError, match=r"\['message_hub'\]\['runtime_info'\]\['who'\] is a robustvision_toy.KilledError"
    ):
        train(toy.recipe(hooks=({"type": Tell, "step": -1},)), work_dir=tmp_path, quiet=True)
    assert not list(tmp_path.glob("*.pth"))


def test_histories_of_the_hub_are_not_saved(toy, tmp_path):
    """mmengine keeps them in classes of its own, whose reading needs ``getattr``."""

    class Late(toy.KillHook):
        priority = "LOW"  # after the log has emptied the hub

        def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
            runner.message_hub.update_scalar("train/late", 1.0)

    result = train(toy.recipe(epochs=1, hooks=({"type": Late, "step": -1},)), work_dir=tmp_path, quiet=True)
    assert torch.serialization.get_unsafe_globals_in_checkpoint(result.last_checkpoint) == []


def test_plain_values():
    state = nn.BatchNorm1d(2).state_dict()
    content = {
        "array": np.arange(3),
        "number": np.float64(0.5),
        "flag": np.bool_(True),
        "nested": [(1, None), {"x": b"y"}],
        "state": state,
        "parameter": nn.Parameter(torch.ones(2)),
    }
    plain = as_plain(content)
    assert torch.equal(plain["array"], torch.arange(3))
    assert (type(plain["number"]), plain["number"]) == (float, 0.5)
    assert plain["flag"] is True
    assert plain["nested"] == [(1, None), {"x": b"y"}]
    assert type(plain["state"]) is OrderedDict
    assert plain["state"]._metadata == state._metadata
    assert type(plain["parameter"]) is torch.Tensor
    for foreign in ({1, 2}, np.array(["a"]), torch.nn.ReLU()):
        with pytest.raises(TrainingError, match=r"checkpoint\['x'\]\[0\] is a"):
            as_plain({"x": [foreign]})


class Evil:
    """What a crafted file would run."""

    def __reduce__(self):
        return os.mkdir, (os.environ["EVIL_PATH"],)


class Getattr:
    """The hole of an allow-list with ``getattr``, which mmengine's own files would need."""

    def __reduce__(self):
        return getattr, (nn.Module, "__init__")


@pytest.mark.parametrize("crafted", [Evil(), Getattr(), {"state_dict": {"x": Evil()}}])
@pytest.mark.parametrize("is_zip", [True, False])
@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_crafted_files_run_nothing(tmp_path, monkeypatch, crafted, is_zip):
    monkeypatch.setenv("EVIL_PATH", str(tmp_path / "evil"))
    path = tmp_path / "crafted.pth"
    if is_zip:
        torch.save(crafted, path)
    else:
        path.write_bytes(pickle.dumps(crafted))
    for read in (read_checkpoint, lambda path: load_weights(nn.Linear(2, 2), path)):
        with pytest.raises(InputError, match=r"crafted.pth"):
            read(path)
    assert not (tmp_path / "evil").exists()


def test_a_file_of_mmengine_says_how_to_convert_it(tmp_path):
    from mmengine.logging import HistoryBuffer

    path = tmp_path / "epoch_1.pth"
    torch.save({"state_dict": nn.Linear(2, 2).state_dict(), "message_hub": {"loss": HistoryBuffer([1.0], [1])}}, path)
    with pytest.raises(InputError, match=r"as checkpoints of mmengine itself do.*convert it once: torch.save"):
        load_weights(nn.Linear(2, 2), path)


def test_torn_and_wrong_files(tmp_path):
    path = tmp_path / "x.pth"
    torch.save(nn.Linear(200, 200).state_dict(), path)
    whole = path.read_bytes()
    for content in (b"", b"hello", whole[: len(whole) // 2], whole[:-30], whole[100:]):
        path.write_bytes(content)
        with pytest.raises(InputError, match=r"torn, or no PyTorch file|holds Python objects"):
            load_weights(nn.Linear(200, 200), path)
    for address in ("https://example.org/x.pth", "s3://bucket/x.pth", "torchvision://resnet18", str(tmp_path)):
        with pytest.raises(InputError, match=r"expected a local file"):
            load_weights(nn.Linear(2, 2), address)
    for content, message in (
        (torch.ones(2), "holds a Tensor"),
        ({"epoch": 3}, "holds no weights"),
        ([], "holds a list"),
    ):
        torch.save(content, path)
        with pytest.raises(InputError, match=message):
            load_weights(nn.Linear(2, 2), path)


def test_load_from_takes_no_address(toy, tmp_path):
    for address in ("https://example.org/x.pth", "torchvision://resnet18"):
        with pytest.raises(InputError, match=r"load_from .* expected a local file"):
            build_runner(toy.recipe(load_from=address), work_dir=tmp_path)


def test_load_from_starts_with_weights(toy, tmp_path, run):
    """Zero steps in one epoch cannot be; a rate of zero shows that the weights were taken, and step 1 that it began."""
    recipe = toy.recipe(load_from=str(run.checkpoint), epochs=1)
    recipe["optim_wrapper"]["optimizer"] = {"type": torch.optim.SGD, "lr": 0.0}
    result = train(recipe, work_dir=tmp_path, quiet=True)
    loaded, source = read_checkpoint(result.last_checkpoint), read_checkpoint(run.checkpoint)
    assert loaded["meta"]["iter"] == 6
    assert torch.equal(loaded["state_dict"]["head.weight"], source["state_dict"]["head.weight"])
    assert loaded["validation"]["best_score"] is None  # the best score of the other run is not this one's


def test_weights_that_do_not_fit_are_listed(tmp_path):
    path = tmp_path / "x.pth"
    torch.save({"weight": torch.zeros(3, 2), "scale": torch.zeros(1)}, path)
    with pytest.raises(
        InputError, match=r"lacks bias; it has scale, .*; it has other shapes: weight \(3, 2\) for \(2, 2\)"
    ):
        load_weights(nn.Linear(2, 2), path)
    torch.save({"weight": torch.zeros(2, 2), "bias": torch.tensor([0.0, torch.nan])}, path)
    module = nn.Linear(2, 2)
    before = module.weight.clone()
    with pytest.raises(InputError, match=r"not finite in bias"):
        load_weights(module, path)
    assert torch.equal(module.weight, before)


def test_parts_and_wrapped_models(tmp_path):
    model = nn.ModuleDict({"backbone": nn.Linear(2, 3), "head": nn.Linear(3, 4)})
    path = tmp_path / "x.pth"
    torch.save({"state_dict": {f"module.{name}": value for name, value in model.state_dict().items()}}, path)
    part = nn.Linear(2, 3)
    load_weights(part, path, prefix="backbone.")
    assert torch.equal(part.weight, model["backbone"].weight)
    with pytest.raises(InputError, match=r"lacks bias, weight"):
        load_weights(part, path, prefix="neck.")


def test_where_weights_are_found(tmp_path):
    with pytest.raises(InputError, match=r"no checkpoint at"):
        find_weights(tmp_path)
    for name in ("iter_9.pth", "iter_10.pth", "iter_x.pth", "epoch_99.pth"):
        write_checkpoint(tmp_path / name, {"x": 1})
    assert find_weights(tmp_path).name == find_checkpoint(tmp_path).name == "iter_10.pth"
    (tmp_path / "iter_10.pth").write_bytes(b"torn")
    assert find_checkpoint(tmp_path).name == "iter_9.pth"
    (tmp_path / "iter_9.pth").write_bytes(b"torn")
    with pytest.raises(InputError, match=r"nothing to resume .*torn"):
        find_checkpoint(tmp_path)
    write_checkpoint(tmp_path / "best.pth", {"x": 1})
    assert find_weights(tmp_path).name == "best.pth"
    assert find_weights(tmp_path / "iter_9.pth").name == "iter_9.pth"

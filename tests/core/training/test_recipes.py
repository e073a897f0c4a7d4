"""Recipes of a package: found, read without torch, completed by the shared defaults."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from mmengine import Config

from robustvision.core.errors import InputError
from robustvision.core.training import list_recipes, load_recipe, train
from robustvision.core.training.defaults import check_complete, with_defaults
from robustvision.core.training.hooks import CheckpointHook
from robustvision.core.training.tree import as_record, as_text

BASE = """
from mmengine.hooks import EMAHook
from torch.optim import SGD

from robustvision_toy import Accuracy, Classifier, Squares

batch = 6
model = dict(type=Classifier, width=8)
train_dataloader = dict(dataset=dict(type=Squares, size=36), batch_size=batch)
val_dataloader = dict(dataset=dict(type=Squares, size=10, seed=1), batch_size=5)
val_evaluator = dict(type=Accuracy)
optim_wrapper = dict(optimizer=dict(type=SGD, lr=0.1))
train_cfg = dict(by_epoch=True, max_epochs=1)
default_hooks = dict(checkpoint=dict(save_best="toy/accuracy"), progress=None)
custom_hooks = [dict(type=EMAHook, momentum=0.1)]
"""
TINY = """
from mmengine.config import read_base

with read_base():
    from ._base import *

model.update(width=4)
train_cfg.update(max_epochs=2)
"""


@pytest.fixture(scope="module")
def package(toy, tmp_path_factory):
    """A domain package with two recipes, one of which inherits."""
    root = tmp_path_factory.mktemp("packages")
    configs = root / "toy_domain" / "configs"
    configs.mkdir(parents=True)
    (root / "toy_domain" / "__init__.py").touch()
    (configs / "__init__.py").touch()
    (configs / "_base.py").write_text(BASE)
    (configs / "tiny.py").write_text(TINY)
    (configs / "small.py").write_text(BASE)
    (root / "robustvision_toy.py").write_text(Path(toy.__file__).read_text())
    sys.path.insert(0, str(root))
    yield "toy_domain"
    sys.path.remove(str(root))


def test_names(package):
    assert list_recipes(package) == ["small", "tiny"]
    with pytest.raises(InputError, match=r"toy_domain has no recipe tinny: did you mean tiny\? It has: small, tiny"):
        load_recipe("tinny", package)
    with pytest.raises(InputError, match=r"has no recipe paper\. It has: small, tiny"):
        load_recipe("paper", package)
    with pytest.raises(InputError, match=r"a name needs the package"):
        load_recipe("tiny")


def test_load_and_override(package):
    config = load_recipe("tiny", package, ["train_cfg.max_epochs=3", "optim_wrapper.optimizer.lr=0.2"])
    assert config.model.width == 4
    assert config.train_cfg.max_epochs == 3
    assert config.optim_wrapper.optimizer.lr == 0.2
    assert config.recipe.to_dict() == {
        "name": "tiny",
        "package": "toy_domain",
        "options": {"train_cfg.max_epochs": 3, "optim_wrapper.optimizer.lr": 0.2},
    }
    assert load_recipe("small", package, {"model.width": 5}).model.width == 5


def test_recipes_need_no_torch(package):
    code = (
        f"import sys; sys.path[:0] = {sys.path!r}\n"
        "from robustvision.core.training import list_recipes, load_recipe\n"
        f"for name in list_recipes({package!r}):\n"
        f"    load_recipe(name, {package!r}, ['train_cfg.max_epochs=4', 'model.width=3'])\n"
        "loaded = {'torch', 'cv2', 'mmengine.runner', 'robustvision_toy'} & set(sys.modules)\n"
        "assert not loaded, loaded"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0


def test_files(package, tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(BASE.replace("width=8", "width=9"))
    config = load_recipe(path)
    assert (config.model.width, config.recipe.name, config.recipe.package) == (9, "mine", None)
    assert load_recipe(str(path), package).model.width == 9
    for wrong in (tmp_path / "none.py", tmp_path, tmp_path / "mine.json"):
        with pytest.raises(InputError, match=r"is not a \.py file"):
            load_recipe(wrong)


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("from math import pi\nmodel = dict(", "syntax|never closed"),
        ("from numpy import pi\nrate = pi * 2", "unsupported operand"),
        ("from torch.nn import Linear\nmodel = Linear(2, 2)", "placeholders"),
        ("from torch.nn import Linear\nmodel = dict(type=Missing)", "Missing"),
        ("from torch.nn import Linear\nfor x in 3: pass", "not iterable"),
        ("from torch.nn import Linear\nx = 1 / 0", "division"),
    ],
)
def test_broken_recipes(tmp_path, code, message):
    path = tmp_path / "broken.py"
    path.write_text(code)
    with pytest.raises(InputError, match=rf"(?s)broken.py cannot be read: .*({message})"):
        load_recipe(path)


def test_a_class_that_cannot_be_imported(tmp_path):
    path = tmp_path / "wrong.py"
    path.write_text("from torch.nn import Lineer\nmodel = dict(type=Lineer, a=1)\n")
    with pytest.raises(InputError, match=r"names torch.nn.Lineer, which cannot be imported"):
        load_recipe(path, cfg_options=["model.b=1"])


def test_defaults_lie_under_the_recipe(toy):
    config = with_defaults(toy.recipe())
    assert config.default_hooks.checkpoint.type is CheckpointHook
    assert config.default_hooks.checkpoint.rule == "less"  # the recipe's own
    assert config.default_hooks.checkpoint.max_keep_ckpts == 2
    assert config.train_dataloader.drop_last is True
    assert config.optim_wrapper.optimizer.lr == 0.01
    assert as_record(with_defaults(config)) == as_record(config)
    assert "val_cfg" not in with_defaults(toy.recipe(validation=False))


def test_another_class_takes_nothing_from_the_defaults(toy):
    recipe = toy.recipe()
    recipe["train_dataloader"]["sampler"] = {"type": "torch.utils.data.SequentialSampler"}
    recipe["default_hooks"]["checkpoint"] = {"type": CheckpointHook, "interval": 7}
    config = with_defaults(recipe)
    assert set(config.train_dataloader.sampler) == {"type"}
    assert config.default_hooks.checkpoint.interval == 7
    assert config.default_hooks.checkpoint.max_keep_ckpts == 2  # the same class, by another path


def test_incomplete_recipes(toy):
    with pytest.raises(InputError, match=r"by_epoch=False"):
        with_defaults({"train_cfg": {"by_epoch": False, "max_iters": 3}})
    with pytest.raises(InputError, match=r"validation needs both"):
        with_defaults({**toy.recipe(), "val_evaluator": None})
    with pytest.raises(InputError, match=r"lacks model, train_dataloader, optim_wrapper"):
        check_complete(Config({"train_cfg": {"max_epochs": 1}}))
    with pytest.raises(InputError, match=r"lacks train_cfg\.max_epochs"):
        check_complete(with_defaults(toy.recipe(train_cfg={})))


def test_a_written_recipe_can_be_loaded_and_trained_again(toy, package, tmp_path, assert_same, read_log):
    options = ["train_cfg.max_epochs=1", "optim_wrapper.paramwise_cfg={'norm_decay_mult': 0.0}"]
    config = load_recipe("tiny", package, [*options, "optim_wrapper.optimizer.weight_decay=0.1"])
    first = train(config, work_dir=tmp_path / "first", quiet=True)
    again = load_recipe(first.work_dir / "config.py")
    assert as_text({**as_record(again), "recipe": None}) == as_text({**as_record(config), "recipe": None})
    second = train(again, work_dir=tmp_path / "second", quiet=True)
    assert second.metrics == first.metrics
    assert read_log(first.work_dir) == read_log(second.work_dir)

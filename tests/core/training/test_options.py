"""Options from the command line: read like Python, and refused where they would change nothing."""

from __future__ import annotations

import logging
import subprocess
import sys

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from mmengine import Config

from robustvision.core.errors import InputError
from robustvision.core.training import merge_cfg_options, parse_cfg_options
from robustvision.core.training.defaults import with_defaults


class Margin(torch.nn.Module):
    """A loss with a margin."""

    def __init__(self, scale: float = 64.0, margin: float = 0.35) -> None:
        super().__init__()
        self.scale, self.margin = scale, margin


class Gates(Margin):
    """One that passes on to its base."""

    def __init__(self, k: float = 80.0, **options: float) -> None:
        super().__init__(**options)
        self.k = k


@pytest.fixture
def config() -> Config:
    sys.modules["robustvision_test_losses"] = sys.modules[__name__]
    return with_defaults(
        {
            "epochs": 7,
            "model": {"type": torch.nn.Linear, "loss": {"type": Gates, "scale": 32.0, "k": 80.0}, "sizes": (112, 112)},
            "train_dataloader": {"dataset": {"type": torch.utils.data.TensorDataset, "root": "a"}, "batch_size": 4},
            "train_cfg": {"max_epochs": 7},
            "optim_wrapper": {
                "optimizer": {"type": torch.optim.SGD, "lr": 0.1},
                "paramwise_cfg": {"norm_decay_mult": 0},
            },
            "custom_hooks": [{"type": "mmengine.hooks.EMAHook", "momentum": 0.1}],
        }
    )


def merged(config, *options):
    return merge_cfg_options(config, parse_cfg_options(options))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3", 3), ("-2", -2), ("1e-3", 0.001), ("+.5", 0.5), ("None", None), ("none", None), ("true", True),
        ("True", True), ("runs/a b", "runs/a b"), ("'3'", "3"), ("[1, [x, 2.5]]", [1, ["x", 2.5]]), ("(1,)", (1,)),
        ("1,2", (1, 2)), ("{'a': {b: false}}", {"a": {"b": False}}), ("a.b.C", "a.b.C"), ("[a.b.C]", ["a.b.C"]),
        ("", ""), ("007", "007"), ("a=b", "a=b"), ("__import__('os').getcwd()", "__import__('os').getcwd()"),
        ("[x for x in y]", "[x for x in y]"), ("(" * 500, "(" * 500), ("9" * 5000, "9" * 5000), ("-abc", "-abc"),
        ("lambda: 1", "lambda: 1"), ("f'{1}'", "f'{1}'"),
    ],
)  # fmt: skip
def test_values(text, value):
    parsed = parse_cfg_options([f"a.b={text}"])["a.b"]
    assert (type(parsed), parsed) == (type(value), value)


plain = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()


@given(st.recursive(plain, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=8))
def test_what_python_prints_is_read_back(value):
    assert parse_cfg_options([f"a={value!r}"]) == {"a": value}


@pytest.mark.parametrize("option", ["a.b", "=3", "a..b=1", ".a=1", "a b=1", "a-b=1", ""])
def test_broken_pairs(option):
    with pytest.raises(InputError, match="expected a dotted path and a value"):
        parse_cfg_options([option])


def test_values_arrive(config):
    changed = merged(
        config,
        "train_cfg.max_epochs=3",
        "custom_hooks.0.momentum=0.2",
        "model.sizes=[96, 96]",
        "train_dataloader={'batch_size': 8, 'num_workers': 2}",
        "optim_wrapper.optimizer.momentum=0.9",  # not in the recipe, but SGD takes it
        "optim_wrapper.clip_grad.max_norm=5",
        "train_dataloader.prefetch_factor=4",
        "default_hooks.checkpoint.interval=100",
        "default_hooks.progress=None",
        "load_from=x.pth",
        "param_scheduler=[{'type': mmengine.optim.MultiStepLR, 'milestones': [1, 2]}]",
    )
    assert changed.train_cfg.max_epochs == 3
    assert changed.custom_hooks[0].momentum == 0.2
    assert changed.model.sizes == (96, 96)
    assert (changed.train_dataloader.batch_size, changed.train_dataloader.num_workers) == (8, 2)
    assert (changed.optim_wrapper.optimizer.lr, changed.optim_wrapper.optimizer.momentum) == (0.1, 0.9)
    assert changed.optim_wrapper.clip_grad == {"max_norm": 5}
    assert changed.train_dataloader.prefetch_factor == 4
    assert changed.default_hooks.checkpoint.interval == 100
    assert changed.default_hooks.progress is None
    assert changed.load_from == "x.pth"
    assert changed.param_scheduler[0].type.__name__ == "MultiStepLR"
    assert config.train_cfg.max_epochs == 7  # the recipe itself is not touched


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("optim_wrapper.optimizer.Lr=0.5", r"knows no optim_wrapper.optimizer.Lr: did you mean lr\?"),
        ("optim_wrapper.optimizer.momentun=0.5", r"did you mean momentum\?"),
        ("optim_wraper.optimizer.lr=0.5", r"knows no optim_wraper: did you mean optim_wrapper\?"),
        ("train_cfg.max_epoch=3", r"did you mean max_epochs\?"),
        ("train_dataloader.batchsize=3", r"did you mean batch_size\?"),
        ("max_norm=3", r"knows no max_norm"),
        ("lr=3", r"knows no lr: did you mean optim_wrapper.optimizer.lr\?"),
        ("model.loss.margn=3", r"did you mean margin\?"),
        ("default_hooks.checkpoint.intervall=3", r"did you mean interval\?"),
        ("optim_wrapper.paramwise_cfg.bias_decay_multi=0", "knows no optim_wrapper.paramwise_cfg.bias_decay_multi"),
        ("custom_hooks.1.momentum=0.2", "custom_hooks is a list of 1, numbered from 0; came 1"),
        ("custom_hooks.first=0.2", "came first"),
        ("train_cfg.max_epochs.x=1", "train_cfg.max_epochs is 7 in the recipe, with nothing below it"),
        ("epochs=9", r"a variable inside the recipe, .* such as train_cfg.max_epochs$"),
        ("model.loss.type=Margin", "expected the dotted path of a class"),
        ("model.loss.type=3", "expected the dotted path of a class"),
        ("model.loss.type=robustvision_test_losses.Margn", r"has no class Margn: did you mean Margin\?"),
        ("model.loss.type=robustvision_test_loses.Margin", "cannot import robustvision_test_loses"),
        ("param_scheduler=[{'type': mmengine.optim.MultiStpLR}]", r"did you mean MultiStepLR\?"),
        ("model.loss._delete_=True", "leaves nothing"),
        ("_delete_=True", "only a section below the top"),
    ],
)
def test_what_changes_nothing_is_refused(config, option, message):
    with pytest.raises(InputError, match=f"--cfg-options .*{message}"):
        merged(config, option)


def test_another_class_keeps_what_it_takes(config, caplog):
    with caplog.at_level(logging.WARNING):
        sgd = merged(config, "optim_wrapper.optimizer.momentum=0.9")
        changed = merged(sgd, "optim_wrapper.optimizer.type=torch.optim.AdamW", "optim_wrapper.optimizer.eps=1e-6")
    assert dict(changed.optim_wrapper.optimizer) == {"type": torch.optim.AdamW, "lr": 0.1, "eps": 1e-6}
    assert "optim_wrapper.optimizer: AdamW takes no momentum of SGD: left out. Kept: lr" in caplog.text


def test_another_loss_begins_with_its_own_defaults(config, caplog):
    """The a of one loss is an angle, that of another a shift: nothing is handed on but what the user gives."""
    with caplog.at_level(logging.WARNING):
        changed = merged(config, "model.loss.type=robustvision_test_losses.Margin", "model.loss.margin=0.5")
    assert dict(changed.model.loss) == {"type": Margin, "margin": 0.5}
    assert "model.loss: Margin takes no scale, k of Gates: left out. Kept: nothing" in caplog.text


def test_a_class_that_passes_on_takes_what_its_base_takes(config):
    assert merged(config, "model.loss.margin=0.1").model.loss.margin == 0.1
    with pytest.raises(InputError, match="margin"):
        merged(config, "model.loss.margins=0.1")


def test_delete_starts_anew(config):
    changed = merged(config, "model.loss._delete_=True", "model.loss.type=robustvision_test_losses.Margin")
    assert dict(changed.model.loss) == {"type": Margin}
    changed = merged(config, "optim_wrapper.paramwise_cfg={'_delete_': True, 'bias_decay_mult': 0}")
    assert dict(changed.optim_wrapper.paramwise_cfg) == {"bias_decay_mult": 0}


def test_a_word_as_type_is_no_class(config):
    changed = merged(config, "optim_wrapper.clip_grad={'type': value, 'clip_value': 1.0}")
    assert changed.optim_wrapper.clip_grad == {"type": "value", "clip_value": 1.0}


def test_keys_with_dots(config):
    """They can be given inside a dict, where a dot is no step."""
    value = {"_delete_": True, "custom_keys": {"features.0": {"decay_mult": 0.0}}}
    changed = merge_cfg_options(config, {"optim_wrapper.paramwise_cfg": value})
    assert changed.optim_wrapper.paramwise_cfg["custom_keys"]["features.0"]["decay_mult"] == 0.0


def test_reading_options_needs_no_torch():
    code = (
        "import sys; from robustvision.core.training import parse_cfg_options, merge_cfg_options\n"
        "from mmengine import Config\n"
        "options = parse_cfg_options(['train_cfg.max_epochs=2'])\n"
        "c = merge_cfg_options(Config({'train_cfg': {'max_epochs': 1}}), options)\n"
        "assert c.train_cfg.max_epochs == 2 and 'torch' not in sys.modules"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0

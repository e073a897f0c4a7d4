"""What all recipes share, merged in under them: the loop, the sampler, the hooks and the rule of the checkpoints.

Recipes cannot inherit across packages (mmengine's ``read_base`` knows only the recipe's own folder), so this is
Python. A recipe's own values win. A section in which the recipe names another class than the one here is taken from
the recipe alone; a hook is switched off with ``default_hooks = dict(progress=None)``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mmengine import Config

from robustvision.core.errors import InputError
from robustvision.core.training.classes import lazy, path_of
from robustvision.core.training.tree import as_config, as_tree

_HOOKS = "robustvision.core.training.hooks"
_REQUIRED = ("model", "train_dataloader", "train_cfg", "optim_wrapper")


def with_defaults(config: Config | Mapping[str, Any]) -> Config:
    """Complete a recipe.

    Args:
        config: The recipe, or a part of one; already complete recipes stay as they are.

    Returns:
        The recipe with the shared defaults under it.

    Raises:
        InputError: The recipe asks for training by iterations, or has only a part of the validation.
    """
    tree = _with_placeholders(as_tree(config))
    loop = tree.get("train_cfg")
    if isinstance(loop, dict) and loop.pop("by_epoch", True) is not True:
        raise InputError("train_cfg has by_epoch=False: training runs by epochs here, set train_cfg.max_epochs")
    if (tree.get("val_dataloader") is None) != (tree.get("val_evaluator") is None):
        raise InputError("the recipe has only one of val_dataloader and val_evaluator: validation needs both")
    return as_config(_merge_under(tree, _defaults(with_validation=tree.get("val_dataloader") is not None)))


def check_complete(config: Config) -> None:
    """Refuse a recipe without the sections that training needs.

    Args:
        config: The recipe.

    Raises:
        InputError: A section is missing.
    """
    missing = [name for name in _REQUIRED if not config.get(name)]
    if missing or "max_epochs" not in config.train_cfg:
        raise InputError(f"the recipe lacks {', '.join(missing) or 'train_cfg.max_epochs'}: training needs it")


def _with_placeholders(value: Any) -> Any:
    """Where a recipe was written down as text, its classes are dotted paths."""
    if isinstance(value, dict):
        return {
            key: lazy(item) if key == "type" and isinstance(item, str) and "." in item else _with_placeholders(item)
            for key, item in value.items()
        }
    if type(value) in (list, tuple):
        return type(value)(_with_placeholders(item) for item in value)
    return value


def _defaults(*, with_validation: bool) -> dict[str, Any]:
    shared: dict[str, Any] = {
        "train_cfg": {"type": lazy("robustvision.core.training.loop.ResumableLoop"), "val_interval": 1},
        "train_dataloader": {
            "sampler": {"type": lazy("robustvision.core.training.sampling.EpochSampler"), "shuffle": True},
            "collate_fn": {"type": lazy("torch.utils.data.default_collate")},
            "num_workers": 0,
            "drop_last": True,  # batch norm fails on a last batch of one
        },
        "optim_wrapper": {"type": lazy("mmengine.optim.OptimWrapper"), "accumulative_counts": 1, "clip_grad": None},
        "default_hooks": _hooks(),
        "custom_hooks": [],
        "env_cfg": {"dist_cfg": {"timeout": 600}},  # seconds until a stuck process ends the run
        "channels_last": True,  # the faster memory layout for convolutions on a CPU
    }
    if with_validation:
        shared["val_cfg"] = {"type": lazy("mmengine.runner.ValLoop")}
        shared["val_dataloader"] = {
            "sampler": {"type": lazy("mmengine.dataset.DefaultSampler"), "shuffle": False},
            "collate_fn": {"type": lazy("torch.utils.data.default_collate")},
            "num_workers": 0,
        }
    return shared


def _hooks() -> dict[str, Any]:
    """Our hooks, beside mmengine's RuntimeInfoHook, ParamSchedulerHook and DistSamplerSeedHook."""
    return {
        "timer": None,
        "logger": None,
        "seeding": {"type": lazy(f"{_HOOKS}.SeedingHook")},
        "reduce_loss": {"type": lazy(f"{_HOOKS}.ReduceLossHook")},
        "loss_guard": {"type": lazy(f"{_HOOKS}.LossGuardHook")},
        "log": {"type": lazy(f"{_HOOKS}.JsonLogHook"), "interval": 1},
        "checkpoint": {
            "type": lazy(f"{_HOOKS}.CheckpointHook"),
            "interval": None,
            "max_keep_ckpts": 2,
            "save_best": None,
            "rule": "greater",
        },
        "progress": {"type": lazy(f"{_HOOKS}.ProgressHook")},
    }


def _merge_under(recipe: dict[str, Any], defaults: dict[str, Any]) -> dict[str, Any]:
    merged = dict(recipe)
    for key, default in defaults.items():
        own = recipe.get(key)
        if key not in recipe:
            merged[key] = default
        elif isinstance(own, dict) and isinstance(default, dict) and _is_same_class(own, default):
            merged[key] = _merge_under(own, default)
    return merged


def _is_same_class(own: dict[str, Any], default: dict[str, Any]) -> bool:
    if "type" not in own or "type" not in default:
        return True
    mine, shared = _name(own["type"]), _name(default["type"])
    return mine == shared


def _name(named: Any) -> str:
    """A class's own name: the same class can be reached by several paths, through a package's front."""
    return str(path_of(named) or named).rpartition(".")[2]

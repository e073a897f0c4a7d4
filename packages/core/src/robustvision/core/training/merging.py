"""Merge options into a recipe, and refuse what would change nothing.

A path must exist in the recipe, or be a parameter of the class that the recipe names there; mmengine itself would add
any misspelt key in silence. A number in the path is a place in a list, ``custom_hooks.0.momentum=0.001``.

``PATH.type=package.module.Class`` puts another class in place. The parameters that the recipe gave to the old class
stay where the new one takes them; the others are left out, with a note on stderr. ``PATH._delete_=True`` empties the
place first, so that only the options count.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterator, Mapping
from typing import Any

from mmengine import Config

from robustvision.core.errors import InputError
from robustvision.core.training.classes import build_class, find_class, nearest, parameters_of, path_of
from robustvision.core.training.tree import as_config, as_tree

Keys = tuple[str, ...]  # the steps of a dotted path

# What a recipe may hold beside the sections that it has: the rest of what mmengine's Runner reads.
_SECTIONS = frozenset(
    {
        *("activation_checkpointing", "auto_scale_lr", "channels_last", "compile", "custom_hooks", "env_cfg"),
        *("find_unused_parameters", "load_from", "model_wrapper_cfg", "param_scheduler", "sync_bn"),
        *("val_cfg", "val_dataloader", "val_evaluator", "test_cfg", "test_dataloader", "test_evaluator"),
    }
)
_LOADERS = ("train_dataloader", "val_dataloader", "test_dataloader")
_SYMBOLS = ("model.loss",)
"""Where the parameters are symbols of a paper: the a of one loss is not the a of another, and each has its defaults."""


def merge_cfg_options(config: Config, options: Mapping[str, Any]) -> Config:
    """Change a recipe by options.

    Args:
        config: The recipe.
        options: Values by dotted path, as from :func:`robustvision.core.training.parse_cfg_options`. A dict as a value
            holds options below its path.

    Returns:
        A changed copy.

    Raises:
        InputError: An option names nothing in the recipe, or a class that does not exist.
    """
    given = {path: value for name, value in options.items() for path, value in _flatten(tuple(name.split(".")), value)}
    merge = _Merge(as_tree(config), frozenset(given))
    order = {"_delete_": 0, "type": 1}
    for path in sorted(given, key=lambda path: (order.get(path[-1], 2), len(path))):
        merge.apply(path, copy.deepcopy(given[path]))
    merge.check_emptied()
    return as_config(merge.tree)


class _Merge:
    """One merge: the tree as it changes, the paths of all options, and the places that were emptied."""

    def __init__(self, tree: dict[str, Any], given: frozenset[Keys]) -> None:
        self.tree = tree
        self.given = given
        self.emptied: list[tuple[Keys, dict[str, Any]]] = []

    def apply(self, path: Keys, value: Any) -> None:
        place: Any = self.tree
        for depth, part in enumerate(path[:-1]):
            self.check_known(place, path, depth)
            if isinstance(place, dict) and place.get(part) is None:
                place[part] = {}
                self.emptied.append((path[: depth + 1], place[part]))
            place = place[_step(place, part)]
        if path[-1] == "_delete_":
            self.empty(place, path[:-1], value)
        elif path[-1] == "type" and isinstance(place, dict):
            self.change_class(place, path[:-1], value)
        else:
            self.check_known(place, path, len(path) - 1)
            if len(path) == 1:
                self.refuse_variable(path[0])
            step: Any = _step(place, path[-1])
            old = place[step] if isinstance(place, list) else place.get(step)
            place[step] = _fit(_with_classes(value, path), old)

    def check_known(self, place: Any, path: Keys, depth: int) -> None:
        """Refuse a step that neither the recipe nor the class at that place knows."""
        part, where = path[depth], ".".join(path[:depth])
        if isinstance(place, list):
            if not part.isdigit() or int(part) >= len(place):
                raise InputError(f"{_name(path)}: {where} is a list of {len(place)}, numbered from 0; came {part}")
            return
        if not isinstance(place, dict):
            raise InputError(f"{_name(path)}: {where} is {place!r} in the recipe, with nothing below it")
        is_free = not _names_class(place.get("type")) and any(place is other for _, other in self.emptied)
        if part in place or is_free:
            return
        known, takes_any = _parameters_at(place, where)
        if part in known or takes_any:
            return
        start = f"{where}." if where else ""
        hint = nearest(part, known | set(place)) or self.same_leaf(part)
        raise InputError(f"{_name(path)}: the recipe knows no {start}{part}{hint}")

    def same_leaf(self, name: str) -> str:
        paths = [".".join(path) for path, _ in _leaves(self.tree) if path[-1].lower() == name.lower()]
        return f": did you mean {' or '.join(paths[:3])}?" if paths else ""

    def refuse_variable(self, name: str) -> None:
        """A plain value at the top is a variable of the recipe, and was used up when the recipe was read."""
        value = self.tree.get(name)
        if name in _SECTIONS or isinstance(value, (dict, list)):
            return
        same = [path for path, leaf in _leaves(self.tree) if leaf == value and type(leaf) is type(value)]
        uses = [".".join(path) for path in same if path != (name,)]
        hint = f", such as {' or '.join(uses[:3])}" if uses else ""
        raise InputError(f"{_name((name,))}: a variable inside the recipe, used up by now: set what it feeds{hint}")

    def empty(self, place: Any, where: Keys, value: Any) -> None:
        if not isinstance(place, dict) or not where:
            raise InputError(f"{_name((*where, '_delete_'))}: only a section below the top can be emptied")
        if value is True:
            self.emptied.append((where, place))
            place.clear()

    def check_emptied(self) -> None:
        for where, place in self.emptied:
            if not place:
                raise InputError(f"{_name((*where, '_delete_'))}=True leaves nothing: add options that fill it")

    def change_class(self, place: dict[str, Any], where: Keys, value: Any) -> None:
        """Put another class in place, with those of the old parameters that it takes."""
        option, section = _name((*where, "type")), ".".join(where)
        old = place.get("type")
        if not isinstance(value, str):
            raise InputError(f"{option}={value}: expected the dotted path of a class, such as torch.optim.SGD")
        if "." not in value and not _names_class(old):
            place["type"] = value  # a word that names no class, such as clip_grad's type
            return
        place["type"] = find_class(value, option)
        known, takes_any = _parameters_at(place, section)
        if section in _SYMBOLS:
            left_out = [name for name in place if name != "type"]
        else:
            left_out = [] if takes_any else [name for name in place if name not in known]
        for name in left_out:
            del place[name]
        surprising = [name for name in left_out if (*where, name) not in self.given]
        if surprising:
            kept = [name for name in place if name != "type" and (*where, name) not in self.given]
            logging.getLogger("robustvision").warning(
                "%s: %s takes no %s of %s: left out. Kept: %s",
                section,
                value.rpartition(".")[2],
                ", ".join(surprising),
                str(path_of(old) or old).rpartition(".")[2],
                ", ".join(kept) or "nothing",
            )


def _parameters_at(place: dict[str, Any], where: str) -> tuple[frozenset[str], bool]:
    """What may stand at a place: the parameters of its class, and what mmengine reads there itself."""
    if not where:
        return _SECTIONS, False
    named, more = place.get("type"), {"type"}
    if where in _LOADERS:
        named, more = "torch.utils.data.DataLoader", {"num_batch_per_epoch"}
    if where == "optim_wrapper":
        more = more | {"constructor", "paramwise_cfg"}
    elif "hooks" in where:
        more = more | {"priority"}
    if not _names_class(named):
        return frozenset(), False
    known, takes_any = parameters_of(build_class(named))
    return known | more, takes_any


def _names_class(value: Any) -> bool:
    """Whether a ``type`` is a class, not a word such as that of ``clip_grad``."""
    return value is not None and not (isinstance(value, str) and "." not in value)


def _name(path: Keys) -> str:
    return f"--cfg-options {'.'.join(path)}"


def _step(place: Any, part: str) -> int | str:
    return int(part) if isinstance(place, list) else part


def _flatten(path: Keys, value: Any) -> Iterator[tuple[Keys, Any]]:
    if isinstance(value, Mapping) and value:
        for key, item in value.items():
            yield from _flatten((*path, str(key)), item)
    else:
        yield path, value


def _leaves(tree: Any, path: Keys = ()) -> Iterator[tuple[Keys, Any]]:
    if isinstance(tree, dict):
        for key, value in tree.items():
            yield from _leaves(value, (*path, str(key)))
    elif isinstance(tree, list):
        for index, value in enumerate(tree):
            yield from _leaves(value, (*path, str(index)))
    elif path:
        yield path, tree


def _with_classes(value: Any, path: Keys) -> Any:
    """Turn the dotted paths of ``type`` inside a list into classes."""
    if isinstance(value, Mapping):
        return {
            key: find_class(item, _name(path))
            if key == "type" and isinstance(item, str) and "." in item
            else _with_classes(item, path)
            for key, item in value.items()
        }
    if isinstance(value, (list, tuple)):
        return type(value)(_with_classes(item, path) for item in value)
    return value


def _fit(value: Any, old: Any) -> Any:
    """A list stays a list, a tuple a tuple: on a command line the brackets are easily mistaken."""
    if isinstance(old, (list, tuple)) and isinstance(value, (list, tuple)):
        return type(old)(value)
    return value

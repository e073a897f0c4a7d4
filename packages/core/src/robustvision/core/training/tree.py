"""A recipe as plain nested dicts and lists, where reading a value imports nothing.

mmengine's ``ConfigDict`` imports a class as soon as its placeholder is touched; all merging is done on plain trees.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mmengine import Config, ConfigDict

from robustvision.core.training.classes import path_of


def as_tree(config: Config | Mapping[str, Any]) -> dict[str, Any]:
    """Copy a recipe into plain dicts and lists, with its placeholders as they are.

    Args:
        config: The recipe.

    Returns:
        The tree, without the names that the recipe's file imports.
    """
    if isinstance(config, Config):
        return _plain(config._to_lazy_dict())
    return _plain(config)


def as_config(tree: Mapping[str, Any]) -> Config:
    """Turn a tree into mmengine's form.

    Args:
        tree: Nested dicts and lists.

    Returns:
        The recipe, which prints without yapf (that costs seconds for long recipes, at every checkpoint).
    """
    return Config(dict(tree), format_python_code=False)


def as_text(config: Config | Mapping[str, Any]) -> str:
    """A recipe as Python code, which can be loaded again.

    Args:
        config: The recipe.

    Returns:
        The code, with classes as dotted paths.
    """
    return str(as_config(as_record(config)).pretty_text)


def as_record(config: Config | Mapping[str, Any]) -> dict[str, Any]:
    """A recipe as JSON can hold it: classes as dotted paths.

    Args:
        config: The recipe.

    Returns:
        Nested dicts, lists and plain values.
    """
    return _named(as_tree(config))


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        items = dict.items(value) if isinstance(value, ConfigDict) else value.items()
        return {key: _plain(item) for key, item in items}
    if type(value) in (list, tuple):
        return type(value)(_plain(item) for item in value)
    return value


def _named(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _named(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_named(item) for item in value)
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    return path_of(value) or repr(value)

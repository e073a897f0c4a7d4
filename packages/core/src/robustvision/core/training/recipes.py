"""Recipes: pure-Python configs in a package's ``configs`` folder, read without importing what they name.

A recipe names classes directly (``model = dict(type=FaceModel, ...)``); while it is read they are placeholders, so that
listing and reading recipes needs no torch. Names that begin with an underscore are bases for other recipes of the same
folder (``with read_base(): from ._base import *``).
"""

from __future__ import annotations

import importlib.resources
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from mmengine import Config

from robustvision.core.errors import InputError
from robustvision.core.training.classes import nearest
from robustvision.core.training.defaults import with_defaults
from robustvision.core.training.merging import merge_cfg_options
from robustvision.core.training.options import parse_cfg_options


def list_recipes(package: str) -> list[str]:
    """The names of a package's recipes.

    Args:
        package: Such as ``robustvision.face``.

    Returns:
        Sorted names, without ``.py``.
    """
    return sorted(_recipe_files(package))


def load_recipe(
    name_or_path: str | Path,
    package: str | None = None,
    cfg_options: Mapping[str, Any] | Iterable[str] | None = None,
) -> Config:
    """Read a recipe, complete it with the shared defaults, and change it by options.

    Args:
        name_or_path: A recipe's name, or the path of a ``.py`` file. A file is Python code and is run: do not load
        files
            of people whom you would not let run code.
        package: Where names are looked up, such as ``robustvision.face``.
        cfg_options: ``{"train_cfg.max_epochs": 3}``, or ``["train_cfg.max_epochs=3"]`` as on a command line.

    Returns:
        The recipe. Its section ``recipe`` records name, package and options.

    Raises:
        InputError: There is no such recipe, it cannot be read, or an option names nothing in it.
    """
    path = _find(name_or_path, package)
    options = cfg_options or {}
    if not isinstance(options, Mapping):
        options = parse_cfg_options(options)
    config = merge_cfg_options(with_defaults(_read(path)), options)
    config["recipe"] = {
        "name": path.stem,
        "package": package if _is_name(name_or_path) else None,
        "options": dict(options),
    }
    return config


def _is_name(name_or_path: str | Path) -> bool:
    return isinstance(name_or_path, str) and not name_or_path.endswith(".py") and len(Path(name_or_path).parts) == 1


def _recipe_files(package: str) -> dict[str, Path]:
    folder = Path(str(importlib.resources.files(package))) / "configs"
    return {file.stem: file for file in folder.glob("*.py") if not file.name.startswith("_")}


def _find(name_or_path: str | Path, package: str | None) -> Path:
    if not _is_name(name_or_path):
        path = Path(name_or_path)
        if not path.is_file() or path.suffix != ".py":
            raise InputError(f"{name_or_path} is not a .py file: give the path of a recipe, or a recipe's name")
        return path
    if package is None:
        raise InputError(f"recipe {name_or_path}: a name needs the package in which to look, or give a path")
    files = _recipe_files(package)
    if name_or_path not in files:
        hint = nearest(str(name_or_path), files) or "."
        raise InputError(f"{package} has no recipe {name_or_path}{hint} It has: {', '.join(sorted(files)) or 'none'}")
    return files[str(name_or_path)]


def _read(path: Path) -> Config:
    try:
        return Config.fromfile(str(path), format_python_code=False)
    except Exception as error:  # a recipe is code, and can raise anything
        reason = f"{type(error).__name__}: {error}"
        if type(error) is RuntimeError and not str(error):  # mmengine's placeholders, when called
            reason = "imported names are placeholders while a recipe is read: they cannot be called or reckoned with"
        raise InputError(f"the recipe {path} cannot be read: {reason}") from error

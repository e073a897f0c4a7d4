"""The classes that a recipe names: from dotted path to class and back, and which parameters a class takes.

Recipes are read without importing what they name (mmengine holds placeholders), so nothing here imports torch before a
class is truly asked for.
"""

from __future__ import annotations

import difflib
import importlib
import inspect
from collections.abc import Iterable
from typing import Any

from mmengine.config.lazy import LazyAttr, LazyObject

from robustvision.core.errors import InputError, MissingExtraError


def lazy(path: str) -> LazyObject:
    """A placeholder for the class or function at a dotted path, as mmengine puts into recipes.

    Args:
        path: Such as ``torch.optim.SGD``.

    Returns:
        The placeholder; nothing is imported.
    """
    module, _, name = path.rpartition(".")
    return LazyObject(module, name)


def find_class(path: str, option: str) -> LazyObject:
    """The placeholder for a class that a user names, after a look whether it exists.

    Args:
        path: Dotted path of the class or function, such as ``torch.optim.SGD``.
        option: The option that the path came with, for the message.

    Returns:
        The placeholder.

    Raises:
        InputError: There is no such module, or nothing of that name in it.
    """
    module_path, _, name = path.rpartition(".")
    if not module_path:
        raise InputError(f"{option}={path}: expected the dotted path of a class, such as torch.optim.{path}")
    try:
        module = importlib.import_module(module_path)
    except MissingExtraError:
        raise
    except ImportError as error:
        raise InputError(f"{option}={path}: cannot import {module_path} ({error})") from error
    if not callable(getattr(module, name, None)):
        raise InputError(f"{option}={path}: {module_path} has no class {name}{nearest(name, dir(module))}")
    return lazy(path)


def path_of(value: Any) -> str | None:
    """The dotted path of a class, a function or a placeholder.

    Args:
        value: Anything that a recipe can hold.

    Returns:
        The path; None for plain values.
    """
    if isinstance(value, (LazyObject, LazyAttr)):
        return f"{value.module}.{value}"
    if inspect.isclass(value) or inspect.isroutine(value):
        return f"{value.__module__}.{value.__qualname__}"
    return None


def build_class(value: Any) -> Any:
    """The class behind a ``type`` of a recipe.

    Args:
        value: A placeholder, a class, or a dotted path.

    Returns:
        The class or function, imported if need be.

    Raises:
        InputError: It cannot be imported.
    """
    placeholder = lazy(value) if isinstance(value, str) else value
    if not isinstance(placeholder, (LazyObject, LazyAttr)):
        return placeholder
    try:
        return placeholder.build()
    except MissingExtraError:
        raise
    except ImportError as error:
        raise InputError(f"the recipe names {path_of(placeholder)}, which cannot be imported: {error}") from error


def parameters_of(target: Any) -> tuple[frozenset[str], bool]:
    """Which keyword arguments a class or function takes.

    ``**kwargs`` of a class are followed to its bases, as long as those have them too.

    Args:
        target: A class or function.

    Returns:
        The names, and whether any other name is taken as well.
    """
    names: set[str] = set()
    for function in _initialisers(target):
        try:
            parameters = inspect.signature(function).parameters.values()
        except (TypeError, ValueError):  # written in C, with no signature
            return frozenset(names), True
        kinds = {parameter.name: parameter.kind for parameter in parameters}
        names.update(name for name, kind in kinds.items() if kind not in _VARIADIC)
        if inspect.Parameter.VAR_KEYWORD not in kinds.values():
            return frozenset(names - {"self"}), False
    return frozenset(names - {"self"}), True


def fit_loss(loss: dict[str, Any], *, num_classes: int, num_samples: int) -> None:
    """Set the sizes that a loss over classes needs, in its config.

    Args:
        loss: The config. ``num_classes`` and ``num_samples`` are set where they stand in it already, the latter also
            where the loss remembers samples.
        num_classes: Number of classes of the training set.
        num_samples: Number of samples of the training set.
    """
    if "num_classes" in loss:
        loss["num_classes"] = num_classes
    if "num_samples" in loss or getattr(build_class(loss["type"]), "remembers_samples", False):
        loss["num_samples"] = num_samples


def nearest(name: str, candidates: Iterable[str]) -> str:
    """The end of an error message that offers the nearest known name.

    Args:
        name: What came.
        candidates: What is known.

    Returns:
        ``: did you mean ...?`` or nothing.
    """
    names = sorted(set(candidates))
    folded = {candidate.lower(): candidate for candidate in reversed(names)}
    close = difflib.get_close_matches(name.lower(), folded, n=1, cutoff=0.6)
    return f": did you mean {folded[close[0]]}?" if close else ""


_VARIADIC = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)


def _initialisers(target: Any) -> list[Any]:
    if not inspect.isclass(target):
        return [target]
    own = [vars(base).get("__init__") for base in target.__mro__[:-1]]
    return [function for function in own if function is not None] or [target]

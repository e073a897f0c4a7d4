"""Lazy package fronts: the public names stand once, in the package's ``__init__.pyi``, and load on first use.

Importing a robustvision package therefore pulls no torch, and a name whose libraries are not installed says which
extra brings them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import lazy_loader

from robustvision.core.errors import MissingExtraError

Front = tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]


def attach_stub(package: str, file: str, *, extra: str = "train") -> Front:
    """Attach the names of ``__init__.pyi`` to a package.

    Args:
        package: The package's ``__name__``.
        file: The package's ``__file__``; the stub lies beside it.
        extra: The extra that brings what the names need.

    Returns:
        ``__getattr__``, ``__dir__`` and ``__all__`` for the package's namespace.
    """
    load, names, public = lazy_loader.attach_stub(package, file)

    def __getattr__(name: str) -> Any:  # noqa: N807
        try:
            return load(name)
        except ModuleNotFoundError as error:
            if error.name is None or error.name.startswith("robustvision"):
                raise
            distribution = "-".join(package.split(".")[:2])
            raise MissingExtraError(
                f"{package}.{name} needs {error.name}: pip install '{distribution}[{extra}]'", name=error.name
            ) from error

    return __getattr__, names, public

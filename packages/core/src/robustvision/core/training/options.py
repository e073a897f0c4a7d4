"""``--cfg-options``: values by dotted path, as on a command line; :mod:`.merging` puts them into a recipe."""

from __future__ import annotations

import ast
from collections.abc import Iterable
from typing import Any

from robustvision.core.errors import InputError

_WORDS = {"true": True, "false": False, "none": None, "null": None}


def parse_cfg_options(options: Iterable[str]) -> dict[str, Any]:
    """Read ``path=value`` pairs.

    Values are Python literals: numbers (``1e-3``), lists, tuples, dicts, quoted strings. ``true``, ``false`` and
    ``none`` count in any case, also inside brackets, and so do bare words, which are strings.

    Args:
        options: What stood on the command line, such as ``["train_cfg.max_epochs=3"]``.

    Returns:
        The values by dotted path; of a path that came twice, the last.

    Raises:
        InputError: A pair has no ``=``, or an empty or broken path.

    Examples:
        >>> parse_cfg_options(["a.lr=1e-3", "a.size=(112, 96)", "b.0.names=[x, None, true]", "c=runs/x y"])
        {'a.lr': 0.001, 'a.size': (112, 96), 'b.0.names': ['x', None, True], 'c': 'runs/x y'}
    """
    parsed: dict[str, Any] = {}
    for option in options:
        path, sign, text = option.partition("=")
        path = path.strip()
        if not sign or not all(part.isidentifier() or part.isdigit() for part in path.split(".")):
            raise InputError(f"--cfg-options {option}: expected a dotted path and a value, as train_cfg.max_epochs=3")
        parsed[path] = _parse_value(text.strip())
    return parsed


def _parse_value(text: str) -> Any:
    try:
        return _literal(ast.parse(text, mode="eval").body, text)
    except (SyntaxError, ValueError, TypeError, MemoryError, RecursionError):
        return text


def _literal(node: ast.AST, text: str) -> Any:
    """A literal whose bare words are strings; anything else raises, and the whole text stays a string."""
    if isinstance(node, ast.Name):
        return _WORDS.get(node.id.lower(), node.id)
    if isinstance(node, ast.Attribute):  # the dotted path of a class
        return ast.get_source_segment(text, node)
    if isinstance(node, (ast.List, ast.Tuple)):
        values = [_literal(element, text) for element in node.elts]
        return values if isinstance(node, ast.List) else tuple(values)
    if isinstance(node, ast.Dict):
        pairs = zip(node.keys, node.values, strict=True)
        return {_literal(key, text): _literal(value, text) for key, value in pairs if key is not None}
    return ast.literal_eval(node)

"""Finding the numbered folders and files of a data set, in the order of their numbers: 2 before 10."""

from __future__ import annotations

import re
from pathlib import Path

from robustvision.core.errors import InputError


def numbered(root: Path, pattern: str, expected: str) -> list[tuple[tuple[int, ...], Path]]:
    """List the entries of a folder whose whole name matches a pattern.

    Args:
        root: The folder.
        pattern: A regular expression; its groups are the numbers.
        expected: What the folder should hold, for messages.

    Returns:
        Numbers and path of each entry, sorted by the numbers (a directory listing has no order of its own).

    Raises:
        InputError: It is no folder, or nothing in it matches.
    """
    if not root.is_dir():
        raise InputError(f"{root} is not a folder: give the one that holds {expected}")
    names = sorted(root.iterdir())
    matches = [(re.fullmatch(pattern, path.name), path) for path in names]
    found = [(tuple(map(int, match.groups())), path) for match, path in matches if match]
    if not found:
        held = ", ".join(path.name for path in names[:3]) or "nothing"
        raise InputError(f"{root} holds {held}{', ...' if len(names) > 3 else ''}; expected {expected}")
    return sorted(found)

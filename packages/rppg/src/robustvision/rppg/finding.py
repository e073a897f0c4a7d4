"""What a check found."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

Level = Literal["error", "warning"]


@dataclass(frozen=True)
class Finding:
    """Something that makes a reading unreliable.

    Attributes:
        level: "error": do not trust a reading; "warning": it may be worse for it, or cannot be verified.
        where: The file.
        what: What was found, with numbers.
        advice: What to change.
    """

    level: Level
    where: str
    what: str
    advice: str


Findings = Iterator[Finding]

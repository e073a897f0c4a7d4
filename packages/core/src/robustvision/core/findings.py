"""What a domain's ``check`` found wrong with a file or a data set, before it costs a training run or a wrong answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Level = Literal["error", "warning"]


@dataclass(frozen=True)
class Finding:
    """Something wrong.

    Attributes:
        level: "error": what was checked cannot be used, or not be trusted; "warning": it may be meant, or may do harm.
        where: File, file and line, or folder.
        what: What is wrong, with numbers.
        advice: What to do.
    """

    level: Level
    where: str
    what: str
    advice: str

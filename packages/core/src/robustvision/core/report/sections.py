"""What the template reads: sections, and values as they are shown."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from robustvision.core.evaluation import Interval

Kind = Literal["tiles", "table", "plot", "figure", "pictures", "text", "code"]


@dataclass(frozen=True)
class Value:
    """A value as the page shows it.

    Attributes:
        text: The value.
        detail: Its interval, smaller; may be empty.
        is_number: Whether a column of such values is set to the right.
    """

    text: str
    detail: str = ""
    is_number: bool = False


@dataclass(frozen=True)
class Picture:
    """A picture as the page shows it."""

    source: str
    caption: str
    width_px: int


@dataclass(frozen=True)
class Section:
    """One section of the page; ``kind`` says which of the other fields the template reads."""

    kind: Kind
    title: str
    half_width: bool = False
    tiles: tuple[tuple[str, Value], ...] = ()
    columns: tuple[str, ...] = ()
    are_numbers: tuple[bool, ...] = ()
    rows: tuple[tuple[Value, ...], ...] = ()
    plot: str = ""
    x: str = ""
    y: str = ""
    key: tuple[tuple[str, str], ...] = ()
    pictures: tuple[Picture, ...] = ()
    column_px: int = 160
    paragraphs: tuple[str, ...] = ()
    note: str = ""


def as_value(value: Any) -> Value:
    """How a value is shown.

    Args:
        value: Anything.

    Returns:
        Its text.

    Example:
        >>> as_value(0.123456).text, as_value(1234567.0).text, as_value(None).text, as_value(True).text
        ('0.1235', '1,234,567', '–', 'yes')
    """
    if isinstance(value, Interval):
        has_ends = np.isfinite([value.low, value.high]).all()
        return Value(_number(value.estimate), f"{_number(value.low)} – {_number(value.high)}" if has_ends else "", True)
    if value is None:
        return Value("–", "", True)
    if isinstance(value, bool | np.bool_):
        return Value("yes" if value else "no")
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, int):
        return Value(f"{value:,}" if abs(value) >= 10_000 else str(value), "", True)
    if isinstance(value, float):
        return Value(_number(value), "", True)
    return Value(str(value))


def _number(value: float) -> str:
    if np.isnan(value):
        return "n/a"
    if np.isinf(value):
        return "∞" if value > 0 else "−∞"
    return f"{value:,.0f}" if 1e4 <= abs(value) < 1e15 else f"{value:.4g}"

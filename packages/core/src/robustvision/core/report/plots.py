"""Plots as inline SVG that takes its colours from the page, so that it reads on light, dark and paper.

matplotlib draws ink and grid in two stand-in colours, which are then replaced by the page's CSS variables. Titles, axis
names and keys are not drawn: the page sets them as text.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import matplotlib
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from robustvision.core.errors import InputError
from robustvision.core.evaluation import Interval

Log = Literal["", "x", "y", "xy"]
Series = Mapping[str, Any]

COLOURS = ("#3b7dd8", "#e0732c", "#2a9d6f", "#c4488c", "#8a63d2", "#b38a00", "#159ba8", "#d1495b")
"""One a series, in turn; each is readable on white and on near-black."""

_INK, _GRID = "#0a0b0c", "#0a0b0d"  # replaced by CSS variables
_PAGE_COLOURS = {_INK: "var(--muted)", _GRID: "var(--line)"}
_STYLE: Any = {  # matplotlib's type lists every key
    "path.simplify_threshold": 0.4,  # pixels: a line of a million steps becomes some thousand points
    "svg.fonttype": "none",
    "svg.hashsalt": "robustvision",
    "font.size": 9,
    "axes.edgecolor": _INK,
    "axes.labelcolor": _INK,
    "text.color": _INK,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "grid.color": _GRID,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.axisbelow": True,
    "axes.formatter.use_mathtext": False,
    "axes.formatter.limits": (-4, 5),
    "ytick.major.size": 0,
    "lines.solid_joinstyle": "round",
}


@dataclass(frozen=True)
class Line:
    """One line of a plot.

    Attributes:
        name: Its name in the key.
        x: ``[n]``.
        y: ``[n]``; NaN makes a gap.
        low: Lower ends of the intervals, or None.
        high: Upper ends, or None.
    """

    name: str
    x: npt.NDArray[np.float64]
    y: npt.NDArray[np.float64]
    low: npt.NDArray[np.float64] | None = None
    high: npt.NDArray[np.float64] | None = None


def as_lines(series: Series) -> list[Line]:
    """Read what :meth:`Report.curves` takes.

    Args:
        series: Name -> y, or name -> ``(x, y)``; y holds numbers, None or :class:`Interval`.

    Returns:
        The lines; what is not finite is NaN, and x counts from 0 where it is not given.

    Raises:
        InputError: If x and y differ in length, or are not one-dimensional numbers.
    """
    return [_as_line(str(name), data) for name, data in series.items()]


def _as_line(name: str, data: Any) -> Line:
    is_pair = (
        isinstance(data, tuple) and len(data) == 2 and all(isinstance(part, Sequence | np.ndarray) for part in data)
    )
    values = data[1] if is_pair else data
    low = high = None
    if not isinstance(values, np.ndarray) and any(isinstance(value, Interval) for value in values):
        ends = [(v.low, v.high) if isinstance(v, Interval) else (None, None) for v in values]
        low, high = (as_numbers([end[side] for end in ends], name) for side in (0, 1))
        values = [value.estimate if isinstance(value, Interval) else value for value in values]
    y = as_numbers(values, name)
    x = as_numbers(data[0], name) if is_pair else np.arange(y.size, dtype=np.float64)
    if x.size != y.size:
        raise InputError(f"series {name!r} has {x.size} x values and {y.size} y values: expected as many of both")
    return Line(name, x, y, low, high)


def as_numbers(values: Any, name: str) -> npt.NDArray[np.float64]:
    """Values as float64, with NaN for None and for what is not finite.

    Args:
        values: One-dimensional.
        name: For the error.

    Returns:
        ``[n]``.

    Raises:
        InputError: If they are not one-dimensional numbers.
    """
    try:
        items = values if isinstance(values, np.ndarray) else [np.nan if v is None else v for v in values]
        numbers = np.array(items, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"series {name!r} holds something else than numbers: {error}") from error
    if numbers.ndim != 1:
        raise InputError(f"series {name!r} has shape {numbers.shape}: expected one dimension")
    numbers[~np.isfinite(numbers)] = np.nan
    return numbers


@matplotlib.rc_context(_STYLE)
def draw_lines(lines: Sequence[Line], *, log: Log = "", smooth: bool = False, half_width: bool = False) -> str:
    """Draw lines over a common x.

    Args:
        lines: From :func:`as_lines`.
        log: Which axes are logarithmic; values that are not positive become gaps there.
        smooth: Draw a moving average over the fainter values, where a line has more than 100.
        half_width: For a plot that takes half of the page.

    Returns:
        SVG.
    """
    figure, axes = _axes(half_width=half_width)
    if not any(np.isfinite(line.y).any() for line in lines):
        return _empty_svg(figure, axes)
    if "x" in log:
        axes.set_xscale("log")
    if "y" in log:
        axes.set_yscale("log")
    for line, colour in zip(lines, _colours(len(lines)), strict=True):
        x = np.where(line.x > 0, line.x, np.nan) if "x" in log else line.x
        y = np.where(line.y > 0, line.y, np.nan) if "y" in log else line.y
        if line.low is not None and line.high is not None:
            axes.fill_between(x, line.low, line.high, color=colour, alpha=0.18, linewidth=0)
        is_smoothed = smooth and y.size > 100
        style: dict[str, Any] = {"linewidth": 0.8, "alpha": 0.35} if is_smoothed else {"linewidth": 1.7}
        axes.plot(x, y, color=colour, **style)
        if is_smoothed:
            axes.plot(x, _moving_average(y), color=colour, linewidth=1.9)
        dots = _alone(x + y) if y.size > 40 else np.isfinite(x + y)
        axes.plot(x[dots], y[dots], "o", color=colour, markersize=3.5)
    return _svg(figure)


@matplotlib.rc_context(_STYLE)
def draw_bars(values: Mapping[str, float | Interval | None], *, half_width: bool = False) -> str:
    """Draw horizontal bars from 0, with whiskers where a value has an interval.

    Args:
        values: Label -> value; what is not finite leaves its place empty.
        half_width: For a plot that takes half of the page.

    Returns:
        SVG.
    """
    height = max(2.2 if half_width else 0.0, 0.55 + 0.34 * max(1, len(values)))  # beside a line plot, nearly as high
    figure, axes = _axes(half_width=half_width, height=height)
    estimates = as_numbers([v.estimate if isinstance(v, Interval) else v for v in values.values()], "bars")
    if not np.isfinite(estimates).any():
        return _empty_svg(figure, axes)
    axes.barh(np.arange(estimates.size), np.nan_to_num(estimates), height=0.62, color=COLOURS[0], alpha=0.85)
    for i, value in enumerate(values.values()):
        end = estimates[i]
        if isinstance(value, Interval) and np.isfinite([value.low, value.high]).all():
            axes.plot([value.low, value.high], [i, i], color=_INK, linewidth=1.4, marker="|", markersize=7)
            end = max(end, value.high) if end >= 0 else min(end, value.low)
        if np.isfinite(end):
            side = 1 if end >= 0 else -1
            number = axes.annotate(f"{estimates[i]:.4g}", (end, i), xytext=(7 * side, 0), textcoords="offset points")
            number.set(ha="left" if side > 0 else "right", va="center_baseline", color=_INK)
    axes.margins(x=0.08)
    axes.set_yticks(np.arange(estimates.size), [str(label) for label in values])
    for label in axes.get_yticklabels():
        label.set_parse_math(False)  # a label is not a formula, whatever it holds
    axes.invert_yaxis()
    axes.grid(axis="y", visible=False)
    axes.axvline(0, color=_INK, linewidth=0.8)
    axes.spines["bottom"].set_visible(False)
    return _svg(figure)


@matplotlib.rc_context(_STYLE)
def draw_histogram(samples: Mapping[str, npt.NDArray[np.float64]], bins: int, *, half_width: bool = False) -> str:
    """Draw the distributions of samples over common bins, each as shares of its own size.

    Args:
        samples: Name -> finite values ``[n]``; may be empty.
        bins: Number of bins over the range of all of them.
        half_width: For a plot that takes half of the page.

    Returns:
        SVG.
    """
    figure, axes = _axes(half_width=half_width)
    everything = np.concatenate([*samples.values(), np.empty(0)])
    if everything.size == 0:
        return _empty_svg(figure, axes)
    edges = np.histogram_bin_edges(everything, bins)
    for values, colour in zip(samples.values(), _colours(len(samples)), strict=True):
        shares = np.histogram(values, edges)[0] / max(1, values.size)
        axes.stairs(shares, edges, fill=True, color=colour, alpha=0.25)
        axes.stairs(shares, edges, color=colour, linewidth=1.5)
    axes.set_ylim(bottom=0)
    return _svg(figure)


def _colours(count: int) -> list[str]:
    return [COLOURS[i % len(COLOURS)] for i in range(count)]


def _axes(*, half_width: bool, height: float = 2.7) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(5.0 if half_width else 10.2, height), layout="constrained")
    figure.patch.set_alpha(0)
    axes = figure.add_subplot()
    axes.patch.set_alpha(0)
    axes.grid(linewidth=0.8)
    axes.margins(x=0.015)
    return figure, axes


def _empty_svg(figure: Figure, axes: Axes) -> str:
    axes.set_axis_off()
    axes.text(0.5, 0.5, "no finite values", transform=axes.transAxes, ha="center", va="center", color=_INK)
    return _svg(figure)


def _svg(figure: Figure) -> str:
    """The figure as an SVG element without anything that names another document."""
    stream = io.StringIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph")  # text stays text: the reader's fonts have the glyph
        figure.savefig(stream, format="svg", transparent=True)
    text = stream.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>|<!--.*?-->", "", text, flags=re.DOTALL)
    viewbox = re.search(r'viewBox="[^"]*"', text)
    text = re.sub(r"<svg[^>]*>", f"<svg {viewbox.group() if viewbox else ''}>", text, count=1)
    text = re.sub(r"font-family: [^;\"]*;? ?", "", text)  # the page's own typeface
    for stand_in, page_colour in _PAGE_COLOURS.items():
        text = text.replace(stand_in, page_colour)
    return re.sub(r"\s*\n\s*", "\n", text).strip()


def _moving_average(y: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Centred average over about a fiftieth of the line, of what is finite there; gaps stay gaps."""
    finite = np.isfinite(y)
    total = np.cumsum(np.r_[0.0, np.where(finite, y, 0.0)])
    count = np.cumsum(np.r_[0, finite])
    place = np.arange(y.size)
    start, end = np.maximum(place - y.size // 100, 0), np.minimum(place + y.size // 100 + 1, y.size)
    return np.where(finite, (total[end] - total[start]) / np.maximum(count[end] - count[start], 1), np.nan)


def _alone(y: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
    """Finite values between two gaps, which a line would not show."""
    gap = np.isnan(np.pad(y, 1, constant_values=np.nan))
    return ~gap[1:-1] & gap[:-2] & gap[2:]

"""A report: sections in the order in which they were added, written as one HTML file."""

from __future__ import annotations

import datetime
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import numpy.typing as npt
from markupsafe import Markup
from matplotlib.figure import Figure

from robustvision.core.evaluation import Interval, library_versions
from robustvision.core.runtime.files import write_atomically

from .pictures import encode_figure, encode_picture
from .plots import COLOURS, Log, Series, as_lines, as_numbers, draw_bars, draw_histogram, draw_lines
from .sections import Kind, Picture, Section, as_value

_TEMPLATES = Path(__file__).parent / "templates"


@dataclass
class Report:
    """A page about a run; every method adds a section and returns the report.

    All text is escaped. Values are shown with four digits; an :class:`~robustvision.core.evaluation.Interval` is shown
    with its ends, None as a dash, and what is not a number as n/a.

    Args:
        title: The heading.
        subtitle: One sentence below it.
        facts: What a reader needs to repeat it, such as ``{"Seed": 0, "Recipe": "tiny"}``.
        when: When it was run; now, if not given.
        versions: Library -> version; of this environment, if not given.
        sections: What the methods have added.

    Example:
        >>> report = Report("A run", facts={"Seed": 0}).metrics({"Accuracy": 0.9312}).text("It went well.")
        >>> "0.9312" in report.html()
        True
    """

    title: str
    subtitle: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)
    when: datetime.datetime = field(default_factory=lambda: datetime.datetime.now().astimezone())
    versions: Mapping[str, str] = field(default_factory=library_versions)
    sections: list[Section] = field(default_factory=list, init=False)

    def metrics(self, values: Mapping[str, Any], title: str = "Metrics") -> Report:
        """Add tiles with one number each.

        Args:
            values: Name -> number, :class:`Interval` or text.
            title: The section's heading.

        Returns:
            The report.
        """
        return self._add("tiles", title, tiles=tuple((str(name), as_value(value)) for name, value in values.items()))

    def table(self, rows: Sequence[Mapping[str, Any]], title: str = "", *, note: str = "") -> Report:
        """Add a table.

        Args:
            rows: Column -> value; the columns of all rows in the order in which they appear, missing ones as a dash.
            title: The section's heading.
            note: A line below the table.

        Returns:
            The report.
        """
        columns = tuple(dict.fromkeys(str(column) for row in rows for column in row))
        by_name = [{str(column): value for column, value in row.items()} for row in rows]
        cells = tuple(tuple(as_value(row.get(column)) for column in columns) for row in by_name)
        are_numbers = tuple(all(row[i].is_number for row in cells) for i in range(len(columns)))
        return self._add("table", title, columns=columns, are_numbers=are_numbers, rows=cells, note=note)

    def curves(
        self,
        series: Series,
        title: str = "",
        x: str = "",
        y: str = "",
        *,
        log: Log = "",
        smooth: bool = False,
        half_width: bool = False,
        note: str = "",
    ) -> Report:
        """Add a line plot.

        Args:
            series: Name -> y values, or name -> ``(x values, y values)``. An :class:`Interval` among the y values draws
                a band. What is not finite (NaN, infinite, None) makes a gap.
            title: The section's heading.
            x: Name of the horizontal axis, with its unit.
            y: Name of the vertical axis, with its unit.
            log: Which axes are logarithmic: ``""``, ``"x"``, ``"y"`` or ``"xy"``.
            smooth: Draw a moving average over the values, where a line has more than 100.
            half_width: Take half of the page's width; two such sections in a row stand side by side.
            note: A line below the plot.

        Returns:
            The report.

        Raises:
            InputError: If a series is not numbers, or x and y differ in length.
        """
        lines = as_lines(series)
        drawing = draw_lines(lines, log=log, smooth=smooth, half_width=half_width)
        return self._plot(drawing, title, [line.name for line in lines], x=x, y=y, half_width=half_width, note=note)

    def bars(
        self,
        values: Mapping[str, float | Interval | None],
        title: str = "",
        x: str = "",
        *,
        half_width: bool = False,
        note: str = "",
    ) -> Report:
        """Add horizontal bars, with whiskers for intervals.

        Args:
            values: Label -> number or :class:`Interval`.
            title: The section's heading.
            x: What the bars measure, with its unit.
            half_width: Take half of the page's width.
            note: A line below the plot.

        Returns:
            The report.

        Raises:
            InputError: If a value is not a number.
        """
        return self._plot(draw_bars(values, half_width=half_width), title, [], x=x, half_width=half_width, note=note)

    def histogram(
        self,
        samples: Mapping[str, npt.ArrayLike],
        title: str = "",
        x: str = "",
        *,
        bins: int = 40,
        half_width: bool = False,
        note: str = "",
    ) -> Report:
        """Add the distributions of samples, each as shares of its own size.

        Args:
            samples: Name -> values; what is not finite is left out, and the note says how many.
            title: The section's heading.
            x: What was measured, with its unit.
            bins: Number of bins over the range of all samples.
            half_width: Take half of the page's width.
            note: A line below the plot.

        Returns:
            The report.

        Raises:
            InputError: If a sample is not numbers.
        """
        numbers = {str(name): as_numbers(values, str(name)) for name, values in samples.items()}
        finite = {name: values[np.isfinite(values)] for name, values in numbers.items()}
        lost = sum(values.size for values in numbers.values()) - sum(values.size for values in finite.values())
        if lost:
            note = f"{note} {lost} values are not finite and not shown.".strip()
        drawing = draw_histogram(finite, bins, half_width=half_width)
        return self._plot(drawing, title, list(finite), x=x, y="share", half_width=half_width, note=note)

    def figure(self, figure: Figure, caption: str = "", title: str = "", *, half_width: bool = False) -> Report:
        """Add a matplotlib figure as it is, on white.

        Args:
            figure: The figure.
            caption: A line below it.
            title: The section's heading.
            half_width: Take half of the page's width.

        Returns:
            The report.
        """
        picture = Picture(encode_figure(figure), caption, 0)
        return self._add("figure", title, pictures=(picture,), half_width=half_width)

    def pictures(
        self,
        images: Sequence[npt.NDArray[Any] | tuple[npt.NDArray[Any], str]],
        title: str = "",
        *,
        note: str = "",
    ) -> Report:
        """Add a grid of pictures.

        Args:
            images: RGB ``[h, w, 3]`` or grey ``[h, w]``, uint8, each alone or as ``(image, caption)``. Up to 512 x 512
                pixels they are kept exactly.
            title: The section's heading.
            note: A line below the grid.

        Returns:
            The report.

        Raises:
            InputError: If an image is something else.
        """
        captioned = [image if isinstance(image, tuple) else (image, "") for image in images]
        pictures = tuple(
            Picture(encode_picture(image, f"picture {i}"), str(caption), np.shape(image)[1])
            for i, (image, caption) in enumerate(captioned)
        )
        widest = max((picture.width_px for picture in pictures), default=0)
        return self._add("pictures", title, pictures=pictures, column_px=min(max(widest, 112), 480), note=note)

    def text(self, text: str, title: str = "", *, is_code: bool = False) -> Report:
        """Add text.

        Args:
            text: Plain text; empty lines separate paragraphs.
            title: The section's heading.
            is_code: Show it as it is, in a typewriter face.

        Returns:
            The report.
        """
        parts = (text,) if is_code else tuple(part.strip() for part in re.split(r"\n\s*\n", text) if part.strip())
        return self._add("code" if is_code else "text", title, paragraphs=parts)

    def html(self) -> str:
        """The whole page.

        Returns:
            HTML.
        """
        loader = jinja2.FileSystemLoader(_TEMPLATES)
        environment = jinja2.Environment(
            loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
        )
        facts = {str(name): as_value(value) for name, value in self.facts.items()}
        when = f"{self.when:%Y-%m-%d %H:%M %Z}".strip()
        return environment.get_template("report.html.j2").render(report=self, facts=facts, when=when)

    def write(self, path: str | os.PathLike[str]) -> Path:
        """Write the page; it appears whole or not at all.

        Args:
            path: The file, such as ``report.html``; its folder is made.

        Returns:
            The path.
        """
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        with write_atomically(target) as temporary:
            temporary.write_text(self.html(), encoding="utf-8")
        return target

    def _plot(self, drawing: str, title: str, names: Sequence[str], **fields: Any) -> Report:
        prefix = f"p{len(self.sections)}-"  # ids must not meet those of another plot
        drawing = re.sub(r'\bid="', f'id="{prefix}', drawing)
        drawing = re.sub(r'(href="#|url\(#)', rf"\g<1>{prefix}", drawing)
        key = tuple((name, COLOURS[i % len(COLOURS)]) for i, name in enumerate(names)) if len(names) > 1 else ()
        return self._add("plot", title, plot=Markup(drawing), key=key, **fields)

    def _add(self, kind: Kind, title: str, **fields: Any) -> Report:
        self.sections.append(Section(kind, title, **fields))
        return self

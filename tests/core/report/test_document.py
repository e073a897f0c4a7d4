"""The page: self-contained, escaped, true to what it was given."""

from __future__ import annotations

import datetime
from pathlib import Path

import cv2
import matplotlib
import numpy as np
import pytest
from matplotlib.figure import Figure

from robustvision.core.errors import InputError
from robustvision.core.evaluation import Interval, wilson_interval
from robustvision.core.report import Report

EVIL = "<script>alert('x')</script>&\"$\\frac"
WHEN = datetime.datetime(2026, 1, 2, 3, 4, tzinfo=datetime.UTC)


def full_report() -> Report:
    rng = np.random.default_rng(0)
    figure = Figure(figsize=(3, 2))
    figure.add_subplot().plot([1, 2, 3])
    return (
        Report("A run", "what it was", facts={"Seed": 7}, when=WHEN, versions={"python": "3.11"})
        .metrics({"accuracy": wilson_interval(90, 100), "loss": 0.25, "where": "here"})
        .table([{"name": "a", "value": 1.5}, {"name": "b", "value": None, "more": True}], "Rows", note="a note")
        .curves({"one": rng.normal(size=300), "two": ([1, 2, 3], [1.0, None, 2.0])}, "Curves", "step", "loss")
        .curves({"one": [1.0, 2.0, 3.0]}, "More curves", half_width=True, log="xy")
        .bars({"x": Interval(0.5, 0.4, 0.6, 0.95), "y": -0.2, "z": None}, "Bars", half_width=True)
        .histogram({"a": rng.normal(size=50), "b": [1.0, np.nan]}, "Histogram", "angle (degrees)")
        .figure(figure, "a caption", "Figure")
        .pictures([(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8), "noise")], "Pictures")
        .text("one\n\ntwo", "Words")
        .text("def f():\n    pass", "Code", is_code=True)
    )


def test_the_page_is_whole_and_loads_nothing(read_page, tmp_path: Path) -> None:
    path = full_report().write(tmp_path / "new" / "report.html")
    page = read_page(path.read_text(encoding="utf-8"))
    headings = ["Metrics", "Rows", "Curves", "More curves", "Bars", "Histogram", "Figure", "Pictures", "Words", "Code"]
    shown = [text for text in page.texts if text in headings]
    assert shown == headings * 2  # once in the list of sections, once above each
    for text in (
        "A run",
        "what it was",
        "Seed",
        "7",
        "2026-01-02 03:04 UTC",
        "python 3.11",
        "noise",
        "a caption",
        "one",
    ):
        assert text in page.texts
    assert [p.name for p in path.parent.iterdir()] == ["report.html"]


def test_the_same_report_is_the_same_file() -> None:
    assert full_report().html() == full_report().html()


def test_everything_from_outside_is_escaped(read_page) -> None:
    image = np.zeros((4, 4, 3), np.uint8)
    report = (
        Report(EVIL, EVIL, facts={EVIL: EVIL}, versions={EVIL: EVIL})
        .metrics({EVIL: EVIL}, EVIL)
        .table([{EVIL: EVIL}], EVIL, note=EVIL)
        .curves({EVIL: [1.0, 2.0], "b": [2.0, 1.0]}, EVIL, EVIL, EVIL, note=EVIL)
        .bars({EVIL: 1.0}, EVIL, EVIL)
        .histogram({EVIL: [1.0, 2.0], "b": [1.0]}, EVIL, EVIL)
        .pictures([(image, EVIL)], EVIL)
        .figure(Figure(), EVIL, EVIL)
        .text(EVIL, EVIL)
        .text(EVIL, EVIL, is_code=True)
    )
    page = read_page(report.html())  # fails on a script element
    assert "<script" not in page.html
    assert page.texts.count(EVIL) > 25
    assert EVIL in page.attributes("img", "alt")


def test_small_pictures_come_back_exactly_and_large_ones_nearly(read_page) -> None:
    rng = np.random.default_rng(0)
    small = rng.integers(0, 256, (112, 96, 3), dtype=np.uint8)
    grey = rng.integers(0, 256, (5, 7), dtype=np.uint8)
    large = cv2.resize(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8), (700, 600), interpolation=cv2.INTER_CUBIC)
    turned = small.transpose(1, 0, 2)[::-1]  # not contiguous
    pictures = read_page(Report("r").pictures([small, (grey, "grey"), large, turned]).html()).pictures()
    np.testing.assert_array_equal(pictures[0], small)
    np.testing.assert_array_equal(pictures[1], grey)
    np.testing.assert_array_equal(pictures[3], turned)
    assert pictures[2].shape == large.shape
    assert np.abs(pictures[2].astype(int) - large).mean() < 2  # and red is still red


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((4, 4, 3), np.float32),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((0, 4, 3), np.uint8),
        np.zeros(4, np.uint8),
    ],
)
def test_what_is_no_picture_is_refused(image: np.ndarray) -> None:
    with pytest.raises(InputError, match="picture 1 has shape"):
        Report("r").pictures([np.zeros((2, 2, 3), np.uint8), image])


def test_values_are_shown_as_a_reader_expects(read_page) -> None:
    values = {
        "float": 0.123456,
        "float32": np.float32(0.5),
        "large": 1234567.8,
        "tiny": 1.25e-9,
        "count": 1234567,
        "year": 2026,
        "nan": float("nan"),
        "inf": float("-inf"),
        "none": None,
        "yes": True,
        "np": np.bool_(False),
        "one seed": Interval(0.5, -np.inf, np.inf, 0.95),
        "seeds": Interval(0.5, 0.25, 0.75, 0.95),
    }
    texts = read_page(Report("r").metrics(values).html()).texts
    start = texts.index("float")
    assert texts[start : start + 27] == [
        "float", "0.1235", "float32", "0.5", "large", "1,234,568", "tiny", "1.25e-09", "count", "1,234,567",
        "year", "2026", "nan", "n/a", "inf", "−∞", "none", "–", "yes", "yes", "np", "no", "one seed", "0.5",
        "seeds", "0.5", "0.25 – 0.75",
    ]  # fmt: skip


def test_a_table_has_all_columns_of_all_rows_and_numbers_stand_right(read_page) -> None:
    page = read_page(Report("r").table([{"name": "a", "x": 1.0}, {"x": None, "y": "text", "name": "b"}]).html())
    start = page.texts.index("name")
    assert page.texts[start : start + 9] == ["name", "x", "y", "a", "1", "–", "b", "–", "text"]
    classes = [attributes.get("class") for tag, attributes in page.elements if tag == "td"]
    assert classes == [None, "number", None] * 2


def test_what_is_empty_says_so(read_page) -> None:
    report = Report("r").table([], "T").pictures([], "P").curves({}, "C").curves({"a": [None, np.nan]}, "D")
    page = read_page(report.histogram({"a": [np.inf]}, "H").bars({}, "B").bars({"a": None}).metrics({}).text("").html())
    assert page.texts.count("nothing to show") == 2
    assert page.texts.count("no finite values") == 5
    assert "1 values are not finite and not shown." in page.texts


def test_gaps_stay_gaps(read_page) -> None:
    whole = read_page(Report("r").curves({"a": [1, 2, 3, 4, 5, 6]}).html()).lines()
    broken = read_page(Report("r").curves({"a": [1, 2, None, float("inf"), 5, 6]}).html()).lines()
    not_positive = read_page(Report("r").curves({"a": [1, 2, 0, -1, 5, 6]}, log="y").html()).lines()
    assert [path.count("M") for path in (*whole, *broken, *not_positive)] == [1, 2, 2]
    assert all("nan" not in path.lower() for path in (*whole, *broken, *not_positive))


def test_a_value_between_two_gaps_is_seen(read_page) -> None:
    values = np.full(200, np.nan)
    values[[0, 50, 51, 100]] = 1.0
    dots = read_page(Report("r").curves({"a": values}).html())
    uses = [
        attributes for tag, attributes in dots.elements if tag == "use" and "#3b7dd8" in attributes.get("style", "")
    ]
    assert len(uses) == 2


def test_long_lines_keep_their_extremes_and_little_else(read_page) -> None:
    values = np.random.default_rng(0).normal(size=200_000)
    values[123_456], values[77_777] = 50.0, -50.0
    html = Report("r").curves({"a": values}, smooth=True).html()
    raw, average = read_page(html).lines()
    heights = [float(y) for _, y in (point.split()[:2] for point in raw.replace("M", "L").split("L")[1:])]
    usual = float(np.median(heights))
    assert min(heights) - usual < -60  # the one spike up, and the one down, are drawn
    assert max(heights) - usual > 60
    assert len(average) < len(raw)
    assert len(html) < 400_000


def test_curves_refuse_what_they_cannot_draw() -> None:
    with pytest.raises(InputError, match="3 x values and 2 y values"):
        Report("r").curves({"a": ([1, 2, 3], [1, 2])})
    with pytest.raises(InputError, match="else than numbers"):
        Report("r").curves({"a": ["low", "high"]})
    with pytest.raises(InputError, match="one dimension"):
        Report("r").curves({"a": [[1.0, 2.0]]})


def test_plots_leave_matplotlib_as_it_was() -> None:
    before = matplotlib.rcParams.copy()
    full_report().html()
    assert matplotlib.rcParams.copy() == before


def test_a_page_that_fails_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = Report("old").write(tmp_path / "report.html")
    report = Report("new")
    monkeypatch.setattr(report, "html", lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        report.write(path)
    assert "old" in path.read_text()
    assert list(tmp_path.iterdir()) == [path]

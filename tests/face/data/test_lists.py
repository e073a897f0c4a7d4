"""Lists of images, landmarks and pairs: every form that is allowed, and the line of every one that is not."""

from __future__ import annotations

import numpy as np
import pytest

from robustvision.core.errors import InputError
from robustvision.face.data import read_landmarks, read_pairs
from robustvision.face.data.lists import LANDMARK_COLUMNS, ListEntry, ListError, parse_list

HEADER = ",".join(LANDMARK_COLUMNS) + "\n"
POINTS = ",".join(str(value) for value in range(10))


@pytest.fixture
def write(tmp_path):
    def to_file(text: str | bytes):
        path = tmp_path / "list.txt"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return to_file


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a/1.jpg\t3\n", [("a/1.jpg", 3)]),
        ("a/1.jpg 3\n", [("a/1.jpg", 3)]),
        ("a/with space.jpg 3\n", [("a/with space.jpg", 3)]),
        ("a/with space.jpg\t3\n", [("a/with space.jpg", 3)]),
        ("a/1.jpg 0 3 0\nb/2.jpg 0 12 0\n", [("a/1.jpg", 3), ("b/2.jpg", 12)]),  # MagFace
        ("x 0 3 0\ny 4\n", [("x 0 3", 0), ("y", 4)]),  # not every line has MagFace's form, so none has
        ("\ufeffa.jpg\t0\r\nb.jpg\t1\r\n", [("a.jpg", 0), ("b.jpg", 1)]),  # as Windows writes it
        ("\n# remark\na.jpg\t1\n", [("a.jpg", 1)]),
        ("", []),
    ],
)
def test_forms_of_a_list(write, text, expected):
    entries = list(parse_list(write(text)))
    assert all(isinstance(entry, ListEntry) for entry in entries)
    assert [(entry.path, entry.label) for entry in entries] == expected


def test_line_numbers_count_every_line(write):
    entries = list(parse_list(write("# remark\n\na.jpg\t1\n\nb.jpg\t2\n")))
    assert [entry.line for entry in entries] == [3, 5]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("a.jpg\t1.0", "'1.0' is not a whole number"),
        ("a.jpg\tann", "'ann' is not a whole number"),
        ("a.jpg\tnan", "not a whole number"),
        ("a.jpg\t", "'path<TAB>label'"),
        ("a.jpg\t-1", "-1 is negative"),
        ("a.jpg\t5", "5 is too large for 5 classes"),
        ("a.jpg", "expected 'path<TAB>label'"),
        ("b.jpg 0 1.5 0", "'0'"),
    ],
)
def test_lines_that_cannot_be_understood_are_errors(write, line, message):
    if line.startswith("b.jpg"):
        message = "'1.5' is not a whole number"  # the whole list is MagFace's
        text, number = f"a.jpg 0 4 0\n{line}\n", 2
    else:
        text, number = f"ok.jpg\t4\nalso.jpg\t0\n{line}\n", 3
    *good, error = parse_list(write(text), num_classes=5)
    assert all(isinstance(entry, ListEntry) for entry in good)
    assert isinstance(error, ListError)
    assert error.line == number
    assert message in error.what


def test_a_file_that_is_no_text_is_refused(write, tmp_path):
    with pytest.raises(InputError, match="is not text"):
        list(parse_list(write(b"\xff\xd8\xff\xe0\x00")))
    with pytest.raises(InputError, match="cannot read"):
        list(parse_list(tmp_path / "absent.txt"))


def test_landmarks(write):
    landmarks = read_landmarks(write(f'{HEADER}a/1.jpg,{POINTS}\n"b, c\\2.jpg",{POINTS}\n'))
    assert list(landmarks) == ["a/1.jpg", "b, c/2.jpg"]
    assert landmarks["a/1.jpg"].dtype == np.float32
    assert landmarks["a/1.jpg"].tolist() == [[0, 1], [2, 3], [4, 5], [6, 7], [8, 9]]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", ":1: the columns are"),
        (f"a.jpg,{POINTS}\n", ":1: the columns are"),
        (f"{HEADER}a.jpg,1,2,3\n", ":2: expected a path and ten finite numbers"),
        (f"{HEADER}a.jpg,{POINTS},1\n", ":2: expected a path and ten"),
        (f"{HEADER}\na.jpg,{POINTS[:-1]}x\n", ":3: could not convert"),
        (f"{HEADER}a.jpg,{POINTS[:-1]}nan\n", ":2: expected a path and ten finite"),
        (f"{HEADER}a.jpg,{POINTS}\na.jpg,{POINTS}\n", ":3: a.jpg is there twice"),
    ],
)
def test_landmarks_that_cannot_be_used_are_refused(write, text, message):
    with pytest.raises(InputError, match=message):
        read_landmarks(write(text))


def test_pairs(write):
    pairs = read_pairs(write("a.jpg\tb.jpg\t1\nb.jpg\tc d.jpg\t0\n# remark\na.jpg\tc d.jpg\t0\n"))
    assert pairs.paths == ("a.jpg", "b.jpg", "c d.jpg")
    assert pairs.first.tolist() == [0, 1, 0]
    assert pairs.second.tolist() == [1, 2, 2]
    assert pairs.same.tolist() == [True, False, False]
    assert read_pairs(write("a b 1\nb c 0\n")).paths == ("a", "b", "c")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a b 1\nc d 1\n", "all 2 pairs are of one person"),
        ("a b 0\n", "all 1 pairs are of two persons"),
        ("", "all 0 pairs"),
        ("a b 1\na b 2\n", ":2: expected"),
        ("a b 1\na b\n", ":2: expected"),
        ("a b 0\na a 1\n", ":2: both images are a"),
    ],
)
def test_pairs_that_cannot_be_used_are_refused(write, text, message):
    with pytest.raises(InputError, match=message):
        read_pairs(write(text))

"""KEEL tables: with and without a header, classes in the stated order, every refusal with its line."""

from __future__ import annotations

import numpy as np
import pytest

from robustvision.core.data import read_keel
from robustvision.core.errors import InputError

HEADER = b"""@relation pots
@attribute width real [0.0, 9.5]
@attribute 'pot height' integer [0,30]
@attribute Class{red, green, blue}
@inputs width, 'pot height'
@outputs Class
@data
"""


def test_a_file_with_header():
    table = read_keel(HEADER + b"1.5, 20, blue\n-2e-1,3,red\n")
    assert table.feature_names == ("width", "pot height")
    assert table.class_names == ("red", "green", "blue")
    assert table.labels.tolist() == [2, 0]
    np.testing.assert_array_equal(table.features, [[1.5, 20], [-0.2, 3]])
    assert (table.features.dtype, table.labels.dtype) == (np.float64, np.int64)


def test_a_file_without_header_has_classes_in_ascending_order():
    table = read_keel(b"1,10\n2,9\n3,0\n4,10\n")
    assert table.class_names == ("0", "9", "10")  # as numbers, not as words
    assert table.labels.tolist() == [2, 1, 0, 2]
    assert table.feature_names == ()
    assert read_keel(b"1,Z\n2,A\n3,M\n").class_names == ("A", "M", "Z")


def test_line_ends_blank_lines_and_marks_do_not_matter(tmp_path):
    path = tmp_path / "pots.dat"
    path.write_bytes(b"\xef\xbb\xbf1, a\r\n\r\n2 ,b\r\n")
    table = read_keel(path)
    assert table.features.tolist() == [[1], [2]]
    assert table.labels.tolist() == [0, 1]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "holds no data"),
        (HEADER, "holds no data"),
        (b"1\n2\n", "has 1 column"),
        (b"1,2,a\n1,a\n", ":2 has 2 columns, but line 1 has 3"),
        (HEADER + b"1,2,3,red\n", ":8 has 4 columns, but the header has 3"),
        (b"\n1,2,a\n1,?,a\n", r":3 has '\?' in column 2"),
        (b"1,2,a\n1,,a\n", ":2 has '' in column 2"),
        (b"1,nan,a\n", ":1 has 'nan' in column 2"),
        (b"1e999,2,a\n", ":1 has '1e999' in column 1"),
        (b"1,a\n2,\n", ":2 has the class ''"),
        (HEADER + b"1,2,pink\n", ":8 has the class 'pink'; expected one of red, green, blue"),
        (b"1,a\n@data\n2,b\n", ":2 is a header line below"),
        (b"@attribute\n1,a\n", ":1 is no attribute"),
        (b"@attribute c {a, a}\n1,a\n", "lists a value twice"),
        (b"1,a\n\xff\xfe,b\n", ":2 is no text"),
    ],
)
def test_broken_files_are_refused_with_the_line(content, message):
    with pytest.raises(InputError, match=message):
        read_keel(content)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match=r"cannot read .*none"):
        read_keel(tmp_path / "none.dat")

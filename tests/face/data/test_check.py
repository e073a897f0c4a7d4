"""The check: nothing to say of a sound data set, and one finding for each fault that is put in."""

from __future__ import annotations

import csv

import pytest

from robustvision.core.errors import InputError
from robustvision.face.data import check
from robustvision.face.data.check import MAX_OF_A_KIND
from robustvision.face.data.lists import LANDMARK_COLUMNS


def only(findings):
    (finding,) = findings
    return finding


def test_a_sound_data_set_has_no_findings(tree, face_list):
    assert check(tree) == []
    assert check(face_list, num_classes=3) == []


def test_unreadable_images(tree, write_crop):
    write_crop(tree / "ann" / "2.jpg", (7, 7, 7))
    path = tree / "ann" / "2.jpg"
    path.write_bytes(path.read_bytes()[:-200])
    finding = only(check(tree))
    assert (finding.level, finding.where) == ("error", str(path))
    path.write_bytes(b"")
    assert only(check(tree)).level == "error"


def test_wrong_size(tree, write_crop):
    write_crop(tree / "ann" / "2.png", size=(128, 100))
    finding = only(check(tree))
    assert finding.level == "error"
    assert "100 x 128 px" in finding.what
    assert "landmarks" in finding.advice


def test_an_identity_with_one_image(tree):
    (tree / "ann" / "1.png").unlink()
    finding = only(check(tree))
    assert (finding.level, finding.where) == ("warning", str(tree / "ann" / "0.png"))
    assert "one image only" in finding.what


def test_an_empty_identity_is_not_a_label_gap_alone(tree):
    (tree / "bbb").mkdir()
    error, gap = check(tree)
    assert (error.level, error.where) == ("error", str(tree / "bbb"))
    assert gap.level == "warning"


def test_duplicates_under_one_label_and_under_two(tree):
    (tree / "ann" / "copy.png").write_bytes((tree / "ann" / "0.png").read_bytes())
    finding = only(check(tree))
    assert (finding.level, finding.where) == ("warning", str(tree / "ann" / "copy.png"))
    (tree / "ann" / "copy.png").rename(tree / "cid" / "copy.png")
    finding = only(check(tree))
    assert finding.level == "error"
    assert "labels 0 and 2" in finding.what


@pytest.mark.parametrize(
    ("line", "level", "what"),
    [
        ("bob/2.png\t1.5", "error", "not a whole number"),
        ("bob/2.png\t-1", "error", "negative"),
        ("bob/2.png\t3", "error", "too large for 3 classes"),
        ("bob/2.png", "error", "expected 'path<TAB>label'"),
        ("bob/9.png\t1", "error", "bob/9.png is not there"),
        ("bob/0.png\t1", "error", "listed already in line 5"),
    ],
)
def test_a_bad_line_is_one_finding_with_its_place(face_list, line, level, what):
    face_list.write_text(face_list.read_text() + line + "\n")
    finding = only(check(face_list, num_classes=3))
    assert (finding.level, finding.where) == (level, f"{face_list}:9")
    assert what in finding.what


def test_label_gaps(face_list):
    face_list.write_text(face_list.read_text().replace("\t2", "\t9"))
    finding = only(check(face_list))
    assert finding.level == "warning"
    assert finding.what == "7 labels below the largest have no image: 2, 3, 4, 5, 6 ..."


def test_one_identity(tree):
    for name in ("bob", "cid"):
        for path in (tree / name).iterdir():
            path.unlink()
        (tree / name).rmdir()
    assert only(check(tree)).what == "all images are of one identity"


def test_many_of_a_kind_are_counted(tree, write_crop):
    for number in range(MAX_OF_A_KIND + 30):
        write_crop(tree / "ann" / f"small{number}.png", (number, 0, 0), (8, 8))
    findings = check(tree)
    assert len(findings) == MAX_OF_A_KIND + 1
    assert findings[-1].what == "30 more after this one: wrong size"


def test_errors_come_first(tree, write_crop):
    (tree / "ann" / "1.png").unlink()
    write_crop(tree / "cid" / "3.png", size=(8, 8))
    assert [finding.level for finding in check(tree)] == ["error", "warning"]


def test_nothing_to_check(tree, tmp_path):
    (tmp_path / "empty.txt").write_text("")
    assert only(check(tmp_path / "empty.txt")).level == "error"
    with pytest.raises(InputError, match="cannot read"):
        check(tmp_path / "absent")


def test_landmarks_are_checked_against_the_photos(tree, write_crop):
    """ann sound, bob with a tiny, a mirrored and an unknown face, cid cut by the border and far outside."""
    face = [(60, 50), (100, 50), (80, 75), (65, 95), (95, 95)]
    tiny = [(x / 8, y / 8) for x, y in face]
    points = {
        "ann/0.png": face,
        "ann/1.png": face,
        "bob/0.png": tiny,
        "bob/1.png": [face[place] for place in (1, 0, 2, 4, 3)],
        "cid/0.png": [(x + 45, y) for x, y in face],
        "cid/1.png": [(x + 900, y) for x, y in face],
    }
    for number, path in enumerate(sorted(tree.glob("*/*.png"))):
        write_crop(path, (number, 0, 0), (150, 140))
    with open(tree / "landmarks.csv", "w", newline="") as file:
        table = csv.writer(file)
        table.writerow(LANDMARK_COLUMNS)
        table.writerows([name, *(value for point in face for value in point)] for name, face in points.items())
    findings = {
        finding.where.rpartition("faces")[2][1:]: finding for finding in check(tree, landmarks=tree / "landmarks.csv")
    }
    assert {place: finding.level for place, finding in findings.items()} == {
        "bob/0.png": "warning",
        "bob/1.png": "error",
        "bob/2.png": "error",
        "cid/0.png": "warning",
        "cid/1.png": "error",
    }
    assert "5.0 px apart" in findings["bob/0.png"].what
    assert "mirrored" in findings["bob/1.png"].what
    assert "no landmarks" in findings["bob/2.png"].what
    assert "outside" in findings["cid/1.png"].what

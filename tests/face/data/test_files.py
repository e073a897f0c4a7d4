"""Folders and lists of images on disk, in every kind that people have, and what is refused."""

from __future__ import annotations

import math

import cv2
import numpy as np
import pytest

from robustvision.core.errors import InputError
from robustvision.face.alignment import TEMPLATE_112
from robustvision.face.data import read_faces, read_folder, read_list
from robustvision.face.data.lists import LANDMARK_COLUMNS


def reds(files):
    return [int(files.image(index)[0, 0, 0]) for index in range(len(files))]


def test_a_folder_gives_labels_in_the_order_of_names(tree, write_crop):
    (tree / ".hidden").mkdir()
    (tree / "notes.txt").write_text("not an image")
    (tree / "ann" / "notes.txt").write_text("not an image")
    files = read_folder(tree)
    assert files.labels.tolist() == [0, 0, 1, 1, 1, 2, 2]
    assert files.labels.dtype == np.int64
    assert files.num_classes == 3
    assert reds(files) == [0, 1, 10, 11, 12, 20, 21]
    assert files.image(0)[5, 5].tolist() == [0, 100, 50]  # RGB


def test_a_list_gives_the_labels_that_it_says(face_list):
    files = read_list(face_list)
    assert files.labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert files.num_classes == 3
    assert reds(files) == [0, 1, 10, 11, 20, 21]
    assert read_list(face_list, num_classes=7).num_classes == 7


def test_either_form_is_recognised(tree, face_list):
    assert len(read_faces(tree)) == 7
    assert len(read_faces(face_list)) == 6


def test_a_list_may_lie_elsewhere(face_list, tmp_path):
    moved = tmp_path / "elsewhere.txt"
    moved.write_text(f"ann/0.png\t0\n{face_list.parent / 'bob' / '0.png'}\t1\n")
    assert reds(read_list(moved, root=face_list.parent)) == [0, 10]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("ann/9.png\t0", r"list.txt:9: .*9.png is not there"),
        ("ann/0.png\t1.5", r"list.txt:9: the label '1.5' is not a whole number"),
        ("ann/0.png\t-2", r"list.txt:9: the label -2 is negative"),
        ("ann/0.png\t3", r"list.txt:9: the label 3 is too large for 3 classes"),
    ],
)
def test_a_bad_line_is_named(face_list, line, message):
    face_list.write_text(face_list.read_text() + line + "\n")
    with pytest.raises(InputError, match=message):
        read_list(face_list, num_classes=3)


def test_an_empty_list_is_refused(tmp_path):
    (tmp_path / "empty.txt").write_text("\n")
    with pytest.raises(InputError, match="lists no images"):
        read_list(tmp_path / "empty.txt")


def test_folders_that_are_no_data_set_are_refused(tree, tmp_path, write_crop):
    with pytest.raises(InputError, match="is not a folder"):
        read_folder(tmp_path / "absent")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="holds nothing; expected one folder an identity"):
        read_folder(tmp_path / "empty")
    write_crop(tmp_path / "flat" / "1.png")
    with pytest.raises(InputError, match="holds 1 images directly"):
        read_folder(tmp_path / "flat")
    (tree / "dan").mkdir()
    with pytest.raises(InputError, match="dan holds no images"):
        read_folder(tree)


def test_every_kind_of_file_becomes_rgb_8_bit(tmp_path):
    """A colour that stays the same in each kind: grey 100 where there is no colour."""
    folder = tmp_path / "faces" / "ann"
    folder.mkdir(parents=True)
    kinds = {
        "grey.png": np.full((112, 112), 100, np.uint8),
        "alpha.png": np.dstack([np.full((112, 112, 3), 100, np.uint8), np.full((112, 112), 255, np.uint8)]),
        "deep.png": np.full((112, 112, 3), 100 * 257, np.uint16),
        "colour.bmp": np.full((112, 112, 3), 100, np.uint8),
        "photo.jpg": np.full((112, 112, 3), 100, np.uint8),
    }
    for name, image in kinds.items():
        (folder / name).write_bytes(cv2.imencode(name[-4:], image)[1].tobytes())
    files = read_folder(tmp_path / "faces")
    assert len(files) == len(kinds)
    for index, path in enumerate(files.paths):
        image = files.image(index)
        assert image.dtype == np.uint8, path.name
        assert image.shape == (112, 112, 3), path.name
        np.testing.assert_allclose(image, 100, atol=1, err_msg=path.name)


def test_broken_images_are_named(tree, write_crop):
    path = write_crop(tree / "ann" / "0.jpg")
    path.write_bytes(path.read_bytes()[:-100])
    (tree / "ann" / "1.jpg").write_bytes(b"no image at all")
    files = read_folder(tree)
    for name in ("0.jpg", "1.jpg"):
        with pytest.raises(InputError, match=name):
            files.image(next(place for place, one in enumerate(files.paths) if one.name == name))


def test_another_size_is_refused_with_advice(tree, write_crop):
    write_crop(tree / "ann" / "0.png", size=(250, 200))
    with pytest.raises(InputError, match=r"0.png: 200 x 250 px, expected an aligned crop.*give its landmarks"):
        read_folder(tree).image(0)


@pytest.fixture
def photos(tmp_path):
    """Two photos with a dot on each landmark, turned by 40 degrees and by -100, with their landmarks."""
    root, rows = tmp_path / "photos", [",".join(LANDMARK_COLUMNS)]
    for name, degrees in (("ann/1.png", 40), ("bob/1.png", -100)):
        angle = math.radians(degrees)
        turn = 1.2 * np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
        points = (TEMPLATE_112 - TEMPLATE_112.mean(0)) @ turn.T + (150, 110)
        image = np.zeros((220, 300, 3), np.uint8)
        for place, (x, y) in enumerate(points):
            cv2.circle(image, (round(x * 16), round(y * 16)), 4 * 16, (50 * place + 50,) * 3, -1, cv2.LINE_8, 4)
        (root / name).parent.mkdir(parents=True)
        (root / name).write_bytes(cv2.imencode(".png", image)[1].tobytes())
        rows.append(",".join([name, *(f"{value:.3f}" for value in points.ravel())]))
    (root / "landmarks.csv").write_text("\n".join(rows) + "\n")
    (root / "list.txt").write_text("ann/1.png\t0\nbob/1.png\t1\n")
    return root


def test_photos_are_aligned_by_their_landmarks(photos):
    table = photos / "landmarks.csv"
    for files in (read_folder(photos, landmarks=table), read_list(photos / "list.txt", landmarks=table)):
        for index in range(2):
            crop = files.image(index)
            assert crop.shape == (112, 112, 3)
            for place, (x, y) in enumerate(TEMPLATE_112):
                assert crop[round(y), round(x), 0] == 50 * place + 50


def test_missing_and_impossible_landmarks_are_named(photos):
    table = photos / "landmarks.csv"
    header, ann, _ = table.read_text().splitlines()
    table.write_text(f"{header}\n{ann}\n")
    with pytest.raises(InputError, match=r"no line for bob/1.png \(1 are missing\)"):
        read_folder(photos, landmarks=table)
    table.write_text(f"{header}\n{ann}\nbob/1.png{',50' * 10}\n")
    files = read_list(photos / "list.txt", landmarks=table)
    assert files.image(0).shape == (112, 112, 3)
    with pytest.raises(InputError, match=r"list.txt:2: the five landmarks coincide"):
        files.image(1)


def test_the_fingerprint_follows_the_data(tree, write_crop, face_list, tmp_path):
    first = read_folder(tree).fingerprint()
    assert read_folder(tree).fingerprint() == first
    tree.rename(tmp_path / "moved")
    assert read_folder(tmp_path / "moved").fingerprint() == first
    files = read_list(tmp_path / "moved" / "list.txt")
    relabelled = tmp_path / "moved" / "other.txt"
    relabelled.write_text((tmp_path / "moved" / "list.txt").read_text().replace("cid/1.png\t2", "cid/1.png\t1"))
    assert read_list(relabelled).fingerprint() != files.fingerprint()
    write_crop(tmp_path / "moved" / "cid" / "7.png")
    assert read_folder(tmp_path / "moved").fingerprint() != first

"""Rendered faces on disk are read back by the readers of real data."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest

from robustvision.core.data import LabelNoise
from robustvision.core.errors import InputError
from robustvision.face.data import check, read_folder, read_list
from robustvision.face.synthetic import SyntheticFaces, synthesize

INNER = np.s_[..., 30:105, 25:87, :]


def test_a_tree_is_read_back_as_it_was_rendered(tmp_path):
    out = tmp_path / "faces"
    noise = LabelNoise(flip=0.25)
    summary = synthesize(out, identities=4, images_per_identity=4, noise=noise, seed=2, workers=1, quiet=True)
    assert summary == {"folder": str(out), "identities": 4, "images": 16, "noisy_images": 4}
    faces = SyntheticFaces(4, 4, seed=2, noise=noise)
    listed = read_list(out / "list.txt")
    np.testing.assert_array_equal(listed.labels, faces.labels)
    for index in range(16):
        np.testing.assert_array_equal(listed.image(index), faces.image(index))
    tree = read_folder(out)
    assert dict(zip(tree.paths, tree.labels, strict=True)) == dict(zip(listed.paths, listed.labels, strict=True))
    assert not [finding for finding in check(out) if finding.level == "error"]
    with open(out / "noise.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["clean_label"]) for row in rows] == faces.clean_labels.tolist()
    assert [row["is_noisy"] == "1" for row in rows] == faces.is_noisy.tolist()
    assert json.loads((out / "synthetic.json").read_text())["noise"]["flip"] == 0.25


def test_photos_are_read_back_aligned(tmp_path):
    out = tmp_path / "photos"
    synthesize(out, identities=2, images_per_identity=2, strength=0, photos=True, workers=1, quiet=True)
    assert check(out, landmarks=out / "landmarks.csv") == []
    photos = read_list(out / "list.txt", landmarks=out / "landmarks.csv")
    portraits = SyntheticFaces(2, 2, strength=0)
    for index in range(4):
        crop, portrait = photos.image(index)[INNER].astype(float), portraits.image(index)[INNER].astype(float)
        assert abs(crop - portrait).mean() < 8


def test_a_tree_replaces_a_tree_and_nothing_else(tmp_path):
    out = tmp_path / "faces"
    for identities in (3, 2):
        synthesize(out, identities=identities, images_per_identity=1, workers=1, quiet=True, image_format="jpg")
    assert len(list(out.glob("*/*.jpg"))) == 2
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("all of it")
    with pytest.raises(InputError, match="mine"):
        synthesize(tmp_path / "mine", identities=2, images_per_identity=1, workers=1, quiet=True)
    assert (tmp_path / "mine" / "thesis.tex").read_text() == "all of it"
    with pytest.raises(InputError, match="image_format"):
        synthesize(out, image_format="gif")

"""Data sets in one call: rendered, or from disk; parts are the set's own, or made by place."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import shapely
from affine import Affine

from robustvision.buildings.data import choose_sources, files_dataset, synthetic_dataset
from robustvision.core.errors import InputError

ORIGIN = (320_000.0, 5_814_000.0)


@pytest.fixture
def city(tmp_path, write_tif, write_map, picture) -> tuple[Path, Path]:
    """A raster of 12 x 12 tiles of 32 px, and a map with a house in each."""
    write_tif(tmp_path / "images" / "city.tif", picture(0, 384, 384))
    houses = [
        shapely.box(*(ORIGIN[0] + 0.5 * (32 * column + 4), ORIGIN[1] - 0.5 * (32 * row + 20)), *corner)
        for row in range(12)
        for column in range(12)
        for corner in [(ORIGIN[0] + 0.5 * (32 * column + 24), ORIGIN[1] - 0.5 * (32 * row + 8))]
    ]
    return tmp_path / "images", write_map(tmp_path / "houses.gpkg", houses)


def test_rendered_scenes_of_other_splits_and_seeds_are_others() -> None:
    first = synthetic_dataset(2, size_px=64, quiet=True)
    same, other = (synthetic_dataset(2, size_px=64, quiet=True, split=split) for split in ("train", "test"))
    assert first.fingerprint() == same.fingerprint() != other.fingerprint()
    assert first.tiles[0].conditions["height_class"] == "low"


def test_a_rendered_label_can_be_noisy_while_the_picture_stays() -> None:
    roof, noisy = (
        synthetic_dataset(4, label=label, classes=("high",), size_px=64, quiet=True) for label in ("roof", "noisy")
    )
    for clean, wrong in zip(roof.tiles, noisy.tiles, strict=True):
        np.testing.assert_array_equal(clean.image, wrong.image)
    assert any((clean.label != wrong.label).any() for clean, wrong in zip(roof.tiles, noisy.tiles, strict=True))


def test_a_map_and_images_are_split_by_place(city) -> None:
    images, labels = city
    parts = {
        part: files_dataset("images", images, labels=labels, part=part, tile_px=32, quiet=True)
        for part in ("train", "validation", "test")
    }
    names = {part: {tile.name for tile in data.tiles} for part, data in parts.items()}
    assert not names["train"] & names["test"]
    for name in names["train"]:
        row, column = map(int, name.split("@")[1].split(","))
        for other in names["test"] | names["validation"]:
            there = map(int, other.split("@")[1].split(","))
            assert max(abs(at - here) for at, here in zip(there, (row, column), strict=True)) > 32
    for data in parts.values():
        assert all(tile.label[8:20, 4:24].all() and tile.label.sum() == 240 for tile in data.tiles)
        assert data.size_px == 32


def test_own_parts_are_kept_and_a_missing_validation_is_taken_from_train(
    tmp_path, write_tif, write_png, picture, mask
) -> None:
    for part, place in (("train", 0.0), ("test", 5000.0)):
        at = Affine(0.5, 0, ORIGIN[0] + place, 0, -0.5, ORIGIN[1])
        write_tif(tmp_path / part / "images" / "a.tif", picture(1, 320, 320), transform=at)
        write_tif(tmp_path / part / "labels" / "a.tif", mask(320, 320), transform=at)
    data = {
        part: files_dataset("folder", tmp_path, part=part, tile_px=32, block=2, quiet=True)
        for part in ("train", "validation", "test")
    }
    names = {part: {tile.name for tile in each.tiles} for part, each in data.items()}
    assert len(names["test"]) == 100
    assert all(name.startswith("train/") for name in names["train"] | names["validation"])
    assert names["validation"]
    assert not names["train"] & names["validation"]


def test_pictures_without_a_place_are_not_split_by_chance(tmp_path, write_png, picture, mask) -> None:
    for number in range(10):
        write_png(tmp_path / "images" / f"{number}.png", picture(number))
        write_png(tmp_path / "labels" / f"{number}.png", mask())
    with pytest.raises(InputError, match="neither a place nor a group"):
        files_dataset("folder", tmp_path, tile_px=64, quiet=True)


def test_a_part_that_a_set_has_not(tmp_path, write_png, picture, mask) -> None:
    for folder, values in (("images", picture()), ("labels", mask())):
        write_png(tmp_path / "train" / folder / "a.png", values)
    with pytest.raises(InputError, match="comes in train and has no test"):
        files_dataset("folder", tmp_path, part="test", quiet=True)


def test_the_command_line_names_a_set_or_images_with_labels(city, tmp_path, write_png, picture, mask) -> None:
    images, labels = city
    assert [len(each) for each in choose_sources(None, None, images, labels).values()] == [1]
    for part in ("train", "val"):
        write_png(tmp_path / "set" / part / "image" / "a.png", picture())
        write_png(tmp_path / "set" / part / "label" / "a.png", mask())
    assert list(choose_sources(tmp_path / "set", "whu", None, None)) == ["train", "validation"]
    for wrong in ((tmp_path, None, None, None), (None, None, images, None), (tmp_path, "whu", images, labels)):
        with pytest.raises(InputError, match="give --data with --kind"):
            choose_sources(*wrong)

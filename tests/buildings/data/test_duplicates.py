"""Duplicates: copies are found turned, flipped, compressed and brightened; neighbours and flat pictures are not."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from robustvision.buildings.data import Tile, find_duplicates, signature
from robustvision.buildings.synthetic import SyntheticScenes, tiles


@pytest.fixture(scope="module")
def scenes() -> list[Tile]:
    return tiles(SyntheticScenes(24, size_px=96), workers=1, quiet=True)


def changed(tile: Tile, image: np.ndarray) -> Tile:
    return Tile(tile.name + "-copy", np.ascontiguousarray(image), tile.label)


def compressed(image: np.ndarray) -> np.ndarray:
    return np.asarray(cv2.imdecode(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 60])[1], cv2.IMREAD_COLOR))


def test_an_exact_copy_is_exact(scenes: list[Tile]) -> None:
    (found,) = find_duplicates(scenes, [changed(scenes[5], scenes[5].image.copy())])
    assert (found.first, found.second, found.exact) == (scenes[5].name, scenes[5].name + "-copy", True)


@pytest.mark.parametrize("turn", range(8))
def test_a_copy_is_found_in_every_turn_and_compressed_anew(scenes: list[Tile], turn: int) -> None:
    image = np.rot90(scenes[3].image, turn % 4)
    image = image[:, ::-1] if turn >= 4 else image
    copy = np.clip(compressed(np.ascontiguousarray(image)).astype(int) + 9, 0, 255).astype(np.uint8)
    (found,) = find_duplicates(scenes, [changed(scenes[3], copy)])
    assert found.first == scenes[3].name
    assert not found.exact
    assert found.similarity > 0.98


def test_other_scenes_are_no_duplicates(scenes: list[Tile]) -> None:
    assert not find_duplicates(scenes[:12], scenes[12:])


def test_flat_pictures_are_alike_only_pixel_by_pixel() -> None:
    sea, other = (Tile(name, np.full((64, 64, 3), 90, np.uint8), np.zeros((64, 64), np.uint8)) for name in "ab")
    noisy = changed(sea, sea.image + np.random.default_rng(0).integers(0, 2, sea.image.shape, np.uint8))
    assert signature(sea).thumbnail is None
    assert [one.exact for one in find_duplicates([sea], [other])] == [True]
    assert not find_duplicates([sea], [noisy])


def test_signatures_stand_for_their_tiles(scenes: list[Tile]) -> None:
    copies = [changed(tile, compressed(tile.image)) for tile in scenes[:6]]
    by_tiles = find_duplicates(scenes, copies)
    assert by_tiles == find_duplicates(map(signature, scenes), map(signature, copies))
    assert [one.second for one in by_tiles] == [copy.name for copy in copies]
    assert not find_duplicates([], copies)

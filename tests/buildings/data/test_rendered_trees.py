"""What the generator writes in a set's layout, the set's reader reads: two hands that must agree."""

from __future__ import annotations

import numpy as np
import pytest

from robustvision.buildings.data import load_tiles, read_labelled, read_tiles, tile_sources
from robustvision.buildings.data.pictures import Grid
from robustvision.buildings.synthetic import SyntheticScenes, synthesize, tiles, write_city


def scenes(**extra) -> SyntheticScenes:
    return SyntheticScenes(6, classes=("low", "high"), size_px=96, seed=2, **extra)


@pytest.mark.parametrize(("layout", "gsd_m"), [("folder", 0.6), ("whu", 0.3), ("inria", 0.3), ("massachusetts", 1.0)])
def test_masks_come_back_to_the_pixel(tmp_path, layout, gsd_m) -> None:
    written = scenes(gsd_m=gsd_m)
    synthesize(tmp_path / "set", written, layout=layout, label="noisy", workers=1, quiet=True)
    read = load_tiles(read_tiles(layout, tmp_path / "set"), quiet=True)
    assert len(read) == 6
    by_image = {tile.image.tobytes(): tile for tile in read}
    for tile in tiles(written, label="noisy", workers=1, quiet=True):
        np.testing.assert_array_equal(by_image[tile.image.tobytes()].label, tile.label)
        assert by_image[tile.image.tobytes()].gsd_m == (None if layout == "folder" else gsd_m)


def test_visible_roofs_come_back_from_coco(tmp_path) -> None:
    written = scenes()
    synthesize(tmp_path / "set", written, layout="coco", workers=1, quiet=True)
    read = load_tiles(read_tiles("coco", tmp_path / "set"), quiet=True)
    for tile, made in zip(read, tiles(written, workers=1, quiet=True), strict=True):
        np.testing.assert_array_equal(tile.image, made.image)
        assert (tile.label != made.label).mean() < 0.01  # outlines of pixels, simplified


@pytest.mark.parametrize("target", ["footprint", "shape"])
def test_bonai_comes_back_with_the_offsets_turned_right(tmp_path, target) -> None:
    written = scenes()
    synthesize(tmp_path / "set", written, layout="bonai", workers=1, quiet=True)
    read = load_tiles(read_tiles("bonai", tmp_path / "set", target=target), quiet=True)
    for tile, made in zip(read, tiles(written, label=target, workers=1, quiet=True), strict=True):
        known = np.ones(tile.label.shape, bool) if tile.valid is None else tile.valid
        assert ((tile.label != made.label) & known).mean() < 0.01


def test_bonai_roofs_are_whole_where_the_picture_hides_a_part(tmp_path) -> None:
    written = scenes()
    synthesize(tmp_path / "set", written, layout="bonai", workers=1, quiet=True)
    read = load_tiles(read_tiles("bonai", tmp_path / "set", target="roof"), quiet=True)
    for tile, made in zip(read, tiles(written, workers=1, quiet=True), strict=True):
        known = np.ones(tile.label.shape, bool) if tile.valid is None else tile.valid
        assert not (made.label.astype(bool) & (tile.label == 0) & known).mean() > 0.01


def test_a_city_comes_back_from_its_map(tmp_path) -> None:
    city = write_city(tmp_path / "city", size_px=256, seed=1)
    images = tmp_path / "images"
    images.mkdir()
    (images / "city.tif").write_bytes(city.image.read_bytes())
    (tile,) = load_tiles(tile_sources(read_labelled(images, city.roofs), Grid()), quiet=True)
    assert tile.gsd_m == pytest.approx(0.6, rel=1e-3)
    assert (tile.label.astype(bool) != city.scene.roof).mean() < 0.01

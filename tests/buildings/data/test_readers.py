"""Every reader on a tiny tree in the set's own layout: names, parts, pixels, and what is said of broken trees."""

from __future__ import annotations

import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from affine import Affine

from robustvision.buildings.data import (
    PARTS,
    READERS,
    find_scale,
    load_tiles,
    read_folder,
    read_inria,
    read_spacenet4,
    read_tiles,
)
from robustvision.core.errors import InputError

ORIGIN = (320_000.0, 5_814_000.0)


def expected(size: int = 64) -> np.ndarray:
    label = np.zeros((size, size), np.uint8)
    label[10:30, 5:25] = 1
    return label


class TestFolders:
    @pytest.mark.parametrize(
        ("kind", "layout"),
        [
            ("whu", "{part}/image/{name}.tif {part}/label/{name}.tif train val test"),
            ("massachusetts", "{part}/sat/{name}.tiff {part}/map/{name}.tif train valid test"),
            ("folder", "{part}/images/{name}.png {part}/masks/{name}.png train val test"),
            ("folder", "{part}/image/{name}.jpg {part}/label/{name}.png training validation testing"),
        ],
    )
    def test_parts_and_pairs(self, tmp_path, write_png, write_tif, picture, mask, kind, layout) -> None:
        image, label, *parts = layout.split()
        for number, part in enumerate(parts):
            for name in ("2", "10"):
                for pattern, values in ((image, picture(number)), (label, mask())):
                    path = tmp_path / pattern.format(part=part, name=name)
                    (write_png if path.suffix in (".png", ".jpg") else write_tif)(path, values)
        for part in PARTS:
            sources = read_tiles(kind, tmp_path, part=part)
            assert [source.name for source in sources] == [f"{part}/2", f"{part}/10"]
            tile = sources[0].read()
            np.testing.assert_array_equal(tile.label, expected())
            assert tile.image.shape == (64, 64, 3)
        assert len(read_tiles(kind, tmp_path)) == 6

    def test_images_and_labels_without_parts(self, tmp_path, write_png, picture, mask) -> None:
        write_png(tmp_path / "images" / "a.png", picture(7))
        write_png(tmp_path / "labels" / "a.png", mask(value=1))
        (source,) = read_tiles("folder", tmp_path)
        tile = pickle.loads(pickle.dumps(source)).read()
        np.testing.assert_array_equal(tile.image, picture(7))
        np.testing.assert_array_equal(tile.label, expected())
        assert (tile.valid, tile.gsd_m, source.bounds) == (None, None, None)
        with pytest.raises(InputError, match="has no parts, so no train"):
            read_folder(tmp_path, "train")

    def test_inria_takes_the_first_five_of_each_city_for_validation(self, tmp_path, write_tif, picture, mask) -> None:
        for city, place in (("austin", 0), ("tyrol-w", 10_000)):
            for number in (1, 5, 6, 36):
                at = Affine(0.3, 0, ORIGIN[0] + place + 20 * number, 0, -0.3, ORIGIN[1])
                for folder, values in (("images", picture(number)), ("gt", mask())):
                    write_tif(tmp_path / "train" / folder / f"{city}{number}.tif", values, transform=at)
        names = {part: [picture.name for picture in read_inria(tmp_path, part)] for part in ("validation", "train")}
        assert names["validation"] == ["austin1", "austin5", "tyrol-w1", "tyrol-w5"]
        assert names["train"] == ["austin6", "austin36", "tyrol-w6", "tyrol-w36"]
        tile = read_tiles("inria", tmp_path, part="train")[0].read()
        assert tile.conditions["city"] == "austin"
        assert tile.gsd_m == pytest.approx(0.3, rel=1e-3)
        with pytest.raises(InputError, match="not published"):
            read_inria(tmp_path, "test")

    def test_missing_labels_are_listed(self, tmp_path, write_png, picture, mask) -> None:
        for name in "abcdef":
            write_png(tmp_path / "images" / f"{name}.png", picture())
        write_png(tmp_path / "labels" / "b.png", mask())
        with pytest.raises(InputError, match=r"5 of 6 images in .* no label .*a\.png, c\.png, d\.png, \.\.\."):
            read_folder(tmp_path)

    @pytest.mark.parametrize("held", [[], ["pictures"], ["images"]])
    def test_a_folder_of_something_else(self, tmp_path, held) -> None:
        for name in held:
            (tmp_path / name).mkdir()
        with pytest.raises(InputError, match="expected images"):
            read_folder(tmp_path)
        with pytest.raises(InputError, match="not a folder"):
            read_folder(tmp_path / "missing")

    def test_two_labels_of_one_stem(self, tmp_path, write_png, picture, mask) -> None:
        write_png(tmp_path / "images" / "a.png", picture())
        for suffix in ("png", "bmp"):
            write_png(tmp_path / "labels" / f"a.{suffix}", mask())
        with pytest.raises(InputError, match="one stem"):
            read_folder(tmp_path)


class TestGrids:
    def write(self, root: Path, write_tif, image: np.ndarray, label: np.ndarray, **place) -> Path:
        write_tif(root / "images" / "a.tif", image)
        write_tif(root / "labels" / "a.tif", label, **place)
        return root

    def test_another_size(self, tmp_path, write_tif, picture, mask) -> None:
        root = self.write(tmp_path, write_tif, picture(), mask(64, 60))
        with pytest.raises(InputError, match=r"64 x 64 px, but its label .* is 60 x 64"):
            read_folder(root)

    def test_another_system(self, tmp_path, write_tif, picture, mask) -> None:
        root = self.write(tmp_path, write_tif, picture(), mask(), crs="EPSG:32756")
        with pytest.raises(InputError, match=r"is in EPSG:32755, but its label .* is in EPSG:32756.*gdalwarp"):
            read_folder(root)

    @pytest.mark.parametrize("moved", [Affine.translation(3, 0), Affine.translation(0, -1), Affine.scale(1.1, 1)])
    def test_another_place(self, tmp_path, write_tif, picture, mask, moved) -> None:
        own = Affine(0.5, 0, ORIGIN[0], 0, -0.5, ORIGIN[1])
        root = self.write(tmp_path, write_tif, picture(), mask(), transform=own @ moved)
        with pytest.raises(InputError, match=r"covers .* but its label .* cut both on one grid"):
            read_folder(root)

    def test_a_hair_off_is_the_same_place(self, tmp_path, write_tif, picture, mask) -> None:
        own = Affine(0.5, 0, ORIGIN[0] + 0.01, 0, -0.5, ORIGIN[1])
        assert len(read_folder(self.write(tmp_path, write_tif, picture(), mask(), transform=own))) == 1

    def test_a_label_without_a_place_lies_on_its_image(self, tmp_path, write_tif, picture, mask) -> None:
        root = self.write(tmp_path, write_tif, picture(), mask(), crs=None, transform=None)
        np.testing.assert_array_equal(read_tiles("folder", root)[0].read().label, expected())

    def test_a_picture_below_32_px(self, tmp_path, write_tif, picture, mask) -> None:
        root = self.write(tmp_path, write_tif, picture(0, 31, 64), mask(31, 64))
        with pytest.raises(InputError, match="64 x 31 px: expected at least 32"):
            read_folder(root)

    def test_a_tile_below_32_px(self, tmp_path, write_tif, picture, mask) -> None:
        root = self.write(tmp_path, write_tif, picture(), mask())
        with pytest.raises(InputError, match="tile_px is 16"):
            read_tiles("folder", root, tile_px=16)
        with pytest.raises(InputError, match="stride_px is 65"):
            read_tiles("folder", root, tile_px=64, stride_px=65)

    def test_places_are_on_the_map_where_there_is_one(self, tmp_path, write_tif, picture, mask) -> None:
        root = self.write(tmp_path, write_tif, picture(0, 128, 128), mask(128, 128))
        sources = read_tiles("folder", root, tile_px=64)
        assert {source.group for source in sources} == {"EPSG:32755"}
        assert sources[1].bounds == (ORIGIN[0] + 32, ORIGIN[1] - 32, ORIGIN[0] + 64, ORIGIN[1])
        assert sources[0].read().group == "a"

    def test_places_are_pixels_where_there_is_no_map(self, tmp_path, write_png, picture, mask) -> None:
        write_png(tmp_path / "images" / "a.png", picture(0, 64, 128))
        write_png(tmp_path / "labels" / "a.png", mask(64, 128))
        sources = read_tiles("folder", tmp_path, tile_px=64)
        assert [(source.group, source.bounds) for source in sources] == [("a", (0, 0, 64, 64)), ("a", (64, 0, 128, 64))]

    def test_overlapping_tiles_are_all_valid(self, tmp_path, write_tif, picture, mask) -> None:
        root = self.write(tmp_path, write_tif, picture(0, 64, 130), mask(64, 130))
        sources = read_tiles("folder", root, tile_px=64, stride_px=32)
        assert [source.name for source in sources] == ["a@0,0", "a@0,32", "a@0,64", "a@0,66"]
        assert all(source.read().valid is None for source in sources)


class TestPixels:
    def read(self, root: Path, write_tif, mask, image: np.ndarray, options: dict | None = None, **extra):
        write_tif(root / "images" / "a.tif", image, **extra)
        write_tif(root / "labels" / "a.tif", mask(*image.shape[:2]))
        return read_tiles("folder", root, **(options or {}))[0].read()

    def test_16_bits_are_scaled_alike_in_all_images_and_tiles_say_how(self, tmp_path, write_tif, picture, mask) -> None:
        dark, bright = (picture(number).astype(np.uint16) * factor for number, factor in ((1, 4), (2, 8)))
        for name, image in (("a", dark), ("b", bright)):
            write_tif(tmp_path / "images" / f"{name}.tif", image)
            write_tif(tmp_path / "labels" / f"{name}.tif", mask())
        tiles = load_tiles(read_tiles("folder", tmp_path), quiet=True)
        assert tiles[0].scale == tiles[1].scale
        scale = find_scale([tmp_path / "images" / f"{name}.tif" for name in "ab"])
        assert scale is not None
        for tile, image in zip(tiles, (dark, bright), strict=True):
            for band, (low, high) in enumerate(scale):
                value = np.clip((image[..., band] - low) / (high - low), 0, 1) * 255
                np.testing.assert_allclose(tile.image[..., band], value, atol=1)

    def test_a_given_scale_is_taken(self, tmp_path, write_tif, picture, mask) -> None:
        image = picture().astype(np.float32) / 255
        tile = self.read(tmp_path, write_tif, mask, image, {"scale": ((0.0, 1.0),) * 3})
        np.testing.assert_allclose(tile.image, picture(), atol=1)
        assert tile.scale == ((0, 1),) * 3

    @pytest.mark.parametrize("count", [1, 4, 8])
    def test_one_four_and_eight_bands(self, tmp_path, write_tif, picture, mask, count) -> None:
        bands = np.concatenate([picture(number) for number in range(3)], axis=2)[..., :count]
        tile = self.read(tmp_path, write_tif, mask, bands, photometric="minisblack")
        shown = bands[..., :3] if count > 1 else bands[..., [0, 0, 0]]
        np.testing.assert_array_equal(tile.image, shown)
        if count == 8:
            chosen = self.read(tmp_path, write_tif, mask, bands, {"bands": (5, 3, 2)}, photometric="minisblack")
            np.testing.assert_array_equal(chosen.image, bands[..., [4, 2, 1]])

    def test_alpha_says_where_there_is_data(self, tmp_path, write_tif, picture, mask) -> None:
        rgba = np.dstack([picture(), np.full((64, 64), 255, np.uint8)])
        rgba[:, 50:, 3] = 0
        tile = self.read(tmp_path, write_tif, mask, rgba, photometric="RGB", alpha="yes")
        assert tile.valid is not None
        np.testing.assert_array_equal(tile.valid, rgba[..., 3] > 0)

    @pytest.mark.parametrize("nodata", [0, 255])
    def test_declared_nodata_is_not_valid(self, tmp_path, write_tif, picture, mask, nodata) -> None:
        image = picture().clip(1, 254)
        image[40:] = nodata
        tile = self.read(tmp_path, write_tif, mask, image, nodata=nodata)
        assert tile.valid is not None
        np.testing.assert_array_equal(tile.valid, (np.arange(64) < 40)[:, None].repeat(64, 1))

    def test_nan_is_not_valid(self, tmp_path, write_tif, picture, mask) -> None:
        image = picture().astype(np.float32)
        image[:8] = np.nan
        tile = self.read(tmp_path, write_tif, mask, image, {"scale": ((0.0, 255.0),) * 3})
        assert tile.valid is not None
        assert not tile.valid[:8].any()
        assert tile.valid[8:].all()

    def test_a_corrupt_block_is_named(self, tmp_path, write_tif, mask) -> None:
        noise = np.random.default_rng(0).integers(0, 256, (128, 128, 3), np.uint8)
        path = tmp_path / "images" / "a.tif"
        self.read(tmp_path, write_tif, mask, noise, tiled=True, blockxsize=64, blockysize=64, compress="deflate")
        (source,) = read_tiles("folder", tmp_path)
        data = bytearray(path.read_bytes())
        data[len(data) // 2 : len(data) // 2 + 3000] = bytes(3000)
        path.write_bytes(data)
        with pytest.raises(InputError, match=r"a\.tif: the window at row 0, column \d+ .* cannot be decoded"):
            source.read()

    def test_inverted_masks_are_refused(self, tmp_path, write_png, picture, mask) -> None:
        for name in "ab":
            write_png(tmp_path / "images" / f"{name}.png", picture(0, 128, 128))
            write_png(tmp_path / "labels" / f"{name}.png", 255 - mask(128, 128))
        with pytest.raises(InputError, match=r"97\.6% .* inverted"):
            load_tiles(read_tiles("folder", tmp_path), quiet=True)
        tiles = load_tiles(read_tiles("folder", tmp_path, building=0), quiet=True)
        np.testing.assert_array_equal(tiles[0].label, expected(128))


class TestSpaceNet4:
    @pytest.fixture
    def tree(self, tmp_path, write_tif, write_map, picture, square) -> Path:
        places = {"743501_3724139": square(10, 5, 20, 20), "743951_3724139": None}
        for look, (angle, catid) in enumerate(
            [(7, "1030010003D22F00"), (-32, "10300100023BC100"), (53, "1030010003BBBB00"), (25, "1030010003CCCC00")]
        ):
            collect = f"Atlanta_nadir{angle}_catid_{catid}"
            for number, place in enumerate(places):
                at = Affine(0.5, 0, ORIGIN[0] + 32 * number, 0, -0.5, ORIGIN[1])
                path = tmp_path / collect / "Pan-Sharpen" / f"Pan-Sharpen_{collect}_{place}.tif"
                image = np.dstack([picture(look), picture(look)[..., :1]]).astype(np.uint16) * 9
                write_tif(path, image, transform=at, photometric="minisblack")
        for place, building in places.items():
            path = tmp_path / "geojson" / "spacenet-buildings" / f"spacenet-buildings_{place}.geojson"
            write_map(path, [] if building is None else [building], geometry_type="Polygon")
        return tmp_path

    def test_looks_share_their_footprints_and_their_place(self, tree) -> None:
        sources = read_tiles("spacenet4", tree, target="footprint")
        tiles = load_tiles(sources, quiet=True)
        assert len(tiles) == 8
        by_place = {place: [tile for tile in tiles if tile.group == place] for place in {tile.group for tile in tiles}}
        assert {place: len(each) for place, each in by_place.items()} == {"743501_3724139": 4, "743951_3724139": 4}
        for tile in by_place["743501_3724139"]:
            np.testing.assert_array_equal(tile.label, expected())
        assert not any(tile.label.any() for tile in by_place["743951_3724139"])
        bounds = {source.bounds for source in sources if "743501_3724139" in source.name}
        assert len(bounds) == 1  # so a block split keeps them in one part
        looks = {(tile.conditions["off_nadir_deg"], tile.conditions["looks"]) for tile in tiles}
        assert looks == {(7, "nadir"), (25, "nadir"), (32, "off-nadir"), (53, "very-off-nadir")}
        assert len({tile.scale for tile in tiles}) == 1

    def test_one_group_of_looks(self, tree) -> None:
        assert len(read_spacenet4(tree, looks="very-off-nadir")) == 2

    def test_errors(self, tree, tmp_path) -> None:
        with pytest.raises(InputError, match="footprints only"):
            read_tiles("spacenet4", tree, target="roof")
        with pytest.raises(InputError, match="looks 'steep' is not known"):
            read_spacenet4(tree, looks="steep")
        (tree / "geojson" / "spacenet-buildings" / "spacenet-buildings_743951_3724139.geojson").unlink()
        with pytest.raises(InputError, match=r"no footprints: expected a file \.\.\._743951_3724139\.geojson"):
            read_spacenet4(tree)
        shutil.rmtree(tree / "geojson")
        (tmp_path / "empty").mkdir()
        with pytest.raises(InputError, match="no image of SpaceNet 4"):
            read_spacenet4(tmp_path / "empty")


class TestReadTiles:
    def test_reading_needs_no_torch(self) -> None:
        names = "readers, check, splits, duplicates"
        code = f"from robustvision.buildings.data import {names}; import sys; print('torch' in sys.modules)"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert done.stdout.strip() == "False"

    def test_an_unknown_kind(self, tmp_path) -> None:
        with pytest.raises(InputError, match=f"'kitti' is not known; choose {', '.join(READERS)}, images"):
            read_tiles("kitti", tmp_path)

    def test_labels_belong_to_images(self, tmp_path) -> None:
        with pytest.raises(InputError, match="kind images needs labels"):
            read_tiles("images", tmp_path)
        with pytest.raises(InputError, match="no other takes them"):
            read_tiles("whu", tmp_path, labels=tmp_path)

    def test_no_tiles(self) -> None:
        with pytest.raises(InputError, match="no tiles to read"):
            load_tiles([])

    def test_many_tiles_are_read_by_several_processes_in_order(self, tmp_path, write_tif, picture, mask) -> None:
        write_tif(tmp_path / "images" / "a.tif", picture(3, 288, 256))
        write_tif(tmp_path / "labels" / "a.tif", mask(288, 256))
        sources = read_tiles("folder", tmp_path, tile_px=32)
        tiles = load_tiles(sources, workers=2, quiet=True)
        assert [tile.name for tile in tiles] == [source.name for source in sources]
        np.testing.assert_array_equal(tiles[-1].image, sources[-1].read().image)

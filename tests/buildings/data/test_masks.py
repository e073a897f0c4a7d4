"""Masks in every coding that people have: the same building comes out, or an error that names the file."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import rasterio

from robustvision.buildings.data import read_mask
from robustvision.buildings.data.masks import mask_level
from robustvision.core.errors import InputError

SHAPE = (80, 96)


@pytest.fixture
def truth() -> np.ndarray:
    values = np.zeros(SHAPE, bool)
    values[10:50, 20:60] = True
    values[60:75, 70:90] = True
    return values


def whole(path: Path, **options: int) -> np.ndarray:
    return read_mask(path, 0, 0, *SHAPE, **options)[0]


@pytest.mark.parametrize(
    ("dtype", "value"), [("uint8", 1), ("uint8", 255), ("uint8", 7), ("uint16", 300), ("int32", 70_000), ("float32", 1)]
)
def test_whatever_is_not_zero_is_building(tmp_path, write_tif, truth, dtype, value) -> None:
    path = write_tif(tmp_path / "a.tif", (truth * value).astype(dtype))
    label, known = read_mask(path, 0, 0, *SHAPE)
    assert label.dtype == np.uint8
    np.testing.assert_array_equal(label, truth)
    assert known is None


def test_a_window_is_read_like_the_whole(tmp_path, write_tif, truth) -> None:
    path = write_tif(tmp_path / "a.tif", truth.astype(np.uint8) * 255)
    np.testing.assert_array_equal(read_mask(path, 5, 30, 32, 40)[0], truth[5:37, 30:70])


def test_an_anti_aliased_mask_is_cut_at_half_in_every_window(tmp_path, write_png, truth) -> None:
    """Also in a window without a single white pixel."""
    soft = cv2.GaussianBlur(truth.astype(np.float64) * 255, (0, 0), 0.8)
    soft[:5, :5] = 40  # a faint stain is no building
    path = write_png(tmp_path / "a.png", soft.round().astype(np.uint8))
    np.testing.assert_array_equal(whole(path), soft.round() >= 128)
    assert not read_mask(path, 0, 0, 6, 32)[0].any()


def test_a_jpeg_mask_is_read_through_its_ringing(tmp_path, write_png, truth) -> None:
    path = write_png(tmp_path / "a.jpg", truth.astype(np.uint8) * 255)
    assert len(np.unique(np.asarray(cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)))) > 5
    np.testing.assert_array_equal(whole(path), truth)


@pytest.mark.parametrize("colour", [(255, 255, 255), (255, 0, 0), (0, 0, 200)])
def test_a_coloured_mask_is_read(tmp_path, write_png, truth, colour) -> None:
    path = write_png(tmp_path / "a.png", truth[..., None] * np.array(colour, np.uint8))
    np.testing.assert_array_equal(whole(path), truth)


def test_alpha_is_no_label(tmp_path, truth) -> None:
    pixels = np.zeros((*SHAPE, 4), np.uint8)
    pixels[..., :3] = truth[..., None] * np.uint8(255)
    pixels[..., 3] = 255
    path = tmp_path / "a.png"
    path.write_bytes(cv2.imencode(".png", pixels)[1].tobytes())
    np.testing.assert_array_equal(whole(path), truth)


def test_numbers_of_buildings_are_buildings(tmp_path, write_tif, truth) -> None:
    numbers = truth.astype(np.uint16)
    numbers[60:] *= 900
    path = write_tif(tmp_path / "a.tif", numbers)
    np.testing.assert_array_equal(whole(path), truth)


def test_shares_of_a_pixel_are_cut_at_half(tmp_path, write_tif, truth) -> None:
    soft = cv2.GaussianBlur(truth.astype(np.float32), (0, 0), 1.0)
    path = write_tif(tmp_path / "a.tif", soft)
    np.testing.assert_array_equal(whole(path), soft >= 0.5)


def test_one_class_of_several_can_be_named(tmp_path, write_tif, truth) -> None:
    classes = np.full(SHAPE, 2, np.uint8)
    classes[truth] = 5
    path = write_tif(tmp_path / "a.tif", classes)
    np.testing.assert_array_equal(whole(path, building=5), truth)
    np.testing.assert_array_equal(whole(path, building=2), ~truth)


def test_what_nobody_labelled_is_not_known(tmp_path, write_tif, truth) -> None:
    values = truth.astype(np.uint8)
    values[:, :10] = 255
    path = write_tif(tmp_path / "a.tif", values, nodata=255)
    label, known = read_mask(path, 0, 0, *SHAPE)
    np.testing.assert_array_equal(label, truth)
    assert known is not None
    np.testing.assert_array_equal(known, values != 255)


def test_a_nodata_value_that_is_the_only_label_is_the_building(tmp_path, write_tif, truth) -> None:
    """0 and 255 with 255 declared as no data: half of all mask writers do so."""
    path = write_tif(tmp_path / "a.tif", truth.astype(np.uint8) * 255, nodata=255)
    label, known = read_mask(path, 0, 0, *SHAPE)
    np.testing.assert_array_equal(label, truth)
    assert known is None


def test_an_empty_mask_holds_no_building(tmp_path, write_tif, truth) -> None:
    path = write_tif(tmp_path / "a.tif", np.zeros(SHAPE, np.uint8))
    assert not whole(path).any()
    assert mask_level(path).positive == 0


def test_a_mask_that_was_written_anew_is_looked_at_anew(tmp_path, write_tif, truth) -> None:
    path = write_tif(tmp_path / "a.tif", truth.astype(np.uint8) * 255)
    assert whole(path).sum() == truth.sum()
    write_tif(path, truth.astype(np.uint8), compress="deflate")
    assert whole(path).sum() == truth.sum()


def test_a_grey_picture_is_no_mask(tmp_path, write_png, picture) -> None:
    path = write_png(tmp_path / "a.png", picture(0, *SHAPE)[..., 0])
    with pytest.raises(InputError, match=r"a\.png holds \d+ values beside 0.*pass the value that means building"):
        whole(path)


def test_values_below_zero_are_refused(tmp_path, write_tif, truth) -> None:
    path = write_tif(tmp_path / "a.tif", truth.astype(np.int16) * -1)
    with pytest.raises(InputError, match=r"a\.tif holds -1"):
        whole(path)


def test_a_torn_block_is_named(tmp_path, write_tif) -> None:
    noise = np.random.default_rng(0).integers(0, 2, (512, 512)).astype(np.uint8)
    path = write_tif(tmp_path / "a.tif", noise, tiled=True, blockxsize=256, blockysize=256, compress="deflate")
    with rasterio.open(path) as file:
        at = int(
            file.tags(1, ns="TIFF").get("BLOCK_OFFSET_1_1") or file.get_tag_item("BLOCK_OFFSET_1_1", "TIFF", bidx=1)
        )
    data = bytearray(path.read_bytes())
    data[at : at + 400] = bytes(400)
    path.write_bytes(data)
    with pytest.raises(InputError, match=r"a\.tif: the window at row 0.*cannot be decoded.*copy it again"):
        read_mask(path, 0, 0, 64, 64)

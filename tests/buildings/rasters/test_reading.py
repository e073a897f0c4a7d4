"""Whatever a raster is like, it is read as RGB with where there is data, or refused with a reason."""

from __future__ import annotations

import pickle

import cv2
import numpy as np
import pytest
import rasterio
from affine import Affine
from rasterio.enums import ColorInterp
from rasterio.shutil import copy as copy_raster

from robustvision.buildings.rasters import open_raster
from robustvision.core.errors import InputError

DEGREES = Affine(5e-6, 0, 144.96, 0, -5e-6, -37.81)


def read_all(path, **options):
    with open_raster(path, **options) as raster:
        return *raster.read(0, 0, raster.height, raster.width), raster


def test_rgb_comes_back_bit_for_bit(write_raster, picture):
    image, valid, raster = read_all(write_raster(picture(40, 30)))
    np.testing.assert_array_equal(image, picture(40, 30))
    assert valid.all()
    assert image.dtype == np.uint8
    assert raster.bands == (1, 2, 3)
    assert raster.notes == ()
    assert raster.gsd_m == pytest.approx(0.5, rel=1e-3)


def test_a_window_is_a_part_of_the_whole(write_raster, picture):
    with open_raster(write_raster(picture(40, 30))) as raster:
        image, valid = raster.read(7, 11, 13, 5)
    np.testing.assert_array_equal(image, picture(40, 30)[7:20, 11:16])
    assert valid.shape == (13, 5)


@pytest.mark.parametrize("window", [(-1, 0, 5, 5), (36, 0, 5, 5), (0, 26, 5, 5), (0, 0, 0, 5)])
def test_a_window_outside_is_refused(write_raster, picture, window):
    with (
        open_raster(write_raster(picture(40, 30))) as raster,
        pytest.raises(InputError, match="40 rows and 30 columns"),
    ):
        raster.read(*window)


@pytest.mark.parametrize("driver", ["COG", "VRT"])
def test_other_forms_read_the_same(write_raster, picture, tmp_path, driver):
    source = write_raster(picture(600, 530))
    copy_raster(source, tmp_path / "copy.any", driver=driver)
    image, valid, raster = read_all(tmp_path / "copy.any")
    np.testing.assert_array_equal(image, picture(600, 530))
    assert valid.all()
    assert raster.crs.to_epsg() == 32755
    with open_raster(tmp_path / "copy.any") as raster:
        assert driver != "VRT" or str(source) in raster.files


@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_plain_pictures_have_no_place(picture, tmp_path, suffix):
    path = tmp_path / f"photo.{suffix}"
    smooth = cv2.GaussianBlur(picture(64, 80), (0, 0), 9)
    cv2.imwrite(str(path), cv2.cvtColor(smooth, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 100])
    image, valid, raster = read_all(path)
    assert np.abs(image.astype(int) - smooth).max() <= (0 if suffix == "png" else 6)
    assert valid.all()
    assert raster.crs is None
    assert raster.gsd_m is None
    assert raster.transform.is_identity
    assert "coordinates are pixels" in raster.notes[0]


def test_one_band_is_grey(write_raster, picture):
    grey = picture(20, 30)[None, ..., 0]
    image, _, _ = read_all(write_raster(grey))
    np.testing.assert_array_equal(image, np.repeat(grey[0][..., None], 3, axis=2))


def test_a_palette_is_looked_up(write_raster):
    path = write_raster(np.array([[[0, 1], [2, 1]]], np.uint8))
    with rasterio.open(path, "r+") as file:
        file.write_colormap(1, {0: (10, 20, 30, 255), 1: (200, 100, 50, 255), 2: (0, 255, 0, 255)})
    image, _, _ = read_all(path)
    assert image.tolist() == [[[10, 20, 30], [200, 100, 50]], [[0, 255, 0], [200, 100, 50]]]


def test_a_palette_of_16_bits_is_refused(write_raster):
    path = write_raster(np.array([[[0, 300], [2, 1]]], np.uint16))
    with rasterio.open(path, "r+") as file:
        file.write_colormap(1, {number: (number % 256, 20, 30, 255) for number in range(400)})
    with pytest.raises(InputError, match=r"palette for uint16.*-expand rgb"):
        open_raster(path)


def test_alpha_says_where_data_is_and_is_no_colour(write_raster, picture):
    bands = np.concatenate([np.moveaxis(picture(20, 30), -1, 0), np.full((1, 20, 30), 255, np.uint8)])
    bands[3, :5] = 0
    colours = (ColorInterp.red, ColorInterp.green, ColorInterp.blue, ColorInterp.alpha)
    image, valid, _ = read_all(write_raster(bands, colours=colours))
    assert not valid[:5].any()
    assert valid[5:].all()
    assert not image[:5].any()
    np.testing.assert_array_equal(image[5:], picture(20, 30)[5:])


def test_eight_bands_are_read_by_their_meaning(write_raster, picture):
    bands = picture(20, 30, seed=1).repeat(3, axis=2)[..., :8].transpose(2, 0, 1).copy()
    bands += np.arange(8, dtype=np.uint8)[:, None, None]
    named = [ColorInterp.undefined] * 8
    named[4], named[2], named[1] = ColorInterp.red, ColorInterp.green, ColorInterp.blue
    _, _, raster = read_all(write_raster(bands, colours=named, photometric="minisblack"))
    assert raster.bands == (5, 3, 2)
    assert raster.notes == ()
    unnamed = [ColorInterp.gray] + [ColorInterp.undefined] * 7
    _image, _, raster = read_all(write_raster(bands, "unnamed.tif", colours=unnamed, photometric="minisblack"))
    assert raster.bands == (1, 2, 3)
    assert "no band is named" in raster.notes[0]
    chosen, _, _ = read_all(write_raster(bands, "chosen.tif", photometric="minisblack"), bands=(7, 8, 1))
    np.testing.assert_array_equal(chosen, bands[[6, 7, 0]].transpose(1, 2, 0))


@pytest.mark.parametrize("bands", [(1, 2), (1, 2, 4), (0, 1, 2), ()])
def test_bands_that_are_not_there_are_refused(write_raster, picture, bands):
    with pytest.raises(InputError, match=r"city\.tif has 1 to 3"):
        open_raster(write_raster(picture(20, 30)), bands=bands)


@pytest.mark.parametrize("nodata", [0, 255])
def test_nodata_is_where_all_bands_hold_it(write_raster, picture, nodata):
    picked = picture(20, 30)
    picked[:4], picked[10, 10] = nodata, (nodata, 50, 60)
    image, valid, _ = read_all(write_raster(picked, nodata=nodata))
    assert not valid[:4].any()
    assert valid[4:].all()
    assert not image[:4].any()
    assert image[10, 10, 1] == 50


def test_a_nodata_value_that_the_type_cannot_hold_is_nowhere(write_raster, picture, tmp_path):
    path = write_raster(picture(20, 30))
    vrt = tmp_path / "odd.vrt"
    copy_raster(path, vrt, driver="VRT")
    text = vrt.read_text().replace("<ColorInterp>", "<NoDataValue>-9999</NoDataValue><ColorInterp>")
    vrt.write_text(text)
    assert read_all(vrt)[1].all()


def test_a_given_nodata_value_overrules(write_raster, picture):
    picked = picture(20, 30)
    picked[5:8] = 77
    path = write_raster(picked, nodata=255)
    assert read_all(path)[1].all()
    assert not read_all(path, nodata=77)[1][5:8].any()


def test_a_mask_band_says_where_data_is(write_raster, picture):
    mask = np.zeros((20, 30), bool)
    mask[3:9, 4:20] = True
    np.testing.assert_array_equal(read_all(write_raster(picture(20, 30), mask=mask))[1], mask)


@pytest.mark.parametrize("declared", [None, np.nan])
def test_floats_that_are_not_finite_are_no_data(write_raster, declared):
    values = np.random.default_rng(0).normal(100, 20, (3, 40, 50)).astype(np.float32)
    values[:, :6] = np.nan
    values[1, 20, 20] = np.inf
    image, valid, _ = read_all(write_raster(values, nodata=declared))
    expected = np.ones((40, 50), bool)
    expected[:6] = expected[20, 20] = False
    np.testing.assert_array_equal(valid, expected)
    assert not image[~valid].any()


@pytest.mark.parametrize("value", [0, 255])
def test_an_undeclared_collar_is_recognised_and_dark_roofs_are_not(write_raster, picture, value):
    picked = picture(400, 500)
    triangle = np.add.outer(np.arange(400), np.arange(500)) < 150
    picked[triangle] = value
    picked[300:330, 300:340] = value  # a roof, or a shadow
    _, valid, raster = read_all(write_raster(picked))
    np.testing.assert_array_equal(valid, ~triangle)
    assert f"collar of {value}" in raster.notes[0]


def test_a_collar_is_found_alike_in_a_large_raster_by_windows_and_in_workers(write_raster, picture):
    picked = picture(1500, 2300)
    triangle = np.add.outer(np.arange(1500), np.arange(2300)) < 900
    picked[triangle] = 0
    with open_raster(write_raster(picked)) as raster:
        description = pickle.loads(pickle.dumps(raster.description))
        whole = raster.read(0, 0, 1500, 2300)[1]
    with description.open() as again:
        parts = np.concatenate([again.read(row, 0, 250, 2300)[1] for row in range(0, 1500, 250)])
    np.testing.assert_array_equal(whole, ~triangle)
    np.testing.assert_array_equal(parts, whole)


def test_a_dark_corner_is_no_collar(write_raster, picture):
    picked = picture(400, 500)
    picked[:20, :20] = 0  # 0.2 % of the raster
    assert read_all(write_raster(picked))[1].all()


def test_16_bits_are_scaled_between_percentiles_of_the_whole_raster(write_raster):
    values = np.random.default_rng(0).integers(300, 3000, (3, 200, 300)).astype(np.uint16)
    values[:, :, 150:] *= 2
    values[:, :10] = 0
    path = write_raster(values, nodata=0)
    _, _, raster = read_all(path)
    limits = np.percentile(values[:, 10:].reshape(3, -1).astype(np.float64), (2, 98), axis=1).T
    np.testing.assert_allclose(raster.scale, limits)
    assert "uint16 is scaled" in raster.notes[0]
    expected = np.clip((values - limits[:, :1, None]) / np.diff(limits)[..., None], 0, 1) * 255
    with open_raster(path) as raster:  # a window of one half is scaled as the whole is
        window = raster.read(50, 0, 60, 120)[0].astype(np.float64)
    assert np.abs(window - expected[:, 50:110, :120].transpose(1, 2, 0)).max() <= 0.5 + 1e-3


@pytest.mark.parametrize("scale", [(1000, 2000), [(1000, 2000)] * 3])
def test_a_given_scale_is_taken(write_raster, scale):
    values = np.broadcast_to(np.array([500, 1000, 1500, 2000, 9000], np.uint16), (3, 4, 5))
    image, _, raster = read_all(write_raster(values), scale=scale)
    assert image[0, :, 0].tolist() == [0, 0, 128, 255, 255]
    assert raster.scale == ((1000.0, 2000.0),) * 3


def test_8_bits_stay_as_they_are_whatever_the_scale(write_raster, picture):
    np.testing.assert_array_equal(read_all(write_raster(picture(9, 9)), scale=(1000, 2000))[0], picture(9, 9))


def test_a_flat_raster_can_be_scaled(write_raster):
    image, valid, _ = read_all(write_raster(np.full((3, 9, 9), 700, np.int16)))
    assert valid.all()
    assert not image.any()


@pytest.mark.parametrize("scale", [(2, 1), (1, 1), (0, np.nan), (1, 2, 3), [(0, 1), (0, 1)]])
def test_an_impossible_scale_is_refused(write_raster, picture, scale):
    with pytest.raises(InputError, match="scale is"):
        open_raster(write_raster(picture(9, 9)), scale=scale)


def test_complex_numbers_are_refused(write_raster):
    with pytest.raises(InputError, match="complex64"):
        open_raster(write_raster(np.ones((1, 9, 9), np.complex64)))


def test_rotated_and_south_up_rasters_keep_their_transform(write_raster, picture):
    south_up = Affine(0.5, 0, 320000, 0, 0.5, 5811000)
    rotated = Affine.translation(320000, 5811000) @ Affine.rotation(30) @ Affine.scale(0.5, -0.5)
    for name, transform in {"south.tif": south_up, "turned.tif": rotated}.items():
        image, _, raster = read_all(write_raster(picture(20, 30), name, transform=transform))
        np.testing.assert_array_equal(image, picture(20, 30))
        assert raster.transform.almost_equals(transform, 1e-6)
        assert raster.gsd_m == pytest.approx(0.5, rel=1e-3)


def test_degrees_are_measured_in_metres_and_unequal_pixels_are_told(write_raster, picture):
    _, _, raster = read_all(write_raster(picture(20, 30), transform=DEGREES, crs="EPSG:4326"))
    east, north = 5e-6 * 111320 * np.cos(np.deg2rad(37.81)), 5e-6 * 111000
    assert raster.sizes_m == pytest.approx((east, north), rel=5e-3)
    assert raster.gsd_m == pytest.approx(np.sqrt(east * north), rel=5e-3)
    assert "0.44 x 0.555 m" in raster.notes[0]


def test_a_transform_without_a_system_gives_no_metres(write_raster, picture):
    _, _, raster = read_all(write_raster(picture(20, 30), crs=None))
    assert raster.gsd_m is None
    assert raster.crs is None
    assert "no coordinate reference system" in raster.notes[0]


def test_control_points_alone_are_told(write_raster, picture):
    points = [rasterio.control.GroundControlPoint(r, c, 320000 + c, 5812000 - r) for r in (0, 19) for c in (0, 29)]
    path = write_raster(picture(20, 30), transform=Affine.identity(), crs=None)
    with rasterio.open(path, "r+") as file:
        file.gcps = (points, rasterio.crs.CRS.from_epsg(32755))
    _, _, raster = read_all(path)
    assert raster.gsd_m is None
    assert "gdalwarp" in raster.notes[0]


@pytest.mark.parametrize("size", [(1, 1), (5, 200), (31, 31)])
def test_small_rasters_are_read(write_raster, picture, size):
    np.testing.assert_array_equal(read_all(write_raster(picture(*size)))[0], picture(*size))


def test_a_corrupt_block_names_the_file_and_the_window(write_raster, tmp_path):
    smooth = np.broadcast_to((np.arange(768) // 4).astype(np.uint8), (3, 768, 768))
    path = write_raster(smooth, tiled=True, blockxsize=256, blockysize=256, compress="deflate", interleave="pixel")
    with rasterio.open(path) as file:
        offset = int(file.get_tag_item("BLOCK_OFFSET_1_1", "TIFF", bidx=1))
    data = bytearray(path.read_bytes())
    data[offset + 20 : offset + 60] = b"\xff" * 40
    path.write_bytes(data)
    with open_raster(path) as raster:
        assert raster.read(0, 0, 256, 256)[1].all()
        with pytest.raises(InputError, match=r"city\.tif: the window at row 300, column 310 \(20 x 30\).*damaged"):
            raster.read(300, 310, 20, 30)


@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_a_picture_that_is_cut_short_is_refused(picture, tmp_path, suffix):
    path = tmp_path / f"photo.{suffix}"
    cv2.imwrite(str(path), picture(300, 400))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(InputError, match=f"photo.{suffix}"), open_raster(path) as raster:
        raster.read(0, 0, 300, 400)


@pytest.mark.parametrize("content", [None, b"", b"no raster"])
def test_what_is_no_raster_is_refused(tmp_path, content):
    path = tmp_path / "nothing.tif"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=r"nothing\.tif is no raster"):
        open_raster(path)

"""A raster in, probabilities out: exact, the same whoever computed them, and nothing is lost by a kill."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import textwrap
import time

import numpy as np
import pytest
import rasterio
import rasterio.shutil
from affine import Affine
from onnx import helper

from robustvision.buildings.contract import IMAGE, LOGITS, Preprocessing
from robustvision.buildings.rasters import predict_raster
from robustvision.core.errors import InputError, ModelError


def predict(path, model, out, **options):
    return predict_raster(path, model, out, quiet=True, **options)


def read(path):
    with rasterio.open(path) as file:
        return file.read(1), file.dataset_mask() > 0


@pytest.fixture(scope="session")
def blurring(save_graph, tmp_path_factory):
    """A model whose answer depends on what is around a pixel, and so on the tile: a random 9x9 convolution."""
    weight = np.random.default_rng(0).normal(0, 0.1, (1, 3, 9, 9)).astype(np.float32)
    nodes = [helper.make_node("Conv", [IMAGE, "w"], [LOGITS], pads=[4, 4, 4, 4])]
    path = tmp_path_factory.mktemp("model") / "blurring.onnx"
    return save_graph(path, nodes, {"w": weight}, Preprocessing(tile_px=64, stride_px=48))


@pytest.mark.parametrize("size", [(300, 200), (64, 64), (65, 63), (20, 500), (500, 20), (1, 1), (7, 31), (700, 129)])
def test_an_identity_network_gives_its_input_back_bit_for_bit(write_raster, picture, identity, tmp_path, size):
    image = picture(*size)
    result = predict(write_raster(image), identity, tmp_path / "out.tif")
    values, valid = read(tmp_path / "out.tif")
    np.testing.assert_array_equal(values, image[..., 0])
    assert valid.all()
    assert result.valid_share == 1
    assert result.skipped_tiles == 0
    assert {entry.name for entry in tmp_path.iterdir()} == {"city.tif", "out.tif"}


@pytest.mark.parametrize("blend", ["hann", "triangular", "gaussian"])
@pytest.mark.parametrize(("tile_px", "stride_px"), [(64, 48), (64, 32), (96, 7), (32, 32), (128, 100)])
def test_it_does_so_for_any_tiles(write_raster, picture, identity, tmp_path, blend, tile_px, stride_px):
    image = picture(230, 170)
    options = {"blend": blend, "tile_px": tile_px, "stride_px": stride_px}
    predict(write_raster(image), identity, tmp_path / "out.tif", **options)
    np.testing.assert_array_equal(read(tmp_path / "out.tif")[0], image[..., 0])


def test_tiles_are_blended_by_their_weights(write_raster, picture, blurring, tmp_path):
    """Against the whole computation in float64, tile by tile."""
    image = picture(150, 130)
    predict(write_raster(image), blurring, tmp_path / "out.tif")
    import onnxruntime

    session = onnxruntime.InferenceSession(str(blurring))
    preprocessing = Preprocessing()
    line = np.sin(np.pi * (np.arange(64) + 0.5) / 64) ** 2
    weights = np.maximum(np.outer(line, line), 1e-3)
    total, weight = np.zeros((2, 150, 130))
    for row in (0, 48, 86):
        for column in (0, 48, 66):
            tile = image[row : row + 64, column : column + 64]
            planes = (tile / 255 - preprocessing.mean) / preprocessing.std
            (logits,) = session.run(None, {IMAGE: planes.transpose(2, 0, 1)[None].astype(np.float32)})
            total[row : row + 64, column : column + 64] += weights / (1 + np.exp(-logits[0, 0].astype(np.float64)))
            weight[row : row + 64, column : column + 64] += weights
    assert np.abs(read(tmp_path / "out.tif")[0] - 255 * total / weight).max() <= 0.5 + 1e-3


def test_any_number_of_workers_writes_the_same_bytes(write_raster, picture, blurring, tmp_path):
    path = write_raster(picture(900, 200))
    for workers in (1, 2, 3):
        predict(path, blurring, tmp_path / f"{workers}.tif", workers=workers, threads=1)
    alone = (tmp_path / "1.tif").read_bytes()
    assert (tmp_path / "2.tif").read_bytes() == alone
    assert (tmp_path / "3.tif").read_bytes() == alone


def test_any_batch_size_is_within_rounding(write_raster, picture, blurring, tmp_path):
    path = write_raster(picture(300, 400))
    predict(path, blurring, tmp_path / "1.tif", batch_size=1)
    for batch_size in (2, 5, 64):
        predict(path, blurring, tmp_path / "out.tif", batch_size=batch_size, resume=False)
        assert np.abs(read(tmp_path / "1.tif")[0].astype(int) - read(tmp_path / "out.tif")[0]).max() <= 1


@pytest.mark.parametrize("shape", [(3, 3, "y", "x"), ("batch", 3, 64, 64), (2, 3, 64, 64)])
def test_a_graph_of_fixed_sizes_is_run_in_them(write_raster, picture, write_identity, tmp_path, shape):
    model = write_identity(tmp_path / "fixed.onnx", shape=shape)
    image = picture(130, 240)
    predict(write_raster(image), model, tmp_path / "out.tif", batch_size=7)
    np.testing.assert_array_equal(read(tmp_path / "out.tif")[0], image[..., 0])
    if shape[2] == 64:
        with pytest.raises(InputError, match="this model's graph takes 64 x 64 px alone"):
            predict(tmp_path / "city.tif", model, tmp_path / "out.tif", tile_px=96)


def test_nodata_has_no_result_and_its_tiles_are_skipped(write_raster, picture, identity, tmp_path):
    image = picture(300, 400)
    image[:, :210] = 0
    image[100:120, 300:310] = 0
    result = predict(write_raster(image, nodata=0), identity, tmp_path / "out.tif")
    values, valid = read(tmp_path / "out.tif")
    np.testing.assert_array_equal(valid, image.any(axis=2))
    np.testing.assert_array_equal(values, image[..., 0])
    whole = sum(1 for column in range(0, 400 - 64 + 48, 48) if min(column, 336) + 64 <= 210)
    assert result.skipped_tiles == 6 * whole > 0
    assert result.valid_share == pytest.approx(valid.mean())
    with rasterio.open(tmp_path / "out.tif") as file:
        assert file.mask_flag_enums == ([rasterio.enums.MaskFlags.per_dataset],)


def test_a_raster_without_data_gives_an_empty_result(write_raster, identity, tmp_path):
    result = predict(write_raster(np.zeros((100, 90, 3), np.uint8), nodata=0), identity, tmp_path / "out.tif")
    assert result.tiles == 0
    assert result.valid_share == 0
    assert result.warnings == (
        "no pixel has data, or none inside the area: nothing was looked at; check its nodata value",
    )
    assert not read(tmp_path / "out.tif")[1].any()


def test_the_output_is_a_tiled_compressed_geotiff_with_overviews(write_raster, identity, tmp_path):
    image = np.full((1100, 700, 3), 128, np.uint8)
    image[:600] = 7
    predict(write_raster(image), identity, tmp_path / "out.tif")
    with rasterio.open(tmp_path / "out.tif") as file:
        assert file.driver == "GTiff"
        assert file.dtypes == ("uint8",)
        assert file.crs.to_epsg() == 32755
        assert file.block_shapes == [(512, 512)]
        assert file.compression.name == "deflate"
        assert file.tags(ns="IMAGE_STRUCTURE")["PREDICTOR"] == "2"
        assert file.overviews(1) == [2, 4]
        assert file.transform == rasterio.open(tmp_path / "city.tif").transform
        assert file.mask_flag_enums == ([rasterio.enums.MaskFlags.all_valid],)
        tags = file.tags()
        small = file.read(1, out_shape=(275, 175))
    assert (small[:149] == 7).all()
    assert (small[151:] == 128).all()
    assert tags["ROBUSTVISION_TARGET"] == "roof"
    assert tags["ROBUSTVISION_MODEL"] == "identity"
    assert (tmp_path / "out.tif").stat().st_size < 40_000


@pytest.mark.parametrize(
    "transform",
    [
        Affine(0.5, 0, 320000, 0, 0.5, 5811000),
        Affine.translation(320000, 5811000) @ Affine.rotation(30) @ Affine.scale(0.5, -0.5),
    ],
    ids=["south-up", "rotated"],
)
def test_the_place_is_the_rasters(write_raster, picture, identity, tmp_path, transform):
    image = picture(100, 90)
    predict(write_raster(image, transform=transform), identity, tmp_path / "out.tif")
    with rasterio.open(tmp_path / "out.tif") as file:
        assert file.transform.almost_equals(transform, 1e-6)
        np.testing.assert_array_equal(file.read(1), image[..., 0])


def test_a_raster_without_a_place_gives_one_without(picture, identity, tmp_path):
    import cv2

    cv2.imwrite(str(tmp_path / "photo.png"), picture(100, 90)[..., ::-1])
    result = predict(tmp_path / "photo.png", identity, tmp_path / "out.tif")
    np.testing.assert_array_equal(read(tmp_path / "out.tif")[0], picture(100, 90)[..., 0])
    assert "no place on the map" in result.warnings[0]
    assert result.crs_wkt is None


def test_16_bits_take_the_scale_of_the_call(write_raster, identity, tmp_path):
    values = np.random.default_rng(0).integers(1000, 1256, (3, 100, 120)).astype(np.uint16)
    predict(write_raster(values), identity, tmp_path / "out.tif", scale=(1000, 1255))
    np.testing.assert_array_equal(read(tmp_path / "out.tif")[0], values[0] - 1000)


def test_16_bits_take_the_scale_that_the_model_was_trained_with(write_raster, write_identity, tmp_path):
    values = np.random.default_rng(0).integers(1000, 1256, (3, 100, 120)).astype(np.uint16)
    model = write_identity(tmp_path / "scaled.onnx", scale=((1000.0, 1255.0),) * 3)
    predict(write_raster(values), model, tmp_path / "out.tif")
    np.testing.assert_array_equal(read(tmp_path / "out.tif")[0], values[0] - 1000)


def test_an_unusual_pixel_size_is_told(write_raster, picture, write_identity, tmp_path):
    model = write_identity(tmp_path / "fine.onnx", gsd_m=(0.1, 0.3))
    result = predict(write_raster(picture(80, 80)), model, tmp_path / "out.tif")
    assert "0.5 m, the model was trained on 0.1 to 0.3 m" in result.warnings[0]
    near = write_identity(tmp_path / "near.onnx", gsd_m=(0.1, 0.49))
    assert predict(tmp_path / "city.tif", near, tmp_path / "out.tif").warnings == ()


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"batch_size": 0}, "batch_size is 0"),
        ({"tile_px": 50}, "multiples of 32"),
        ({"tile_px": 0}, "multiples of 32"),
        ({"stride_px": 65}, "stride_px is 65"),
        ({"workers": 0}, "workers is 0"),
        ({"threads": 0}, "threads is 0"),
        ({"blend": "flat"}, "blend is 'flat'"),
        ({"providers": ["Abacus"]}, "Abacus"),
    ],
)
def test_impossible_options_are_refused_and_leave_nothing(write_raster, picture, identity, tmp_path, options, match):
    path = write_raster(picture(80, 80))
    with pytest.raises(InputError, match=match):
        predict(path, identity, tmp_path / "out.tif", **options)
    assert not (tmp_path / "out.tif").exists()


def test_the_raster_is_never_its_own_output(write_raster, picture, identity, tmp_path):
    path = write_raster(picture(80, 80))
    (tmp_path / "link.tif").symlink_to(path)
    for out in (path, tmp_path / "link.tif"):
        with pytest.raises(InputError, match="is read, so it is not written over"):
            predict(path, identity, out)
    with pytest.raises(InputError, match="is not a folder"):
        predict(path, identity, tmp_path / "missing" / "out.tif")


def test_a_model_of_something_else_is_refused(write_raster, picture, save_graph, tmp_path):
    nodes = [helper.make_node("Conv", [IMAGE, "w"], [LOGITS], strides=[2, 2])]
    settings = Preprocessing(tile_px=64, stride_px=48)
    path = save_graph(tmp_path / "half.onnx", nodes, {"w": np.ones((1, 3, 2, 2), np.float32)}, settings)
    with pytest.raises(ModelError, match="gave logits"):
        predict(write_raster(picture(80, 80)), path, tmp_path / "out.tif")
    (tmp_path / "bad.onnx").write_bytes(b"no model")
    with pytest.raises(ModelError, match=r"bad\.onnx"):
        predict(tmp_path / "city.tif", tmp_path / "bad.onnx", tmp_path / "out.tif")
    with pytest.raises(ModelError, match="does not exist"):
        predict(tmp_path / "city.tif", tmp_path / "none.onnx", tmp_path / "out.tif")


def test_a_corrupt_block_stops_it_by_name_and_the_rest_is_kept(write_raster, identity, tmp_path):
    smooth = np.broadcast_to((np.arange(768) // 4).astype(np.uint8), (3, 768, 768))
    path = write_raster(smooth, tiled=True, blockxsize=256, blockysize=256, compress="deflate", interleave="pixel")
    with rasterio.open(path) as file:
        offset = int(file.get_tag_item("BLOCK_OFFSET_1_1", "TIFF", bidx=1))
    data = bytearray(path.read_bytes())
    data[offset + 20 : offset + 60] = b"\xff" * 40
    path.write_bytes(data)
    with pytest.raises(InputError, match=r"city\.tif: the window at row 240.*damaged there"):
        predict(path, identity, tmp_path / "out.tif")
    assert not (tmp_path / "out.tif").exists()


SLOW = textwrap.dedent("""
    import sys, time
    from robustvision.buildings.rasters import predicting
    plain = predicting.predict_strip
    def slow(job, number):
        plain(job, number)
        print(number, flush=True)
        if number == 2:
            time.sleep(60)
    predicting.predict_strip = slow
    predicting.predict_raster(*sys.argv[1:4], quiet=True)
""")


def kill_after_three_strips(*arguments):
    process = subprocess.Popen(
        [sys.executable, "-c", SLOW, *map(str, arguments)], stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    assert [process.stdout.readline().strip() for _ in range(3)] == ["0", "1", "2"]
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    process.stdout.close()


def test_a_killed_run_is_taken_up_where_it_was(write_raster, picture, blurring, tmp_path):
    path, out = write_raster(picture(1200, 150)), tmp_path / "out.tif"
    kill_after_three_strips(path, blurring, out)
    assert not out.exists()
    assert len(list((tmp_path / ".out.tif.work").glob("strip-*.npz"))) == 3
    result = predict(path, blurring, out, batch_size=3, workers=2, threads=1)
    assert result.resumed_strips == 3
    assert not (tmp_path / ".out.tif.work").exists()
    fresh = predict(path, blurring, tmp_path / "fresh.tif")
    assert fresh.resumed_strips == 0
    assert fresh.tiles == result.tiles
    assert np.abs(read(out)[0].astype(int) - read(tmp_path / "fresh.tif")[0]).max() <= 1


@pytest.mark.parametrize("change", ["raster", "model", "tiles", "area", "nodata", "no resume"])
def test_whatever_changed_is_computed_anew(write_raster, picture, blurring, identity, write_area, tmp_path, change):
    path, out = write_raster(picture(1200, 150)), tmp_path / "out.tif"
    kill_after_three_strips(path, blurring, out)
    model, options = blurring, {}
    if change == "raster":
        time.sleep(0.02)
        path = write_raster(picture(1200, 150, seed=1))
    elif change == "model":
        model = identity
    elif change == "tiles":
        options = {"stride_px": 50}
    elif change == "area":
        options = {"aoi": write_area(["POLYGON ((320010 5811900, 320060 5811900, 320060 5811500, 320010 5811900))"])}
    elif change == "nodata":
        options = {"nodata": 77}
    else:
        options = {"resume": False}
    assert predict(path, model, out, **options).resumed_strips == 0
    predict(path, model, tmp_path / "fresh.tif", **options)
    np.testing.assert_array_equal(read(out)[0], read(tmp_path / "fresh.tif")[0])


def test_a_finished_output_is_found_again(write_raster, picture, blurring, tmp_path):
    path, out = write_raster(picture(500, 150)), tmp_path / "out.tif"
    first = predict(path, blurring, out)
    written = out.stat().st_mtime_ns
    again = predict(path, blurring, out)
    assert out.stat().st_mtime_ns == written
    assert again.resumed_strips > 0
    assert (again.tiles, again.skipped_tiles, again.valid_share) == (first.tiles, first.skipped_tiles, 1.0)
    assert predict(path, blurring, out, resume=False).resumed_strips == 0
    assert out.stat().st_mtime_ns > written


def test_a_foreign_folder_is_not_touched(write_raster, picture, identity, tmp_path):
    folder = tmp_path / ".out.tif.work"
    folder.mkdir()
    (folder / "thesis.txt").write_text("mine")
    with pytest.raises(InputError, match="is in the way"):
        predict(write_raster(picture(80, 80)), identity, tmp_path / "out.tif")
    assert (folder / "thesis.txt").read_text() == "mine"


def test_neither_a_source_of_a_mosaic_nor_a_foreign_raster_is_written_over(write_raster, picture, identity, tmp_path):
    path = write_raster(picture(80, 80))
    with rasterio.open(path) as source:
        rasterio.shutil.copy(source, tmp_path / "mosaic.vrt", driver="VRT")
    other = write_raster(picture(80, 80), name="other.tif")
    before = path.read_bytes(), other.read_bytes()
    for source, out in ((tmp_path / "mosaic.vrt", path), (path, other)):
        with pytest.raises(InputError, match="no result of robustvision"):
            predict(source, identity, out)
    assert (path.read_bytes(), other.read_bytes()) == before
    predict(path, identity, tmp_path / "out.tif")
    predict(other, identity, tmp_path / "out.tif")  # an older result of another raster
    with rasterio.open(tmp_path / "out.tif") as file:
        assert file.tags()["ROBUSTVISION_SOURCE"] == "other.tif"


def test_a_full_disk_is_told_and_the_same_call_goes_on(write_raster, picture, identity, tmp_path, monkeypatch):
    path = write_raster(picture(80, 80))

    def full(*arrays, **named):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    with pytest.raises(InputError, match="No space left on device"):
        predict(path, identity, tmp_path / "out.tif")
    monkeypatch.undo()
    assert not (tmp_path / "out.tif").exists()
    assert predict(path, identity, tmp_path / "out.tif").valid_share == 1

"""Rasters and models that the tests of rasters share."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pyogrio
import pytest
import rasterio
import shapely
from affine import Affine
from onnx import helper, numpy_helper

from robustvision.buildings.contract import IMAGE, LOGITS, TASK, Preprocessing
from robustvision.core.runtime.manifest import METADATA_KEY, GraphSpec, Manifest, TensorSpec

UTM = "EPSG:32755"
NORTH_UP = Affine(0.5, 0, 320000, 0, -0.5, 5812000)


@pytest.fixture(scope="session")
def write_identity():
    """Write a model whose probability is the first channel's value / 255, exactly but for rounding.

    The graph undoes the normalisation, and its logit undoes the sigmoid: ``log(x / (1 - x))``.
    """

    def write(path, *, tile_px=64, stride_px=48, shape=("batch", 3, "y", "x"), **preprocessing):
        settings = Preprocessing(tile_px=tile_px, stride_px=stride_px, **preprocessing)
        weight = np.zeros((1, 3, 1, 1), np.float32)
        weight[0, 0] = settings.std[0]
        constants = {"w": weight, "b": np.float32([settings.mean[0]]), "low": np.float32(1e-6)}
        constants |= {"high": np.float32(1 - 1e-6), "one": np.float32(1)}
        nodes = [
            helper.make_node("Conv", [IMAGE, "w", "b"], ["x"]),
            helper.make_node("Clip", ["x", "low", "high"], ["p"]),
            helper.make_node("Sub", ["one", "p"], ["q"]),
            helper.make_node("Div", ["p", "q"], ["odds"]),
            helper.make_node("Log", ["odds"], [LOGITS]),
        ]
        return save(path, nodes, constants, settings, shape)

    return write


def save(path, nodes, constants, settings, shape=("batch", 3, "y", "x")):
    out = (shape[0], 1, *shape[2:])
    specs = TensorSpec(IMAGE, "float32", shape), TensorSpec(LOGITS, "float32", out)
    infos = [helper.make_tensor_value_info(spec.name, onnx.TensorProto.FLOAT, list(spec.shape)) for spec in specs]
    initialisers = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "g", infos[:1], infos[1:], initialisers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.checker.check_model(model)
    graphs = {"main": GraphSpec(inputs=specs[:1], outputs=specs[1:])}
    manifest = Manifest(task=TASK, name=Path(path).stem, graphs=graphs, preprocessing=settings.entry())
    helper.set_model_props(model, {METADATA_KEY: manifest.to_json()})
    Path(path).write_bytes(model.SerializeToString())
    return Path(path)


@pytest.fixture(scope="session")
def save_graph():
    return save


@pytest.fixture(scope="session")
def identity(write_identity, tmp_path_factory):
    return write_identity(tmp_path_factory.mktemp("model") / "identity.onnx")


@pytest.fixture
def write_raster(tmp_path):
    """Write bands [n, H, W], or an RGB picture [H, W, 3], as a GeoTIFF."""

    def write(values, name="city.tif", *, transform=NORTH_UP, crs=UTM, mask=None, colours=None, **profile):
        values = np.asarray(values)
        bands = np.moveaxis(values, -1, 0) if values.ndim == 3 and values.shape[-1] == 3 else values
        path = tmp_path / name
        settings = {"driver": "GTiff", "dtype": bands.dtype, "transform": transform, "crs": crs} | profile
        with (
            rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True),
            rasterio.open(path, "w", count=len(bands), height=bands.shape[1], width=bands.shape[2], **settings) as file,
        ):
            if colours:
                file.colorinterp = colours
            file.write(bands)
            if mask is not None:
                file.write_mask(mask)
        return path

    return write


@pytest.fixture
def picture():
    """A random RGB picture of any size, without pure black."""

    def make(height, width, seed=0):
        return np.random.default_rng(seed).integers(1, 255, (height, width, 3), dtype=np.uint8)

    return make


@pytest.fixture
def write_area(tmp_path):
    """Write shapes, as text, to a vector file."""

    def write(shapes, name="area.gpkg", *, crs=UTM):
        geometry = shapely.from_wkt(shapes)
        pyogrio.raw.write(
            tmp_path / name,
            shapely.to_wkb(geometry),
            field_data=[],
            fields=np.array([], object),
            geometry_type=geometry[0].geom_type,
            crs=crs,
        )
        return tmp_path / name

    return write

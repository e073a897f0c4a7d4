"""Tiny trees in the layout of real data sets, written here by rasterio, OpenCV and pyogrio."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyogrio
import pytest
import rasterio
import shapely
from affine import Affine

CRS = "EPSG:32755"
ORIGIN = (320_000.0, 5_814_000.0)
"""Upper left corner of the rasters: Melbourne, in UTM zone 55 south."""
PIXEL_M = 0.5


NORTH_UP = Affine(PIXEL_M, 0, ORIGIN[0], 0, -PIXEL_M, ORIGIN[1])


@pytest.fixture
def picture() -> Callable[..., np.ndarray]:
    """A textured picture, uint8 [H, W, 3]; no two numbers give the same."""

    def make(number: int = 0, height: int = 64, width: int = 64) -> np.ndarray:
        coarse = np.random.default_rng(number).integers(20, 236, (8, 8, 3), np.uint8)
        return np.asarray(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC))

    return make


@pytest.fixture
def mask() -> Callable[..., np.ndarray]:
    """A mask with one building in rows 10 to 29 and columns 5 to 24."""

    def make(height: int = 64, width: int = 64, value: int = 255) -> np.ndarray:
        values = np.zeros((height, width), np.uint8)
        values[10:30, 5:25] = value
        return values

    return make


@pytest.fixture
def write_png() -> Callable[[Path, np.ndarray], Path]:
    """Write a picture or a mask by OpenCV."""

    def write(path: Path, values: np.ndarray) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        turned = values if values.ndim == 2 else np.ascontiguousarray(values[..., ::-1])
        ok, data = cv2.imencode(path.suffix, turned)
        assert ok
        path.write_bytes(data.tobytes())
        return path

    return write


@pytest.fixture
def write_tif() -> Callable[..., Path]:
    """Write a raster [H, W] or [H, W, bands] by rasterio; ``crs=None`` and ``transform=None`` leave its place out."""

    def write(
        path: Path, values: np.ndarray, *, crs: str | None = CRS, transform: Affine | None = NORTH_UP, **extra: Any
    ) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        planes = values[None] if values.ndim == 2 else values.transpose(2, 0, 1)
        place = {name: value for name, value in (("crs", crs), ("transform", transform)) if value is not None}
        count, height, width = planes.shape
        profile = {"driver": "GTiff", "count": count, "height": height, "width": width, "dtype": planes.dtype, **place}
        with rasterio.open(path, "w", **(profile | extra)) as file:
            file.write(planes)
        return path

    return write


@pytest.fixture
def write_map() -> Callable[..., Path]:
    """Write geometries by pyogrio."""

    def write(
        path: Path, geometries: Sequence[Any], *, crs: str | None = CRS, geometry_type: str = "Unknown", **extra: Any
    ) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        wkb = np.array([None if one is None else shapely.to_wkb(one, output_dimension=3) for one in geometries], object)
        numbers = np.arange(len(geometries), dtype=np.int32)
        pyogrio.raw.write(
            path, wkb, [numbers], np.array(["number"], object), crs=crs, geometry_type=geometry_type, **extra
        )
        return path

    return write


@pytest.fixture
def square() -> Callable[..., shapely.Polygon]:
    """A rectangle that covers given rows and columns of a raster that begins at ``ORIGIN``, in map units."""

    def make(row: float, column: float, height: float, width: float) -> shapely.Polygon:
        x, y = ORIGIN[0] + PIXEL_M * column, ORIGIN[1] - PIXEL_M * row
        return shapely.box(x, y - PIXEL_M * height, x + PIXEL_M * width, y)

    return make

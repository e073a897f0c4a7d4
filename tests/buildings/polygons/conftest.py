"""Rasters of probabilities that the tests of polygons share."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from rasterio.errors import NotGeoreferencedWarning

NORTH_UP = Affine(0.5, 0, 320_000, 0, -0.5, 5_810_000)
UTM_55_SOUTH = "EPSG:32755"


def write_levels(path: Path, levels: np.ndarray, *, transform=NORTH_UP, crs=UTM_55_SOUTH, nodata=None, mask=None):
    """A GeoTIFF of probabilities as the pipeline writes it."""
    height, width = levels.shape
    profile = {"driver": "GTiff", "height": height, "width": width, "count": 1, "dtype": levels.dtype}
    profile |= {"transform": transform, "crs": crs, "nodata": nodata}
    with warnings.catch_warnings(), rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True):
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(path, "w", **profile) as raster:
            raster.write(levels, 1)
            if mask is not None:
                raster.write_mask(mask)
    return path


@pytest.fixture
def levels_tif(tmp_path) -> Callable[..., Path]:
    """Writes uint8 levels to a file of its own."""
    return lambda levels, **options: write_levels(tmp_path / "probability.tif", levels, **options)


@pytest.fixture(scope="session")
def town() -> np.ndarray:
    """uint8 [300, 260]: 25 turned rectangles, blurred and noisy, so that outlines are ragged and some touch."""
    import cv2

    rng = np.random.default_rng(5)
    mask = np.zeros((300, 260), np.uint8)
    for y in range(30, 300, 60):
        for x in range(26, 260, 52):
            box = cv2.boxPoints(((x, y), tuple(rng.uniform(16, 44, 2)), rng.uniform(0, 90)))
            cv2.fillPoly(mask, [np.rint(box).astype(int)], 255)
    noise = cv2.resize(rng.uniform(-70, 70, (75, 65)), (260, 300))
    return np.clip(cv2.GaussianBlur(mask.astype(float), (0, 0), 1.5) + noise, 0, 255).astype(np.uint8)

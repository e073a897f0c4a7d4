"""Probabilities as a GeoTIFF that every GIS opens at once: tiled, compressed, with overviews and a mask."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import rasterio
from affine import Affine
from rasterio.enums import Resampling
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.windows import Window

from robustvision.core.errors import InputError
from robustvision.core.runtime.files import write_atomically

BLOCK_PX = 512
PROFILE = {
    "driver": "GTiff",
    "count": 1,
    "dtype": "uint8",
    "tiled": True,
    "blockxsize": BLOCK_PX,
    "blockysize": BLOCK_PX,
    "compress": "DEFLATE",
    "predictor": 2,
    "zlevel": 1,  # half the time of level 6, for 3 % more bytes; several threads would write blocks in any order
    "BIGTIFF": "IF_SAFER",
}

OVERVIEWS = {"PREDICTOR_OVERVIEW": 2, "ZLEVEL_OVERVIEW": 1}

UInt8 = npt.NDArray[np.uint8]
Bool = npt.NDArray[np.bool_]


def write_probabilities(
    path: str | os.PathLike[str],
    rows: Iterable[tuple[UInt8, Bool]],
    *,
    height: int,
    width: int,
    transform: Affine,
    crs: Any,
    tags: Mapping[str, str],
    has_mask: bool = True,
) -> None:
    """Write a GeoTIFF of probabilities, whole or not at all.

    It has one band, uint8: 255 is a probability of 1. Where there are no results, the mask is 0.

    Args:
        path: The file.
        rows: From the top, in pieces of any height: uint8 [n, width] and bool [n, width], where there are results.
        height: Of all pieces together.
        width: Columns.
        transform: From (column, row) to map units.
        crs: rasterio's coordinate reference system; None where it is not known.
        tags: What the file says about itself.
        has_mask: Whether to write the mask; without one all pixels count as results.

    Raises:
        InputError: The file cannot be written.
    """
    place = {"height": height, "width": width, "crs": crs} | ({} if transform.is_identity else {"transform": transform})
    settings = rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True, GDAL_TIFF_OVR_BLOCKSIZE=BLOCK_PX, **OVERVIEWS)
    try:
        with write_atomically(path) as file, settings, warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            with rasterio.open(file, "w", **PROFILE, **place) as raster:
                raster.update_tags(**tags)
                raster.set_band_description(1, "probability of building, 255 = 1")
                for row, values, valid in _in_blocks(rows):
                    window = Window(0, row, width, len(values))
                    raster.write(values, 1, window=window)
                    if has_mask:
                        raster.write_mask(valid, window=window)
            with rasterio.open(file, "r+") as raster:
                raster.build_overviews(overview_factors(height, width), Resampling.average)
    except RasterioError as error:
        raise InputError(f"{path} cannot be written ({error.__cause__ or error}): is the disk full?") from error


def overview_factors(height: int, width: int) -> list[int]:
    """Return the factors of overviews, until one fits in a block."""
    factors = [2]
    while max(height, width) > factors[-1] * BLOCK_PX:
        factors.append(2 * factors[-1])
    return factors if max(height, width) > BLOCK_PX else []


def _in_blocks(rows: Iterable[tuple[UInt8, Bool]]) -> Iterator[tuple[int, UInt8, Bool]]:
    """Cut pieces of any height at multiples of a block: a block that is written twice is compressed twice, and leaves
    a hole in the file."""
    row, values, valid = 0, np.empty((0, 0), np.uint8), np.empty((0, 0), bool)
    for more_values, more_valid in rows:
        values = np.concatenate([values, more_values]) if len(values) else more_values
        valid = np.concatenate([valid, more_valid]) if len(valid) else more_valid
        while len(values) >= BLOCK_PX:
            yield row, values[:BLOCK_PX], valid[:BLOCK_PX]
            row, values, valid = row + BLOCK_PX, values[BLOCK_PX:], valid[BLOCK_PX:]
    if len(values):
        yield row, values, valid

"""The area of interest: polygons of any vector file, brought onto a raster's grid."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import shapely
from affine import Affine
from rasterio.features import geometry_mask
from shapely.geometry.base import BaseGeometry

from robustvision.buildings.data.layers import read_layer
from robustvision.buildings.geo import as_crs, extent, transformer
from robustvision.core.errors import InputError

PIECES_A_SIDE = 64
"""Edges are cut before they are reprojected, since a straight one is curved in another system."""

Bool = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Area:
    """Where results are wanted.

    Attributes:
        geometry: In map units of the raster.
        transform: The raster's.
        width: Its columns.
    """

    geometry: BaseGeometry
    transform: Affine
    width: int

    def inside(self, row: int, rows: int) -> Bool:
        """Return where pixels of some rows have their centres inside, bool [rows, width]."""
        moved = self.transform @ Affine.translation(0, row)
        return np.asarray(geometry_mask([self.geometry], (rows, self.width), moved, invert=True))


def read_area(path: str | os.PathLike[str], crs: Any, transform: Affine, height: int, width: int) -> Area:
    """Read an area of interest.

    Args:
        path: A vector file of one layer; all of its polygons count as one area.
        crs: The raster's coordinate reference system; None where it has none.
        transform: The raster's; where that is the identity, the file is taken to be in pixels.
        height: Its rows.
        width: Its columns.

    Returns:
        The area.

    Raises:
        InputError: It cannot be read, holds no polygon, does not say where it lies, or not on the raster.
    """
    layer = read_layer(Path(path), needs_crs=crs is not None)
    if not len(layer.polygons):
        raise InputError(f"{path} holds no polygon: an area of interest is one or more")
    area = shapely.union_all(layer.polygons)
    if crs is None and not transform.is_identity:
        raise InputError(f"the raster does not say its coordinate system: set it, so that {path} can be laid on it")
    if crs is not None and layer.crs is not None and layer.crs != as_crs(crs):
        west, south, east, north = area.bounds
        area = shapely.segmentize(area, max(east - west, north - south) / PIECES_A_SIDE)
        to_raster = transformer(layer.crs, crs)
        area = shapely.transform(area, to_raster.transform, interleaved=False)
    if not np.isfinite(area.bounds).all() or not area.intersects(extent(transform, height, width)):
        raise InputError(f"{path} does not meet the raster: check that both show the same place")
    return Area(area, transform, width)

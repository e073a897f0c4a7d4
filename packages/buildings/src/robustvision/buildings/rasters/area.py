"""The area of interest: polygons of any vector file, brought onto a raster's grid."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyogrio
import shapely
from affine import Affine
from pyproj import Transformer
from rasterio.features import geometry_mask
from shapely.geometry.base import BaseGeometry

from robustvision.buildings.geo import as_crs
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
        moved = self.transform * Affine.translation(0, row)
        return np.asarray(geometry_mask([self.geometry], (rows, self.width), moved, invert=True))


def read_area(path: str | os.PathLike[str], crs: Any, transform: Affine, height: int, width: int) -> Area:
    """Read an area of interest.

    Args:
        path: A vector file; all polygons of its first layer count as one area.
        crs: The raster's coordinate reference system; None where it has none, and the file is then in its units.
        transform: The raster's.
        height: Its rows.
        width: Its columns.

    Returns:
        The area.

    Raises:
        InputError: It cannot be read, holds no polygon, does not say where it lies, or not on the raster.
    """
    try:
        meta, _, shapes, _ = pyogrio.raw.read(path, columns=[])
    except (pyogrio.errors.DataSourceError, pyogrio.errors.DataLayerError, OSError) as error:
        raise InputError(f"{path} cannot be read as an area of interest ({error}): give a vector file") from error
    parts = [part for part in shapely.from_wkb(shapes) if part is not None and shapely.get_dimensions(part) == 2]
    if not parts:
        raise InputError(f"{path} holds no polygon: an area of interest is one or more")
    area = shapely.union_all(shapely.make_valid(shapely.force_2d(np.array(parts, object))))
    if crs is not None and meta["crs"] is None:
        raise InputError(f"{path} has no coordinate reference system: set one, so that it can be laid on the raster")
    if crs is None and meta["crs"] is not None and not transform.is_identity:
        raise InputError(f"{path} is in {meta['crs']}, the raster does not say what it is in: set its CRS")
    if crs is not None and as_crs(meta["crs"]) != as_crs(crs):
        west, south, east, north = area.bounds
        area = shapely.segmentize(area, max(east - west, north - south) / PIECES_A_SIDE)
        to_raster = Transformer.from_crs(as_crs(meta["crs"]), as_crs(crs), always_xy=True)
        area = shapely.transform(area, to_raster.transform, interleaved=False)
    corners = [transform * corner for corner in ((0, 0), (width, 0), (width, height), (0, height))]
    if not np.isfinite(area.bounds).all() or not area.intersects(shapely.Polygon(corners)):
        raise InputError(f"{path} does not meet the raster: check that both show the same place")
    return Area(area, transform, width)

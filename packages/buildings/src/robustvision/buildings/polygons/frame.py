"""Where a raster's pixels lie: from pixel corners to the units in which shapes are measured, and on to the map."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
import numpy.typing as npt
import rasterio.crs
from affine import Affine
from pyproj import Transformer

from robustvision.buildings.geo import as_crs, metric_crs, transformer
from robustvision.core.errors import InputError

Float64 = npt.NDArray[np.float64]


@dataclass(frozen=True)
class MapFrame:
    """A raster's place on the map, and the plane in which its polygons are measured.

    The plane is in metres: the raster's own system where its metres are true, else the UTM zone at the raster's centre,
    in which lengths are off by at most 0.5 % up to 6 degrees of longitude away. A raster without a system is measured
    in pixels.

    Attributes:
        transform: From (column, row) to map units.
        map_wkt: The raster's system; None if it has none.
        plane_wkt: The system in metres where it is another one, else None.
        pixel_area: Of the pixel at the centre, in m2, or 1 without a system.
    """

    transform: Affine
    map_wkt: str | None
    plane_wkt: str | None
    pixel_area: float

    @property
    def unit(self) -> Literal["m", "px"]:
        """Of lengths in the plane."""
        return "px" if self.map_wkt is None else "m"

    @property
    def pixel(self) -> float:
        """Side of a square of a pixel's area, in `unit`."""
        return math.sqrt(self.pixel_area)

    def to_plane(self, corners_px: npt.NDArray[np.integer] | Float64) -> Float64:
        """Take pixel corners [n, 2], (column, row), to the plane."""
        if self.map_wkt is None:
            return corners_px.astype(np.float64)
        return _convert(_on_map(self.transform, corners_px), self.map_wkt, self.plane_wkt)

    def to_map(self, points: Float64) -> Float64:
        """Take points of the plane [n, 2] to map units."""
        if self.map_wkt is None:
            return _on_map(self.transform, points)
        return _convert(points, self.plane_wkt, self.map_wkt)


def map_frame(transform: Affine, crs: rasterio.crs.CRS | str | None, height: int, width: int) -> MapFrame:
    """Place a raster on the map.

    Args:
        transform: From (column, row) to map units.
        crs: Its system; None if it has none.
        height: Rows.
        width: Columns.

    Raises:
        InputError: The system is not known, the raster lies outside it, or its pixels have no area.
    """
    if crs is None:
        return MapFrame(transform, None, None, 1.0)
    own = as_crs(crs)
    ((x, y),) = _on_map(transform, np.array([[width / 2, height / 2]]))
    metric = metric_crs(own, x, y)
    frame = MapFrame(transform, own.to_wkt(), None if metric == own else metric.to_wkt(), 1.0)
    column, row = width // 2, height // 2
    origin, right, down = frame.to_plane(np.array(((column, row), (column + 1, row), (column, row + 1))))
    area = abs(float((right - origin)[0] * (down - origin)[1] - (right - origin)[1] * (down - origin)[0]))
    if not (math.isfinite(area) and area > 0):
        raise InputError(f"the raster's pixels have an area of {area} m2: check its transform {tuple(transform)[:6]}")
    return MapFrame(transform, frame.map_wkt, frame.plane_wkt, area)


def _on_map(transform: Affine, points: npt.NDArray[np.integer] | Float64) -> Float64:
    # written out: a matrix product may round differently with the number of points
    a, b, c, d, e, f = transform[:6]
    x, y = points[:, 0], points[:, 1]
    return np.stack((a * x + b * y + c, d * x + e * y + f), axis=1)


def _convert(points: Float64, source: str | None, target: str | None) -> Float64:
    if source is None or target is None:  # the plane is the map
        return points
    return np.stack(_transformer(source, target).transform(points[:, 0], points[:, 1]), axis=1)


@lru_cache(maxsize=8)
def _transformer(source: str, target: str) -> Transformer:
    return transformer(source, target)

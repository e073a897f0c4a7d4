"""Metres on the ground: the true size of a raster's pixels, and a coordinate system to measure lengths and areas in."""

from __future__ import annotations

import math

import numpy as np
import rasterio.crs
from affine import Affine
from pyproj import CRS, Geod, Transformer
from pyproj.aoi import AreaOfInterest
from pyproj.database import query_utm_crs_info
from pyproj.exceptions import CRSError, ProjError
from shapely import Polygon

from robustvision.core.errors import InputError

WGS84 = CRS.from_epsg(4326)
MAX_DISTORTION = 0.01
"""A projected system whose metres differ by more from metres on the ground is not measured in."""


def as_crs(crs: rasterio.crs.CRS | CRS | str) -> CRS:
    """Return a coordinate reference system as pyproj's.

    Args:
        crs: rasterio's, pyproj's, or text such as ``EPSG:32755``.

    Raises:
        InputError: It is not known.
    """
    try:
        return CRS.from_user_input(crs.to_wkt() if isinstance(crs, rasterio.crs.CRS) else crs)
    except (CRSError, ProjError) as error:
        raise InputError(
            f"the coordinate reference system {crs} cannot be read ({error}): give an EPSG code"
        ) from error


def transformer(source: rasterio.crs.CRS | CRS | str, target: rasterio.crs.CRS | CRS | str) -> Transformer:
    """Return what takes x and y (longitude and latitude, in this order) of one system to another.

    Args:
        source: The one.
        target: The other.

    Raises:
        InputError: A system is not known, or nothing leads from one to the other: a local system has no place on earth.
    """
    ours, theirs = as_crs(source), as_crs(target)
    try:
        return Transformer.from_crs(ours, theirs, always_xy=True)
    except ProjError as error:
        raise InputError(
            f"nothing leads from {ours.name!r} to {theirs.name!r}, as a local system has no place on the earth: set "
            "the true one (gdal_edit.py -a_srs EPSG:..., or ogr2ogr -a_srs)"
        ) from error


def ground_sampling_distance(
    transform: Affine, crs: rasterio.crs.CRS | CRS | str, height: int, width: int
) -> tuple[float, float]:
    """Return the size of a raster's pixels on the ground, at its centre.

    Measured on the ellipsoid between the centres of neighbouring pixels, so it holds for geographic systems and for
    Web Mercator, whose metres shrink by the cosine of the latitude.

    Args:
        transform: From (column, row) to map units.
        crs: The raster's coordinate reference system.
        height: Rows.
        width: Columns.

    Returns:
        Along a row and along a column, in metres.

    Raises:
        InputError: The system is not known, or the raster lies outside it.
    """
    column, row = width / 2, height / 2
    columns, rows = np.array([column, column + 1, column]), np.array([row, row, row + 1])
    xs = transform.a * columns + transform.b * rows + transform.c
    ys = transform.d * columns + transform.e * rows + transform.f
    (lon, right, down), (lat, right_lat, down_lat) = transformer(crs, WGS84).transform(xs, ys)
    if not (_is_on_earth(lon, lat) and math.isfinite(right) and math.isfinite(down)):
        raise InputError(
            f"the raster's centre ({xs[0]}, {ys[0]}) lies outside its coordinate system: check crs and transform"
        )
    geod = Geod(ellps="WGS84")
    return geod.inv(lon, lat, right, right_lat)[2], geod.inv(lon, lat, down, down_lat)[2]


def extent(transform: Affine, height: int, width: int) -> Polygon:
    """Return the outline of a raster on the map."""
    return Polygon([transform @ corner for corner in ((0, 0), (width, 0), (width, height), (0, height))])


def metric_crs(crs: rasterio.crs.CRS | CRS | str, x: float, y: float) -> CRS:
    """Return a system in metres, true to scale near a point: the given one if it is, else the point's UTM zone.

    Args:
        crs: The system of the data.
        x: The point, in its units.
        y: Likewise.

    Raises:
        InputError: The system is not known, or has no UTM zone at the point.
    """
    own = as_crs(crs)
    if own.is_projected and _distortion(own, x, y) < MAX_DISTORTION:
        return own
    lon, lat = transformer(own, WGS84).transform(x, y)
    if not _is_on_earth(lon, lat):
        raise InputError(f"({x}, {y}) lies outside {own.name}: check the coordinate reference system")
    zones = query_utm_crs_info(datum_name="WGS 84", area_of_interest=AreaOfInterest(lon, lat, lon, lat))
    if not zones:
        raise InputError(f"there is no UTM zone at longitude {lon:.3f}, latitude {lat:.3f}: reproject the data")
    return CRS.from_epsg(zones[0].code)


def _distortion(crs: CRS, x: float, y: float) -> float:
    """By how much one unit along x or y differs at most from a metre on the ground."""
    lon, lat = transformer(crs, WGS84).transform([x, x + 1.0, x], [y, y, y + 1.0])
    metres = Geod(ellps="WGS84").inv([lon[0]] * 2, [lat[0]] * 2, lon[1:], lat[1:])[2]
    return float(np.abs(np.array(metres) - 1).max())


def _is_on_earth(lon: float, lat: float) -> bool:
    """Metres, or latitudes for longitudes, that are declared to be degrees pass through unchanged."""
    return math.isfinite(lon) and math.isfinite(lat) and abs(lat) <= 90 and abs(lon) <= 360

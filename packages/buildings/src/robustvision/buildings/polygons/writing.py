"""Buildings as a layer that a geographic information system opens: GeoPackage, or GeoJSON after RFC 7946."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import rasterio.crs
from pyproj import CRS

from robustvision.buildings.contract import Target
from robustvision.buildings.outputs import check_replaceable
from robustvision.buildings.polygons.building_polygon import BuildingPolygon
from robustvision.buildings.polygons.geojson import is_own_geojson, write_geojson
from robustvision.buildings.polygons.geopackage import is_own_geopackage, write_geopackage
from robustvision.buildings.polygons.layer import Layer
from robustvision.core.errors import InputError

_WRITERS = {".geojson": write_geojson, ".json": write_geojson, ".gpkg": write_geopackage}


def check_place(out: str | os.PathLike[str], *, crs: rasterio.crs.CRS | CRS | str | None) -> None:
    """Refuse a file that `write_polygons` could not write, or should not replace.

    Args:
        out: The file.
        crs: The system of the geometries; None if there is none.

    Raises:
        InputError: Its ending is another one, it lies in no folder, holds what is not from here, or GeoJSON is asked
            for without a system.
    """
    path = Path(out)
    if path.suffix.lower() not in _WRITERS:
        raise InputError(f"{out} ends in {path.suffix or 'nothing'}: expected {', '.join(_WRITERS)}")
    is_geopackage = path.suffix.lower() == ".gpkg"
    if crs is None and not is_geopackage:
        raise InputError(
            f"{path}: the raster has no coordinate system, and GeoJSON is longitude and latitude: write a .gpkg, in "
            "pixels, or give the raster its system"
        )
    check_replaceable(path, is_own_geopackage if is_geopackage else is_own_geojson)


def write_polygons(
    features: Iterable[BuildingPolygon],
    out: str | os.PathLike[str],
    *,
    crs: rasterio.crs.CRS | CRS | str | None,
    target: Target,
    model_name: str = "",
    model_hash: str = "",
    layer: str = "buildings",
) -> int:
    """Write buildings to a file, as they come, whole or not at all.

    The same buildings give the same bytes. A layer without buildings is a valid empty one.

    Args:
        features: The buildings.
        out: ``.gpkg``: a GeoPackage in the raster's own system, with a style that QGIS finds in it. ``.geojson`` or
            ``.json``: GeoJSON, in longitude and latitude on WGS 84 whatever the raster's system, with a style for QGIS
            beside it (``.qml``).
        crs: The system of the geometries; None if there is none.
        target: What the outlines show.
        model_name: Of the model that made them.
        model_hash: Likewise.
        layer: Name of the layer.

    Returns:
        How many were written.

    Raises:
        InputError: As for `check_place`, or the file cannot be written.
    """
    path = Path(out)
    check_place(path, crs=crs)
    return _WRITERS[path.suffix.lower()](features, path, Layer(layer, target, crs, model_name, model_hash))

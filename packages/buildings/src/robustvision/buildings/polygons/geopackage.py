"""GeoPackage: the raster's own system, attributes, what holds for all buildings, and a style that QGIS finds inside."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pyogrio
import shapely
from pyogrio.errors import DataLayerError, DataSourceError

from robustvision.buildings.polygons.building_polygon import BuildingPolygon
from robustvision.buildings.polygons.layer import Layer
from robustvision.buildings.polygons.style import STYLE
from robustvision.core.errors import InputError
from robustvision.core.runtime import write_atomically

_BATCH = 5000
_STYLES = "layer_styles"  # where QGIS looks
_WRITTEN = "2000-01-01T00:00:00.000Z"  # a GeoPackage holds the time of its last change; the same buildings, same bytes
_COLUMN = {int: np.int64, float: np.float64, bool: np.bool_, str: object}


def write_geopackage(features: Iterable[BuildingPolygon], path: Path, layer: Layer) -> int:
    """Write buildings in batches.

    Raises:
        InputError: The file cannot be written.
    """
    remaining = iter(features)
    with write_atomically(path) as temporary:
        temporary.unlink()  # GDAL makes the file, and takes an empty one for a broken one
        count = _append(list(itertools.islice(remaining, _BATCH)), temporary, layer)  # also a layer of none
        while batch := list(itertools.islice(remaining, _BATCH)):
            count += _append(batch, temporary, layer)
        _add_style(temporary, layer)
    return count


def is_own_geopackage(path: Path) -> bool:
    """Return whether `write_geopackage` wrote a file, and nobody has added a layer since."""
    try:
        layers = [str(name) for name, _ in pyogrio.list_layers(path) if name != _STYLES]
        facts = [pyogrio.read_info(path, layer=name)["layer_metadata"] or {} for name in layers]
    except (DataSourceError, DataLayerError):
        return False
    return bool(facts) and all("model_hash" in each for each in facts)


def _append(batch: list[BuildingPolygon], path: Path, layer: Layer) -> int:
    geometries = np.array([building.geometry for building in batch], dtype=object)
    attributes = layer.attributes()
    columns = [_column([value(building) for building in batch], kind) for kind, value in attributes.values()]
    _write(
        path,
        shapely.to_wkb(geometries),
        dict(zip(attributes, columns, strict=True)),
        layer=layer.name,
        geometry_type="Polygon",
        crs=layer.wkt,
        layer_metadata=layer.facts,
        layer_options={"DESCRIPTION": ", ".join(f"{name}: {value}" for name, value in layer.facts.items() if value)},
    )
    return len(batch)


def _column(values: list[Any], kind: type) -> Any:
    """A column as GDAL takes it; a number that is not known becomes NaN, which is written as null."""
    if kind is float:
        return np.array([np.nan if value is None else value for value in values], np.float64)
    return np.array(values, _COLUMN[kind])


def _add_style(path: Path, layer: Layer) -> None:
    """Fill the table in which QGIS looks for the style of a layer."""
    row = {
        "f_table_catalog": "",
        "f_table_schema": "",
        "f_table_name": layer.name,
        "f_geometry_column": "geom",
        "styleName": layer.name,
        "styleQML": STYLE,
        "styleSLD": "",
        "useAsDefault": True,
        "description": f"building outlines, {layer.target}",
        "owner": "",
        "update_time": np.datetime64(_WRITTEN.removesuffix("Z")),
    }
    columns = {name: np.array([value], object if isinstance(value, str) else None) for name, value in row.items()}
    _write(path, None, columns, layer=_STYLES, geometry_type=None)


def _write(path: Path, geometry: Any, columns: dict[str, Any], **options: Any) -> None:
    before = pyogrio.get_gdal_config_option("OGR_CURRENT_DATE")
    pyogrio.set_gdal_config_options({"OGR_CURRENT_DATE": _WRITTEN})
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="'crs' was not provided")
            pyogrio.raw.write(
                path, geometry, list(columns.values()), list(columns), driver="GPKG", append=path.exists(), **options
            )
    except (DataLayerError, DataSourceError) as error:
        raise InputError(
            f"{path.parent}: the GeoPackage cannot be written ({error}): check the space on the disk"
        ) from error
    finally:
        pyogrio.set_gdal_config_options({"OGR_CURRENT_DATE": before})

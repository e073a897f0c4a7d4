"""GeoJSON after RFC 7946: longitude and latitude on WGS 84, exteriors counter-clockwise, cut at the antimeridian."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from pyproj import Transformer
from shapely import MultiPolygon, Polygon, box
from shapely.affinity import translate

from robustvision.buildings.geo import WGS84, transformer
from robustvision.buildings.polygons.building_polygon import BuildingPolygon
from robustvision.buildings.polygons.layer import Layer
from robustvision.buildings.polygons.soundness import sound
from robustvision.buildings.polygons.style import STYLE
from robustvision.core.runtime import json_text, write_atomically

_DIGITS = 8  # of a degree: about a millimetre
_BATCH = 1000
_HEAD_BYTES = 1000


def write_geojson(features: Iterable[BuildingPolygon], path: Path, layer: Layer) -> int:
    """Write buildings, one a line, and a style for QGIS beside them.

    Raises:
        InputError: The file cannot be written.
    """
    assert layer.wkt is not None  # `write_polygons` has checked it
    to_degrees = transformer(layer.wkt, WGS84)
    count = 0
    with write_atomically(path) as temporary, temporary.open("w", encoding="utf-8", newline="\n") as file:
        head = {"type": "FeatureCollection", "name": layer.name, "robustvision": layer.facts}
        file.write(json_text(head)[:-1] + ', "features": [')
        for line in _lines(iter(features), to_degrees, layer):
            file.write(("," if count else "") + "\n" + line)
            count += 1
        file.write("\n]}\n")
    style = path.with_suffix(".qml")
    if not style.exists():  # one that is there was made, or changed, by the user
        with write_atomically(style) as temporary:
            temporary.write_text(STYLE, encoding="utf-8")
    return count


def is_own_geojson(path: Path) -> bool:
    """Return whether `write_geojson` wrote a file."""
    with path.open("rb") as file:
        return b'"robustvision"' in file.read(_HEAD_BYTES)


def _lines(features: Iterator[BuildingPolygon], to_degrees: Transformer, layer: Layer) -> Iterator[str]:
    attributes = layer.attributes()

    def degrees(points: Any) -> Any:
        return np.stack(to_degrees.transform(points[:, 0], points[:, 1]), axis=1).round(_DIGITS)

    while batch := list(itertools.islice(features, _BATCH)):
        geometries = shapely.transform(np.array([building.geometry for building in batch]), degrees)
        for building, geometry in zip(batch, shapely.orient_polygons(sound(geometries)), strict=True):
            properties = {name: value(building) for name, (_, value) in attributes.items()}
            shape = shapely.geometry.mapping(_cut_at_antimeridian(geometry))
            yield json_text({"type": "Feature", "properties": properties, "geometry": shape})


def _cut_at_antimeridian(polygon: Polygon) -> Polygon | MultiPolygon:
    """Cut a polygon whose longitudes jump from 180 to -180, as section 3.1.9 asks."""
    west, _, east, _ = polygon.bounds
    if east - west <= 180:
        return polygon
    unrolled = shapely.transform(polygon, lambda points: np.stack((points[:, 0] % 360, points[:, 1]), axis=1))
    halves = (unrolled & box(0, -90, 180, 90), translate(unrolled & box(180, -90, 360, 90), xoff=-360))
    parts = [part for half in halves for part in shapely.get_parts(half) if isinstance(part, Polygon)]
    return shapely.orient_polygons(MultiPolygon(parts))

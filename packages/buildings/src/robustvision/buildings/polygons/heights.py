"""How high the buildings of a map are: from a table by number, or from a layer of footprints by overlap."""

from __future__ import annotations

import csv
import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
import pyogrio
import shapely
from pyogrio.errors import DataLayerError, DataSourceError, FieldError
from pyproj import CRS
from shapely.affinity import translate

from robustvision.buildings.geo import as_crs, transformer
from robustvision.buildings.offsets import HeightUnit, height_in_metres
from robustvision.buildings.polygons.building_polygon import BuildingPolygon
from robustvision.core.errors import InputError

Float64 = npt.NDArray[np.float64]

LEAST_OVERLAP = 0.3
"""A roof, moved to the ground, belongs to a footprint only if it covers this share of the smaller of both."""

_OTHER_UNITS = {"ft": "ft", "feet": "ft", "storeys": "storeys", "stories": "storeys", "floors": "storeys"}


class Heights(Protocol):
    """Where heights come from."""

    def find(self, building: BuildingPolygon, lean: Float64) -> float | None:
        """Return a building's height in metres; None if it is not known.

        Args:
            building: Its roof, as the image shows it.
            lean: [2], what a metre of height moves a roof by in the image, in map units.
        """
        ...


@dataclass(frozen=True, eq=False)
class HeightTable:
    """Heights in metres by the buildings' numbers."""

    by_number: dict[int, float]

    def find(self, building: BuildingPolygon, lean: Float64) -> float | None:
        """See `Heights`."""
        return self.by_number.get(building.number)


@dataclass(frozen=True, eq=False)
class HeightLayer:
    """Footprints with heights.

    A tall building's roof may lie over its neighbour's footprint. So each candidate is asked with its own height: the
    roof goes back by the lean that this height gives, and the candidate that it then covers best is the one.

    Attributes:
        footprints: [n] polygons, in the map's system.
        height_m: [n].
        tree: Of the footprints.
    """

    footprints: npt.NDArray[np.object_]
    height_m: Float64
    tree: shapely.STRtree

    def find(self, building: BuildingPolygon, lean: Float64) -> float | None:
        """See `Heights`."""
        roof = building.geometry
        farthest = lean * self.height_m.max(initial=0)
        near = self.tree.query(shapely.union(roof, translate(roof, *-farthest)).envelope)
        if not len(near):
            return None
        moved = np.array([translate(roof, *-(lean * height)) for height in self.height_m[near]])
        shared = shapely.area(shapely.intersection(moved, self.footprints[near]))
        share = shared / np.minimum(roof.area, shapely.area(self.footprints[near]))
        best = int(shared.argmax())
        return float(self.height_m[near[best]]) if share[best] >= LEAST_OVERLAP else None


def read_height_source(
    path: Path, *, crs: CRS | str, column: str = "height_m", unit: HeightUnit = "m"
) -> HeightTable | HeightLayer:
    """Read heights.

    Args:
        path: A CSV file with the columns ``number`` (as ``vectorise`` counts) and the heights; or a vector file of
            footprints with an attribute of heights, in any coordinate system. Entries without a height are left out.
        crs: The system of the map.
        column: Column or attribute that holds the heights.
        unit: Of the heights: ``m``, ``ft`` or ``storeys``.

    Returns:
        The heights in metres.

    Raises:
        InputError: The file cannot be read or has no such column, the column's name contradicts the unit, a height is
            negative or above 1000 m, or there is none at all.
    """
    for word in re.split(r"[^a-z]+", column.lower()):
        if (named := _OTHER_UNITS.get(word, unit)) != unit:
            raise InputError(f"the column {column} seems to hold {named}, and the unit is {unit}: say which")
    if path.suffix.lower() == ".csv":
        return HeightTable(_read_table(path, column, unit))
    return _read_footprints(path, as_crs(crs), column, unit)


def read_table(path: Path, columns: Sequence[str]) -> list[tuple[int, dict[str, str]]]:
    """Read a CSV file: the lines' numbers, and their values by column.

    Raises:
        InputError: It cannot be read, or a column is not there.
    """
    wanted = " and ".join(columns)
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            if not set(columns) <= set(reader.fieldnames or ()):
                raise InputError(f"{path} has the columns {reader.fieldnames}: expected {wanted}, between commas")
            return list(enumerate(reader, 2))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path} cannot be read ({error}): give a CSV file with {wanted}") from error


def _read_table(path: Path, column: str, unit: HeightUnit) -> dict[int, float]:
    heights: dict[int, float] = {}
    for line, row in read_table(path, ("number", column)):
        number, height = row["number"], row[column]
        if not height:
            continue
        try:
            building, value = int(number), float(height)
        except (TypeError, ValueError) as error:
            raise InputError(f"{path}:{line}: number {number!r}, height {height!r}: expected numbers") from error
        if heights.setdefault(building, value) != value:
            raise InputError(
                f"{path}:{line}: building {building} is {value:g}, and {heights[building]:g} above: keep one"
            )
    _check_any(path, column, len(heights))
    return dict(zip(heights, _in_metres(path, list(heights.values()), unit).tolist(), strict=True))


def _read_footprints(path: Path, crs: CRS, column: str, unit: HeightUnit) -> HeightLayer:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of Z and measures, which are not read
            meta, _, wkb, fields = pyogrio.raw.read(path, layer=_layer_of(path), columns=[column], force_2d=True)
    except (DataSourceError, DataLayerError, FieldError, OSError) as error:
        raise InputError(
            f"{path} cannot be read as a vector file ({error}): give a GeoPackage of footprints"
        ) from error
    if column not in meta["fields"]:
        names = ", ".join(pyogrio.read_info(path)["fields"]) or "(none)"
        raise InputError(f"{path} has the attributes {names}: name the one that holds heights")
    if not meta["crs"]:
        raise InputError(f"{path} has no coordinate system: give it the right one (ogr2ogr -a_srs EPSG:...)")
    try:
        values = np.array([np.nan if value is None else value for value in fields[0]], np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"{path}: the attribute {column} does not hold numbers ({error}): name another one") from error
    footprints = _on_map(shapely.from_wkb(wkb, on_invalid="ignore"), as_crs(meta["crs"]), crs)
    usable = np.isfinite(values) & (shapely.area(footprints) > 0)
    _check_any(path, column, int(usable.sum()))
    height_m = _in_metres(path, values[usable], unit)
    return HeightLayer(footprints[usable], height_m, shapely.STRtree(footprints[usable]))


def _layer_of(path: Path) -> str:
    """The one layer that has a form: GDAL would take the first of several."""
    layers = [str(name) for name, form in pyogrio.list_layers(path) if form is not None]
    if len(layers) != 1:
        raise InputError(f"{path} has the layers {', '.join(layers) or '(none)'}: write the one with heights to a file")
    return layers[0]


def _in_metres(path: Path, values: npt.ArrayLike, unit: HeightUnit) -> Float64:
    try:
        return height_in_metres(values, unit)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def _on_map(geometries: npt.NDArray[np.object_], own: CRS, crs: CRS) -> npt.NDArray[np.object_]:
    """Footprints in the map's system, valid; what lies outside it is empty."""
    if own != crs:
        change = transformer(own, crs)
        geometries = shapely.transform(geometries, lambda points: np.column_stack(change.transform(*points.T)))
    outside = ~np.isfinite(shapely.bounds(geometries)).all(axis=1)
    geometries = np.where(outside, shapely.Polygon(), geometries)
    return np.asarray(shapely.make_valid(geometries))


def _check_any(path: Path, column: str, count: int) -> None:
    if not count:
        raise InputError(f"{path} holds no building with a {column}: give at least one a number")

"""Roofs moved to where the buildings stand, by their heights and the view. Numpy and shapely only."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyogrio
import shapely
from affine import Affine
from pyogrio.errors import DataLayerError, DataSourceError
from pyproj import Transformer

from robustvision.buildings.geo import as_crs
from robustvision.buildings.offsets import checked_heights, displacement_px, height_class
from robustvision.buildings.polygons import BuildingPolygon
from robustvision.buildings.rasters.reading import Raster
from robustvision.core.errors import InputError

LEAST_OVERLAP = 0.25
"""A roof takes the height of the footprint whose displaced outline shares the most with it: at least this part of the
smaller one."""
HEIGHT_COLUMN = "height_m"

Float64 = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Lean:
    """From a height to the displacement of its roof, on a map. Rays are parallel, as in a satellite image.

    Attributes:
        transform: The raster's, from (column, row) to map units.
        sizes_m: Of its pixels on the ground, along a row and along a column.
        off_nadir_deg: Angle between the view and the vertical.
        azimuth_deg: Direction in which tops lean, clockwise from the image's up: north, where the map is north-up. It
            points away from the sensor.
    """

    transform: Affine
    sizes_m: tuple[float, float]
    off_nadir_deg: float
    azimuth_deg: float

    def on_map(self, heights_m: npt.ArrayLike) -> Float64:
        """Return displacements [..., 2] in map units of heights [...]."""
        angles = math.radians(abs(self.off_nadir_deg)), math.radians(self.azimuth_deg)
        x, y = np.moveaxis(displacement_px(heights_m, 1.0, *angles) / self.sizes_m, -1, 0)
        a, b, _, d, e, _ = self.transform[:6]
        return np.stack([a * x + b * y, d * x + e * y], axis=-1)


class FootprintMover:
    """Moves roofs onto their footprints.

    Args:
        heights: One height for all, in metres; or a vector file of footprints with a column ``height_m``.
        lean: How tops are displaced.
        crs: The coordinate system of the roofs.

    Attributes:
        unknown: Roofs so far that no footprint of the file explains; they are left out.

    Raises:
        InputError: The file cannot be read, has not the column, or a height is not one.
    """

    def __init__(self, heights: float | str | os.PathLike[str], lean: Lean, crs: Any) -> None:
        self._lean = lean
        self.unknown = 0
        self._height_m: float | None = None
        if isinstance(heights, int | float):
            self._height_m = float(checked_heights(heights))
        else:
            footprints, self._heights_m = _read_heights(Path(heights), crs)
            offsets = lean.on_map(self._heights_m)
            self._roofs = _moved(footprints, offsets)
            self._tree = shapely.STRtree(self._roofs)

    def move(self, roofs: Iterable[BuildingPolygon]) -> Iterator[BuildingPolygon]:
        """Yield the footprints of roofs, in their order and numbered anew, with their heights."""
        number = 0
        for roof in roofs:
            height_m = self._height_m if self._height_m is not None else self._find(roof.geometry)
            if height_m is None:
                self.unknown += 1
                continue
            number += 1
            (footprint,) = _moved(np.array([roof.geometry], object), -self._lean.on_map([height_m]))
            yield replace(
                roof, geometry=footprint, number=number, height_m=height_m, height_class=height_class(height_m)
            )

    def _find(self, roof: shapely.Polygon) -> float | None:
        """The height of the footprint that a roof belongs to."""
        near = self._tree.query(roof, predicate="intersects")
        if not len(near):
            return None
        shared = shapely.area(shapely.intersection(self._roofs[near], roof))
        best = int(shared.argmax())
        smaller = min(roof.area, float(shapely.area(self._roofs[near[best]])))
        return float(self._heights_m[near[best]]) if shared[best] >= LEAST_OVERLAP * smaller else None


def footprint_mover(
    raster: Raster,
    heights: float | str | os.PathLike[str] | None,
    off_nadir_deg: float | None,
    azimuth_deg: float | None,
) -> FootprintMover:
    """Make a `FootprintMover` for a raster's roofs.

    Args:
        raster: What they were found in.
        heights: As for `FootprintMover`.
        off_nadir_deg: As for `Lean`.
        azimuth_deg: Likewise.

    Raises:
        InputError: One of them is missing or cannot be used, or the raster has no metres.
    """
    given = {"heights": heights, "off_nadir_deg": off_nadir_deg, "azimuth_deg": azimuth_deg}
    missing = [name for name, value in given.items() if value is None]
    if heights is None or off_nadir_deg is None or azimuth_deg is None:
        raise InputError(
            f"the model shows roofs; footprints need {', '.join(missing)} as well: heights (metres, or a vector file "
            f"with {HEIGHT_COLUMN}) and the view's off-nadir angle and azimuth, or ask for target='roof'"
        )
    if raster.sizes_m is None:
        raise InputError(f"{raster.path} is in pixels alone: to move roofs by their heights, set its coordinate system")
    if not (abs(off_nadir_deg) < 90 and math.isfinite(azimuth_deg)):
        raise InputError(
            f"off_nadir_deg is {off_nadir_deg}, azimuth_deg {azimuth_deg}: give degrees, below 90 off nadir"
        )
    return FootprintMover(heights, Lean(raster.transform, raster.sizes_m, off_nadir_deg, azimuth_deg), raster.crs)


def _read_heights(path: Path, crs: Any) -> tuple[npt.NDArray[np.object_], Float64]:
    """Footprints in a coordinate system, and their heights; those without a height are left out."""
    try:
        meta, _, wkb, columns = pyogrio.raw.read(path, force_2d=True)
    except (DataSourceError, DataLayerError, OSError) as error:
        raise InputError(f"{path} cannot be read as a vector file ({error}): give a GeoPackage or GeoJSON") from error
    names = list(meta["fields"])
    if HEIGHT_COLUMN not in names or meta["crs"] is None:
        raise InputError(
            f"{path} has the columns {', '.join(names) or '(none)'} and the coordinate system {meta['crs']}: expected "
            f"{HEIGHT_COLUMN}, and a system"
        )
    values = np.asarray(columns[names.index(HEIGHT_COLUMN)], np.float64)
    shapes = shapely.from_wkb(wkb)
    is_usable = np.isfinite(values) & (shapely.get_dimensions(shapes) == 2) & ~shapely.is_empty(shapes)
    shapes, heights_m = shapely.make_valid(shapes[is_usable]), checked_heights(values[is_usable], f"in {path}")
    if as_crs(meta["crs"]) != as_crs(crs):
        change = Transformer.from_crs(as_crs(meta["crs"]), as_crs(crs), always_xy=True)
        shapes = shapely.transform(shapes, change.transform, interleaved=False)
    return shapes, heights_m


def _moved(shapes: npt.NDArray[np.object_], offsets: Float64) -> npt.NDArray[np.object_]:
    """Shapes [n], each moved by its own offset [n, 2]."""
    points, owners = shapely.get_coordinates(shapes, return_index=True)
    return shapely.set_coordinates(shapes.copy(), points + offsets[owners])

"""What it takes to turn a model's roofs into footprints: the view, and heights."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from shapely import Polygon

from robustvision.buildings.offsets import HeightUnit, checked_heights
from robustvision.buildings.polygons import BuildingPolygon, HeightLayer, View, read_height_source, to_footprints
from robustvision.core.errors import InputError

Mover = Callable[[Iterable[BuildingPolygon]], Iterable[BuildingPolygon]]


@dataclass(frozen=True)
class FootprintOptions:
    """How footprints are found.

    Attributes:
        view: From where the image was taken.
        heights: A table of heights, or a map of footprints with heights, as for `polygons.read_height_source`.
        column: Its column.
        unit: Its unit: ``m``, ``ft`` or ``storeys``.
        default_height_m: Of buildings whose height is not known; such a one is an error where None.
    """

    view: View | None = None
    heights: str | os.PathLike[str] | None = None
    column: str = "height_m"
    unit: HeightUnit = "m"
    default_height_m: float | None = None


def footprint_mover(options: FootprintOptions, source: str, crs_wkt: str | None, extent: Polygon) -> Mover:
    """Return what moves roofs to their footprints; everything is checked now.

    Args:
        options: The view and the heights.
        source: The raster, for the error message.
        crs_wkt: Its coordinate system.
        extent: Its outline on the map.

    Raises:
        InputError: The view, the heights or the coordinate system is missing, the heights cannot be read, or are
            those of another place.
    """
    view, heights, default = options.view, options.heights, options.default_height_m
    if default is not None:
        checked_heights(default, f"given as the default ({default:g} m)")
    given = {"the view": view is not None, "heights": heights is not None or default is not None}
    missing = [name for name, is_there in given.items() if not is_there]
    if missing:
        raise InputError(
            f"the model shows roofs; for footprints {' and '.join(missing)} must be given: the off-nadir angle and the "
            "azimuth, and a file of heights or one height for all; or ask for roofs"
        )
    if crs_wkt is None:
        raise InputError(f"{source} has no place on the map, so heights in metres move nothing: set its system")
    known = None
    if heights is not None:
        known = read_height_source(Path(heights), crs=crs_wkt, column=options.column, unit=options.unit)
        if isinstance(known, HeightLayer) and not len(known.tree.query(extent, predicate="intersects")):
            raise InputError(
                f"none of the {len(known.height_m)} buildings of {heights} lies in {source}: check that both show the "
                "same place, and the coordinate system of the heights"
            )
    return partial(to_footprints, crs=crs_wkt, view=view, heights=known, default_height_m=default)

"""From roofs, where an image shows them, to footprints, where the buildings stand."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from pyproj import CRS, Geod, Transformer
from shapely.affinity import translate

from robustvision.buildings.geo import WGS84, as_crs, transformer
from robustvision.buildings.offsets import checked_heights, height_class
from robustvision.buildings.polygons.building_polygon import BuildingPolygon
from robustvision.buildings.polygons.heights import Heights
from robustvision.core.errors import InputError

MAX_OFF_NADIR_DEG = 70.0
_PROBE_M = 100.0  # long against the rounding of coordinates, short against the curvature of the map


@dataclass(frozen=True)
class View:
    """From where an image was taken, under parallel rays.

    Attributes:
        off_nadir_deg: Angle between the view and the vertical.
        azimuth_deg: Direction in which tops lean, clockwise from true north: away from the sensor. A satellite's
            azimuth as seen from the ground points the other way, and needs 180 degrees added.
    """

    off_nadir_deg: float
    azimuth_deg: float

    def __post_init__(self) -> None:
        if not 0 <= self.off_nadir_deg <= MAX_OFF_NADIR_DEG:
            raise InputError(
                f"the off-nadir angle is {self.off_nadir_deg} degrees: expected 0 to {MAX_OFF_NADIR_DEG:g}; which side "
                "is for the azimuth to say"
            )
        if not -360 <= self.azimuth_deg <= 360:
            raise InputError(f"the azimuth is {self.azimuth_deg} degrees: expected -360 to 360, clockwise from north")


def to_footprints(
    roofs: Iterable[BuildingPolygon],
    *,
    crs: CRS | str | None,
    view: View | None,
    heights: Heights | None = None,
    default_height_m: float | None = None,
) -> Iterator[BuildingPolygon]:
    """Yield buildings moved from where the image shows their roofs to where they stand.

    A roof at height h lies ``h tan(off-nadir)`` from its footprint, in the direction of the azimuth, measured on the
    ground: so a map in degrees or in Web Mercator is right, too.

    Args:
        roofs: Outlines of roofs on the map.
        crs: Its system.
        view: The view.
        heights: Gives each building's height; the buildings' own ``height_m`` where None.
        default_height_m: Of buildings whose height is not known; where None, such a one is an error.

    Yields:
        The same buildings with the outline of the footprint, the height and its class.

    Raises:
        InputError: System, view or a height is missing, or a height is not plausible.
    """
    if crs is None:
        raise InputError("the raster has no coordinate system, so heights in metres move nothing: give it its system")
    if view is None:
        raise InputError("footprints need the view: give the off-nadir angle and the azimuth, or ask for roofs")
    own = as_crs(crs)
    lean_at = _Lean(transformer(own, WGS84), view)
    return (_moved(roof, lean_at, heights, default_height_m) for roof in roofs)


@dataclass(frozen=True)
class _Lean:
    to_degrees: Transformer
    view: View

    def __call__(self, x: float, y: float) -> npt.NDArray[np.float64]:
        """What a metre of height moves a roof by at a place, in map units."""
        longitude, latitude = self.to_degrees.transform(x, y)
        there = Geod(ellps="WGS84").fwd(longitude, latitude, self.view.azimuth_deg, _PROBE_M)
        ahead = self.to_degrees.transform(*there[:2], direction="INVERSE")
        metre = (np.array(ahead) - (x, y)) / _PROBE_M
        return np.asarray(metre * math.tan(math.radians(self.view.off_nadir_deg)))


def _moved(
    roof: BuildingPolygon, lean_at: _Lean, heights: Heights | None, default_height_m: float | None
) -> BuildingPolygon:
    centre = roof.geometry.centroid
    lean = lean_at(centre.x, centre.y)
    height_m = roof.height_m if heights is None else heights.find(roof, lean)
    height_m = default_height_m if height_m is None else height_m
    if height_m is None:
        raise InputError(
            f"building {roof.number} at ({centre.x:.6g}, {centre.y:.6g}) has no height: add it, give one for those "
            "without (default_height_m), or ask for roofs"
        )
    height_m = float(checked_heights(height_m))
    footprint = translate(roof.geometry, *-(lean * height_m))
    return replace(roof, geometry=footprint, height_m=height_m, height_class=height_class(height_m))

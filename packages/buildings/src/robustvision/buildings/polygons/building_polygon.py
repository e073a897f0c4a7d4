"""One building of a map."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from shapely import Polygon


@dataclass(frozen=True)
class BuildingPolygon:
    """A building as an outline.

    Attributes:
        geometry: In map units (pixels where the raster has no transform); exterior counter-clockwise, holes clockwise.
        number: From 1, in the order of output: by the last row that a building covers, then by its last column there.
        mean_probability: Over its pixels, before any simplification.
        area: In square `unit`, holes left out.
        perimeter: In `unit`, edges of holes included.
        unit: ``m``, or ``px`` where the raster has no coordinate system.
        is_regularised: Whether its edges were squared.
        first_pixel: (row, column) of its first pixel in the raster, by rows.
        height_m: Height over the ground, where one is known.
        height_class: Name of its class of height, likewise.
    """

    geometry: Polygon
    number: int
    mean_probability: float
    area: float
    perimeter: float
    unit: Literal["m", "px"]
    is_regularised: bool
    first_pixel: tuple[int, int]
    height_m: float | None = None
    height_class: str | None = None

    @property
    def compactness(self) -> float:
        """``4 pi area / perimeter^2``: 1 for a disc, pi / 4 for a square."""
        return 4 * math.pi * self.area / self.perimeter**2

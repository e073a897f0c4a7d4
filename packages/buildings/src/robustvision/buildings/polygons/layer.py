"""What a file of buildings says about them: the attributes of each, and what holds for all."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import rasterio.crs
from pyproj import CRS

from robustvision.buildings.contract import Target
from robustvision.buildings.geo import as_crs
from robustvision.buildings.polygons.building_polygon import BuildingPolygon

Value = int | float | bool | str | None


@dataclass(frozen=True)
class Layer:
    """A layer of buildings; attributes as for ``write_polygons``."""

    name: str
    target: Target
    crs: rasterio.crs.CRS | CRS | str | None
    model_name: str
    model_hash: str

    @property
    def unit(self) -> str:
        """Of lengths and areas."""
        return "px" if self.crs is None else "m"

    @property
    def wkt(self) -> str | None:
        """The system of the geometries."""
        return None if self.crs is None else as_crs(self.crs).to_wkt()

    @property
    def facts(self) -> dict[str, str]:
        """What holds for all of its buildings."""
        return {"target": self.target, "model": self.model_name, "model_hash": self.model_hash}

    def attributes(self) -> dict[str, tuple[type, Callable[[BuildingPolygon], Value]]]:
        """Name, type, and where a building's value comes from; lengths carry their unit in the name."""
        return {
            "number": (int, lambda building: building.number),
            "mean_probability": (float, lambda building: round(building.mean_probability, 6)),
            f"area_{self.unit}2": (float, lambda building: round(building.area, 3)),
            f"perimeter_{self.unit}": (float, lambda building: round(building.perimeter, 3)),
            "compactness": (float, lambda building: round(building.compactness, 6)),
            "is_regularised": (bool, lambda building: building.is_regularised),
            "height_m": (float, lambda building: building.height_m),
            "height_class": (str, lambda building: building.height_class),
            "first_row": (int, lambda building: building.first_pixel[0]),
            "first_column": (int, lambda building: building.first_pixel[1]),
            "target": (str, lambda _: self.target),
        }

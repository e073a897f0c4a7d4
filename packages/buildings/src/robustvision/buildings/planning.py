"""What to expect of an acquisition before it is bought or labelled: displacements, label quality, clean tiles.

The curves were measured on rendered scenes (``benchmarks/buildings_adaptation.py`` writes ``plan_curves.json``): they
say how strongly a lean hurts, not what a real city will reach. What decides is the displacement relative to the
building's side, so that is what the curves are read by.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt
import pyogrio
import shapely
from pyogrio.errors import DataLayerError, DataSourceError

from robustvision.buildings.geo import metric_crs
from robustvision.buildings.offsets import HEIGHT_CLASSES, checked_heights, displacement_px, height_class
from robustvision.buildings.polygons import HeightLayer, read_height_source
from robustvision.buildings.polygons.heights import read_table
from robustvision.core.errors import InputError

Float64 = npt.NDArray[np.float64]
CURVES = Path(__file__).with_name("plan_curves.json")
TYPICAL_SIDE_M: Mapping[str, float] = MappingProxyType({"low": 13.5, "mid": 21.0, "high": 28.0, "skyscraper": 35.0})
"""Side of a building whose area is not known: the middle of what the generator draws for its class."""
NOTE = (
    "Clean tiles: the fewest whose F1 after adaptation cannot be told from the best measured, spread over the city; 0 "
    "where adaptation gains nothing. Measured on rendered scenes (tiles of 96 px): how strongly a lean hurts, not what "
    "your city will reach."
)
HEADER = "height_m, and area_m2 where it is known"


@dataclasses.dataclass(frozen=True)
class ClassPlan:
    """What to expect of one height class.

    Attributes:
        height_class: Its name.
        buildings: How many of the buildings belong to it.
        height_m: Their mean height.
        side_m: Their mean side, the root of the area.
        displacement_px: Mean displacement of a roof against its footprint.
        max_displacement_px: The largest one.
        label_f1: Expected F1 of a map's footprints as labels, against visible roofs.
        measured_as: The class of rendered scenes with the nearest displacement in sides; the rest is measured there.
        noisy_only_f1: F1 of a network trained on such labels alone.
        clean_tiles: How many clean tiles are worth labelling: the fewest whose F1 after adaptation cannot be told from
            the best measured; 0 where adaptation gains nothing.
        adapted_f1: F1 with that many.
    """

    height_class: str
    buildings: int
    height_m: float
    side_m: float
    displacement_px: float
    max_displacement_px: float
    label_f1: float
    measured_as: str
    noisy_only_f1: float
    clean_tiles: int
    adapted_f1: float


def plan(
    heights_m: Sequence[float] | Float64, areas_m2: Sequence[float] | Float64, *, gsd_m: float, off_nadir_deg: float
) -> list[ClassPlan]:
    """Say what an acquisition of a city would give.

    Args:
        heights_m: [n], height of each building.
        areas_m2: [n], its footprint's area; NaN where not known.
        gsd_m: Ground sampling distance.
        off_nadir_deg: Angle between the view and the vertical.

    Returns:
        One plan a height class that occurs, from low to high.

    Raises:
        InputError: A value is out of range, or there is no building.

    Example:
        >>> (one,) = plan([20.0], [400.0], gsd_m=0.6, off_nadir_deg=15.0)
        >>> one.height_class, round(one.displacement_px, 1)
        ('mid', 8.9)
    """
    heights, areas = checked_heights(heights_m), np.asarray(areas_m2, np.float64)
    if not heights.size or heights.shape != areas.shape:
        raise InputError(f"{heights.size} heights and {areas.size} areas were given: expected one of each a building")
    if (areas <= 0).any():
        raise InputError(f"an area is {np.nanmin(areas):g} m2: expected above 0, or nothing where it is not known")
    if not (math.isfinite(gsd_m) and math.isfinite(off_nadir_deg)):
        raise InputError(f"gsd is {gsd_m} m and off-nadir {off_nadir_deg} degrees: expected numbers")
    names = np.array([height_class(height) for height in heights])
    sides = np.where(np.isfinite(areas), np.sqrt(areas), [TYPICAL_SIDE_M[name] for name in names])
    shifts_px = np.hypot(*displacement_px(heights, gsd_m, math.radians(off_nadir_deg), 0.0).T)
    curves = json.loads(CURVES.read_text(encoding="utf-8"))
    plans = []
    for name in HEIGHT_CLASSES:
        chosen = names == name
        if chosen.any():
            plans.append(_plan_class(name, heights[chosen], sides[chosen], shifts_px[chosen], gsd_m, curves))
    return plans


def read_buildings(path: Path) -> tuple[Float64, Float64]:
    """Read the heights and areas of a city's buildings.

    Args:
        path: CSV with the column ``height_m`` and, where known, ``area_m2``; or footprints with the attribute
            ``height_m`` in any vector file that GDAL reads.

    Returns:
        Heights in metres, and areas in square metres, NaN where not given; float64 [n].

    Raises:
        InputError: The file or the column is not there, or a value is not a number.
    """
    heights, areas = _read_table(path) if path.suffix.lower() == ".csv" else _read_map(path)
    if not len(heights):
        raise InputError(f"{path} holds no building with a height: expected {HEADER}")
    return heights, areas


def plan_city(heights: Path, *, gsd_m: float, off_nadir_deg: float) -> dict[str, Any]:
    """What the command ``plan`` prints.

    Args:
        heights: As for `read_buildings`.
        gsd_m: Ground sampling distance.
        off_nadir_deg: Angle between the view and the vertical.

    Returns:
        ``classes``, a row each, and what was asked.

    Raises:
        InputError: As for `read_buildings` and `plan`.
    """
    plans = plan(*read_buildings(heights), gsd_m=gsd_m, off_nadir_deg=off_nadir_deg)
    rows = [dataclasses.asdict(one) for one in plans]
    return {"gsd_m": gsd_m, "off_nadir_deg": off_nadir_deg, "classes": rows, "note": NOTE}


def _read_table(path: Path) -> tuple[Float64, Float64]:
    rows = [(line, row) for line, row in read_table(path, ("height_m",)) if row["height_m"]]
    values = np.empty((2, len(rows)))
    for place, (line, row) in enumerate(rows):
        try:
            values[:, place] = float(row["height_m"]), float(row.get("area_m2") or math.nan)
        except ValueError as error:
            raise InputError(f"{path}:{line}: {row} does not hold numbers: expected {HEADER}") from error
    return values[0], values[1]


def _read_map(path: Path) -> tuple[Float64, Float64]:
    """Areas are measured in metres, near the middle of the layer."""
    try:
        info = pyogrio.read_info(path, force_total_bounds=True)
    except (DataSourceError, DataLayerError, OSError) as error:
        raise InputError(f"{path} cannot be read ({error}): give a map of buildings, or a CSV file") from error
    bounds = info["total_bounds"]
    if not info["crs"] or bounds is None:
        raise InputError(f"{path} has no coordinate system or no footprint: give it the right one (ogr2ogr -a_srs ...)")
    crs = metric_crs(info["crs"], (bounds[0] + bounds[2]) / 2, (bounds[1] + bounds[3]) / 2)
    layer = read_height_source(path, crs=crs)
    assert isinstance(layer, HeightLayer)
    return layer.height_m, np.asarray(shapely.area(layer.footprints))


def _plan_class(
    name: str, heights: Float64, sides: Float64, shifts_px: Float64, gsd_m: float, curves: dict[str, Any]
) -> ClassPlan:
    relative = shifts_px * gsd_m / sides
    label_f1 = np.interp(relative, curves["labels"]["relative_shift"], curves["labels"]["f1"])
    nearest = min(curves["adaptation"], key=lambda one: abs(one["relative_shift"] - float(relative.mean())))
    tiles, f1, enough = nearest["clean_tiles"], nearest["f1"], nearest["enough"]
    return ClassPlan(
        height_class=name,
        buildings=len(heights),
        height_m=float(heights.mean()),
        side_m=float(sides.mean()),
        displacement_px=float(shifts_px.mean()),
        max_displacement_px=float(shifts_px.max()),
        label_f1=float(label_f1.mean()),
        measured_as=nearest["height_class"],
        noisy_only_f1=f1[0],
        clean_tiles=enough,
        adapted_f1=f1[tiles.index(enough)],
    )

"""What to expect of an acquisition before it is bought or labelled: displacements, label quality, clean tiles.

The curves were measured on rendered scenes (``benchmarks/buildings_adaptation.py`` makes ``plan_curves.json``): they
say how strongly a lean hurts, not what a real city will reach. What decides is the displacement relative to the
building's side, so that is what the curves are read by.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from robustvision.buildings.offsets import HEIGHT_CLASSES, height_class
from robustvision.core.errors import InputError

Float64 = npt.NDArray[np.float64]
CURVES = Path(__file__).with_name("plan_curves.json")
TYPICAL_SIDE_M = {"low": 13.0, "mid": 21.0, "high": 28.0, "skyscraper": 35.0}
"""Side of a building where the table gives no area: the middles of the generator's ranges [R]."""
WORTH_F1 = 0.01
"""Clean tiles are worth labelling until the measured curve is this close to its best."""
HEADER = "height_m, and area_m2 where it is known"


@dataclass(frozen=True)
class ClassPlan:
    """What to expect of one height class.

    Attributes:
        height_class: Its name.
        buildings: How many buildings of the table belong to it.
        height_m: Their mean height.
        side_m: Their mean side.
        displacement_px: Mean displacement of a roof against its footprint.
        max_displacement_px: The largest one.
        label_f1: Expected F1 of footprint labels against visible roofs.
        noisy_only_f1: Measured F1 of a network trained on such labels, on rendered scenes of the nearest lean.
        clean_tiles: Clean tiles worth labelling: the fewest within 0.01 of the best measured F1 after adaptation.
        adapted_f1: Measured F1 with that many.
    """

    height_class: str
    buildings: int
    height_m: float
    side_m: float
    displacement_px: float
    max_displacement_px: float
    label_f1: float
    noisy_only_f1: float
    clean_tiles: int
    adapted_f1: float


def plan(
    heights_m: Sequence[float], areas_m2: Sequence[float], *, gsd_m: float, off_nadir_deg: float
) -> list[ClassPlan]:
    """Say what an acquisition of a city would give.

    Args:
        heights_m: Height of each building.
        areas_m2: Footprint area of each; NaN where not known.
        gsd_m: Ground sampling distance.
        off_nadir_deg: Angle between the view and the vertical.

    Returns:
        One plan a height class that occurs, from low to high.

    Raises:
        InputError: A value is out of range.

    Example:
        >>> (one,) = plan([20.0], [400.0], gsd_m=0.6, off_nadir_deg=15.0)
        >>> one.height_class, round(one.displacement_px, 1)
        ('mid', 8.9)
    """
    heights, areas = np.asarray(heights_m, np.float64), np.asarray(areas_m2, np.float64)
    if not heights.size or not np.isfinite(heights).all() or (heights < 0).any():
        raise InputError(f"{heights.size} heights were given: expected at least one, all numbers of metres from 0 up")
    if not 0 < gsd_m < math.inf or not 0 <= off_nadir_deg < 90:
        raise InputError(f"gsd is {gsd_m} m and off-nadir {off_nadir_deg} degrees: expected above 0, and 0 to below 90")
    names = np.array([height_class(height) for height in heights])
    sides = np.where(np.isfinite(areas), np.sqrt(areas), [TYPICAL_SIDE_M[name] for name in names])
    shifts_m = heights * math.tan(math.radians(off_nadir_deg))
    curves = json.loads(CURVES.read_text(encoding="utf-8"))
    plans = []
    for name in HEIGHT_CLASSES:
        chosen = names == name
        if chosen.any():
            plans.append(_plan_class(name, heights[chosen], sides[chosen], shifts_m[chosen], gsd_m, curves))
    return plans


def read_heights(path: Path) -> tuple[list[float], list[float]]:
    """Read a table of buildings.

    Args:
        path: CSV with the column ``height_m`` and, where known, ``area_m2``.

    Returns:
        Heights in metres, and areas in square metres, NaN where not given.

    Raises:
        InputError: The file or the column is not there, or a value is not a number.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            if "height_m" not in (reader.fieldnames or ()):
                raise InputError(f"{path} has the columns {reader.fieldnames}: expected {HEADER}")
            rows = list(reader)
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read ({error}): give a CSV file with {HEADER}") from error
    heights, areas = [], []
    for line, row in enumerate(rows, start=2):
        try:
            heights.append(float(row["height_m"]))
            areas.append(float(row.get("area_m2") or math.nan))
        except (TypeError, ValueError) as error:
            raise InputError(f"{path}:{line}: {row} does not hold numbers: expected {HEADER}") from error
    return heights, areas


def _plan_class(
    name: str, heights: Float64, sides: Float64, shifts_m: Float64, gsd_m: float, curves: dict[str, Any]
) -> ClassPlan:
    relative = shifts_m / sides
    label_f1 = np.interp(relative, curves["label_f1"]["relative_shift"], curves["label_f1"]["f1"])
    study = curves["adaptation"]
    nearest = min(study, key=lambda one: abs(one["relative_shift"] - float(relative.mean())))
    tiles, f1 = nearest["clean_tiles"], nearest["f1"]
    enough = next(place for place, value in enumerate(f1) if value >= max(f1) - WORTH_F1)
    return ClassPlan(
        height_class=name,
        buildings=len(heights),
        height_m=float(heights.mean()),
        side_m=float(sides.mean()),
        displacement_px=float(shifts_m.mean() / gsd_m),
        max_displacement_px=float(shifts_m.max() / gsd_m),
        label_f1=float(label_f1.mean()),
        noisy_only_f1=f1[0],
        clean_tiles=tiles[enough],
        adapted_f1=f1[enough],
    )

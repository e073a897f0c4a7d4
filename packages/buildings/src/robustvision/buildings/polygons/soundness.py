"""Polygons that a geographic information system accepts."""

from __future__ import annotations

from typing import Any

import numpy as np
import shapely
from shapely import Polygon


def sound(polygons: Any) -> Any:
    """Return polygons that are valid.

    Args:
        polygons: Array of shapely polygons.

    Returns:
        The same array where all are valid; else a copy in which each invalid one is made valid. Of one that falls into
        parts, the largest is kept, since one building is one outline.
    """
    invalid = np.flatnonzero(~shapely.is_valid(polygons))
    if not invalid.size:
        return polygons
    mended = polygons.copy()
    for index in invalid:
        mended[index] = _largest(shapely.make_valid(polygons[index]))
    return mended


def _largest(geometry: Any) -> Polygon:
    parts = [part for part in shapely.get_parts(shapely.get_parts(geometry)) if isinstance(part, Polygon)]
    return max(parts, key=lambda part: part.area, default=Polygon())

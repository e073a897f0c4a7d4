"""Square the edges of a building: one dominant direction, edges snapped to it, corners where the edges' lines meet."""

from __future__ import annotations

from shapely import Polygon


def regularise(polygon: Polygon, *, tolerance_m: float = 1.0) -> Polygon | None:
    """Return the polygon with squared edges, or None where they would not fit."""
    return None

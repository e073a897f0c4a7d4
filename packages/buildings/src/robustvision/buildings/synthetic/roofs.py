"""Visible roofs as polygons: what no higher building hides, by geometry alone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import shapely
from shapely import affinity

from robustvision.buildings.offsets import swept_shape
from robustvision.buildings.synthetic.scene import Building, Scene


def visible_roofs(scene: Scene) -> list[tuple[Building, shapely.Geometry]]:
    """Return the roofs that are seen in a scene, cut at the picture's edges, in px.

    Args:
        scene: The scene.

    Returns:
        Each building with the part of its roof that is seen, a Polygon or MultiPolygon; without those of which nothing
        is seen.
    """
    height, width = scene.roof.shape
    frame = shapely.box(0, 0, width, height)
    tree = shapely.STRtree([swept_shape(building.footprint, building.offset_px) for building in scene.buildings])
    seen = []
    for building in scene.buildings:
        near = [scene.buildings[place] for place in tree.query(building.roof)]
        parts = shapely.get_parts(shapely.intersection(visible_roof(building, near), frame))
        parts = parts[shapely.area(parts) > 0]  # outlines that touch leave points and lines behind
        if len(parts):
            seen.append((building, parts[0] if len(parts) == 1 else shapely.MultiPolygon(list(parts))))
    return seen


def visible_roof(building: Building, others: Sequence[Building]) -> shapely.Geometry:
    """Return the part of a roof that no other building hides.

    A building hides what lies beneath its part above the roof's height: its footprint, moved as far as a point of that
    height is, and swept from there to its own roof.

    Args:
        building: The building.
        others: What may hide it; lower ones, and itself, do not.

    Returns:
        In px; it may be empty.
    """
    hidden = []
    for other in others:
        if other.height_m > building.height_m:
            share, offset = building.height_m / other.height_m, np.array(other.offset_px)
            base = affinity.translate(other.footprint, *(share * offset))
            dx, dy = ((1 - share) * offset).tolist()
            hidden.append(swept_shape(base, (dx, dy)))
    return shapely.difference(building.roof, shapely.union_all(hidden)) if hidden else building.roof

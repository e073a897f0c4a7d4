"""The labels that a map gives: footprints, where the roofs are not, with the errors that maps have besides."""

from __future__ import annotations

from dataclasses import dataclass
from zlib import crc32

import numpy as np
import numpy.typing as npt
import shapely
from shapely import affinity
from shapely.geometry import Polygon, box

from robustvision.buildings.synthetic.raster import fill_polygon
from robustvision.buildings.synthetic.scene import Building, Scene
from robustvision.core.errors import InputError

_STREAM = 0x401E
_OWN_SHARE = 0.5  # of the jitter, for each building


@dataclass(frozen=True, eq=False)
class NoisyLabel:
    """What a map says about a scene.

    Attributes:
        mask: bool [H, W].
        polygons: The map's footprints in px; they may reach beyond the picture.
        heights_m: Their heights.
    """

    mask: npt.NDArray[np.bool_]
    polygons: tuple[Polygon, ...]
    heights_m: tuple[float, ...]


def noisy_label(
    scene: Scene, *, jitter_m: float = 1.0, omissions: float = 0.03, commissions: float = 0.02, seed: int = 0
) -> NoisyLabel:
    """Return a scene's misaligned label: its footprints, with registration errors, gaps and inventions.

    The same scene and seed give the same label.

    Args:
        scene: The scene.
        jitter_m: Standard deviation along x and y of the shift of the whole map; half of it for each building besides.
        omissions: Share of buildings that the map lacks.
        commissions: Buildings that the map has and the ground has not, as a share of those there are.
        seed: Seed of the errors.

    Raises:
        InputError: A share outside 0 to 1, or a negative jitter.
    """
    if not (jitter_m >= 0 and 0 <= omissions <= 1 and 0 <= commissions <= 1):
        raise InputError(
            f"jitter_m {jitter_m}, omissions {omissions}, commissions {commissions}: expected 0 or more, and shares"
        )
    rng = np.random.default_rng((_STREAM, seed, crc32(scene.name.encode())))
    count = len(scene.buildings)
    jitter_px = jitter_m / scene.gsd_m
    shifts = rng.normal(0, jitter_px, 2) + rng.normal(0, _OWN_SHARE * jitter_px, (count, 2))
    is_kept = rng.random(count) >= omissions
    polygons, heights = [], []
    for building, (dx, dy), kept in zip(scene.buildings, shifts, is_kept, strict=True):
        if kept:
            polygons.append(affinity.translate(building.footprint, dx, dy))
            heights.append(building.height_m)
    for donor in rng.integers(0, max(count, 1), rng.binomial(count, commissions)):
        invented = _invent(rng, scene, scene.buildings[donor])
        if invented is not None:
            polygons.append(invented)
            heights.append(scene.buildings[donor].height_m)
    mask = np.zeros(scene.roof.shape, bool)
    for polygon in polygons:
        fill_polygon(mask, shapely.get_coordinates(polygon))
    return NoisyLabel(mask, tuple(polygons), tuple(heights))


def _invent(rng: np.random.Generator, scene: Scene, donor: Building) -> Polygon | None:
    """A copy of a building where none stands; None where some tries find no room."""
    height, width = scene.roof.shape
    standing = shapely.union_all([building.footprint for building in scene.buildings])
    centre = donor.footprint.centroid
    for x, y in rng.uniform(0, (width, height), (8, 2)):
        candidate = affinity.translate(donor.footprint, x - centre.x, y - centre.y)
        if box(0, 0, width, height).intersects(candidate) and not candidate.intersects(standing):
            return candidate
    return None

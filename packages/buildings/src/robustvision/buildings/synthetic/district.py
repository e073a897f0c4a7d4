"""Districts: what the scenes of one part of a city share. A number names a district, for every split and seed."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Range = tuple[float, float]

DISTRICTS = 500
"""The wide set that scenes of no named district are drawn from."""

_STREAM = 0xD157
_TERRAIN = (
    (92, 112, 66),
    (74, 98, 58),
    (142, 136, 92),
    (152, 120, 88),
    (134, 128, 120),
    (168, 152, 122),
    (112, 104, 84),
)
_ROOFS = (
    (164, 88, 64),
    (140, 72, 58),
    (96, 100, 110),
    (184, 184, 180),
    (216, 214, 208),
    (122, 98, 80),
    (96, 118, 104),
    (92, 110, 138),
    (74, 72, 72),
    (178, 158, 130),
    (136, 134, 132),
)
_WALLS = ((186, 174, 156), (150, 112, 92), (168, 168, 166), (206, 202, 194), (112, 122, 132), (134, 126, 114))


@dataclass(frozen=True, eq=False)
class District:
    """A style.

    Attributes:
        number: Its name.
        terrain: [3, 3] colours of the open ground, 0 to 255.
        road: [3] colour of the streets.
        roofs: [n, 3] colours of the roofs; flat pads on the ground share them.
        walls: [n, 3] colours of the facades.
        grid_deg: Direction of its streets.
        turn_deg: How much a building is turned out of it, standard deviation.
        spacing: Factor on the gaps between buildings.
        vacancy: Share of lots without a building.
        pads: Share of those that are paved.
        notched: Share of L-shaped buildings.
        gabled: Factor on the share of gable roofs.
        vegetation: Trees a hectare.
        sun_azimuth_deg: Range of the direction of the shadows.
        sun_elevation_deg: Range of the sun's height.
        view: The part of the off-nadir angles that it is seen at, as shares of their range.
        haze: Share of the light that the air adds.
    """

    number: int
    terrain: Array
    road: Array
    roofs: Array
    walls: Array
    grid_deg: float
    turn_deg: float
    spacing: float
    vacancy: float
    pads: float
    notched: float
    gabled: float
    vegetation: float
    sun_azimuth_deg: Range
    sun_elevation_deg: Range
    view: Range
    haze: float


@lru_cache(maxsize=1024)
def district(number: int) -> District:
    """Return a district.

    Args:
        number: Its name, at least 0.
    """
    rng = np.random.default_rng((_STREAM, number))
    light = rng.uniform(0.85, 1.15)
    azimuth, elevation, view = rng.uniform(0, 360), rng.uniform(36, 62), rng.uniform(0, 0.5)
    return District(
        number=number,
        terrain=_pick(rng, _TERRAIN, 3, 10) * light,
        road=np.full(3, rng.uniform(82, 150)) + rng.normal(0, 5, 3),
        roofs=_pick(rng, _ROOFS, int(rng.integers(2, 6)), 10) * light,
        walls=_pick(rng, _WALLS, int(rng.integers(2, 4)), 8) * light,
        grid_deg=rng.uniform(0, 90),
        turn_deg=float(rng.choice([0.0, 3.0, 10.0, 30.0], p=[0.35, 0.3, 0.2, 0.15])),
        spacing=rng.uniform(0.8, 1.25),
        vacancy=rng.uniform(0.04, 0.16),
        pads=rng.uniform(0.3, 0.9),
        notched=rng.uniform(0.1, 0.5),
        gabled=rng.uniform(0.5, 1.3),
        vegetation=float(rng.choice([8.0, 25.0, 60.0])) * rng.uniform(0.7, 1.3),
        sun_azimuth_deg=(azimuth - 20, azimuth + 20),
        sun_elevation_deg=(elevation - 5, elevation + 5),
        view=(view, view + 0.5),
        haze=rng.uniform(0, 0.15),
    )


def _pick(rng: np.random.Generator, colours: tuple[tuple[int, int, int], ...], count: int, spread: float) -> Array:
    chosen = np.array(colours, np.float64)[rng.permutation(len(colours))[:count]]
    return np.clip(chosen + rng.normal(0, spread, chosen.shape), 25, 240)

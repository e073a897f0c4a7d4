"""The currency of the data: one labelled picture, and where it comes from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

UInt8 = npt.NDArray[np.uint8]
Bool = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Tile:
    """A labelled picture in memory.

    Attributes:
        name: Unique in its data set.
        image: uint8 [H, W, 3], RGB.
        label: uint8 [H, W], 1 where a building is labelled, else 0.
        valid: bool [H, W], False where the image has no data; None where all is valid. Such pixels count nowhere.
        group: What it was cut from: a scene or a raster. Tiles of one group are no independent samples.
        gsd_m: Ground sampling distance in metres; None if not known.
        scale: The values of each band that became 0 and 255; None where the image holds 8 bits.
        conditions: What else is known: height class, off-nadir angle, azimuth, district.
    """

    name: str
    image: UInt8
    label: UInt8
    valid: Bool | None = None
    group: str = ""
    gsd_m: float | None = None
    scale: tuple[tuple[float, float], ...] | None = None
    conditions: Mapping[str, str | int | float] = field(default_factory=dict)


@dataclass(frozen=True)
class TileSource:
    """A labelled picture that is not read yet.

    Attributes:
        name: Unique in its data set.
        read: Reads it.
        group: The plane that ``bounds`` lie on: a raster without a place, or a coordinate system, which many rasters
            share; where places are not known, what must stay together: a scene, a city. Splits go by it.
        bounds: Least x, least y, greatest x, greatest y in units of that plane (pixels, or map units); None where
            places are not known.
    """

    name: str
    read: Callable[[], Tile] = field(repr=False)  # long, and messages name the source
    group: str = ""
    bounds: tuple[float, float, float, float] | None = None

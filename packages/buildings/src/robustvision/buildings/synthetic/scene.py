"""What a rendered scene is: a picture and everything that is true about it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from shapely.geometry import Polygon

UInt8 = npt.NDArray[np.uint8]
Bool = npt.NDArray[np.bool_]
Int32 = npt.NDArray[np.int32]


@dataclass(frozen=True)
class Building:
    """One building. Its polygons are whole, whatever hides parts of it, and may reach beyond the picture.

    Attributes:
        number: Its value in the scene's ``instances``, from 1.
        footprint: Where it stands, in px.
        roof: Where its roof appears, in px: the footprint moved by the offset.
        height_m: Height of its roof above the ground.
        height_class: ``low``, ``mid``, ``high`` or ``skyscraper``.
        offset_px: (dx, dy) from footprint to roof.
    """

    number: int
    footprint: Polygon
    roof: Polygon
    height_m: float
    height_class: str
    offset_px: tuple[float, float]


@dataclass(frozen=True, eq=False)
class Scene:
    """A picture with its truth. A pixel belongs to what its centre shows.

    Trees hide parts of the picture but not of the truth, as people draw roofs on through a canopy.

    Attributes:
        name: Unique in its data set.
        image: uint8 [H, W, 3], RGB.
        buildings: Those that come within 5 m of the picture.
        footprint: bool [H, W], where buildings stand, hidden or not.
        roof: bool [H, W], roofs that no other building hides.
        facade: bool [H, W], walls that no other building hides.
        shape: bool [H, W], roof or facade: all that buildings cover, from their footprints to their roofs.
        instances: int32 [H, W], number of the building whose roof is seen; 0 elsewhere.
        gsd_m: Ground sampling distance.
        off_nadir_deg: Angle between the view and the vertical.
        azimuth_deg: Direction in which tops lean, clockwise from the picture's up.
        height_class: Class of the buildings, or ``mixed``.
        district: Number of the district, -1 for several.
    """

    name: str
    image: UInt8
    buildings: tuple[Building, ...]
    footprint: Bool
    roof: Bool
    facade: Bool
    shape: Bool
    instances: Int32
    gsd_m: float
    off_nadir_deg: float
    azimuth_deg: float
    height_class: str
    district: int

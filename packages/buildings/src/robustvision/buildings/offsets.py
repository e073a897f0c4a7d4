"""How far a building leans in an image: displacement by height and view, the swept shape, the offset coder of LOFT.

An offset (dx, dy) in px leads from a footprint to its roof, x to the right and y down. Numpy and shapely only.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt
import shapely
from shapely.geometry import MultiPolygon, Polygon

from robustvision.core.errors import InputError

Float64 = npt.NDArray[np.float64]
OffsetForm = Literal["rectangular", "polar"]
HeightUnit = Literal["m", "ft", "storeys"]

HEIGHT_CLASSES: Mapping[str, float] = MappingProxyType(
    {"low": 12.0, "mid": 35.0, "high": 100.0, "skyscraper": math.inf}
)
"""Upper limit of each class in metres, itself included. RECONSTRUCTED: the paper names the classes, not the limits."""

MAX_HEIGHT_M = 1000.0
"""No building is higher: the tallest has 828 m."""

STOREY_M = 3.25
"""Of one storey, the middle of the usual 3.0 to 3.5 m."""

OFFSET_STD = 0.5
"""What LOFT divides its normalised offsets by."""

_METRES = {"m": 1.0, "ft": 0.3048, "storeys": STOREY_M}


def height_class(height_m: float, limits_m: Mapping[str, float] = HEIGHT_CLASSES) -> str:
    """Return the name of a height's class.

    Args:
        height_m: At least 0.
        limits_m: Name to upper limit, itself included, in ascending order.

    Raises:
        InputError: The height is negative, not finite, or above every limit.

    Example:
        >>> [height_class(height_m) for height_m in (12, 12.1, 100, 101)]
        ['low', 'mid', 'high', 'skyscraper']
    """
    if not (math.isfinite(height_m) and height_m >= 0):
        raise InputError(f"a building's height is {height_m}: expected a number of metres, 0 or more")
    for name, limit_m in limits_m.items():
        if height_m <= limit_m:
            return name
    raise InputError(
        f"a height of {height_m} m is above all classes {dict(limits_m)}: let the last one end at infinity"
    )


def height_in_metres(values: npt.ArrayLike, unit: HeightUnit) -> Float64:
    """Return heights in metres. The unit is always said, never guessed.

    Args:
        values: ``[...]``, of any shape.
        unit: ``m``, ``ft`` or ``storeys`` (of 3.25 m, the middle of the usual 3.0 to 3.5 m).

    Returns:
        float64 ``[...]``.

    Raises:
        InputError: The unit is not known, or a height is negative, not finite, or above 1000 m.

    Example:
        >>> height_in_metres([10, 100], "ft").round(2).tolist()
        [3.05, 30.48]
    """
    if unit not in _METRES:
        raise InputError(f"the unit of heights is {unit!r}: expected {', '.join(get_args(HeightUnit))}")
    return checked_heights(np.asarray(values, dtype=np.float64) * _METRES[unit], f"read in {unit}")


def checked_heights(heights_m: npt.ArrayLike, how: str = "in metres") -> Float64:
    """Return heights as float64, or refuse what cannot be a building's.

    Args:
        heights_m: ``[...]``.
        how: Where they come from, for the error.

    Raises:
        InputError: A height is negative, not finite, or above 1000 m.
    """
    heights = np.asarray(heights_m, dtype=np.float64)
    if (broken := int(np.count_nonzero(~np.isfinite(heights)))) or (heights < 0).any():
        raise InputError(
            f"of {heights.size} heights {how}, {broken} are missing and {int((heights < 0).sum())} are negative: "
            "give every building a height, 0 or more"
        )
    if heights.size and heights.max() > MAX_HEIGHT_M:
        raise InputError(
            f"a building is {heights.max():g} m high, {how}; none is above {MAX_HEIGHT_M:g} m: check the unit"
        )
    return heights


def displacement_px(
    height_m: npt.ArrayLike, gsd_m: npt.ArrayLike, off_nadir_rad: npt.ArrayLike, azimuth_rad: npt.ArrayLike
) -> Float64:
    """Displacement of a roof from its footprint under parallel rays, as in a satellite image or a small tile.

    ``d = h tan(theta) / g (sin phi, -cos phi)``.

    Args:
        height_m: Height h above the ground, ``[...]``; all arguments broadcast.
        gsd_m: Ground sampling distance g, on the ground: see `geo.ground_sampling_distance`.
        off_nadir_rad: Angle theta between the view and the vertical, 0 to below pi/2.
        azimuth_rad: Direction phi in which tops lean, clockwise from the image's up.

    Returns:
        float64 ``[..., 2]``, (dx, dy) in px.

    Raises:
        InputError: A ground sampling distance is not above 0, or an angle not below pi/2.

    Example:
        >>> displacement_px(20.0, 0.6, np.deg2rad(15), np.deg2rad(60)).round(1).tolist()
        [7.7, -4.5]
    """
    gsd, theta, phi = (np.asarray(value, dtype=np.float64) for value in (gsd_m, off_nadir_rad, azimuth_rad))
    if not (gsd > 0).all():
        raise InputError(f"the ground sampling distance is {gsd.min()} m: expected above 0")
    if not ((theta >= 0) & (theta < math.pi / 2)).all():
        raise InputError(
            "an off-nadir angle is outside 0 to pi/2: give radians, and its absolute value with the azimuth"
        )
    length = np.asarray(height_m, dtype=np.float64) * np.tan(theta) / gsd
    return np.stack(np.broadcast_arrays(length * np.sin(phi), -length * np.cos(phi)), axis=-1)


def central_displacement_px(
    height_m: npt.ArrayLike,
    point_px: npt.ArrayLike,
    nadir_px: npt.ArrayLike,
    flying_height_m: npt.ArrayLike,
    *,
    measured_to: Literal["base", "top"] = "base",
) -> Float64:
    """Displacement of a roof from its footprint in a frame camera's image: outward from the nadir point.

    At a distance r of the base it is ``r h / (H - h)``; at a distance r of the displaced top, the same vector is
    ``r h / H``.

    Args:
        height_m: Height h of the building, ``[...]``; all arguments broadcast.
        point_px: The building's place ``[..., 2]``, (x, y).
        nadir_px: The point below the camera ``[..., 2]``, (x, y); it may lie outside the image.
        flying_height_m: Height H of the camera above the building's base, ``[...]``.
        measured_to: Whether ``point_px`` is the base, or the top as the image shows it.

    Returns:
        float64 ``[..., 2]``, (dx, dy) in px.

    Raises:
        InputError: A building reaches the camera.

    Example:
        >>> central_displacement_px(100.0, (900.0, 0.0), (0.0, 0.0), 1000.0).tolist()
        [100.0, 0.0]
        >>> central_displacement_px(100.0, (1000.0, 0.0), (0.0, 0.0), 1000.0, measured_to="top").tolist()
        [100.0, 0.0]
    """
    height, flying = np.asarray(height_m, dtype=np.float64), np.asarray(flying_height_m, dtype=np.float64)
    if not (height < flying).all():
        raise InputError("a building is as high as the camera above its base: check heights and flying height")
    arm = np.asarray(point_px, dtype=np.float64) - np.asarray(nadir_px, dtype=np.float64)
    ratio = height / (flying - height if measured_to == "base" else flying)
    return arm * ratio[..., None]


def swept_shape(footprint: Polygon | MultiPolygon, offset_px: tuple[float, float]) -> Polygon | MultiPolygon:
    """Return what a building covers in the image: its footprint, swept along the offset to its roof.

    Exact for any polygon, with holes too: what a sweep adds to both ends is what the edges sweep, since a point that
    enters or leaves does so through an edge.

    Args:
        footprint: Valid.
        offset_px: (dx, dy) from footprint to roof.

    Returns:
        The union of all positions on the way; a Polygon for a Polygon.

    Example:
        >>> swept_shape(shapely.box(0, 0, 2, 1), (3, 0)).bounds
        (0.0, 0.0, 5.0, 1.0)
    """
    step = np.asarray(offset_px, dtype=np.float64)
    rings = shapely.get_rings(shapely.get_parts(footprint))
    corners, ring = shapely.get_coordinates(rings, return_index=True)
    same = ring[1:] == ring[:-1]
    start, end = corners[:-1][same], corners[1:][same]
    across = np.abs((end - start)[:, 0] * step[1] - (end - start)[:, 1] * step[0]) > 0
    start, end = start[across], end[across]
    walls = shapely.polygons(np.stack([start, end, end + step, start + step], axis=1))
    roof = shapely.transform(footprint, lambda xy: xy + step)
    return shapely.union_all([footprint, roof, *walls])


def roof_to_footprint(
    polygons: Sequence[Polygon | MultiPolygon],
    heights_m: npt.ArrayLike,
    gsd_m: float,
    off_nadir_rad: npt.ArrayLike,
    azimuth_rad: npt.ArrayLike,
) -> list[Polygon | MultiPolygon]:
    """Move roofs to the ground, under parallel rays.

    Args:
        polygons: n roofs in px.
        heights_m: ``[n]``, or one for all.
        gsd_m: Ground sampling distance.
        off_nadir_rad: One for all, or ``[n]``.
        azimuth_rad: Direction in which tops lean, clockwise from the image's up; likewise.

    Returns:
        The footprints, in order.

    Raises:
        InputError: Heights are missing, impossible, or not as many as polygons.

    Example:
        >>> [footprint] = roof_to_footprint([shapely.box(10, 0, 20, 5)], 30.0, 1.0, np.pi / 4, np.pi / 2)
        >>> round(footprint.centroid.x, 6)
        -15.0
    """
    heights = checked_heights(heights_m)
    if heights.ndim and heights.shape != (len(polygons),):
        raise InputError(f"there are {len(polygons)} roofs, and heights of shape {heights.shape}: expected one a roof")
    offsets = np.broadcast_to(displacement_px(heights, gsd_m, off_nadir_rad, azimuth_rad), (len(polygons), 2))
    moved = np.array(polygons, dtype=object)
    corners, owner = shapely.get_coordinates(moved, return_index=True)
    return list(shapely.set_coordinates(moved, corners - offsets[owner]))


def encode_offset(offset_px: npt.ArrayLike, size_px: npt.ArrayLike, form: OffsetForm = "rectangular") -> Float64:
    """Return an offset as LOFT's head learns it, relative to the proposal box.

    Rectangular: ``(dx / w, dy / h) / 0.5``; polar: ``(length / diagonal, angle) / 0.5``.

    Args:
        offset_px: ``[..., 2]``, (dx, dy).
        size_px: ``[..., 2]``, (w, h) of the box, above 0.
        form: Which of both.

    Returns:
        float64 ``[..., 2]``.

    Raises:
        InputError: A box has no extent.

    References:
        J. Wang et al., "Learning to extract building footprints from off-nadir aerial images", arXiv 2204.13637.

    Example:
        >>> encode_offset((3.0, 4.0), (30.0, 40.0)).tolist()
        [0.2, 0.2]
        >>> encode_offset((3.0, 4.0), (30.0, 40.0), "polar").round(4).tolist()
        [0.2, 1.8546]
    """
    offset, size = np.asarray(offset_px, dtype=np.float64), _box_size(size_px)
    if form == "rectangular":
        return offset / size / OFFSET_STD
    length = np.hypot(offset[..., 0], offset[..., 1]) / np.hypot(size[..., 0], size[..., 1])
    angle = np.arctan2(offset[..., 1], offset[..., 0])
    return np.stack(np.broadcast_arrays(length, angle), axis=-1) / OFFSET_STD


def decode_offset(code: npt.ArrayLike, size_px: npt.ArrayLike, form: OffsetForm = "rectangular") -> Float64:
    """Return the offset of a code: the inverse of :func:`encode_offset`.

    Args:
        code: ``[..., 2]``.
        size_px: ``[..., 2]``, (w, h) of the box, above 0.
        form: As it was encoded.

    Returns:
        float64 ``[..., 2]``, (dx, dy) in px.

    Raises:
        InputError: A box has no extent.

    Example:
        >>> decode_offset((0.2, 0.2), (30.0, 40.0)).tolist()
        [3.0, 4.0]
    """
    values, size = np.asarray(code, dtype=np.float64) * OFFSET_STD, _box_size(size_px)
    if form == "rectangular":
        return values * size
    length, angle = values[..., 0] * np.hypot(size[..., 0], size[..., 1]), values[..., 1]
    return np.stack([length * np.cos(angle), length * np.sin(angle)], axis=-1)


def _box_size(size_px: npt.ArrayLike) -> Float64:
    size = np.asarray(size_px, dtype=np.float64)
    if not (size > 0).all():
        raise InputError(f"a box of {size.min()} px has no extent: offsets are relative to width and height")
    return size

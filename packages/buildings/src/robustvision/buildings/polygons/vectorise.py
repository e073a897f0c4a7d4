"""From a raster of probabilities to polygons on a map, strip by strip."""

from __future__ import annotations

import math
import multiprocessing
import os
import warnings
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import rasterio
import shapely
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.windows import Window

from robustvision.buildings.polygons.building_polygon import BuildingPolygon
from robustvision.buildings.polygons.components import Component, Strip, find_components
from robustvision.buildings.polygons.frame import MapFrame, map_frame
from robustvision.buildings.polygons.regularise import regularise as squared
from robustvision.buildings.polygons.soundness import sound
from robustvision.core.errors import InputError

UInt8 = npt.NDArray[np.uint8]
Bool = npt.NDArray[np.bool_]

_CHUNK = 256  # buildings that a worker takes at a time
_MOST_HOLES = 1000  # with more it is noise, not a building; simplification takes time with the square of their number
_STAIRCASE_PX = 1.5  # the corners of the staircase that a straight edge becomes lie within 1.42 px across it


def vectorise(
    probability: str | os.PathLike[str],
    *,
    threshold: float = 0.5,
    min_area_m2: float = 10.0,
    opening_px: int = 0,
    simplify_m: float | None = None,
    regularise: bool = True,
    strip_rows: int = 512,
    workers: int = 1,
) -> Iterator[BuildingPolygon]:
    """Yield the buildings of a raster of probabilities as polygons.

    Neither ``strip_rows`` nor ``workers`` changes anything in the result. Memory holds one strip, and the pixels of the
    buildings that reach into the next one. Buildings come in the order in which they end, from the top.

    Args:
        probability: A GeoTIFF of one band, uint8: probability 0..1 as 0..255. Pixels without data (nodata value or mask
            band) are no building.
        threshold: Least probability of a building's pixels, above 0, at most 1.
        min_area_m2: Smaller buildings are left out, measured in pixels of the size at the raster's centre; in px2 where
            the raster has no coordinate system.
        opening_px: Removes what is at most twice as wide before buildings are told apart: a morphological opening with
            a square of ``2 opening_px + 1``. 0 for none.
        simplify_m: Tolerance of the Douglas-Peucker simplification, which keeps the topology; the side of a pixel where
            None; 0 keeps every pixel corner. In px where the raster has no coordinate system. What has more than 1000
            holes is no building but noise, and keeps its corners.
        regularise: Whether to square the edges of buildings whose raw outline allows it, see ``regularise``.
        strip_rows: Rows that are read at a time.
        workers: Processes that simplify and regularise; with 1 this one does.

    Returns:
        The buildings; the raster is read while they are taken.

    Raises:
        InputError: A setting is not possible, or the raster cannot be read or is not one of probabilities.
    """
    check_outlining(
        threshold=threshold,
        min_area_m2=min_area_m2,
        opening_px=opening_px,
        simplify_m=simplify_m,
        strip_rows=strip_rows,
        workers=workers,
    )
    frame, height = _read_frame(probability)
    tolerance = frame.pixel if simplify_m is None else simplify_m
    finish = partial(_finish, outlining=_Outlining(frame, tolerance, regularise))
    level = math.ceil(threshold * 255 - 1e-9)
    strips = _read_strips(probability, level, opening_px, strip_rows, height)
    components = find_components(strips, min_pixels=max(1, math.ceil(min_area_m2 / frame.pixel_area - 1e-9)))
    return _numbered(_in_chunks(finish, components, workers))


@dataclass(frozen=True)
class _Outlining:
    """How outlines are made; ``tolerance`` in the unit of the frame's plane."""

    frame: MapFrame
    tolerance: float
    is_squared: bool


def check_outlining(
    *,
    threshold: float = 0.5,
    min_area_m2: float = 10.0,
    opening_px: int = 0,
    simplify_m: float | None = None,
    strip_rows: int = 512,
    workers: int = 1,
) -> None:
    """Refuse settings of `vectorise` that are not possible, for who would otherwise meet them after hours.

    Raises:
        InputError: As for `vectorise`.
    """
    if not 0 < threshold <= 1:
        raise InputError(f"threshold is {threshold}: expected a probability above 0, at most 1")
    for name, value in {"min_area_m2": min_area_m2, "opening_px": opening_px, "simplify_m": simplify_m or 0}.items():
        if not (math.isfinite(value) and value >= 0):
            raise InputError(f"{name} is {value}: expected 0 or more")
    for name, count in {"strip_rows": strip_rows, "workers": workers}.items():
        if count < 1:
            raise InputError(f"{name} is {count}: expected 1 or more")


def _open(path: str | os.PathLike[str]) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            return rasterio.open(path)
    except RasterioError as error:
        raise InputError(f"{path} cannot be opened as a raster ({error}): give a GeoTIFF of probabilities") from error


def _read_frame(path: str | os.PathLike[str]) -> tuple[MapFrame, int]:
    """The raster's place, and its height."""
    with _open(path) as raster:
        if raster.count != 1 or raster.dtypes[0] != "uint8":
            raise InputError(
                f"{path} has {raster.count} bands of {raster.dtypes[0]}: expected one band of uint8, probabilities "
                "0..1 as 0..255"
            )
        crs = None if raster.transform.is_identity else raster.crs  # a system without a place says nothing of size
        return map_frame(raster.transform, crs, raster.height, raster.width), raster.height


def _read_strips(
    path: str | os.PathLike[str], level: int, opening_px: int, strip_rows: int, height: int
) -> Iterator[Strip]:
    """Read strips, and for the opening as many rows around each as reach into it."""
    halo = 2 * opening_px
    for top in range(0, height, strip_rows):
        bottom = min(top + strip_rows, height)
        begin, end = max(0, top - halo), min(height, bottom + halo)
        levels, has_data = _read_rows(path, begin, end)
        mask = (levels >= level) & has_data
        if opening_px:
            square = np.ones((halo + 1, halo + 1), np.uint8)
            mask = cv2.morphologyEx(mask.view(np.uint8), cv2.MORPH_OPEN, square).view(bool)
        inside = slice(top - begin, bottom - begin)
        yield Strip(top, np.ascontiguousarray(mask[inside]), np.ascontiguousarray(levels[inside]))


def _read_rows(path: str | os.PathLike[str], begin: int, end: int) -> tuple[UInt8, Bool]:
    """Levels, and where there is data. A file that stays open would keep its blocks in GDAL's cache, for nothing."""
    with _open(path) as raster:
        window = Window(0, begin, raster.width, end - begin)
        try:
            return raster.read(1, window=window), raster.read_masks(1, window=window) > 0
        except RasterioError as error:
            raise InputError(
                f"{path}: rows {begin} to {end} cannot be read ({error}): the file is damaged, make it again"
            ) from error


def _finish(components: list[Component], outlining: _Outlining) -> list[BuildingPolygon]:
    """Outline components in the plane of measures, then on the map. Their numbers are given later."""
    frame, tolerance = outlining.frame, outlining.tolerance
    raw = shapely.orient_polygons(_polygons(components, frame))
    is_building = shapely.get_num_interior_rings(raw) <= _MOST_HOLES
    outlines = raw.copy()
    if tolerance:
        outlines[is_building] = sound(shapely.simplify(raw[is_building], tolerance))
    is_squared = np.zeros(len(raw), bool)
    if outlining.is_squared:
        for index in np.flatnonzero(is_building):
            square = squared(raw[index], tolerance_m=max(tolerance, _STAIRCASE_PX * frame.pixel))
            if square is not None:
                outlines[index], is_squared[index] = square, True
    on_map = shapely.orient_polygons(sound(shapely.transform(outlines, frame.to_map)))
    return [
        BuildingPolygon(
            geometry=geometry,
            number=0,
            mean_probability=component.level_sum / (255 * component.pixels),
            area=float(area),
            perimeter=float(perimeter),
            unit=frame.unit,
            is_regularised=bool(is_regularised),
            first_pixel=component.first,
        )
        for component, geometry, area, perimeter, is_regularised in zip(
            components, on_map, shapely.area(outlines), shapely.length(outlines), is_squared, strict=True
        )
    ]


def _polygons(components: list[Component], frame: MapFrame) -> Any:
    """The components' rings in the plane, as an array of polygons."""
    rings = [np.concatenate((ring, ring[:1])) for component in components for ring in component.rings]
    ring_ends = np.cumsum([0, *(len(ring) for ring in rings)])
    polygon_ends = np.cumsum([0, *(len(component.rings) for component in components)])
    corners = frame.to_plane(np.concatenate(rings))
    return shapely.from_ragged_array(shapely.GeometryType.POLYGON, corners, (ring_ends, polygon_ends))


def _in_chunks(
    finish: partial[list[BuildingPolygon]], components: Iterator[Component], workers: int
) -> Iterator[BuildingPolygon]:
    """Finish components in their order. Unlike core's ``run_ordered`` this holds a few chunks, not all results."""
    chunks = iter(lambda: list(islice(components, _CHUNK)), [])
    if workers == 1:
        for chunk in chunks:
            yield from finish(chunk)
        return
    pool = ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn"))
    try:
        pending: deque[Future[list[BuildingPolygon]]] = deque()
        for chunk in chunks:
            pending.append(pool.submit(finish, chunk))
            if len(pending) > 2 * workers:
                yield from pending.popleft().result()
        while pending:
            yield from pending.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def _numbered(buildings: Iterable[BuildingPolygon]) -> Iterator[BuildingPolygon]:
    for number, building in enumerate(buildings, 1):
        yield replace(building, number=number)

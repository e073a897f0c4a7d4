"""From labelled rasters to tiles: a grid of windows, each read when it is asked for.

A picture is read by `rasters.open_raster`; its label by whoever knows the label: a mask file (`masks`), polygons of a
map (`layers`), polygons in pixels (`coco`, `bonai`).
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
import rasterio
from affine import Affine
from rasterio.crs import CRS
from rasterio.errors import NotGeoreferencedWarning, RasterioError

from robustvision.buildings.data.tile import Bool, Tile, TileSource, UInt8
from robustvision.buildings.rasters.reading import Raster, RasterDescription, open_raster
from robustvision.core.errors import InputError

SMALLEST_PX = 32
"""Networks halve a picture five times; a smaller one has nothing left."""
SCALE_SAMPLE = 32
"""Rasters, evenly spaced over the list, on which a data set's scale is found."""

Scale = tuple[tuple[float, float], ...]
Label = Callable[[int, int, int, int], tuple[UInt8, Bool | None]]
"""Reads the label of a window (row, column, height, width): uint8 0 or 1, and where it is known (None: everywhere)."""


@dataclass(frozen=True)
class Grid:
    """How pictures become tiles.

    Attributes:
        tile_px: Side of the tiles; None for the whole picture. A smaller picture gives one tile of its own size.
        stride_px: Step between tiles; ``tile_px`` where None. The last tile of a row or column is shifted inside; where
            tiles do not overlap on purpose, what it shows again is not valid, so every pixel counts once.
    """

    tile_px: int | None = None
    stride_px: int | None = None

    def __post_init__(self) -> None:
        if self.tile_px is not None and self.tile_px < SMALLEST_PX:
            raise InputError(f"tile_px is {self.tile_px}: expected at least {SMALLEST_PX}")
        if self.stride_px is not None and (self.tile_px is None or not 0 < self.stride_px <= self.tile_px):
            raise InputError(f"stride_px is {self.stride_px}: expected 1 to tile_px, {self.tile_px}")

    def along(self, side: int) -> list[tuple[int, int, int]]:
        """Return start, length and how much was shown before, of the tiles along a side."""
        if self.tile_px is None or side <= self.tile_px:
            return [(0, side, 0)]
        stride = self.stride_px or self.tile_px
        starts = list(range(0, side - self.tile_px + 1, stride))
        tiles = [(start, self.tile_px, 0) for start in starts]
        last = side - self.tile_px
        if starts[-1] < last:
            shown = starts[-1] + self.tile_px - last if stride == self.tile_px else 0
            tiles.append((last, self.tile_px, shown))
        return tiles


@dataclass(frozen=True)
class Form:
    """Size and place of a raster, from its header.

    Attributes:
        height, width: Rows and columns.
        transform: From (column, row) to map units; the identity where there is none.
        crs: Its coordinate system; None where there is none, or no transform.
        dtype: Of its first band.
    """

    height: int
    width: int
    transform: Affine
    crs: CRS | None
    dtype: str

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """Least x, least y, greatest x, greatest y, in map units, of any grid: also a turned or south-up one."""
        return self.window_bounds(0, 0, self.height, self.width)

    def window_bounds(self, row: int, column: int, height: int, width: int) -> tuple[float, float, float, float]:
        """Likewise, of a window."""
        corners = [(column + x, row + y) for x in (0, width) for y in (0, height)]
        x, y = zip(*(self.transform @ corner for corner in corners), strict=True)
        return min(x), min(y), max(x), max(y)


@dataclass(frozen=True)
class Picture:
    """A raster with its label.

    Attributes:
        path: The raster.
        name: Unique in its data set.
        label: Reads its label; picklable.
        form: Its header.
        group: What a split keeps together where places are not known, such as a city.
        scene: The group of its tiles; ``name`` where empty.
        gsd_m: Ground sampling distance, where the raster does not say it.
        conditions: What else is known.
    """

    path: Path
    name: str
    label: Label
    form: Form
    group: str = ""
    scene: str = ""
    gsd_m: float | None = None
    conditions: Mapping[str, str | int | float] = field(default_factory=dict)


def read_form(path: Path) -> Form:
    """Read a raster's header.

    Args:
        path: The raster.

    Raises:
        InputError: It cannot be opened, or is smaller than 32 px.
    """
    with open_quietly(path) as dataset:
        crs = None if dataset.transform.is_identity else dataset.crs
        form = Form(dataset.height, dataset.width, dataset.transform, crs or None, dataset.dtypes[0])
    if min(form.height, form.width) < SMALLEST_PX:
        raise InputError(
            f"{path} is {form.width} x {form.height} px: expected at least {SMALLEST_PX} x {SMALLEST_PX}; cut larger"
        )
    return form


def open_quietly(path: Path) -> rasterio.DatasetReader:
    """Open a raster file, with or without a place on the map.

    Raises:
        InputError: It cannot be opened.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            return rasterio.open(path)
    except (RasterioError, OSError) as error:
        raise InputError(f"{path} cannot be opened as a raster ({error}): copy or convert it again") from error


def file_stamp(path: str | Path) -> tuple[int, int]:
    """Return size and time of the last change: what is kept of a file is kept no longer than it stays the same."""
    try:
        status = os.stat(path)
    except OSError:
        return 0, 0  # not on a disk, or not there: whoever opens it says so
    return status.st_size, status.st_mtime_ns


def tile_sources(
    pictures: Sequence[Picture], grid: Grid, *, bands: Sequence[int] | None = None, scale: Scale | None = None
) -> list[TileSource]:
    """List the tiles of pictures; no pixel is read.

    Tiles of rasters with a coordinate system lie on its plane, whatever raster they are from, so that a block split
    keeps overlapping rasters apart. Several windows of one raster without a place lie on the raster's own plane. A
    picture that is one tile has no place, only the group that it was given.

    Args:
        pictures: Rasters with labels.
        grid: How they become tiles.
        bands: Red, green and blue, or grey, from 1; see ``open_raster``.
        scale: The values that become 0 and 255, for rasters that do not hold 8 bits; see `find_scale`.

    Returns:
        One source a window, named ``picture`` or ``picture@row,column``.

    Raises:
        InputError: A raster does not hold 8 bits and ``scale`` is None, or two pictures have one name.
    """
    sources = []
    names: dict[str, Path] = {}
    for picture in pictures:
        if names.setdefault(picture.name, picture.path) is not picture.path:
            raise InputError(f"{picture.path} and {names[picture.name]} are both named {picture.name}: rename one")
        form = picture.form
        if scale is None and form.dtype != "uint8":
            raise InputError(
                f"{picture.path} holds {form.dtype}: pass scale, the values that become 0 and 255 in the whole data "
                "set (find_scale gives percentiles 2 and 98), and use the same for predictions"
            )
        rows, columns = grid.along(form.height), grid.along(form.width)
        is_one = len(rows) == len(columns) == 1
        for row, height, shown_rows in rows:
            for column, width, shown_columns in columns:
                window = row, column, height, width
                name = picture.name if is_one else f"{picture.name}@{row},{column}"
                group, bounds = _place(picture, window, is_one)
                read = partial(
                    _read_window, picture, name, window, (shown_rows, shown_columns), tuple(bands or ()), scale
                )
                sources.append(TileSource(name, read, group, bounds))
    return sources


def find_scale(paths: Sequence[Path], *, bands: Sequence[int] | None = None) -> Scale | None:
    """Find the scale of a data set that does not hold 8 bits: one for all, so that equal light stays equal.

    Args:
        paths: Its rasters; at most 32 of them, evenly spaced, are looked at.
        bands: As in `tile_sources`.

    Returns:
        For each band the median, over rasters, of percentiles 2 and 98; None where the rasters hold 8 bits.

    Raises:
        InputError: The rasters are of several depths, or cannot be read.
    """
    places = np.unique(np.linspace(0, len(paths) - 1, SCALE_SAMPLE).astype(int))
    scales = []
    for place in places.tolist():
        with open_raster(paths[place], bands=bands) as raster:
            scales.append(raster.scale)
    lengths = {None if one is None else len(one) for one in scales}
    if len(lengths) != 1:
        raise InputError(
            f"of the rasters beside {paths[0]} some hold 8 bits and some more, or other bands: convert them to one form"
        )
    if None in lengths:
        return None
    medians = np.median(np.array(scales, np.float64), axis=0)
    return tuple((float(low), float(high)) for low, high in medians)


def _place(
    picture: Picture, window: tuple[int, int, int, int], is_one: bool
) -> tuple[str, tuple[float, float, float, float] | None]:
    """Group and bounds of a tile."""
    form = picture.form
    if form.crs is not None:
        return form.crs.to_string(), form.window_bounds(*window)
    if is_one:
        return picture.group, None
    row, column, height, width = window
    return picture.name, (float(column), float(row), float(column + width), float(row + height))


def _read_window(
    picture: Picture,
    name: str,
    window: tuple[int, int, int, int],
    shown: tuple[int, int],
    bands: tuple[int, ...],
    scale: Scale | None,
) -> Tile:
    if picture.form.dtype == "uint8":
        scale = None
    with _description(str(picture.path), bands, scale, file_stamp(picture.path)).open() as raster:
        image, valid = raster.read(*window)
        gsd_m = raster.gsd_m or picture.gsd_m
    label, known = picture.label(*window)
    if known is not None:
        valid = valid & known
    valid[: shown[0]] = False
    valid[:, : shown[1]] = False
    known_everywhere, group = bool(valid.all()), picture.scene or picture.name
    return Tile(name, image, label, None if known_everywhere else valid, group, gsd_m, scale, picture.conditions)


@lru_cache(maxsize=256)
def _description(path: str, bands: tuple[int, ...], scale: Scale | None, stamp: tuple[int, int]) -> RasterDescription:
    """What ``open_raster`` decides on a whole raster, once for all of its windows."""
    raster: Raster
    with open_raster(path, bands=bands or None, scale=scale) as raster:
        return raster.description

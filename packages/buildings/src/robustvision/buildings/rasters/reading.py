"""Rasters as people have them, always read to the same thing: RGB, uint8, and where there is data.

GeoTIFF, COG, VRT and plain PNG or JPEG, window by window. What a raster leaves open is decided once, when it is opened,
and said in `Raster.notes`; nothing is decided by window, so neighbouring windows always agree.

- **Bands**: red, green and blue where the file names them, else the first three; one band is grey; a palette is looked
  up; alpha is not a colour.
- **Depth**: 8 bits stay as they are. Anything else is scaled to 0..255 between two values of each band: given ones, or
  the percentiles 2 and 98 of a decimated read of the whole raster.
- **No data**: where all bands hold their nodata value, one holds NaN or infinity, the alpha is 0 or the mask says so;
  and in a collar of pure black or white that nobody declared. Such pixels are 0 in the image.
- **Place**: rotated and south-up rasters keep their transform, with which all map coordinates are exact. Without a
  transform coordinates are pixels (x right, y down); without a coordinate system there are no metres.
"""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import rasterio
from affine import Affine
from rasterio.enums import MaskFlags
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.windows import Window

from robustvision.buildings.geo import ground_sampling_distance
from robustvision.buildings.rasters.collars import CORNER_PX, Collar, find_collar, is_flat_corner
from robustvision.buildings.rasters.interpretation import (
    Bands,
    Scale,
    as_stored,
    check_scale,
    choose_bands,
    colour_table,
    find_scale,
    to_8_bit,
)
from robustvision.core.errors import InputError

DECIMATED_PX = 1024
"""Longest side of the decimated read that percentiles and collars are found on."""
UNEQUAL_SIDES = 1.1
PNG_END = b"IEND\xaeB`\x82"

UInt8 = npt.NDArray[np.uint8]
Bool = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class RasterDescription:
    """All that was decided about a raster; picklable, so that a worker process reads the same.

    Attributes:
        path: The file, or what else GDAL opens.
        bands: Numbers of the bands, from 1: three, or one of grey or palette.
        scale: For each band, the values that become 0 and 255; None where values are taken as they are.
        nodata: For each band, its value of no data; None where it has none.
        collar: The undeclared collar; None where there is none.
        notes: What the file left open, and what was assumed.
    """

    path: str
    bands: Bands
    scale: Scale | None
    nodata: tuple[float | None, ...]
    collar: Collar | None = None
    notes: tuple[str, ...] = ()

    def open(self) -> Raster:
        """Open the raster; nothing is decided again.

        Raises:
            InputError: It cannot be opened any more.
        """
        return Raster(_open_dataset(self.path), self)


class Raster:
    """An open raster; a context manager.

    Attributes:
        description: Opens the same raster again, elsewhere.
        height: Rows.
        width: Columns.
        transform: From (column, row) to map units; the identity where the file has none.
        crs: rasterio's coordinate reference system; None where the file has none, or no transform.
        sizes_m: Size of a pixel on the ground along a row and along a column, in metres; None where it is not known.
    """

    def __init__(self, dataset: Any, description: RasterDescription) -> None:
        self._dataset = dataset
        self.description = description
        self.height, self.width = int(dataset.height), int(dataset.width)
        self.transform: Affine = dataset.transform
        self.crs = _system(dataset)
        place = (self.transform, self.crs, self.height, self.width)
        self.sizes_m = ground_sampling_distance(*place) if self.crs else None
        self._palette = colour_table(dataset, description.bands)
        flags = dataset.mask_flag_enums[description.bands[0] - 1]
        self._has_mask = MaskFlags.per_dataset in flags or MaskFlags.alpha in flags
        dtype = np.dtype(dataset.dtypes[description.bands[0] - 1])
        self._nodata = [as_stored(value, dtype) for value in description.nodata]

    @property
    def path(self) -> str:
        """The file."""
        return self.description.path

    @property
    def bands(self) -> Bands:
        """Numbers of the bands that are read, from 1."""
        return self.description.bands

    @property
    def scale(self) -> Scale | None:
        """For each band, the values that become 0 and 255; None where values are taken as they are."""
        return self.description.scale

    @property
    def notes(self) -> tuple[str, ...]:
        """What the file left open, and what was assumed."""
        return self.description.notes

    @property
    def gsd_m(self) -> float | None:
        """Ground sampling distance in metres, the geometric mean of both axes; None where it is not known."""
        return math.sqrt(self.sizes_m[0] * self.sizes_m[1]) if self.sizes_m else None

    @property
    def files(self) -> tuple[str, ...]:
        """Every file that the raster is read from: the sources of a VRT as well."""
        return tuple(self._dataset.files)

    def __enter__(self) -> Raster:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._dataset.close()

    def read(self, row: int, column: int, height: int, width: int) -> tuple[UInt8, Bool]:
        """Read a window that lies inside the raster.

        Args:
            row: Its first row.
            column: Its first column.
            height: Its rows.
            width: Its columns.

        Returns:
            The image, uint8 [height, width, 3], RGB, and bool [height, width], where it has data. Elsewhere the image
            is 0.

        Raises:
            InputError: The window reaches outside, or cannot be decoded.
        """
        if min(row, column) < 0 or min(height, width) < 1 or row + height > self.height or column + width > self.width:
            raise InputError(
                f"{self.path} has {self.height} rows and {self.width} columns: the window of {height} x {width} at row "
                f"{row}, column {column} reaches outside"
            )
        values, valid = self._read(Window(column, row, width, height), (height, width))
        image = self._to_rgb(values)
        if self.description.collar is not None:
            valid &= ~self.description.collar.covers(image, row, column, self.height, self.width)
        if not valid.all():
            image[~valid] = 0
        return image, valid

    def decimated(self) -> tuple[npt.NDArray[Any], Bool]:
        """Read the whole raster small, by nearest pixels: bands as stored [band, h, w], and where they hold data."""
        factor = min(1.0, DECIMATED_PX / max(self.height, self.width))
        shape = (max(1, round(self.height * factor)), max(1, round(self.width * factor)))
        return self._read(Window(0, 0, self.width, self.height), shape)

    def _read(self, window: Window, shape: tuple[int, int]) -> tuple[npt.NDArray[Any], Bool]:
        bands = list(self.bands)
        with _reading(self.path, window):
            values = self._dataset.read(bands, window=window, out_shape=(len(bands), *shape))
            mask = self._dataset.read_masks(bands[0], window=window, out_shape=shape) if self._has_mask else None
        valid = np.ones(shape, bool) if mask is None else mask > 0
        if all(value is not None for value in self._nodata):
            same = [band == value for band, value in zip(values, self._nodata, strict=True)]
            valid &= ~np.logical_and.reduce(same)
        if values.dtype.kind == "f":
            valid &= np.isfinite(values).all(axis=0)
        return values, valid

    def _to_rgb(self, values: npt.NDArray[Any]) -> UInt8:
        if self._palette is not None:
            return self._palette[values[0]]
        planes = list(values)
        if self.scale is not None:
            planes = [to_8_bit(band, low, high) for band, (low, high) in zip(planes, self.scale, strict=True)]
        image = cv2.merge(planes if len(planes) == 3 else planes * 3)
        return np.asarray(image, np.uint8).reshape(*values.shape[1:], 3)


def read_place(path: str | os.PathLike[str]) -> tuple[Affine, Any, int, int]:
    """Read where a raster lies, from its header: transform, coordinate system, height and width, as in `Raster`.

    Raises:
        InputError: It cannot be opened.
    """
    with _open_dataset(os.fspath(path)) as dataset:
        return dataset.transform, _system(dataset), dataset.height, dataset.width


def open_raster(
    path: str | os.PathLike[str],
    *,
    bands: Sequence[int] | None = None,
    scale: Sequence[Any] | None = None,
    nodata: float | None = None,
) -> Raster:
    """Open a raster.

    Args:
        path: GeoTIFF, COG, VRT, PNG, JPEG, or what else GDAL opens.
        bands: Numbers of the bands that are red, green and blue, from 1, or of one that is grey; the file says it where
            None.
        scale: The values that become 0 and 255: one pair, or one a band; found on the raster where None. A raster of
            8 bits stays as it is.
        nodata: The value of no data, where the file does not declare it, or declares a wrong one.

    Returns:
        The open raster.

    Raises:
        InputError: It cannot be opened, has not these bands, holds complex numbers, or ``scale`` cannot be used.
    """
    dataset = _open_dataset(os.fspath(path))
    try:
        return Raster(dataset, _describe(dataset, os.fspath(path), bands, scale, nodata))
    except BaseException:
        dataset.close()
        raise


def _describe(
    dataset: Any, path: str, bands: Sequence[int] | None, scale: Sequence[Any] | None, nodata: float | None
) -> RasterDescription:
    chosen, notes = choose_bands(dataset, bands)
    dtypes = {np.dtype(dataset.dtypes[band - 1]) for band in chosen}
    if len(dtypes) > 1 or min(dtypes).kind not in "uif":
        raise InputError(f"{path} holds {', '.join(map(str, dtypes))}: real numbers of one type are needed; convert it")
    dtype = dtypes.pop()
    declared = tuple(dataset.nodatavals[band - 1] if nodata is None else nodata for band in chosen)
    limits = check_scale(scale, len(chosen))
    description = RasterDescription(path, chosen, None if dtype == np.uint8 else limits, declared)
    raster = Raster(dataset, description)
    notes += _notes_on_place(raster, dataset)
    if description.scale is None and dtype != np.uint8:
        description = replace(description, scale=find_scale(*raster.decimated()))
        found = ", ".join(f"{low:g} to {high:g}" for low, high in description.scale or ())
        notes.append(f"{dtype} is scaled to 8 bits between percentiles 2 and 98 of the whole raster: {found}")
    elif dtype == np.uint8 and not raster._has_mask and None in declared and _has_flat_corner(raster):
        collar = find_collar(raster._to_rgb(raster.decimated()[0]))
        if collar is not None:
            description = replace(description, collar=collar)
            notes.append(f"a collar of {collar.value}, {collar.share:.0%} of the raster, is taken as no data")
    return replace(description, notes=tuple(notes))


def _has_flat_corner(raster: Raster) -> bool:
    height, width = min(CORNER_PX, raster.height), min(CORNER_PX, raster.width)
    corners = [(row, column) for row in (0, raster.height - height) for column in (0, raster.width - width)]
    return any(is_flat_corner(raster.read(row, column, height, width)[0]) for row, column in corners)


def _notes_on_place(raster: Raster, dataset: Any) -> list[str]:
    if raster.sizes_m is not None:
        x_m, y_m = raster.sizes_m
        if max(x_m, y_m) < UNEQUAL_SIDES * min(x_m, y_m):
            return []
        return [f"its pixels are {x_m:.3g} x {y_m:.3g} m on the ground: reproject it to square ones (gdalwarp -t_srs)"]
    if raster.transform.is_identity:
        remedy = "gdalwarp puts it on the map by its control points" if dataset.gcps[0] else "coordinates are pixels"
        return [f"it has no place on the map: {remedy}, areas are in pixels"]
    return ["it has no coordinate reference system: nothing is known in metres (gdal_edit.py -a_srs sets one)"]


def _open_dataset(path: str) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            dataset = rasterio.open(path)
    except (RasterioError, OSError) as error:
        raise InputError(f"{path} is no raster ({error}): give a GeoTIFF, COG, VRT, PNG or JPEG") from error
    if dataset.count == 0:
        inside = f", but holds others: {', '.join(dataset.subdatasets[:3])}" if dataset.subdatasets else ""
        dataset.close()
        raise InputError(f"{path} has no bands{inside}: name one that has")
    if dataset.driver == "PNG" and not _is_whole_png(path):
        dataset.close()
        raise InputError(f"{path} is cut short: copy it again")  # GDAL would make up the rest without a word
    return dataset


def _system(dataset: Any) -> Any:
    return dataset.crs if dataset.crs and not dataset.transform.is_identity else None


def _is_whole_png(path: str) -> bool:
    try:
        with open(path, "rb") as file:
            file.seek(-len(PNG_END), os.SEEK_END)
            return file.read() == PNG_END
    except FileNotFoundError:
        return True  # in an archive or on a server: GDAL's to read


@contextmanager
def _reading(path: str, window: Window) -> Iterator[None]:
    try:
        yield
    except (RasterioError, OSError) as error:
        raise InputError(
            f"{path}: the window at row {window.row_off}, column {window.col_off} ({window.height} x {window.width}) "
            f"cannot be decoded ({error.__cause__ or error}): the file is damaged there; copy or make it again"
        ) from error

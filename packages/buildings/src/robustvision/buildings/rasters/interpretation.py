"""What a raster leaves open: which bands are the colours, where nothing is declared, what its values span."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from rasterio.enums import ColorInterp

from robustvision.core.errors import InputError

PERCENTILES = (2.0, 98.0)

UInt8 = npt.NDArray[np.uint8]
Bool = npt.NDArray[np.bool_]
Bands = tuple[int, ...]
Scale = tuple[tuple[float, float], ...]
"""For each band, the values that become 0 and 255."""

_RGB = (ColorInterp.red, ColorInterp.green, ColorInterp.blue)


def choose_bands(dataset: Any, wanted: Sequence[int] | None) -> tuple[Bands, list[str]]:
    """Choose the bands that are read.

    Args:
        dataset: The open raster.
        wanted: Numbers from 1: three, or one; None lets the file say.

    Returns:
        The numbers, and what was assumed.

    Raises:
        InputError: There are no such bands, or none that hold a colour.
    """
    if wanted is not None:
        chosen = tuple(int(band) for band in wanted)
        if len(chosen) not in (1, 3) or not all(1 <= band <= dataset.count for band in chosen):
            raise InputError(f"bands are {chosen}: {dataset.name} has 1 to {dataset.count}, give one or three of them")
        return chosen, []
    meanings = list(dataset.colorinterp)
    if all(colour in meanings for colour in _RGB):
        return tuple(meanings.index(colour) + 1 for colour in _RGB), []
    colours = [number for number, meaning in enumerate(meanings, 1) if meaning != ColorInterp.alpha]
    if not colours:
        raise InputError(f"{dataset.name} has no band but alpha: a picture is needed")
    if len(colours) < 3:
        return (colours[0],), [] if len(colours) == 1 else [f"band {colours[0]} of {len(colours)} is taken as grey"]
    if len(colours) == 3:
        return tuple(colours), []
    named = ", ".join(str(band) for band in colours[:3])
    return tuple(colours[:3]), [f"no band is named red, green or blue: bands {named} are taken (see `bands`)"]


def check_scale(scale: Sequence[Any] | None, bands: int) -> Scale | None:
    """Return a given scale as one pair a band.

    Raises:
        InputError: It is neither a pair of rising numbers nor one a band.
    """
    if scale is None:
        return None
    try:
        pairs = np.broadcast_to(np.asarray(scale, np.float64), (bands, 2))
    except ValueError as error:
        raise InputError(f"scale is {scale}: give the values that become 0 and 255, one pair or {bands}") from error
    if not np.isfinite(pairs).all() or not (pairs[:, 0] < pairs[:, 1]).all():
        raise InputError(f"scale is {scale}: the value that becomes 255 must be above the one that becomes 0")
    return tuple((float(low), float(high)) for low, high in pairs)


def find_scale(values: npt.NDArray[Any], valid: Bool) -> Scale:
    """Return the percentiles that a raster's values are scaled between.

    Args:
        values: [band, h, w] as stored, of the whole raster, decimated.
        valid: bool [h, w], where there is data.
    """
    if not valid.any():
        return ((0.0, 1.0),) * len(values)
    pairs = [tuple(float(value) for value in np.percentile(band[valid], PERCENTILES)) for band in values]
    return tuple((low, high if high > low else low + 1.0) for low, high in pairs)


def to_8_bit(band: npt.NDArray[Any], low: float, high: float) -> UInt8:
    """Scale values so that ``low`` becomes 0 and ``high`` 255; NaN becomes 0."""
    scaled = band.astype(np.float32)
    scaled -= np.float32(low)
    scaled *= np.float32(255 / (high - low))
    np.nan_to_num(scaled, copy=False, nan=0.0, posinf=255.0, neginf=0.0)
    return np.rint(np.clip(scaled, 0, 255, out=scaled), out=scaled).astype(np.uint8)


def as_stored(value: float | None, dtype: np.dtype[Any]) -> Any:
    """Return a value of no data in a band's type; None where the band cannot hold it, or where it is NaN."""
    if value is None or math.isnan(value):
        return None
    if dtype.kind == "f":
        return dtype.type(value)
    limits = np.iinfo(dtype)
    return dtype.type(int(value)) if float(value).is_integer() and limits.min <= value <= limits.max else None


def colour_table(dataset: Any, bands: Bands) -> UInt8 | None:
    """Return the colours of a palette, uint8 [256, 3]; None where the band holds no palette."""
    if len(bands) != 1 or dataset.colorinterp[bands[0] - 1] != ColorInterp.palette:
        return None
    if dataset.dtypes[bands[0] - 1] != "uint8":
        raise InputError(
            f"{dataset.name} has a palette for {dataset.dtypes[bands[0] - 1]}: only 8 bits are looked up; make it "
            "colours (gdal_translate -expand rgb)"
        )
    table = np.zeros((256, 3), np.uint8)
    for number, colour in dataset.colormap(bands[0]).items():
        if number < len(table):
            table[number] = colour[:3]
    return table

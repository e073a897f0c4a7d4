"""Label files of pixels: which values mean building, decided once a file and the same for all of its windows.

Masks come as 0 and 1, as 0 and 255, anti-aliased or from a JPEG (everything between 0 and 255), as colours, as numbers
of buildings. Comparing with one fixed value reads half of them as background.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from rasterio.enums import ColorInterp
from rasterio.errors import RasterioError
from rasterio.windows import Window

from robustvision.buildings.data.pictures import Form, file_stamp, open_quietly, read_form
from robustvision.buildings.data.tile import Bool, UInt8
from robustvision.core.errors import InputError

HALF = 128
"""From here on a pixel of an anti-aliased mask is building."""
NEAR_ENDS, ENDS_SHARE = 16, 0.9
"""A mask is anti-aliased if so large a share of its pixels lies within so many grey levels of 0 or 255."""
_STRIP_PX = 4_000_000


@dataclass(frozen=True)
class Level:
    """Which values of a file mean building.

    Attributes:
        least: The least value that does.
        only: The only one; None for all from ``least`` on.
        unknown: The value of pixels that nobody labelled; None where there is none.
        positive: Share of building in what is labelled.
    """

    least: float
    only: float | None
    unknown: float | None
    positive: float


def read_mask(
    path: Path, row: int, column: int, height: int, width: int, *, building: int | None = None
) -> tuple[UInt8, Bool | None]:
    """Read a window of a label file.

    Args:
        path: The file.
        row: First row.
        column: First column.
        height: Rows.
        width: Columns.
        building: The value that means building, where others are classes besides; None for the file's own: nonzero, or
            the upper half of an anti-aliased mask.

    Returns:
        uint8 [height, width], 1 for building, else 0; and bool, where the file does not hold its value of no data (None
        where it declares none).

    Raises:
        InputError: The file is damaged, or its values can be read in two ways; the message names it.
    """
    level = mask_level(path, building)
    with open_quietly(path) as dataset:
        values = _read(dataset, path, Window(column, row, width, height))
    label = (values == level.only) if level.only is not None else (values >= level.least)
    known = None if level.unknown is None else values != level.unknown
    return (label if known is None else label & known).astype(np.uint8), known


def mask_level(path: Path, building: int | None = None) -> Level:
    """Look at all values of a label file.

    Args:
        path: The file.
        building: As in `read_mask`.

    Returns:
        Which of its values mean building.

    Raises:
        InputError: As for `read_mask`.
    """
    return _level(path, building, file_stamp(path))


def check_form(image: Path, image_form: Form, label: Path) -> None:
    """Refuse a label raster that does not lie on its image's grid.

    Args:
        image: The image, for the message.
        image_form: Its header.
        label: The label raster. One without a place is taken to lie where the image does.

    Raises:
        InputError: Size, coordinate system or place differ.
    """
    form = read_form(label)
    if (form.height, form.width) != (image_form.height, image_form.width):
        raise InputError(
            f"{image} is {image_form.width} x {image_form.height} px, but its label {label} is {form.width} x "
            f"{form.height}: rasterise the label on the image's own grid"
        )
    if form.crs is None or image_form.crs is None:
        return
    if form.crs != image_form.crs:
        raise InputError(
            f"{image} is in {image_form.crs.to_string()}, but its label {label} is in {form.crs.to_string()}: bring "
            "the label onto the image's grid (gdalwarp -t_srs, -te, -ts)"
        )
    ours, theirs = np.array(image_form.transform), np.array(form.transform)
    pixel = float(np.abs(ours[[0, 1, 3, 4]]).max())
    reach = np.array([form.width, form.height, 1.0])
    shift = np.abs((ours - theirs).reshape(3, 3)[:2]) @ reach
    if (shift > pixel / 2).any():
        raise InputError(
            f"{image} covers {_text(image_form)}, but its label {label} {_text(form)}: cut both on one grid (gdalwarp)"
        )


@lru_cache(maxsize=65536)
def _level(path: Path, building: int | None, stamp: tuple[int, int]) -> Level:
    with open_quietly(path) as dataset:
        counts: dict[float, int] = {}
        for strip in _strips(dataset, path):
            values, numbers = _count(strip)
            for value, number in zip(values.tolist(), numbers.tolist(), strict=True):
                counts[value] = counts.get(value, 0) + number
        nodata, is_byte = dataset.nodata, dataset.dtypes[0] == "uint8"
    nonzero = {value for value in counts if value != 0}
    # where the value of no data is the only one beside 0, it was declared for the background's sake
    unknown = nodata if nodata in counts and nodata != 0 and len(nonzero) > 1 else None
    counts.pop(unknown, None)  # type: ignore[arg-type]
    least, only = (float(building), float(building)) if building is not None else (_least(counts, path, is_byte), None)
    positive = sum(
        number for value, number in counts.items() if (value == only if only is not None else value >= least)
    )
    return Level(least, only, unknown, positive / max(sum(counts.values()), 1))


def _text(form: Form) -> str:
    left, low, right, high = form.bounds
    return f"{left:.10g} to {right:.10g}, {low:.10g} to {high:.10g}"


def _least(counts: dict[float, int], path: Path, is_byte: bool) -> float:
    """The least value that means building."""
    nonzero = sorted(value for value in counts if value != 0)
    if any(value < 0 for value in nonzero):
        raise InputError(f"{path} holds {nonzero[0]:g}: labels are 0 and above; pass the value that means building")
    if not nonzero:
        return 1.0
    if nonzero[-1] <= 1:
        return 0.5  # 0 and 1, or shares of a pixel
    if len(nonzero) == 1 or not is_byte:
        return nonzero[0]
    ends = sum(number for value, number in counts.items() if value < NEAR_ENDS or value > 255 - NEAR_ENDS)
    if nonzero[-1] > 255 - NEAR_ENDS and ends >= ENDS_SHARE * sum(counts.values()):
        return float(HALF)
    shown = ", ".join(f"{value:g}" for value in nonzero[:5])
    raise InputError(
        f"{path} holds {len(nonzero)} values beside 0 ({shown}, ...), neither a mask nor an anti-aliased one: pass the "
        "value that means building, or write masks of 0 and 255 (numbers of buildings are read from 16 and 32 bits)"
    )


def _count(values: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], npt.NDArray[np.int64]]:
    if values.dtype == np.uint8:
        counts = np.bincount(values.ravel(), minlength=256)
        held = np.flatnonzero(counts)
        return held, counts[held]
    return np.unique(np.nan_to_num(values), return_counts=True)


def _strips(dataset: Any, path: Path) -> Iterator[npt.NDArray[Any]]:
    rows = max(_STRIP_PX // dataset.width, 1)
    for row in range(0, dataset.height, rows):
        yield _read(dataset, path, Window(0, row, dataset.width, min(rows, dataset.height - row)))


def _read(dataset: Any, path: Path, window: Window) -> npt.NDArray[Any]:
    """One value a pixel: of colours the greatest, without alpha."""
    colours = [
        band for band, kind in zip(dataset.indexes, dataset.colorinterp, strict=True) if kind != ColorInterp.alpha
    ]
    try:
        values = dataset.read(colours, window=window)
    except (RasterioError, OSError) as error:
        raise InputError(
            f"{path}: the window at row {window.row_off}, column {window.col_off} ({window.height} x {window.width}) "
            f"cannot be decoded ({error.__cause__ or error}): copy it again"
        ) from error
    if values.dtype.kind not in "buif":
        raise InputError(f"{path} holds {values.dtype}: a label is a number a pixel")
    values = values.max(axis=0)
    return np.nan_to_num(values) if values.dtype.kind == "f" else values

"""A network goes over a picture, tile row by tile row. What it goes over may be a raster on disk or an array."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from robustvision.buildings.contract import TASK, Preprocessing, read_preprocessing
from robustvision.buildings.rasters.blending import Accumulator, Blend, blend_weights, divide
from robustvision.buildings.rasters.tiling import TilePlan
from robustvision.core.errors import InputError, ModelError
from robustvision.core.runtime.graph import Graph
from robustvision.core.runtime.session import Model

BATCH_SIZE = 1
"""A processor gains nothing from more, its caches lose: the shipped model takes a tenth longer by 4. A GPU gains."""

Float32 = npt.NDArray[np.float32]
UInt8 = npt.NDArray[np.uint8]
Bool = npt.NDArray[np.bool_]
Inside = Callable[[int, int], Bool]
"""Of a first row and a number of rows, where the area of interest is: bool [rows, width]."""


class Windows(Protocol):
    """What can be read by windows: a `Raster`, or `ArrayWindows`."""

    @property
    def height(self) -> int:
        """Rows."""
        ...

    @property
    def width(self) -> int:
        """Columns."""
        ...

    def read(self, row: int, column: int, height: int, width: int) -> tuple[UInt8, Bool]:
        """As `Raster.read`."""
        ...


class ArrayWindows:
    """A picture in memory, read as a raster is; all of it is valid.

    Args:
        image: uint8 [H, W, 3], RGB.
    """

    def __init__(self, image: UInt8) -> None:
        self._image = image
        self.height, self.width = image.shape[:2]

    def read(self, row: int, column: int, height: int, width: int) -> tuple[UInt8, Bool]:
        """As `Raster.read`."""
        return self._image[row : row + height, column : column + width], np.ones((height, width), bool)


@dataclass(frozen=True)
class Settings:
    """How a model is run.

    Attributes:
        preprocessing: The model's own.
        tile_px: Side of the tiles.
        stride_px: Step between them.
        batch_size: Tiles of one call.
        is_fixed: Whether a call takes exactly so many.
        blend: How tiles are weighted.
    """

    preprocessing: Preprocessing
    tile_px: int
    stride_px: int
    batch_size: int
    is_fixed: bool
    blend: Blend = "hann"


def settings_of(
    model: Model,
    *,
    tile_px: int | None = None,
    stride_px: int | None = None,
    batch_size: int = BATCH_SIZE,
    blend: Blend = "hann",
) -> Settings:
    """Read a model's settings, and change what the caller wants otherwise.

    Args:
        model: The opened model.
        tile_px: Side of the tiles; the model's own where None.
        stride_px: Step between them; where None the model's own, in proportion to the tile.
        batch_size: Tiles of one call; a graph with a fixed batch keeps that.
        blend: As `blending.blend_weights`.

    Raises:
        InputError: A value that the model cannot be run with.
        ModelError: Its graph or manifest is not one of this task.
    """
    own = read_preprocessing(model.manifest.preprocessing, str(model.path))
    shape = model.main.spec.inputs[0].shape
    if model.manifest.task != TASK or len(shape) != 4 or shape[1] != 3 or len(model.main.spec.outputs) != 1:
        raise ModelError(f"{model.path}: its graph takes {list(shape)}: expected [batch, 3, y, x] and one output")
    tile = own.tile_px if tile_px is None else tile_px
    if tile < 1 or tile % own.multiple:
        raise InputError(f"tile_px is {tile}: this model takes multiples of {own.multiple}")
    if any(isinstance(size, int) and size != tile for size in shape[2:]):
        raise InputError(f"tile_px is {tile}: this model's graph takes {shape[2]} x {shape[3]} px alone")
    if batch_size < 1:
        raise InputError(f"batch_size is {batch_size}: it must be at least 1")
    fixed = shape[0] if isinstance(shape[0], int) else None
    stride = max(1, round(tile * own.stride_px / own.tile_px)) if stride_px is None else stride_px
    return Settings(own, tile, stride, fixed or batch_size, fixed is not None, blend)


def sweep_picture(image: UInt8, graph: Graph, settings: Settings) -> Float32:
    """Run a network on a picture in memory.

    Args:
        image: uint8 [H, W, 3], RGB, of any size.
        graph: The network.
        settings: How to run it.

    Returns:
        float32 [H, W], probabilities.
    """
    picture = ArrayWindows(image)
    settings = _fitted(settings, graph, max(image.shape[:2]))
    plan = TilePlan(picture.height, picture.width, settings.tile_px, settings.stride_px)
    result, row = np.empty(image.shape[:2], np.float32), 0
    for sums, _, _ in sweep(picture, graph, settings, plan, plan.rows, None):
        result[row : row + sums.shape[1]] = divide(sums)
        row += sums.shape[1]
    return result


def _fitted(settings: Settings, graph: Graph, side: int) -> Settings:
    """A tile no larger than a small picture needs, where the graph takes any size: the rest would be padding."""
    multiple = settings.preprocessing.multiple
    tile = -(-side // multiple) * multiple
    if tile >= settings.tile_px or any(isinstance(size, int) for size in graph.spec.inputs[0].shape[2:]):
        return settings
    return replace(settings, tile_px=tile, stride_px=tile)


def sweep(
    windows: Windows, graph: Graph, settings: Settings, plan: TilePlan, tile_rows: Sequence[int], inside: Inside | None
) -> Iterator[tuple[Float32, Bool, int]]:
    """Run a network on some tile rows, in order.

    Args:
        windows: The picture.
        graph: The network.
        settings: How to run it.
        plan: The picture's tiles.
        tile_rows: First rows of consecutive tile rows.
        inside: Where results are wanted; everywhere where None.

    Yields:
        For each tile row: float32 [2, n, width], the blended sums of the n rows that no later one of ``tile_rows``
        touches; bool [n, width], where these have data and are wanted; and the number of tiles that were run. Tiles
        without a single such pixel are left out.
    """
    accumulator = Accumulator(blend_weights(plan.tile_px, settings.blend), plan.width)
    tiles = np.empty((settings.batch_size, 3, plan.tile_px, plan.tile_px), np.float32)
    ends = (*tile_rows[1:], min(tile_rows[-1] + plan.tile_px, plan.height))
    for row, end in zip(tile_rows, ends, strict=True):
        first, planes, valid = _read_tile_row(windows, settings.preprocessing, plan, row, inside)
        columns = [column for column in plan.columns if valid[:, column : column + plan.tile_px].any()]
        for start in range(0, len(columns), settings.batch_size):
            batch = columns[start : start + settings.batch_size]
            for place, column in zip(tiles, batch, strict=False):
                place[:] = planes[:, :, column - first : column - first + plan.tile_px]
            for column, probability in zip(batch, _run(graph, tiles, len(batch), settings), strict=True):
                accumulator.add(column, probability)
        yield accumulator.advance(end - row), valid[: end - row], len(columns)


def _read_tile_row(
    windows: Windows, preprocessing: Preprocessing, plan: TilePlan, row: int, inside: Inside | None
) -> tuple[int, Float32, Bool]:
    """Read what the tiles of a row need: its first column, the normalised picture, and where results are wanted."""
    tile = plan.tile_px
    rows = min(tile, plan.height - row)
    wanted = np.ones((rows, plan.width), bool) if inside is None else inside(row, rows)
    columns = [column for column in plan.columns if wanted[:, column : column + tile].any()]
    if not columns:
        return 0, np.empty((3, 0, 0), np.float32), wanted
    first, end = columns[0], min(columns[-1] + tile, plan.width)
    image, valid = windows.read(row, first, rows, end - first)
    wanted[:, first:end] &= valid
    if rows < tile or end - first < tile:
        image = np.pad(image, ((0, tile - rows), (0, max(0, tile - (end - first))), (0, 0)), mode="reflect")
    return first, preprocessing.normalise(image), wanted


def _run(graph: Graph, tiles: Float32, count: int, settings: Settings) -> Float32:
    """Probabilities [count, T, T] of the first tiles."""
    logits: Any
    (logits,) = graph(tiles if settings.is_fixed else tiles[:count])
    if logits.shape[1:] != (1, *tiles.shape[2:]):
        raise ModelError(f"{graph!r} gave logits {list(logits.shape)} for tiles {list(tiles.shape)}: export it again")
    return sigmoid(logits[:count, 0])


def sigmoid(logits: Float32) -> Float32:
    """Return ``1 / (1 + exp(-z))``, computed in place."""
    with np.errstate(over="ignore"):  # exp gives infinity, and that 0
        np.negative(logits, out=logits)
        np.exp(logits, out=logits)
        logits += 1
        return np.reciprocal(logits, out=logits)

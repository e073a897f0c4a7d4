"""Where the tiles of a raster lie, and which of them one strip takes.

The last tile of a row or column is shifted inside, never shrunk; a raster smaller than a tile is padded by its mirror
image. The plan depends on sizes alone, not on workers or batches, and no tile is in two strips.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from robustvision.core.errors import InputError

TILE_ROWS = 4
"""Tile rows of a strip, if that is enough that a strip overlaps only its neighbours."""


@dataclass(frozen=True)
class Strip:
    """Consecutive tile rows. Rows are the raster's.

    Attributes:
        number: From 0 at the top.
        tile_rows: The first row of each tile row.
        top: Its first row.
        bottom: After its last row.
        shared: Rows at its top that the strip above covers as well.
        own: Rows up to where the next strip begins: what lies below is handed on to that one.
    """

    number: int
    tile_rows: tuple[int, ...]
    top: int
    bottom: int
    shared: int
    own: int


@dataclass(frozen=True)
class TilePlan:
    """The tiles of a raster.

    Attributes:
        height: Rows of the raster.
        width: Its columns.
        tile_px: Side of a tile.
        stride_px: Step from one to the next.

    Raises:
        InputError: The stride is not 1 to ``tile_px``.
    """

    height: int
    width: int
    tile_px: int
    stride_px: int

    def __post_init__(self) -> None:
        if not 0 < self.stride_px <= self.tile_px:
            raise InputError(f"stride_px is {self.stride_px}: it must be 1 to tile_px, {self.tile_px}")

    @cached_property
    def rows(self) -> tuple[int, ...]:
        """First rows of the tiles."""
        return tile_starts(self.height, self.tile_px, self.stride_px)

    @cached_property
    def columns(self) -> tuple[int, ...]:
        """First columns of the tiles."""
        return tile_starts(self.width, self.tile_px, self.stride_px)

    @cached_property
    def strips(self) -> tuple[Strip, ...]:
        """The strips, from the top."""
        size = max(TILE_ROWS, -(-self.tile_px // self.stride_px))
        groups = [self.rows[first : first + size] for first in range(0, len(self.rows), size)]
        strips: list[Strip] = []
        for number, rows in enumerate(groups):
            bottom = min(rows[-1] + self.tile_px, self.height)
            end = groups[number + 1][0] if number + 1 < len(groups) else bottom
            shared = strips[-1].bottom - rows[0] if strips else 0
            strips.append(Strip(number, rows, rows[0], bottom, max(0, shared), end - rows[0]))
        return tuple(strips)


def tile_starts(length: int, tile_px: int, stride_px: int) -> tuple[int, ...]:
    """Return where tiles begin along one axis.

    Args:
        length: Of the axis.
        tile_px: Side of a tile.
        stride_px: Step between tiles.

    Example:
        >>> tile_starts(1000, 256, 192), tile_starts(30, 256, 192)
        ((0, 192, 384, 576, 744), (0,))
    """
    last = max(0, length - tile_px)
    return (*range(0, last, stride_px), last)

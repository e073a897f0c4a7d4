"""The torch data set over tiles: crops, turns and light, drawn without a state; to evaluate, each pixel once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import Dataset

from robustvision.buildings.data.tile import Bool, Tile, UInt8
from robustvision.core.data import array_fingerprint
from robustvision.core.errors import InputError
from robustvision.core.runtime.opencv import cv2
from robustvision.core.training.sampling import sample_rng, split_index


@dataclass(frozen=True)
class Augmentation:
    """What may change without making the label wrong; a crop of the data set's size is always drawn.

    Attributes:
        turns: Whether the eight flips and quarter turns are drawn; image and label turn together.
        brightness: Share of the full range that is added or taken at most.
        contrast: Distances from mid-grey are multiplied by at most ``1 + contrast`` and at least ``1 - contrast``.
        gamma: The exponent is at most ``1 + gamma`` and at least ``1 / (1 + gamma)``.
        colour: Each channel's own gain is at most ``1 + colour`` and at least ``1 - colour``.
    """

    turns: bool = True
    brightness: float = 0.1
    contrast: float = 0.2
    gamma: float = 0.2
    colour: float = 0.05

    def __post_init__(self) -> None:
        for name in ("brightness", "contrast", "gamma", "colour"):
            value = getattr(self, name)
            if not 0 <= value < 1:
                raise InputError(f"{name} is {value}; expected 0 (no change) to less than 1")


class BuildingDataset(Dataset):
    """Square crops of tiles, augmented without a state: a sample depends on (seed, epoch, index) alone.

    In training (with an augmentation) a tile gives one crop an epoch, drawn anywhere in it. In evaluation the crops
    lie on a grid over the whole tile; the last row and column are shifted inside, and what an earlier crop showed is
    not valid in a later one, so every pixel counts once. A tile smaller than a crop is enlarged by reflection, which
    is not valid.

    Args:
        tiles: The tiles, kept as they are.
        size_px: Side of the samples; None for the side of the tiles, which are then square and alike.
        augmentation: What is changed in training, an ``Augmentation`` or its fields ({} for the defaults); None for
            evaluation.
        seed: Seed of the augmentation.

    Attributes:
        size_px: Side of the samples.
        windows: [N, 3] int64: the tile of each sample, and the row and column of its upper left corner (in training,
            before the draw, 0).

    Raises:
        InputError: No tile, a tile whose arrays do not fit together, or tiles of several sizes without ``size_px``.
    """

    def __init__(
        self,
        tiles: Sequence[Tile],
        *,
        size_px: int | None = None,
        augmentation: Augmentation | dict[str, Any] | None = None,
        seed: int = 0,
    ) -> None:
        self._tiles = tuple(tiles)
        for tile in self._tiles:
            _check(tile)
        self.size_px = _common_size(self._tiles) if size_px is None else size_px
        if self.size_px < 1:
            raise InputError(f"size_px is {self.size_px}; expected at least 1")
        self.augmentation = Augmentation(**augmentation) if isinstance(augmentation, dict) else augmentation
        self.seed = seed
        self._fingerprint: str | None = None
        corners = [
            (place, row, column)
            for place, tile in enumerate(self._tiles)
            for row in self._starts(tile.label.shape[0])
            for column in self._starts(tile.label.shape[1])
        ]
        self.windows: npt.NDArray[np.int64] = np.array(corners, np.int64).reshape(-1, 3)

    @property
    def tiles(self) -> tuple[Tile, ...]:
        """The tiles as they were given; ``windows[index, 0]`` is the place of a sample's tile."""
        return self._tiles

    @property
    def metainfo(self) -> dict[str, Any]:
        """What mmengine stores beside the weights: plain values."""
        return {
            "num_samples": len(self),
            "num_tiles": len(self._tiles),
            "num_groups": len({tile.group for tile in self._tiles}),
            "size_px": self.size_px,
            "fingerprint": self.fingerprint(),
        }

    def fingerprint(self) -> str:
        """Return a hash that changes when the pictures, the labels or the windows do."""
        if self._fingerprint is None:  # it is asked for at every checkpoint
            arrays = (array for tile in self._tiles for array in (tile.image, tile.label, tile.valid))
            self._fingerprint = array_fingerprint(self.size_px, (self.windows, *arrays))
        return self._fingerprint

    def __len__(self) -> int:
        return len(self.windows)

    def __getitem__(self, key: int | tuple[int, int]) -> dict[str, Any]:
        """Return one sample.

        Args:
            key: (epoch, index), or the index alone, which means epoch 0.

        Returns:
            "image", uint8 tensor [3, S, S], RGB; "label", float32 tensor [1, S, S], 0 or 1; "valid", float32 tensor
            [1, S, S], 0 where the sample counts nowhere; "index", int.
        """
        epoch, index = split_index(key)
        if not 0 <= index < len(self):
            raise IndexError(index)  # ends a for loop over the data set
        place, row, column = self.windows[index].tolist()
        tile, size = self._tiles[place], self.size_px
        if self.augmentation is None:
            image, label, valid = _cut(tile, row, column, size)
            valid[: _seen(row, size), :] = False
            valid[:, : _seen(column, size)] = False
        else:
            rng = sample_rng(self.seed, epoch, index)
            height, width = tile.label.shape
            row, column = (int(rng.integers(max(side - size, 0) + 1)) for side in (height, width))
            image, label, valid = _cut(tile, row, column, size)
            image = _draw_light(image, self.augmentation, rng)
            if self.augmentation.turns:
                turn = int(rng.integers(8))
                image, label, valid = (_turn(array, turn) for array in (image, label, valid))
        return {
            "image": torch.from_numpy(np.array(image.transpose(2, 0, 1), order="C")),  # a copy: the tile is untouched
            "label": torch.from_numpy(label[None].astype(np.float32, order="C")),
            "valid": torch.from_numpy(valid[None].astype(np.float32, order="C")),
            "index": index,
        }

    def _starts(self, side: int) -> list[int]:
        """Where crops begin along a side: one in training, else a grid whose last crop ends with the tile."""
        if self.augmentation is not None or side <= self.size_px:
            return [0]
        return [*range(0, side - self.size_px, self.size_px), side - self.size_px]


def _check(tile: Tile) -> None:
    shape = tile.label.shape
    if len(shape) != 2 or 0 in shape or tile.image.shape != (*shape, 3) or tile.image.dtype != np.uint8:
        raise InputError(
            f"tile {tile.name}: the image is {tile.image.dtype} {tile.image.shape} and the label {shape}; expected "
            "uint8 [H, W, 3] and [H, W] of one size"
        )
    if tile.valid is not None and tile.valid.shape != shape:
        raise InputError(f"tile {tile.name}: valid is {tile.valid.shape}, but the label {shape}; expected one size")
    if tile.label.max() > 1:
        raise InputError(f"tile {tile.name}: the label holds {tile.label.max()}; expected 1 for a building, else 0")


def _common_size(tiles: Sequence[Tile]) -> int:
    """The side that all tiles share."""
    if not tiles:
        raise InputError("the data set holds no tiles")
    first = tiles[0]
    for tile in tiles:
        height, width = tile.label.shape
        if height != width or tile.label.shape != first.label.shape:
            raise InputError(
                f"tile {tile.name} is {width} x {height} px and {first.name} {first.label.shape[1]} x "
                f"{first.label.shape[0]}: pass size_px to cut squares of one size"
            )
    return int(first.label.shape[0])


def _seen(start: int, size: int) -> int:
    """How many of a crop's first rows (or columns) an earlier crop of the grid shows: some, if it was shifted."""
    return -start % size


def _cut(tile: Tile, row: int, column: int, size: int) -> tuple[UInt8, UInt8, Bool]:
    """Image, label and valid of a crop; valid is the caller's own."""
    window = slice(row, row + size), slice(column, column + size)
    image, label = tile.image[window], tile.label[window]
    valid = np.ones(label.shape, bool) if tile.valid is None else tile.valid[window].copy()
    missing = [(0, size - side) for side in label.shape]
    if any(after for _, after in missing):
        image = np.pad(image, [*missing, (0, 0)], mode="reflect")
        label, valid = np.pad(label, missing, mode="reflect"), np.pad(valid, missing)
    return image, label, valid


def _draw_light(image: UInt8, augmentation: Augmentation, rng: np.random.Generator) -> UInt8:
    """Draw gamma, contrast, brightness and each channel's gain, as one table a channel."""
    gamma, contrast, brightness, *gains = rng.uniform(-1, 1, 6)
    values = np.linspace(0, 1, 256) ** ((1 + augmentation.gamma) ** gamma)
    values = (values - 0.5) * (1 + augmentation.contrast * contrast) + 0.5 + augmentation.brightness * brightness
    channels = values[:, None] * (1 + augmentation.colour * np.array(gains))
    table = np.clip(np.rint(255 * channels), 0, 255).astype(np.uint8)
    light: UInt8 = cv2.LUT(np.ascontiguousarray(image), table[None])  # type: ignore[assignment]
    return light


def _turn(array: npt.NDArray[Any], number: int) -> npt.NDArray[Any]:
    """One of the eight symmetries of a square: 0 to 3 quarter turns, then a flip from 4 on."""
    turned = np.rot90(array, number % 4)
    return turned[:, ::-1] if number >= 4 else turned

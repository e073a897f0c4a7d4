"""Data sets by their origin in one call, for recipes: `dataset=dict(type=synthetic_dataset, count=480)`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from robustvision.buildings.contract import Target
from robustvision.buildings.data.dataset import Augmentation, BuildingDataset
from robustvision.buildings.data.pictures import Scale
from robustvision.buildings.data.readers import load_tiles, own_parts, read_tiles
from robustvision.buildings.data.splits import FRACTIONS, Part, block_split
from robustvision.buildings.data.tile import Tile, TileSource
from robustvision.buildings.synthetic import SyntheticScenes
from robustvision.buildings.synthetic import tiles as render_tiles
from robustvision.buildings.synthetic.source import CLASSES, Label
from robustvision.core.errors import InputError


def synthetic_dataset(
    count: int,
    *,
    label: Label = "roof",
    classes: Sequence[str] = CLASSES,
    districts: Sequence[int] | None = None,
    size_px: int = 128,
    gsd_m: float | Mapping[str, float] | None = None,
    off_nadir_deg: Sequence[float] = (10.0, 20.0),
    split: str = "train",
    seed: int = 0,
    augmentation: Augmentation | dict[str, Any] | None = None,
    augmentation_seed: int = 0,
    workers: int | None = None,
    cache_dir: str | Path | None = None,
    quiet: bool = False,
) -> BuildingDataset:
    """Render a data set into memory.

    Args:
        count: Number of tiles.
        label: What is labelled: "roof", "footprint" or "shape", exactly, or "noisy": footprints as a map has them.
        classes: Height classes, which take turns.
        districts: Numbers of the districts; any where None.
        size_px: Side of the tiles.
        gsd_m: Ground sampling distance of all, or by class; the generator's own where None.
        off_nadir_deg: Smallest and largest off-nadir angle.
        split: "train", "validation" or "test"; no scene of one is in another.
        seed: Seed of the scenes.
        augmentation: What is changed in training, an ``Augmentation`` or its fields; None for evaluation.
        augmentation_seed: Seed of the augmentation.
        workers: Processes that render; as many as there are processors where None.
        cache_dir: A folder in which tiles are kept for the next time.
        quiet: No progress.

    Returns:
        The data set.

    Raises:
        InputError: What ``SyntheticScenes`` refuses.
    """
    low, high = off_nadir_deg
    scale = {} if gsd_m is None else {"gsd_m": gsd_m}
    scenes = SyntheticScenes(
        count,
        classes=tuple(classes),
        size_px=size_px,
        off_nadir_deg=(low, high),
        districts=None if districts is None else tuple(districts),
        split=split,
        seed=seed,
        **scale,
    )
    tiles = render_tiles(scenes, label=label, workers=workers, cache_dir=cache_dir, quiet=quiet)
    return BuildingDataset(tiles, augmentation=augmentation, seed=augmentation_seed)


def files_dataset(
    kind: str,
    root: str | Path,
    *,
    part: Part = "train",
    labels: str | Path | None = None,
    tile_px: int = 256,
    stride_px: int | None = None,
    size_px: int | None = None,
    target: Target = "roof",
    fractions: Sequence[float] = FRACTIONS,
    block: int | None = None,
    split_seed: int = 0,
    bands: Sequence[int] | None = None,
    scale: Sequence[Sequence[float]] | None = None,
    building: int | None = None,
    layer: str | None = None,
    augmentation: Augmentation | dict[str, Any] | None = None,
    augmentation_seed: int = 0,
    workers: int | None = None,
    quiet: bool = False,
) -> BuildingDataset:
    """Open one part of a data set on disk, read into memory.

    A set that comes in parts keeps them; where it has no validation, as BONAI, this is taken from its train. A set
    without parts is split. Both are done by place or by city, never at random: see ``block_split``.

    Args:
        kind: A name in ``READERS``, or "images".
        root: Its folder.
        part: "train", "validation" or "test".
        labels: For kind "images": a vector file, or a folder of masks.
        tile_px: Side of the tiles.
        stride_px: Step between tiles; ``tile_px`` where None.
        size_px: Side of the samples; ``tile_px`` where None.
        target: What counts as building; see ``read_tiles``.
        fractions: Shares of train, validation and test, where there is something to split.
        block: Side of the blocks, in tiles; see ``block_split``.
        split_seed: Decides which blocks go where.
        bands: Red, green and blue, or grey, from 1.
        scale: The values that become 0 and 255; found on the whole set where None, if it does not hold 8 bits.
        building: The value of masks that means building.
        layer: Of a vector file with several.
        augmentation: What is changed in training, an ``Augmentation`` or its fields; None for evaluation.
        augmentation_seed: Seed of the augmentation.
        workers: Processes that read; as many as there are processors where None.
        quiet: No progress.

    Returns:
        The data set.

    Raises:
        InputError: What ``read_tiles``, ``block_split`` and ``load_tiles`` refuse, or the set has no such part.
    """
    limits: Scale | None = None if scale is None else tuple((float(low), float(high)) for low, high in scale)
    options = (labels, tile_px, stride_px, target, tuple(bands) if bands else None, limits, building, layer)
    parts = own_parts(kind, root)
    is_taken = "train" in parts and "validation" not in parts and part != "test"
    if parts and part not in parts and not is_taken:
        raise InputError(f"{root} comes in {' and '.join(parts)} and has no {part}: use one of these")
    if parts and not is_taken:
        tiles = _loaded(kind, root, part, options, workers, quiet)
    else:
        train, validation, _ = fractions
        shares = (train / (train + validation), validation / (train + validation), 0.0) if is_taken else fractions
        source: Part | None = "train" if is_taken else None
        tiles = _loaded_split(kind, root, part, source, options, tuple(shares), block, split_seed, workers, quiet)
    return BuildingDataset(tiles, size_px=size_px or tile_px, augmentation=augmentation, seed=augmentation_seed)


Options = tuple[Any, ...]


def _listed(kind: str, root: str | Path, part: Part | None, options: Options) -> list[TileSource]:
    names = ("labels", "tile_px", "stride_px", "target", "bands", "scale", "building", "layer")
    return read_tiles(kind, root, part=part, **dict(zip(names, options, strict=True)))


@lru_cache(maxsize=4)
def _loaded(kind: str, root: str | Path, part: Part, options: Options, workers: int | None, quiet: bool) -> list[Tile]:
    """Read once a process: mixed and paired data sets ask again."""
    return load_tiles(_listed(kind, root, part, options), workers=workers, quiet=quiet)


@lru_cache(maxsize=4)
def _loaded_split(
    kind: str,
    root: str | Path,
    part: Part,
    source: Part | None,
    options: Options,
    fractions: tuple[float, ...],
    block: int | None,
    seed: int,
    workers: int | None,
    quiet: bool,
) -> list[Tile]:
    split = block_split(_listed(kind, root, source, options), fractions, block=block, seed=seed)
    return load_tiles(getattr(split, part), workers=workers, quiet=quiet)

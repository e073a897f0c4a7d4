"""Data sets by their origin in one call, for recipes: `dataset=dict(type=synthetic_dataset, count=480, label="noisy")`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from robustvision.buildings.data.dataset import Augmentation, BuildingDataset
from robustvision.buildings.synthetic import SyntheticScenes
from robustvision.buildings.synthetic import tiles as render_tiles
from robustvision.buildings.synthetic.source import CLASSES, Label


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

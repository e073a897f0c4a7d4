"""Rendered scenes: how many, of which height classes, seen how. One by one, or all at once as labelled tiles."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, get_args
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt
from shapely.geometry import Polygon

from robustvision.buildings.data.tile import Tile
from robustvision.buildings.offsets import displacement_px
from robustvision.buildings.synthetic.district import DISTRICTS, District, district
from robustvision.buildings.synthetic.label_noise import noisy_label
from robustvision.buildings.synthetic.layout import SIZES, Block, Bounds, Size, plan_place
from robustvision.buildings.synthetic.render import render
from robustvision.buildings.synthetic.scene import Building, Scene
from robustvision.buildings.synthetic.surfaces import View
from robustvision.core.errors import InputError
from robustvision.core.runtime.files import make_folder, write_atomically
from robustvision.core.runtime.opencv import cv2
from robustvision.core.runtime.parallel import run_ordered

GENERATOR_VERSION = 1
"""Raised whenever the same parameters give other scenes."""

Label = Literal["roof", "footprint", "shape", "noisy"]
LABELS: tuple[Label, ...] = get_args(Label)
CLASSES = tuple(SIZES)
SPLITS = {"train": 51, "validation": 52, "test": 53}
"""Stream of random numbers of each split: no scene of one is in another."""

REACH_M = 5.0
"""Buildings that come so near to a picture are among its scene's buildings."""

_SHADOW_MARGIN_M = 60.0


def _default_gsd_m() -> Mapping[str, float]:
    return {"low": 0.6, "mid": 0.6, "high": 0.6, "skyscraper": 1.2}


@dataclass(frozen=True)
class SyntheticScenes:
    """A data set of rendered scenes. Equal parameters give equal scenes, whatever is rendered around them.

    The height classes take turns: scene i has class ``classes[i % len(classes)]``. The azimuth is uniform, drawn for
    each scene: one constant lean could be learnt as a constant shift, and the labels' error would be no noise.

    Args:
        count: How many scenes.
        classes: Height classes.
        size_px: Side of the square pictures.
        gsd_m: Ground sampling distance of all, or by class. By default 0.6 m, and 1.2 m for skyscrapers, which lean by
            more than a small tile at 0.6 m.
        off_nadir_deg: Smallest and largest off-nadir angle; each district is seen at half of this range.
        districts: Numbers of the districts that scenes are drawn from; for None, one of 500 for each scene.
        split: ``train``, ``validation`` or ``test``; their scenes are different ones, also in the same district.
        seed: Seed of the scenes.

    Raises:
        InputError: For values out of range.
    """

    count: int
    classes: tuple[str, ...] = CLASSES
    size_px: int = 128
    gsd_m: float | Mapping[str, float] = field(default_factory=_default_gsd_m)
    off_nadir_deg: tuple[float, float] = (10.0, 20.0)
    districts: tuple[int, ...] | None = None
    split: str = "train"
    seed: int = 0

    def __post_init__(self) -> None:
        if self.split not in SPLITS:
            raise InputError(f"split {self.split!r} is not known: choose {', '.join(SPLITS)}")
        if not self.classes or not set(self.classes) <= set(CLASSES):
            raise InputError(f"classes are {self.classes}: choose some of {', '.join(CLASSES)}")
        if self.count < 1 or self.size_px < 16 or self.seed < 0:
            raise InputError(
                f"count {self.count}, size_px {self.size_px}, seed {self.seed}: expected at least 1, 16 and 0"
            )
        low, high = self.off_nadir_deg
        if not 0 <= low <= high <= 60:
            raise InputError(f"off_nadir_deg is {self.off_nadir_deg}: expected low <= high, both between 0 and 60")
        if self.districts is not None and (not self.districts or min(self.districts) < 0):
            raise InputError(f"districts are {self.districts}: give one or more numbers from 0, or None for any")
        if not all(0.05 <= self.ground_sampling_distance_m(name) <= 10 for name in self.classes):
            raise InputError(f"gsd_m is {self.gsd_m}: expected 0.05 to 10 m for each of {', '.join(self.classes)}")

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[Scene]:
        return (self[index] for index in range(self.count))

    def __getitem__(self, index: int) -> Scene:
        """Render a scene."""
        if not 0 <= index < self.count:
            raise IndexError(f"scene {index} of {self.count}")
        rng = np.random.default_rng((SPLITS[self.split], self.seed, index))
        height_class = self.classes[index % len(self.classes)]
        number = int(rng.integers(DISTRICTS) if self.districts is None else rng.choice(self.districts))
        style, gsd_m = district(number), self.ground_sampling_distance_m(height_class)
        low, high = self.off_nadir_deg
        off_nadir_deg = float(low + (high - low) * rng.uniform(*style.view))
        azimuth_deg = float(rng.uniform(0, 360))
        view = draw_view(rng, style, off_nadir_deg, azimuth_deg)
        plan = plan_place(rng, style, height_class, _reach(SIZES[height_class], view, self.size_px * gsd_m))
        seen = render(rng, [plan], view, gsd_m, self.size_px, self.size_px)
        shape_px = (self.size_px, self.size_px)
        return Scene(
            name=self.name(index),
            image=seen.image,
            buildings=list_buildings(plan.blocks, gsd_m, off_nadir_deg, azimuth_deg, shape_px),
            footprint=seen.footprint,
            roof=seen.roof,
            facade=seen.facade,
            shape=seen.roof | seen.facade,
            instances=seen.instances,
            gsd_m=gsd_m,
            off_nadir_deg=off_nadir_deg,
            azimuth_deg=azimuth_deg,
            height_class=height_class,
            district=number,
        )

    def name(self, index: int) -> str:
        """Return a scene's name."""
        return f"{self.split}-{self.seed}-{index:05d}"

    def ground_sampling_distance_m(self, height_class: str) -> float:
        """Return the ground sampling distance of a class's scenes; 0 where none is given."""
        if isinstance(self.gsd_m, Mapping):
            return float(self.gsd_m.get(height_class, 0.0))
        return float(self.gsd_m)


def draw_view(rng: np.random.Generator, style: District, off_nadir_deg: float, azimuth_deg: float) -> View:
    """Return a camera's view together with a district's sun."""
    lean = displacement_px(1.0, 1.0, np.deg2rad(off_nadir_deg), np.deg2rad(azimuth_deg))
    sun, elevation = np.deg2rad(rng.uniform(*style.sun_azimuth_deg)), np.deg2rad(rng.uniform(*style.sun_elevation_deg))
    return View(lean, np.array([np.sin(sun), -np.cos(sun)]) / np.tan(elevation))


def _reach(size: Size, view: View, side_m: float) -> Bounds:
    """The place whose buildings lean, or throw a shadow of up to 60 m, into a picture."""
    tops = np.stack([size.height_m[1] * view.lean, size.height_m[1] * view.shadow])
    tops[1] *= min(1.0, _SHADOW_MARGIN_M / float(np.hypot(*tops[1])))
    before, after = np.maximum(tops, 0).max(axis=0) + size.side_m[1], np.maximum(-tops, 0).max(axis=0) + size.side_m[1]
    return (-float(before[0]), -float(before[1]), side_m + float(after[0]), side_m + float(after[1]))


def list_buildings(
    blocks: tuple[Block, ...], gsd_m: float, off_nadir_deg: float, azimuth_deg: float, shape_px: tuple[int, int]
) -> tuple[Building, ...]:
    """Return the buildings of a picture; numbers are the places in ``blocks``, from 1."""
    heights = np.array([block.height_m for block in blocks])
    offsets = displacement_px(heights, gsd_m, np.deg2rad(off_nadir_deg), np.deg2rad(azimuth_deg))
    far = np.array(shape_px[::-1]) + REACH_M / gsd_m
    buildings = []
    for number, (block, offset) in enumerate(zip(blocks, offsets, strict=True), 1):
        ring = block.ring_m / gsd_m
        corners = np.concatenate([ring, ring + offset])
        if (corners.max(axis=0) < -REACH_M / gsd_m).any() or (corners.min(axis=0) > far).any():
            continue
        dx, dy = offset.tolist()
        buildings.append(
            Building(number, Polygon(ring), Polygon(ring + offset), block.height_m, block.height_class, (dx, dy))
        )
    return tuple(buildings)


def tiles(
    scenes: SyntheticScenes,
    *,
    label: Label = "roof",
    workers: int | None = None,
    cache_dir: str | Path | None = None,
    quiet: bool = False,
) -> list[Tile]:
    """Render every scene as a labelled tile.

    A tile of 128 pixels took 16 to 24 ms of one core.

    Args:
        scenes: Which.
        label: The truth, or ``noisy``: what `noisy_label` makes of it with its own settings.
        workers: Number of processes; as many as there are processors where None. A script that renders in several
            calls this under ``if __name__ == "__main__":``.
        cache_dir: A folder in which the tiles are kept for the next time, with all their labels; it may be shared, and
            is made if missing.
        quiet: No progress.

    Returns:
        The tiles, in order; the same bytes for any number of workers. Their conditions are the scene's height class,
        off-nadir angle, azimuth and district.

    Raises:
        InputError: An unknown label.
    """
    if label not in LABELS:
        raise InputError(f"label is {label!r}: choose {', '.join(LABELS)}")
    job = partial(_cached_tile, scenes, label, None if cache_dir is None else make_folder(cache_dir))
    return run_ordered(
        job,
        range(len(scenes)),
        workers=workers,
        backend="serial" if len(scenes) < 64 else "process",
        label="rendering tiles",
        quiet=quiet,
    )


def _cached_tile(scenes: SyntheticScenes, label: Label, folder: Path | None, index: int) -> Tile:
    if folder is None:
        return _tile(index, label, _render(scenes, index))
    recipe = json.dumps([GENERATOR_VERSION, asdict(replace(scenes, count=index + 1)), index], sort_keys=True)
    path = folder / f"buildings-{hashlib.sha256(recipe.encode()).hexdigest()[:24]}.npz"
    with suppress(OSError, ValueError, KeyError, BadZipFile), np.load(path) as stored:  # a damaged file: rendered anew
        return _tile(index, label, {name: stored[name] for name in stored.files})
    content = _render(scenes, index)
    with write_atomically(path) as temporary:
        np.savez(temporary, image=content["image"], labels=content["labels"], facts=content["facts"])
    return _tile(index, label, content)


def _render(scenes: SyntheticScenes, index: int) -> dict[str, npt.NDArray[Any]]:
    """A scene as arrays: picture, labels as bits, and what else is known."""
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)  # the processes share the cores
    try:
        scene = scenes[index]
    finally:
        cv2.setNumThreads(threads)
    masks = [scene.roof, scene.footprint, scene.shape, noisy_label(scene).mask]
    conditions = {
        "height_class": scene.height_class,
        "off_nadir_deg": scene.off_nadir_deg,
        "azimuth_deg": scene.azimuth_deg,
        "district": scene.district,
    }
    facts = json.dumps({"name": scene.name, "gsd_m": scene.gsd_m, "conditions": conditions})
    return {
        "image": scene.image,
        "labels": np.packbits(np.stack(masks), axis=-1),
        "facts": np.frombuffer(facts.encode(), np.uint8),
    }


def _tile(index: int, label: Label, content: Mapping[str, npt.NDArray[Any]]) -> Tile:
    image, facts = content["image"], json.loads(content["facts"].tobytes())
    mask = np.unpackbits(content["labels"][LABELS.index(label)], axis=-1, count=image.shape[1])
    return Tile(
        name=facts["name"],
        image=image,
        label=mask,
        group=facts["name"],
        gsd_m=facts["gsd_m"],
        conditions=facts["conditions"],
    )

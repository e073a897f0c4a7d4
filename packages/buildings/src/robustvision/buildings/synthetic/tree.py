"""Rendered scenes on disk in the layouts of public data sets, which the readers of real data read."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import shapely

from robustvision.buildings.synthetic.city_files import RECIPE_NAME
from robustvision.buildings.synthetic.label_noise import noisy_label
from robustvision.buildings.synthetic.roofs import visible_roofs
from robustvision.buildings.synthetic.scene import Building, Scene
from robustvision.buildings.synthetic.source import GENERATOR_VERSION, LABELS, Label, SyntheticScenes
from robustvision.core.errors import InputError
from robustvision.core.runtime.files import write_folder_atomically, write_json
from robustvision.core.runtime.images import write_image
from robustvision.core.runtime.opencv import cv2
from robustvision.core.runtime.parallel import run_ordered

Annotation = dict[str, Any]
_CATEGORY = 100  # CrowdAI's number for buildings
_FACTS = ("name", "gsd_m", "off_nadir_deg", "azimuth_deg", "height_class", "district")


class _Masks(NamedTuple):
    """Where a layout has pictures and masks, by the split's folder `{part}` and the scene's `{name}` and `{number}`."""

    image: str
    label: str
    validation: str = "val"
    gsd_m: float | None = None


_MASKS = {
    "folder": _Masks("images/{name}.png", "labels/{name}.png"),
    "whu": _Masks("{part}/image/{name}.png", "{part}/label/{name}.png", gsd_m=0.3),
    "inria": _Masks("train/images/synthetic{number}.tif", "train/gt/synthetic{number}.tif", gsd_m=0.3),
    "massachusetts": _Masks("{part}/sat/{name}.tiff", "{part}/map/{name}.tif", validation="valid", gsd_m=1.0),
}
LAYOUTS = (*_MASKS, "coco", "bonai")


def layout_gsd_m(layout: str) -> float | None:
    """Return the ground sampling distance that a layout's reader takes for granted, in metres; None where any will do.

    Args:
        layout: One of ``LAYOUTS``; `synthesize` refuses others.
    """
    return _MASKS[layout].gsd_m if layout in _MASKS else None


def synthesize(
    out: str | Path,
    scenes: SyntheticScenes,
    *,
    layout: str = "folder",
    label: Label = "roof",
    workers: int | None = None,
    quiet: bool = False,
) -> dict[str, Any]:
    """Write a data set to disk.

    Beside the layout's own files lie ``scenes.csv``, how each scene was seen, and ``synthetic.json``, the parameters.

    - ``folder``: ``images/`` and ``labels/``, PNG, 255 on a building;
    - ``whu``, ``inria``, ``massachusetts``: as those sets are laid out, in the folder of the scenes' split. Their
      readers know their ground sampling distance, so the scenes need the same.
    - ``coco``: ``images/`` and ``annotation.json``, visible roofs cut at the picture's edges;
    - ``bonai``: ``images/`` and ``bonai_synthetic_trainval.json`` or ``..._test.json``: roofs and footprints whole,
      ``offset`` from footprint to roof; ``only_footprint`` is 1 where nothing of a roof is seen.

    Args:
        out: The folder to write; it must not exist, be empty, or be such a folder, which is then replaced.
        scenes: What to write.
        layout: One of those above.
        label: What masks show; ``noisy`` for a map's misaligned footprints. COCO files hold the truth.
        workers: Processes that render; as many as there are processors where None.
        quiet: No progress.

    Returns:
        What was written: folder, layout, images, buildings.

    Raises:
        InputError: An unknown layout or label, a ground sampling distance that is not the layout's, a label that it
            cannot hold, or a folder that holds something else.
    """
    _check(scenes, layout, label)
    with write_folder_atomically(out, marker=RECIPE_NAME) as folder:
        rows = run_ordered(
            partial(_write_one, scenes, folder, layout, label),
            range(len(scenes)),
            workers=workers,
            backend="serial" if len(scenes) < 64 else "process",
            label="writing scenes",
            quiet=quiet,
        )
        if layout not in _MASKS:
            _write_annotations(folder, scenes, layout, [annotations for _, _, annotations in rows])
        with open(folder / "scenes.csv", "w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([("path", *_FACTS), *((path, *facts) for path, facts, _ in rows)])
        recipe = {"generator": GENERATOR_VERSION, "layout": layout, "label": label, **asdict(scenes)}
        write_json(folder / RECIPE_NAME, recipe)
    buildings = sum(len(annotations) for _, _, annotations in rows)
    return {"folder": str(out), "layout": layout, "images": len(scenes), "buildings": buildings}


def _check(scenes: SyntheticScenes, layout: str, label: Label) -> None:
    if layout not in LAYOUTS:
        raise InputError(f"layout is {layout!r}: choose {', '.join(LAYOUTS)}")
    if label not in LABELS:
        raise InputError(f"label is {label!r}: choose {', '.join(LABELS)}")
    if layout not in _MASKS:
        if label != "roof":
            raise InputError(f"{layout} holds the truth about each building: leave label at roof, or choose folder")
        return
    gsd_m = _MASKS[layout].gsd_m
    if gsd_m is not None and any(scenes.ground_sampling_distance_m(name) != gsd_m for name in scenes.classes):
        raise InputError(f"{layout} has {gsd_m} m a pixel, the scenes {scenes.gsd_m}: set gsd_m to {gsd_m}")
    if layout == "inria" and scenes.split == "test":
        raise InputError("the labels of Inria's test are not published, so it has no folder: choose another split")


def _write_one(
    scenes: SyntheticScenes, folder: Path, layout: str, label: Label, index: int
) -> tuple[str, list[Any], list[Annotation]]:
    """Write a scene's picture, and its mask if the layout has masks; return what the tables say."""
    scene = scenes[index]
    annotations = _ANNOTATIONS.get(layout, _roofs)(scene)
    form = _MASKS.get(layout, _Masks("images/{name}.png", ""))
    part = {"train": "train", "validation": form.validation, "test": "test"}[scenes.split]
    image, mask = (path.format(part=part, name=scene.name, number=index + 1) for path in (form.image, form.label))
    (folder / image).parent.mkdir(parents=True, exist_ok=True)
    write_image(folder / image, scene.image)
    if mask:
        (folder / mask).parent.mkdir(parents=True, exist_ok=True)
        shown = noisy_label(scene).mask if label == "noisy" else getattr(scene, label)
        _, data = cv2.imencode(Path(mask).suffix, shown.astype(np.uint8) * 255)
        (folder / mask).write_bytes(data.tobytes())
    return image, [getattr(scene, name) for name in _FACTS], annotations


def _roofs(scene: Scene) -> list[Annotation]:
    """COCO's annotations of the visible roofs. None has a hole: what hides a roof reaches in from outside."""
    return [
        {
            "segmentation": [_flat(part) for part in shapely.get_parts(roof)],
            "bbox": _box(roof),
            "area": roof.area,
            "building_height": building.height_m,
        }
        for building, roof in visible_roofs(scene)
    ]


def _roofs_and_footprints(scene: Scene) -> list[Annotation]:
    """BONAI's annotations of the buildings of which something lies in the picture."""
    height, width = scene.roof.shape
    frame = shapely.box(0, 0, width, height)
    seen = set(np.unique(scene.instances).tolist())
    return [
        _bonai_building(building, is_seen=building.number in seen)
        for building in scene.buildings
        if building.footprint.intersects(frame) or building.roof.intersects(frame)
    ]


def _bonai_building(building: Building, *, is_seen: bool) -> Annotation:
    both = shapely.union(building.roof, building.footprint)
    return {
        "segmentation": [_flat(building.roof)],
        "footprint_mask": _flat(building.footprint),
        "offset": list(building.offset_px),
        "bbox": _box(building.roof),
        "roof_bbox": _box(building.roof),
        "footprint_bbox": _box(building.footprint),
        "building_bbox": _box(both),
        "building_height": building.height_m,
        "area": building.roof.area,
        "only_footprint": int(not is_seen),
        "ignore": 0,
    }


_ANNOTATIONS: dict[str, Callable[[Scene], list[Annotation]]] = {"coco": _roofs, "bonai": _roofs_and_footprints}


def _flat(polygon: shapely.Polygon) -> list[float]:
    """x, y, x, y, ... without the closing point."""
    corners: npt.NDArray[np.float64] = shapely.get_coordinates(polygon.exterior)[:-1]
    return [float(value) for value in corners.round(3).ravel()]


def _box(geometry: shapely.Geometry) -> list[float]:
    left, top, right, bottom = geometry.bounds
    return [left, top, right - left, bottom - top]


def _write_annotations(folder: Path, scenes: SyntheticScenes, layout: str, by_scene: list[list[Annotation]]) -> None:
    images = [
        {"id": number, "file_name": f"{scenes.name(number - 1)}.png", "width": scenes.size_px, "height": scenes.size_px}
        for number in range(1, len(scenes) + 1)
    ]
    annotations = [
        {"image_id": number, "category_id": _CATEGORY, "iscrowd": 0, **annotation}
        for number, one in enumerate(by_scene, 1)
        for annotation in one
    ]
    content = {
        "info": {"description": "rendered buildings"},
        "categories": [{"id": _CATEGORY, "name": "building"}],
        "images": images,
        "annotations": [{"id": place, **annotation} for place, annotation in enumerate(annotations, 1)],
    }
    part = "test" if scenes.split == "test" else "trainval"
    name = "annotation.json" if layout == "coco" else f"bonai_synthetic_{part}.json"
    (folder / name).write_text(json.dumps(content), encoding="utf-8")

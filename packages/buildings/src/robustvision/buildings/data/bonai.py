"""BONAI: buildings of six Chinese cities with roof, footprint and the offset between them.

In which direction the stored offset leads is not taken on trust: it is measured on every file, by moving roofs along it
and against it and looking where they meet the footprints.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from shapely import affinity

from robustvision.buildings.contract import TARGETS, Target
from robustvision.buildings.data.coco import Annotation, CocoFile, coco_picture, load_coco, outline
from robustvision.buildings.data.layers import draw_polygons
from robustvision.buildings.data.pictures import Picture
from robustvision.buildings.data.splits import Part
from robustvision.buildings.data.tile import Bool, UInt8
from robustvision.buildings.offsets import swept_shape
from robustvision.core.errors import InputError
from robustvision.core.runtime.images import IMAGE_SUFFIXES

LONG_PX = 5.0
"""Shorter offsets do not show their direction against the errors of outlines."""
CLEAR = 0.1
"""Two directions are told apart by so much of IoU."""
MIXED_SHARE = 0.05
"""A file in which a larger share of the buildings says the contrary is refused."""
_WORDS: dict[Part, str] = {"train": "train", "test": "test"}


@dataclass(frozen=True)
class BonaiLabel:
    """Draws roofs, footprints or shapes of one image. What is to be ignored is not valid, nor is, for roofs and shapes,
    a building of which only the footprint is known.

    Attributes:
        origin: File and image, for messages.
        annotations: Of the image.
        target: What is drawn.
        sign: 1 where offsets lead from roof to footprint, -1 where they lead from footprint to roof.
        height, width: Of the image.
    """

    origin: str
    annotations: tuple[Annotation, ...]
    target: Target
    sign: int
    height: int
    width: int

    def __call__(self, row: int, column: int, height: int, width: int) -> tuple[UInt8, Bool | None]:
        """Read a window."""
        drawn: list[shapely.Geometry] = []
        unknown: list[shapely.Geometry] = []
        for annotation in self.annotations:
            is_partial = bool(annotation.get("only_footprint")) and self.target != "footprint"
            is_ignored = bool(annotation.get("ignore") or annotation.get("iscrowd"))
            (unknown if is_partial or is_ignored else drawn).extend(self._outlines(annotation, is_partial))
        size = (self.height, self.width)
        window = slice(row, row + height), slice(column, column + width)
        label = draw_polygons(np.array(drawn, object), *size)[window]
        ignored = draw_polygons(np.array(unknown, object), *size)[window].astype(bool)
        return label, ~ignored if ignored.any() else None

    def _outlines(self, annotation: Annotation, is_partial: bool) -> Sequence[shapely.Geometry]:
        footprint = "footprint_mask" if self.target != "roof" or is_partial else "segmentation"
        polygons = outline(annotation.get(footprint), self.origin)
        if self.target != "shape":
            return list(polygons)
        dx, dy = offset_px(annotation, self.origin)
        return [swept_shape(polygon, (-self.sign * dx, -self.sign * dy)) for polygon in polygons]


def read_bonai(root: str | Path, part: Part | None = None, *, target: Target = "roof") -> list[Picture]:
    """List BONAI's images: 1024 x 1024 px, one COCO file a city.

    A file's part is told by its name (``bonai_shanghai_trainval.json``, ``bonai_shanghai_xian_test.json``); images are
    found by name wherever they lie below the folder. ``building_height`` is not used: users consider it wrong.

    Args:
        root: The folder.
        part: "train" or "test"; None for both. There is no validation: split by city.
        target: What counts as building.

    Returns:
        The pictures. Their group is the city, the first word of the file name; they say how far roofs are displaced, as
        the median over buildings in px.

    Raises:
        InputError: A file or image is missing, or the offsets lead from roof to footprint in some buildings and from
            footprint to roof in others.

    References:
        Wang et al.: Learning to extract building footprints from off-nadir aerial images, TPAMI 2022.
    """
    if target not in TARGETS:
        raise InputError(f"target is {target!r}: choose {', '.join(TARGETS)}")
    if part == "validation":
        raise InputError("BONAI has no validation: read part train and split it by city")
    root = Path(root)
    words = _WORDS.values() if part is None else (_WORDS[part],)
    files = [path for path in sorted(root.rglob("*.json")) if any(word in path.stem.lower() for word in words)]
    if not files:
        raise InputError(f"{root} holds no COCO file of BONAI with {' or '.join(words)} in its name")
    images = {path.name: path for path in root.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES}
    pictures: dict[str, Picture] = {}
    for path in files:
        file = load_coco(path)
        sign = offset_sign(file)
        for image in file.images:
            name = Path(str(image["file_name"])).name
            if name not in images:
                raise InputError(f"{path} names {name}, which is nowhere below {root}")
            pictures.setdefault(name, _picture(file, image, images[name], target, sign))
    return list(pictures.values())


def bonai_parts(root: str | Path) -> tuple[Part, ...]:
    """Return the parts of which there is a file below a folder."""
    names = [path.stem.lower() for path in Path(root).rglob("*.json")]
    return tuple(part for part, word in _WORDS.items() if any(word in name for name in names))


def offset_sign(file: CocoFile) -> int:
    """Measure in which direction a file's offsets lead.

    Args:
        file: BONAI's.

    Returns:
        1 if a roof moved by its offset meets its footprint, -1 if one moved against it does.

    Raises:
        InputError: Both occur, each in more than a twentieth of the buildings, or no building shows a direction.
    """
    votes = {1: 0, -1: 0}
    for image in file.images:
        origin = f"{file.path}, {image['file_name']}"
        for annotation in file.annotations[image["id"]]:
            vote = 0 if annotation.get("only_footprint") else _vote(annotation, origin)
            if vote:
                votes[vote] += 1
    along, against = votes[1], votes[-1]
    if not along + against:
        raise InputError(f"{file.path}: no building has an offset above {LONG_PX:g} px that shows which way it leads")
    if min(along, against) > MIXED_SHARE * (along + against):
        raise InputError(
            f"{file.path}: offsets lead from roof to footprint in {along} buildings, and back in {against}: "
            "turn them all one way"
        )
    return 1 if along > against else -1


def offset_px(annotation: Annotation, origin: str) -> tuple[float, float]:
    """Return an annotation's offset (dx, dy), as it is stored.

    Args:
        annotation: The annotation.
        origin: File and image, for messages.

    Raises:
        InputError: It has none, or not two finite numbers.
    """
    try:
        dx, dy = (float(value) for value in annotation["offset"])
    except (KeyError, TypeError, ValueError):
        dx = dy = np.nan
    if not np.isfinite([dx, dy]).all():
        raise InputError(f"{origin}: an offset is {annotation.get('offset')}: expected [dx, dy] in px")
    return dx, dy


def _vote(annotation: Annotation, origin: str) -> int:
    """Which way the offset of one building leads; 0 where that cannot be told."""
    dx, dy = offset_px(annotation, origin)
    if np.hypot(dx, dy) < LONG_PX:
        return 0
    roof, footprint = (
        shapely.union_all(outline(annotation.get(name), origin)) for name in ("segmentation", "footprint_mask")
    )
    along, against = (_iou(affinity.translate(roof, sign * dx, sign * dy), footprint) for sign in (1, -1))
    return int(np.sign(along - against)) if abs(along - against) > CLEAR else 0


def _iou(first: shapely.Geometry, second: shapely.Geometry) -> float:
    union = shapely.union(first, second).area
    return float(shapely.intersection(first, second).area / union) if union else 0.0


def _picture(file: CocoFile, image: Mapping[str, Any], path: Path, target: Target, sign: int) -> Picture:
    origin = f"{file.path}, {image['file_name']}"
    annotations = file.annotations[image["id"]]
    label = BonaiLabel(origin, annotations, target, sign, int(image["height"]), int(image["width"]))
    whole = [annotation for annotation in annotations if not annotation.get("only_footprint")]
    lengths = [float(np.hypot(*offset_px(annotation, origin))) for annotation in whole]
    city = path.stem.split("_")[0]
    conditions: dict[str, str | float] = {"city": city}
    if lengths:
        conditions["displacement_px"] = float(np.median(lengths))
    return coco_picture(file, image, path, path.stem, label=label, group=city, conditions=conditions)

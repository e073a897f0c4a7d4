"""Images with polygons in a COCO file, such as CrowdAI's mapping challenge: ``images/`` and ``annotation.json``."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import shapely

from robustvision.buildings.data.folders import PART_FOLDERS, part_folders
from robustvision.buildings.data.layers import Geometries, draw_polygons, mend_polygons
from robustvision.buildings.data.pictures import Picture, read_form
from robustvision.buildings.data.splits import Part
from robustvision.buildings.data.tile import Bool, UInt8
from robustvision.core.errors import InputError

Annotation = Mapping[str, Any]


@dataclass(frozen=True)
class CocoFile:
    """What a COCO file says, checked for what is needed here.

    Attributes:
        path: The file.
        images: Its images, in its order.
        annotations: The annotations of each image, by its id.
    """

    path: Path
    images: tuple[Mapping[str, Any], ...]
    annotations: Mapping[Any, tuple[Annotation, ...]]


@dataclass(frozen=True)
class CocoLabel:
    """Draws the annotations of one image. Crowds, and what is to be ignored, are not valid.

    Attributes:
        origin: File and image, for messages.
        annotations: Of the image.
        height, width: Of the image.
    """

    origin: str
    annotations: tuple[Annotation, ...]
    height: int
    width: int

    def __call__(self, row: int, column: int, height: int, width: int) -> tuple[UInt8, Bool | None]:
        """Read a window."""
        label = np.zeros((self.height, self.width), np.uint8)
        ignored = np.zeros_like(label)
        for is_ignored, target in ((False, label), (True, ignored)):
            chosen = [one for one in self.annotations if bool(one.get("iscrowd") or one.get("ignore")) == is_ignored]
            shapes = [self._shape(one) for one in chosen]
            outlines = [outline(shape, self.origin) for shape in shapes if not isinstance(shape, Mapping)]
            polygons = [part for parts in outlines for part in parts]
            target |= draw_polygons(np.array(polygons, object), self.height, self.width)
            for runs in (shape for shape in shapes if isinstance(shape, Mapping)):
                target |= _runs(runs, self.height, self.width, self.origin)
        window = slice(row, row + height), slice(column, column + width)
        return label[window], ~ignored[window].astype(bool) if ignored.any() else None

    def _shape(self, annotation: Annotation) -> Any:
        if annotation.get("segmentation") is None:
            raise InputError(f"{self.origin}: an annotation has no segmentation: a box is no outline of a building")
        return annotation["segmentation"]


def read_coco(root: str | Path, part: Part | None = None) -> list[Picture]:
    """List the images of COCO files.

    Args:
        root: A folder with ``images/`` and one COCO file beside it (``annotation.json``), or with folders of parts that
            hold them (``train``, ``val``, ``test``).
        part: The part to read; None for all.

    Returns:
        The pictures, in the order of the files. CrowdAI's train and val share images: see ``find_duplicates``.

    Raises:
        InputError: A file or image is missing, or they contradict each other.
    """
    root = Path(root)
    if (root / "images").is_dir() and part is None:
        return _pictures(root, "")
    folders = {name: folder for name, folder in part_folders(root).items() if part in (None, name)}
    if not folders:
        wanted = "/".join(PART_FOLDERS[part]) if part else "images and a COCO file"
        raise InputError(f"{root} is no folder with {wanted}: expected images/ and annotation.json")
    return [picture for name, folder in folders.items() for picture in _pictures(folder, f"{name}/")]


def load_coco(path: Path) -> CocoFile:
    """Read a COCO file.

    Args:
        path: The file.

    Raises:
        InputError: It is no COCO file; the message says what is missing.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        images = tuple(content["images"])
        annotations: dict[Any, list[Annotation]] = {image["id"]: [] for image in images}
        if len(annotations) != len(images):
            raise ValueError(f"{len(images)} images with {len(annotations)} ids, where each needs its own")
        for annotation in content["annotations"]:
            annotations[annotation["image_id"]].append(annotation)
        for image in images:
            str(image["file_name"]), int(image["height"]), int(image["width"])
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, TypeError) as error:
        raise InputError(f"{path} is no COCO file ({error}): expected images and annotations") from error
    except KeyError as error:
        raise InputError(f"{path} is no COCO file: {error} is missing, or names an image that is not listed") from error
    return CocoFile(path, images, {image: tuple(held) for image, held in annotations.items()})


def coco_picture(file: CocoFile, image: Mapping[str, Any], path: Path, name: str, **extra: Any) -> Picture:
    """Return an image of a COCO file, whose size is checked; ``label`` and others in ``extra`` replace the usual."""
    form = read_form(path)
    stated = int(image["height"]), int(image["width"])
    if stated != (form.height, form.width):
        raise InputError(
            f"{path} is {form.width} x {form.height} px, but {file.path} says {stated[1]} x {stated[0]}: "
            "its outlines would not fit; copy the original image"
        )
    origin = f"{file.path}, {image['file_name']}"
    label = CocoLabel(origin, file.annotations[image["id"]], form.height, form.width)
    return Picture(**{"path": path, "name": name, "label": label, "form": form, **extra})


def outline(segmentation: Any, origin: str) -> Geometries:
    """Return the polygons of a segmentation: flat lists x, y, x, y, or one of them.

    Args:
        segmentation: As COCO has it: outer rings only, one for each visible part.
        origin: File and image, for messages.

    Returns:
        Valid polygons in px. Rings of fewer than three corners hold nothing and are left out.

    Raises:
        InputError: It is no such list.
    """
    try:
        flat = [segmentation] if segmentation and not isinstance(segmentation[0], Sequence) else segmentation
        rings = [np.asarray(ring, np.float64).reshape(-1, 2) for ring in flat or []]
        if not all(np.isfinite(ring).all() for ring in rings):
            raise ValueError("not finite")
    except (TypeError, ValueError, KeyError) as error:
        shown = str(segmentation)[:60]
        raise InputError(f"{origin}: a segmentation is {shown} ({error}): expected lists x, y, x, y, ...") from error
    polygons = [shapely.Polygon(ring) for ring in rings if len(ring) >= 3]
    return mend_polygons(np.array(polygons, object))[0]


def _pictures(folder: Path, prefix: str) -> list[Picture]:
    file = load_coco(_coco_file(folder))
    pictures = []
    for image in file.images:
        path = folder / "images" / str(image["file_name"])
        if not path.is_file():
            path = folder / str(image["file_name"])
        if not path.is_file():
            raise InputError(f"{file.path} names {image['file_name']}, which is not in {folder / 'images'}")
        pictures.append(coco_picture(file, image, path, prefix + path.stem))
    return pictures


def _coco_file(folder: Path) -> Path:
    for name in ("annotation.json", "annotations.json"):
        if (folder / name).is_file():
            return folder / name
    found = sorted(folder.glob("*.json")) + sorted((folder / "annotations").glob("*.json"))
    if len(found) != 1:
        held = ", ".join(path.name for path in found) or "no JSON file"
        raise InputError(f"{folder} holds {held}: expected one COCO file, best named annotation.json")
    return found[0]


def _runs(segmentation: Mapping[str, Any], height: int, width: int, origin: str) -> UInt8:
    """Decode run lengths, which go down the columns and begin with background."""
    counts = segmentation.get("counts")
    if not isinstance(counts, list):
        raise InputError(f"{origin}: a segmentation is packed run lengths: write it as polygons or plain run lengths")
    lengths = np.array([length if isinstance(length, int) else -1 for length in counts], np.int64)
    if segmentation.get("size") != [height, width] or lengths.sum() != height * width or (lengths < 0).any():
        raise InputError(f"{origin}: run lengths of size {segmentation.get('size')} do not fill {height} x {width} px")
    return np.repeat(np.arange(len(lengths)) % 2, lengths).astype(np.uint8).reshape(width, height).T

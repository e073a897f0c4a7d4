"""Images beside masks of the same file stem: plain folders, and the public sets that come so.

A set is ``images/`` and ``labels/`` (or what else of `IMAGES` and `LABELS` they are called), alone or in one folder for
each part: ``train/image/a.png`` and ``train/label/a.tif``.
"""

from __future__ import annotations

import re
from dataclasses import replace
from functools import partial
from pathlib import Path

from robustvision.buildings.data.masks import check_form, read_mask
from robustvision.buildings.data.pictures import Picture, read_form
from robustvision.buildings.data.splits import PARTS, Part
from robustvision.core.errors import InputError
from robustvision.core.runtime.images import list_images

IMAGES = ("images", "image", "imgs", "img", "sat")
LABELS = ("labels", "label", "masks", "mask", "gt", "map")
PART_FOLDERS: dict[Part, tuple[str, ...]] = {
    "train": ("train", "training"),
    "validation": ("val", "valid", "validation"),
    "test": ("test", "testing"),
}
INRIA_VALIDATION = 5
"""So many first images of each city are Inria's usual validation."""


def read_folder(
    root: str | Path, part: Part | None = None, *, building: int | None = None, gsd_m: float | None = None
) -> list[Picture]:
    """List images with their masks.

    Args:
        root: The folder; see the module for what it holds.
        part: The part to read; None for all.
        building: The value of a mask that means building; see ``read_mask``.
        gsd_m: Ground sampling distance of images that have no place on the map.

    Returns:
        The pictures, in the order of their file names; with folders of parts, names begin with the part.

    Raises:
        InputError: The folders are not there, an image has no label, or does not lie on its label's grid.
    """
    root = Path(root)
    if not root.is_dir():
        raise InputError(f"{root} is not a folder: give the one that holds images and labels")
    if _child(root, IMAGES):
        if part is not None:
            raise InputError(f"{root} has no parts, so no {part}: make folders train, val and test, or split by place")
        return pair(*_both(root), building=building, gsd_m=gsd_m)
    folders = {name: folder for name, folder in part_folders(root).items() if part in (None, name)}
    if not folders:
        wanted = "/".join(PART_FOLDERS[part]) if part else "train, val or test"
        held = ", ".join(sorted(entry.name for entry in root.iterdir())[:5]) or "nothing"
        raise InputError(f"{root} holds {held}: expected {'/'.join(IMAGES)} and {'/'.join(LABELS)}, in {wanted}")
    return [
        picture
        for name, folder in folders.items()
        for picture in pair(*_both(folder), building=building, gsd_m=gsd_m, prefix=f"{name}/")
    ]


def read_whu(root: str | Path, part: Part | None = None) -> list[Picture]:
    """List WHU's aerial set: 512 x 512 px at 0.3 m, ``train|val|test / image|label``.

    Args:
        root: Its folder.
        part: The part to read; None for all.

    Raises:
        InputError: As for `read_folder`.

    References:
        Ji, Wei and Lu: Fully convolutional networks for multisource building extraction, TGRS 2019.
    """
    return read_folder(root, part, gsd_m=0.3)


def read_massachusetts(root: str | Path, part: Part | None = None) -> list[Picture]:
    """List the Massachusetts set: 1500 x 1500 px at 1 m, ``train|valid|test / sat|map``.

    Args:
        root: Its folder.
        part: The part to read; None for all.

    Raises:
        InputError: As for `read_folder`.

    References:
        Mnih: Machine learning for aerial image labeling, 2013.
    """
    return read_folder(root, part, gsd_m=1.0)


def read_inria(root: str | Path, part: Part | None = None) -> list[Picture]:
    """List Inria's labelled images: 5000 x 5000 px at 0.3 m, ``train/images`` and ``train/gt``.

    Args:
        root: Its folder, or its ``train``.
        part: "validation" for the first five images of each city, "train" for the others; None for both. The labels of
            the test are not published.

    Returns:
        The pictures; their group is the city.

    Raises:
        InputError: The test is asked for, a name is not a city and a number, or as for `read_folder`.

    References:
        Maggiori et al.: Can semantic labeling methods generalize to any city?, IGARSS 2017.
    """
    if part == "test":
        raise InputError("the labels of Inria's test are not published: use part validation, or send in predictions")
    root = Path(root)
    folder = root if _child(root, IMAGES) else root / "train"
    chosen = []
    for picture in pair(*_both(folder), gsd_m=0.3):
        match = re.fullmatch(r"(\D+)(\d+)", picture.name)
        if match is None:
            raise InputError(f"{picture.path}: Inria's images are named city and number, such as austin1.tif")
        is_validation = int(match[2]) <= INRIA_VALIDATION
        if part is None or is_validation == (part == "validation"):
            chosen.append(replace(picture, group=match[1], conditions={"city": match[1]}))
    return chosen


def part_folders(root: Path) -> dict[Part, Path]:
    """Return the folders of the parts that a set comes in; empty where images lie in ``root`` itself.

    Args:
        root: The set's folder.
    """
    if _child(root, IMAGES):
        return {}
    return {name: folder for name in PARTS if (folder := _child(root, PART_FOLDERS[name]))}


def pair(
    images: Path, labels: Path, *, building: int | None = None, gsd_m: float | None = None, prefix: str = ""
) -> list[Picture]:
    """List the images of a folder with the masks of another that have their stems.

    Args:
        images: Folder of images.
        labels: Folder of masks.
        building: As for `read_folder`.
        gsd_m: Likewise.
        prefix: What names begin with.

    Returns:
        The pictures, in the order of their file names. A mask without an image is left out.

    Raises:
        InputError: An image has no mask, two files share a stem, or a mask does not lie on its image's grid.
    """
    files, masks = _by_stem(list_images(images)), _by_stem(list_images(labels))
    missing = [file.name for stem, file in files.items() if stem not in masks]
    if missing:
        raise InputError(
            f"{len(missing)} of {len(files)} images in {images} have no label of their name in {labels}: "
            f"{', '.join(missing[:3])}{', ...' if len(missing) > 3 else ''}; it holds {next(iter(masks.values())).name}"
        )
    pictures = []
    for stem, file in files.items():
        form = read_form(file)
        check_form(file, form, masks[stem])
        label = partial(read_mask, masks[stem], building=building)
        pictures.append(Picture(file, prefix + stem, label, form, gsd_m=gsd_m))
    return pictures


def _both(folder: Path) -> tuple[Path, Path]:
    """The folders of images and labels."""
    images, labels = _child(folder, IMAGES), _child(folder, LABELS)
    if images is None or labels is None:
        raise InputError(f"{folder}: expected {'/'.join(IMAGES)} and {'/'.join(LABELS)} beside each other in it")
    return images, labels


def _child(folder: Path, names: tuple[str, ...]) -> Path | None:
    return next((folder / name for name in names if (folder / name).is_dir()), None)


def _by_stem(files: list[Path]) -> dict[str, Path]:
    stems: dict[str, Path] = {}
    for file in files:
        if file.stem in stems:
            raise InputError(f"{stems[file.stem]} and {file.name} have one stem: which belongs to it? remove one")
        stems[file.stem] = file
    return stems

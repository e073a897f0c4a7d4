"""Face images on disk, by an identity-per-folder tree or a list; read and aligned when asked for. No torch in here."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from robustvision.core.errors import InputError
from robustvision.core.runtime.images import IMAGE_SUFFIXES, list_images, read_image
from robustvision.face.alignment import align_face
from robustvision.face.data.lists import ListError, parse_list, read_landmarks
from robustvision.face.data.source import CROP_PX, Crop


@dataclass(frozen=True, eq=False)
class FaceFiles:
    """Images on disk with labels.

    Attributes:
        paths: [N] the files.
        labels: [N] int64, 0 <= label < num_classes.
        num_classes: How many identities the labels may name.
        places: [N] where each image is said to be, for messages: the file itself or the line of a list.
        landmarks: [N, 5, 2] float32, x and y in pixels of the files; None where the files are aligned crops.
    """

    paths: tuple[Path, ...]
    labels: npt.NDArray[np.int64]
    num_classes: int
    places: tuple[str, ...]
    landmarks: npt.NDArray[np.float32] | None = None

    @property
    def clean_labels(self) -> npt.NDArray[np.int64]:
        """The labels: nothing else is known about files."""
        return self.labels

    def __len__(self) -> int:
        return len(self.paths)

    def image(self, index: int) -> Crop:
        """Read one crop, [112, 112, 3] uint8, RGB; aligned where landmarks are known.

        Raises:
            InputError: The file cannot be read, its landmarks are no face, or it is no aligned crop.
        """
        image = read_image(self.paths[index])
        if self.landmarks is not None:
            try:
                return align_face(image, self.landmarks[index])
            except InputError as error:
                raise InputError(f"{self.places[index]}: {error}") from None
        if image.shape != (CROP_PX, CROP_PX, 3):
            raise InputError(f"{self.places[index]}: {wrong_size(image.shape[1], image.shape[0])}")
        return image

    def fingerprint(self) -> str:
        """Return a hash of names, sizes, labels and landmarks; it does not read the images."""
        digest = hashlib.sha256()
        paths = [path.absolute() for path in self.paths]
        root = os.path.commonpath([path.parent for path in paths])
        for path, label in zip(paths, self.labels.tolist(), strict=True):
            digest.update(f"{path.relative_to(root).as_posix()}\t{label}\t{path.stat().st_size}\n".encode())
        if self.landmarks is not None:
            digest.update(np.ascontiguousarray(self.landmarks).data)
        return digest.hexdigest()[:16]


def wrong_size(width: int, height: int) -> str:
    """Say what to do with an image that is no aligned crop."""
    return f"{width} x {height} px, expected an aligned crop of {CROP_PX} x {CROP_PX}: align it, or give its landmarks"


def read_faces(
    source: str | Path,
    *,
    root: str | Path | None = None,
    num_classes: int | None = None,
    landmarks: str | Path | None = None,
) -> FaceFiles:
    """Read a data set on disk, whichever of the two forms it has.

    Args:
        source: A folder with one folder an identity, see ``read_folder``, or a list, see ``read_list``.
        root: The folder to which a list's paths are relative; the list's own where None.
        num_classes: Number of identities of a list; one more than its largest label where None.
        landmarks: A CSV file with five landmarks an image, for photos that are not aligned yet.

    Returns:
        The images.

    Raises:
        InputError: What ``read_folder`` and ``read_list`` refuse.
    """
    if Path(source).is_dir():
        return read_folder(source, landmarks=landmarks)
    return read_list(source, root=root, num_classes=num_classes, landmarks=landmarks)


def read_folder(root: str | Path, *, landmarks: str | Path | None = None) -> FaceFiles:
    """Read a tree with one folder an identity; folders in the order of their names get the labels 0, 1, 2 ...

    Args:
        root: The tree. Files directly in it (lists, tables) and hidden folders are left out.
        landmarks: A CSV file with five landmarks for every image (paths relative to ``root``), for photos that are not
            aligned yet.

    Returns:
        The images.

    Raises:
        InputError: It is no folder, has no folders in it, a folder is empty, or landmarks are missing.
    """
    root = Path(root)
    folders = identity_folders(root)
    by_folder = [list_images(folder) for folder in folders]
    paths = tuple(path for images in by_folder for path in images)
    labels = np.repeat(np.arange(len(folders)), [len(images) for images in by_folder])
    names = [path.relative_to(root).as_posix() for path in paths]
    points = None if landmarks is None else _match_landmarks(landmarks, names)
    return FaceFiles(paths, labels, len(folders), tuple(str(path) for path in paths), points)


def identity_folders(root: Path) -> list[Path]:
    """Return the folders of a tree, sorted by name.

    Raises:
        InputError: It is no folder, or has no folders in it.
    """
    if not root.is_dir():
        raise InputError(f"{root} is not a folder: give a folder that holds one folder an identity")
    entries = sorted(entry for entry in root.iterdir() if not entry.name.startswith("."))
    folders = [entry for entry in entries if entry.is_dir()]
    if not folders:
        loose = sum(entry.suffix.lower() in IMAGE_SUFFIXES for entry in entries)
        found = f"{loose} images directly" if loose else "nothing"
        raise InputError(f"{root} holds {found}; expected one folder an identity with its images")
    return folders


def read_list(
    path: str | Path,
    *,
    root: str | Path | None = None,
    num_classes: int | None = None,
    landmarks: str | Path | None = None,
) -> FaceFiles:
    """Read a list of images and labels, in one of the forms of ``parse_list``.

    Args:
        path: The list.
        root: The folder to which the list's paths are relative; the list's own where None.
        num_classes: Number of identities; one more than the largest label where None.
        landmarks: A CSV file with five landmarks for every image (paths as in the list), for photos that are not
            aligned yet.

    Returns:
        The images.

    Raises:
        InputError: The list is empty or cannot be read, a label is not a whole number in range, an image or its
            landmarks are missing; the message names the line.
    """
    root = Path(path).parent if root is None else Path(root)
    names, paths, labels, places = [], [], [], []
    for entry in parse_list(path, num_classes):
        place = f"{path}:{entry.line}"
        if isinstance(entry, ListError):
            raise InputError(f"{place}: {entry.what}")
        file = root / entry.path
        if not file.is_file():
            raise InputError(f"{place}: {file} is not there: fix the path, or pass the folder it is relative to")
        names.append(entry.path.replace("\\", "/"))
        paths.append(file)
        labels.append(entry.label)
        places.append(place)
    if not paths:
        raise InputError(f"{path} lists no images; expected lines 'path<TAB>label'")
    points = None if landmarks is None else _match_landmarks(landmarks, names)
    classes = max(labels) + 1 if num_classes is None else num_classes
    return FaceFiles(tuple(paths), np.array(labels, np.int64), classes, tuple(places), points)


def _match_landmarks(table: str | Path, names: list[str]) -> npt.NDArray[np.float32]:
    known = read_landmarks(table)
    missing = [name for name in names if name not in known]
    if missing:
        raise InputError(f"{table} has no line for {missing[0]} ({len(missing)} are missing): add the landmarks")
    return np.stack([known[name] for name in names])

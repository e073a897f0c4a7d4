"""Rendered faces on disk, in the layout of real data sets, so that the readers of real data read them back."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from robustvision.core.data import LabelNoise
from robustvision.core.errors import InputError
from robustvision.core.runtime.files import write_folder_atomically
from robustvision.core.runtime.opencv import cv2
from robustvision.core.runtime.parallel import run_ordered
from robustvision.face.data.lists import LANDMARK_COLUMNS
from robustvision.face.synthetic.source import GENERATOR_VERSION, SyntheticFaces

RECIPE_NAME = "synthetic.json"
"""The file that marks such a tree: the parameters it was made with."""

_CHUNK = 32


class _Row(NamedTuple):
    path: str
    landmarks: list[str]
    quality: float


def synthesize(
    out: str | Path,
    *,
    identities: int = 100,
    images_per_identity: int = 10,
    split: str = "train",
    seed: int = 0,
    noise: LabelNoise | None = None,
    noise_seed: int = 0,
    strength: float = 1.0,
    photos: bool = False,
    image_format: str = "png",
    workers: int | None = None,
    quiet: bool = False,
) -> dict[str, Any]:
    """Write a data set to disk.

    The tree holds one folder for each label (also for the images whose label is wrong), and beside the folders:
    ``list.txt`` ("path<TAB>label"), ``landmarks.csv`` (five points an image), ``noise.csv`` (label, true label,
    whether it is wrong, quality of the picture), and ``synthetic.json`` (the parameters).

    Args:
        out: The folder to write; it must not exist, be empty, or be such a tree, which is then replaced.
        identities: Number of people.
        images_per_identity: Pictures of each.
        split: "train", "validation" or "test"; their people are different ones.
        seed: Seed of people and pictures.
        noise: Label noise; none where None.
        noise_seed: Seed of the label noise.
        strength: Factor on all nuisances.
        photos: Whether to render whole photos instead of aligned crops; they need the landmarks to be read.
        image_format: "png" or "jpg".
        workers: Processes that render; as many as there are processors where None.
        quiet: No progress.

    Returns:
        What was written: folder, identities, images, noisy_images.

    Raises:
        InputError: For parameters out of range, and a folder that holds something else.
    """
    if image_format not in ("png", "jpg"):
        raise InputError(f"image_format is {image_format!r}; choose png or jpg")
    faces = SyntheticFaces(
        identities,
        images_per_identity,
        split=split,
        seed=seed,
        noise=noise or LabelNoise(),
        noise_seed=noise_seed,
        strength=strength,
    )
    chunks = [range(start, min(start + _CHUNK, len(faces))) for start in range(0, len(faces), _CHUNK)]
    with write_folder_atomically(out, marker=RECIPE_NAME) as folder:
        for label in sorted(set(faces.labels.tolist())):
            (folder / f"{label:06d}").mkdir()
        parts = run_ordered(
            partial(_write_chunk, faces, folder, photos, image_format),
            chunks,
            workers=workers,
            backend="serial" if workers == 1 or len(chunks) < 16 else "process",
            label="rendering faces",
            quiet=quiet,
        )
        rows = [row for part in parts for row in part]
        _write_tables(folder, faces, rows)
        recipe = {"generator": GENERATOR_VERSION, "photos": photos, **asdict(faces)}
        (folder / RECIPE_NAME).write_text(json.dumps(recipe, indent=2) + "\n", encoding="utf-8")
    return {
        "folder": str(out),
        "identities": identities,
        "images": len(faces),
        "noisy_images": int(faces.is_noisy.sum()),
    }


def _write_chunk(
    faces: SyntheticFaces, folder: Path, photos: bool, image_format: str, indices: Iterable[int]
) -> list[_Row]:
    rows = []
    for index in indices:
        picture = faces.scene(index) if photos else faces.render(index)
        path = f"{faces.labels[index]:06d}/{index:07d}.{image_format}"
        _, encoded = cv2.imencode(f".{image_format}", cv2.cvtColor(picture.image, cv2.COLOR_RGB2BGR))
        (folder / path).write_bytes(encoded.tobytes())
        points = [f"{value:.2f}" for value in picture.landmarks.ravel()]
        rows.append(_Row(path, points, round(faces.nuisance(index).quality, 4)))
    return rows


def _write_tables(folder: Path, faces: SyntheticFaces, rows: list[_Row]) -> None:
    labels, clean = faces.labels.tolist(), faces.clean_labels.tolist()
    lines = (f"{row.path}\t{label}\n" for row, label in zip(rows, labels, strict=True))
    (folder / "list.txt").write_text("".join(lines), encoding="utf-8")
    with open(folder / "landmarks.csv", "w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(LANDMARK_COLUMNS)
        table.writerows([row.path, *row.landmarks] for row in rows)
    with open(folder / "noise.csv", "w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["path", "label", "clean_label", "is_noisy", "quality"])
        table.writerows(
            [row.path, label, truth, int(label != truth), row.quality]
            for row, label, truth in zip(rows, labels, clean, strict=True)
        )

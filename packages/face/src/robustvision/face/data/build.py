"""Data sets by their origin in one call, for recipes: `dataset=dict(type=synthetic_dataset, num_identities=800)`."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from pathlib import Path

from robustvision.core.data import LabelNoise
from robustvision.face.data.dataset import FaceDataset
from robustvision.face.data.files import read_faces
from robustvision.face.data.source import FaceArrays
from robustvision.face.synthetic import SyntheticFaces


def synthetic_dataset(
    num_identities: int,
    images_per_identity: int = 10,
    *,
    split: str = "train",
    seed: int = 0,
    noise: LabelNoise | dict[str, float] | None = None,
    noise_seed: int = 0,
    strength: float = 1.0,
    imbalance: float = 1.0,
    unidentifiable: float = 0.0,
    flip: float = 0.5,
    augmentation_seed: int = 0,
    workers: int | None = None,
    cache_dir: str | Path | None = None,
    quiet: bool = False,
) -> FaceDataset:
    """Render a data set into memory.

    Args:
        num_identities: Number of people.
        images_per_identity: Pictures of each.
        split: "train", "validation" or "test".
        seed: Seed of people and pictures.
        noise: Label noise, a ``LabelNoise`` or its fields, such as ``{"flip": 0.4}``.
        noise_seed: Seed of the label noise.
        strength: Factor on all nuisances.
        imbalance: How many times fewer pictures the rarest person has than the most frequent.
        unidentifiable: Share of the pictures in which nobody could be recognised.
        flip: Probability of a horizontal flip; 0 for evaluation.
        augmentation_seed: Seed of the flips.
        workers: Processes that render; as many as there are processors where None.
        cache_dir: A folder in which pictures are kept for the next time.
        quiet: No progress.

    Returns:
        The data set.
    """
    recipe = noise if isinstance(noise, LabelNoise) else LabelNoise(**(noise or {}))
    faces = SyntheticFaces(
        num_identities,
        images_per_identity,
        split=split,
        seed=seed,
        noise=recipe,
        noise_seed=noise_seed,
        strength=strength,
        imbalance=imbalance,
        unidentifiable=unidentifiable,
    )
    pictures = faces if recipe.open_set else replace(faces, noise=LabelNoise(), noise_seed=0)
    arrays = replace(
        _rendered(pictures, workers, cache_dir, quiet),
        labels=faces.labels,
        clean_labels=faces.clean_labels,
        num_classes=faces.num_classes,
    )
    return FaceDataset(arrays, flip=flip, seed=augmentation_seed)


@lru_cache(maxsize=4)
def _rendered(faces: SyntheticFaces, workers: int | None, cache_dir: str | Path | None, quiet: bool) -> FaceArrays:
    """Rendered once a process: a run asks again for the report and the calibration, a study for each draw of noise."""
    return faces.arrays(workers=workers, cache_dir=cache_dir, quiet=quiet)


def files_dataset(
    path: str | Path,
    *,
    root: str | Path | None = None,
    landmarks: str | Path | None = None,
    num_classes: int | None = None,
    flip: float = 0.5,
    noise: LabelNoise | dict[str, float] | None = None,
    noise_seed: int = 0,
    augmentation_seed: int = 0,
) -> FaceDataset:
    """Open a data set on disk: a folder with one folder an identity, or a list of paths and labels.

    Args:
        path: The folder or the list.
        root: The folder to which a list's paths are relative; the list's own where None.
        landmarks: A CSV file with five landmarks an image, for photos that are not aligned yet.
        num_classes: Number of identities of a list; one more than its largest label where None.
        flip: Probability of a horizontal flip; 0 for evaluation.
        noise: Label noise to add, a ``LabelNoise`` or its fields, such as ``{"flip": 0.4}``.
        noise_seed: Seed of the label noise.
        augmentation_seed: Seed of the flips.

    Returns:
        The data set.

    Raises:
        InputError: What ``read_folder`` and ``read_list`` refuse.
    """
    files = read_faces(path, root=root, num_classes=num_classes, landmarks=landmarks)
    return FaceDataset(files, flip=flip, noise=noise, noise_seed=noise_seed, seed=augmentation_seed)

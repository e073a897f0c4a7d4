"""Rendered data sets: who, how often, with which label noise; the pictures come one by one or all at once."""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from functools import cached_property, lru_cache, partial
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt

from robustvision.core.data import OUTSIDE, LabelNoise, NoisyLabels
from robustvision.core.errors import InputError
from robustvision.core.runtime.files import write_atomically
from robustvision.core.runtime.opencv import cv2
from robustvision.core.runtime.parallel import run_ordered
from robustvision.face.data.source import CROP_PX, Crop, FaceArrays
from robustvision.face.synthetic.identity import Identity
from robustvision.face.synthetic.nuisance import Nuisance
from robustvision.face.synthetic.render import Rendered, render_face, render_scene

GENERATOR_VERSION = 1
"""Raised whenever the same parameters give other pictures."""

_STREAMS = {"train": 11, "test": 12, "outside": 13, "validation": 14}  # no identity of one stream is in another
_CHUNK = 64


@lru_cache(maxsize=32)
def sample_identity(split: str, index: int, seed: int = 0) -> Identity:
    """Return one identity of an endless sequence.

    Args:
        split: "train", "validation", "test", or "outside" for the people of open-set noise; no one is in two of them.
        index: Place in the sequence, from 0.
        seed: Seed of the sequence.

    Returns:
        The identity.

    Raises:
        InputError: For another split.
    """
    return Identity.sample(np.random.default_rng([_stream(split), seed, index, 1]))


def _stream(split: str) -> int:
    if split not in _STREAMS:
        raise InputError(f"split {split!r} is not known; choose train, validation or test")
    return _STREAMS[split]


@dataclass(frozen=True)
class SyntheticFaces:
    """A data set of rendered faces. Equal parameters give equal pictures, whatever is rendered around them.

    Args:
        num_identities: Number of people.
        images_per_identity: Pictures of each (of the most frequent one, where there is imbalance).
        split: "train", "validation" or "test"; their people are different ones.
        seed: Seed of people and pictures.
        noise: Label noise.
        noise_seed: Seed of the label noise, apart from the pictures' so that one set can carry many draws of it.
        strength: Factor on all nuisances; 0 gives plain portraits.
        imbalance: How many times fewer pictures the rarest person has than the most frequent; between them geometric.
        unidentifiable: Share of the pictures in which nobody could be recognised.

    Raises:
        InputError: For values out of range.
    """

    num_identities: int
    images_per_identity: int = 10
    split: str = "train"
    seed: int = 0
    noise: LabelNoise = field(default_factory=LabelNoise)
    noise_seed: int = 0
    strength: float = 1.0
    imbalance: float = 1.0
    unidentifiable: float = 0.0

    def __post_init__(self) -> None:
        _stream(self.split)
        if self.num_identities < 1 or self.images_per_identity < 1:
            raise InputError(
                f"{self.num_identities} identities with {self.images_per_identity} images: expected at least 1 of each"
            )
        if self.strength < 0 or self.imbalance < 1 or not 0 <= self.unidentifiable < 1:
            raise InputError(
                f"strength {self.strength}, imbalance {self.imbalance}, unidentifiable {self.unidentifiable}: "
                "expected at least 0, at least 1, and a share below 1"
            )

    @cached_property
    def counts(self) -> npt.NDArray[np.int64]:
        """[num_identities] pictures of each person."""
        rank = np.arange(self.num_identities) / max(self.num_identities - 1, 1)
        return np.maximum(np.round(self.images_per_identity * self.imbalance**-rank), 1).astype(np.int64)

    @cached_property
    def identities(self) -> npt.NDArray[np.int64]:
        """[N] who would be in each picture without noise."""
        return np.repeat(np.arange(self.num_identities), self.counts)

    @cached_property
    def noisy_labels(self) -> NoisyLabels:
        """The labels and the truth about them."""
        return self.noise.apply(self.identities, self.num_identities, self.noise_seed)

    @cached_property
    def _firsts(self) -> npt.NDArray[np.int64]:
        return np.cumsum(self.counts) - self.counts

    @property
    def labels(self) -> npt.NDArray[np.int64]:
        """[N] int64, what training is told."""
        return self.noisy_labels.labels

    @property
    def clean_labels(self) -> npt.NDArray[np.int64]:
        """[N] int64, who is in the picture; -1 for somebody outside the set."""
        return self.noisy_labels.clean_labels

    @property
    def is_noisy(self) -> npt.NDArray[np.bool_]:
        """[N] bool, whether the label is wrong."""
        return self.noisy_labels.is_noisy

    @property
    def num_classes(self) -> int:
        """How many identities the labels may name."""
        return self.noisy_labels.num_classes

    @cached_property
    def is_unidentifiable(self) -> npt.NDArray[np.bool_]:
        """[N] bool, whether nobody could be recognised in the picture."""
        rng = np.random.default_rng([_stream(self.split), self.seed, 0, 3])
        chosen = rng.choice(len(self), round(self.unidentifiable * len(self)), replace=False)
        return np.isin(np.arange(len(self)), chosen)

    def __len__(self) -> int:
        return len(self.identities)

    def identity(self, index: int) -> Identity:
        """Return who is in a picture."""
        if self.clean_labels[index] == OUTSIDE:
            return sample_identity("outside", index, self.seed)
        return sample_identity(self.split, int(self.identities[index]), self.seed)

    def nuisance(self, index: int) -> Nuisance:
        """Return the circumstances of a picture."""
        who = int(self.identities[index])
        rng = np.random.default_rng([_stream(self.split), self.seed, who, index - int(self._firsts[who]), 2])
        return Nuisance.sample(rng, self.strength, bool(self.is_unidentifiable[index]))

    def render(self, index: int) -> Rendered:
        """Render one picture with its landmarks."""
        return render_face(self.identity(index), self.nuisance(index), CROP_PX)

    def scene(self, index: int) -> Rendered:
        """Render one picture as a photo that still has to be aligned, 240 x 320, with its landmarks."""
        who = int(self.identities[index])
        rng = np.random.default_rng([_stream(self.split), self.seed, who, index - int(self._firsts[who]), 4])
        eye_distance = rng.uniform(22, 50)
        return render_scene(
            self.identity(index),
            self.nuisance(index),
            eye_distance_px=eye_distance,
            roll_rad=float(np.clip(0.25 * self.strength * rng.standard_normal(), -0.8, 0.8)),
            centre=(rng.uniform(1.6, 320 / eye_distance - 1.6) * eye_distance, 120 + rng.uniform(-20, 20)),
        )

    def image(self, index: int) -> Crop:
        """Render one picture, [112, 112, 3] uint8, RGB."""
        return self.render(index).image

    def fingerprint(self) -> str:
        """Return a hash of the parameters and the generator's version."""
        recipe = json.dumps([GENERATOR_VERSION, asdict(self)], sort_keys=True)
        return hashlib.sha256(recipe.encode()).hexdigest()[:16]

    def arrays(
        self, *, workers: int | None = None, cache_dir: str | Path | None = None, quiet: bool = False
    ) -> FaceArrays:
        """Render everything.

        Args:
            workers: Number of processes; as many as there are processors where None. A script that renders in several
                calls this under ``if __name__ == "__main__":``.
            cache_dir: A folder in which pictures are kept for the next time; it may be shared, and is made if missing.
            quiet: No progress.

        Returns:
            The pictures in memory, with labels, landmarks and quality.
        """
        images, landmarks, quality = self._cached(workers, cache_dir, quiet)
        return FaceArrays(images, self.labels, self.clean_labels, self.num_classes, landmarks, quality)

    def _cached(
        self, workers: int | None, cache_dir: str | Path | None, quiet: bool
    ) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        if cache_dir is None:
            return self._render_all(workers, quiet)
        recipe = asdict(self)
        if not self.noise.open_set:  # then the pictures do not depend on the noise
            del recipe["noise"], recipe["noise_seed"]
        key = hashlib.sha256(json.dumps([GENERATOR_VERSION, recipe], sort_keys=True).encode()).hexdigest()[:16]
        folder = Path(cache_dir)
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"faces-{key}.npz"
        with (
            suppress(OSError, ValueError, KeyError, BadZipFile),
            np.load(path) as stored,
        ):  # a damaged file is rendered anew
            return stored["images"], stored["landmarks"], stored["quality"]
        images, landmarks, quality = self._render_all(workers, quiet)
        with write_atomically(path) as temporary:
            np.savez(temporary, images=images, landmarks=landmarks, quality=quality)
        return images, landmarks, quality

    def _render_all(
        self, workers: int | None, quiet: bool
    ) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        chunks = [range(start, min(start + _CHUNK, len(self))) for start in range(0, len(self), _CHUNK)]
        parts = run_ordered(
            partial(_render_chunk, self),
            chunks,
            workers=workers,
            backend="serial" if workers == 1 or len(chunks) < 8 else "process",
            label="rendering faces",
            quiet=quiet,
        )
        images, landmarks, quality = zip(*parts, strict=True)
        return np.concatenate(images), np.concatenate(landmarks), np.concatenate(quality)


def _render_chunk(
    faces: SyntheticFaces, indices: range
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    nuisances = [faces.nuisance(index) for index in indices]
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)  # at this size a second thread costs more than it brings
    try:
        pictures = [
            render_face(faces.identity(index), how, CROP_PX) for index, how in zip(indices, nuisances, strict=True)
        ]
    finally:
        cv2.setNumThreads(threads)
    return (
        np.stack([picture.image for picture in pictures]),
        np.stack([picture.landmarks for picture in pictures]).astype(np.float32),
        np.array([one.quality for one in nuisances], np.float32),
    )

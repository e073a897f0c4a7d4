"""Where face crops come from, as `FaceDataset` sees it, and the source that holds them in memory. No torch in here."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import numpy.typing as npt

from robustvision.core.data import OUTSIDE, LabelNoise
from robustvision.core.errors import InputError

CROP_PX = 112

Crop = npt.NDArray[np.uint8]


class FaceSource(Protocol):
    """Aligned crops with labels, by index.

    Attributes:
        labels: [N] int64, what training is told; 0 <= label < num_classes.
        clean_labels: [N] int64, what is known to be true; the labels themselves where nothing else is known.
        num_classes: How many identities the labels may name.
    """

    @property
    def labels(self) -> npt.NDArray[np.int64]: ...

    @property
    def clean_labels(self) -> npt.NDArray[np.int64]: ...

    @property
    def num_classes(self) -> int: ...

    def __len__(self) -> int: ...

    def image(self, index: int) -> Crop:
        """Return one crop, [112, 112, 3] uint8, RGB."""
        ...

    def fingerprint(self) -> str:
        """Return a hash that changes when the data does."""
        ...


@dataclass(frozen=True, eq=False)
class FaceArrays:
    """A set of crops in memory.

    Attributes:
        images: [N, 112, 112, 3] uint8, RGB.
        labels: [N] int64, what training is told.
        clean_labels: [N] int64, the truth; -1 for an image of somebody outside the set.
        num_classes: How many identities the labels may name.
        landmarks: [N, 5, 2] float32, x and y in pixels of the crop; None where not known.
        quality: [N] float32 in 0..1, how well the picture was taken; None where not known.
    """

    images: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.int64]
    clean_labels: npt.NDArray[np.int64]
    num_classes: int
    landmarks: npt.NDArray[np.float32] | None = None
    quality: npt.NDArray[np.float32] | None = None

    def __post_init__(self) -> None:
        if self.images.dtype != np.uint8 or self.images.shape[1:] != (CROP_PX, CROP_PX, 3):
            raise InputError(
                f"images are {self.images.dtype} {self.images.shape}; expected uint8 [N, {CROP_PX}, {CROP_PX}, 3]"
            )
        for name in ("labels", "clean_labels"):
            check_labels(getattr(self, name), self.num_classes, len(self.images), allow_outside=name == "clean_labels")

    @property
    def is_noisy(self) -> npt.NDArray[np.bool_]:
        """[N] bool, whether the label is wrong."""
        return self.labels != self.clean_labels

    def __len__(self) -> int:
        return len(self.images)

    def image(self, index: int) -> Crop:
        """Return one crop, [112, 112, 3] uint8, RGB."""
        return self.images[index]

    def fingerprint(self) -> str:
        """Return a hash of images and labels."""
        digest = hashlib.sha256(repr(self.num_classes).encode())
        for array in (self.images, self.labels):
            digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()[:16]

    def with_noise(self, noise: LabelNoise, seed: int) -> FaceArrays:
        """Return the same images under noisy labels.

        Raises:
            InputError: For rates that do not fit, and for open-set noise: that needs other images, not other labels.
        """
        if noise.open_set:
            raise InputError("open-set noise needs images from outside the set: render them with SyntheticFaces")
        noisy = noise.apply(self.labels, self.num_classes, seed)
        return replace(self, labels=noisy.labels, num_classes=noisy.num_classes)


def check_labels(labels: npt.NDArray, num_classes: int, length: int, *, allow_outside: bool = False) -> None:
    """Refuse labels that a head of ``num_classes`` cannot learn.

    Args:
        labels: [length], whole numbers.
        num_classes: Number of classes.
        length: Number of images.
        allow_outside: Whether -1 is allowed.

    Raises:
        InputError: For another shape, numbers that are not whole, and labels out of range; the first such is named.
    """
    if labels.shape != (length,) or not np.issubdtype(labels.dtype, np.integer):
        raise InputError(f"labels are {labels.dtype} {labels.shape}; expected whole numbers [{length}]")
    lowest = OUTSIDE if allow_outside else 0
    wrong = np.flatnonzero((labels < lowest) | (labels >= num_classes))
    if wrong.size:
        raise InputError(
            f"label {labels[wrong[0]]} of image {wrong[0]} is not in {lowest}..{num_classes - 1}: "
            "fix it, or pass a larger num_classes"
        )

"""The torch data set over any source of face crops."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import Dataset

from robustvision.core.data import LabelNoise
from robustvision.core.errors import InputError
from robustvision.core.training.sampling import sample_rng, split_index
from robustvision.face.data.source import CROP_PX, FaceSource


class FaceDataset(Dataset):
    """Face crops with labels, augmented without a state: a sample depends on (seed, epoch, index) alone.

    Args:
        source: Where the crops come from.
        flip: Probability of a horizontal flip; 0 for evaluation.
        noise: Label noise to add, a ``LabelNoise`` or its fields; the truth is kept in ``clean_labels``.
        seed: Seed of the augmentation.
        noise_seed: Seed of the label noise; that of the augmentation where None.

    Raises:
        InputError: For a source without images, and for values out of range.
    """

    def __init__(
        self,
        source: FaceSource,
        *,
        flip: float = 0.5,
        noise: LabelNoise | dict[str, float] | None = None,
        seed: int = 0,
        noise_seed: int | None = None,
    ) -> None:
        if len(source) == 0:
            raise InputError("the data set holds no images")
        if not 0 <= flip <= 1:
            raise InputError(f"flip is {flip}; expected a probability")
        self.source, self.flip, self.seed = source, flip, seed
        self._fingerprint: str | None = None
        self.labels, self.clean_labels, self.num_classes = source.labels, source.clean_labels, source.num_classes
        if noise is not None:
            recipe = noise if isinstance(noise, LabelNoise) else LabelNoise(**noise)
            if recipe.open_set:
                raise InputError("open-set noise needs images from outside the set: render them with SyntheticFaces")
            noisy = recipe.apply(source.labels, source.num_classes, seed if noise_seed is None else noise_seed)
            self.labels, self.num_classes = noisy.labels, noisy.num_classes

    @property
    def is_noisy(self) -> npt.NDArray[np.bool_]:
        """[N] bool, whether the label is known to be wrong."""
        return self.labels != self.clean_labels

    @property
    def metainfo(self) -> dict[str, Any]:
        """What mmengine stores beside the weights: plain values."""
        return {"num_classes": self.num_classes, "num_images": len(self), "fingerprint": self.fingerprint()}

    def fingerprint(self) -> str:
        """Return a hash that changes when the images or the labels do."""
        if self._fingerprint is None:  # it is asked for at every checkpoint
            digest = hashlib.sha256(self.source.fingerprint().encode())
            digest.update(np.ascontiguousarray(self.labels).data)
            self._fingerprint = digest.hexdigest()[:16]
        return self._fingerprint

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, key: int | tuple[int, int]) -> dict[str, Any]:
        """Return one sample.

        Args:
            key: (epoch, index), or the index alone, which means epoch 0.

        Returns:
            "image", uint8 tensor [3, 112, 112], RGB; "label", int; "index", int.
        """
        epoch, index = split_index(key)
        if not 0 <= index < len(self):
            raise IndexError(index)  # ends a for loop over the data set
        image = self.source.image(index)
        if image.shape != (CROP_PX, CROP_PX, 3):
            raise InputError(f"image {index} is {image.shape}; expected {(CROP_PX, CROP_PX, 3)}")
        if self.flip and sample_rng(self.seed, epoch, index).random() < self.flip:
            image = image[:, ::-1]
        planes = np.array(image.transpose(2, 0, 1), order="C")  # a copy: the source's array stays untouched
        return {"image": torch.from_numpy(planes), "label": int(self.labels[index]), "index": index}

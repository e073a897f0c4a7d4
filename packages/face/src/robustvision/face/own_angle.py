"""How far every training image lies from the centre of the label that it was given: wrong labels lie farther away."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from robustvision.core.runtime.progress import track
from robustvision.face.data import FaceDataset
from robustvision.face.model import FaceModel

BATCH = 256


@torch.no_grad()
def own_angles(model: FaceModel, dataset: FaceDataset, *, quiet: bool = False) -> npt.NDArray[np.float32]:
    """Measure the angle between each image and the centre of its label, without augmentation.

    Args:
        model: A trained model; it is put into ``eval`` mode.
        dataset: The training set with the labels that training was told.
        quiet: No progress.

    Returns:
        [N] radians, in 0..pi.
    """
    model.eval()
    angles = []
    for start in track(range(0, len(dataset), BATCH), "measuring angles", quiet=quiet):
        places = range(start, min(start + BATCH, len(dataset)))
        pixels = torch.stack(
            [torch.from_numpy(dataset.source.image(place).transpose(2, 0, 1).copy()) for place in places]
        )
        labels = torch.as_tensor(dataset.labels[places.start : places.stop])
        cosines = model.head.cosines(model(pixels, mode="tensor"))
        angles.append(cosines.gather(1, labels[:, None]).clamp(-1, 1).acos().squeeze(1).numpy())
    return np.concatenate(angles).astype(np.float32)

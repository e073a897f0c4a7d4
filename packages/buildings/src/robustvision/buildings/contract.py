"""What every building model file has in common: task, tensors, and the manifest's word on preprocessing. No torch.

A graph maps ``image``, float32 [batch, 3, y, x], normalised, to ``logits``, float32 [batch, 1, y, x]. Sigmoid, padding
and blending are outside the graph. Height and width are multiples of ``multiple``.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from robustvision.core.errors import ModelError

TASK = "building-segmentation"
IMAGE, LOGITS = "image", "logits"
Target = Literal["roof", "footprint", "shape"]
TARGETS: tuple[Target, ...] = get_args(Target)
DESCRIPTIONS = {
    IMAGE: "RGB [batch, channel, y, x], (value / 255 - mean) / std; y and x are multiples of the manifest's `multiple`",
    LOGITS: "building against background [batch, 1, y, x]; probability = sigmoid",
}
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Preprocessing:
    """How a picture becomes the graph's input, in training and on the edge.

    Attributes:
        tile_px: Side of the tiles that the model was trained on, and is run on.
        stride_px: Step between two tiles of a raster.
        multiple: Height and width of a tile are multiples of it.
        mean: Of each channel, of values in 0..1.
        std: Likewise.
        target: What a positive pixel shows: the visible ``roof``, the ``footprint`` on the ground, or their ``shape``:
            roof, facade and footprint together.
        gsd_m: Smallest and largest ground sampling distance of the training images, in metres; None if not known.
        scale: The values of each band that become 0 and 255, where the images do not hold 8 bits; None where they do.
    """

    tile_px: int = 256
    stride_px: int = 192
    multiple: int = 32
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    target: Target = "roof"
    gsd_m: tuple[float, float] | None = None
    scale: tuple[tuple[float, float], ...] | None = None

    def __post_init__(self) -> None:
        if self.multiple < 1 or self.tile_px < 1 or self.tile_px % self.multiple:
            raise ValueError(f"tile_px is {self.tile_px}: expected a positive multiple of {self.multiple}")
        if not 0 < self.stride_px <= self.tile_px:
            raise ValueError(f"stride_px is {self.stride_px}: expected 1 to tile_px, {self.tile_px}")
        if len(self.mean) != 3 or len(self.std) != 3 or not all(value > 0 for value in self.std):
            raise ValueError(f"mean {self.mean} and std {self.std}: expected three numbers each, std above 0")
        if self.target not in TARGETS:
            raise ValueError(f"target is {self.target!r}: expected {', '.join(TARGETS)}")

    def normalise(self, image: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Return a picture as the graph takes it.

        Args:
            image: uint8 [..., H, W, 3], RGB.

        Returns:
            float32 [..., 3, H, W].
        """
        scale = (1 / (255 * np.asarray(self.std))).astype(np.float32)
        shift = (np.asarray(self.mean) / np.asarray(self.std)).astype(np.float32)
        planes = np.moveaxis(image, -1, -3)
        result = np.empty(planes.shape, np.float32)  # contiguous: seven times as fast as a result in the image's order
        result[...] = planes
        result *= scale[:, None, None]
        result -= shift[:, None, None]
        return result

    def entry(self) -> dict[str, Any]:
        """Return what a manifest says."""
        return {**asdict(self), "colour": "RGB", "range": [0, 255], "layout": "NCHW"}


def read_preprocessing(entry: dict[str, Any], origin: str) -> Preprocessing:
    """Read back what ``Preprocessing.entry`` wrote.

    Args:
        entry: The manifest's ``preprocessing``.
        origin: The model, for the error message.

    Raises:
        ModelError: A value is missing or cannot be used.
    """
    try:
        gsd_m, scale = entry["gsd_m"], entry["scale"]
        values = Preprocessing(
            tile_px=int(entry["tile_px"]),
            stride_px=int(entry["stride_px"]),
            multiple=int(entry["multiple"]),
            mean=_three(entry["mean"]),
            std=_three(entry["std"]),
            target=entry["target"],
            gsd_m=None if gsd_m is None else (float(gsd_m[0]), float(gsd_m[1])),
            scale=None if scale is None else tuple((float(low), float(high)) for low, high in scale),
        )
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise ModelError(f"{origin}: its manifest's preprocessing cannot be used ({error}): export it again") from error
    return values


def _three(values: Any) -> tuple[float, float, float]:
    first, second, third = (float(value) for value in values)
    if not all(math.isfinite(value) for value in (first, second, third)):
        raise ValueError(f"{values} is not finite")
    return first, second, third

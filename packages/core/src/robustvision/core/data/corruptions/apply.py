"""What users call: one image, a batch with random numbers for each image, a video with the same ones for all frames."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from robustvision.core.data.corruptions import blur, digital, noise, weather
from robustvision.core.data.corruptions.fields import Shape
from robustvision.core.data.corruptions.kernels import Filter, Image
from robustvision.core.errors import InputError

# their order is the publication's, and the number of a corruption is part of its seed
_BY_NAME: dict[str, Callable[[Shape, int, np.random.Generator], Filter]] = {
    "gaussian_noise": noise.gaussian_noise,
    "shot_noise": noise.shot_noise,
    "impulse_noise": noise.impulse_noise,
    "defocus_blur": blur.defocus_blur,
    "glass_blur": blur.glass_blur,
    "motion_blur": blur.motion_blur,
    "zoom_blur": blur.zoom_blur,
    "snow": weather.snow,
    "frost": weather.frost,
    "fog": weather.fog,
    "brightness": weather.brightness,
    "contrast": digital.contrast,
    "elastic_transform": digital.elastic_transform,
    "pixelate": digital.pixelate,
    "jpeg_compression": digital.jpeg_compression,
    "speckle_noise": noise.speckle_noise,
    "gaussian_blur": blur.gaussian_blur,
    "spatter": weather.spatter,
    "saturate": digital.saturate,
}

CORRUPTIONS = tuple(_BY_NAME)
"""The names: the 15 of the benchmark, then the 4 that its authors hold back for validation."""

MIN_SIDE = 8
_STREAM = 0xC0224


def corrupt(image: npt.ArrayLike, name: str, severity: int, seed: int, index: int = 0) -> Image:
    """Corrupt one image.

    What is random follows from seed, index and name alone: the same image gets the same flakes at every call, and at
    every severity the same underlying numbers.

    Args:
        image: uint8 [H, W, 3] RGB, or grey [H, W] or [H, W, 1]; both sides at least 8.
        name: One of ``CORRUPTIONS``.
        severity: 1 (weakest) to 5.
        seed: The experiment's seed, at least 0.
        index: The image's place in its data set, at least 0.

    Returns:
        The corrupted image, uint8, shaped like the input.

    Raises:
        InputError: The array is no such image, or name, severity, seed or index are out of range.

    References:
        Hendrycks and Dietterich, Benchmarking Neural Network Robustness to Common Corruptions and Perturbations
        (ICLR 2019).

    Examples:
        >>> grey = np.full((32, 32, 3), 128, np.uint8)
        >>> corrupt(grey, "brightness", severity=5, seed=0)[0, 0].tolist()  # 128 + 0.5 * 255
        [255, 255, 255]
    """
    array = _checked(image, "image", 2)
    return _prepare(array.shape, name, severity, seed, index)(array)


def corrupt_batch(images: npt.ArrayLike, name: str, severity: int, seed: int, index: int = 0) -> Image:
    """Corrupt a batch: image b is what :func:`corrupt` makes of it as number ``index + b``.

    Args:
        images: uint8 [B, H, W, 3] RGB, or grey [B, H, W] or [B, H, W, 1].
        name: One of ``CORRUPTIONS``.
        severity: 1 (weakest) to 5.
        seed: The experiment's seed.
        index: The place of the first image in its data set.

    Returns:
        The corrupted images, uint8, shaped like the input.

    Raises:
        InputError: As for :func:`corrupt`.
    """
    array = _checked(images, "batch of images", 3)
    result = np.empty_like(array)
    for b, image in enumerate(array):
        result[b] = _prepare(image.shape, name, severity, seed, index + b)(image)
    return result


def corrupt_video(frames: npt.ArrayLike, name: str, severity: int, seed: int, index: int = 0) -> Image:
    """Corrupt a video with one draw for all frames: noise, flakes, dirt and the direction of motion stand still.

    Args:
        frames: uint8 [T, H, W, 3] RGB, or grey [T, H, W] or [T, H, W, 1].
        name: One of ``CORRUPTIONS``.
        severity: 1 (weakest) to 5.
        seed: The experiment's seed.
        index: The video's place in its data set.

    Returns:
        The corrupted frames, uint8, shaped like the input; frame t is what :func:`corrupt` makes of it.

    Raises:
        InputError: As for :func:`corrupt`.
    """
    array = _checked(frames, "video", 3)
    apply = _prepare(array.shape[1:], name, severity, seed, index)
    result = np.empty_like(array)
    for t, frame in enumerate(array):
        result[t] = apply(frame)
    return result


def _prepare(shape: Shape, name: str, severity: int, seed: int, index: int) -> Filter:
    """Draw what is random, and return the filter for images of one shape."""
    if name not in _BY_NAME:
        raise InputError(f"there is no corruption {name!r}; give one of {', '.join(CORRUPTIONS)}")
    if not isinstance(severity, int | np.integer) or not 1 <= severity <= 5:
        raise InputError(f"the severity is {severity}; expected 1, 2, 3, 4 or 5")
    if seed < 0 or index < 0:
        raise InputError(f"seed and index are {seed} and {index}; expected numbers from 0")
    rng = np.random.default_rng([seed, index, CORRUPTIONS.index(name), _STREAM])
    inner = shape[:2] if shape[2:] == (1,) else shape  # OpenCV drops a single channel
    apply = _BY_NAME[name](inner, severity, rng)
    return lambda image: apply(np.ascontiguousarray(image).reshape(inner)).reshape(shape)


def _checked(array: npt.ArrayLike, what: str, dimensions: int) -> npt.NDArray[Any]:
    """Return images as an array of ``dimensions`` dimensions (grey) or one more (channels last)."""
    values = np.asarray(array)
    names = ["B, H, W", "T, H, W"][what == "video"] if dimensions == 3 else "H, W"
    expected = f"uint8 [{names}, 3] RGB or [{names}] grey"
    if values.dtype != np.uint8:
        raise InputError(f"the {what} is {values.dtype}; expected {expected}: scale to 0..255 and convert")
    has_channels = values.ndim == dimensions + 1
    if not (values.ndim == dimensions or (has_channels and values.shape[-1] in (1, 3))):
        raise InputError(f"the {what} is {list(values.shape)}; expected {expected}")
    height, width = values.shape[dimensions - 2 : dimensions]
    if min(height, width) < MIN_SIDE:
        advice = f"each side at least {MIN_SIDE} pixels"
        raise InputError(f"the {what} is {list(values.shape)}; expected {expected}, {advice}")
    return values

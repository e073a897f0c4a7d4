"""Scores by kind of building: pixels by height class or displacement, and how many buildings of each kind are found."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.ndimage import distance_transform_edt

from robustvision.buildings.offsets import HEIGHT_CLASSES, height_class
from robustvision.core.errors import InputError

from .pixel import PixelCounts, binary_mask, check_same_shape, count_pixels, ratio, thresholded

DISPLACEMENT_LIMITS_PX = (2.0, 5.0, 10.0, 20.0)
NO_BUILDING = "no building"
"""The stratum of false pixels in tiles without any building."""


@dataclass(frozen=True)
class Recall:
    """Buildings of one kind.

    Attributes:
        found: How many of them were found.
        buildings: How many there are.
    """

    found: int
    buildings: int

    @property
    def recall(self) -> float:
        """``found / buildings``; NaN without buildings."""
        return ratio(self.found, self.buildings)


def displacement_bin(displacement_px: float, limits_px: Sequence[float] = DISPLACEMENT_LIMITS_PX) -> str:
    """Return the name of a displacement's bin: ``0-2 px`` to ``>20 px``; an upper limit belongs to the bin below.

    Args:
        displacement_px: At least 0.
        limits_px: Ascending.

    Raises:
        InputError: It is negative or not finite.

    Example:
        >>> [displacement_bin(px) for px in (0, 2, 2.1, 67)]
        ['0-2 px', '0-2 px', '2-5 px', '>20 px']
    """
    if not (np.isfinite(displacement_px) and displacement_px >= 0):
        raise InputError(f"a displacement is {displacement_px} px: expected a finite length, 0 or more")
    edges = (0.0, *limits_px)
    for low, high in zip(edges, limits_px, strict=False):
        if displacement_px <= high:
            return f"{low:g}-{high:g} px"
    return f">{limits_px[-1]:g} px"


def counts_by_building(
    prediction: npt.ArrayLike,
    instances: npt.NDArray[np.integer],
    strata: Mapping[int, str],
    valid: npt.ArrayLike | None = None,
) -> dict[str, PixelCounts]:
    """Count the pixels of one tile for each kind of building: displacement bins, height classes, or any other.

    Found and missed pixels belong to their own building, a false one to the nearest building of the tile; so the strata
    together hold exactly the tile's TP, FP and FN. Background belongs to no building: TN is 0.

    Args:
        prediction: ``[H, W]``: bool or 0/1, or probabilities, a building from 0.5 on.
        instances: int [H, W], the building's number on each pixel of the label, 0 for none.
        strata: Number to the name of its stratum; numbers that the map lacks are passed over.
        valid: ``[H, W]``, False where a pixel counts nowhere. Buildings there still attract false pixels.

    Returns:
        Name to counts, in order of first mention; false pixels of a tile without buildings under ``no building``.

    Raises:
        InputError: Shapes differ, values are not binary, or a building has no stratum.

    Example:
        >>> counts_by_building([[1, 1, 0, 0, 1, 1]], np.array([[1, 1, 1, 0, 0, 2]]), {1: "low", 2: "high"})
        {'low': PixelCounts(tp=2, fp=0, fn=1, tn=0), 'high': PixelCounts(tp=1, fp=1, fn=0, tn=0)}
    """
    predicted = thresholded(prediction)
    check_same_shape(predicted, instances)
    truth = instances != 0
    counted = np.ones(truth.shape, dtype=bool) if valid is None else binary_mask(valid, "valid")
    check_same_shape(counted, truth, "valid")
    numbers = np.unique(instances[truth])
    if unnamed := [int(number) for number in numbers if int(number) not in strata]:
        raise InputError(f"buildings {unnamed[:5]} of the map have no stratum: name one for each number")
    if not numbers.size:
        false = int(np.count_nonzero(predicted & counted))
        return {NO_BUILDING: PixelCounts(fp=false)} if false else {}
    owner = np.searchsorted(numbers, _nearest(instances, truth))
    tp, fp, fn = (
        np.bincount(owner[mask & counted], minlength=numbers.size)
        for mask in (predicted & truth, predicted & ~truth, truth & ~predicted)
    )
    totals: dict[str, PixelCounts] = {}
    for number, *pixels in zip(numbers, tp, fp, fn, strict=True):
        name = strata[int(number)]
        totals[name] = totals.get(name, PixelCounts()) + PixelCounts(*map(int, pixels))
    return totals


def add_counts(tiles: Iterable[Mapping[str, PixelCounts]]) -> dict[str, PixelCounts]:
    """Add up the counts of many tiles by name.

    Args:
        tiles: Name to counts, one mapping a tile.

    Example:
        >>> add_counts([{"low": PixelCounts(tp=1)}, {"low": PixelCounts(tp=2), "high": PixelCounts(fn=3)}])["low"].tp
        3
    """
    totals: dict[str, PixelCounts] = {}
    for tile in tiles:
        for name, counts in tile.items():
            totals[name] = totals.get(name, PixelCounts()) + counts
    return totals


def recall_by_height_class(
    found: npt.ArrayLike, heights_m: npt.ArrayLike, limits_m: Mapping[str, float] = HEIGHT_CLASSES
) -> dict[str, Recall]:
    """Return how many buildings of each height class were found.

    Args:
        found: bool [m], see `found_buildings`.
        heights_m: ``[m]``.
        limits_m: The classes, see `HEIGHT_CLASSES`.

    Returns:
        Every class, in order.

    Raises:
        InputError: The lengths differ, or a height is impossible.

    Example:
        >>> recall_by_height_class([True, False, True], [6.0, 9.0, 50.0])["low"].recall
        0.5
    """
    hits, heights = binary_mask(found, "list of found buildings"), np.asarray(heights_m, dtype=np.float64)
    if hits.shape != heights.shape or hits.ndim != 1:
        raise InputError(f"found has shape {hits.shape}, heights {heights.shape}: expected one of each a building")
    names = np.array([height_class(float(height), limits_m) for height in heights], dtype=object)
    return {
        name: Recall(int(np.count_nonzero(hits & (names == name))), int(np.count_nonzero(names == name)))
        for name in limits_m
    }


def label_f1(labels: Sequence[npt.ArrayLike], truths: Sequence[npt.ArrayLike]) -> float:
    """Micro F1 of given labels against the true ones: what a perfect pupil of the labels would score.

    Args:
        labels: A mask a tile: bool or 0/1.
        truths: Likewise, in the same order.

    Raises:
        InputError: There are not as many of both, shapes differ, or values are not binary.

    Example:
        >>> label_f1([np.array([[1, 1, 0]])], [np.array([[0, 1, 1]])])
        0.5
    """
    if len(labels) != len(truths):
        raise InputError(f"there are {len(labels)} labels and {len(truths)} true ones: expected one of each a tile")
    counts = (
        count_pixels(binary_mask(label, "given label"), truth) for label, truth in zip(labels, truths, strict=True)
    )
    return sum(counts, PixelCounts()).f1


def _nearest(instances: npt.NDArray[np.integer], truth: npt.NDArray[np.bool_]) -> npt.NDArray[np.integer]:
    """The number of the nearest building on every pixel."""
    places = distance_transform_edt(~truth, return_distances=False, return_indices=True)
    return instances[tuple(places)]

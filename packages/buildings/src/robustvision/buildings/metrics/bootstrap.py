"""How sure a micro score is, when the tiles of one scene or block are no independent witnesses."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from robustvision.core.errors import InputError
from robustvision.core.evaluation import Interval, bootstrap_interval

from .pixel import PixelCounts

Score = Literal["f1", "iou"]
FALSE_WEIGHT = {"f1": 0.5, "iou": 1.0}
"""Both scores are TP / (TP + weight (FP + FN))."""


def block_bootstrap(
    counts: Sequence[PixelCounts],
    groups: Sequence[Hashable],
    score: Score = "f1",
    *,
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> Interval:
    """Percentile bootstrap interval of micro F1 or IoU, drawing whole groups of tiles.

    A draw without any building, true or predicted, scores 1.

    Args:
        counts: One a tile.
        groups: Scene, block or raster of each tile; neighbours belong to one.
        score: Which score.
        confidence: Coverage, between 0 and 1.
        resamples: Number of draws.
        seed: Of the draws.

    Returns:
        The interval around the score of all tiles; its ends are NaN if there is only one group, which tells nothing of
        others.

    Raises:
        InputError: There are no tiles, or not one group a tile.

    References:
        A. C. Davison, D. V. Hinkley, "Bootstrap Methods and their Application", 1997, section 3.8.

    Example:
        >>> tiles = [PixelCounts(tp=8, fp=2), PixelCounts(tp=6, fn=4), PixelCounts(tp=9, fp=1), PixelCounts(tp=5, fn=5)]
        >>> print(block_bootstrap(tiles, ["north", "north", "south", "south"]))
        0.8235 [0.8235, 0.8235]
    """
    if not counts or len(counts) != len(groups):
        raise InputError(f"there are {len(counts)} tiles and {len(groups)} groups: expected one group a tile")
    numbers = {group: number for number, group in enumerate(dict.fromkeys(groups))}
    sums = np.zeros((len(numbers), 2))
    pixels = np.array([(tile.tp, tile.fp + tile.fn) for tile in counts], dtype=np.float64)
    np.add.at(sums, [numbers[group] for group in groups], pixels)

    def statistic(drawn: npt.NDArray[np.float64], axis: int) -> npt.NDArray[Any]:
        tp, wrong = np.moveaxis(sums[drawn.astype(np.int64)].sum(axis=-2), -1, 0)
        below = tp + FALSE_WEIGHT[score] * wrong
        return np.where(below > 0, tp / np.where(below > 0, below, 1), 1.0)

    if len(numbers) == 1:
        return Interval(float(statistic(np.zeros(1), axis=-1)), math.nan, math.nan, confidence)
    return bootstrap_interval(np.arange(len(numbers)), statistic, confidence, resamples, seed)

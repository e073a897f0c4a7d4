"""Measures several predictors side by side on labelled pictures that nobody trained on.

A predictor turns a picture into probabilities. Rows sum up its pixels over all tiles (micro) and average its scores
over tiles (image-mean), by any condition that the tiles carry; every row of a model carries its hash.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy.typing as npt

from robustvision.buildings.data.tile import Tile
from robustvision.buildings.metrics import PixelCounts, block_bootstrap, count_pixels, image_mean_scores
from robustvision.buildings.pipeline import BuildingMapper
from robustvision.core.errors import InputError
from robustvision.core.evaluation import places_by_condition, predictor_stamps
from robustvision.core.runtime.progress import track
from robustvision.core.runtime.session import Model

Predictor = Callable[[Tile], npt.NDArray[Any]]


def model_predictor(model: Model) -> Predictor:
    """Return an exported network over tiles of any size.

    Args:
        model: The opened model.
    """
    mapper = BuildingMapper(model)
    return lambda tile: mapper.probabilities(tile.image)


@dataclass(frozen=True)
class BuildingEvaluation:
    """What several predictors reach on the same tiles.

    Attributes:
        tiles: The tiles.
        counts: Name of each predictor to its pixel counts on each tile.
        stamps: Name of each predictor to what its rows carry: version and hash.
    """

    tiles: tuple[Tile, ...]
    counts: Mapping[str, tuple[PixelCounts, ...]]
    stamps: Mapping[str, Mapping[str, str]]

    def rows(self, by: str = "") -> list[dict[str, Any]]:
        """Sum up.

        Args:
            by: A condition of the tiles, such as ``height_class``; empty for all together.

        Returns:
            A row for each predictor and value of the condition.

        Raises:
            InputError: A tile does not say the condition.
        """
        groups = places_by_condition(self.tiles, by)
        rows = []
        for name, counts in self.counts.items():
            for group, places in groups.items():
                chosen = [counts[place] for place in places]
                labels = [self.tiles[place].group or self.tiles[place].name for place in places]
                row = {"predictor": name} | ({by: group} if by else {}) | _scores(chosen, labels)
                rows.append(row | dict(self.stamps[name]))
        return rows


def evaluate_tiles(
    predictors: Mapping[str, Predictor],
    tiles: Sequence[Tile],
    *,
    hashes: Mapping[str, str] | None = None,
    quiet: bool = False,
) -> BuildingEvaluation:
    """Run predictors over tiles and count pixels.

    Args:
        predictors: Name to predictor.
        tiles: Labelled pictures.
        hashes: Name to the hash of its model.
        quiet: No progress.

    Returns:
        The counts.

    Raises:
        InputError: There are no tiles.
    """
    if not tiles:
        raise InputError("there are no tiles to evaluate on: give a data set that holds some")
    counts: dict[str, list[PixelCounts]] = {name: [] for name in predictors}
    for tile in track(tiles, "evaluating", quiet=quiet):
        for name, predict in predictors.items():
            counts[name].append(count_pixels(predict(tile), tile.label, tile.valid))
    stamps = predictor_stamps("robustvision-buildings", predictors, hashes)
    return BuildingEvaluation(tuple(tiles), {name: tuple(each) for name, each in counts.items()}, stamps)


def _scores(counts: Sequence[PixelCounts], groups: Sequence[str]) -> dict[str, Any]:
    total = sum(counts[1:], start=counts[0])
    interval = block_bootstrap(counts, groups)
    means = image_mean_scores(counts)
    return {
        "f1": total.f1,
        "f1_low": interval.low,
        "f1_high": interval.high,
        "iou": total.iou,
        "precision": total.precision,
        "recall": total.recall,
        "background_iou": total.background_iou,
        "image_mean_f1": means.f1,
        "image_mean_iou": means.iou,
        "tiles": len(counts),
    }

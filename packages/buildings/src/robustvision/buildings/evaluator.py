"""The bridge from mmengine's validation loop to ``metrics``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mmengine.evaluator import BaseMetric

from robustvision.buildings.metrics import THRESHOLD, PixelCounts


class BuildingMetric(BaseMetric):
    """F1, IoU, precision and recall of the building class, from the counts of all validation pixels (micro)."""

    default_prefix = "val"

    def process(self, data_batch: dict[str, Any], data_samples: Sequence[dict[str, Any]]) -> None:
        """Count the pixels of one batch; the counts gather over processes."""
        for sample in data_samples:
            prediction = sample["probability"] >= THRESHOLD
            label, valid = sample["label"] >= THRESHOLD, sample["valid"] > 0
            hit, found, true = prediction & label & valid, prediction & valid, label & valid
            self.results.append(tuple(int(mask.sum()) for mask in (hit, found, true, valid)))

    def compute_metrics(self, results: list[tuple[int, int, int, int]]) -> dict[str, float]:
        """Sum up all pixels."""
        hit, found, true, valid = (sum(column) for column in zip(*results, strict=True))
        counts = PixelCounts(tp=hit, fp=found - hit, fn=true - hit, tn=valid - found - true + hit)
        return {name: float(getattr(counts, name)) for name in ("f1", "iou", "precision", "recall")}

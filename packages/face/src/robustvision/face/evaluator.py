"""The bridge from mmengine's validation loop to ``metrics``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from mmengine.evaluator import BaseMetric

from robustvision.face.metrics import verification_metrics


class VerificationMetric(BaseMetric):
    """True accept rates over all pairs of the validation images.

    Args:
        fars: False accept rates at which to read the true accept rate.
    """

    default_prefix = "val"

    def __init__(self, fars: Sequence[float] = (1e-2, 1e-3)) -> None:
        super().__init__()
        self.fars = tuple(fars)

    def process(self, data_batch: dict[str, Any], data_samples: Sequence[dict[str, Any]]) -> None:
        """Keep the embeddings of one batch, as plain arrays that gather over processes."""
        self.results += [(sample["embedding"].float().cpu().numpy(), int(sample["label"])) for sample in data_samples]

    def compute_metrics(self, results: list[tuple[np.ndarray, int]]) -> dict[str, float]:
        """Score all pairs."""
        embeddings, labels = zip(*results, strict=True)
        return verification_metrics(np.stack(embeddings), np.asarray(labels), self.fars)

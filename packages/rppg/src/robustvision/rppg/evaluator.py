"""The bridge from mmengine's validation loop to the protocol and ``metrics``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from mmengine.evaluator import BaseMetric

from robustvision.rppg.metrics import pulse_metrics
from robustvision.rppg.protocol import FINE_GRID, Protocol

SHOWN = ("mae", "rmse", "rho", "snr_db", "macc", "coverage")


class PulseMetric(BaseMetric):
    """Errors of the heart rates over the validation windows.

    Args:
        fs: Frames a second.
        protocol: How heart rates are read, a ``Protocol`` or its fields; windows of seconds need a fine grid.
    """

    default_prefix = "val"

    def __init__(self, fs: float = 30.0, protocol: Protocol | dict[str, Any] = FINE_GRID) -> None:
        super().__init__()
        self.fs, self.protocol = fs, protocol if isinstance(protocol, Protocol) else Protocol(**protocol)

    def process(self, data_batch: dict[str, Any], data_samples: Sequence[dict[str, Any]]) -> None:
        """Keep the waves of one batch, as plain arrays that gather over processes."""
        self.results += [
            tuple(sample[name].float().cpu().numpy() for name in ("prediction", "bvp")) for sample in data_samples
        ]

    def compute_metrics(self, results: list[tuple[np.ndarray, np.ndarray]]) -> dict[str, float]:
        """Read all windows."""
        readings = [reading for waves in results for reading in self.protocol.read(*waves, self.fs)]
        measured = pulse_metrics(readings).row()
        return {name: float(measured[name]) for name in SHOWN}

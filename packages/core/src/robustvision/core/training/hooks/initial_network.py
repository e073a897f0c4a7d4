"""The weights that a run begins with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mmengine.hooks import Hook

from robustvision.core.training.checkpoints import load_weights
from robustvision.core.training.hooks.freeze import trained_network


class InitialNetworkHook(Hook):
    """Begin with another run's network: all of it, the running statistics of batch norm included.

    The rest of the model, such as a loss with a memory, begins anew; so does the optimiser.

    Args:
        weights: The state dict of a model's ``network``.
    """

    priority = "VERY_HIGH"

    def __init__(self, weights: str | Path) -> None:
        self.weights = str(weights)

    def before_train(self, runner: Any) -> None:
        """Load it, unless the run goes on with an earlier one.

        Raises:
            InputError: The file cannot be read, or does not fit.
        """
        if not runner.is_resuming:
            load_weights(trained_network(runner), self.weights)

"""The hooks of a training run, one idea a file; :mod:`robustvision.core.training.defaults` puts them into every recipe.

In the order in which they see a step: seeds (before it), the loss over all processes, the guard against a loss that is
not finite, EMA (mmengine's own), the log, the schedules (mmengine's own), the checkpoint, the progress bar, early
stop. What adaptation adds: initial weights, frozen parts, gradual fine-tuning.
"""

from robustvision.core.lazy import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)

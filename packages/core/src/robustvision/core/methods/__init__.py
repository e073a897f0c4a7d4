"""Methods that are more than a loss or a layer: a training schedule, a calibration, a data regime.

``sdm`` trains the SDM layer, ``sdm_calibration`` turns its numbers into an admission with a stated accuracy,
``sdm_head`` joins both into one module and exports it as a rejection head.

``self_training`` learns from unlabelled samples of a nearby distribution by robust losses and pseudo-labels (RSS), and
``linear_self_training`` does so for linear classifiers, in closed form. ``modular_arithmetic`` is a task with corrupted
labels in which memorising and generalising can be told apart.

``robustness_card`` measures what a loss over classes promises; ``examined_loss``, ``loss_behaviour``,
``comp_sum_member`` and ``loss_dtypes`` are its parts.
"""

from robustvision.core.lazy import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)

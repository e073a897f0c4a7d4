"""Layers that the domains share: each is a module that goes into a network, and knows no domain.

``batchformer`` lets the samples of a batch look at one another while training, and vanishes afterwards. ``sdm`` holds
the layer that measures how well the training data speak for a prediction.
"""

from robustvision.core.lazy import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)

"""Building data: readers, splits and the training set; every one yields `Tile`s."""

from robustvision.core.lazy import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)

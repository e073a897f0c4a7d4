"""Buildings from off-nadir imagery: adaptation from misaligned to clean labels, and rasters to polygons."""

from robustvision.core.lazy import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)

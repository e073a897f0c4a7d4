"""Rasters: read by windows, run through a model, written as probabilities; no torch."""

from robustvision.core.lazy import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)

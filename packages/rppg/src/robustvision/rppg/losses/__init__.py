"""Losses over pulse waves: correlation in time, power and distributions over heart rates, and their dynamic sum.

Each is a pure function, batched and with float32 spectra under autocast, and a thin module. Predictions and references
are waves [B, T]; a loss does not depend on their offset and scale. Every value and gradient is finite, also for a
constant wave.
"""

from robustvision.core.lazy import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)

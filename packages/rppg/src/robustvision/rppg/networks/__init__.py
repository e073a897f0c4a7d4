"""Pulse networks: face crops in, a blood volume pulse (BVP) out.

Every network takes RGB frames [B, 3, T, S, S] with values 0 to 255, uint8 or floating point, never standardised, forms
differences and scales inside (so that the exported file does too), and returns one number a frame, [B, T], in units of
its own: normalise a clip before reading it. T is a multiple of 4, except for a causal network, which takes any.
"""

from robustvision.core.lazy import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)

"""Nine segmentation losses behind one interface: ``loss(logits, target, valid=None)`` on [B, 1, H, W], a scalar.

All take logits, hard or soft targets in 0..1 (Lovasz cuts them at 0.5), and a mask of the pixels that count. Sums run
over batch and pixels together, in float32 at least. ``LOSSES`` has them by name.
"""

from robustvision.core.lazy import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)

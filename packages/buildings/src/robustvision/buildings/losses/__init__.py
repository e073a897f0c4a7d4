"""Nine losses over building maps behind one interface: ``loss(logits, target, *, valid=None)`` to a scalar.

Logits and target are [B, 1, H, W]; the target is hard (0 and 1) or soft (a teacher's probabilities). Pixels that are
not ``valid`` count nowhere and get no gradient, whatever they hold. Sums are over the batch AND the pixels, in float32
at least, also under autocast. Each loss is a pure function and a thin module; ``LOSSES`` has the modules by name.
"""

from robustvision.core.lazy import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)

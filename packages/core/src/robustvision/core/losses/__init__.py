"""Robust losses: every loss is a pure function and a thin module, and knows no domain.

The margin family works on cosines. A ``CosineHead`` owns the class centres and turns embeddings into cosines; a loss
takes cosines and labels. ``-1`` as a label means "no class known": the sample is ignored.

``cosine_head`` holds the head, ``margin`` the losses that end in a cross-entropy, ``sface`` and ``sface_auto`` the
sigmoid-constrained loss and the automatic choice of its shifts, ``labels`` the checks and reductions that all share.
"""

from robustvision.core.lazy import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)

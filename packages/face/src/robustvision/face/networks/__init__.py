"""Face networks: aligned crops in, raw embeddings out.

Every network takes RGB [B, 3, 112, 112] with values 0 to 255, normalises inside (so that the exported file does too),
and returns raw embeddings [B, d], not of unit length. Every constructor is ``Net(embedding_size=...,
normalisation=...)``, with a ``depth`` only where a family has several.
"""

from robustvision.core.lazy import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)

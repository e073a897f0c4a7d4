"""What a figure is worth: intervals, paired tests, ROC figures with honest limits, and studies that judge claims.

A value comes from somewhere (a metric of a domain, a run of a study); here it gets its interval (``intervals``,
``student``), is compared with another (``paired``, ``claims``), or is made from scores (``roc``, ``verification``)
or embeddings (``novel_classes``). ``study`` runs a grid of cells times seeds and keeps every run as a file
(``records``, ``results``); ``tuning`` gives every method the same budget.

No torch anywhere; ``intervals``, ``paired``, ``roc``, ``verification`` and ``novel_classes`` need numpy alone, the
others scipy as well.
"""

from robustvision.core.lazy import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)

"""What every domain does to its data: label noise with the truth kept, image corruptions, readers of public formats.

Numpy and OpenCV only, so it loads without torch.
"""

from robustvision.core.lazy import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)

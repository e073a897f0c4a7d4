"""Face recognition that survives mislabelled data: SFace, from images to an ONNX file that runs without torch."""

from robustvision.core.lazy import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)

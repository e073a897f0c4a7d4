"""Segmentation networks: the grid of segmentation-models-pytorch, U-Net3+, and a narrow U-Net for the CPU."""

from robustvision.core.lazy import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)

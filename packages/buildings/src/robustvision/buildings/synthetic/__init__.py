"""Rendered off-nadir scenes with exact truth.

A district (``district``) has its streets and buildings laid out in metres (``layout``), painted as surfaces with depth
(``surfaces``, ``raster``) under sun and camera (``render``). ``source`` makes data sets of it, ``label_noise`` the
misaligned labels that a map would give, ``city`` one large scene with its files, and ``tree`` writes scenes in the
layouts of real data sets. No torch in here.

These scenes serve to show that the code works and to compare methods. What is measured on them is no result on a real
data set.
"""

from robustvision.core.lazy import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)

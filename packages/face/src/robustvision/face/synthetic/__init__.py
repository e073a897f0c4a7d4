"""Rendered faces: as many people as wanted, in pictures that are hard for the right reasons. No torch in here.

A person is a point of a space of traits (``identity``), which shapes and colours a head (``surface``, ``paint``). What
differs between two pictures of one person (``nuisance``: pose, light, expression, things worn, camera) is drawn
independently and changes more pixels than the person does. ``render`` puts both together, with the five landmarks of
the drawing; ``source`` makes data sets of it, ``tree`` writes them to disk.

These faces serve to show that the code works and to compare methods. No model trained on them knows real faces.
"""

from robustvision.core.lazy import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)

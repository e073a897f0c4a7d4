"""Rendered films of faces with a beating heart: the physics of skin, light and camera, and the truth about the pulse.

A heart (``pulse``) changes the colour of a person's skin (``skin``, ``paint``) on a head that moves (``motion``,
``head``) under lamps (``light``) before a camera (``camera``); ``scene`` renders that, ``scenarios`` holds every
amplitude. ``source`` makes data sets of it, ``film`` and ``tree`` write them as films and in the layouts of real sets,
and ``realism`` checks that classical methods find and lose the pulse as they do in real films. No torch in here.

These films serve to show that the code works and to compare methods. What is measured on them is no clinical result and
no result on a real data set.
"""

from robustvision.core.lazy import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)

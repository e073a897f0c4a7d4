"""The edge half: run exported models, read photos and films, find faces. numpy, onnxruntime and OpenCV, nothing else.

``open_model`` opens what robustvision exported and checks it against its own manifest; ``read_image`` and
``open_video`` bring pictures in, always as upright RGB; ``FaceDetector`` finds the faces in them; ``run_ordered``
spreads work over processes. Training, export and every domain's knowledge live elsewhere.
"""

from robustvision.core.lazy import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)

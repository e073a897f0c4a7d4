"""The core that every robustvision package shares; it knows no domain.

``losses``, ``training``, ``export``, ``evaluation`` and ``report`` are the training half and need the extra
``[train]``; ``runtime`` runs exported models with numpy, OpenCV and onnxruntime alone.
"""

__version__ = "0.1.0"

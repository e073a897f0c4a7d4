"""Face data: every reader and the renderer yield the same sample, so nothing behind them knows which one it got.

The sample is a dict, as mmengine's contract asks:

- ``"image"``: uint8 tensor [3, 112, 112], RGB, an aligned crop in raw 0..255 (the network normalises);
- ``"label"``: int, 0 <= label < num_classes, what training is told;
- ``"index"``: int, place in the data set; the truth about it is in the data set's ``clean_labels`` and ``is_noisy``.

``FaceDataset`` wraps a source (``FaceArrays`` in memory, ``FaceFiles`` on disk, ``SyntheticFaces``) and augments
without a state. ``check`` says what is wrong with a folder or a list before a training run does.
"""

from robustvision.core.lazy import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)

"""Pulse data: every reader and the renderer yield `Recording`s, so nothing behind them knows which one it got.

``prepare_clips`` turns recordings into `Clip`s: one face crop a frame, on a uniform grid of times made from the frames'
own timestamps. ``PulseDataset`` cuts windows from clips. Its sample is a dict, as mmengine's contract asks:

- ``"frames"``: uint8 tensor [3, T, S, S], RGB, raw 0..255 (the network takes its own differences);
- ``"bvp"``: float32 tensor [T], the reference pulse wave, upstroke positive, mean 0 and standard deviation 1;
- ``"heart_rate_bpm"``: float32 tensor [], from the beats where they are known, else from a fine spectrum of the label;
- ``"index"``: int, place in the data set; ``PulseDataset.windows`` says which clip and frame that is.

A frame without a face and a label that does not reach are states of their own, never a guess: such windows are left out
and counted.
"""

from robustvision.core.lazy import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)

"""What every pulse model file has in common: the task, its two graphs with their tensors, and the manifest's word on
preprocessing. No torch in here.

``window`` maps a whole stretch of film to its wave. ``stream`` maps the next frames, or one, and the caches of those
before to as many values and the next caches: its tensors beside ``frame`` and ``bvp`` are states, named by whoever
exports it. A model has one of the two or both.
"""

from __future__ import annotations

import math
from typing import Any

from robustvision.core.errors import ModelError
from robustvision.rppg.preprocessing import Preprocessing

TASK = "heart-rate"
WINDOW_GRAPH, STREAM_GRAPH = "window", "stream"
FRAMES, FRAME, BVP = "frames", "frame", "bvp"
WINDOW_FRAMES = 160
T_MULTIPLE = 4
"""The frames of a window are a multiple of it."""

DESCRIPTIONS = {
    FRAMES: "RGB face crops [batch, channel, time, y, x], 0..255; time is a multiple of 4",
    FRAME: "the next RGB face crops, or one [batch, channel, time, y, x], 0..255",
    BVP: "blood volume pulse [batch, time], upstroke positive, of any offset and scale: z-score it",
}


def preprocessing(settings: Preprocessing) -> dict[str, Any]:
    """Return what a manifest says about the input.

    Args:
        settings: The crop and the grid that the network was trained with.
    """
    return {
        "size": settings.size_px,
        "colour": "RGB",
        "range": [0, 255],
        "layout": "NCTHW",
        "fs": settings.fs,
        "enlarge": settings.enlarge,
        "crop": "face box enlarged about its centre, edges rounded, cut at the picture's border, resized by area",
        "time": "linear interpolation of crops onto the grid of fs, by timestamps",
        "normalisation": "inside the graph",
    }


def read_preprocessing(entry: dict[str, Any], origin: str) -> Preprocessing:
    """Read back what `preprocessing` wrote.

    Args:
        entry: The manifest's ``preprocessing``.
        origin: The model, for the error message.

    Raises:
        ModelError: Size, enlargement or rate are missing or out of range.
    """
    values = [entry.get(name) for name in ("size", "enlarge", "fs")]
    if not all(isinstance(value, int | float) and math.isfinite(value) for value in values):
        raise ModelError(f"{origin}: its manifest gives size, enlarge and fs as {values}: export the model again")
    try:
        return Preprocessing(int(entry["size"]), float(entry["enlarge"]), float(entry["fs"]))
    except ValueError as error:
        raise ModelError(f"{origin}: its manifest's preprocessing cannot be used: {error}") from error

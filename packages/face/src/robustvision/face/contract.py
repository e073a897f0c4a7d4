"""What every face model file has in common: the task, the input that OpenCV's ``FaceRecognizerSF`` also expects, the
manifest's word on preprocessing, and the input of the self-test. No torch in here."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from robustvision.face.alignment import TEMPLATE_112

TASK = "face-recognition"
CROP_PX = 112
INPUT, RAW_OUTPUT, UNIT_OUTPUT = "data", "fc1", "embedding"
DESCRIPTIONS = {
    INPUT: "aligned RGB crops [batch, channel, y, x], 0..255",
    RAW_OUTPUT: "embeddings [batch, d], of any length: normalise before comparing",
    UNIT_OUTPUT: "embeddings [batch, d], unit vectors",
}


def preprocessing(normalisation: str) -> dict[str, Any]:
    """Return what a manifest says about the input.

    Args:
        normalisation: What the graph does with the pixel values, in words; the caller does nothing.
    """
    return {
        "size": CROP_PX,
        "colour": "RGB",
        "range": [0, 255],
        "layout": "NCHW",
        "normalisation": normalisation,
        "alignment": "least-squares similarity, bilinear, black border",
        "template": TEMPLATE_112.tolist(),
        "landmarks": "image-left eye, image-right eye, nose, image-left mouth corner, image-right mouth corner",
    }


def self_test_crop() -> npt.NDArray[np.float32]:
    """Return the fixed input of the self-test, [1, 3, 112, 112] in 0..255.

    Each channel is another pattern, so that swapped colours, swapped axes or a second normalisation are seen.
    """
    y, x = np.mgrid[0:CROP_PX, 0:CROP_PX].astype(np.float32)
    scale = 255 / (CROP_PX - 1)
    channels = np.stack([x * scale, y * scale, 127.5 + 127.5 * np.sin((x + 2 * y) / 9)])
    return channels[None].round().astype(np.float32)

"""Pictures as data URIs."""

from __future__ import annotations

import base64
import io
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure

from robustvision.core.errors import InputError

_LARGEST_PNG = 512 * 512  # pixels; a larger picture is a photo, and its PNG would make a heavy page
_JPEG_QUALITY = 92


def encode_picture(image: npt.NDArray[Any], name: str = "picture") -> str:
    """An image as a data URI: PNG, which keeps every value, up to 512 x 512 pixels, and JPEG above.

    Args:
        image: RGB ``[h, w, 3]`` or grey ``[h, w]``, uint8.
        name: What to call it in the error.

    Returns:
        ``data:image/png;base64,...`` or ``data:image/jpeg;base64,...``.

    Raises:
        InputError: If it is anything else.
    """
    image = np.asarray(image)
    is_picture = image.ndim == 2 or (image.ndim == 3 and image.shape[2] == 3)
    if not is_picture or image.size == 0 or image.dtype != np.uint8:
        raise InputError(
            f"{name} has shape {image.shape} and dtype {image.dtype}: expected uint8, RGB [h, w, 3] or grey [h, w]"
        )
    bgr = image if image.ndim == 2 else image[..., ::-1]
    is_small = image.shape[0] * image.shape[1] <= _LARGEST_PNG
    suffix, options = (".png", []) if is_small else (".jpg", [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
    _, data = cv2.imencode(suffix, np.ascontiguousarray(bgr), options)
    return _data_uri("image/png" if is_small else "image/jpeg", data.tobytes())


def encode_figure(figure: Figure) -> str:
    """A matplotlib figure, with its own colours, as a data URI.

    Args:
        figure: The figure.

    Returns:
        ``data:image/png;base64,...``
    """
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=160, bbox_inches="tight", facecolor="white", metadata={"Software": None})
    return _data_uri("image/png", stream.getvalue())


def _data_uri(kind: str, data: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode('ascii')}"

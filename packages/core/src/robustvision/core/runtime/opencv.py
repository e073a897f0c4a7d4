"""OpenCV, imported once with the settings that files from strangers ask for.

``cv2`` reads its limits from the environment when it is imported, so the runtime imports it from here and nowhere else.
Values that the user has set are left alone.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

MAX_DECODED_PIXELS = 2**28
"""The largest image that OpenCV may decode, a second wall behind `read_image`'s own limit."""

os.environ.setdefault("OPENCV_IO_MAX_IMAGE_PIXELS", str(MAX_DECODED_PIXELS))
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # FFmpeg's own lines on stderr; our errors say what is wrong

import cv2 as cv2  # noqa: E402 - after its settings

_LOG: Any = cv2 if hasattr(cv2, "setLogLevel") else cv2.utils.logging  # OpenCV 4 keeps it at the top
_SILENT = 0

__all__ = ["MAX_DECODED_PIXELS", "cv2", "quiet_opencv"]


@contextmanager
def quiet_opencv() -> Iterator[None]:
    """Keep OpenCV's log off stderr where a failure becomes an error of ours."""
    before = _LOG.getLogLevel()
    _LOG.setLogLevel(_SILENT)
    try:
        yield
    finally:
        _LOG.setLogLevel(before)

"""Recordings written as films: H.264 as from a phone, MJPEG as from a webcam, or without loss."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path
from types import MappingProxyType
from typing import Any

from robustvision.core.errors import InputError, MissingExtraError
from robustvision.core.runtime.files import write_atomically
from robustvision.rppg.data.recording import Recording

_CODECS: Mapping[str, tuple[str, str]] = MappingProxyType(
    {"h264": ("libx264", "yuv420p"), "mjpeg": ("mjpeg", "yuvj420p"), "raw": ("rawvideo", "bgr24")}
)
_MICROSECOND = Fraction(1, 1_000_000)


def write_film(recording: Recording, path: str | Path, *, codec: str = "h264", quality: int = 23) -> Path:
    """Write the frames of a recording, each with its own time, as far as the container knows any.

    Args:
        recording: What to write; even width and height for ``h264`` and ``mjpeg``.
        path: ``.mp4`` or ``.mkv`` (``h264``), ``.avi`` (``mjpeg``, ``raw``; frames are then evenly spaced).
        codec: ``h264``, ``mjpeg``, or ``raw`` for no loss at all.
        quality: Of ``h264`` the constant rate factor: 0 keeps nearly everything, 51 hardly anything. Of ``mjpeg`` the
            quantiser, 2 (best) to 31.

    Returns:
        The path.

    Raises:
        InputError: An unknown codec, or frames with odd sides.
        MissingExtraError: PyAV is not installed.
    """
    if codec not in _CODECS:
        raise InputError(f"codec is {codec!r}; choose h264, mjpeg or raw")
    try:
        import av
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            "writing films needs PyAV: pip install 'robustvision-rppg[video]'", name="av"
        ) from error
    name, pixels = _CODECS[codec]
    rate = Fraction((len(recording.timestamps_s) - 1) / recording.duration_s).limit_denominator(1001)
    with write_atomically(path) as place, av.open(str(place), "w", format=_container(path)) as film:
        stream: Any = film.add_stream(name, rate=rate, options=_options(codec, quality))
        stream.pix_fmt = pixels
        clock = _MICROSECOND if codec == "h264" else 1 / rate
        stream.codec_context.time_base = clock
        for index, (time_s, image) in enumerate(zip(recording.timestamps_s, recording.frames(), strict=True)):
            if index == 0:
                stream.height, stream.width = image.shape[:2]
                if codec != "raw" and (image.shape[0] % 2 or image.shape[1] % 2):
                    raise InputError(f"{codec} needs even sides, the frames are {image.shape[1]}x{image.shape[0]}")
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts = round(Fraction(float(time_s - recording.timestamps_s[0])) / clock)
            frame.time_base = clock
            film.mux(stream.encode(frame))
        film.mux(stream.encode(None))
    return Path(path)


def _container(path: str | Path) -> str:
    known = {".mp4": "mp4", ".mkv": "matroska", ".avi": "avi"}
    suffix = Path(path).suffix.lower()
    if suffix not in known:
        raise InputError(f"{path}: films are written as {', '.join(known)}")
    return known[suffix]


def _options(codec: str, quality: int) -> dict[str, str]:
    if codec == "h264":
        return {"crf": str(quality), "preset": "veryfast"}
    return {"qmin": str(quality), "qmax": str(quality)} if codec == "mjpeg" else {}

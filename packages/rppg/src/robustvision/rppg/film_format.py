"""How a film file is compressed, as its container states it, and whether its times are its own. Needs PyAV."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from robustvision.core.errors import InputError, MissingExtraError

WITHOUT_TIMES = frozenset({"avi", "h264", "hevc", "mjpeg", "m4v", "rawvideo", "yuv4mpegpipe", "ivf"})
"""Containers that state a frame rate instead of a time for each frame."""

_HDR_CURVES = frozenset({16, 18})  # ITU-T H.273 transfer characteristics: PQ and HLG


@dataclass(frozen=True)
class FilmFormat:
    """What a film file says about itself.

    Attributes:
        container: FFmpeg's name of the container, such as ``mov,mp4,m4a,3gp,3g2,mj2``.
        codec: Such as ``h264`` or ``mjpeg``.
        pixel_format: FFmpeg's name, such as ``yuv420p``.
        chroma: ``4:2:0``, ``4:2:2``, ``4:4:4``, ``4:4:0``, ``4:1:1``, ``rgb`` or ``grey``; ``?`` for others.
        bits: Bits of a sample.
        bits_per_s: Bit rate of the pictures alone, or of the whole file where they state none; None where unknown.
        has_times: Whether each frame has a time of its own.
        is_hdr: Whether the brightness curve is that of HDR film.
    """

    container: str
    codec: str
    pixel_format: str
    chroma: str
    bits: int
    bits_per_s: float | None
    has_times: bool
    is_hdr: bool


def read_format(path: str | Path) -> FilmFormat:
    """Read the format of the first video stream; no frame is decoded.

    Args:
        path: A video file.

    Returns:
        What it says.

    Raises:
        MissingExtraError: PyAV is not installed.
        InputError: FFmpeg cannot open the file, or it holds no video.
    """
    try:
        import av
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            "the codec of a film is read with PyAV: pip install 'robustvision-rppg[video]'", name="av"
        ) from error
    try:
        with av.open(str(Path(path).resolve())) as container:
            if not container.streams.video:
                raise InputError(f"{path} holds no video: give a film")
            stream = container.streams.video[0]
            codec = stream.codec_context
            name, pixels = container.format.name, codec.format
            seconds = container.duration / av.time_base if container.duration else None
            whole = 8 * container.size / seconds if seconds and container.size > 0 else None
            return FilmFormat(
                container=name,
                codec=codec.name,
                pixel_format=pixels.name if pixels else "?",
                chroma=_chroma(pixels) if pixels else "?",
                bits=max((component.bits for component in pixels.components), default=8) if pixels else 8,
                bits_per_s=float(stream.bit_rate) if stream.bit_rate else whole,
                has_times=name not in WITHOUT_TIMES,
                is_hdr=codec.color_trc in _HDR_CURVES,
            )
    except av.FFmpegError as error:
        raise InputError(f"{path} cannot be opened by FFmpeg ({error.strerror}): convert it to MP4") from error


def _chroma(pixels: Any) -> str:
    if pixels.is_rgb:
        return "rgb"
    if len(pixels.components) < 3:
        return "grey"
    luma, chroma = pixels.components[:2]
    across, down = round(luma.width / max(chroma.width, 1)), round(luma.height / max(chroma.height, 1))
    kinds = {(1, 1): "4:4:4", (2, 1): "4:2:2", (2, 2): "4:2:0", (1, 2): "4:4:0", (4, 1): "4:1:1"}
    return kinds.get((across, down), "?")

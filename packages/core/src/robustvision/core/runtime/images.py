"""Reading photos as people have them, always to the same thing (RGB, uint8, upright), and writing such pictures.

What a decoder does in silence is made explicit here: transparency is laid on white, 16 bits become 8 by the full range,
the turn that a camera noted is applied, an animation gives its first frame, a torn file is refused.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from robustvision.core.errors import InputError
from robustvision.core.runtime.files import write_atomically
from robustvision.core.runtime.image_header import ImageHeader, image_kind, read_header
from robustvision.core.runtime.opencv import MAX_DECODED_PIXELS, cv2, quiet_opencv

MAX_PIXELS = 100_000_000
"""The default limit of `read_image`: 300 MB as RGB."""

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".bmp", ".gif"})

Image = npt.NDArray[np.uint8]
Stored = npt.NDArray[np.integer[Any] | np.floating[Any]]
ImageSource = str | os.PathLike[str] | bytes


def read_image(source: ImageSource, *, max_pixels: int = MAX_PIXELS) -> Image:
    """Read an image file (JPEG, PNG, WebP, TIFF, BMP, GIF).

    - The EXIF orientation is applied.
    - Transparency is composited on white.
    - 16-bit samples are divided by 257, so that 0 stays 0 and 65535 becomes 255. A depth or thermal picture that uses
      a small part of the range comes out dark: stretch it first.
    - Grey, palette and CMYK become RGB.
    - An animation (GIF, WebP, APNG) or a TIFF of several pages gives its first frame.

    Args:
        source: A path, or the file's bytes.
        max_pixels: Refuse a larger image before decoding; at most ``MAX_DECODED_PIXELS`` (2**28).

    Returns:
        The image, uint8 [H, W, 3], RGB.

    Raises:
        InputError: The file is missing, empty, a folder, of an unknown type, damaged, cut short, too large, or holds
            floats or signed numbers.
    """
    data, name = _read_bytes(source)
    header = read_header(data, name)
    _check_size(header, name, max_pixels)
    image = _to_rgb(_to_8_bit(_decode(data, name), header), header)
    return image if header.kind == "tiff" else _turn(image, header.orientation)  # OpenCV turns a TIFF itself


def write_image(path: str | os.PathLike[str], image: Image, *, jpeg_quality: int = 95) -> None:
    """Write a picture; it appears complete or not at all.

    Args:
        path: The file; its suffix chooses the format (``.png``, ``.jpg``, ``.webp``, ``.bmp``, ``.tif``).
        image: The picture, uint8 [H, W, 3], RGB.
        jpeg_quality: 1 to 100, for JPEG.

    Raises:
        InputError: The array is no such picture, the suffix is no format, or the folder cannot be written to.
    """
    image = np.asarray(image)
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
        raise InputError(f"{path}: got {image.dtype} {image.shape}, but a picture is uint8 [H, W, 3], RGB")
    suffix = Path(path).suffix.lower()
    try:
        bgr = cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_RGB2BGR)
        options = [cv2.IMWRITE_JPEG_QUALITY, jpeg_quality] if suffix in (".jpg", ".jpeg") else []
        encoded, data = cv2.imencode(suffix, bgr, options)
    except cv2.error as error:
        raise InputError(f"{path}: OpenCV writes no {suffix or 'file without a suffix'}: use .png or .jpg") from error
    if not encoded:
        raise InputError(f"{path}: the picture cannot be written as {suffix}: use .png")
    with write_atomically(path) as place:
        place.write_bytes(data.tobytes())


def image_size(source: ImageSource) -> tuple[int, int]:
    """Read an image's size from its header, without decoding it.

    Args:
        source: A path, or the file's bytes.

    Returns:
        Width and height in pixels, after the turn that the EXIF orientation asks for: those of `read_image`'s result.

    Raises:
        InputError: As for `read_image`, as far as the header shows it.
    """
    return read_header(*_read_bytes(source)).upright_size


def list_images(folder: str | os.PathLike[str]) -> list[Path]:
    """List the image files of a folder in the order that a person expects: ``2.png`` before ``10.png``.

    Args:
        folder: The folder. Files directly in it are chosen by suffix; hidden ones are left out.

    Returns:
        Their paths.

    Raises:
        InputError: It is not a folder, or holds no image.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder: give a folder of images")
    images = [
        path
        for path in folder.iterdir()
        if path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".") and path.is_file()
    ]
    if not images:
        raise InputError(f"{folder} holds no images ({', '.join(sorted(IMAGE_SUFFIXES))})")
    return sorted(images, key=_natural_key)


def _natural_key(path: Path) -> tuple[list[tuple[int, str]], str]:
    pieces = re.split(r"(\d+)", path.name.lower())
    return [(int(piece), "") if piece.isdecimal() else (-1, piece) for piece in pieces], path.name


def _read_bytes(source: ImageSource) -> tuple[bytes, str]:
    if isinstance(source, (bytes, bytearray, memoryview)):
        data, name = bytes(source), "the image"
    else:
        name = os.fspath(source)
        try:
            with open(source, "rb") as file:
                data = file.read(16)
                if image_kind(data):  # a film given by mistake is not read whole
                    data += file.read()
        except (OSError, ValueError) as error:
            raise InputError(f"cannot read {name}: {getattr(error, 'strerror', None) or error}") from error
    if not data:
        raise InputError(f"{name} is empty: copy it again")
    return data, name


def _check_size(header: ImageHeader, name: str, max_pixels: int) -> None:
    pixels, limit = header.width_px * header.height_px, min(max_pixels, MAX_DECODED_PIXELS)
    if pixels > limit:
        raise InputError(
            f"{name} has {header.width_px}x{header.height_px} pixels, more than the {limit:,} allowed: "
            "make it smaller, or pass a larger max_pixels (up to 2**28)"
        )


def _decode(data: bytes, name: str) -> Stored:
    """Decode as stored: all channels and bits, no turn (but for TIFF, which OpenCV always turns)."""
    try:
        with quiet_opencv():
            decoded = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error as error:
        raise InputError(
            f"OpenCV {cv2.__version__} cannot decode {name} ({error.err}): copy or convert it again"
        ) from error
    if decoded is None:
        raise InputError(
            f"{name} is damaged or cut short, and OpenCV {cv2.__version__} cannot decode it: copy or convert it again"
        )
    return decoded


def _to_8_bit(decoded: Stored, header: ImageHeader) -> Image:
    if header.is_inverted:
        decoded = np.invert(np.asarray(decoded, np.uint16))
    if decoded.dtype == np.uint16:
        return np.asarray(cv2.convertScaleAbs(decoded, alpha=1 / 257), np.uint8)
    return np.asarray(decoded, np.uint8)


def _to_rgb(decoded: Image, header: ImageHeader) -> Image:
    if decoded.ndim == 2:
        return np.asarray(cv2.cvtColor(decoded, cv2.COLOR_GRAY2RGB), np.uint8)
    if decoded.shape[2] == 3:
        return np.asarray(cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB), np.uint8)
    rgba = np.asarray(cv2.cvtColor(decoded, cv2.COLOR_BGRA2RGBA), np.uint8)
    if not header.has_alpha:
        return np.ascontiguousarray(rgba[..., :3], np.uint8)
    colour, alpha = rgba[..., :3].astype(np.uint16), rgba[..., 3:].astype(np.uint16)
    if not header.is_premultiplied:
        colour = (colour * alpha + 127) // 255
    composed: Image = np.minimum(colour + (255 - alpha), 255).astype(np.uint8)
    return composed


def _turn(image: Image, orientation: int) -> Image:
    """Undo the turn that EXIF notes: 5 to 8 swap the axes, then each number says which axes to flip."""
    if orientation >= 5:
        image = image.transpose(1, 0, 2)
    vertical, horizontal = orientation in (3, 4, 7, 8), orientation in (2, 3, 6, 7)
    return np.ascontiguousarray(image[:: -1 if vertical else 1, :: -1 if horizontal else 1])

"""What an image file says about itself before a single pixel is decoded.

A header is a few bytes, a decoded image can be gigabytes: the size comes from here, and so do the facts that decoders
get wrong or hide (the end of a torn JPEG or TIFF, the turn that a camera noted, what the fourth channel means).
Pure Python over bytes; nothing here trusts a length without looking whether the data goes that far.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass

from robustvision.core.errors import InputError

TIFF_MARKS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
KNOWN_TYPES = "JPEG, PNG, WebP, TIFF, BMP, GIF"


@dataclass(frozen=True)
class ImageHeader:
    """A file's own description.

    Attributes:
        kind: ``jpeg``, ``png``, ``webp``, ``gif``, ``bmp`` or ``tiff``.
        width_px: Stored width, before any turn.
        height_px: Stored height, before any turn.
        orientation: EXIF's number, 1 (upright) to 8.
        has_alpha: Whether a fourth channel is alpha (TIFF may hold anything there, such as infrared).
        is_premultiplied: Whether the colours that OpenCV decodes are already multiplied by alpha.
        is_inverted: Whether 0 means white in the values that OpenCV decodes.
    """

    kind: str
    width_px: int
    height_px: int
    orientation: int = 1
    has_alpha: bool = True
    is_premultiplied: bool = False
    is_inverted: bool = False

    @property
    def upright_size(self) -> tuple[int, int]:
        """Width and height after the turn that ``orientation`` asks for."""
        size = (self.width_px, self.height_px)
        return size[::-1] if self.orientation >= 5 else size


def image_kind(head: bytes) -> str | None:
    """Tell a file's type from its first 16 bytes; ``None`` for one that is not read here."""
    if head[:4] in TIFF_MARKS:
        return "tiff"
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "webp"
    marks = {b"\xff\xd8\xff": "jpeg", b"\x89PNG\r\n\x1a\n": "png", b"GIF87a": "gif", b"GIF89a": "gif", b"BM": "bmp"}
    return next((kind for mark, kind in marks.items() if head.startswith(mark)), None)


def read_header(data: bytes, name: str) -> ImageHeader:
    """Read the header of an image.

    Args:
        data: The whole file.
        name: What to call it in messages.

    Returns:
        Its header.

    Raises:
        InputError: The type is not known, the header is broken, the file ends too early, or its samples are not
            unsigned integers.
    """
    kind = image_kind(data[:16])
    if kind is None:
        raise InputError(f"{name} is not an image of a known type ({KNOWN_TYPES}): convert it")
    try:
        header = _READERS[kind](data, name)
    except (struct.error, IndexError, KeyError, OverflowError) as error:
        raise InputError(
            f"{name}: its {kind.upper()} header is broken or cut short: copy or convert it again"
        ) from error
    if header.width_px < 1 or header.height_px < 1:
        raise InputError(f"{name} has {header.width_px}x{header.height_px} pixels: there is nothing to read")
    return header


def _png(data: bytes, name: str) -> ImageHeader:
    if data[12:16] != b"IHDR":
        raise KeyError("IHDR")
    width, height = struct.unpack_from(">II", data, 16)
    orientation, at = 1, 8
    while at + 8 <= len(data):
        (length,) = struct.unpack_from(">I", data, at)
        if data[at + 4 : at + 8] == b"eXIf":
            orientation = _exif_orientation(data[at + 8 : at + 8 + length])
        at += length + 12
    return ImageHeader("png", width, height, orientation)


def _gif(data: bytes, name: str) -> ImageHeader:
    return ImageHeader("gif", *struct.unpack_from("<HH", data, 6))


def _bmp(data: bytes, name: str) -> ImageHeader:
    (size,) = struct.unpack_from("<I", data, 14)
    width, height = struct.unpack_from("<HH" if size == 12 else "<ii", data, 18)
    return ImageHeader("bmp", width, abs(height))  # a negative height means top row first


def _webp(data: bytes, name: str) -> ImageHeader:
    orientation, size, at = 1, None, 12
    while at + 8 <= len(data):
        tag, (length,) = data[at : at + 4], struct.unpack_from("<I", data, at + 4)
        body = at + 8
        if tag == b"EXIF":
            orientation = _exif_orientation(data[body : body + length])
        elif size is None and tag in (b"VP8X", b"VP8L", b"VP8 "):
            size = _webp_size(tag, data, body)
        at = body + length + length % 2
    if size is None:
        raise KeyError("VP8")
    return ImageHeader("webp", *size, orientation)


def _webp_size(tag: bytes, data: bytes, at: int) -> tuple[int, int]:
    if tag == b"VP8X":
        return 1 + int.from_bytes(data[at + 4 : at + 7], "little"), 1 + int.from_bytes(data[at + 7 : at + 10], "little")
    if tag == b"VP8L":
        (bits,) = struct.unpack_from("<I", data, at + 1)
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    width, height = struct.unpack_from("<HH", data, at + 6)
    return width & 0x3FFF, height & 0x3FFF  # the upper two bits ask for scaling on display


_SIZE_MARKERS = {0xC0, 0xC1, 0xC2, 0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF}
_START_OF_SCAN, _END_OF_IMAGE, _APP1 = 0xDA, 0xD9, 0xE1
_BARE_MARKERS = {0x01, *range(0xD0, 0xD9)}  # they have no length
_MARKER_IN_SCAN = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")  # in coded data FF stands before 00 or a restart mark


def _jpeg(data: bytes, name: str) -> ImageHeader:
    """Walk the segments to the end mark; a thumbnail's own marks lie inside a segment and are stepped over."""
    orientation, size, at = 1, None, 2
    while (at := data.find(b"\xff", at)) >= 0:  # like libjpeg, step over stray bytes between segments
        marker = data[at + 1]
        at += 1 if marker == 0xFF else 2
        if marker == _END_OF_IMAGE:
            break
        if marker == 0xFF or marker in _BARE_MARKERS:
            continue
        (length,) = struct.unpack_from(">H", data, at)
        if marker in _SIZE_MARKERS and size is None:
            height, width = struct.unpack_from(">HH", data, at + 3)
            size = (width, height)
        elif marker == _APP1 and data[at + 2 : at + 8] == b"Exif\0\0":
            orientation = _exif_orientation(data[at + 2 : at + length])
        at += length
        if marker == _START_OF_SCAN:
            found = _MARKER_IN_SCAN.search(data, at)
            at = found.start() if found else len(data)
    else:
        raise InputError(f"{name} is a JPEG cut short: its end mark is missing; copy it again")
    if size is None:
        raise KeyError("SOF")
    return ImageHeader("jpeg", *size, orientation)


def _exif_orientation(block: bytes) -> int:
    """The turn noted in an EXIF block; 1 where there is none or the block is broken (it is only a note)."""
    block = block.removeprefix(b"Exif\0\0")
    try:
        (orientation,) = _tiff_tags(block, {_ORIENTATION}).get(_ORIENTATION, (1,))
    except (struct.error, IndexError, KeyError, ValueError, OverflowError):
        return 1
    return orientation if 1 <= orientation <= 8 else 1


_WIDTH, _HEIGHT, _BITS, _PHOTOMETRIC, _ORIENTATION = 256, 257, 258, 262, 274
_PLANES, _EXTRA_SAMPLES, _SAMPLE_FORMAT = 284, 338, 339
_PIECES = ((273, 279), (324, 325))  # offsets and byte counts: of strips, of tiles
_TIFF_TYPES = {1: "B", 3: "H", 4: "I", 16: "Q"}
_GREY_OR_RGB = (0, 1, 2)
_PREMULTIPLIED, _STRAIGHT = 1, 2  # what an extra sample may be


def _tiff(data: bytes, name: str) -> ImageHeader:
    wanted = {_WIDTH, _HEIGHT, _BITS, _PHOTOMETRIC, _ORIENTATION, _PLANES, _EXTRA_SAMPLES, _SAMPLE_FORMAT}
    tags = _tiff_tags(data, wanted | {tag for pair in _PIECES for tag in pair})
    if any(kind != 1 for kind in tags.get(_SAMPLE_FORMAT, ())):
        raise InputError(
            f"{name} is a TIFF of floats or signed numbers, which have no agreed black and white: "
            "scale it to 8 or 16 bits first"
        )
    for offsets, counts in _PIECES:
        ends = (start + size for start, size in zip(tags.get(offsets, ()), tags.get(counts, ()), strict=False))
        if max(ends, default=0) > len(data):
            raise InputError(f"{name} is a TIFF cut short: {len(data)} bytes are too few; copy it again")
    bits, photometric = tags.get(_BITS, (1,))[0], tags.get(_PHOTOMETRIC, (1,))[0]
    if bits not in (1, 2, 4, 8, 16) or (bits == 16 and photometric not in _GREY_OR_RGB):
        raise InputError(
            f"{name} is a TIFF of {bits} bits and colour model {photometric}: convert it to grey or RGB of 8 or 16 bits"
        )
    if bits == 16 and tags.get(_PLANES, (1,))[0] != 1:  # OpenCV decodes it to a wrong picture, without an error
        raise InputError(f"{name} is a 16-bit TIFF of separate planes: store its samples interleaved")
    alpha = tags.get(_EXTRA_SAMPLES, (0,))[0]
    return ImageHeader(
        "tiff",
        tags[_WIDTH][0],
        tags[_HEIGHT][0],
        _exif_orientation(data),
        has_alpha=alpha in (_PREMULTIPLIED, _STRAIGHT),
        # libtiff's 8-bit route multiplies straight alpha in; the 16-bit route hands the file's values on
        is_premultiplied=alpha == _PREMULTIPLIED or (bits <= 8 and alpha == _STRAIGHT),
        is_inverted=bits == 16 and photometric == 0,
    )


def _tiff_tags(data: bytes, wanted: set[int]) -> dict[int, tuple[int, ...]]:
    """The integer tags of the first directory, of either byte order, classic or BigTIFF."""
    order = {b"II": "<", b"MM": ">"}[data[:2]]
    is_big = struct.unpack_from(order + "H", data, 2)[0] == 43
    (at,) = struct.unpack_from(order + "Q", data, 8) if is_big else struct.unpack_from(order + "I", data, 4)
    (count,) = struct.unpack_from(order + ("Q" if is_big else "H"), data, at)
    entry_size, inline_size = (20, 8) if is_big else (12, 4)
    at += 8 if is_big else 2
    tags = {}
    for entry in range(at, min(at + count * entry_size, len(data) - entry_size + 1), entry_size):
        tag, kind = struct.unpack_from(order + "HH", data, entry)
        if tag in wanted and tag not in tags and kind in _TIFF_TYPES:
            (length,) = struct.unpack_from(order + ("Q" if is_big else "I"), data, entry + 4)
            place = entry + entry_size - inline_size
            if length * struct.calcsize("=" + _TIFF_TYPES[kind]) > inline_size:
                (place,) = struct.unpack_from(order + ("Q" if is_big else "I"), data, place)
            if place + length > len(data):
                raise IndexError(f"tag {tag} points past the end")
            tags[tag] = struct.unpack_from(f"{order}{length}{_TIFF_TYPES[kind]}", data, place)
    return tags


_READERS = {"jpeg": _jpeg, "png": _png, "gif": _gif, "bmp": _bmp, "webp": _webp, "tiff": _tiff}

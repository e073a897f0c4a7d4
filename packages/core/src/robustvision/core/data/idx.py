"""Reading IDX files, the big-endian arrays in which MNIST and its kin come.

The header tells the type and the shape, and with them the length of the file to the byte. The file is held against it
before anything is allocated.
"""

from __future__ import annotations

import gzip
import math
import os
import zlib
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from robustvision.core.errors import InputError

# the third byte of the file; 0x0a is not in use
DTYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}

MAX_DIMENSIONS = 32
_GZIP = b"\x1f\x8b"
_MOST_EXPANSION = 1032  # deflate's limit: two bits can stand for 258 bytes


def read_idx(source: str | os.PathLike[str] | bytes, *, max_bytes: int = 2**31) -> npt.NDArray[Any]:
    """Read an IDX file, packed with gzip or not.

    Args:
        source: A path, or the file's bytes.
        max_bytes: Refuse a larger array before reading it.

    Returns:
        The array, as the file says: uint8, int8, int16, int32, float32 or float64, in the machine's byte order.

    Raises:
        InputError: The file is missing, is no IDX file, is shorter or longer than its header says, or is too large.

    Examples:
        >>> read_idx(bytes([0, 0, 0x08, 1]) + bytes([0, 0, 0, 3]) + bytes([7, 8, 9]))
        array([7, 8, 9], dtype=uint8)
    """
    if isinstance(source, bytes):
        return _read(BytesIO(source), "the IDX bytes", len(source), max_bytes)
    path = Path(source)
    try:
        with path.open("rb") as file:
            return _read(file, str(path), path.stat().st_size, max_bytes)
    except OSError as error:
        raise InputError(f"cannot read {path} ({error.strerror or error})") from error


def _read(file: BinaryIO, name: str, stored: int, max_bytes: int) -> npt.NDArray[Any]:
    packed = file.read(2) == _GZIP
    file.seek(0)
    if not packed:
        return _read_plain(file, name, stored, max_bytes)
    try:
        with gzip.open(file) as unpacked:
            return _read_plain(unpacked, name, _MOST_EXPANSION * stored, max_bytes)  # type: ignore[arg-type]
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise InputError(f"{name} is a damaged gzip file ({error}): fetch it again") from error


def _read_plain(file: BinaryIO, name: str, available: int, max_bytes: int) -> npt.NDArray[Any]:
    """Read the unpacked file; ``available`` bounds its length, and is that length where it is not packed."""
    dtype, shape = _read_header(file, name)
    size = math.prod(shape) * dtype.itemsize  # Python's integers: a lie about the shape does not overflow
    what = f"{name}: the header says {dtype.newbyteorder('=')} {list(shape)}, {size:,} bytes"
    if size > max_bytes:
        raise InputError(f"{what}, but the limit is {max_bytes:,}: pass max_bytes if that is right")
    if size > available:
        raise InputError(f"{what}, but the file ends before that: it is cut short, or its header is wrong")
    try:
        content = np.empty(shape, dtype)
    except ValueError as error:  # an empty array whose other sides are too long for numpy
        raise InputError(f"{what}, a shape that no array can have: the header is wrong") from error
    view = content.reshape(-1).view(np.uint8).data
    read = 0
    while read < size and (step := file.readinto(view[read:])):  # type: ignore[attr-defined]
        read += step
    if read < size:
        raise InputError(f"{what}, but only {read:,} follow: the file is cut short, or its header is wrong")
    if file.read(1):
        raise InputError(f"{what}, but more follow: this is another format, or the header is wrong")
    return content.astype(dtype.newbyteorder("="), copy=False)


def _read_header(file: BinaryIO, name: str) -> tuple[np.dtype[Any], tuple[int, ...]]:
    start = file.read(4)
    if len(start) < 4 or start[:2] != b"\0\0" or start[2] not in DTYPES or not 1 <= start[3] <= MAX_DIMENSIONS:
        raise InputError(
            f"{name} begins with {start.hex(' ') or 'nothing'}; an IDX file begins with 00 00, a type from 08 to 0e "
            f"and 1 to {MAX_DIMENSIONS} dimensions: is this the right file?"
        )
    sizes = file.read(4 * start[3])
    if len(sizes) < 4 * start[3]:
        raise InputError(f"{name} ends within its header of {start[3]} dimensions: fetch it again")
    return np.dtype(DTYPES[start[2]]), tuple(int(n) for n in np.frombuffer(sizes, ">u4"))

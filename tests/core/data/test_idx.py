"""IDX files: every type and packing comes back, and a file that disagrees with its header is refused unread."""

from __future__ import annotations

import gzip
import struct

import numpy as np
import pytest

from robustvision.core.data import read_idx
from robustvision.core.errors import InputError

CODES = {"uint8": 0x08, "int8": 0x09, "int16": 0x0B, "int32": 0x0C, "float32": 0x0D, "float64": 0x0E}


def idx(array: np.ndarray) -> bytes:
    header = struct.pack(f">BBBB{array.ndim}I", 0, 0, CODES[array.dtype.name], array.ndim, *array.shape)
    return header + array.astype(array.dtype.newbyteorder(">")).tobytes()


IMAGES = idx(np.arange(24, dtype=np.uint8).reshape(2, 3, 4))


@pytest.mark.parametrize("dtype", CODES)
@pytest.mark.parametrize("shape", [(6,), (2, 3), (1, 2, 3, 1), (0, 28, 28)])
def test_every_type_comes_back(dtype, shape):
    low, high = (0, 255) if dtype == "uint8" else (-128, 127)
    array = np.linspace(low, high, int(np.prod(shape))).reshape(shape).astype(dtype)
    read = read_idx(idx(array))
    assert read.dtype == array.dtype
    assert read.dtype.isnative
    np.testing.assert_array_equal(read, array)


def test_the_first_label_of_mnist_is_at_the_ninth_byte():
    # the published layout, byte by byte: magic 2049, number of items, items
    content = bytes([0, 0, 8, 1, 0, 0, 0, 2, 5, 0])
    assert read_idx(content).tolist() == [5, 0]


def test_files_packed_or_not_are_read(tmp_path):
    plain, packed = tmp_path / "images-idx3-ubyte", tmp_path / "images-idx3-ubyte.gz"
    plain.write_bytes(IMAGES)
    packed.write_bytes(gzip.compress(IMAGES))
    np.testing.assert_array_equal(read_idx(plain), read_idx(str(packed)))
    assert read_idx(plain).flags.writeable


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzip"])
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "begins with nothing"),
        (IMAGES[:3], "begins with 00 00 08"),
        (b"\x89PNG" + IMAGES, "is this the right file"),
        (b"\0\0\x0a" + IMAGES[3:], "begins with 00 00 0a"),
        (b"\0\0\x08\0" + IMAGES[4:], "1 to 32 dimensions"),
        (b"\0\0\x08\xff" + IMAGES[4:], "1 to 32 dimensions"),
        (IMAGES[:10], "within its header of 3 dimensions"),
        (IMAGES[:-1], r"\[2, 3, 4\], 24 bytes, but"),
        (IMAGES + b"\0", "but more follow"),
        (b"\0\0\x08\x03" + b"\xff" * 12 + IMAGES[16:], "limit is"),  # 2^96 bytes: neither wraps round nor is allocated
        (b"\0\0\x08\x01" + struct.pack(">I", 2**30) + IMAGES[16:], "cut short"),
    ],
)
def test_files_that_are_not_as_they_say_are_refused(pack, content, message):
    with pytest.raises(InputError, match=message):
        read_idx(pack(content))


def test_an_empty_array_too_long_for_numpy_is_refused():
    with pytest.raises(InputError, match="a shape that no array can have"):
        read_idx(bytes([0, 0, 8, 3]) + bytes(4) + 8 * b"\xff")


def test_damaged_gzip_is_refused():
    packed = gzip.compress(IMAGES)
    for broken in (packed[:-9], packed[:12] + b"\xff" + packed[13:]):
        with pytest.raises(InputError, match="damaged gzip"):
            read_idx(broken)


def test_the_limit_can_be_raised():
    with pytest.raises(InputError, match="pass max_bytes"):
        read_idx(IMAGES, max_bytes=23)
    assert read_idx(IMAGES, max_bytes=24).shape == (2, 3, 4)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match=r"cannot read .*none"):
        read_idx(tmp_path / "none")

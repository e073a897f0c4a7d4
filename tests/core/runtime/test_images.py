"""Photos as strangers send them. The truth is Pillow's, the formula's, or the array that was written."""

import contextlib
import io
import itertools
import struct
import zlib

import cv2
import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageOps

from robustvision.core.errors import InputError
from robustvision.core.runtime import images
from robustvision.core.runtime.images import image_size, list_images, read_image, write_image


def _pattern(height=30, width=48, seed=0):
    noise = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return cv2.GaussianBlur(noise, (0, 0), 2)


RGB = _pattern()
ALPHA = np.tile(np.linspace(0, 255, RGB.shape[1]).round().astype(np.uint8), (RGB.shape[0], 1))
RGBA = np.dstack([RGB, ALPHA])
SIXTEEN = (RGB.astype(np.uint16) << 8) | RGB[::-1]  # low bytes that matter


def _tiff(array, **options):
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, array, **options)
    return buffer.getvalue()


def _on_white(rgb, alpha, full=255.0):
    share = alpha[..., None] / full
    return rgb / full * 255 * share + 255 * (1 - share)


LOSSLESS = {
    "png": ("PNG", {}),
    "webp": ("WEBP", {"lossless": True}),
    "bmp": ("BMP", {}),
    "tiff": ("TIFF", {}),
    "tiff-lzw": ("TIFF", {"compression": "tiff_lzw"}),
}


@pytest.mark.parametrize("name", LOSSLESS)
def test_lossless_files_give_the_array_that_was_written(encode_image, name):
    kind, options = LOSSLESS[name]
    data = encode_image(RGB, kind, **options)
    np.testing.assert_array_equal(read_image(data), RGB)
    assert image_size(data) == (48, 30)


def test_a_path_and_its_bytes_give_the_same(encode_image, tmp_path):
    path = tmp_path / "größe.png"
    path.write_bytes(encode_image(RGB, "PNG"))
    for source in (path, str(path), path.read_bytes(), bytearray(path.read_bytes()), memoryview(path.read_bytes())):
        np.testing.assert_array_equal(read_image(source), RGB)
        assert image_size(source) == (48, 30)


@pytest.mark.parametrize(
    "options",
    [{}, {"progressive": True}, {"restart_marker_rows": 1}, {"subsampling": 0, "quality": 100}, {"optimize": True}],
)
def test_jpegs_agree_with_pillow(encode_image, options):
    data = encode_image(RGB, "JPEG", **options)
    difference = np.abs(read_image(data).astype(int) - np.asarray(Image.open(io.BytesIO(data)).convert("RGB")))
    assert difference.max() <= 1
    assert image_size(data) == (48, 30)


# --- the turn that a camera notes ---


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("name", ["jpeg", "png", "png-alpha", "webp", "webp-alpha", "tiff", "tiff-16"])
def test_the_orientation_is_applied_once(encode_image, name, orientation):
    kind, _, variant = name.partition("-")
    exif = Image.Exif()
    exif[0x0112] = orientation
    if name == "tiff-16":
        data = _tiff(SIXTEEN[..., 0], photometric="minisblack", extratags=[(274, "H", 1, orientation, True)])
        expected = np.repeat((SIXTEEN[..., :1] / 257).round(), 3, axis=2)
    else:
        options = {
            "png": {"exif": exif},
            "webp": {"exif": exif, "lossless": True},
            "jpeg": {"exif": exif, "quality": 95},
        }
        data = encode_image(
            RGBA if variant else RGB, kind.upper(), **options.get(kind, {"tiffinfo": {274: orientation}})
        )
        expected = _on_white(RGB, ALPHA) if variant else RGB
        if kind == "jpeg":
            expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    tag = Image.Exif()
    tag[0x0112] = orientation
    planes = []
    for channel in range(3):
        plane = Image.fromarray(np.ascontiguousarray(expected[..., channel], dtype=np.float32))
        plane.getexif()[0x0112] = orientation
        planes.append(np.asarray(ImageOps.exif_transpose(plane)))
    found = read_image(data)
    assert np.abs(found - np.dstack(planes)).max() <= 1
    assert image_size(data) == found.shape[1::-1]


@pytest.mark.parametrize(
    "note", [b"", b"II", b"MM\x00*\xff\xff\xff\xff", b"II*\x00\x08\x00\x00\x00\xff\xff", b"\x00" * 40]
)
def test_a_broken_exif_note_is_no_reason_to_refuse_a_photo(encode_image, note):
    segment = b"Exif\0\0" + note
    jpeg = encode_image(RGB, "JPEG")
    jpeg = jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(segment) + 2) + segment + jpeg[2:]
    assert read_image(jpeg).shape == RGB.shape


# --- what the channels mean ---


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF"])
def test_alpha_is_composited_on_white(encode_image, kind):
    data = encode_image(RGBA, kind, **({"lossless": True, "exact": True} if kind == "WEBP" else {}))
    # libtiff multiplies alpha in with 8 bits, which rounds once more
    assert np.abs(read_image(data) - _on_white(RGB, ALPHA)).max() <= 1.01


def test_hidden_colours_do_not_show(encode_image):
    hidden = np.dstack([RGB, np.zeros_like(ALPHA)])
    assert (read_image(encode_image(hidden, "PNG")) == 255).all()
    grey = Image.fromarray(hidden).convert("LA")
    assert (read_image(encode_image(grey, "PNG")) == 255).all()


@pytest.mark.parametrize("alpha_kind", ["unassalpha", "assocalpha"])
@pytest.mark.parametrize("depth", [8, 16])
def test_tiff_alpha_is_taken_as_the_file_means_it(alpha_kind, depth):
    full = 2**depth - 1
    colour = (RGB if depth == 8 else SIXTEEN).astype(np.float64)
    alpha = ALPHA.astype(np.float64) * (1 if depth == 8 else 257)
    stored = colour * alpha[..., None] / full if alpha_kind == "assocalpha" else colour
    array = np.dstack([stored, alpha]).round().astype(np.uint8 if depth == 8 else np.uint16)
    data = _tiff(array, photometric="rgb", extrasamples=[alpha_kind])
    assert np.abs(read_image(data) - _on_white(colour, alpha, full)).max() <= 2


def test_a_fourth_channel_that_is_not_alpha_is_left_out():
    infrared = np.dstack([RGB, ALPHA])
    np.testing.assert_array_equal(read_image(_tiff(infrared, photometric="rgb", extrasamples=["unspecified"])), RGB)


@pytest.mark.parametrize("form", ["png", "tiff", "tiff-big-endian"])
def test_16_bits_are_scaled_by_the_full_range(form):
    if form == "png":
        data = cv2.imencode(".png", SIXTEEN[..., ::-1])[1].tobytes()
    else:
        data = _tiff(SIXTEEN, photometric="rgb", byteorder=">" if "big" in form else "<")
    found = read_image(data)
    assert found.dtype == np.uint8
    assert np.abs(found - SIXTEEN / 257).max() <= 0.5 + 1e-9


@given(st.integers(0, 65535))
def test_16_bit_grey_keeps_black_white_and_order(value):
    pixels = np.array([[0, value, 65535]], np.uint16)
    found = read_image(cv2.imencode(".png", pixels)[1].tobytes())[0, :, 0]
    assert (found[0], found[2]) == (0, 255)
    assert abs(found[1] - value / 257) <= 0.5


@pytest.mark.parametrize("depth", [8, 16])
def test_white_is_zero_in_some_tiffs(depth):
    stored = RGB[..., 0] if depth == 8 else SIXTEEN[..., 0]
    found = read_image(_tiff(stored, photometric="miniswhite"))
    assert np.abs(found[..., 0] - (255 - stored / (2**depth - 1) * 255)).max() <= 0.51


@pytest.mark.parametrize(
    ("kind", "mode"),
    [
        *itertools.product(("PNG", "TIFF", "BMP", "GIF"), ("L", "1", "P")),
        *itertools.product(("JPEG",), ("L", "CMYK")),
        ("TIFF", "CMYK"),
    ],
)
def test_grey_palette_bilevel_and_cmyk_become_rgb(encode_image, mode, kind):
    data = encode_image(Image.fromarray(RGB).convert(mode), kind)
    expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).astype(int)
    found = read_image(data)
    assert found.shape == RGB.shape
    assert np.abs(found - expected).max() <= 1


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int16, np.int32, np.int8])
def test_floats_and_signed_numbers_are_refused(dtype):
    with pytest.raises(InputError, match="floats or signed numbers"):
        read_image(_tiff(RGB[..., 0].astype(dtype), photometric="minisblack"))


def test_other_tiffs_are_refused():
    with pytest.raises(InputError, match="32 bits"):
        read_image(_tiff(RGB[..., 0].astype(np.uint32), photometric="minisblack"))
    with pytest.raises(InputError, match="colour model 5"):
        read_image(_tiff(np.dstack([SIXTEEN, SIXTEEN[..., 0]]), photometric="separated"))
    with pytest.raises(InputError, match="separate planes"):
        read_image(_tiff(SIXTEEN.transpose(2, 0, 1).copy(), photometric="rgb", planarconfig="separate"))
    seven_bands = np.dstack([RGB, RGB, RGB[..., :1]])
    with pytest.raises(InputError, match="cannot decode"):
        read_image(_tiff(seven_bands, photometric="minisblack", planarconfig="contig"))


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG"])
def test_an_animation_gives_its_first_frame(encode_image, kind):
    frames = [Image.fromarray(np.full((20, 30, 3), value, np.uint8)) for value in (10, 120, 240)]
    options = {"lossless": True} if kind == "WEBP" else {}
    found = read_image(encode_image(frames[0], kind, save_all=True, append_images=frames[1:], **options))
    assert np.abs(found.astype(int) - 10).max() <= 1


def test_a_tiff_of_several_pages_gives_the_first():
    np.testing.assert_array_equal(read_image(_tiff(np.stack([RGB, 255 - RGB]), photometric="rgb")), RGB)


@pytest.mark.parametrize("options", [{"bigtiff": True}, {"byteorder": ">"}, {"tile": (32, 32)}, {"rowsperstrip": 1}])
def test_tiff_layouts(options):
    data = _tiff(RGB, photometric="rgb", **options)
    np.testing.assert_array_equal(read_image(data), RGB)
    assert image_size(data) == (48, 30)


# --- files that are not whole ---

WHOLE = {
    "jpeg": ("JPEG", {}),
    "jpeg-progressive": ("JPEG", {"progressive": True}),
    "jpeg-restarts": ("JPEG", {"restart_marker_rows": 1}),
    "gif": ("GIF", {}),
    "webp-lossy": ("WEBP", {}),
    **LOSSLESS,
}


@pytest.mark.parametrize("name", WHOLE)
def test_a_file_cut_short_anywhere_is_refused(encode_image, name):
    kind, options = WHOLE[name]
    data = encode_image(_pattern(64, 64), kind, **options)
    read_image(data)
    for kept in (*range(1, 40), *np.linspace(40, len(data) - 8, 25).astype(int)):
        with pytest.raises(InputError):
            read_image(data[:kept])


@pytest.mark.parametrize("planar", [False, True])
def test_a_tiff_cut_short_is_refused_by_its_own_table(planar):
    # OpenCV decodes a torn planar TIFF to noise, without an error
    array = RGB.transpose(2, 0, 1).copy() if planar else RGB
    data = _tiff(array, photometric="rgb", planarconfig="separate" if planar else "contig")
    for kept in (len(data) - 1, len(data) * 3 // 4, len(data) // 2):
        with pytest.raises(InputError, match="cut short"):
            read_image(data[:kept])


def test_a_thumbnails_end_mark_does_not_hide_a_missing_one(encode_image):
    thumbnail = b"Exif\0\0" + encode_image(RGB[:8, :8], "JPEG")
    assert thumbnail.endswith(b"\xff\xd9")
    jpeg = encode_image(_pattern(64, 64), "JPEG")
    jpeg = jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(thumbnail) + 2) + thumbnail + jpeg[2:]
    read_image(jpeg)
    with pytest.raises(InputError, match="its end mark is missing"):
        read_image(jpeg[:-2])
    read_image(jpeg + b"anything after the end")


def test_a_damaged_file_is_refused(encode_image):
    data = bytearray(encode_image(_pattern(64, 64), "PNG"))
    data[len(data) // 2] ^= 0xFF
    with pytest.raises(InputError, match="damaged"):
        read_image(bytes(data))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"\x00", "known type"),
        (b"%PDF-1.7 and so on", "known type"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "known type"),
        (b"\xff\xd8\xff", "broken or cut short"),
        (b"\xff\xd8\xff\xd9", "broken or cut short"),
        (b"\x89PNG\r\n\x1a\n", "broken or cut short"),
        (b"GIF89a\x00", "broken or cut short"),
        (b"BM" + b"\x00" * 60, "0x0 pixels"),
        (b"RIFF\x00\x00\x00\x00WEBPJUNK\x00\x00\x00\x00", "broken or cut short"),
        (b"II*\x00\xff\xff\xff\xff", "broken or cut short"),
    ],
)
def test_what_is_no_image_is_refused_with_its_name(tmp_path, content, message):
    path = tmp_path / "photo.jpg"
    path.write_bytes(content)
    for read in (read_image, image_size):
        with pytest.raises(InputError, match=message) as caught:
            read(path)
        assert str(path) in str(caught.value)


def test_missing_files_folders_and_odd_paths_are_refused(tmp_path):
    for source in (tmp_path / "missing.png", tmp_path, "http://example.org/a.png", "a\0b.png"):
        with pytest.raises(InputError, match="cannot read"):
            read_image(source)


@given(st.sampled_from(sorted(WHOLE)), st.data())
def test_random_damage_never_escapes_as_another_error(damaged, name, data):
    original = damaged[name]
    for _ in range(3):
        at = data.draw(st.integers(0, len(original) - 1))
        torn = original[:at] + bytes([data.draw(st.integers(0, 255))]) + original[at + 1 :]
        with contextlib.suppress(InputError):
            assert read_image(torn, max_pixels=10_000).dtype == np.uint8


@pytest.fixture(scope="module")
def damaged(encode_image):
    return {name: encode_image(RGB, kind, **options) for name, (kind, options) in WHOLE.items()}


# --- sizes, before anything is decoded ---

WIDTH, HEIGHT = 12_345, 10_007


def _chunk(tag, body):
    return struct.pack(">I", len(body)) + tag + body + struct.pack(">I", zlib.crc32(tag + body))


def _webp_file(tag, body):
    return b"RIFF" + struct.pack("<I", len(body) + 12) + b"WEBP" + tag + struct.pack("<I", len(body)) + body


BOMBS = {
    "png": b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", struct.pack(">IIBBBBB", WIDTH, HEIGHT, 8, 2, 0, 0, 0)),
    "gif": b"GIF89a" + struct.pack("<HHBBB", WIDTH, HEIGHT, 0, 0, 0),
    "bmp": b"BM" + bytes(12) + struct.pack("<Iii", 40, WIDTH, -HEIGHT) + bytes(28),
    "bmp-os2": b"BM" + bytes(12) + struct.pack("<IHH", 12, WIDTH, HEIGHT) + bytes(28),
    "webp-extended": _webp_file(
        b"VP8X", bytes(4) + (WIDTH - 1).to_bytes(3, "little") + (HEIGHT - 1).to_bytes(3, "little")
    ),
    "webp-lossless": _webp_file(b"VP8L", b"\x2f" + struct.pack("<I", (WIDTH - 1) | (HEIGHT - 1) << 14) + bytes(5)),
    "webp-lossy": _webp_file(b"VP8 ", b"\x00\x00\x00\x9d\x01\x2a" + struct.pack("<HH", WIDTH | 1 << 14, HEIGHT)),
    "tiff-little": b"II*\0" + struct.pack("<IHHHIHHHHII", 8, 2, 256, 3, 1, WIDTH, 0, 257, 4, 1, HEIGHT),
    "tiff-big": b"MM\0*" + struct.pack(">IHHHIHHHHII", 8, 2, 256, 3, 1, WIDTH, 0, 257, 4, 1, HEIGHT),
    "bigtiff": b"II+\0" + struct.pack("<HHQQHHQQHHQQ", 8, 0, 16, 2, 256, 4, 1, WIDTH, 257, 16, 1, HEIGHT),
    **{
        f"jpeg-{marker:X}": b"\xff\xd8\xff"
        + bytes([marker])
        + struct.pack(">HBHHB", 11, 8, HEIGHT, WIDTH, 1)
        + bytes(3)
        + b"\xff\xd9"
        for marker in range(0xC0, 0xD0)
        if marker not in (0xC4, 0xC8, 0xCC)
    },
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_refused_by_its_header(monkeypatch, name):
    monkeypatch.setattr(images.cv2, "imdecode", lambda *_: pytest.fail("it was decoded"))
    assert image_size(BOMBS[name]) == (WIDTH, HEIGHT)
    with pytest.raises(InputError, match=r"has 12345x10007 pixels, more than the 100,000,000 allowed"):
        read_image(BOMBS[name])


@pytest.mark.parametrize("segment", [0xC4, 0xC8, 0xCC, 0xE0, 0xFE])
def test_only_frame_headers_tell_a_jpegs_size(encode_image, segment):
    decoy = b"\xff" + bytes([segment]) + struct.pack(">HBHHB", 8, 8, 7, 7, 1)
    data = encode_image(RGB, "JPEG")
    assert image_size(data[:2] + decoy + data[2:]) == (48, 30)


def test_the_limit_is_exact_and_can_be_set(encode_image):
    data = encode_image(RGB, "PNG")
    read_image(data, max_pixels=30 * 48)
    with pytest.raises(InputError, match="more than the 1,439 allowed"):
        read_image(data, max_pixels=30 * 48 - 1)


def test_a_film_given_by_mistake_is_not_read_whole(tmp_path):
    path = tmp_path / "film.mp4"
    with path.open("wb") as file:
        file.truncate(2**40)  # a terabyte of nothing
    with pytest.raises(InputError, match="known type"):
        read_image(path)


# --- folders ---


def test_images_are_listed_as_a_person_counts(tmp_path):
    for name in (
        "img10.png",
        "img2.PNG",
        "img1.jpeg",
        "Img3.tif",
        ".hidden.png",
        "notes.txt",
        "a٣.png",
        "9" * 30 + ".png",
    ):
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "folder.png").mkdir()
    names = [path.name for path in list_images(tmp_path)]
    assert names == ["9" * 30 + ".png", "a٣.png", "img1.jpeg", "img2.PNG", "Img3.tif", "img10.png"]


def test_folders_without_images_are_refused(tmp_path):
    with pytest.raises(InputError, match="holds no images"):
        list_images(tmp_path)
    with pytest.raises(InputError, match="is not a folder"):
        list_images(tmp_path / "missing")


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif", ".webp"])
def test_a_written_picture_reads_back(tmp_path, suffix):
    picture = np.random.default_rng(0).integers(0, 255, (40, 30, 3), dtype=np.uint8)
    picture = np.kron(picture[:5, :5], np.ones((8, 6, 1), np.uint8))
    write_image(tmp_path / f"picture{suffix}", picture)
    difference = np.abs(read_image(tmp_path / f"picture{suffix}").astype(int) - picture)
    assert difference.max() <= (0 if suffix != ".webp" else 60)
    assert difference.mean() < 10


@pytest.mark.parametrize(
    ("name", "picture", "message"),
    [
        ("a.png", np.zeros((4, 4), np.uint8), "uint8 \\[H, W, 3\\]"),
        ("a.png", np.zeros((4, 4, 3), np.float32), "float32"),
        ("a.png", np.zeros((0, 4, 3), np.uint8), "uint8 \\[H, W, 3\\]"),
        ("a.xyz", np.zeros((4, 4, 3), np.uint8), "use .png"),
        ("no/such/folder.png", np.zeros((4, 4, 3), np.uint8), "not a folder"),
    ],
)
def test_what_cannot_be_written_is_refused_and_leaves_nothing(tmp_path, name, picture, message):
    with pytest.raises(InputError, match=message):
        write_image(tmp_path / name, picture)
    assert list(tmp_path.iterdir()) == []

"""Films are encoded here by OpenCV and Pillow; frame k is a flat picture whose brightness tells k."""

import struct
from fractions import Fraction

import av
import cv2
import numpy as np
import pytest
from PIL import Image

from robustvision.core.errors import InputError
from robustvision.core.runtime import video
from robustvision.core.runtime.video import open_video

FRAMES = 12


def _brightness(index):
    return 20 * index + 5


@pytest.fixture
def write_video(tmp_path):
    def write(name="film.avi", code="MJPG", fps=25.0, frames=FRAMES):
        path = tmp_path / name
        writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*code), fps, (64, 48))
        assert writer.isOpened()
        for index in range(frames):
            writer.write(np.full((48, 64, 3), _brightness(index), np.uint8))
        writer.release()
        return path

    return write


def _read_all(*args, **kwargs):
    with open_video(*args, **kwargs) as film:
        return film, list(film)


@pytest.mark.parametrize(
    ("name", "code"), [("a.avi", "MJPG"), ("a.mp4", "mp4v"), ("a.mkv", "mp4v"), ("a.webm", "VP80")]
)
@pytest.mark.parametrize("fps", [25.0, 10.0, 29.97])
def test_every_frame_comes_in_order_with_its_time(write_video, name, code, fps):
    film, frames = _read_all(write_video(name, code, fps))
    assert film.fps_nominal == pytest.approx(fps, rel=1e-3)
    assert film.frame_count == len(frames) == FRAMES
    assert [frame.index for frame in frames] == list(range(FRAMES))
    assert np.abs([frame.image.mean() - _brightness(frame.index) for frame in frames]).max() < 4
    times = np.array([frame.timestamp_s for frame in frames])
    np.testing.assert_allclose(times, np.arange(FRAMES) / fps, atol=1e-3)  # Matroska keeps milliseconds
    assert not any(frame.is_time_estimated for frame in frames)


def test_uneven_times_are_those_of_the_container(tmp_path):
    durations_ms = [100, 50, 300, 40, 20, 500]
    pictures = [Image.fromarray(np.full((48, 64, 3), 40 * k, np.uint8)) for k in range(6)]
    pictures[0].save(tmp_path / "a.gif", save_all=True, append_images=pictures[1:], duration=durations_ms)
    _, frames = _read_all(tmp_path / "a.gif")
    expected = np.concatenate([[0], np.cumsum(durations_ms)[:-1]]) / 1000
    np.testing.assert_allclose([frame.timestamp_s for frame in frames], expected, atol=1e-6)


def test_colours_are_rgb(tmp_path):
    writer = cv2.VideoWriter(str(tmp_path / "a.avi"), cv2.VideoWriter_fourcc(*"MJPG"), 10, (64, 48))
    writer.write(np.full((48, 64, 3), (10, 20, 230), np.uint8))  # BGR: red
    writer.release()
    red, green, blue = _read_all(tmp_path / "a.avi")[1][0].image.mean(axis=(0, 1))
    assert red > 200
    assert max(green, blue) < 60


def test_a_phones_rotation_is_applied(write_video):
    path = write_video("a.mp4", "mp4v")
    data = bytearray(path.read_bytes())
    at = data.find(b"tkhd") + 4 + 4 + 20 + 16  # the matrix in a track header of version 0
    assert struct.unpack_from(">9i", data, at) == (65536, 0, 0, 0, 65536, 0, 0, 0, 1 << 30)
    struct.pack_into(">9i", data, at, 0, 65536, 0, -65536, 0, 0, 0, 0, 1 << 30)  # a quarter turn
    path.write_bytes(data)
    assert _read_all(path)[1][0].image.shape == (64, 48, 3)


# --- what happens without good times: a capture of our own ---


class FakeCapture:
    """Frames with stated times; counts how many were asked for."""

    def __init__(self, times_ms, fps=10.0, count=None, shapes=None):
        self.times_ms, self.fps, self.reads = times_ms, fps, 0
        self.count = len(times_ms) if count is None else count
        self.shapes = shapes or [(4, 6, 3)] * len(times_ms)
        self.is_released = False

    def isOpened(self):  # noqa: N802
        return True

    def get(self, key):
        return {
            cv2.CAP_PROP_FPS: self.fps,
            cv2.CAP_PROP_FRAME_COUNT: self.count,
            cv2.CAP_PROP_POS_MSEC: self.times_ms[max(0, self.reads - 1)],
        }.get(key, 4)

    def read(self):
        self.reads += 1
        if self.reads > len(self.times_ms):
            return False, None
        return True, np.zeros(self.shapes[self.reads - 1], np.uint8)

    def release(self):
        self.is_released = True


@pytest.fixture
def fake(monkeypatch, tmp_path):
    def make(*args, **kwargs):
        capture = FakeCapture(*args, **kwargs)
        monkeypatch.setattr(video.cv2, "VideoCapture", lambda *_: capture)
        (tmp_path / "film.avi").write_bytes(b"RIFF\x00\x00\x00\x00AVI \x00")
        return capture, tmp_path / "film.avi"

    return make


@pytest.mark.parametrize(
    ("times_ms", "expected_s", "estimated"),
    [
        ([0, 0, 0, 0], [0, 0.1, 0.2, 0.3], [0, 1, 1, 1]),
        ([0, 100, 100, 250], [0, 0.1, 0.2, 0.25], [0, 0, 1, 0]),
        ([0, 100, 40, 150, 400], [0, 0.1, 0.2, 0.3, 0.4], [0, 0, 1, 1, 0]),
        ([500, 540, 600], [0, 0.04, 0.1], [0, 0, 0]),
        ([0, float("nan"), 210], [0, 0.1, 0.21], [0, 1, 0]),
    ],
)
def test_missing_times_are_counted_and_say_so(fake, times_ms, expected_s, estimated):
    frames = _read_all(fake(times_ms)[1])[1]
    times = [frame.timestamp_s for frame in frames]
    np.testing.assert_allclose(times, expected_s, atol=1e-12)
    assert (np.diff(times) > 0).all()
    assert [frame.is_time_estimated for frame in frames] == [bool(flag) for flag in estimated]


def test_neither_times_nor_rate_is_an_error(fake):
    with pytest.raises(InputError, match="neither times nor a frame rate"):
        _read_all(fake([0, 0], fps=0)[1])


def test_frames_are_read_one_by_one_as_asked_for(fake):
    capture, path = fake([0, 100, 200, 300])
    with open_video(path) as film:
        assert capture.reads == 0
        frames = iter(film)
        next(frames)
        next(frames)
        assert capture.reads == 2
    assert capture.is_released


def test_a_film_is_iterated_once(write_video):
    film, _ = _read_all(write_video())
    with pytest.raises(InputError, match="open it again"):
        iter(film)
    with open_video(write_video("b.avi")) as film:
        next(iter(film))
        with pytest.raises(InputError, match="open it again"):
            iter(film)


def test_a_change_of_size_is_an_error(fake):
    with pytest.raises(InputError, match="frame 1 is 8x4 pixels, the frames before are 6x4"):
        _read_all(fake([0, 100], shapes=[(4, 6, 3), (4, 8, 3)])[1])


@pytest.mark.parametrize("count", [-1e18, 0, -1, 2.0**60])
def test_an_impossible_frame_count_is_none(fake, count):
    film, frames = _read_all(fake([0, 100], count=count)[1])
    assert film.frame_count is None
    assert len(frames) == 2


# --- files that are not films ---


def test_a_torn_avi_gives_its_good_frames_and_then_an_error(write_video):
    path = write_video()
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 9 // 10])
    seen = []
    with open_video(path) as film, pytest.raises(InputError, match=r"cut short: it has \d+ of the 12 frames"):
        seen.extend(frame.index for frame in film)
    assert len(seen) >= 5


def test_a_count_that_is_off_by_little_is_an_estimate(fake):
    assert len(_read_all(fake([100 * k for k in range(40)], count=41)[1])[1]) == 40


def test_a_count_that_was_taken_from_duration_and_rate_does_not_cut_a_film_of_varying_rate(tmp_path):
    path = tmp_path / "varying.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=30)
        stream.width = stream.height = 64
        stream.codec_context.time_base = Fraction(1, 1000)
        for index in range(60):
            frame = av.VideoFrame.from_ndarray(np.full((64, 64, 3), 4 * index, np.uint8), format="rgb24")
            frame.pts, frame.time_base = 33 * index + 57 * (index // 3), Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    film, frames = _read_all(path)
    assert film.frame_count > 70  # no container of this kind holds a count
    assert len(frames) == 60
    assert frames[-1].timestamp_s == pytest.approx(33 * 59 / 1000 + 57 * 19 / 1000, abs=2e-3)


def test_a_torn_mp4_is_refused(write_video):
    path = write_video("a.mp4", "mp4v")
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(InputError, match="not a video that OpenCV can open"):
        open_video(path)


def test_a_film_without_frames_is_refused(fake):
    capture, path = fake([0], count=0)
    capture.reads = 1  # the only frame is gone
    with pytest.raises(InputError, match="no frame that can be decoded"):
        _read_all(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"\x00\x01\x02" * 300, "not a video"),
        (b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n", "is text"),
        ("#EXTM3U\n# Geräusch\nfilm.mp4\n".encode(), "is text"),
        (b"\xef\xbb\xbfffconcat version 1.0\nfile film.mp4\n", "is text"),
        (("x" * 511 + "ä").encode(), "is text"),
    ],
)
def test_what_is_no_film_is_refused(tmp_path, content, message):
    path = tmp_path / "film.mp4"
    path.write_bytes(content)
    with pytest.raises(InputError, match=message):
        open_video(path)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF"])
def test_a_picture_is_not_taken_for_a_series(tmp_path, encode_image, kind):
    path = tmp_path / "frame_01.png"
    path.write_bytes(encode_image(np.zeros((8, 8, 3), np.uint8), kind))
    with pytest.raises(InputError, match="single image"):
        open_video(path)


@pytest.mark.parametrize(
    "source", ["missing.mp4", "http://localhost/film.mp4", "rtsp://localhost/film", "img_%02d.png"]
)
def test_only_local_files_are_opened(tmp_path, monkeypatch, source):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "img_01.png").write_bytes(b"x")
    monkeypatch.setattr(video.cv2, "VideoCapture", lambda *_: pytest.fail("it was opened"))
    with pytest.raises(InputError, match="cannot read"):
        open_video(source)


def test_large_frames_are_refused_before_decoding(write_video):
    path = write_video()
    with pytest.raises(InputError, match=r"frames of 64x48 pixels, more than the 3,071 allowed"):
        open_video(path, max_pixels=64 * 48 - 1)
    _read_all(path, max_pixels=64 * 48)


# --- folders and cameras ---


def test_a_folder_of_images_is_a_film_with_a_given_rate(tmp_path, encode_image):
    for index in range(11):
        (tmp_path / f"{index}.png").write_bytes(encode_image(np.full((8, 9, 3), index, np.uint8), "PNG"))
    film, frames = _read_all(tmp_path, fps=4)
    assert (film.fps_nominal, film.frame_count) == (4, 11)
    assert [int(frame.image[0, 0, 0]) for frame in frames] == list(range(11))
    np.testing.assert_allclose([frame.timestamp_s for frame in frames], np.arange(11) / 4)
    assert all(frame.is_time_estimated for frame in frames)

    (tmp_path / "3.png").write_bytes(encode_image(np.zeros((9, 8, 3), np.uint8), "PNG"))
    with pytest.raises(InputError, match=r"3\.png is 8x9 pixels, the frames before are 9x8"):
        _read_all(tmp_path, fps=4)


@pytest.mark.parametrize("fps", [None, 0, -1, float("nan"), float("inf")])
def test_a_folder_needs_a_rate(tmp_path, fps):
    with pytest.raises(InputError, match="pass fps"):
        open_video(tmp_path, fps=fps)


def test_a_file_keeps_its_own_rate(write_video):
    with pytest.raises(InputError, match="has its own clock"):
        open_video(write_video(), fps=5)
    with pytest.raises(InputError, match="has its own clock"):
        open_video(0, fps=5)


def test_a_camera_is_timed_by_the_clock(fake, monkeypatch):
    capture, _ = fake([0, 0, 0, 0], fps=0)
    clock = iter([100.0, 100.25, 100.25, 101.0])
    monkeypatch.setattr(video.time, "monotonic", lambda: next(clock))
    film = open_video(3)
    assert (film.name, film.fps_nominal, film.frame_count) == ("camera 3", None, None)
    frames = iter(film)
    times = [next(frames).timestamp_s for _ in range(4)]
    np.testing.assert_allclose(times, [0, 0.25, 0.25, 1.0])
    assert (np.diff(times) > 0).all()
    with pytest.raises(InputError, match=r"camera 3 gives no more frames \(after 4\)"):
        next(frames)
    film.close()
    assert capture.is_released


def test_a_camera_that_is_not_there_is_refused():
    with pytest.raises(InputError, match="camera 987 cannot be opened"):
        open_video(987)

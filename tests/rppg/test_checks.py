"""Real H.264 and MJPEG files, each with one fault; the sound film next to them must not be complained about."""

import builtins
import dataclasses
from fractions import Fraction

import cv2
import numpy as np
import pytest

from robustvision.core.errors import InputError
from robustvision.core.runtime import Faces, open_video
from robustvision.rppg.checks import check_film, check_video
from robustvision.rppg.film import measure_film
from robustvision.rppg.film_format import read_format
from robustvision.rppg.light_checks import alias_hz

av = pytest.importorskip("av")

WIDTH, HEIGHT, SECONDS, FPS = 160, 120, 8, 30
BOX = (45.0, 20.0, 70.0, 80.0)


class Detector:
    """Says what it is told, frame by frame; a frame that is higher than wide shows it nothing unless `upright`."""

    def __init__(self, boxes=(BOX,), *, missing=lambda look: False, portrait=True):
        self.boxes, self.missing, self.portrait, self.looks = boxes, missing, portrait, 0

    def detect(self, image):
        assert image.dtype == np.uint8
        self.looks += 1
        is_portrait = image.shape[0] > image.shape[1]
        boxes = () if self.missing(self.looks) or is_portrait != (not self.portrait) else self.boxes
        boxes = np.array(boxes, np.float32).reshape(-1, 4)
        return Faces(boxes, np.zeros((len(boxes), 5, 2), np.float32), np.ones(len(boxes), np.float32))


def times(fps=FPS, seconds=SECONDS, seed=0):
    """A camera's clock, with 1.5 ms of jitter."""
    return np.arange(seconds * fps) / fps + np.random.default_rng(seed).uniform(-1.5e-3, 1.5e-3, seconds * fps)


def scene(at_s, *, light=1.0, tint=(1.0, 1.0, 1.0), skin=(190.0, 140.0, 115.0), noise=2.0, seed=1):
    """Frames of a face with a pulse of 72 bpm before a wall; light is a number or one a frame."""
    rng = np.random.default_rng(seed)
    wall = cv2.GaussianBlur(rng.uniform(60, 160, (HEIGHT, WIDTH, 3)), (0, 0), 4) * [1.0, 0.95, 0.8]
    light, tint = np.broadcast_to(light, len(at_s)), np.broadcast_to(tint, (len(at_s), 3))
    for time_s, gain, colour in zip(at_s, light, tint, strict=True):
        image = wall.copy()
        beat = np.cos(2 * np.pi * 1.2 * time_s) * np.array([0.33, 0.77, 0.53])
        cv2.ellipse(image, (80, 60), (32, 40), 0, 0, 360, tuple(np.array(skin) * (1 - 0.008 * beat)), -1)
        image = image * gain * colour + rng.normal(0, noise, image.shape)
        yield np.clip(np.rint(image), 0, 255).astype(np.uint8)


def write_film(path, frames, at_s, *, codec="libx264", pixels="yuv420p", rate=FPS, **options):
    options = {"crf": "18", "preset": "ultrafast"} if codec == "libx264" and not options else options
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate, options={key: str(value) for key, value in options.items()})
        stream.pix_fmt = pixels
        has_clock = path.suffix != ".avi"
        if has_clock:
            stream.codec_context.time_base = stream.time_base = Fraction(1, 90000)
        for index, (image, time_s) in enumerate(zip(frames, at_s, strict=True)):
            if not index:
                stream.height, stream.width = image.shape[:2]
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            if has_clock:
                frame.pts, frame.time_base = round((time_s - at_s[0]) * 90000), Fraction(1, 90000)
            else:
                frame.pts, frame.time_base = index, Fraction(1, rate)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


@pytest.fixture
def film(tmp_path):
    def make(frames, at_s, suffix=".mp4", **options):
        return write_film(tmp_path / f"film{suffix}", frames, at_s, **options)

    return make


def whats(path, detector=None, **options):
    return [finding.what for finding in check_video(path, detector=detector or Detector(), quiet=True, **options)]


def only(path, detector=None, **options):
    """The one finding that there must be."""
    (finding,) = check_video(path, detector=detector or Detector(), quiet=True, **options)
    assert finding.where == str(path)
    assert finding.advice
    return finding


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    return write_film(tmp_path_factory.mktemp("sound") / "film.mp4", scene(times()), times())


def test_a_sound_film_has_no_findings(sound, capsys):
    assert check_video(sound, detector=Detector()) == []
    assert "checking film.mp4: 240 of 240" in capsys.readouterr().err


def test_what_is_measured_is_what_was_filmed(sound):
    detector = Detector()
    measured = measure_film(sound, detector=detector, quiet=True)
    assert measured.size_px == (WIDTH, HEIGHT)
    assert measured.fps == pytest.approx(FPS, rel=1e-3)
    np.testing.assert_allclose(measured.times_s, times() - times()[0], atol=1e-4)
    assert not measured.is_time_estimated.any()
    images = [frame.image for frame in open_video(sound)]
    np.testing.assert_allclose(measured.middle[7], images[7][20:100, 45:115].mean(axis=(0, 1)))
    change = np.abs(images[8][..., 1].astype(float) - images[7][..., 1]).mean()
    assert measured.change[7] == pytest.approx(change)
    above = images[7][:15].reshape(-1, 3)
    sides = [images[7][15:80, :20].reshape(-1, 3), images[7][15:80, -20:].reshape(-1, 3)]
    np.testing.assert_allclose(measured.background[7], np.concatenate([above, *sides]).mean(axis=0))
    assert len(measured.faces.counts) == 16 == detector.looks  # twice a second


# --------------------------------------------------------------------------------------------------------------- clock


def test_dropped_frames_are_counted(film):
    kept = np.ones(240, bool)
    kept[[40, 41, 42, 43, 90, 130, 131, 200]] = False
    finding = only(film(scene(times()[kept]), times()[kept]))
    assert finding.what == "8 frames are missing (3%), the longest gap is 0.17 s"
    assert finding.level == "warning"


def test_a_third_of_the_frames_dropped_is_an_error(film):
    kept = np.random.default_rng(1).random(240) < 0.62
    finding = check_video(film(scene(times()[kept]), times()[kept]), detector=Detector(), quiet=True)[0]
    assert "frames are missing" in finding.what
    assert finding.level == "error"


def test_jitter_is_told_in_milliseconds(film):
    at_s = np.arange(240) / FPS + np.random.default_rng(0).uniform(-6e-3, 6e-3, 240)
    what = only(film(scene(at_s), at_s)).what
    assert what == "the time from frame to frame varies by 16%: 22 to 44 ms"


@pytest.mark.parametrize(("fps", "level"), [(12, "warning"), (6, "error")])
def test_a_low_frame_rate(film, fps, level):
    findings = check_video(film(scene(times(fps)), times(fps)), detector=Detector(), quiet=True)
    assert findings[0].level == level
    assert findings[0].what.startswith(f"{fps:.1f} frames a second: ")


def test_a_short_film(film):
    finding = only(film(scene(times(seconds=4)), times(seconds=4)))
    assert finding.level == "error"
    assert finding.what == "the film is 4.0 s long, below the 5 s that a reading needs"


def test_a_wrong_frame_rate_is_caught_from_the_times(film):
    at_s = times(20)
    findings = whats(film(scene(at_s), at_s, ".mkv", rate=30))
    assert any(what.startswith("the file states 30 fps, its times give 20") for what in findings)


def test_a_frame_rate_without_times_cannot_be_verified(film):
    path = film(scene(times()), times(), ".avi", codec="mjpeg", pixels="yuvj422p", qmin=2, qmax=3)
    finding = only(path)
    assert finding.what == "the file has no times: 30 fps is a statement that cannot be verified"
    assert "8.0 s with a clock" in finding.advice


def test_times_that_a_program_assumed_cannot_be_verified(film):
    at_s = np.arange(240) / FPS
    assert only(film(scene(at_s), at_s)).what.startswith(
        "all steps are equal, as a program writes them that assumes 30"
    )


def test_times_that_are_partly_missing(sound):
    measured = measure_film(sound, quiet=True)
    estimated = np.arange(240) % 4 == 3
    (finding,) = check_film(dataclasses.replace(measured, is_time_estimated=estimated))
    assert finding.what.startswith("25% of the frames have no time, or one that does not rise")


def test_a_folder_of_images_has_no_clock(tmp_path):
    for index, image in enumerate(scene(times())):
        cv2.imwrite(str(tmp_path / f"{index:03}.png"), image[..., ::-1])
    assert only(tmp_path, fps=30).what.startswith("the file has no times: 30 fps")


def test_a_film_that_is_cut_off(film, tmp_path):
    data = film(scene(times()), times(), ".mkv").read_bytes()
    cut = tmp_path / "cut.mkv"
    cut.write_bytes(data[: len(data) * 3 // 4])
    findings = check_video(cut, detector=Detector(), quiet=True)
    assert findings[0].level == "error"
    assert "reading broke off" in findings[0].what


def test_what_is_no_film_is_refused(tmp_path):
    (tmp_path / "notes.mp4").write_text("not a film")
    with pytest.raises(InputError, match="is text"):
        check_video(tmp_path / "notes.mp4", detector=Detector(), quiet=True)
    with pytest.raises(InputError, match="cannot read"):
        check_video(tmp_path / "none.mp4", detector=Detector(), quiet=True)


# -------------------------------------------------------------------------------------------------------------- change


@pytest.mark.parametrize("codec", ["libx264", "mjpeg"])
def test_a_photo_is_refused(film, codec):
    photo = next(scene([0.0]))
    is_jpeg = codec == "mjpeg"
    pixels = "yuvj420p" if is_jpeg else "yuv420p"
    path = film([photo] * 240, times(), ".mkv" if is_jpeg else ".mp4", codec=codec, pixels=pixels)
    finding = check_video(path, detector=Detector(), quiet=True)[0]
    assert finding.level == "error"
    assert "are the same as the frame before: a photo" in finding.what


LIGHT_H264 = {"suffix": ".mp4", "codec": "libx264", "crf": 10, "preset": "medium"}
JPEG = {"suffix": ".mkv", "codec": "mjpeg", "pixels": "yuvj420p", "qmin": 2, "qmax": 3}


@pytest.mark.parametrize("codec", [LIGHT_H264, JPEG], ids=["h264", "mjpeg"])
@pytest.mark.parametrize("every", [2, 5])
def test_frames_that_come_twice(film, every, codec):
    frames = list(scene(times()))
    for index in range(every, 240, every):
        frames[index] = frames[index - 1]
    what = only(film(frames, times(), **codec)).what
    told, of = len(range(every, 240, every)), 239
    assert int(what.split()[0]) == pytest.approx(told, abs=1)  # at the end nothing comes after
    assert what.endswith(f"({int(what.split()[0]) / of:.0%}) repeat the frame before")


def test_frames_that_come_three_times(film):
    at_s = times()
    frames = [frame for frame in scene(at_s[::3]) for _ in range(3)]
    finding = only(film(frames, at_s, **JPEG))
    assert "repeat the frame before" in finding.what
    assert "about 10." in finding.advice


def test_a_face_that_moves_now_and_then_does_not_repeat_frames(film):
    frames = list(scene(times()))
    for index in range(240):
        if index % 20 < 6:
            frames[index] = np.roll(frames[index], 3 * (index % 2), axis=1)
    assert whats(film(frames, times(), **JPEG)) == []


# --------------------------------------------------------------------------------------------------------------- light


def test_a_step_of_the_exposure(film):
    light = np.where(times() < 3, 1.0, np.where(times() < 5.5, 0.92, 1.0))
    what = only(film(scene(times(), light=light), times())).what
    assert what.startswith("2 sudden changes of brightness in the whole picture, at ")
    found = [float(part.strip(" s")) for part in what.split("at ")[-1].split(",")]
    np.testing.assert_allclose(found, [3, 5.5], atol=0.5)


def test_a_step_of_the_white_balance(film):
    tint = np.where(times()[:, None] < 4, 1.0, [1.04, 1.0, 0.96])
    assert only(film(scene(times(), tint=tint), times())).what.startswith("1 sudden changes of colour")


def test_slow_drift_is_no_step(film):
    assert whats(film(scene(times(), light=1 + 0.06 * np.sin(2 * np.pi * 0.1 * times())), times())) == []


def test_flicker_is_seen_and_named(film):
    fps, mains = 24.75, 100.0  # aliases to 1 Hz
    at_s = np.arange(198) / fps + np.random.default_rng(0).uniform(-1e-3, 1e-3, 198)
    light = 1 + 0.01 * np.cos(2 * np.pi * mains * np.arange(198) / fps)
    finding = only(film(scene(at_s, light=light), at_s, rate=25))
    assert finding.what.startswith("the background pulsates at 1.0")
    assert "50 Hz mains look like at 24.75 fps" in finding.what
    amplitude = float(finding.what.split("by ")[1].split("%")[0])
    assert amplitude == pytest.approx(1.0, abs=0.2)


def test_flicker_that_is_not_there_is_only_predicted(film):
    fps = 24.75
    at_s = np.arange(198) / fps + np.random.default_rng(0).uniform(-1e-3, 1e-3, 198)
    finding = only(film(scene(at_s), at_s, rate=25))
    assert finding.what == "at 24.75 fps, light of 100 Hz (50 Hz mains) would look like 60 bpm"


def test_a_light_that_is_no_mains_is_named_as_it_is(film):
    finding = only(film(scene(times(), light=1 + 0.005 * np.sin(2 * np.pi * 2.1 * times())), times()))
    assert finding.what.startswith("the background pulsates at 2.1")
    assert "mains" not in finding.what


def test_the_pulse_of_the_face_is_not_taken_for_flicker(sound):
    measured = measure_film(sound, detector=Detector(), quiet=True)
    face = dataclasses.replace(measured, background=measured.middle)
    assert any("pulsates at 1.2" in finding.what for finding in check_film(face))  # the test could see it
    assert check_film(measured) == []


@pytest.mark.parametrize(
    ("light_hz", "fps", "seen_hz"), [(100, 30, 10), (120, 29.97, 0.12), (100, 24.9, 0.4), (120, 30, 0), (50, 24, 2)]
)
def test_aliases(light_hz, fps, seen_hz):
    assert alias_hz(light_hz, fps) == pytest.approx(seen_hz, abs=1e-9)
    k = np.arange(200)
    np.testing.assert_allclose(
        np.cos(2 * np.pi * light_hz * k / fps), np.cos(2 * np.pi * alias_hz(light_hz, fps) * k / fps), atol=1e-9
    )


@pytest.mark.parametrize(("light", "level"), [(0.17, "warning"), (0.03, "error")])
def test_a_dark_face(film, light, level):
    finding = only(film(scene(times(), light=light, noise=1.5), times(), crf=0, preset="ultrafast"))
    assert finding.level == level
    assert finding.what.startswith("the face is dark: ")


def test_a_saturated_face(film):
    finding = only(film(scene(times(), skin=(270.0, 200.0, 150.0)), times()))
    assert finding.level == "error"
    assert "of the face is saturated" in finding.what


@pytest.mark.parametrize("pixels", ["yuv420p", "gray"])
def test_a_grey_film(film, pixels):
    grey = (np.repeat(frame[..., 1:2], 3, axis=2) for frame in scene(times()))
    findings = check_video(film(grey, times(), pixels=pixels), detector=Detector(), quiet=True)
    assert findings[0].level == "error"
    assert findings[0].what.startswith("the film is grey")


def test_red_and_blue_swapped(film):
    swapped = (np.ascontiguousarray(frame[..., ::-1]) for frame in scene(times()))
    assert only(film(swapped, times())).what.startswith("the face is bluer")


# --------------------------------------------------------------------------------------------------------------- faces


def test_no_face_and_a_face_that_leaves(sound):
    finding = only(sound, Detector(missing=lambda look: True))
    assert (finding.level, finding.what) == ("error", "no face in 100% of the 16 frames that were searched")
    # every miss costs three looks more, at the turned frame
    left = Detector(missing=lambda look: look > 12)
    assert only(sound, left).what.startswith("no face in 25% of the 16")


def test_a_film_on_its_side(film):
    sideways = (np.ascontiguousarray(np.rot90(frame)) for frame in scene(times()))
    finding = only(film(sideways, times()), Detector())  # shows a face in landscape pictures alone
    assert finding.level == "error"
    assert finding.what.endswith("but one in frames turned by 90 degrees anticlockwise")


def test_two_faces(sound):
    assert only(sound, Detector((BOX, (5, 5, 30, 30)))).what.startswith("up to 2 faces, more than one in 100%")


@pytest.mark.parametrize(("width_px", "level"), [(40, "warning"), (20, "error")])
def test_a_small_face(sound, width_px, level):
    findings = check_video(sound, detector=Detector(((60, 40, width_px, width_px),)), quiet=True)
    assert findings[0].level == level
    assert findings[0].what.startswith(f"the face is {width_px} px wide")


def test_a_face_that_jumps(sound):
    class Jumping(Detector):
        def detect(self, image):
            self.boxes = ((45.0 if self.looks < 8 else 85.0, 20.0, 70.0, 80.0),)
            return super().detect(image)

    assert only(sound, Jumping()).what == "1 times the face moves by half its width and more within 0.5 s"


def test_nobody_looked_where_the_detector_is_not_installed(sound, monkeypatch):
    import robustvision.core.runtime.faces as faces

    monkeypatch.setattr(faces.importlib.util, "find_spec", lambda name: None)
    (finding,) = check_video(sound, quiet=True)
    assert finding.what == "nobody looked for faces"
    assert "robustvision-core[detector]" in finding.advice


def test_the_real_detector_on_a_real_photo_made_into_a_film(film):
    from skimage import data

    photo = data.astronaut()[:300, 70:370].astype(float)
    rng = np.random.default_rng(0)
    at_s = times(seconds=6)

    def frames():
        for time_s in at_s:
            beat = 1 - 0.008 * np.cos(2 * np.pi * 1.2 * time_s) * np.array([0.33, 0.77, 0.53])
            yield np.clip(np.rint(photo * beat + rng.normal(0, 2, photo.shape)), 0, 255).astype(np.uint8)

    path = film(frames(), at_s)
    measured = measure_film(path, detector=None, quiet=True)
    assert measured.faces is None
    found = [finding.what for finding in check_video(path, quiet=True)]
    assert not [what for what in found if "face" in what and "saturated" not in what]
    on_side = film((np.ascontiguousarray(np.rot90(frame)) for frame in frames()), at_s, ".mkv")
    sideways = [finding.what for finding in check_video(on_side, quiet=True)]
    assert any("turned by 270 degrees anticlockwise" in what for what in sideways)


# -------------------------------------------------------------------------------------------------------------- format


def test_strong_compression_is_told_with_its_chroma(film):
    finding = next(
        one
        for one in check_video(film(scene(times()), times(), crf=40), detector=Detector(), quiet=True)
        if "compression:" in one.what
    )
    assert "h264 with 0.0" in finding.what
    assert "4:2:0" in finding.what


def test_jpeg_of_low_quality(film):
    path = film(scene(times()), times(), ".mkv", codec="mjpeg", pixels="yuvj420p", qmin=25, qmax=31)
    assert any(what.startswith("strong compression: mjpeg") for what in whats(path))


def test_ten_bits(film):
    assert any(
        what == "deep colour: 10 bits (yuv420p10le); frames are read as 8 bits"
        for what in whats(film(scene(times()), times(), pixels="yuv420p10le"))
    )


@pytest.mark.parametrize(
    ("codec", "pixels", "suffix", "expected"),
    [
        ("libx264", "yuv420p", ".mp4", ("h264", "4:2:0", 8, True)),
        ("libx264", "yuv444p", ".mkv", ("h264", "4:4:4", 8, True)),
        ("mjpeg", "yuvj422p", ".avi", ("mjpeg", "4:2:2", 8, False)),
        ("ffv1", "bgr0", ".mkv", ("ffv1", "rgb", 8, True)),
        ("ffv1", "gray", ".mkv", ("ffv1", "grey", 8, True)),
    ],
)
def test_the_format_is_read(film, codec, pixels, suffix, expected):
    path = film(list(scene(times()))[:60], times()[:60], suffix, codec=codec, pixels=pixels)
    found = read_format(path)
    assert (found.codec, found.chroma, found.bits, found.has_times) == expected
    assert found.bits_per_s == pytest.approx(8 * path.stat().st_size / 2, rel=0.2)


def test_without_pyav_the_format_is_said_to_be_unknown(sound, monkeypatch):
    real = builtins.__import__

    def without_av(name, *args, **kwargs):
        if name == "av":
            raise ModuleNotFoundError("No module named 'av'", name="av")
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without_av)
    finding = only(sound)
    assert finding.what == "codec, bit rate and chroma could not be looked at"
    assert "robustvision-rppg[video]" in finding.advice

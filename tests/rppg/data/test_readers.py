"""Readers on tiny trees in the real layouts: times, order, values, and what they say of broken trees."""

from __future__ import annotations

import json
import pickle
import shutil
from dataclasses import replace

import numpy as np
import pytest
import scipy.io

from robustvision.core.errors import InputError
from robustvision.rppg.data import check_labels, prepare_clips, read_mmpd, read_pure, read_scamps, read_ubfc
from robustvision.rppg.preprocessing import Preprocessing


def red(recording):
    return [int(image[0, 0, 0]) for image in recording.frames()]


class TestPure:
    def test_frames_and_wave_are_matched_by_their_times(self, pure_tree):
        times = (0.0, 0.0333, 0.2, 0.2334)  # frames were dropped: by number, the wave would be elsewhere
        (recording,) = read_pure(pure_tree(frame_times_s=times, label_times_s=np.arange(-5, 30) / 60))
        np.testing.assert_allclose(recording.timestamps_s, times, atol=1e-9)
        np.testing.assert_allclose(recording.bvp, times, atol=1e-7)  # the wave is a ramp, equal to the time
        assert red(recording) == [0, 2, 4, 6]
        assert red(pickle.loads(pickle.dumps(recording))) == [0, 2, 4, 6]
        assert next(recording.frames()).shape == (24, 32, 3)

    def test_nanoseconds_survive(self, pure_tree):
        (recording,) = read_pure(pure_tree(frame_times_s=(0.0, 100e-9, 1.0), label_times_s=(0, 2)))
        assert recording.timestamps_s[1] == pytest.approx(100e-9, rel=1e-6)  # a float of 1.4e18 has steps of 256

    def test_frames_outside_the_wave_are_not_invented(self, pure_tree):
        (recording,) = read_pure(pure_tree(frame_times_s=(0.0, 0.1, 0.2, 0.3), label_times_s=(0.05, 0.25)))
        assert np.isnan(recording.bvp).tolist() == [True, False, False, True]

    def test_order_subject_and_task(self, pure_tree):
        for name in ("10-02", "02-06", "02-01"):
            root = pure_tree(name)
        (root / "readme.txt").write_text("not a recording")
        assert [(entry.name, entry.subject, entry.conditions["task"]) for entry in read_pure(root)] == [
            ("02-01", "02", "steady"),
            ("02-06", "02", "medium rotation"),
            ("10-02", "10", "talking"),
        ]

    def test_images_are_sorted_by_number_not_by_text(self, pure_tree):
        root = pure_tree()
        images = root / "01-01" / "01-01"
        for path in images.iterdir():  # one digit fewer sorts behind in text
            path.rename(images / f"Image{int(path.stem[5:]) - 1_392_643_993_642_000_000 + 184_990}.png")
        package = [{"Timestamp": stamp, "Value": {"waveform": stamp}} for stamp in (0, 200_000_000)]
        (root / "01-01" / "01-01.json").write_text(json.dumps({"/FullPackage": package}))
        (recording,) = read_pure(root)
        names = sorted(path.name for path in images.iterdir())
        assert names[-1] == "Image999990.png"
        assert red(recording) == [0, 2, 4]

    @pytest.mark.parametrize(
        ("breaks", "says"),
        [
            (lambda folder: (folder / "01-01.json").unlink(), r"cannot read .*01-01.json .*beside the folder"),
            (lambda folder: shutil.rmtree(folder / "01-01"), r"01-01.*is not a folder.*Image<nanoseconds>"),
            (lambda folder: (folder / "01-01.json").write_text('{"/FullPackage": ['), r"01-01.json is no JSON.*cut"),
            (lambda folder: (folder / "01-01.json").write_bytes(b"\xff\xfe\x00"), r"01-01.json is no JSON"),
            (lambda folder: (folder / "01-01.json").write_text('{"a": 1}'), r"not in PURE's form \(KeyError"),
            (lambda folder: (folder / "01-01.json").write_text("[1]"), r"not in PURE's form \(TypeError"),
            (lambda folder: next((folder / "01-01").iterdir()).unlink(), r"holds 2 of the 3 images that 01-01.json"),
        ],
    )
    def test_broken_trees(self, pure_tree, breaks, says):
        root = pure_tree()
        breaks(root / "01-01")
        with pytest.raises(InputError, match=says):
            read_pure(root)

    def test_a_wave_of_another_day(self, pure_tree):
        with pytest.raises(InputError, match="no common clock"):
            read_pure(pure_tree(label_times_s=(1000.0, 1001.0)))

    def test_a_torn_image_is_named_when_it_is_read(self, pure_tree):
        root = pure_tree()
        image = sorted((root / "01-01" / "01-01").iterdir())[1]
        image.write_bytes(image.read_bytes()[:40])
        (recording,) = read_pure(root)
        with pytest.raises(InputError, match=image.name):
            list(recording.frames())

    def test_another_folder(self, tmp_path):
        (tmp_path / "subject1").mkdir()
        with pytest.raises(InputError, match=r"holds subject1; expected PURE's folders 01-01"):
            read_pure(tmp_path)
        with pytest.raises(InputError, match="is not a folder"):
            read_pure(tmp_path / "gone")


class TestUbfc:
    def test_the_wave_is_read_by_its_own_times(self, ubfc_tree):
        label_times = np.arange(30) / 60  # twice as many samples as frames
        (recording,) = read_ubfc(ubfc_tree(frames=12, fps=25, label_times_s=label_times))
        np.testing.assert_allclose(recording.timestamps_s, np.arange(12) / 25)
        np.testing.assert_allclose(recording.bvp, recording.timestamps_s, atol=1e-6)  # a ramp, equal to the time
        assert red(recording) == list(range(0, 24, 2))
        assert [int(image[5, 5, 1]) for image in recording.frames()] == [1] * 12  # RGB, twice over

    def test_a_frame_is_upright_and_rgb(self, ubfc_tree):
        (recording,) = read_ubfc(ubfc_tree(number=9))
        last = list(recording.frames())[-1]
        assert last.shape == (24, 32, 3)
        assert last[0, 0].tolist() == [22, 9, 255]
        assert last[-1, -1].tolist() == [22, 9, 0]

    def test_order(self, ubfc_tree):
        for number in (10, 9, 1):
            root = ubfc_tree(number)
        assert [entry.subject for entry in read_ubfc(root)] == ["1", "9", "10"]

    def test_a_short_label(self, ubfc_tree):
        (recording,) = read_ubfc(ubfc_tree(frames=90, fps=30, label_times_s=np.arange(40) / 30))
        assert np.isfinite(recording.bvp).sum() == 40
        findings = {finding.kind: finding.what for finding in check_labels(recording)}
        assert "misses 1.6 of 3.0 s" in findings["short"]
        (clip,) = prepare_clips([with_box(recording)], Preprocessing(size_px=8), quiet=True)
        assert len(clip) == 40  # the rest has no truth, so it is no clip
        assert np.isfinite(clip.bvp).all()

    def test_a_wrong_frame_rate_in_the_film_is_told(self, ubfc_tree):
        root = ubfc_tree(frames=160, fps=30, label_times_s=np.arange(160) / 24)
        findings = {finding.kind: finding.what for finding in check_labels(read_ubfc(root)[0])}
        assert "one sample a frame, so the film's frame rate is likely wrong" in findings["clocks"]

    @pytest.mark.parametrize(
        ("text", "says"),
        [
            ("1 2 3\n70 70 70\n", r"lines of 3, 3 numbers; expected 3 of one length"),
            ("1 2 3\n70 70 70\n0 1\n", r"lines of 3, 3, 2 numbers"),
            ("", r"lines of nothing numbers"),
            ("1 2 3\n70 x 70\n0 1 2\n", r"ground_truth.txt:2: .*'x'"),
            ("1 nan 3\n70 70 70\n0 .1 .2\n", "not finite"),
            ("1 2 3 4\n70 70 70 70\n0 .3 .2 .1\n", "times are not after the one before"),
        ],
    )
    def test_broken_ground_truth(self, ubfc_tree, text, says):
        root = ubfc_tree()
        (root / "subject1" / "ground_truth.txt").write_text(text)
        with pytest.raises(InputError, match=says):
            read_ubfc(root)

    def test_missing_files(self, ubfc_tree):
        root = ubfc_tree()
        (root / "subject1" / "ground_truth.txt").rename(root / "truth")
        with pytest.raises(InputError, match=r"cannot read .*ground_truth.txt"):
            read_ubfc(root)
        (root / "truth").rename(root / "subject1" / "ground_truth.txt")
        (root / "subject1" / "vid.avi").write_bytes(b"RIFF\x00\x00")
        with pytest.raises(InputError, match=r"vid.avi"):
            read_ubfc(root)


class TestMmpd:
    def test_values_and_conditions(self, mmpd_tree):
        (recording,) = read_mmpd(mmpd_tree(subject=3, clip=7))
        assert (recording.name, recording.subject) == ("p3_7", "3")
        assert red(recording) == list(range(0, 24, 2))  # round(255 x): a cut would give 1 less for some
        assert next(recording.frames()).dtype == np.uint8
        np.testing.assert_allclose(recording.bvp, np.arange(12))
        np.testing.assert_allclose(np.diff(recording.timestamps_s), 1 / 30)
        assert recording.conditions == {
            "light": "LED-low",
            "motion": "Stationary (after exercise)",
            "gender": "female",
            "exercise": True,
            "glasses": False,
            "hair_cover": False,
            "makeup": False,
            "skin_type": 4,
            "clip": 7,
            "label_samples": 12,
        }

    def test_every_grey_level_survives(self, mmpd_tree):
        levels = np.arange(256, dtype=np.uint8)
        for dtype in (np.float32, np.float64):
            video = (levels.astype(dtype) / 255).reshape(4, 8, 8, 1).repeat(3, axis=3)
            (recording,) = read_mmpd(mmpd_tree(video=video, GT_ppg=np.arange(4.0)[None]))
            np.testing.assert_array_equal(np.stack(list(recording.frames()))[..., 0].ravel(), levels)

    def test_an_old_name_and_blanks(self, mmpd_tree):
        mmpd_tree(clip=0, motion="Watching Videos", light="Nature  ")
        root = mmpd_tree(clip=1, motion="Talking", makeup=None)
        first, second = read_mmpd(root)
        assert (first.conditions["motion"], first.conditions["light"]) == ("Walking", "Nature")
        assert second.conditions["motion"] == "Talking"
        assert "makeup" not in second.conditions

    def test_order(self, mmpd_tree):
        for subject, clip in ((10, 0), (2, 10), (2, 9)):
            root = mmpd_tree(subject, clip)
        assert [entry.name for entry in read_mmpd(root)] == ["p2_9", "p2_10", "p10_0"]

    def test_a_wave_of_another_length_spans_the_film_and_is_told(self, mmpd_tree):
        (recording,) = read_mmpd(mmpd_tree(GT_ppg=np.linspace(0, 11, 23)[None]))
        np.testing.assert_allclose(recording.bvp, np.arange(12), atol=1e-6)
        assert [finding.kind for finding in check_labels(recording)] == ["stretched"]

    @pytest.mark.parametrize(
        ("changes", "says"),
        [
            ({"video": None}, "has no video; expected video"),
            ({"video": np.zeros((12, 24, 32))}, r"has video \(12, 24, 32\)"),
            ({"GT_ppg": None}, "no GT_ppg"),
            ({"GT_ppg": np.zeros((1, 5))}, "5 samples of the wave for 12 frames"),
            ({"GT_ppg": np.full((1, 12), np.nan)}, "not finite"),
            ({"skin_color": 9}, "skin_color is '9'"),
            ({"makeup": "maybe"}, "makeup is 'maybe'"),
        ],
    )
    def test_broken_files(self, mmpd_tree, changes, says):
        root = mmpd_tree(**changes)
        with pytest.raises(InputError, match=r"p1_0.mat.*" + says):
            read_mmpd(root)

    @pytest.mark.parametrize(
        ("video", "says"),
        [
            (np.full((4, 6, 8, 3), 37.0), "values from 37 to 37: expected floats from 0 to 1"),
            (np.full((4, 6, 8, 3), np.nan), "values from nan to nan"),
            (np.zeros((4, 6, 8, 3), np.int16), "is int16"),
        ],
    )
    def test_films_of_other_numbers(self, mmpd_tree, video, says):
        (recording,) = read_mmpd(mmpd_tree(video=video, GT_ppg=np.arange(4.0)[None]))
        with pytest.raises(InputError, match="frame 0 .*" + says):
            list(recording.frames())

    def test_a_torn_file(self, mmpd_tree):
        root = mmpd_tree()
        path = root / "subject1" / "p1_0.mat"
        data = path.read_bytes()
        for kept in (0, 50, 140, len(data) // 2):
            path.write_bytes(data[:kept])
            with pytest.raises(InputError, match=r"p1_0.mat"):
                read_all(root)


class TestScamps:
    @pytest.fixture(params=["5", "7.3 time first", "7.3 time last"])
    def scamps_tree(self, request, tmp_path):
        film = np.stack([np.full((24, 32, 3), (index, 100, 255)) for index in range(70)]) / 255.0
        film[:, 0, 0, 2] = 0
        path = tmp_path / "P000012.mat"
        if request.param == "5":
            scipy.io.savemat(path, {"RawFrames": film, "d_ppg": np.arange(70.0)[:, None]})
            return tmp_path
        h5py = pytest.importorskip("h5py")
        if request.param.endswith("last"):
            film = np.moveaxis(film, 0, 3)
        with h5py.File(path, "w", userblock_size=512) as file:  # MATLAB's text comes first, and axes are reversed
            file["Xsub"], file["d_ppg"] = film.T, np.arange(70.0)[None]
        return tmp_path

    def test_both_versions_and_orders(self, scamps_tree):
        (recording,) = read_scamps(scamps_tree)
        assert (recording.name, recording.subject) == ("P000012", "12")
        frames = np.stack(list(recording.frames()))
        assert frames.shape == (70, 24, 32, 3)
        np.testing.assert_array_equal(frames[:, 5, 5, 0], np.arange(70))
        assert (frames[:, 5, 5, 1] == 100).all()
        assert (frames[:, 0, 0, 2] == 0).all()
        assert (frames[:, 0, 1, 2] == 255).all()
        np.testing.assert_allclose(recording.bvp, np.arange(70), atol=1e-4)

    def test_other_variables(self, tmp_path):
        scipy.io.savemat(tmp_path / "P000001.mat", {"video": np.zeros((2, 2)), "d_ppg": np.zeros(3)})
        with pytest.raises(InputError, match=r"holds video, d_ppg; expected RawFrames or Xsub"):
            read_scamps(tmp_path)
        scipy.io.savemat(tmp_path / "P000001.mat", {"Xsub": np.zeros((2, 2, 6, 9)), "d_ppg": np.zeros(9)})
        with pytest.raises(InputError, match=r"Xsub is \(2, 2, 6, 9\)"):
            read_scamps(tmp_path)


def read_all(root):
    return [list(recording.frames()) for recording in read_mmpd(root)]


def with_box(recording):
    """The middle of the frame stands for the face."""
    boxes = np.tile(np.array([8, 6, 16, 12], np.float32), (len(recording.timestamps_s), 1))
    return replace(recording, boxes_xywh=boxes)

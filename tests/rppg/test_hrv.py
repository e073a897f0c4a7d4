import itertools
import math

import neurokit2
import numpy as np
import pytest

from robustvision.core.errors import InputError
from robustvision.rppg.hrv import beat_times, heart_rate_variability, is_beat_interval, variability_of_beats

FS = 30.0


def heart(seed, seconds=60.0, bpm=70.0, lf_ms=25.0, hf_ms=25.0, jitter_ms=5.0):
    """Beat times with modulation at 0.1 and 0.25 Hz, from 2 s before the recording to 3 s after."""
    rng = np.random.default_rng(seed)
    phases, beats = rng.uniform(0, 2 * np.pi, 2), [-2.0]
    while beats[-1] < seconds + 3:
        t = beats[-1]
        slow, fast = np.sin(2 * np.pi * np.array([0.1, 0.25]) * t + phases)
        beats.append(t + 60 / bpm + 1e-3 * (lf_ms * slow + hf_ms * fast + jitter_ms * rng.normal()))
    return np.array(beats)


def waveform(beats_s, seconds=60.0, fs=FS, dicrotic=0.55, at=0.47):
    """A systolic and a dicrotic wave, the first with its peak a fifth of the interval after the beat."""
    t = np.arange(round(seconds * fs)) / fs
    k = np.searchsorted(beats_s, t, side="right") - 1
    phase = (t - beats_s[k]) / (beats_s[k + 1] - beats_s[k])
    return np.exp(-0.5 * ((phase - 0.22) / 0.09) ** 2) + dicrotic * np.exp(-0.5 * ((phase - at) / 0.11) ** 2)


def within(beats_s, seconds=60.0):
    return beats_s[(beats_s >= 0) & (beats_s < seconds)]


class TestBeats:
    def test_lie_between_the_samples(self):
        beats = 0.31 + np.arange(60) * 0.8371  # never the same place between two frames
        t = np.arange(1500) / FS
        found = beat_times(np.cos(2 * np.pi * (t - 0.31) / 0.8371), FS)[2:-2]
        errors = found - beats[np.abs(beats[:, None] - found).argmin(0)]
        assert np.abs(errors).max() < 1e-3  # whole frames would be up to 17 ms off

    def test_are_one_a_period_in_spite_of_the_dicrotic_wave(self):
        for seed, bpm in enumerate((50, 70, 95, 125)):
            beats = heart(seed, bpm=bpm, lf_ms=15, hf_ms=15)
            for dicrotic, at in ((0.3, 0.47), (0.55, 0.47), (0.4, 0.58)):
                found = beat_times(waveform(beats, dicrotic=dicrotic, at=at), FS)
                assert abs(len(found) - len(within(beats))) <= 1

    @pytest.mark.parametrize("flat", [np.zeros(900), np.full(900, 0.1), np.full(900, 1e5)])
    def test_a_constant_has_none(self, flat):
        assert beat_times(flat, FS).size == 0
        assert "no pulse" in heart_rate_variability(flat, FS).reason

    def test_scale_and_offset_do_not_move_them(self):
        x = waveform(heart(0))
        np.testing.assert_allclose(beat_times(1e-4 * x + 0.3, FS), beat_times(x, FS), atol=1e-6)


class TestTimeDomain:
    def test_follows_the_formulas(self):
        intervals = np.array([805, 850, 790, 860, 830, 770, 835] * 5) / 1000
        got = variability_of_beats(np.cumsum(intervals))
        ms = 1000 * intervals[1:]  # the first one only places the first beat
        steps = [b - a for a, b in itertools.pairwise(ms)]
        assert got.heart_rate_bpm == pytest.approx(60_000 / (sum(ms) / len(ms)))
        assert got.sdnn_ms == pytest.approx(math.sqrt(sum((v - sum(ms) / len(ms)) ** 2 for v in ms) / (len(ms) - 1)))
        assert got.rmssd_ms == pytest.approx(math.sqrt(sum(s**2 for s in steps) / len(steps)))
        assert got.pnn50 == pytest.approx(100 * sum(abs(s) > 50 for s in steps) / len(steps))
        assert (got.num_beats, got.artefacts) == (35, 0)

    def test_agrees_with_neurokit(self):
        beats = within(heart(3, 300), 300)
        peaks = {"RRI": 1000 * np.diff(beats), "RRI_Time": beats[1:]}
        peer = neurokit2.hrv_time(peaks, sampling_rate=1000).iloc[0]
        got = variability_of_beats(beats)
        assert got.sdnn_ms == pytest.approx(peer["HRV_SDNN"], rel=1e-6)
        assert got.rmssd_ms == pytest.approx(peer["HRV_RMSSD"], rel=1e-6)
        intervals = len(beats) - 1
        assert got.pnn50 == pytest.approx(peer["HRV_pNN50"] * intervals / (intervals - 1))  # it divides by one more

    def test_frames_of_33_ms_do_not_make_an_rmssd(self):
        regular = np.arange(-2, 64, 0.8371)
        whole_frames = np.round(within(regular) * FS) / FS
        assert variability_of_beats(whole_frames, 60).rmssd_ms > 15  # what quantisation alone would show
        assert heart_rate_variability(waveform(regular), FS).rmssd_ms < 1.5

    @pytest.mark.parametrize("fs", [15.0, 30.0, 60.0])
    def test_a_waveform_shows_what_its_beats_have(self, fs):
        errors = []
        for seed in range(8):
            beats = heart(seed, bpm=55 + 7 * seed, lf_ms=20, hf_ms=20)
            got, truth = heart_rate_variability(waveform(beats, fs=fs), fs), variability_of_beats(within(beats), 60)
            errors.append(
                (got.heart_rate_bpm - truth.heart_rate_bpm, got.sdnn_ms - truth.sdnn_ms, got.rmssd_ms - truth.rmssd_ms)
            )
        assert np.abs(errors).max(0) == pytest.approx([0, 0, 0], abs=5)
        assert np.abs(np.mean(errors, 0))[0] < 0.2


class TestFrequencyDomain:
    def test_an_oscillation_of_the_intervals_has_half_its_square(self):
        for lf_ms, hf_ms in ((30, 0), (0, 30), (20, 35)):
            got = variability_of_beats(within(heart(0, 300, lf_ms=lf_ms, hf_ms=hf_ms, jitter_ms=0), 300))
            assert got.lf_ms2 == pytest.approx(lf_ms**2 / 2, rel=0.1, abs=15)
            assert got.hf_ms2 == pytest.approx(hf_ms**2 / 2, rel=0.1, abs=15)

    def test_agrees_with_neurokit(self):
        for seed in range(3):
            beats = within(heart(seed, 300), 300)
            peaks = {"RRI": 1000 * np.diff(beats), "RRI_Time": beats[1:]}
            peer = neurokit2.hrv_frequency(peaks, sampling_rate=1000, normalize=False, interpolation_rate=4).iloc[0]
            got = variability_of_beats(beats)
            assert got.lf_ms2 == pytest.approx(peer["HRV_LF"], rel=0.06)  # other windows: 0.2 to 2.5 % seen
            assert got.hf_ms2 == pytest.approx(peer["HRV_HF"], rel=0.06)


class TestWhatIsTooShort:
    @pytest.mark.parametrize(
        ("seconds", "has_time", "has_frequency"),
        [(0.1, False, False), (19.9, False, False), (20, True, False), (54.9, True, False), (55, True, True)],
    )
    def test_says_so(self, seconds, has_time, has_frequency):
        got = heart_rate_variability(waveform(heart(1, seconds), seconds), FS)
        for name in ("sdnn_ms", "rmssd_ms", "pnn50", "heart_rate_bpm"):
            assert math.isfinite(getattr(got, name)) == has_time
        assert math.isfinite(got.lf_ms2) == math.isfinite(got.hf_ms2) == has_frequency
        assert bool(got.reason) != has_frequency
        if not has_frequency:
            assert "too short" in got.reason

    def test_few_beats_are_no_pulse(self):
        assert "no pulse" in variability_of_beats([1.0, 2.0, 3.0], 30).reason
        assert "too short" in variability_of_beats([]).reason


class TestArtefacts:
    def test_missed_and_extra_beats_are_told_and_their_neighbours_kept(self):
        beats = within(heart(5))
        broken = np.sort(np.append(np.delete(beats, 20), beats[40] + 0.35 * (beats[41] - beats[40])))
        got, truth = variability_of_beats(broken, 60), variability_of_beats(beats, 60)
        assert got.artefacts == pytest.approx(3 / (len(broken) - 1))  # one long interval, two short
        assert got.sdnn_ms == pytest.approx(truth.sdnn_ms, rel=0.05)
        assert got.rmssd_ms == pytest.approx(truth.rmssd_ms, rel=0.05)
        assert got.lf_ms2 == pytest.approx(truth.lf_ms2, rel=0.2)
        naive = 1000 * np.diff(broken)
        assert naive.std() > 3 * truth.sdnn_ms  # what it would be with them

    def test_no_interval_of_a_heart_that_slows_down_is_one(self):
        assert is_beat_interval(np.linspace(0.5, 1.2, 60)).all()
        assert is_beat_interval(np.linspace(0.5, 1.2, 60)[::-1]).all()

    def test_a_burst_of_them_does_not_drag_its_neighbours_along(self):
        intervals = np.full(40, 0.8)
        intervals[20:24] = 1.9, 1.9, 0.3, 1.9
        assert np.flatnonzero(~is_beat_interval(intervals)).tolist() == [20, 21, 22, 23]

    @pytest.mark.parametrize("interval_s", [0.2, 2.5])
    def test_a_steady_rhythm_that_no_heart_has_is_all_artefact(self, interval_s):
        assert not is_beat_interval(np.full(50, interval_s)).any()
        assert math.isnan(variability_of_beats(np.arange(0, 60, interval_s)).rmssd_ms)

    def test_noise_is_refused(self):
        refused = [
            math.isnan(heart_rate_variability(np.random.default_rng(seed).normal(size=1800), FS).rmssd_ms)
            for seed in range(20)
        ]
        assert np.mean(refused) >= 0.8  # 19 of 20 seen

    def test_a_hole_is_refused_with_its_reason(self):
        x = waveform(heart(0))
        x[700] = np.nan
        got = heart_rate_variability(x, FS)
        assert math.isnan(got.sdnn_ms)
        assert "not finite" in got.reason


def test_no_vector_and_too_low_a_rate_are_refused():
    with pytest.raises(InputError, match="one dimension"):
        heart_rate_variability(np.zeros((2, 900)), FS)
    with pytest.raises(InputError, match="half the sampling rate"):
        heart_rate_variability(np.zeros(900), 7.0)

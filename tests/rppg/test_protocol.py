import json
import math
from dataclasses import FrozenInstanceError, replace

import numpy as np
import pytest
import scipy.signal

from robustvision.core.errors import InputError
from robustvision.rppg.metrics import snr_db
from robustvision.rppg.protocol import (
    PAPER2023,
    PROTOCOLS,
    SENSITIVITY,
    TOOLBOX_CURRENT,
    Protocol,
    protocol_sensitivity,
)

FS = 30.0
WINDOWED = replace(PAPER2023, window_s=10.0)


def pulse(bpm=72.0, seconds=60.0, fs=FS, noise=0.0, seed=0):
    """A beat with its second harmonic on a drifting baseline."""
    t = np.arange(round(seconds * fs)) / fs
    phase = 2 * np.pi * bpm / 60 * t
    beat = np.sin(phase) + 0.4 * np.sin(2 * phase + 1) + 3 * np.sin(2 * np.pi * 0.03 * t) + 50
    return beat + noise * np.random.default_rng(seed).normal(size=t.size)


def dense_reference(prediction, label, protocol):
    """The whole read-out of one window, step by step from the sheet's formulas, with dense matrices and plain loops."""
    n = len(label)
    second = np.diff(np.eye(n), 2, axis=0)
    residual = np.eye(n) - np.linalg.inv(np.eye(n) + protocol.detrend_lambda**2 * second.T @ second)
    b, a = scipy.signal.butter(1, np.array(protocol.band_hz) / (FS / 2), btype="bandpass")
    x, y = (scipy.signal.filtfilt(b, a, residual @ v) for v in (prediction, label))
    nfft = 2 ** math.ceil(math.log2(n))
    hz = np.arange(nfft // 2 + 1) * FS / nfft

    def rate(wave):
        if protocol.method == "peak":
            tops = [i for i in range(1, n - 1) if wave[i - 1] < wave[i] > wave[i + 1]]
            return 60 / (np.mean(np.diff(tops)) / FS)
        power = np.abs(np.fft.rfft(wave, nfft)) ** 2
        power[(hz < protocol.band_hz[0]) | (hz > protocol.band_hz[1])] = -1
        return 60 * hz[np.argmax(power)]

    power = np.abs(np.fft.rfft(x, nfft)) ** 2
    f = rate(y) / 60
    near = (abs(hz - f) <= 0.1) | (abs(hz - 2 * f) <= 0.1)
    rest = (hz >= protocol.band_hz[0]) & (hz <= protocol.band_hz[1]) & ~near
    decibels = 10 * math.log10(power[near].sum() / power[rest].sum())
    likeness = max(abs(np.corrcoef(x, np.roll(y, lag))[0, 1]) for lag in range(n - 1))
    return rate(x), rate(y), decibels, likeness


@pytest.mark.parametrize("method", ["fft", "peak"])
@pytest.mark.parametrize("preset", [PAPER2023, TOOLBOX_CURRENT], ids=lambda p: p.name)
def test_a_reading_is_what_the_formulas_give(method, preset):
    protocol = replace(preset, method=method)
    prediction, label = pulse(93, 20, noise=1.5), pulse(88, 20, noise=0.3, seed=1)
    [reading] = protocol.read(prediction, label, FS, name="one")
    expected = dense_reference(prediction, label, protocol)
    assert (reading.hr_bpm, reading.label_bpm, reading.snr_db, reading.macc) == pytest.approx(expected, abs=1e-6)
    assert (reading.name, reading.start_s) == ("one", 0)


class TestWindows:
    def test_follow_each_other_and_the_remainder_is_one_too(self):
        label = np.concatenate([pulse(60, 10), pulse(90, 10), pulse(120, 4)])
        readings = WINDOWED.read(label, label, FS)
        assert [r.start_s for r in readings] == [0, 10, 20]
        assert [r.label_bpm for r in readings] == pytest.approx([60, 90, 120], abs=7)
        for reading, part in zip(readings, (label[:300], label[300:600], label[600:]), strict=True):
            assert reading == replace(PAPER2023.read(part, part, FS)[0], start_s=reading.start_s)

    @pytest.mark.parametrize(("left_over", "count"), [(0, 2), (9, 2), (10, 3)])
    def test_what_cannot_be_filtered_is_left_out(self, left_over, count):
        label = pulse(72, 30)[: 600 + left_over]
        assert len(WINDOWED.read(label, label, FS)) == count

    def test_a_recording_shorter_than_the_window_is_one(self):
        label = pulse(72, 7)
        assert WINDOWED.read(label, label, FS) == PAPER2023.read(label, label, FS)

    @pytest.mark.parametrize(("seconds", "window_s"), [(0.3, None), (0.3, 10), (60, 0.2), (60, 0.01)])
    def test_nothing_long_enough_is_refused(self, seconds, window_s):
        with pytest.raises(InputError, match=r"cannot-be holds .* at least 10 samples"):
            replace(PAPER2023, window_s=window_s).read(pulse(72, seconds), pulse(72, seconds), FS, name="cannot-be")

    def test_a_rate_that_is_no_whole_number(self):
        label = pulse(72, 30, 29.97)
        assert [r.start_s for r in WINDOWED.read(label, label, 29.97)][:3] == pytest.approx(
            [0, 299 / 29.97, 598 / 29.97]
        )


class TestInvariances:
    def test_scale_offset_slope_and_sign_of_the_prediction_change_nothing(self):
        prediction, label = pulse(80, 20, noise=1), pulse(80, 20)
        [plain] = PAPER2023.read(prediction, label, FS)
        [moved] = PAPER2023.read(-30 * prediction + 5 + 0.1 * np.arange(600), label, FS)
        for name in ("hr_bpm", "label_bpm", "snr_db", "macc"):
            assert getattr(moved, name) == pytest.approx(getattr(plain, name), abs=1e-6)

    def test_a_lagging_or_inverted_label_keeps_rate_and_likeness(self):
        long = pulse(75, 41, noise=0.1)
        [there] = PAPER2023.read(long[:1200], long[:1200], FS)
        [lagging] = PAPER2023.read(long[9:1209], -long[:1200], FS)  # 0.3 s
        assert lagging.label_bpm == there.label_bpm == lagging.hr_bpm
        assert lagging.macc > 0.97

    def test_derivatives_are_summed_up(self):
        prediction, label = pulse(66, 25, noise=0.2), pulse(66, 25)
        whole = WINDOWED.read(prediction, label, FS)
        summed = WINDOWED.read(np.diff(prediction, prepend=0), np.diff(label, prepend=0), FS, derivative=True)
        for first, second in zip(whole, summed, strict=True):
            assert second.snr_db == pytest.approx(first.snr_db, abs=1e-5)
            assert second.macc == pytest.approx(first.macc, abs=1e-6)


class TestNoPulse:
    @pytest.mark.parametrize(
        "flat", [np.zeros(600), np.full(600, 0.1), np.full(600, 1e6), np.linspace(-3, 900, 600), np.full(600, np.nan)]
    )
    @pytest.mark.parametrize("method", ["fft", "peak"])
    def test_a_prediction_without_pulse_gets_no_rate_and_counts(self, flat, method):
        [reading] = replace(PAPER2023, method=method).read(flat, pulse(72, 20), FS)
        assert np.isnan([reading.hr_bpm, reading.snr_db, reading.macc]).all()
        assert reading.label_bpm == pytest.approx(72, abs=2)
        [row] = protocol_sensitivity([(flat, pulse(72, 20)), (pulse(72, 20), pulse(72, 20))], FS, [PAPER2023])
        assert (row["n"], row["coverage"]) == (1, 0.5)

    def test_a_constant_derivative_is_none_either(self):
        [reading] = PAPER2023.read(np.full(600, 0.7), np.diff(pulse(72, 20), prepend=0), FS, derivative=True)
        assert math.isnan(reading.hr_bpm)
        assert math.isfinite(reading.label_bpm)

    def test_a_gap_costs_only_its_window(self):
        prediction = pulse(72, 30)
        prediction[450] = np.nan
        readings = WINDOWED.read(prediction, pulse(72, 30), FS)
        assert np.isnan([r.hr_bpm for r in readings]).tolist() == [False, True, False]
        gone = WINDOWED.read(np.diff(prediction, prepend=0), np.diff(pulse(72, 30), prepend=0), FS, derivative=True)
        assert np.isnan([r.hr_bpm for r in gone]).tolist() == [False, True, False]

    def test_a_dead_sensor_is_no_reference(self):
        label = pulse(72, 20)
        label[300:] = label[300]
        first, second = WINDOWED.read(pulse(72, 20), label, FS)
        assert math.isfinite(first.label_bpm)
        assert math.isnan(second.label_bpm)
        assert math.isfinite(second.hr_bpm)

    def test_the_weakest_pulse_of_a_colour_trace_is_one(self):
        weak = 120 + 1e-3 * np.sin(2 * np.pi * 1.2 * np.arange(600) / FS)  # a thousandth of a grey level
        assert PAPER2023.read(weak, pulse(72, 20), FS)[0].hr_bpm == pytest.approx(72, abs=2)


class TestOptions:
    def test_refined_reading_leaves_the_grid(self):
        errors = {
            refine: [
                abs(replace(PAPER2023, refine=refine).read(pulse(bpm, 10), pulse(bpm, 10), FS)[0].hr_bpm - bpm)
                for bpm in np.arange(60, 120, 1.3)
            ]
            for refine in (False, True)
        }
        assert max(errors[True]) < 1 < 1.7 < max(errors[False])

    def test_refined_reading_measures_the_noise_on_the_same_spectrum(self):
        refined = replace(PAPER2023, refine=True)
        prediction, label = pulse(80, 10, noise=2), pulse(80, 10)
        [reading] = refined.read(prediction, label, FS)
        cleaned = refined.clean(prediction, FS)
        expected, coarse = (
            float(snr_db(cleaned, reading.label_bpm, FS, (0.75, 2.5), refine=refine)) for refine in (True, False)
        )
        assert reading.snr_db == pytest.approx(expected)
        assert abs(expected - coarse) > 0.1

    def test_a_fixed_lambda_eats_the_pulse_at_60_fps_and_a_scaled_one_does_not(self):
        wave = np.sin(2 * np.pi * 57 / 60 * np.arange(3600) / 60)

        def strength(protocol, fs, x):
            return protocol.clean(x, fs)[len(x) // 4 : -len(x) // 4].std()

        at_30 = strength(PAPER2023, 30, wave[::2])
        assert strength(PAPER2023, 60, wave) < 0.6 * at_30
        assert strength(replace(PAPER2023, scale_lambda=True), 60, wave) == pytest.approx(at_30, rel=0.01)
        assert strength(replace(PAPER2023, scale_lambda=True), 30, wave[::2]) == at_30

    def test_older_decibels(self):
        prediction, label = pulse(80, 20, noise=2), pulse(80, 20)
        new, old = (replace(PAPER2023, db_rule=rule).read(prediction, label, FS)[0] for rule in ("10log10", "20log10"))
        assert old == replace(new, snr_db=pytest.approx(2 * new.snr_db))

    def test_the_wider_band_hears_what_the_narrow_one_cannot(self):
        fast = pulse(172, 30)
        assert TOOLBOX_CURRENT.read(fast, fast, FS)[0].hr_bpm == pytest.approx(172, abs=2)
        assert PAPER2023.read(fast, fast, FS)[0].hr_bpm <= 150

    @pytest.mark.parametrize("fs", [4.9, 5.0])
    def test_too_few_frames_a_second_are_refused(self, fs):
        with pytest.raises(InputError, match="half the sampling rate"):
            PAPER2023.read(pulse(60, 60, fs), pulse(60, 60, fs), fs)

    @pytest.mark.parametrize("shapes", [(600, 599), ((600, 1), (600, 1)), ((), ())])
    def test_shapes_that_are_no_pair_are_refused(self, shapes):
        with pytest.raises(InputError, match=r"expected both \[T\]"):
            PAPER2023.read(*map(np.zeros, shapes), FS)

    @pytest.mark.parametrize(
        "wrong",
        [
            {"band_hz": (2.5, 0.75)},
            {"band_hz": (0.0, 2.5)},
            {"band_hz": (0.7, math.nan)},
            {"method": "welch"},
            {"db_rule": "db"},
            {"window_s": 0.0},
            {"window_s": math.nan},
            {"detrend_lambda": -1.0},
            {"detrend_lambda": math.nan},
        ],
        ids=str,
    )
    def test_no_protocol_that_means_nothing(self, wrong):
        with pytest.raises(InputError, match="expected"):
            Protocol("wrong", **wrong)

    def test_is_frozen(self):
        with pytest.raises(FrozenInstanceError):
            PAPER2023.refine = True


class TestTables:
    def test_the_stamp_says_everything_and_is_json(self):
        stamp = json.loads(json.dumps(TOOLBOX_CURRENT.stamp()))
        assert stamp == {
            "protocol": "toolbox_current",
            "band_hz": [0.6, 3.3],
            "method": "fft",
            "window_s": None,
            "detrend_lambda": 100.0,
            "scale_lambda": False,
            "db_rule": "10log10",
            "refine": False,
        }
        assert Protocol(stamp.pop("protocol"), tuple(stamp.pop("band_hz")), **stamp) == TOOLBOX_CURRENT
        assert PROTOCOLS["paper2023"] == Protocol("paper2023", (0.75, 2.5), "fft", None, 100.0, False, "10log10", False)

    def test_one_row_for_each_protocol_from_the_same_predictions(self):
        pairs = [(pulse(bpm, 40, noise=2, seed=bpm), pulse(bpm, 40)) for bpm in (55, 70, 90)]
        rows = protocol_sensitivity(pairs, FS)
        assert len({row["protocol"] for row in rows}) == len(rows) == len(SENSITIVITY) == 18
        counts = {None: 3, 10.0: 12, 30.0: 6}  # 40 s: four windows of 10 s; 30 s and a remainder
        assert all(row["n"] == counts[row["window_s"]] and row["coverage"] == 1 for row in rows)
        assert json.loads(json.dumps(rows)) == rows
        named = {row["protocol"]: row for row in rows}
        [own] = protocol_sensitivity(pairs, FS, [PAPER2023])
        assert {**named["0.75-2.5 Hz, fft, whole"], "protocol": "paper2023"} == own

    def test_no_pairs_are_refused(self):
        with pytest.raises(InputError, match="no readings"):
            protocol_sensitivity([], FS)

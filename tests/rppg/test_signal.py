import math

import numpy as np
import pytest

from robustvision.core.errors import InputError
from robustvision.rppg import signal

FS = 30.0
BAND_HZ = (0.75, 2.5)


def sine(hz, seconds=60.0, fs=FS, phase=0.0):
    return np.sin(2 * np.pi * hz * np.arange(round(seconds * fs)) / fs + phase)


def gain_at(hz, filter_, fs=FS):
    """Amplitude of what a filter leaves of a long oscillation, away from the ends: by projection on its quadratures."""
    seconds = 200.0
    middle = slice(int(50 * fs), int(150 * fs))
    t = np.arange(round(seconds * fs)) / fs
    out, wave = filter_(sine(hz, seconds, fs))[middle], np.exp(2j * np.pi * hz * t)[middle]
    basis = np.stack([wave.real, wave.imag], axis=1)
    return np.linalg.lstsq(basis, out, rcond=None)[0]


class TestDetrend:
    @pytest.mark.parametrize("length", [3, 4, 5, 6, 40, 300])
    @pytest.mark.parametrize("lam", [0.5, 10, 100])
    def test_is_the_dense_inverse(self, length, lam):
        x = np.random.default_rng(length).normal(100, 1, length)
        second = np.zeros((length - 2, length))
        for row in range(length - 2):
            second[row, row : row + 3] = 1, -2, 1
        expected = (np.eye(length) - np.linalg.inv(np.eye(length) + lam**2 * second.T @ second)) @ x
        np.testing.assert_allclose(signal.detrend(x, lam), expected, atol=1e-9)

    def test_a_line_is_all_trend_and_adding_one_changes_nothing(self):
        x, line = np.random.default_rng(0).normal(size=500), 3 * np.arange(500.0) - 70
        np.testing.assert_allclose(signal.detrend(line), 0, atol=1e-7)
        np.testing.assert_allclose(signal.detrend(x + line), signal.detrend(x), atol=1e-7)

    @pytest.mark.parametrize("length", [0, 1, 2])
    def test_fewer_than_three_samples_are_all_trend(self, length):
        np.testing.assert_array_equal(signal.detrend(np.full((2, length), 5.0)), np.zeros((2, length)))

    def test_traces_are_solved_apart_in_float64(self):
        x = np.random.default_rng(1).normal(size=(2, 3, 90)).astype(np.float32)
        batched = signal.detrend(x)
        assert batched.dtype == np.float64
        for index in np.ndindex(2, 3):
            np.testing.assert_allclose(batched[index], signal.detrend(x[index]), atol=1e-12)

    def test_a_nan_stays_in_its_trace(self):
        x = np.random.default_rng(2).normal(size=(2, 50))
        x[0, 20] = np.nan
        cleaned = signal.detrend(x)
        assert np.isnan(cleaned[0]).all()
        np.testing.assert_allclose(cleaned[1], signal.detrend(x[1]), atol=1e-12)

    @pytest.mark.parametrize(("fs", "lam"), [(30.0, 100.0), (60.0, 100.0), (15.0, 30.0)])
    def test_halves_what_it_says_it_halves(self, fs, lam):
        hz = signal.detrend_half_gain_hz(fs, lam)
        in_phase = gain_at(hz, lambda x: signal.detrend(x, lam), fs)
        np.testing.assert_allclose(in_phase, [0, 0.5], atol=1e-3)  # a sine: (cos, sin) parts
        assert hz == pytest.approx(fs / (2 * math.pi * math.sqrt(lam)), rel=5e-3)  # the sheet's approximation

    def test_a_scaled_lambda_removes_the_same_at_every_rate(self):
        assert signal.detrend_half_gain_hz(60, 100) > 57 / 60  # the trap: at 60 fps a pulse of 57 bpm is halved
        for fs in (15, 25, 60, 120):
            scaled = signal.detrend_half_gain_hz(fs, signal.scaled_lambda(fs))
            assert scaled == pytest.approx(signal.detrend_half_gain_hz(30), rel=5e-3)


class TestBandpass:
    @pytest.mark.parametrize("hz", [0.3, 0.75, 1.37, 2.5, 6.0])
    def test_has_the_squared_gain_of_butterworth_and_no_phase(self, hz):
        low, high, f = (math.tan(math.pi * v / FS) for v in (*BAND_HZ, hz))  # bilinear transform, corners prewarped
        width = (high - low) * f
        power_gain = width**2 / ((low * high - f**2) ** 2 + width**2)
        cosine_part, sine_part = gain_at(hz, lambda x: signal.bandpass(x, FS, BAND_HZ))
        assert sine_part == pytest.approx(power_gain, abs=1e-3)
        assert cosine_part == pytest.approx(0, abs=1e-3)

    @pytest.mark.parametrize("order", [1, 3])
    def test_the_shortest_passes_and_one_less_is_refused(self, order):
        shortest = signal.shortest_filtered(order)
        assert np.isfinite(signal.bandpass(sine(1.2)[:shortest], FS, BAND_HZ, order)).all()
        with pytest.raises(InputError, match=rf"{shortest - 1} samples .* at least {shortest}"):
            signal.bandpass(sine(1.2)[: shortest - 1], FS, BAND_HZ, order)

    @pytest.mark.parametrize(
        ("fs", "band_hz"), [(4.0, (0.75, 2.5)), (5.0, (0.75, 2.5)), (30, (2.5, 0.75)), (30, (0, 2)), (30, (np.nan, 2))]
    )
    def test_refuses_a_band_beyond_half_the_rate(self, fs, band_hz):
        with pytest.raises(InputError, match="half the sampling rate"):
            signal.bandpass(np.zeros(100), fs, band_hz)

    @pytest.mark.parametrize("fs", [0, -30, math.nan, math.inf])
    def test_refuses_a_rate_that_is_none(self, fs):
        with pytest.raises(InputError, match="sampling rate is"):
            signal.bandpass(np.zeros(100), fs, BAND_HZ)

    def test_batches(self):
        x = np.random.default_rng(0).normal(size=(2, 3, 80))
        np.testing.assert_allclose(signal.bandpass(x, FS, BAND_HZ)[1, 2], signal.bandpass(x[1, 2], FS, BAND_HZ))


class TestResample:
    def test_a_straight_line_survives_uneven_times(self):
        times = 7 + np.cumsum(np.random.default_rng(0).uniform(0.01, 0.09, 200))
        values = np.stack([2 * times - 3, -5 * times], axis=1)
        grid = signal.uniform_grid(times, 25)
        np.testing.assert_allclose(signal.resample(values, times, 25), np.stack([2 * grid - 3, -5 * grid], 1))
        assert grid[0] == times[0]
        assert 0 <= times[-1] - grid[-1] < 1 / 25

    def test_even_times_give_back_the_values_and_a_nan_does_not_spread(self):
        times = 5 + np.arange(100) / 29.97
        times[1:] += np.random.default_rng(0).uniform(-1e-8, 1e-8, 99)  # as a clock of whole nanoseconds
        values = np.random.default_rng(1).normal(size=(100, 4, 4, 3))
        values[50] = np.nan
        again = signal.resample(values, times, 29.97)
        assert again.shape == values.shape
        np.testing.assert_allclose(again, values, atol=1e-6)  # equal NaN included

    def test_between_a_nan_and_its_neighbour_is_nan(self):
        assert np.isnan(signal.resample([1.0, np.nan, 3.0], [0, 1, 2], 2)).tolist() == [False, True, True, True, False]

    def test_dropped_frames_keep_the_heart_rate_that_the_nominal_rate_loses(self):
        rng = np.random.default_rng(2)
        kept = np.sort(rng.choice(1800, 1200, replace=False))  # a third of the frames is lost
        times = kept / FS + rng.uniform(-0.005, 0.005, len(kept))
        pulse = np.sin(2 * np.pi * 1.2 * times)
        on_grid = signal.heart_rate_fft(signal.resample(pulse, times, FS), FS, BAND_HZ, refine=True)
        nominal = signal.heart_rate_fft(pulse, FS, BAND_HZ, refine=True)
        assert float(on_grid) == pytest.approx(72, abs=0.3)
        assert abs(float(nominal) - 72) > 20

    @pytest.mark.parametrize(
        ("times", "frame"),
        [
            ([0, 1, 1, 2], 2),
            ([0, 1, 0.5, 0.2], 2),
            ([0, 1, 2, np.nan], 3),
            ([np.nan, 1, 2, 3], 0),
            ([0, 1, 2, np.inf], 3),
        ],
    )
    def test_names_the_first_frame_out_of_order(self, times, frame):
        with pytest.raises(InputError, match=f"^frame {frame} has the time"):
            signal.resample(np.zeros(4), times, FS)

    def test_refuses_lengths_that_differ_and_nothing_at_all(self):
        with pytest.raises(InputError, match="3 values and 2 timestamps"):
            signal.resample(np.zeros(3), [0, 1], FS)
        with pytest.raises(InputError, match="at least one"):
            signal.resample([], [], FS)

    def test_one_frame_is_one_sample(self):
        assert signal.resample([[1.0, 2.0]], [3.0], FS).tolist() == [[1.0, 2.0]]

    def test_the_ends_are_held(self):
        assert signal.interpolate([1.0, 2.0], [0.0, 1.0], [-5, 5]).tolist() == [1.0, 2.0]


def test_z_scores_have_no_mean_unit_deviation_and_constants_are_zero():
    x = np.random.default_rng(0).normal(1e4, 3, (3, 200))
    scored = signal.z_score(x)
    np.testing.assert_allclose(scored.mean(-1), 0, atol=1e-9)
    np.testing.assert_allclose(scored.std(-1), 1)
    np.testing.assert_allclose(signal.z_score(-2 * x + 9), -scored, atol=1e-9)
    np.testing.assert_array_equal(signal.z_score(np.full((2, 999), 0.1)), 0)  # 0.1 has no exact mean


class TestHeartRate:
    def test_the_power_density_adds_up_to_the_mean_square(self):
        x = np.random.default_rng(0).normal(size=(2, 240))
        frequencies_hz, power = signal.power_spectrum(x, 24.0, 256)
        # Parseval: padding with zeros keeps the sum, and the density is over the 240 samples that were there
        np.testing.assert_allclose(power.sum(-1) * frequencies_hz[1], (x**2).mean(-1), rtol=1e-9)
        with pytest.raises(InputError, match="cut"):
            signal.power_spectrum(x, 24.0, 128)

    @pytest.mark.parametrize(
        ("frames", "step_bpm"), [(160, 7.03), (300, 3.52), (900, 1.76), (1024, 1.76), (1800, 0.88)]
    )
    def test_lies_on_the_grid_of_the_next_power_of_two(self, frames, step_bpm):
        rates = [
            float(signal.heart_rate_fft(sine(bpm / 60, frames / FS), FS, BAND_HZ)) for bpm in np.arange(60, 120, 1.7)
        ]
        steps = np.diff(np.unique(rates))
        assert steps.min() == pytest.approx(step_bpm, abs=0.005)

    @pytest.mark.parametrize("bpm", [46.0, 61.3, 97.9, 149.0])
    def test_refined_is_near_the_truth_and_unchanged_by_scale_and_sign(self, bpm):
        x = signal.bandpass(sine(bpm / 60, 30), FS, BAND_HZ)
        rate = float(signal.heart_rate_fft(x, FS, BAND_HZ, refine=True))
        assert rate == pytest.approx(bpm, abs=0.6)
        assert float(signal.heart_rate_fft(-1e-6 * x, FS, BAND_HZ, refine=True)) == rate

    def test_looks_only_inside_the_band_both_ends_included(self):
        x = sine(1.0, 64 / 8, 8.0) + 100 * sine(1.5, 64 / 8, 8.0) + 100 * sine(0.5, 64 / 8, 8.0)
        assert signal.heart_rate_fft(x, 8.0, (0.6, 1.2)) == 60
        assert signal.heart_rate_fft(x - sine(1.0, 8, 8.0), 8.0, (0.7, 1.5)) == 90
        assert signal.heart_rate_fft(x - 100 * sine(1.5, 8, 8.0), 8.0, (0.5, 1.4)) == 30

    def test_no_power_and_nan_give_nan_beside_traces_that_are_well(self):
        x = np.stack([sine(1.2, 10), np.zeros(300), np.full(300, np.nan)])
        for rates in (signal.heart_rate_fft(x, FS, BAND_HZ, refine=True), signal.heart_rate_peaks(x, FS)):
            assert rates[0] == pytest.approx(72, abs=0.6)
            assert np.isnan(rates[1:]).all()

    def test_a_clip_with_no_bin_in_the_band_is_refused(self):
        with pytest.raises(InputError, match="no bin"):
            signal.heart_rate_fft(np.ones(8), FS, (1.0, 1.5))

    def test_peaks_are_the_mean_distance_of_all_local_maxima(self):
        x = np.zeros(100)
        x[[10, 35, 50, 90]] = 1, 5, 0.01, 2
        assert float(signal.heart_rate_peaks(x, FS)) == pytest.approx(60 / (80 / 3 / FS))
        x[[35, 50, 90]] = 0
        assert np.isnan(signal.heart_rate_peaks(x, FS))

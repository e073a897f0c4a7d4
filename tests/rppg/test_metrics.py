import math

import numpy as np
import pytest

from robustvision.core.errors import InputError
from robustvision.rppg import metrics
from robustvision.rppg.metrics import Reading

FS = 30.0
BAND_HZ = (0.75, 2.5)


def readings(found, label, snr=None):
    snr = [1.0] * len(found) if snr is None else snr
    return [Reading(f, r, s, 0.5) for f, r, s in zip(found, label, snr, strict=True)]


@pytest.fixture
def noise():
    return np.random.default_rng(0).normal(size=(3, 300))


class TestPulseMetrics:
    def test_follows_the_formulas(self):
        rng = np.random.default_rng(0)
        label = rng.uniform(50, 120, 40)
        found = label + rng.normal(1, 5, 40)
        got = metrics.pulse_metrics(readings(found, label))
        n, errors = 40, [f - r for f, r in zip(found, label, strict=True)]
        absolute, squared = [abs(e) for e in errors], [e**2 for e in errors]
        share = [100 * abs(e) / r for e, r in zip(errors, label, strict=True)]

        def mean(values):
            return math.fsum(values) / len(values)

        def deviation(values):
            return math.sqrt(mean([(v - mean(values)) ** 2 for v in values]))

        assert got.mae == pytest.approx(mean(absolute), rel=1e-12)
        assert got.mae_error == pytest.approx(deviation(absolute) / n**0.5, rel=1e-12)
        assert got.rmse == pytest.approx(mean(squared) ** 0.5, rel=1e-12)
        assert got.rmse_error == pytest.approx((deviation(squared) / n**0.5) ** 0.5, rel=1e-12)
        assert got.mape == pytest.approx(mean(share), rel=1e-12)
        assert got.mape_error == pytest.approx(deviation(share) / n**0.5, rel=1e-12)
        assert got.rho == pytest.approx(np.corrcoef(found, label)[0, 1], rel=1e-12)
        assert got.rho_error == pytest.approx(((1 - got.rho**2) / (n - 2)) ** 0.5, rel=1e-12)
        assert (got.n, got.coverage, got.unlabelled) == (40, 1.0, 0)

    def test_the_standard_error_of_mae_is_what_resampling_finds(self):
        rng = np.random.default_rng(1)
        errors = rng.normal(0, 4, 400)
        got = metrics.pulse_metrics(readings(80 + errors, np.full(400, 80.0)))
        resampled = np.abs(errors)[rng.integers(400, size=(4000, 400))].mean(1).std()
        assert got.mae_error == pytest.approx(resampled, rel=0.05)  # 4000 draws: 1.1 % spread

    def test_a_window_without_an_answer_lowers_the_coverage(self):
        got = metrics.pulse_metrics(readings([70, np.nan, 82, np.inf], [72, 60, 80, 75], [1, np.nan, 3, np.nan]))
        assert (got.n, got.coverage, got.mae, got.snr_db) == (2, 0.5, 2, 2)

    def test_a_window_without_a_reference_is_counted_apart(self):
        got = metrics.pulse_metrics(readings([70, 90, np.nan], [72, np.nan, np.nan]))
        assert (got.n, got.coverage, got.unlabelled, got.mae) == (1, 1.0, 2, 2)

    def test_no_answer_at_all_is_nan_and_not_zero(self):
        got = metrics.pulse_metrics(readings([np.nan, np.nan], [72, 70]))
        assert (got.n, got.coverage) == (0, 0.0)
        assert all(
            math.isnan(value) for name, value in got.row().items() if name not in ("n", "coverage", "unlabelled")
        )
        assert math.isnan(metrics.pulse_metrics(readings([70], [np.nan])).coverage)

    @pytest.mark.parametrize("found", [[70], [70, 70, 70]])
    def test_correlation_needs_two_rates_that_vary(self, found):
        assert math.isnan(metrics.pulse_metrics(readings(found, [72, 75, 77][: len(found)])).rho)

    def test_a_perfect_reader(self):
        got = metrics.pulse_metrics(readings([60, 70, 80], [60, 70, 80]))
        assert (got.mae, got.rmse, got.mape, got.rho, got.rho_error) == (0, 0, 0, 1, 0)

    def test_nothing_read_is_refused(self):
        with pytest.raises(InputError, match="no readings"):
            metrics.pulse_metrics([])


class TestSnr:
    def test_counts_the_powers_that_the_rule_says(self, noise):
        x, bpm = noise[0], 84.0
        spectrum = np.abs(np.fft.rfft(x, 512)) ** 2
        pulse = rest = 0.0
        for k, power in enumerate(spectrum):
            f = 60 * FS * k / 512
            if min(abs(f - bpm), abs(f - 2 * bpm)) <= 6:
                pulse += power
            elif 45 <= f <= 150:
                rest += power
        assert float(metrics.snr_db(x, bpm, FS, BAND_HZ)) == pytest.approx(10 * math.log10(pulse / rest), abs=1e-9)

    def test_the_double_is_counted_beyond_the_band(self):
        t = np.arange(1024) / 32
        x = np.sin(2 * np.pi * t) * 0.1 + np.sin(2 * np.pi * 1.75 * t) * 0.5
        louder = x + np.sin(2 * np.pi * 3.5 * t)  # the double of 105 bpm, outside 0.75..2.5 Hz
        assert metrics.snr_db(louder, 105, 32, BAND_HZ) == pytest.approx(10 * np.log10(1.25 / 0.01), abs=1e-6)
        assert metrics.snr_db(x, 105, 32, BAND_HZ) == pytest.approx(10 * np.log10(0.25 / 0.01), abs=1e-6)

    def test_six_bpm_away_is_still_near(self):
        t = np.arange(1024) / 32
        x = np.sin(2 * np.pi * t) + 0.01 * np.sin(2 * np.pi * 1.5 * t)
        near, far = (float(metrics.snr_db(x, bpm, 32, BAND_HZ)) for bpm in (54.5, 53.5))
        assert near > 30
        assert far < -30

    def test_older_tables_have_twice_the_decibels(self, noise):
        new, old = (metrics.snr_db(noise, [70, 80, 90], FS, BAND_HZ, rule=rule) for rule in ("10log10", "20log10"))
        np.testing.assert_allclose(old, 2 * new)

    def test_is_batched_and_does_not_see_scale(self, noise):
        rates = np.array([70.0, 80.0, np.nan])
        got = metrics.snr_db(-7 * noise, rates, FS, BAND_HZ)
        for row in range(2):
            assert got[row] == pytest.approx(float(metrics.snr_db(noise[row], rates[row], FS, BAND_HZ)))
        assert np.isnan(got[2])

    def test_no_rest_is_zero_by_rule_and_no_bin_is_unknown(self):
        assert metrics.snr_db(np.zeros(300), 72, FS, BAND_HZ) == 0
        short = np.random.default_rng(0).normal(size=60)  # bins of 28 bpm
        assert np.isnan(metrics.snr_db(short, 64, FS, BAND_HZ))
        assert np.isfinite(metrics.snr_db(short, 64, FS, BAND_HZ, refine=True))


class TestMacc:
    @pytest.mark.parametrize("length", [2, 3, 17, 100, 101])
    def test_is_the_best_correlation_over_all_rolls_but_one(self, length):
        rng = np.random.default_rng(length)
        x, label = rng.normal(5, 1, (2, length))
        expected = max(abs(np.corrcoef(x, np.roll(label, lag))[0, 1]) for lag in range(length - 1))
        assert float(metrics.macc(x, label)) == pytest.approx(expected, abs=1e-9)

    def test_the_last_lag_is_left_out(self):
        spike, label = np.zeros(50), np.zeros(50)
        label[1], spike[0] = 1, 1  # only a roll by N-1 brings the label onto the spike
        assert metrics.macc(spike, label) == pytest.approx(1 / 49)
        assert metrics.macc(label, spike) == pytest.approx(1)

    def test_does_not_see_lag_sign_and_scale(self, noise):
        expected = metrics.macc(noise[0], noise[1])
        assert metrics.macc(3 * noise[0] + 8, noise[1]) == pytest.approx(expected)
        assert metrics.macc(noise[0], -noise[1]) == pytest.approx(expected)
        assert metrics.macc(noise[0], -2 * np.roll(noise[0], -40)) == pytest.approx(1)

    def test_a_constant_or_a_nan_has_none(self, noise):
        broken = noise.copy()
        broken[1], broken[2, 5] = 0, np.nan
        got = metrics.macc(broken, noise)
        assert got[0] == pytest.approx(1)
        assert np.isnan(got[1:]).all()

"""The signals of quality, their calibration, and what abstaining buys."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.optimize

from robustvision.core.errors import InputError, ModelError
from robustvision.rppg.confidence import (
    DEFAULT,
    LIVE,
    SIGNALS,
    Confidence,
    autocorrelation_quality,
    coverage_curve,
    fit_confidence,
    measure_signals,
    picture_quality,
)

FS = 30.0
TIME_S = np.arange(300) / FS
RNG = np.random.default_rng(0)


def test_the_autocorrelation_is_that_of_the_sum_over_lags():
    x = RNG.normal(size=200) + np.sin(2 * np.pi * 1.1 * np.arange(200) / FS)
    z = (x - x.mean()) / x.std()
    sums = [z[: len(z) - lag] @ z[lag:] / (z @ z) for lag in range(10, 61)]
    assert autocorrelation_quality(x, FS) == pytest.approx(max(sums), abs=1e-12)


def test_the_autocorrelation_does_not_see_scale_and_offset():
    x = RNG.normal(size=300)
    assert autocorrelation_quality(7 + 3 * x, FS) == pytest.approx(autocorrelation_quality(x, FS), abs=1e-12)


@pytest.mark.parametrize("wave", [np.zeros(300), np.full(300, np.nan)])
def test_a_wave_without_change_does_not_repeat_itself(wave):
    assert autocorrelation_quality(wave, FS) == 0


def traces(depth: float) -> np.ndarray:
    pulse = np.sin(2 * np.pi * 1.2 * TIME_S)
    return np.array([200.0, 150.0, 120.0]) * (1 - depth * pulse[:, None] * [0.33, 0.77, 0.53])


def measured(wave: np.ndarray, second_bpm: float = 72.0, depth: float = 0.01, **options):
    options = {"picture": np.zeros((300, 2)), "heart_rate_bpm": 72.0} | options
    return measure_signals(wave, traces(depth), FS, second_bpm=second_bpm, **options)


def test_each_signal_falls_with_what_it_stands_for():
    clean = LIVE.clean(np.sin(2 * np.pi * 1.2 * TIME_S), FS)
    noisy = LIVE.clean(np.sin(2 * np.pi * 1.2 * TIME_S) + 2 * RNG.normal(size=300), FS)
    good, bad = measured(clean), measured(noisy, second_bpm=90.0)
    assert good.autocorrelation > bad.autocorrelation + 0.2
    assert good.snr > bad.snr + 0.5
    assert good.agreement == 1
    assert bad.agreement == pytest.approx(np.exp(-18 / 5))


def test_pulsatility_is_the_share_of_green_that_changes():
    expected = np.log10(0.77 * 0.004 / np.sqrt(2))
    assert measured(np.sin(TIME_S), depth=0.004).pulsatility == pytest.approx(expected, abs=0.05)  # the filter's loss
    assert measured(np.sin(TIME_S), depth=0.0).pulsatility == -5


def test_samples_without_a_face_say_nothing_of_the_picture():
    picture = np.full((300, 2), [0.1, 0.2])
    picture[:50] = np.nan
    signals = measured(np.sin(TIME_S), picture=picture, lost=50 / 300)
    assert (signals.motion, signals.exposure) == pytest.approx((0.1, 0.2))
    assert signals.lost == pytest.approx(1 / 6)
    assert measured(np.sin(TIME_S), picture=np.full((300, 2), np.nan)).motion == 0


def test_no_pulse_has_the_worst_signals_and_none_that_is_not_finite():
    nothing = measured(np.full(300, np.nan), second_bpm=float("nan"), depth=0.0, heart_rate_bpm=float("nan"))
    assert np.isfinite(nothing.vector()).all()
    assert (nothing.autocorrelation, nothing.snr, nothing.agreement, nothing.pulsatility) == (0, -2, 0, -5)


def test_motion_and_exposure_of_a_crop():
    before = np.full((8, 8, 3), 100, np.uint8)
    crop = before.copy()
    crop[:2] = 0  # a black background above the face, a quarter of the picture
    crop[2, 2:6] = 255  # a quarter of the middle
    assert np.array_equal(picture_quality(crop[None]), [(0.0, 0.25)])
    motion = (16 * 100 + 4 * 155) / 64  # a pixel's mean change
    film = np.stack([crop, before, before, crop])
    expected = [(motion / crop.mean(), 0.25), (motion / 100, 0), (0, 0), (motion / crop.mean(), 0.25)]
    assert np.allclose(picture_quality(film, before), expected, rtol=1e-12)
    assert np.allclose(picture_quality(film)[1:], expected[1:], rtol=1e-12)


def readings(count: int = 400) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    signals = rng.normal(size=(count, len(SIGNALS))) * np.arange(1, len(SIGNALS) + 1) + 2
    logit = signals @ np.linspace(-0.5, 0.5, len(SIGNALS)) + 0.3
    return signals, rng.random(count) < 1 / (1 + np.exp(-logit))


def test_the_fit_is_the_minimum_of_the_penalised_likelihood():
    signals, is_right = readings()
    fitted = fit_confidence(signals, is_right, ridge=2.0)
    scale = signals.std(axis=0)

    def loss(coefficients):
        logit = signals @ coefficients[:-1] + coefficients[-1]
        log_likelihood = np.where(is_right, logit, 0).sum() - np.log1p(np.exp(logit)).sum()
        return -log_likelihood + ((coefficients[:-1] * scale) ** 2).sum()

    best = scipy.optimize.minimize(loss, np.zeros(len(SIGNALS) + 1), method="BFGS", options={"gtol": 1e-6})
    assert np.allclose([*fitted.weights, fitted.bias], best.x, atol=2e-4)


def test_the_fit_finds_the_coefficients_that_made_the_data():
    signals, is_right = readings(40_000)
    fitted = fit_confidence(signals, is_right)
    assert np.allclose(fitted.weights, np.linspace(-0.5, 0.5, len(SIGNALS)), atol=0.05)


def test_the_fitted_probability_is_calibrated():
    signals, is_right = readings(20_000)
    probability = fit_confidence(signals, is_right)(signals)
    for low in np.arange(0, 1, 0.2):
        inside = (probability >= low) & (probability < low + 0.2)
        assert abs(probability[inside].mean() - is_right[inside].mean()) < 0.03


def test_separable_data_have_a_finite_fit():
    signals = np.zeros((20, len(SIGNALS)))
    signals[:, 0] = np.arange(20)
    fitted = fit_confidence(signals, np.arange(20) >= 10, ridge=0.01)
    assert np.isfinite([*fitted.weights, fitted.bias]).all()
    assert np.array_equal(fitted(signals) > 0.5, np.arange(20) >= 10)
    assert fitted.weights[1:] == (0.0,) * (len(SIGNALS) - 1)  # what never changed says nothing


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x, y: (x[:, :2], y), "give finite"),
        (lambda x, y: (x[:5], y), "give finite"),
        (lambda x, y: (x * np.nan, y), "give finite"),
        (lambda x, y: (x, y | True), "all 400 readings are right"),
        (lambda x, y: (x, y & False), "all 400 readings are wrong"),
    ],
)
def test_readings_that_cannot_be_calibrated_on_are_refused(change, message):
    with pytest.raises(InputError, match=message):
        fit_confidence(*change(*readings()))


def test_coefficients_survive_the_way_through_a_manifest():
    signals, is_right = readings()
    fitted = fit_confidence(signals, is_right, threshold=0.7, calibrated_on="validation")
    assert Confidence.from_entry(fitted.entry(), "model") == fitted


@pytest.mark.parametrize("change", [{"weights": {}}, {"bias": "much"}, {"threshold": 7}, {"bias": float("nan")}])
def test_a_broken_entry_is_a_broken_model(change):
    with pytest.raises(ModelError, match=r"model.onnx: .*calibrate again"):
        Confidence.from_entry(DEFAULT.entry() | change, "model.onnx")


def test_extreme_signals_do_not_overflow():
    assert DEFAULT(np.full(len(SIGNALS), 1e6)) in (0.0, 1.0)


def test_coverage_by_hand():
    curve = coverage_curve([4.0, 1.0, 2.0, 9.0], [0.5, 0.9, 0.8, 0.1])
    assert np.allclose(curve.coverage, [0.25, 0.5, 0.75, 1])
    assert np.allclose(curve.mae_bpm, [1, 1.5, 7 / 3, 4])
    assert np.allclose(curve.threshold, [0.9, 0.8, 0.5, 0.1])
    assert curve.area == pytest.approx(np.mean([1, 1.5, 7 / 3, 4]))


def test_a_confidence_that_knows_nothing_gives_the_overall_error_everywhere():
    assert np.allclose(coverage_curve([4.0, 1.0, 2.0, 9.0], [0.5] * 4).mae_bpm, 4.0)


def test_only_the_order_of_the_confidence_counts():
    errors, confidence = RNG.exponential(5, 50), RNG.random(50)
    assert coverage_curve(errors, confidence).area == coverage_curve(errors, confidence**3).area


def test_the_best_order_is_that_of_the_errors():
    errors = RNG.exponential(5, 50)
    best = coverage_curve(errors, -errors).area
    assert all(best <= coverage_curve(errors, RNG.random(50)).area for _ in range(20))


@pytest.mark.parametrize(("errors", "confidence"), [([], []), ([1.0], [0.1, 0.2]), ([np.nan], [0.5])])
def test_readings_that_have_no_curve_are_refused(errors, confidence):
    with pytest.raises(InputError, match="give two finite"):
        coverage_curve(errors, confidence)

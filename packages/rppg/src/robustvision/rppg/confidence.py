"""Whether to believe a heart rate: signals of quality, their calibrated combination, and what abstaining buys.

Each signal says something else: whether the wave repeats itself, how much stands out of the spectrum, whether a second
method agrees, and what happened to the picture. A logistic regression turns them into the probability that the reading
is within 5 bpm; its coefficients are fitted on validation data and travel in the model's manifest.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import astuple, dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from robustvision.core.errors import InputError, ModelError
from robustvision.core.runtime.opencv import cv2
from robustvision.rppg.metrics import snr_db
from robustvision.rppg.protocol import Protocol
from robustvision.rppg.signal import z_score

Float64 = npt.NDArray[np.float64]

LIVE = Protocol("live", band_hz=(0.7, 3.0), window_s=10.0, scale_lambda=True, refine=True)
"""How the live estimator reads a heart rate: 42 to 180 bpm, from the last 10 s, on a fine grid."""

RIGHT_BPM = 5.0
MANIFEST_KEY = "confidence"
"""Where a manifest's ``metrics`` carry the coefficients."""

_MOTION_STEP, _SATURATED, _DARK = 4.0, 250, 10


@dataclass(frozen=True)
class Signals:
    """The quality of one reading.

    Attributes:
        autocorrelation: How well the wave repeats itself after one beat, 0 to 1.
        snr: Power at the heart rate and its double over the rest of the band, in bels (dB / 10), -2 to 2.
        agreement: 1 where a second method reads the same heart rate, falling to 0 with the difference:
            ``exp(-|difference| / 5 bpm)``.
        pulsatility: Size of the green channel's in-band change, ``log10`` of its share of the mean, -5 to -1. A pulse
            has about -3; a photo has the camera's noise, and less.
        motion: Mean change of the crop's pixels from sample to sample, relative to their mean, 0 to 1.
        exposure: Share of values in the middle of the crop that are nearly white or nearly black, averaged over the
            samples, 0 to 1.
        lost: Share of samples without a face.
    """

    autocorrelation: float
    snr: float
    agreement: float
    pulsatility: float
    motion: float
    exposure: float
    lost: float

    def vector(self) -> Float64:
        """Return float64 [S], in the order of `SIGNALS`."""
        return np.array(astuple(self))


SIGNALS = tuple(field.name for field in fields(Signals))


def measure_signals(
    wave: npt.ArrayLike,
    traces: npt.ArrayLike,
    fs: float,
    *,
    heart_rate_bpm: float,
    second_bpm: float,
    picture: npt.ArrayLike,
    lost: float = 0.0,
) -> Signals:
    """Measure the quality of one reading.

    Args:
        wave: [T] the cleaned wave that the heart rate was read from.
        traces: [T, 3] mean colours at the same times, without NaN.
        fs: Samples a second.
        heart_rate_bpm: The heart rate; NaN where there is none.
        second_bpm: That of a second method; NaN where there is none.
        picture: [T, 2] motion and exposure of each sample, from `picture_quality`; NaN rows are left out.
        lost: Share of the samples without a face.

    Returns:
        The signals, all finite: a wave without a pulse has the worst.
    """
    cleaned = np.asarray(wave, np.float64)
    green = np.asarray(traces, np.float64)[:, 1]
    pulse = LIVE.clean(green, fs)
    share = float(np.std(pulse)) / max(float(green.mean()), 1e-9)
    snr = float(snr_db(cleaned, heart_rate_bpm, fs, LIVE.band_hz, refine=True)) if np.isfinite(cleaned).all() else -20.0
    rows = np.asarray(picture, np.float64)
    rows = rows[np.isfinite(rows).all(axis=1)]
    motion, exposure = rows.mean(axis=0) if len(rows) else (0.0, 0.0)
    return Signals(
        autocorrelation=autocorrelation_quality(cleaned, fs),
        snr=float(np.clip(np.nan_to_num(snr, nan=-20.0) / 10, -2, 2)),
        agreement=float(np.nan_to_num(math.exp(-abs(heart_rate_bpm - second_bpm) / RIGHT_BPM))),
        pulsatility=float(np.clip(math.log10(share), -5, -1)) if share > 0 else -5.0,
        motion=min(float(motion), 1.0),
        exposure=float(exposure),
        lost=lost,
    )


def autocorrelation_quality(wave: npt.ArrayLike, fs: float) -> float:
    """Return the highest autocorrelation at the lags of 0.5 to 3 beats a second, relative to lag 0, 0 to 1.

    Args:
        wave: [T].
        fs: Samples a second.

    Example:
        >>> t = np.arange(300) / 30
        >>> round(autocorrelation_quality(np.sin(2 * np.pi * 1.25 * t), 30), 2)
        0.92
    """
    x = z_score(wave)
    if not np.isfinite(x).all() or not x.any():
        return 0.0
    size = 1 << (2 * len(x) - 1).bit_length()
    spectrum = np.fft.rfft(x, size)
    correlation = np.fft.irfft(spectrum * spectrum.conj(), size)
    lags = slice(math.ceil(fs / 3), min(math.floor(fs / 0.5), len(x) - 1) + 1)
    return float(np.clip(correlation[lags].max(initial=0.0) / correlation[0], 0, 1))


def picture_quality(crops: npt.NDArray[np.uint8], before: npt.NDArray[np.uint8] | None = None) -> Float64:
    """Measure motion and exposure of crops, see `Signals`.

    Args:
        crops: uint8 [T, S, S, 3], one sample after the other.
        before: The crop before the first; None where there was none, and its motion is 0.

    Returns:
        float64 [T, 2].
    """
    rows, columns = crops.shape[1] // 4, crops.shape[2] // 4
    middle = crops[:, rows:-rows, columns:-columns]  # the face: a black background is no fault
    exposure = ((middle < _DARK) | (middle > _SATURATED)).mean(axis=(1, 2, 3))
    flat = crops.reshape(len(crops), -1)
    earlier = np.concatenate([flat[:1] if before is None else before.reshape(1, -1), flat[:-1]])
    change, light = (
        cv2.reduce(values, 1, cv2.REDUCE_SUM, dtype=cv2.CV_32S)[:, 0] for values in (cv2.absdiff(flat, earlier), flat)
    )
    return np.stack([change / np.maximum(light, flat.shape[1]), exposure], axis=1)


@dataclass(frozen=True)
class Confidence:
    """The probability that a reading is right, from its signals.

    Attributes:
        weights: One a signal, in the order of `SIGNALS`.
        bias: The logit where all signals are 0.
        threshold: Below it, the reading is not given.
        calibrated_on: What the coefficients were fitted on.
    """

    weights: tuple[float, ...]
    bias: float
    threshold: float = 0.5
    calibrated_on: str = ""

    def __post_init__(self) -> None:
        numbers = (*self.weights, self.bias, self.threshold)
        if len(self.weights) != len(SIGNALS) or not all(map(math.isfinite, numbers)) or not 0 <= self.threshold <= 1:
            raise InputError(
                f"a confidence takes {len(SIGNALS)} finite weights ({', '.join(SIGNALS)}), a bias, and a threshold "
                f"from 0 to 1; got {len(self.weights)} weights, bias {self.bias}, threshold {self.threshold}"
            )

    def __call__(self, signals: npt.ArrayLike) -> Float64:
        """Combine signals, [..., S], to probabilities [...]."""
        return _sigmoid(np.asarray(signals, np.float64) @ np.array(self.weights) + self.bias)

    def entry(self) -> dict[str, Any]:
        """Return what goes into a manifest's ``metrics`` under `MANIFEST_KEY`."""
        return {
            "weights": dict(zip(SIGNALS, self.weights, strict=True)),
            "bias": self.bias,
            "threshold": self.threshold,
            "calibrated_on": self.calibrated_on,
        }

    @classmethod
    def from_entry(cls, entry: Mapping[str, Any], origin: str) -> Confidence:
        """Read back what `entry` wrote.

        Raises:
            ModelError: A coefficient is missing or no number.
        """
        try:
            weights = tuple(float(entry["weights"][name]) for name in SIGNALS)
            return cls(weights, float(entry["bias"]), float(entry["threshold"]), str(entry["calibrated_on"]))
        except (KeyError, TypeError, ValueError) as error:
            raise ModelError(
                f"{origin}: its manifest's confidence cannot be read ({error!r}): calibrate again"
            ) from error


DEFAULT = Confidence(
    weights=(1.0, 4.0, 2.0, 1.5, -5.0, -2.0, -3.0),
    bias=3.2,
    calibrated_on="nothing: a design choice for models without a calibration, and for the classical methods",
)


def fit_confidence(
    signals: npt.ArrayLike,
    is_right: npt.ArrayLike,
    *,
    ridge: float = 1.0,
    threshold: float = 0.5,
    calibrated_on: str = "",
) -> Confidence:
    """Fit the coefficients by Newton's method on the ridge-penalised likelihood.

    Signals are standardised first, so that the penalty treats them alike; the bias is not penalised.

    Args:
        signals: [N, S].
        is_right: [N] whether the reading was within 5 bpm of the reference.
        ridge: Weight of ``|weights|^2 / 2``; above 0, so that separable data have an answer.
        threshold: The probability below which the estimator abstains.
        calibrated_on: What the readings are from.

    Raises:
        InputError: The shapes differ, a signal is not finite, all readings are right or all wrong, or ridge is not
            positive.
    """
    x, y = np.asarray(signals, np.float64), np.asarray(is_right, bool)
    if x.ndim != 2 or x.shape != (len(y), len(SIGNALS)) or y.ndim != 1 or not np.isfinite(x).all() or not ridge > 0:
        raise InputError(
            f"got signals {x.shape}, is_right {y.shape} and ridge {ridge}: give finite [N, {len(SIGNALS)}], [N] and a "
            "positive number"
        )
    if y.all() or not y.any():
        raise InputError(
            f"all {len(y)} readings are {'right' if y.all() else 'wrong'}: calibrate on data with both, such as harder "
            "scenes beside easy ones"
        )
    mean, scale = x.mean(axis=0), x.std(axis=0)
    scale = np.where(scale > 1e-9, scale, np.inf)  # a signal that never changes says nothing: its weight is 0
    design = np.column_stack([(x - mean) / scale, np.ones(len(x))])
    penalty = np.diag([ridge] * x.shape[1] + [1e-9])
    coefficients = np.zeros(design.shape[1])
    loss = _penalised_loss(coefficients, design, y, penalty)
    for _ in range(100):
        probability = _sigmoid(design @ coefficients)
        gradient = design.T @ (probability - y) + penalty @ coefficients
        hessian = (design * (probability * (1 - probability))[:, None]).T @ design + penalty
        step, size = np.linalg.solve(hessian, gradient), 1.0
        while (new := _penalised_loss(coefficients - size * step, design, y, penalty)) > loss and size > 1e-6:
            size /= 2
        coefficients, converged, loss = coefficients - size * step, abs(loss - new) < 1e-12 * max(loss, 1.0), new
        if converged:
            break
    weights = coefficients[:-1] / scale
    return Confidence(tuple(weights.tolist()), float(coefficients[-1] - weights @ mean), threshold, calibrated_on)


@dataclass(frozen=True, eq=False)
class Coverage:
    """What abstaining buys; entry k answers the k + 1 readings of the highest confidence.

    Attributes:
        coverage: [N] share of the readings that are given.
        mae_bpm: [N] their mean absolute error.
        threshold: [N] the confidence of the last one.
        area: Mean of ``mae_bpm``: what a confidence without any information brings to the overall error.
    """

    coverage: Float64
    mae_bpm: Float64
    threshold: Float64
    area: float


def coverage_curve(errors_bpm: npt.ArrayLike, confidence: npt.ArrayLike) -> Coverage:
    """Sort readings by confidence, and follow the mean error as more of them are answered.

    Readings of one confidence come together, in proportion, since no order among them is right.

    Args:
        errors_bpm: [N] absolute errors.
        confidence: [N].

    Raises:
        InputError: No reading, other shapes, or a number that is not finite.

    Example:
        >>> curve = coverage_curve([1.0, 9.0, 2.0], [0.9, 0.1, 0.8])
        >>> curve.mae_bpm.tolist()
        [1.0, 1.5, 4.0]
    """
    errors, score = np.asarray(errors_bpm, np.float64), np.asarray(confidence, np.float64)
    if errors.ndim != 1 or errors.shape != score.shape or not errors.size or not np.isfinite(errors + score).all():
        raise InputError(f"got errors {errors.shape} and confidence {score.shape}: give two finite [N], N at least 1")
    _, group = np.unique(-score, return_inverse=True)
    errors = (np.bincount(group, np.abs(errors)) / np.bincount(group))[group]
    order = np.argsort(group, kind="stable")
    count = np.arange(1, len(errors) + 1)
    mae = np.cumsum(errors[order]) / count
    return Coverage(count / len(errors), mae, score[order], float(mae.mean()))


def _penalised_loss(coefficients: Float64, design: Float64, y: npt.NDArray[np.bool_], penalty: Float64) -> float:
    logit = design @ coefficients
    return float(np.logaddexp(0, np.where(y, -logit, logit)).sum() + coefficients @ penalty @ coefficients / 2)


def _sigmoid(logit: Float64) -> Float64:
    return np.asarray(np.exp(-np.logaddexp(0, -logit)))

"""What heart rates from video are measured by: errors with their standard errors, SNR, MACC. Numpy and scipy only.

A :class:`Reading` is what a protocol read in one window; :func:`pulse_metrics` sums up many. A window in which no heart
rate was found stays in the count and lowers the coverage; it is never dropped in silence.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import scipy.fft

from robustvision.core.errors import InputError

from .signal import power_spectrum, spectrum_length

HARMONIC_HALF_WIDTH_HZ = 0.1  # 6 bpm
DECIBELS = {"10log10": 10.0, "20log10": 20.0}

DbRule = Literal["10log10", "20log10"]
Float64 = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Reading:
    """What was read in one window of one recording.

    Attributes:
        hr_bpm: Heart rate of the prediction; NaN where it holds no pulse (constant) or is not finite.
        label_bpm: Heart rate of the reference, read the same way; NaN where the reference holds none.
        snr_db: Signal to noise of the prediction at ``label_bpm``, :func:`snr_db`; NaN without either rate.
        macc: Likeness of the waveforms, :func:`macc`; NaN without either rate.
        start_s: Begin of the window in the recording.
        name: Of the recording.
    """

    hr_bpm: float
    label_bpm: float
    snr_db: float
    macc: float
    start_s: float = 0.0
    name: str = ""


@dataclass(frozen=True)
class PulseMetrics:
    """The metrics of many windows; errors, SNR and MACC over those that have both heart rates.

    Attributes:
        mae: Mean absolute error, bpm.
        mae_error: Its standard error, ``std(|e|) / sqrt(n)``.
        rmse: Root mean squared error, bpm.
        rmse_error: Its standard error in the field's form, ``sqrt(std(e^2) / sqrt(n))``.
        mape: Mean absolute error as a percentage of the reference.
        mape_error: Its standard error, as for ``mae``.
        rho: Pearson's correlation of both heart rates; NaN if either does not vary.
        rho_error: Its standard error, ``sqrt((1 - rho^2) / (n - 2))``; NaN for n < 3.
        snr_db: Mean of the readings' SNR, over those that have one.
        macc: Mean of the readings' MACC.
        n: Windows that the errors are over.
        coverage: ``n`` over the windows with a reference heart rate: 1 if every one was answered.
        unlabelled: Windows without a reference heart rate, which nothing above counts.
    """

    mae: float
    mae_error: float
    rmse: float
    rmse_error: float
    mape: float
    mape_error: float
    rho: float
    rho_error: float
    snr_db: float
    macc: float
    n: int
    coverage: float
    unlabelled: int

    def row(self) -> dict[str, float | int]:
        """Return the metrics as a plain dict, for a table or JSON."""
        return asdict(self)


def pulse_metrics(readings: Sequence[Reading]) -> PulseMetrics:
    """Sum up the readings of one protocol. Standard deviations divide by n, as the field's tables do.

    Args:
        readings: At least one.

    Returns:
        The metrics; all errors are NaN if no reading has both heart rates.

    Raises:
        InputError: There are no readings.

    Example:
        >>> refused = Reading(np.nan, 60.0, np.nan, np.nan)
        >>> metrics = pulse_metrics([Reading(70.0, 72.0, 3.0, 0.9), Reading(81.0, 80.0, 1.0, 0.7), refused])
        >>> metrics.mae, round(metrics.rmse, 3), metrics.n, round(metrics.coverage, 3)
        (1.5, 1.581, 2, 0.667)
    """
    if not readings:
        raise InputError("there are no readings to measure: are the recordings shorter than a window?")
    table = np.array([(r.hr_bpm, r.label_bpm, r.snr_db, r.macc) for r in readings], dtype=np.float64)
    labelled = np.isfinite(table[:, 1])
    heart_rate, label, snr, likeness = table[labelled & np.isfinite(table[:, 0])].T
    n, num_labelled = len(label), int(labelled.sum())
    error = np.abs(heart_rate - label)
    rho = pearson(heart_rate, label)
    return PulseMetrics(
        mae=_mean(error),
        mae_error=_deviation(error) / math.sqrt(max(n, 1)),
        rmse=math.sqrt(_mean(error**2)),
        rmse_error=math.sqrt(_deviation(error**2) / math.sqrt(max(n, 1))),
        mape=100 * _mean(error / label),
        mape_error=100 * _deviation(error / label) / math.sqrt(max(n, 1)),
        rho=rho,
        rho_error=math.sqrt((1 - rho**2) / (n - 2)) if n > 2 else math.nan,
        snr_db=_mean(snr[np.isfinite(snr)]),
        macc=_mean(likeness),
        n=n,
        coverage=n / num_labelled if num_labelled else math.nan,
        unlabelled=len(table) - num_labelled,
    )


def pearson(a: npt.ArrayLike, b: npt.ArrayLike) -> float:
    """Pearson's correlation; NaN for fewer than two values, or where one side does not vary.

    Args:
        a: ``[n]``.
        b: ``[n]``.

    Example:
        >>> round(pearson([60, 70, 90], [62, 69, 95]), 4)
        0.9915
        >>> pearson([60, 60], [62, 69])
        nan
    """
    x, y = (np.asarray(v, dtype=np.float64) for v in (a, b))
    if x.size < 2 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return math.nan
    x, y = x - x.mean(), y - y.mean()
    return float(np.clip(x @ y / math.sqrt((x @ x) * (y @ y)), -1, 1))  # rounding can bring it beyond 1


def snr_db(
    x: npt.ArrayLike,
    label_bpm: npt.ArrayLike,
    fs: float,
    band_hz: tuple[float, float],
    *,
    refine: bool = False,
    rule: DbRule = "10log10",
) -> Float64:
    """Power near the reference heart rate and its double, over the rest of the band, in dB.

    Near is within 6 bpm, ends included. The double is counted even where it lies outside the band; the rest is not.

    Args:
        x: ``[..., T]``, filtered.
        label_bpm: ``[...]``, reference heart rate.
        fs: Sampling rate, Hz.
        band_hz: Ends included, Hz.
        refine: Use the finer spectrum of :func:`~robustvision.rppg.signal.heart_rate_fft`.
        rule: ``20log10`` is what older tables took of the same ratio of powers: exactly twice the dB.

    Returns:
        float64 ``[...]``; 0 where the rest holds no power (the field's rule); NaN where ``label_bpm`` or x is not
        finite, or the spectrum is so coarse that no bin lies near the heart rate.

    References:
        G. de Haan, V. Jeanne, "Robust pulse rate from chrominance-based rPPG", IEEE TBME 60, 2013, section III.

    Example:
        >>> t = np.arange(512) / 32
        >>> x = 10 * np.sin(2 * np.pi * 1.25 * t) + np.sin(2 * np.pi * 2.0 * t)
        >>> [round(float(snr_db(x, 75, 32, (0.75, 2.25), rule=rule)), 2) for rule in ("10log10", "20log10")]
        [20.0, 40.0]
    """
    signal = np.asarray(x, dtype=np.float64)
    rate_hz = np.asarray(label_bpm, dtype=np.float64)[..., None] / 60
    frequencies_hz, power = power_spectrum(signal, fs, spectrum_length(signal.shape[-1], refine))
    near = np.abs(frequencies_hz - rate_hz) <= HARMONIC_HALF_WIDTH_HZ
    near |= np.abs(frequencies_hz - 2 * rate_hz) <= HARMONIC_HALF_WIDTH_HZ
    in_band = (frequencies_hz >= band_hz[0]) & (frequencies_hz <= band_hz[1])
    pulse, rest = np.where(near, power, 0).sum(-1), np.where(in_band & ~near, power, 0).sum(-1)
    ratio = np.where(rest == 0, 1, pulse / np.where(rest == 0, 1, rest))
    known = near.any(-1) & np.isfinite(ratio) & (ratio > 0)
    return np.where(known, DECIBELS[rule] * np.log10(np.where(known, ratio, 1)), np.nan)


def macc(x: npt.ArrayLike, label: npt.ArrayLike) -> Float64:
    """Maximum amplitude of cross-correlation: the best ``|corr(x, label rolled by l)|`` over l = 0..T-2.

    All circular lags come from one FFT. An inverted or lagging waveform scores as well as a straight one.

    Args:
        x: ``[..., T]``, filtered.
        label: ``[..., T]``, filtered the same way.

    Returns:
        float64 ``[...]``, 0 to 1; NaN where either is constant or not finite.

    Example:
        >>> wave = np.sin(np.arange(50.0))
        >>> round(float(macc(wave, -np.roll(wave, 7))), 6)
        1.0
    """
    a, b = (np.asarray(v, dtype=np.float64) for v in (x, label))
    a, b = a - a.mean(-1, keepdims=True), b - b.mean(-1, keepdims=True)
    length = a.shape[-1]
    products = scipy.fft.irfft(scipy.fft.rfft(a) * np.conj(scipy.fft.rfft(b)), n=length)
    best = np.abs(products[..., : max(length - 1, 1)]).max(-1)
    scale = np.sqrt((a**2).sum(-1) * (b**2).sum(-1))
    return np.where(scale > 0, np.minimum(best / np.where(scale > 0, scale, 1), 1), np.nan)


def _mean(values: Float64) -> float:
    return float(values.mean()) if values.size else math.nan


def _deviation(values: Float64) -> float:
    return float(values.std()) if values.size else math.nan

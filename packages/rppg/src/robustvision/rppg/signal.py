"""What is done to a pulse signal, from trace to heart rate: resample, detrend, filter, spectrum, peaks.

Numpy and scipy only. Time is the last axis, leading axes are batched, all is float64; ``resample`` and ``interpolate``
alone have time first, since they also take colours and frames. A NaN never spreads from one trace to another.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import scipy.linalg
import scipy.signal

from robustvision.core.errors import InputError

DETREND_LAMBDA = 100.0  # the field's, at DETREND_FS
DETREND_FS = 30.0
REFINED_NFFT = 2**14  # 0.11 bpm at 30 fps
_SNAP = 1e-6  # of a frame: below it two times are the same, and a NaN next door stays there

Float64 = npt.NDArray[np.float64]


def detrend(x: npt.ArrayLike, lam: float = DETREND_LAMBDA) -> Float64:
    r"""Remove slow drift by smoothness priors: ``x - (I + lam^2 D' D)^-1 x``, D the second difference ``[T-2, T]``.

    The system is pentadiagonal, so one banded Cholesky solve does all traces. It is a high-pass filter whose corner
    moves with the frame rate: see :func:`detrend_half_gain_hz`.

    Args:
        x: ``[..., T]``, any unit.
        lam: Smoothness, at least 0.

    Returns:
        float64 ``[..., T]``. Fewer than three samples are all trend: zeros. A trace with a NaN is NaN throughout.

    References:
        M. Tarvainen et al., "An advanced detrending method with application to HRV analysis", IEEE TBME 49, 2002.

    Example:
        >>> line = np.arange(50.0)
        >>> bool(np.abs(detrend(line)).max() < 1e-9)
        True
    """
    signal = np.asarray(x, dtype=np.float64)
    length = signal.shape[-1]
    if length < 3:
        return signal - signal
    bands = np.zeros((3, length))  # lower form: bands[k, j] = (I + lam^2 D'D)[j + k, j]
    bands[0, :-2] = 1
    bands[0, 1:-1] += 4
    bands[0, 2:] += 1
    bands[1, :-2] = -2
    bands[1, 1:-1] -= 2
    bands[2, :-2] = 1
    bands *= lam**2
    bands[0] += 1
    rows = signal.reshape(-1, length).T
    trend = scipy.linalg.solveh_banded(bands, rows, overwrite_ab=True, lower=True, check_finite=False)
    return signal - trend.T.reshape(signal.shape)


def detrend_half_gain_hz(fs: float, lam: float = DETREND_LAMBDA) -> float:
    r"""Frequency at which ``detrend`` halves an oscillation: ``fs/pi asin(1 / (2 sqrt(lam)))``.

    The gain is ``1 - 1 / (1 + lam^2 (2 sin(pi f/fs))^4)``. For a large ``lam`` the frequency is
    ``fs / (2 pi sqrt(lam))``.

    Args:
        fs: Sampling rate, Hz.
        lam: Smoothness of ``detrend``, above 1/4 (below, no frequency is halved).

    Example:
        >>> round(detrend_half_gain_hz(30), 3), round(detrend_half_gain_hz(60), 2)
        (0.478, 0.96)
        >>> round(detrend_half_gain_hz(60, scaled_lambda(60)), 3)
        0.478
    """
    return fs / math.pi * math.asin(1 / (2 * math.sqrt(lam)))


def scaled_lambda(fs: float, lam: float = DETREND_LAMBDA) -> float:
    """The ``lam`` that keeps the half-gain frequency of 30 fps at another rate: ``lam (fs / 30)^2``.

    Example:
        >>> scaled_lambda(60)
        400.0
    """
    return lam * (fs / DETREND_FS) ** 2


def bandpass(x: npt.ArrayLike, fs: float, band_hz: tuple[float, float], order: int = 1) -> Float64:
    """Butterworth band-pass, forwards and backwards (no phase shift, the gain squared).

    Args:
        x: ``[..., T]``; T must exceed ``shortest_filtered(order) - 1``.
        fs: Sampling rate, Hz.
        band_hz: Lower and upper corner, Hz.
        order: Of the low-pass prototype; the pulse protocols use 1.

    Returns:
        float64 ``[..., T]``.

    Raises:
        InputError: The band does not lie between 0 and fs/2, or T is too short to filter.

    Example:
        >>> t = np.arange(300) / 30
        >>> y = bandpass(np.sin(2 * np.pi * 1.2 * t) + 5, 30, (0.75, 2.5))
        >>> bool(abs(y[100:200].mean()) < 0.05)
        True
    """
    signal = np.asarray(x, dtype=np.float64)
    shortest = shortest_filtered(order)
    if signal.shape[-1] < shortest:
        raise InputError(
            f"{signal.shape[-1]} samples ({signal.shape[-1] / fs:.2f} s at {fs:g} fps) are too short for a filter of"
            f" order {order}: it needs at least {shortest}; record longer"
        )
    return scipy.signal.filtfilt(*_butterworth(order, *check_band(band_hz, fs), fs), signal, axis=-1)


def shortest_filtered(order: int = 1) -> int:
    """Fewest samples that ``bandpass`` takes: one more than the ``3 (2 order + 1)`` that filtfilt pads by.

    Example:
        >>> shortest_filtered(1)
        10
    """
    return 3 * (2 * order + 1) + 1


@lru_cache(maxsize=64)
def _butterworth(order: int, low: float, high: float, fs: float) -> tuple[Float64, Float64]:
    return scipy.signal.butter(order, (low, high), btype="bandpass", fs=fs)


def check_band(band_hz: tuple[float, float], fs: float) -> tuple[float, float]:
    """Refuse a band that does not lie between 0 and the Nyquist frequency.

    Raises:
        InputError: If it does not, or ``fs`` is not a positive number.
    """
    low, high = map(float, band_hz)
    if not (math.isfinite(fs) and fs > 0):
        raise InputError(f"the sampling rate is {fs}: expected a positive number of frames a second")
    if not 0 < low < high < fs / 2:
        raise InputError(
            f"the band {low:g}..{high:g} Hz does not lie between 0 and half the sampling rate of {fs:g} Hz: choose"
            " another band, or record more frames a second"
        )
    return low, high


def uniform_grid(timestamps_s: npt.ArrayLike, fs: float) -> Float64:
    """Times of a uniform grid from the first timestamp to the last one, at most.

    Args:
        timestamps_s: ``[T]`` seconds, strictly rising.
        fs: Rate of the grid, Hz.

    Returns:
        float64 ``[N]``, seconds.

    Raises:
        InputError: No timestamps, or they do not rise.

    Example:
        >>> uniform_grid([5.0, 5.4, 6.0], 4).tolist()
        [5.0, 5.25, 5.5, 5.75, 6.0]
    """
    times = check_times(timestamps_s)
    return times[0] + np.arange(int((times[-1] - times[0]) * fs + _SNAP) + 1) / fs


def resample(values: npt.ArrayLike, timestamps_s: npt.ArrayLike, fs: float) -> Float64:
    """Bring what was seen at uneven times onto the grid of :func:`uniform_grid`, by linear interpolation.

    Args:
        values: ``[T, ...]``: a waveform, colours, frames.
        timestamps_s: ``[T]`` seconds, strictly rising.
        fs: Rate wanted, Hz.

    Returns:
        float64 ``[N, ...]``. What lies between a NaN and its neighbour is NaN.

    Raises:
        InputError: The lengths differ, or the times do not rise; the message names the first frame at fault.

    Example:
        >>> resample([0.0, 1.0, 3.0], [0.0, 1.0, 2.0], 2).tolist()
        [0.0, 0.5, 1.0, 2.0, 3.0]
    """
    return interpolate(values, timestamps_s, uniform_grid(timestamps_s, fs))


def interpolate(values: npt.ArrayLike, timestamps_s: npt.ArrayLike, at_s: npt.ArrayLike) -> Float64:
    """Read ``values`` at other times, linearly; before the first and after the last time the ends are held.

    Args:
        values: ``[T, ...]``.
        timestamps_s: ``[T]`` seconds, strictly rising.
        at_s: ``[N]`` seconds, in any order.

    Returns:
        float64 ``[N, ...]``.

    Raises:
        InputError: As for :func:`resample`.

    Example:
        >>> interpolate([[0.0, 10.0], [1.0, 20.0]], [0.0, 1.0], [0.25, 9.0]).tolist()
        [[0.25, 12.5], [1.0, 20.0]]
    """
    times, samples = check_times(timestamps_s), np.asarray(values)
    if len(samples) != len(times):
        raise InputError(f"got {len(samples)} values and {len(times)} timestamps: expected one timestamp a value")
    place = np.interp(np.asarray(at_s, dtype=np.float64), times, np.arange(len(times), dtype=np.float64))
    nearest = np.rint(place)
    place = np.where(np.abs(place - nearest) < _SNAP, nearest, place)
    left, right = np.floor(place).astype(np.intp), np.ceil(place).astype(np.intp)
    weight = (place - left).reshape(-1, *[1] * (samples.ndim - 1))
    return samples[left] * (1 - weight) + samples[right] * weight


def check_times(timestamps_s: npt.ArrayLike) -> Float64:
    """Take timestamps as float64, or name the first frame whose time is no later than the one before.

    Raises:
        InputError: If there is one, a time is not finite, or there are none.
    """
    times = np.asarray(timestamps_s, dtype=np.float64)
    if times.ndim != 1 or not times.size:
        raise InputError(f"timestamps have shape {times.shape}: expected one time a frame, [T], and at least one")
    rises = np.isfinite(times) & np.concatenate([[True], times[1:] > times[:-1]])
    if not rises.all():
        frame = int(np.argmin(rises))
        before = f" after {times[frame - 1]:.6g} s" if frame else ""
        raise InputError(
            f"frame {frame} has the time {times[frame]:.6g} s{before}: times must be finite and rise from frame to"
            " frame; drop the frames that came twice or out of order"
        )
    return times


def z_score(x: npt.ArrayLike) -> Float64:
    """Bring each trace to mean 0 and standard deviation 1; a constant one to zeros.

    Args:
        x: ``[..., T]``.

    Returns:
        float64 ``[..., T]``.

    Example:
        >>> z_score([[1.0, 3.0], [5.0, 5.0]]).tolist()
        [[-1.0, 1.0], [0.0, 0.0]]
    """
    signal = np.asarray(x, dtype=np.float64)
    centred = signal - signal.mean(axis=-1, keepdims=True)
    deviation = centred.std(axis=-1, keepdims=True)
    rounding = 1e-12 * np.abs(signal).max(axis=-1, keepdims=True, initial=0.0)
    flat = deviation <= rounding
    return np.where(flat, 0.0, centred / np.where(flat, 1.0, deviation))


def power_spectrum(x: npt.ArrayLike, fs: float, nfft: int) -> tuple[Float64, Float64]:
    """Periodogram: one-sided power density, rectangular window, mean not removed.

    Args:
        x: ``[..., T]``.
        fs: Sampling rate, Hz.
        nfft: Length after zero-padding, at least T.

    Returns:
        Frequencies ``[nfft//2+1]`` in Hz, and the density ``[..., nfft//2+1]`` in squared units of x a hertz.

    Raises:
        InputError: ``nfft`` is shorter than x (it would cut the signal).

    Example:
        >>> frequencies_hz, power = power_spectrum(np.sin(np.arange(64) * np.pi / 4), 8.0, 64)
        >>> frequencies_hz[power.argmax()].item()
        1.0
    """
    signal = np.asarray(x, dtype=np.float64)
    if signal.shape[-1] > nfft:
        raise InputError(f"nfft is {nfft}, below the {signal.shape[-1]} samples: it would cut them")
    return scipy.signal.periodogram(signal, fs, nfft=nfft, detrend=False, axis=-1)


def spectrum_length(num_samples: int, refine: bool = False) -> int:
    """Length of the protocols' spectrum: the next power of two, with ``refine`` at least 2^14.

    Example:
        >>> [60 * 30 / spectrum_length(n) for n in (160, 300, 900, 1800)]  # grid in bpm at 30 fps
        [7.03125, 3.515625, 1.7578125, 0.87890625]
    """
    length = 1 << max(num_samples - 1, 0).bit_length()
    return max(length, REFINED_NFFT) if refine else length


def heart_rate_fft(x: npt.ArrayLike, fs: float, band_hz: tuple[float, float], refine: bool = False) -> Float64:
    """Heart rate of the highest bin of the periodogram within the band, both ends included.

    Args:
        x: ``[..., T]``, filtered.
        fs: Sampling rate, Hz.
        band_hz: Where to look, Hz.
        refine: Pad to at least 2^14 samples. Without, the grid is ``60 fs / nfft``: 7 bpm for 160 frames at 30 fps.

    Returns:
        float64 ``[...]`` in bpm; NaN where the band holds no power, or x a NaN.

    Raises:
        InputError: The band does not lie between 0 and fs/2, or holds no bin.

    Example:
        >>> pulse = np.sin(2 * np.pi * 1.2 * np.arange(300) / 30)
        >>> [round(float(heart_rate_fft(pulse, 30, (0.75, 2.5), refine)), 1) for refine in (False, True)]
        [70.3, 72.0]
    """
    low, high = check_band(band_hz, fs)
    signal = np.asarray(x, dtype=np.float64)
    frequencies_hz, power = power_spectrum(signal, fs, spectrum_length(signal.shape[-1], refine))
    inside = (frequencies_hz >= low) & (frequencies_hz <= high)
    if not inside.any():
        raise InputError(
            f"{signal.shape[-1]} samples at {fs:g} Hz leave no bin within {low:g}..{high:g} Hz: use refine"
        )
    power = power[..., inside]
    rate = 60 * frequencies_hz[inside][power.argmax(axis=-1)]
    return np.where(power.max(axis=-1) > 0, rate, np.nan)  # a NaN is never above 0


def heart_rate_peaks(x: npt.ArrayLike, fs: float) -> Float64:
    """Heart rate of the mean distance between all local maxima, of any height.

    Args:
        x: ``[..., T]``, filtered.
        fs: Sampling rate, Hz.

    Returns:
        float64 ``[...]`` in bpm; NaN where there are fewer than two peaks.

    Example:
        >>> round(float(heart_rate_peaks(np.sin(2 * np.pi * 1.2 * np.arange(300) / 30), 30)), 1)
        72.0
    """
    signal = np.asarray(x, dtype=np.float64)
    return np.asarray(np.apply_along_axis(_rate_of_peaks, -1, signal, fs), dtype=np.float64)


def _rate_of_peaks(x: Float64, fs: float) -> float:
    peaks, _ = scipy.signal.find_peaks(x)
    return 60 * fs * (len(peaks) - 1) / (peaks[-1] - peaks[0]) if len(peaks) > 1 else math.nan

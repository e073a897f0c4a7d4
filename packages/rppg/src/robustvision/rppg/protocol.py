"""How a waveform becomes a heart rate that may be compared: every choice named, and stamped on every number.

The same predictions give a mean error of 1 or of 5 bpm under different protocols, so a number without its protocol says
little. Numpy and scipy only. The way through: window, detrend, band-pass (prediction and reference alike), heart rate,
SNR, MACC: one :class:`~robustvision.rppg.metrics.Reading` a window.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from robustvision.core.errors import InputError

from .metrics import DECIBELS, DbRule, Reading, macc, pulse_metrics, snr_db
from .signal import (
    DETREND_LAMBDA,
    bandpass,
    detrend,
    heart_rate_fft,
    heart_rate_peaks,
    scaled_lambda,
    shortest_filtered,
)

METHODS = ("fft", "peak")
NO_PULSE = 1e-7  # of a signal's size: what filtering leaves of a constant or a line, and of float32 rounding

Float64 = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Protocol:
    """One way to read heart rates, complete.

    Attributes:
        name: What tables call it.
        band_hz: Corners of the filter, and where the spectrum is searched.
        method: ``fft``, the highest bin, or ``peak``, the mean distance of all local maxima.
        window_s: Length of the windows, which do not overlap; None reads the whole recording. The remainder at the end
            is a window as well, unless it is too short to filter (less than 10 samples).
        detrend_lambda: Smoothness of the detrending.
        scale_lambda: Scale it by ``(fs / 30)^2``, so that it removes the same frequencies at every frame rate.
        db_rule: ``10log10``, or ``20log10`` as in older tables.
        refine: Read the spectrum on a grid of at least 2^14 points instead of the next power of two.
    """

    name: str
    band_hz: tuple[float, float] = (0.75, 2.5)
    method: Literal["fft", "peak"] = "fft"
    window_s: float | None = None
    detrend_lambda: float = DETREND_LAMBDA
    scale_lambda: bool = False
    db_rule: DbRule = "10log10"
    refine: bool = False

    def __post_init__(self) -> None:
        if not 0 < self.band_hz[0] < self.band_hz[1] < math.inf:
            raise InputError(f"the band is {self.band_hz} Hz: expected two rising positive numbers")
        if not 0 <= self.detrend_lambda < math.inf:
            raise InputError(f"the detrend lambda is {self.detrend_lambda}: expected a number of at least 0")
        if self.method not in METHODS:
            raise InputError(f"the method is {self.method!r}: expected one of {', '.join(METHODS)}")
        if self.db_rule not in DECIBELS:
            raise InputError(f"the dB rule is {self.db_rule!r}: expected one of {', '.join(DECIBELS)}")
        if self.window_s is not None and not self.window_s > 0:
            raise InputError(f"the window is {self.window_s} s: expected a positive length, or None for the whole")

    def stamp(self) -> dict[str, Any]:
        """Return every choice as a plain dict, which JSON takes: what each row of metrics carries."""
        return {
            "protocol": self.name,
            "band_hz": list(self.band_hz),
            "method": self.method,
            "window_s": self.window_s,
            "detrend_lambda": self.detrend_lambda,
            "scale_lambda": self.scale_lambda,
            "db_rule": self.db_rule,
            "refine": self.refine,
        }

    def clean(self, x: npt.ArrayLike, fs: float) -> Float64:
        """Detrend and band-pass (Butterworth of order 1, both ways), as prediction and reference both are.

        Args:
            x: ``[..., T]``, at least 10 samples.
            fs: Sampling rate, Hz.

        Returns:
            float64 ``[..., T]``; NaN throughout where x holds a NaN, or no pulse: where it is constant or a line.

        Raises:
            InputError: Too short, or the band exceeds half the sampling rate.
        """
        signal = np.asarray(x, dtype=np.float64)
        lam = scaled_lambda(fs, self.detrend_lambda) if self.scale_lambda else self.detrend_lambda
        filtered = bandpass(detrend(signal, lam), fs, self.band_hz)
        has_pulse = np.ptp(filtered, axis=-1) > NO_PULSE * np.abs(signal).max(axis=-1)
        return np.where(has_pulse[..., None], filtered, np.nan)

    def heart_rate(self, cleaned: npt.ArrayLike, fs: float) -> Float64:
        """Heart rate of what :meth:`clean` returned, ``[..., T]`` to ``[...]`` in bpm; NaN stays NaN."""
        if self.method == "peak":
            return heart_rate_peaks(cleaned, fs)
        return heart_rate_fft(cleaned, fs, self.band_hz, self.refine)

    def read(
        self,
        prediction: npt.ArrayLike,
        label: npt.ArrayLike,
        fs: float,
        *,
        derivative: bool = False,
        name: str = "",
    ) -> list[Reading]:
        """Read one recording.

        Args:
            prediction: ``[T]``, the whole recording's waveform, chunks joined in order.
            label: ``[T]``, the reference at the same times.
            fs: Sampling rate of both, Hz.
            derivative: Both are derivatives of the waveform, and are summed up first.
            name: Of the recording, for the readings.

        Returns:
            One reading a window. A prediction that is constant or not finite there gives a NaN heart rate, which
            lowers the coverage; a reference like that gives a NaN label.

        Raises:
            InputError: The shapes differ, the recording is too short to filter, or the band exceeds half the rate.

        Example:
            >>> pulse = np.sin(2 * np.pi * 1.2 * np.arange(1800) / 30)
            >>> [reading] = PAPER2023.read(-pulse, pulse, fs=30)
            >>> round(reading.hr_bpm, 1), round(reading.label_bpm, 1), round(reading.macc, 3)
            (72.1, 72.1, 1.0)
            >>> PAPER2023.read(np.ones(1800), pulse, fs=30)[0].hr_bpm
            nan
        """
        waves = _pair(prediction, label)
        readings = []
        for first, windows in self._windows(waves, fs):
            cleaned = self.clean(np.cumsum(windows, axis=-1) if derivative else windows, fs)
            rates = self.heart_rate(cleaned, fs)
            decibels = snr_db(cleaned[0], rates[1], fs, self.band_hz, refine=self.refine, rule=self.db_rule)
            starts_s = (first + np.arange(len(decibels)) * windows.shape[-1]) / fs
            columns = (*rates, decibels, macc(*cleaned), starts_s)
            readings += [
                Reading(hr_bpm, label_bpm, snr, likeness, start_s, name)
                for hr_bpm, label_bpm, snr, likeness, start_s in np.stack(columns, axis=-1).tolist()
            ]
        if not readings:
            raise InputError(
                f"{name or 'the recording'} holds {waves.shape[-1]} samples at {fs:g} Hz, read in windows of"
                f" {self.window_s or 'any'} s: at least {shortest_filtered()} samples are needed to filter one"
            )
        return readings

    def _windows(self, waves: Float64, fs: float) -> Iterator[tuple[int, Float64]]:
        """Cut ``[2, T]`` into ``[2, windows, samples]``: the full windows at once, then the remainder."""
        total = waves.shape[-1]
        size = total if self.window_s is None else min(int(self.window_s * fs + 1e-6), total)
        whole = total - total % max(size, 1)
        for first, last, length in ((0, whole, size), (whole, total, total - whole)):
            if length >= shortest_filtered():
                yield first, waves[:, first:last].reshape(2, -1, length)


PAPER2023 = Protocol("paper2023")
TOOLBOX_CURRENT = Protocol("toolbox_current", band_hz=(0.6, 3.3))
FINE_GRID = Protocol("paper2023, fine grid", refine=True)
"""``PAPER2023`` for recordings of some seconds, whose bins would be several bpm wide."""

PROTOCOLS = {protocol.name: protocol for protocol in (PAPER2023, TOOLBOX_CURRENT)}


def _variant(band_hz: tuple[float, float], readout: str, window_s: float | None) -> Protocol:
    name = f"{band_hz[0]:g}-{band_hz[1]:g} Hz, {readout}, {f'{window_s:g} s' if window_s else 'whole'}"
    return Protocol(name, band_hz, "peak" if readout == "peak" else "fft", window_s, refine=readout == "refined fft")


SENSITIVITY = tuple(
    itertools.starmap(
        _variant,
        itertools.product([(0.75, 2.5), (0.6, 3.3)], ["fft", "refined fft", "peak"], [None, 10.0, 30.0]),
    )
)


def protocol_sensitivity(
    pairs: Iterable[tuple[npt.ArrayLike, npt.ArrayLike]],
    fs: float,
    protocols: Sequence[Protocol] = SENSITIVITY,
    *,
    derivative: bool = False,
) -> list[dict[str, Any]]:
    """Measure the same predictions under many protocols.

    Args:
        pairs: Prediction and reference ``[T]`` of each recording.
        fs: Sampling rate of all, Hz.
        protocols: Those to compare; by default two bands x (FFT, refined FFT, peaks) x (whole, 10 s, 30 s).
        derivative: As for :meth:`Protocol.read`.

    Returns:
        A row for each protocol: its stamp, then the metrics.

    Raises:
        InputError: As for :meth:`Protocol.read`, or there are no pairs.

    Example:
        >>> pulse = np.sin(2 * np.pi * 1.2 * np.arange(900) / 30)
        >>> rows = protocol_sensitivity([(pulse, pulse)], 30, [PAPER2023, TOOLBOX_CURRENT])
        >>> [(row["protocol"], row["mae"], row["n"]) for row in rows]
        [('paper2023', 0.0, 1), ('toolbox_current', 0.0, 1)]
    """
    recordings = list(pairs)
    rows = []
    for protocol in protocols:
        readings = [reading for pair in recordings for reading in protocol.read(*pair, fs, derivative=derivative)]
        rows.append(protocol.stamp() | pulse_metrics(readings).row())
    return rows


def _pair(prediction: npt.ArrayLike, label: npt.ArrayLike) -> Float64:
    wave, reference = (np.asarray(v, dtype=np.float64) for v in (prediction, label))
    if wave.ndim != 1 or wave.shape != reference.shape:
        raise InputError(
            f"got a prediction {wave.shape} and a reference {reference.shape}: expected both [T]; bring the"
            " reference to the frames' times first"
        )
    return np.stack([wave, reference])

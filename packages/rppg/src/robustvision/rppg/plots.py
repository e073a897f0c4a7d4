"""What people look at: wave beside reference, their spectra, heart rate over time, and the agreement of two methods."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure

from robustvision.core.errors import InputError
from robustvision.rppg.agreement import bland_altman
from robustvision.rppg.pipeline import PulseResult
from robustvision.rppg.protocol import Protocol
from robustvision.rppg.signal import power_spectrum, z_score

Float64 = npt.NDArray[np.float64]
STATE_COLOURS = {"ok": "tab:green", "low_confidence": "tab:orange", "no_face": "tab:red", "warming_up": "tab:blue"}
SHOWN_S = 10.0


def wave_figure(waves: Mapping[str, npt.ArrayLike], label: npt.ArrayLike, fs: float, protocol: Protocol) -> Figure:
    """Draw waves of one clip above each other with the reference, and their spectra.

    Args:
        waves: Name to wave [T].
        label: [T], the reference.
        fs: Hz.
        protocol: Cleans the waves, and says where the spectrum is of interest.
    """
    figure = Figure(figsize=(10, 1.4 * len(waves) + 1.0), layout="constrained")
    axes = figure.subplots(len(waves), 2, squeeze=False, width_ratios=(2, 1))
    reference = z_score(protocol.clean(label, fs))
    shown = slice(0, round(SHOWN_S * fs))
    for (left, right), (name, wave) in zip(axes, waves.items(), strict=True):
        cleaned = z_score(protocol.clean(wave, fs))
        for values, look in ((reference, {"color": "0.6", "label": "reference"}), (cleaned, {"label": name})):
            time_s = np.arange(len(values[shown])) / fs
            left.plot(time_s, values[shown], lw=1, **look)
            frequency, power = power_spectrum(values, fs, 1 << 13)
            band = (frequency >= protocol.band_hz[0]) & (frequency <= protocol.band_hz[1])
            right.plot(60 * frequency[band], power[band] / max(power[band].max(), 1e-12), lw=1, **look)
        left.set_ylabel(name)
        left.set_yticks([])
        right.set_yticks([])
    axes[0, 0].legend(loc="upper right", fontsize="small")
    axes[-1, 0].set_xlabel("s")
    axes[-1, 1].set_xlabel("bpm")
    return figure


def rate_figure(results: Sequence[PulseResult], reference: tuple[npt.ArrayLike, npt.ArrayLike] | None = None) -> Figure:
    """Draw the heart rate over time: what was read, what was given, and why not.

    Args:
        results: Of the live estimator, in order.
        reference: Times in s and heart rates in bpm, where known.
    """
    figure = Figure(figsize=(10, 3), layout="constrained")
    axes = figure.subplots()
    if reference is not None:
        axes.plot(*reference, color="0.6", lw=2, label="reference")
    for state, colour in STATE_COLOURS.items():
        found = [(one.time_s, one.raw_bpm) for one in results if one.state == state and one.raw_bpm is not None]
        if found:
            times_s, rates = np.array(found, np.float64).T
            axes.scatter(times_s, rates, s=14, color=colour, label=f"read, {state.replace('_', ' ')}")
    for one in results:
        if one.raw_bpm is None:
            axes.axvspan(one.time_s - 1, one.time_s, color=STATE_COLOURS[one.state], alpha=0.15, lw=0)
    axes.set_xlabel("s")
    axes.set_ylabel("bpm")
    axes.legend(fontsize="small")
    return figure


def agreement_figure(heart_rate_bpm: npt.ArrayLike, label_bpm: npt.ArrayLike) -> Figure:
    """Draw the differences over the means, with bias, limits of agreement and their intervals.

    Args:
        heart_rate_bpm: [n].
        label_bpm: [n].

    Raises:
        InputError: Fewer than three pairs.
    """
    found, label = np.asarray(heart_rate_bpm, np.float64), np.asarray(label_bpm, np.float64)
    if len(found) < 3:
        raise InputError(f"{len(found)} pairs of heart rates: agreement needs at least 3")
    limits = bland_altman(found, label)
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    axes.scatter((found + label) / 2, found - label, s=12, alpha=0.7)
    for interval, style in ((limits.bias, "-"), (limits.lower, "--"), (limits.upper, "--")):
        axes.axhline(interval.estimate, ls=style, color="tab:red", lw=1)
        axes.axhspan(interval.low, interval.high, color="tab:red", alpha=0.1, lw=0)
    axes.set_xlabel("mean of both, bpm")
    axes.set_ylabel("prediction - reference, bpm")
    return figure

"""Pulse from mean skin colour without a network: GREEN, CHROM, POS, ICA, LGI, PBV, OMIT.

All take mean colours ``[T, 3]`` or ``[B, T, 3]`` (RGB, 0 to 255, one row a frame, on a uniform time grid) and give a
waveform ``[T]`` or ``[B, T]``. Blood volume up is light down; here the pulse's upstroke is positive in every method.

A trace without change gives zeros, never amplified rounding, so that nobody reads a heart rate from it. A NaN (a frame
without a face) is refused: :func:`fill_gaps` closes short gaps, on purpose and not in secret.

``compat=True`` reproduces what the field's reference implementation computes, up to sign, where that is a slip: POS
never covers the last frame, CHROM drops the tail, detrending ignores the frame rate. ICA, GREEN, LGI, PBV and OMIT have
no such slip, or share only the last.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np
import numpy.typing as npt
import scipy.signal
from numpy.lib.stride_tricks import sliding_window_view

from robustvision.core.errors import InputError
from robustvision.rppg.jade import jade
from robustvision.rppg.signal import DETREND_LAMBDA, bandpass, detrend, scaled_lambda, shortest_filtered, z_score

WINDOW_S = 1.6  # of POS and CHROM: at least one beat at 40 bpm
POS_BAND_HZ = (0.75, 3.0)
CHROM_BAND_HZ = ICA_BAND_HZ = (0.7, 2.5)
CHROM_ORDER = ICA_ORDER = 3
SILENCE = 1e-9  # relative change below which a trace is constant; a mean over 100x100 8-bit pixels steps by 4e-7
RANK = 1e-12

Float64 = npt.NDArray[np.float64]
Method = Callable[..., Float64]


def green(traces: npt.ArrayLike, fs: float, *, compat: bool = False) -> Float64:
    """GREEN: the green channel, turned over and centred; neither filtered nor detrended.

    Args:
        traces: Mean colours ``[T, 3]`` or ``[B, T, 3]``, 0 or more.
        fs: Frame rate, Hz.
        compat: No effect: taken so that all methods are called alike.

    Returns:
        float64 ``[T]`` or ``[B, T]``, in the unit of the traces.

    Raises:
        InputError: The traces are not such an array, hold a NaN or a negative value, or are too short.

    References:
        W. Verkruysse et al., "Remote plethysmographic imaging using ambient light", Optics Express 16, 2008.

    Example:
        >>> green([[9.0, 4.0, 2.0], [9.0, 2.0, 2.0]], 30).tolist()
        [-1.0, 1.0]
    """
    colours = _colours(traces, fs, 2, "GREEN")
    level = colours[..., 1, :]
    return _without_rounding(level.mean(axis=-1, keepdims=True) - level, level.max(axis=-1))


def chrom(traces: npt.ArrayLike, fs: float, *, compat: bool = False) -> Float64:
    r"""CHROM: chrominance ``X_f - alpha Y_f`` in half-overlapping Hann windows of 1.6 s, each band-passed on its own.

    With colours over their window means, ``X = 3R - 2G``, ``Y = 1.5R + G - 1.5B``, ``alpha = sd(X_f) / sd(Y_f)``.
    The first half-window fades in, as published. The tail is mirrored to fill the last window.

    Args:
        traces: As for :func:`green`; at least one window long.
        fs: Frame rate, Hz; at least about 13, so that a window is long enough to filter.
        compat: Leave off what does not fill a window: the output is ``L/2 (floor((T - L/2) / (L/2)) + 1)`` long.

    Returns:
        float64 ``[T]`` or ``[B, T]`` (shorter with ``compat``), relative to the colour's mean.

    Raises:
        InputError: As for :func:`green`, or the frame rate is too low.

    References:
        G. de Haan, V. Jeanne, "Robust pulse rate from chrominance-based rPPG", IEEE TBME 60, 2013.
    """
    half = math.ceil(math.ceil(WINDOW_S * fs) / 2)
    if 2 * half < shortest_filtered(CHROM_ORDER):
        slowest = (shortest_filtered(CHROM_ORDER) - 2) / WINDOW_S
        raise InputError(
            f"CHROM filters windows of {WINDOW_S} s, which are {2 * half} frames at {fs:g} fps: it needs more than"
            f" {slowest:.4g} fps; record faster, or use POS"
        )
    colours = _colours(traces, fs, 2 * half, "CHROM")
    length = colours.shape[-1]
    if not compat:
        padding = -length % half + half
        colours = np.pad(colours, [(0, 0)] * (colours.ndim - 1) + [(0, padding)], mode="symmetric")
    windows = sliding_window_view(colours, 2 * half, axis=-1)[..., ::half, :]
    red, green_, blue = np.moveaxis(windows * _inverse(windows.mean(axis=-1), -2)[..., None], -3, 0)
    x = bandpass(3 * red - 2 * green_, fs, CHROM_BAND_HZ, CHROM_ORDER)
    y = bandpass(1.5 * red + green_ - 1.5 * blue, fs, CHROM_BAND_HZ, CHROM_ORDER)
    pulse = (x - _ratio_of_deviations(x, y) * y) * scipy.signal.windows.hann(2 * half)
    added = np.zeros((*pulse.shape[:-2], pulse.shape[-2] + 1, half))
    added[..., :-1, :] += pulse[..., :half]
    added[..., 1:, :] += pulse[..., half:]
    whole = added.reshape(*added.shape[:-2], -1)
    return _without_rounding(whole if compat else whole[..., :length], 1.0)


def pos(traces: npt.ArrayLike, fs: float, *, compat: bool = False) -> Float64:
    r"""POS: projection on the plane orthogonal to skin, in windows of 1.6 s at every frame; detrended, 0.75 to 3 Hz.

    With colours over their window means, ``S1 = G - B``, ``S2 = -2R + G + B``,
    ``h = S1 + sd(S1)/sd(S2) S2``; all h are added up. Since the mean of h is 0, a window's h is a fixed combination of
    the three colours, so what is added up is its three weights, not its frames.

    Args:
        traces: As for :func:`green`; at least one window long.
        fs: Frame rate, Hz.
        compat: Leave out the last window, as the reference does, and detrend with lambda 100 at any frame rate.

    Returns:
        float64 ``[T]`` or ``[B, T]``, relative to the colour's mean, times the frames of a window.

    Raises:
        InputError: As for :func:`green`.

    References:
        W. Wang et al., "Algorithmic principles of remote PPG", IEEE TBME 64, 2017, algorithm 1.

    Example:
        >>> beat = np.cos(2 * np.pi * 1.25 * np.arange(300) / 30)
        >>> skin = np.array([200.0, 150.0, 120.0]) * (1 - 0.01 * beat[:, None] * [0.33, 0.77, 0.53])
        >>> bool(np.corrcoef(pos(skin, 30)[48:-48], beat[48:-48])[0, 1] > 0.99)
        True
    """
    window = math.ceil(WINDOW_S * fs)
    colours = _colours(traces, fs, max(window, shortest_filtered()), "POS")
    windows = sliding_window_view(colours, window, axis=-1)
    if compat:
        windows = windows[..., :-1, :]
    inverse = _inverse(windows.mean(axis=-1), -2)
    red, green_, blue = np.moveaxis(windows, -3, 0)
    red_scale, green_scale, blue_scale = np.moveaxis(inverse[..., None], -3, 0)
    green_, blue = green_ * green_scale, blue * blue_scale
    alpha = _ratio_of_deviations(green_ - blue, green_ + blue - 2 * red_scale * red)[..., 0]
    weights = np.stack([-2 * alpha, 1 + alpha, alpha - 1], axis=-2) * inverse
    covered = np.pad(weights, [(0, 0)] * (weights.ndim - 1) + [(window - 1, window - 1 + compat)])
    pulse = -(sliding_window_view(covered, window, axis=-1).sum(axis=-1) * colours).sum(axis=-2)
    pulse = _without_rounding(pulse, float(window))
    return bandpass(detrend(pulse, _lambda(fs, compat)), fs, POS_BAND_HZ)


def ica(traces: npt.ArrayLike, fs: float, *, compat: bool = False) -> Float64:
    """ICA: of the three sources that JADE separates, the one with the sharpest spectral peak; 0.7 to 2.5 Hz.

    The sign of a source is arbitrary; here it is that which runs against the green channel.

    Args:
        traces: As for :func:`green`.
        fs: Frame rate, Hz.
        compat: Detrend with lambda 100 at any frame rate.

    Returns:
        float64 ``[T]`` or ``[B, T]``, of variance 1 before the filter.

    Raises:
        InputError: As for :func:`green`.

    References:
        M.-Z. Poh et al., "Non-contact, automated cardiac pulse measurements", Optics Express 18, 2010.
    """
    colours = _colours(traces, fs, shortest_filtered(ICA_ORDER), "ICA")
    centred = colours - colours.mean(axis=-1, keepdims=True)
    centred = np.where(_is_silent(centred, colours.max(axis=-1))[..., None], 0.0, centred)
    signals = z_score(detrend(centred, _lambda(fs, compat)))
    sources = jade(signals)
    power = np.abs(np.fft.rfft(sources)) ** 2
    total = power.sum(axis=-1)
    sharpness = power.max(axis=-1) / np.where(total > 0, total, 1.0)
    best = np.take_along_axis(sources, sharpness.argmax(axis=-1)[..., None, None], axis=-2)[..., 0, :]
    along_green = (best * signals[..., 1, :]).sum(axis=-1, keepdims=True)
    return bandpass(np.where(along_green > 0, -best, best), fs, ICA_BAND_HZ, ICA_ORDER)


def lgi(traces: npt.ArrayLike, fs: float, *, compat: bool = False) -> Float64:
    """LGI: the green channel of what is left when the main direction of all colours is projected out.

    Args:
        traces: As for :func:`green`.
        fs: Frame rate, Hz.
        compat: No effect.

    Returns:
        float64 ``[T]`` or ``[B, T]``, in the unit of the traces; not filtered.

    Raises:
        InputError: As for :func:`green`.

    References:
        C. Pilz et al., "Local group invariance for heart rate estimation from face videos in the wild", CVPRW 2018.
    """
    colours = _colours(traces, fs, 3, "LGI")
    _, directions = np.linalg.eigh(colours @ np.swapaxes(colours, -1, -2))
    return _green_across(colours, directions[..., -1])


def pbv(traces: npt.ArrayLike, fs: float, *, compat: bool = False) -> Float64:
    """PBV: the combination of channels whose correlation with each is that of blood, taken from the channels' own sd.

    ``p = sd(C) / |sd(C)|``, ``w = (C C')^-1 p``, ``pulse = -C' w / p' w``, with C the colours over their means. Where
    the channels are linearly dependent (a grey film), the shortest such w.

    Args:
        traces: As for :func:`green`.
        fs: Frame rate, Hz.
        compat: No effect.

    Returns:
        float64 ``[T]`` or ``[B, T]``, centred; not filtered.

    Raises:
        InputError: As for :func:`green`.

    References:
        G. de Haan, A. van Leest, "Improved motion robustness of remote-PPG by using the blood volume pulse
        signature", Physiological Measurement 35, 2014.
    """
    colours = _colours(traces, fs, 3, "PBV")
    ratios = colours * _inverse(colours.mean(axis=-1), -1)[..., None]
    deviation = ratios.std(axis=-1)
    length = np.linalg.norm(deviation, axis=-1, keepdims=True)
    is_silent = length <= SILENCE
    signature = np.where(is_silent, 0.0, deviation / np.where(is_silent, 1.0, length))[..., None]
    weights = np.linalg.pinv(ratios @ np.swapaxes(ratios, -1, -2), rcond=RANK, hermitian=True) @ signature
    along = (signature * weights).sum(axis=(-1, -2))[..., None]
    pulse = -(ratios * weights).sum(axis=-2) / np.where(along > 0, along, 1.0)
    pulse -= pulse.mean(axis=-1, keepdims=True)
    return np.where(is_silent, 0.0, pulse)


def omit(traces: npt.ArrayLike, fs: float, *, compat: bool = False) -> Float64:
    """OMIT: the green channel of what is left when the first frame's colour is projected out (first sample exactly 0).

    Args:
        traces: As for :func:`green`.
        fs: Frame rate, Hz.
        compat: No effect.

    Returns:
        float64 ``[T]`` or ``[B, T]``, in the unit of the traces; not filtered.

    Raises:
        InputError: As for :func:`green`.

    References:
        C. Alvarez Casado, M. Bordallo Lopez, "Face2PPG: an unsupervised pipeline for blood volume pulse extraction
        from faces", IEEE JBHI 27, 2023.
    """
    colours = _colours(traces, fs, 3, "OMIT")
    first = colours[..., 0]
    length = np.linalg.norm(first, axis=-1, keepdims=True)
    return _green_across(colours, first / np.where(length > 0, length, 1.0), first)


METHODS: Mapping[str, Method] = MappingProxyType(
    {"green": green, "chrom": chrom, "pos": pos, "ica": ica, "lgi": lgi, "pbv": pbv, "omit": omit}
)
"""All methods by name."""


def fill_gaps(traces: npt.ArrayLike, fs: float, *, longest_s: float = 1.0) -> Float64:
    """Close gaps without a face by straight lines between the colours around them; the ends are held.

    Args:
        traces: Mean colours ``[T, 3]``, NaN in frames without a face.
        fs: Frame rate, Hz.
        longest_s: Longest gap that may be closed.

    Returns:
        float64 ``[T, 3]`` without NaN.

    Raises:
        InputError: A gap is longer, or there is no face at all.

    Example:
        >>> nan = float("nan")
        >>> fill_gaps([[1.0, 2.0, 3.0], [nan] * 3, [3.0, 2.0, 1.0]], 30).tolist()[1]
        [2.0, 2.0, 2.0]
    """
    colours = np.array(traces, dtype=np.float64)
    if colours.ndim != 2 or colours.shape[1] != 3:
        raise InputError(f"traces have shape {colours.shape}: expected mean colours [T, 3], a row a frame")
    seen = np.flatnonzero(np.isfinite(colours).all(axis=1))
    if not seen.size:
        raise InputError(f"none of the {len(colours)} frames has a colour: there was no face, so there is no pulse")
    gaps = np.diff(np.concatenate([[-1], seen, [len(colours)]])) - 1
    if gaps.max() > longest_s * fs:
        start = int(np.concatenate([[0], seen + 1])[gaps.argmax()])
        raise InputError(
            f"no colour for {gaps.max() / fs:.2f} s from frame {start} on, the longest gap to close is {longest_s:g} s:"
            " read the pulse before and after it apart"
        )
    frames = np.arange(len(colours))
    for channel in range(3):
        colours[:, channel] = np.interp(frames, seen, colours[seen, channel])
    return colours


def _colours(traces: npt.ArrayLike, fs: float, frames_needed: int, method: str) -> Float64:
    """Check at the border, and put channels before time: ``[..., 3, T]``."""
    colours = np.asarray(traces, dtype=np.float64)
    if colours.ndim not in (2, 3) or colours.shape[-1] != 3:
        raise InputError(f"traces have shape {colours.shape}: expected mean colours [T, 3] or [B, T, 3], a row a frame")
    length = colours.shape[-2]
    if length < frames_needed:
        raise InputError(
            f"{method} needs at least {frames_needed} frames ({frames_needed / fs:.2f} s at {fs:g} fps), got {length}:"
            " record longer"
        )
    has_colour = np.isfinite(colours).all(axis=-1)
    if not has_colour.all():
        first = int(np.argwhere(~has_colour)[0, -1])
        raise InputError(
            f"{np.sum(~has_colour)} of {has_colour.size} frames have no colour (NaN), the first is frame {first}: close"
            " short gaps with fill_gaps, or read the pulse before and after them apart"
        )
    if colours.min(initial=0.0) < 0:
        raise InputError(
            f"traces reach down to {colours.min():.4g}: expected mean colours of 0 to 255, neither centred nor filtered"
        )
    return np.swapaxes(colours, -1, -2)


def _lambda(fs: float, compat: bool) -> float:
    return DETREND_LAMBDA if compat else scaled_lambda(fs)


def _inverse(mean: Float64, axis: int) -> Float64:
    """One over the means, whose channels lie along ``axis``; 0 for all three where one is black: no ratios then."""
    has_colours = (mean > 0).all(axis=axis, keepdims=True)
    return np.where(has_colours, 1 / np.where(has_colours, mean, 1.0), 0.0)


def _ratio_of_deviations(x: Float64, y: Float64) -> Float64:
    """``sd(x) / sd(y)`` over the last axis, kept; 0 where y does not change."""
    above, below = x.std(axis=-1, keepdims=True), y.std(axis=-1, keepdims=True)
    has_change = below > SILENCE
    return np.where(has_change, above / np.where(has_change, below, 1.0), 0.0)


def _green_across(colours: Float64, direction: Float64, origin: Float64 | None = None) -> Float64:
    """Green row of ``-(I - d d') C``; what is taken from C along d changes nothing but its rounding."""
    moved = colours if origin is None else colours - origin[..., None]
    along = (direction[..., None] * moved).sum(axis=-2)
    pulse = direction[..., 1, None] * along - moved[..., 1, :]
    return _without_rounding(pulse, colours.max(axis=(-1, -2)))


def _without_rounding(pulse: Float64, scale: Float64 | float) -> Float64:
    """Zeros where nothing but rounding is left of ``[..., T]``; ``scale`` is what it was computed from."""
    return np.where(_is_silent(pulse, scale)[..., None], 0.0, pulse)


def _is_silent(x: Float64, scale: Float64 | float) -> npt.NDArray[np.bool_]:
    return np.asarray(np.ptp(x, axis=-1) <= SILENCE * np.asarray(scale))

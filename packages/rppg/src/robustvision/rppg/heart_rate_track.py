"""Heart rates over time, and how well two tracks of them agree once the lag of their clocks is taken out."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

MAX_LAG_S = 5.0
LAG_STEP_S = 0.25
LEAST_PAIRS = 10  # to correlate
LEAST_SPREAD_BPM = 1.0  # of both tracks; steadier ones show no lag
LEAST_RHO = 0.5
CLOSE_BPM = 5.0
LONGEST_GAP_S = 3.0  # of the reference, bridged by a line

Float64 = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class HeartRateTrack:
    """Heart rates over time.

    Attributes:
        times_s: float64 [N] seconds since the film's first frame, strictly rising.
        bpm: float64 [N]; NaN where there is no reading.
        confidence: float64 [N], 0 to 1.
    """

    times_s: Float64
    bpm: Float64
    confidence: Float64


@dataclass(frozen=True)
class Lag:
    """By how much the reference's clock is ahead.

    Attributes:
        seconds: What happens at time t in the film stands at ``t + seconds`` in the reference. 0 where not found.
        rho: Correlation of the tracks at that lag; NaN where they are too short or too steady to tell.
        is_found: Whether the lag is known: both tracks vary by 1 bpm and more, and correlate by 0.5 at least.
    """

    seconds: float
    rho: float
    is_found: bool


@dataclass(frozen=True)
class Agreement:
    """How well an estimated track agrees with a reference.

    Attributes:
        n: Readings that were compared.
        moments: Moments with a reference, at which the estimator was asked.
        coverage: ``n`` over ``moments``; NaN where there are none.
        mae: Mean absolute error, bpm.
        rmse: Root mean squared error, bpm.
        mape: Mean absolute error, percent of the reference.
        bias: Mean of estimate minus reference, bpm.
        rho: Pearson's correlation; NaN where either does not vary.
        within_5_bpm: Share of the readings that are at most 5 bpm off.
        lag_s: See `Lag`; taken out of all the above.
        is_lag_found: See `Lag`.
        mae_without_lag: The mean absolute error with the clocks as they are.
    """

    n: int
    moments: int
    coverage: float
    mae: float
    rmse: float
    mape: float
    bias: float
    rho: float
    within_5_bpm: float
    lag_s: float
    is_lag_found: bool
    mae_without_lag: float

    def row(self) -> dict[str, float | int | bool]:
        """Return all as a plain dict, for a table or JSON."""
        return asdict(self)


def align_lag(estimated: HeartRateTrack, reference: HeartRateTrack, max_lag_s: float = MAX_LAG_S) -> Lag:
    """Find the lag at which two tracks correlate best.

    Args:
        estimated: The track whose times count.
        reference: The track that is moved.
        max_lag_s: Largest lag to try, either way, in steps of 0.25 s.

    Returns:
        The lag; of equally good ones the smallest.

    Example:
        >>> times = np.arange(60.0)
        >>> rates = 70 + 8 * np.sin(times / 6)
        >>> sure = np.ones(60)
        >>> align_lag(HeartRateTrack(times, rates, sure), HeartRateTrack(times + 2, rates, sure)).seconds
        2.0
    """
    steps = round(max_lag_s / LAG_STEP_S)
    lags_s = LAG_STEP_S * np.array(sorted(range(-steps, steps + 1), key=abs), np.float64)
    moved = _at(reference, estimated.times_s + lags_s[:, None])  # [lags, N]
    # the same moments at every lag, or a lag could win by leaving out the hard ones
    both = np.isfinite(moved).all(axis=0) & np.isfinite(estimated.bpm)
    if both.sum() < LEAST_PAIRS:
        return Lag(0.0, math.nan, False)
    x = estimated.bpm[both] - estimated.bpm[both].mean()
    y = moved[:, both] - moved[:, both].mean(axis=1, keepdims=True)
    spread = np.minimum(x.std(), y.std(axis=1))
    with np.errstate(invalid="ignore", divide="ignore"):
        rho = np.where(spread >= LEAST_SPREAD_BPM, (y @ x) / (len(x) * x.std() * y.std(axis=1)), -np.inf)
    best = int(np.argmax(np.round(rho, 9)))
    if not np.isfinite(rho[best]):
        return Lag(0.0, math.nan, False)
    is_found = bool(rho[best] >= LEAST_RHO)
    return Lag(float(lags_s[best]) if is_found else 0.0, float(rho[best]), is_found)


def compare_series(estimated: HeartRateTrack, reference: HeartRateTrack, lag: Lag | None = None) -> Agreement:
    """Compare two tracks at the times of the estimated one.

    Args:
        estimated: Heart rates; NaN where the estimator refused, which lowers the coverage and is no error.
        reference: The truth; read linearly between its times where they are at most 3 s apart.
        lag: Found with `align_lag` where None.

    Returns:
        The errors. Without a common reading they are NaN, and n is 0.

    Example:
        >>> times, sure = np.arange(4.0), np.ones(4)
        >>> truth = HeartRateTrack(times, np.full(4, 70.0), sure)
        >>> found = compare_series(HeartRateTrack(times, np.array([71, 69, 80, np.nan]), sure), truth)
        >>> found.n, found.coverage, found.mae, round(found.within_5_bpm, 2)
        (3, 0.75, 4.0, 0.67)
    """
    lag = lag or align_lag(estimated, reference)
    truth = _at(reference, estimated.times_s + lag.seconds)
    has_truth = np.isfinite(truth)
    both = has_truth & np.isfinite(estimated.bpm)
    errors = (estimated.bpm - truth)[both]
    return Agreement(
        n=int(both.sum()),
        moments=int(has_truth.sum()),
        coverage=_mean(both[has_truth]),
        mae=_mean(np.abs(errors)),
        rmse=math.sqrt(_mean(errors**2)),
        mape=100 * _mean(np.abs(errors) / truth[both]),
        bias=_mean(errors),
        rho=_correlation(estimated.bpm[both], truth[both]),
        within_5_bpm=_mean(np.abs(errors) <= CLOSE_BPM),
        lag_s=lag.seconds,
        is_lag_found=lag.is_found,
        mae_without_lag=_mean(np.abs(aligned_errors(estimated, reference, 0.0))),
    )


def aligned_errors(estimated: HeartRateTrack, reference: HeartRateTrack, lag_s: float) -> Float64:
    """Estimate minus reference, bpm, float64 [n], wherever there are both."""
    errors = estimated.bpm - _at(reference, estimated.times_s + lag_s)
    return errors[np.isfinite(errors)]


def _at(track_: HeartRateTrack, times_s: Float64) -> Float64:
    """Read a track at other times; NaN outside it and within gaps that are too long."""
    known = np.isfinite(track_.bpm)
    times, rates = track_.times_s[known], track_.bpm[known]
    if not times.size:
        return np.full(times_s.shape, np.nan)
    after = np.clip(np.searchsorted(times, times_s), 0, len(times) - 1)
    before = np.clip(np.searchsorted(times, times_s, side="right") - 1, 0, len(times) - 1)
    is_inside = (times_s >= times[0]) & (times_s <= times[-1]) & (times[after] - times[before] <= LONGEST_GAP_S)
    return np.where(is_inside, np.interp(times_s, times, rates), np.nan)


def _mean(values: npt.NDArray[Any]) -> float:
    return float(values.mean()) if values.size else math.nan


def _correlation(x: Float64, y: Float64) -> float:
    has_spread = len(x) > 1 and x.std() > 1e-9 and y.std() > 1e-9
    return float(np.corrcoef(x, y)[0, 1]) if has_spread else math.nan

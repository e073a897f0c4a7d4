"""ROC figures against brute force over all thresholds, hand values and invariances."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robustvision.core.errors import InputError
from robustvision.core.evaluation import equal_error_rate, roc_auc, roc_curve, tar_at_far

# Few distinct values, so that ties are the rule.
tied_scores = st.lists(st.integers(0, 12).map(lambda k: k / 8), min_size=1, max_size=40)


def operating_points(genuine: np.ndarray, impostor: np.ndarray) -> list[tuple[int, int, float]]:
    """All (impostors accepted, genuine accepted, threshold), by trying every score and everything below."""
    thresholds = [*sorted({*genuine, *impostor}, reverse=True), -math.inf]
    return [(int((impostor > t).sum()), int((genuine > t).sum()), t) for t in thresholds]


@given(tied_scores, tied_scores)
def test_auc_is_the_share_of_ordered_pairs(positive: list[float], negative: list[float]) -> None:
    wins = sum((p > n) + (p == n) / 2 for p in positive for n in negative)
    assert roc_auc(positive, negative) == pytest.approx(wins / (len(positive) * len(negative)), abs=1e-15)


@given(tied_scores, tied_scores)
def test_auc_is_the_area_under_the_curve(genuine: list[float], impostor: list[float]) -> None:
    curve = roc_curve(genuine, impostor)
    assert np.trapezoid(curve.tar, curve.far) == pytest.approx(roc_auc(genuine, impostor), abs=1e-12)


@given(tied_scores, tied_scores)
def test_curve_holds_every_operating_point(genuine: list[float], impostor: list[float]) -> None:
    g, i = np.array(genuine), np.array(impostor)
    curve = roc_curve(g, i)
    points = operating_points(g, i)
    np.testing.assert_array_equal(curve.far, [far / i.size for far, _, _ in points])
    np.testing.assert_array_equal(curve.tar, [tar / g.size for _, tar, _ in points])
    np.testing.assert_array_equal(curve.thresholds, [t for _, _, t in points])
    assert (curve.far[0], curve.tar[0], curve.far[-1], curve.tar[-1]) == (0, 0, 1, 1)


def test_auc_does_not_feel_monotone_transforms_and_mirrors() -> None:
    rng = np.random.default_rng(0)
    positive, negative = rng.normal(1, 1, 300), rng.normal(0, 1, 500)
    area = roc_auc(positive, negative)
    assert roc_auc(np.exp(positive), np.exp(negative)) == area
    assert roc_auc(-positive, -negative) == pytest.approx(1 - area, abs=1e-15)
    assert roc_auc(negative, positive) == pytest.approx(1 - area, abs=1e-15)


def test_auc_of_two_normals_is_the_closed_form() -> None:
    rng = np.random.default_rng(1)
    area = roc_auc(rng.normal(1, 1, 200_000), rng.normal(0, 1, 200_000))
    assert area == pytest.approx(0.5 * (1 + math.erf(1 / 2)), abs=0.003)  # Phi(1 / sqrt 2)


def test_auc_limits() -> None:
    assert roc_auc([2, 3], [0, 1]) == 1.0
    assert roc_auc([0, 1], [2, 3]) == 0.0
    assert roc_auc([1, 1], [1, 1]) == 0.5
    assert roc_auc([True, True], [False]) == 1.0
    assert roc_auc([-math.inf, 1.0], [0.0]) == 0.5


@given(tied_scores, tied_scores, st.integers(1, 40))
@settings(max_examples=150)
def test_strict_takes_the_score_at_the_floor_of_far_times_n(g: list[float], i: list[float], share: int) -> None:
    genuine, impostor, far = np.array(g), np.array(i), share / 40
    if far * impostor.size < 1:
        return
    result = tar_at_far(genuine, impostor, far)
    index = share * impostor.size // 40
    descending = np.sort(impostor)[::-1]
    threshold = descending[index] if index < impostor.size else -math.inf
    assert result.threshold == threshold
    assert result.tar == (genuine > threshold).sum() / genuine.size
    assert result.far == (impostor > threshold).sum() / impostor.size <= far


@given(tied_scores, tied_scores, st.integers(1, 40))
@settings(max_examples=150)
def test_nearest_takes_the_nearest_roc_point_and_the_larger_tar(g: list[float], i: list[float], share: int) -> None:
    genuine, impostor = np.array(g), np.array(i)
    if share * impostor.size < 40:
        return
    result = tar_at_far(genuine, impostor, share / 40, method="nearest")
    points = operating_points(genuine, impostor)
    distance = min(abs(40 * far - share * impostor.size) for far, _, _ in points)  # in integers: no rounding
    best = max(tar for far, tar, _ in points if abs(40 * far - share * impostor.size) == distance)
    assert result.tar == best / genuine.size
    assert min(abs(40 * round(result.far * impostor.size) - share * impostor.size), 10**9) == distance


def test_tar_at_far_by_hand() -> None:
    impostor = np.arange(100) / 100  # 0.00 to 0.99
    genuine = np.array([0.95, 0.90, 0.895, 0.2])
    result = tar_at_far(genuine, impostor, 0.1)
    assert result.threshold == 0.89  # index 10 of the descending scores
    assert (result.tar, result.far, result.smallest_far, result.target) == (0.75, 0.1, 0.01, 0.1)
    assert (result.interval.low, result.interval.estimate, result.interval.high) == pytest.approx(
        (0.30064, 0.75, 0.95441), abs=1e-5
    )


def test_the_target_is_the_decimal_that_was_written() -> None:
    impostor = np.arange(100.0)
    for percent in range(1, 101):
        assert tar_at_far([0.5], impostor, percent / 100).far == percent / 100
    assert tar_at_far([0.5], np.arange(1000.0), 1e-3).far == 1e-3


def test_below_the_smallest_far_nothing_is_claimed() -> None:
    with pytest.warns(UserWarning, match="cannot be measured with 999 impostor"):
        result = tar_at_far([0.5, 2000.0], np.arange(999.0), 1e-3)
    assert math.isnan(result.tar)
    assert math.isnan(result.threshold)
    assert math.isnan(result.interval.low)
    assert result.smallest_far == 1 / 999
    with pytest.warns(UserWarning, match="cannot be measured"):
        assert math.isnan(tar_at_far([0.5], np.arange(999.0), 1e-3, method="nearest").tar)


def test_equal_impostors_leave_only_the_strictest_point() -> None:
    result = tar_at_far([0.5, 0.6], np.full(50, 0.5), 0.9)
    assert (result.threshold, result.far, result.tar) == (0.5, 0.0, 0.5)
    nearest = tar_at_far([0.5, 0.6], np.full(50, 0.5), 0.9, method="nearest")
    assert (nearest.threshold, nearest.far, nearest.tar) == (-math.inf, 1.0, 1.0)


def test_tar_at_far_does_not_feel_monotone_transforms() -> None:
    rng = np.random.default_rng(2)
    genuine, impostor = rng.normal(2, 1, 1000), rng.normal(0, 1, 5000)
    for method in ("strict", "nearest"):
        plain = tar_at_far(genuine, impostor, 0.01, method=method)
        cubed = tar_at_far(genuine**3, impostor**3, 0.01, method=method)
        assert (cubed.tar, cubed.far) == (plain.tar, plain.far)
        assert cubed.threshold == pytest.approx(plain.threshold**3)


def test_a_float64_threshold_is_not_rounded_beside_float32_scores() -> None:
    # float32(0.1) lies above 0.1; rounding the threshold to float32 would make them equal.
    assert tar_at_far(np.array([0.1], np.float32), [0.2, 0.1], 0.5).tar == 1.0


def test_far_1_accepts_everything() -> None:
    result = tar_at_far([-math.inf, 1.0], [0.0, -math.inf], 1.0)
    assert (result.tar, result.far, result.threshold) == (1.0, 1.0, -math.inf)


def test_ten_million_impostors() -> None:
    rng = np.random.default_rng(3)
    impostor, genuine = rng.random(10_000_000, dtype=np.float32), np.array([0.5, 0.9999, 2.0], np.float32)
    result = tar_at_far(genuine, impostor, 1e-5)
    assert result.far == 1e-5
    assert np.count_nonzero(impostor > np.float64(result.threshold)) == 100
    assert result.tar == pytest.approx(1 / 3)


@pytest.mark.parametrize("far", [0.0, -0.1, 1.5, math.nan])
def test_impossible_targets_are_refused(far: float) -> None:
    with pytest.raises(InputError, match="far is"):
        tar_at_far([1.0], [0.0], far)


def test_an_unknown_method_is_refused() -> None:
    with pytest.raises(InputError, match="strict"):
        tar_at_far([1.0], [0.0], 1.0, method="closest")  # type: ignore[arg-type]


@pytest.mark.parametrize("function", [roc_auc, roc_curve, equal_error_rate, lambda g, i: tar_at_far(g, i, 0.5)])
@pytest.mark.parametrize(
    ("genuine", "impostor", "message"),
    [
        ([], [1.0], "at least one"),
        ([1.0], [], "at least one"),
        ([1.0, math.nan], [0.0], "1 of 2"),
        ([1.0], [math.nan], "NaN"),
        ([[1.0]], [0.0], "one dimension"),
        (["a"], [0.0], "real numbers"),
    ],
)
def test_scores_that_are_none_are_refused(function, genuine: list, impostor: list, message: str) -> None:
    with pytest.raises(InputError, match=message):
        function(genuine, impostor)


def test_equal_error_rate_by_hand() -> None:
    # Above 0.5: 1 of 5 impostors; not above: 1 of 5 genuine.
    result = equal_error_rate([0.9, 0.8, 0.7, 0.6, 0.3], [0.55, 0.4, 0.2, 0.1, 0.0])
    assert result.rate == pytest.approx(0.2)
    assert 0.3 <= result.threshold <= 0.55
    assert equal_error_rate([2, 3], [0, 1]).rate == 0.0
    assert equal_error_rate([0, 1], [2, 3]).rate == 1.0
    assert equal_error_rate([1, 1], [1]).rate == 0.5
    assert equal_error_rate([-math.inf], [-math.inf]).rate == 0.5


@given(tied_scores, tied_scores)
def test_equal_error_rate_lies_on_the_curve_and_on_the_diagonal(genuine: list[float], impostor: list[float]) -> None:
    result = equal_error_rate(genuine, impostor)
    curve = roc_curve(genuine, impostor)
    excess = np.abs(curve.far - (1 - curve.tar))
    assert excess[curve.thresholds == result.threshold] == excess.min()
    # The point (rate, 1 - rate) has no distance to the polygon of operating points.
    start = np.stack([curve.far, curve.tar], axis=1)
    step, offset = np.diff(start, axis=0), np.array([result.rate, 1 - result.rate]) - start[:-1]
    along = np.clip((offset * step).sum(axis=1) / np.maximum((step**2).sum(axis=1), 1e-30), 0, 1)
    assert np.linalg.norm(offset - along[:, None] * step, axis=1).min() < 1e-9


def test_equal_error_rate_of_two_normals_is_the_closed_form() -> None:
    rng = np.random.default_rng(4)
    result = equal_error_rate(rng.normal(2, 1, 100_000), rng.normal(0, 1, 100_000))
    assert result.rate == pytest.approx(0.5 * math.erfc(1 / math.sqrt(2)), abs=0.002)  # Phi(-1)
    assert result.threshold == pytest.approx(1.0, abs=0.02)


def test_no_warning_where_everything_can_be_measured() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tar_at_far([1.0], np.arange(10.0), 0.1)
        roc_curve([1.0], [0.0])

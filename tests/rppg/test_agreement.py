import math

import numpy as np
import pytest
from scipy import integrate, stats

from robustvision.core.errors import InputError
from robustvision.rppg.agreement import bland_altman


@pytest.fixture
def pair():
    rng = np.random.default_rng(0)
    truth = rng.uniform(50, 120, 42)
    return truth + rng.normal(1.5, 3, 42), truth


def test_bias_and_limits_follow_the_formulas(pair):
    a, b = pair
    d = a - b
    got = bland_altman(a, b)
    deviation = math.sqrt(((d - d.mean()) ** 2).sum() / 41)
    assert got.deviation == pytest.approx(deviation)
    assert got.bias.estimate == pytest.approx(d.mean())
    assert got.lower.estimate == pytest.approx(d.mean() - 1.959964 * deviation, abs=1e-5)
    assert got.upper.estimate == pytest.approx(d.mean() + 1.959964 * deviation, abs=1e-5)
    expected = stats.ttest_1samp(d, 0).confidence_interval(0.95)
    assert (got.bias.low, got.bias.high) == pytest.approx((expected.low, expected.high))
    assert got.n == 42


@pytest.mark.parametrize("n", [3, 10, 60])
@pytest.mark.parametrize("confidence", [0.95, 0.8])
def test_the_ends_of_a_limit_have_the_exact_probability(n, confidence):
    """P(mean + k s <= 1.96) over normal samples, integrated over the chi distribution of s, must be the two tails."""
    z = stats.norm.ppf(0.975)
    differences = np.random.default_rng(n).normal(size=n)
    got = bland_altman(differences, np.zeros(n), confidence)
    chi = stats.chi(n - 1, scale=1 / math.sqrt(n - 1))
    for end, tail in ((got.upper.low, (1 + confidence) / 2), (got.upper.high, (1 - confidence) / 2)):
        k = (end - differences.mean()) / differences.std(ddof=1)
        below = integrate.quad(lambda s, k=k: stats.norm.cdf(math.sqrt(n) * (z - k * s)) * chi.pdf(s), 0, 12, limit=400)
        assert below[0] == pytest.approx(tail, abs=1e-6)


def test_the_interval_of_a_limit_holds_it_as_often_as_it_says():
    rng = np.random.default_rng(1)
    held = []
    for d in rng.normal(2, 5, (3000, 12)):
        limit = bland_altman(d, np.zeros(12)).upper
        held.append(limit.low <= 2 + 1.959964 * 5 <= limit.high)
    assert np.mean(held) == pytest.approx(0.95, abs=0.016)  # four standard errors


def test_with_many_pairs_it_meets_the_approximation(pair):
    d = np.random.default_rng(2).normal(0, 4, 20_000)
    got = bland_altman(d, np.zeros_like(d))
    half = 1.96 * d.std() * math.sqrt((1 + 1.96**2 / 2) / len(d))
    assert got.upper.high - got.upper.estimate == pytest.approx(half, rel=0.02)
    assert got.upper.estimate - got.upper.low == pytest.approx(half, rel=0.02)


def test_swapping_both_mirrors_everything(pair):
    there, back = bland_altman(*pair), bland_altman(*pair[::-1])
    assert back.bias.estimate == pytest.approx(-there.bias.estimate)
    assert (back.lower.low, back.lower.high) == pytest.approx((-there.upper.high, -there.upper.low))
    assert (back.slope.low, back.slope.high) == pytest.approx((-there.slope.high, -there.slope.low))


def test_a_bias_that_grows_is_found_and_none_is_not(pair):
    a, b = pair
    growing = bland_altman(1.2 * b, b)
    assert growing.slope.estimate == pytest.approx(0.2 / 1.1)
    line = stats.linregress((a + b) / 2, a - b)
    got = bland_altman(a, b).slope
    half = stats.t.ppf(0.975, 40) * line.stderr
    assert (got.estimate, got.low, got.high) == pytest.approx((line.slope, line.slope - half, line.slope + half))
    assert got.low < 0 < got.high


def test_perfect_agreement_and_rates_that_do_not_vary():
    got = bland_altman([60, 70, 80], [60, 70, 80])
    assert (got.bias.low, got.bias.high, got.lower.low, got.upper.high, got.slope.estimate) == (0, 0, 0, 0, 0)
    still = bland_altman([71, 69, 70], [69, 71, 70]).slope
    assert math.isnan(still.estimate)
    assert (still.low, still.high) == (-math.inf, math.inf)


def test_the_row_names_every_number(pair):
    got = bland_altman(*pair)
    row = got.row()
    assert (row["bias"], row["lower_low"], row["upper_high"], row["n"]) == (
        got.bias.estimate,
        got.lower.low,
        got.upper.high,
        42,
    )
    assert len(row) == 14


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        ([60, 70], [60, 70], "at least 3"),
        ([60, 70, 80], [60, 70, 80, 90], "expected pairs"),
        ([60, np.nan, 80], [60, 70, 80], "values of a are not finite"),
        ([60, 70, 80], [60, 70, np.inf], "values of b are not finite"),
        ([[60, 70, 80]], [[60, 70, 80]], "one dimension"),
    ],
)
def test_what_is_no_pair_of_measurements_is_refused(a, b, message):
    with pytest.raises(InputError, match=message):
        bland_altman(a, b)


def test_a_confidence_of_95_percent_is_not_95():
    with pytest.raises(InputError, match="confidence"):
        bland_altman([1, 2, 3], [1, 2, 4], 95)

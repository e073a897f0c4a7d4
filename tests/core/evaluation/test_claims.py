"""The rule that judges a claim."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from scipy import stats

from robustvision.core.errors import InputError
from robustvision.core.evaluation import Claim, judge

SEEDS = (0, 1, 2, 3, 4)
OLD = (0.70, 0.72, 0.69, 0.71, 0.73)


def results(**cells: tuple[float, ...]) -> dict[str, dict[int, dict[str, float]]]:
    return {
        cell: {seed: {"tar": value} for seed, value in zip(SEEDS, values, strict=True)}
        for cell, values in cells.items()
    }


def shifted(by: float, jitter: float = 0.004) -> tuple[float, ...]:
    return tuple(value + by + jitter * sign for value, sign in zip(OLD, (1, -1, 0, -1, 1), strict=True))


def claim(**changes) -> Claim:
    values = {
        "name": "new beats old",
        "metric": "tar",
        "better": "higher",
        "treatment": "new",
        "baselines": ("old",),
        "minimum_effect": 0.01,
        "seeds": SEEDS,
    }
    return Claim(**(values | changes))


@pytest.mark.parametrize(
    ("shift", "outcome"), [(0.03, "holds"), (0.0, "fails"), (-0.03, "fails"), (0.011, "undecided")]
)
def test_the_interval_decides(shift: float, outcome: str) -> None:
    verdict = judge(claim(), results(new=shifted(shift), old=OLD))
    assert verdict.outcome == outcome
    (comparison,) = verdict.comparisons
    assert comparison.differences == pytest.approx([shift + d for d in (0.004, -0.004, 0, -0.004, 0.004)])
    half = stats.t.ppf(0.975, 4) * 0.004 / math.sqrt(5)
    assert comparison.interval.estimate == pytest.approx(shift)
    assert comparison.interval.high - comparison.interval.low == pytest.approx(2 * half)
    assert comparison.smallest_detectable_difference == pytest.approx(0.01 + 3.76106 * 0.004 / math.sqrt(5), rel=1e-4)


def test_lower_is_better_turns_the_differences() -> None:
    worse_if_higher = judge(claim(better="lower"), results(new=shifted(0.03), old=OLD))
    better = judge(claim(better="lower"), results(new=shifted(-0.03), old=OLD))
    assert (worse_if_higher.outcome, better.outcome) == ("fails", "holds")
    assert better.comparisons[0].interval.estimate == pytest.approx(0.03)
    assert better.comparisons[0].sign_test.wins == 5


@pytest.mark.parametrize(
    ("second", "outcome"), [(shifted(-0.02), "holds"), (shifted(0.028, -0.004), "undecided"), (shifted(0.06), "fails")]
)
def test_a_claim_must_hold_against_every_baseline(second: tuple[float, ...], outcome: str) -> None:
    verdict = judge(
        claim(baselines=("old", "other"), minimum_effect=0.0), results(new=shifted(0.03), old=OLD, other=second)
    )
    assert verdict.outcome == outcome
    assert verdict.comparisons[0].outcome == "holds"
    assert [comparison.baseline for comparison in verdict.comparisons] == ["old", "other"]


def test_an_effect_of_exactly_the_minimum_is_undecided() -> None:
    new = tuple(value + 0.25 for value in (1.0, 2.0, 3.0, 4.0, 5.0))
    verdict = judge(claim(minimum_effect=0.25), results(new=new, old=(1.0, 2.0, 3.0, 4.0, 5.0)))
    assert verdict.outcome == "undecided"


def test_seeds_are_paired_not_pooled() -> None:
    # The seeds differ by far more than the methods: unpaired, nothing could be seen.
    old = (0.1, 0.3, 0.5, 0.7, 0.9)
    new = tuple(value + 0.02 + 0.001 * i for i, value in enumerate(old))
    assert judge(claim(), results(new=new, old=old)).outcome == "holds"
    backwards = {"new": dict(reversed(results(new=new)["new"].items())), "old": results(old=old)["old"]}
    assert judge(claim(), backwards).outcome == "holds"


def test_what_the_rule_needs_is_not_guessed() -> None:
    complete = results(new=shifted(0.03), old=OLD)
    without_seed = {**complete, "old": {seed: complete["old"][seed] for seed in (0, 1, 2, 4)}}
    with pytest.raises(InputError, match="'old' has no result for seed 3"):
        judge(claim(), without_seed)
    with pytest.raises(InputError, match="no results of 'new'"):
        judge(claim(), {"old": complete["old"]})
    with pytest.raises(InputError, match="recall of 'new', seed 0, is None"):
        judge(claim(metric="recall"), complete)
    with pytest.raises(InputError, match="finite"):
        judge(claim(), results(new=(0.7, 0.7, math.nan, 0.7, 0.7), old=OLD))
    assert judge(claim(), results(new=tuple(np.float32(v) for v in shifted(0.03)), old=OLD)).outcome == "holds"


@pytest.mark.parametrize(
    "changes",
    [
        {"seeds": (0, 1, 2, 3)},
        {"seeds": (0, 1, 2, 3, 3)},
        {"better": "bigger"},
        {"baselines": ()},
        {"baselines": ("new",)},
        {"baselines": ("old", "old")},
        {"confidence": 95},
    ],
)
def test_a_claim_that_cannot_be_judged_cannot_be_made(changes: dict) -> None:
    with pytest.raises(InputError):
        claim(**changes)


def test_a_verdict_speaks_and_goes_into_json() -> None:
    verdict = judge(claim(), results(new=shifted(0.03), old=OLD))
    assert "new beats old: holds" in str(verdict)
    assert "better with 5 of 5 seeds" in str(verdict)
    content = json.loads(json.dumps(verdict.to_dict(), allow_nan=False))
    assert content["outcome"] == "holds"
    assert content["claim"]["minimum_effect"] == 0.01
    assert content["comparisons"][0]["sign_test"] == {"wins": 5, "losses": 0, "ties": 0, "p_value": 0.0625}

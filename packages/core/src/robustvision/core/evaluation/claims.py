"""A claim that can fail, and the rule that judges it.

A claim is written down, with its seeds and its rule, before the first result. Everything that decides stands in it, so
that the judgement needs no choice afterwards.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from numbers import Real
from typing import Any, Literal

from robustvision.core.errors import InputError

from .intervals import Interval, check_confidence
from .paired import SignTest, sign_test
from .student import smallest_detectable_difference, t_interval

Outcome = Literal["holds", "fails", "undecided"]
Direction = Literal["higher", "lower"]

MINIMUM_SEEDS = 5
"""A claim with fewer paired seeds is not judged."""

RULE = (
    "For every baseline, the t interval of the paired differences over the seeds (positive where the treatment is "
    "better) is compared with the minimum effect. The claim holds if the whole interval lies above it for every "
    "baseline, fails if the whole interval lies below it for any baseline, and is undecided otherwise."
)
"""What :func:`judge` does, in words."""


@dataclass(frozen=True)
class Claim:
    """What is claimed, fixed before anything is measured.

    Since it must hold against every baseline at once, no correction for several baselines is needed
    (intersection-union).

    Attributes:
        name: A short name.
        metric: The metric that decides.
        better: Whether a ``higher`` or a ``lower`` value is better.
        treatment: Label of the cell that is claimed to be better.
        baselines: Labels of the cells that it is claimed to be better than.
        minimum_effect: By how much at least, in the metric's unit; 0 for "at all".
        seeds: All of them count; at least five.
        confidence: Coverage of the intervals.
        rule: The decision rule in words, for whoever reads the verdict.
    """

    name: str
    metric: str
    better: Direction
    treatment: str
    baselines: tuple[str, ...]
    minimum_effect: float
    seeds: tuple[int, ...]
    confidence: float = 0.95
    rule: str = RULE

    def __post_init__(self) -> None:
        check_direction(self.better)
        check_confidence(self.confidence)
        if not self.baselines or self.treatment in self.baselines or len(set(self.baselines)) < len(self.baselines):
            raise InputError(
                f"claim {self.name!r}: baselines are {self.baselines}: expected at least one, no one twice, and not "
                f"the treatment {self.treatment!r}"
            )
        if len(set(self.seeds)) < len(self.seeds) or len(self.seeds) < MINIMUM_SEEDS:
            raise InputError(
                f"claim {self.name!r}: seeds are {self.seeds}: expected at least {MINIMUM_SEEDS} different ones; with "
                "fewer, report a table without a verdict"
            )


@dataclass(frozen=True)
class Comparison:
    """One cell against another over common seeds; every difference is positive where the treatment is better.

    Attributes:
        treatment: Label of the cell that is judged.
        baseline: Label of the cell that it is compared with.
        metric: What is compared.
        seeds: The common seeds.
        differences: One a seed, in the order of ``seeds``.
        interval: Their mean with its t interval.
        sign_test: Exact sign test of the same pairs.
        smallest_detectable_difference: The true difference that this many seeds with this spread would have shown to
            exceed the minimum effect, with 80 % probability.
        outcome: The rule's answer for this baseline.
    """

    treatment: str
    baseline: str
    metric: str
    seeds: tuple[int, ...]
    differences: tuple[float, ...]
    interval: Interval
    sign_test: SignTest
    smallest_detectable_difference: float
    outcome: Outcome


@dataclass(frozen=True)
class Verdict:
    """A judged claim.

    Attributes:
        claim: What was claimed.
        outcome: ``holds``, ``fails`` or ``undecided``.
        comparisons: One a baseline, in the claim's order.
    """

    claim: Claim
    outcome: Outcome
    comparisons: tuple[Comparison, ...]

    def __str__(self) -> str:
        lines = [f"{self.claim.name}: {self.outcome}"]
        lines += [
            f"  against {one.baseline}: {one.outcome}, {self.claim.metric} better by {one.interval} "
            f"(minimum effect {self.claim.minimum_effect:g}; better with {one.sign_test.wins} of {len(one.seeds)} "
            f"seeds; smallest detectable difference {one.smallest_detectable_difference:.4g})"
            for one in self.comparisons
        ]
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """Everything, as plain values for JSON."""
        return asdict(self)


def judge(claim: Claim, results: Mapping[str, Mapping[int, Mapping[str, Any]]]) -> Verdict:
    """Judge a claim by its own rule.

    Args:
        claim: The claim.
        results: Cell label -> seed -> metric -> value, such as ``StudyResults.metrics``. Every seed of the claim must
            be there for every cell: a seed that crashed is measured again, never left out.

    Returns:
        The verdict, with all that it rests on.

    Raises:
        InputError: If a cell, a seed or the metric is missing, or a value is not a finite number.

    Example:
        >>> claim = Claim("new beats old", "accuracy", "higher", "new", ("old",), 0.0, (0, 1, 2, 3, 4))
        >>> new, old = (0.84, 0.86, 0.85, 0.87, 0.83), (0.80, 0.81, 0.82, 0.82, 0.80)
        >>> results = {"new": {s: {"accuracy": v} for s, v in enumerate(new)},
        ...            "old": {s: {"accuracy": v} for s, v in enumerate(old)}}
        >>> judge(claim, results).outcome
        'holds'
    """
    comparisons = tuple(
        compare(
            results,
            claim.treatment,
            baseline,
            claim.metric,
            seeds=claim.seeds,
            better=claim.better,
            minimum_effect=claim.minimum_effect,
            confidence=claim.confidence,
        )
        for baseline in claim.baselines
    )
    outcomes = {comparison.outcome for comparison in comparisons}
    outcome: Outcome = "fails" if "fails" in outcomes else "holds" if outcomes == {"holds"} else "undecided"
    return Verdict(claim, outcome, comparisons)


def compare(
    results: Mapping[str, Mapping[int, Mapping[str, Any]]],
    treatment: str,
    baseline: str,
    metric: str,
    *,
    seeds: tuple[int, ...],
    better: Direction = "higher",
    minimum_effect: float = 0.0,
    confidence: float = 0.95,
) -> Comparison:
    """Compare two cells over paired seeds.

    Args:
        results: Cell label -> seed -> metric -> value.
        treatment: Label of the cell that is judged.
        baseline: Label of the cell that it is compared with.
        metric: What is compared.
        seeds: At least two; both cells must have all of them.
        better: Whether a ``higher`` or a ``lower`` value is better.
        minimum_effect: What the interval is compared with, in the metric's unit.
        confidence: Coverage of the interval.

    Returns:
        The paired differences and what they say.

    Raises:
        InputError: If a cell, a seed or the metric is missing, or a value is not a finite number.
    """
    check_direction(better)
    a = [_value(results, treatment, seed, metric) for seed in seeds]
    b = [_value(results, baseline, seed, metric) for seed in seeds]
    if better == "lower":
        a, b = b, a
    differences = tuple(x - y for x, y in zip(a, b, strict=True))
    detectable = smallest_detectable_difference(differences, confidence=confidence, minimum_effect=minimum_effect)
    interval = t_interval(differences, confidence)
    outcome: Outcome = "undecided"
    if interval.low > minimum_effect:
        outcome = "holds"
    elif interval.high < minimum_effect:
        outcome = "fails"
    return Comparison(
        treatment, baseline, metric, tuple(seeds), differences, interval, sign_test(a, b), detectable, outcome
    )


def check_direction(better: str) -> None:
    """Refuse a direction that is neither ``higher`` nor ``lower``.

    Raises:
        InputError: If it is neither.
    """
    if better not in ("higher", "lower"):
        raise InputError(f"better is {better!r}: expected 'higher' or 'lower'")


def _value(results: Mapping[str, Mapping[int, Mapping[str, Any]]], cell: str, seed: int, metric: str) -> float:
    if cell not in results:
        raise InputError(f"no results of {cell!r}: there are {', '.join(map(repr, results)) or 'none'}")
    if seed not in results[cell]:
        raise InputError(f"{cell!r} has no result for seed {seed}: run the study again, it resumes where it stopped")
    value = results[cell][seed].get(metric)
    if isinstance(value, bool) or not isinstance(value, Real) or not math.isfinite(value):
        raise InputError(f"{metric} of {cell!r}, seed {seed}, is {value!r}: a comparison needs a finite number")
    return float(value)

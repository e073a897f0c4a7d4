"""Equal tuning: what is chosen, what is measured, what is refused."""

from __future__ import annotations

import json
import math
import time
from pathlib import Path

import pytest

from robustvision.core.errors import InputError
from robustvision.core.evaluation import tune_then_compare

GRIDS = {"old": [{"method": "old", "k": k} for k in (1, 2, 3)], "new": [{"method": "new", "k": k} for k in (1, 2, 3)]}
BEST = {"old": 3, "new": 2}


class Bench:
    """A run that remembers its calls; the validation score peaks at a k for each method."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, int, int]] = []

    def __call__(self, params: dict, seed: int) -> dict:
        self.calls.append((params["method"], params["k"], seed))
        value = 1 - 0.1 * abs(params["k"] - BEST[params["method"]]) + 0.001 * seed
        return {"validation": value, "loss": -value, "test": value + (0.05 if params["method"] == "new" else 0)}


def compare(run, out_dir: Path, **changes):
    options = {"metric": "validation", "tuning_seeds": [100, 101], "seeds": range(5), "out_dir": out_dir, "quiet": True}
    return tune_then_compare("c", run, changes.pop("methods", GRIDS), **(options | changes))


def test_the_best_point_of_each_method_is_measured_with_the_evaluation_seeds(tmp_path: Path) -> None:
    bench = Bench()
    comparison = compare(bench, tmp_path)
    assert comparison.complete
    assert comparison.chosen == {"old": 2, "new": 1}
    tuning, evaluation = bench.calls[:12], bench.calls[12:]
    assert sorted(tuning) == sorted((m, k, s) for m in BEST for k in (1, 2, 3) for s in (100, 101))
    assert sorted(evaluation) == sorted((m, BEST[m], s) for m in BEST for s in range(5))
    assert comparison.results is not None
    assert comparison.results.compare("new", "old", "test").interval.estimate == pytest.approx(0.05)
    rows = comparison.tuning_table()
    assert [(row["method"], row["chosen"]) for row in rows] == [
        ("old", False), ("old", False), ("old", True), ("new", False), ("new", True), ("new", False)
    ]  # fmt: skip
    assert rows[0]["validation"].estimate == pytest.approx(0.8 + 0.1005)
    assert rows[0]["params"] == "method=old, k=1"


def test_a_second_call_measures_nothing_and_chooses_the_same(tmp_path: Path) -> None:
    bench = Bench()
    first = compare(bench, tmp_path)
    count = len(bench.calls)
    assert compare(bench, tmp_path) == first
    assert len(bench.calls) == count


def test_lower_may_be_better(tmp_path: Path) -> None:
    assert compare(Bench(), tmp_path, metric="loss", better="lower").chosen == {"old": 2, "new": 1}


def test_equal_means_take_the_first_point(tmp_path: Path) -> None:
    assert compare(lambda params, seed: {"validation": 0.5}, tmp_path).chosen == {"old": 0, "new": 0}


@pytest.mark.parametrize("better", ["higher", "lower"])
def test_a_point_that_diverged_with_one_seed_comes_last(tmp_path: Path, better: str) -> None:
    def run(params: dict, seed: int) -> dict:
        return {"validation": math.nan if params["k"] != 2 and seed == 101 else params["k"]}

    assert compare(run, tmp_path, better=better).chosen == {"old": 1, "new": 1}


def test_the_record_holds_tuning_and_choice(tmp_path: Path) -> None:
    comparison = compare(Bench(), tmp_path)
    content = json.loads(comparison.to_json(tmp_path / "c.json").read_text(), parse_constant=pytest.fail)
    assert content["chosen"] == {"old": {"method": "old", "k": 3}, "new": {"method": "new", "k": 2}}
    assert len(content["tuning_table"]) == 6
    assert content["results"]["complete"] is True
    text = comparison.to_markdown()
    assert "| old | method=old, k=3 |" in text
    assert "| cell | seeds |" in text


def test_a_failed_tuning_run_stops_before_the_evaluation(tmp_path: Path) -> None:
    def run(params: dict, seed: int) -> dict:
        if params["k"] == 3 and seed == 101:
            raise RuntimeError("out of memory")
        return {"validation": 1.0}

    with pytest.raises(
        InputError, match=r"2 tuning runs failed, first 'old.2' with seed 101: RuntimeError: out of mem"
    ):
        compare(run, tmp_path)
    assert not (tmp_path / "evaluation").exists()


def test_a_budget_that_ends_in_the_tuning_chooses_nothing(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="12 of 12 runs were not started"):
        comparison = compare(Bench(), tmp_path, max_minutes=0)
    assert (comparison.chosen, comparison.results, comparison.complete) == ({}, None, False)
    assert comparison.tuning_table()[0]["validation"] is None
    assert "|" in comparison.to_markdown()
    assert compare(Bench(), tmp_path).complete


def test_both_parts_share_one_budget(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1e9
    monkeypatch.setattr(time, "time", lambda: now)
    monkeypatch.setattr(time, "monotonic", lambda: now)

    def run(params: dict, seed: int) -> dict:
        nonlocal now
        now += 60
        return {"validation": 1.0}

    with pytest.warns(UserWarning, match="7 of 10 runs were not started"):
        comparison = compare(run, tmp_path, max_minutes=15)  # 12 of them for the tuning
    assert comparison.chosen == {"old": 0, "new": 0}
    assert comparison.results is not None
    assert not comparison.complete


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"methods": {**GRIDS, "new": GRIDS["new"][:2]}}, "different sizes"),
        ({"tuning_seeds": [4, 5]}, r"seeds \[4\] serve"),
        ({"metric": "recall"}, "no metric"),
        ({"better": "best"}, "'higher' or 'lower'"),
        ({"methods": {}}, "0 cells"),
    ],
)
def test_comparisons_that_are_not_fair_are_refused(changes: dict, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        compare(Bench(), tmp_path, **changes)


def test_a_method_without_any_finite_point_is_refused(tmp_path: Path) -> None:
    def run(params: dict, seed: int) -> dict:
        return {"validation": math.nan if params["method"] == "new" else 1.0}

    with pytest.raises(InputError, match="no point of 'new'"):
        compare(run, tmp_path)

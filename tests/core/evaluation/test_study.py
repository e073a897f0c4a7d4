"""Studies: resuming, failing, dying, running out of time, in one process and in several."""

from __future__ import annotations

import json
import math
import os
import random
import statistics
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from scipy import stats

from robustvision.core.errors import InputError
from robustvision.core.evaluation import Claim, Study
from robustvision.core.evaluation import study as study_module


@pytest.fixture
def cells(calls: Path) -> dict[str, dict]:
    return {f"level {level}": {"level": level, "calls": str(calls)} for level in (0, 1)}


def called(calls: Path) -> list[str]:
    return calls.read_text().splitlines()


def test_every_cell_is_measured_with_every_seed(runs: ModuleType, cells: dict, calls: Path, tmp_path: Path) -> None:
    results = Study("s", runs.measure, cells, [3, 1, 2], tmp_path / "out").execute(quiet=True)
    assert results.complete
    # Seeds in the outer loop: what an interruption leaves is paired.
    assert called(calls) == ["0 3", "1 3", "0 1", "1 1", "0 2", "1 2"]
    for level in (0, 1):
        values = [level + 0.01 * random.Random(seed).gauss(0, 1) for seed in (3, 1, 2)]
        (row,) = (row for row in results.table() if row["cell"] == f"level {level}")
        low, high = stats.t.interval(0.95, 2, np.mean(values), stats.sem(values))
        assert row["seeds"] == 3
        assert (row["score"].low, row["score"].estimate, row["score"].high) == pytest.approx(
            (low, np.mean(values), high)
        )
        assert "curve" not in row  # a list is kept, but has no mean
    assert len(results.metrics["level 0"][3]["curve"]) == 3


def test_a_second_execution_measures_nothing(runs: ModuleType, cells: dict, calls: Path, tmp_path: Path) -> None:
    study = Study("s", runs.measure, cells, [0, 1], tmp_path / "out")
    first = study.execute(quiet=True)
    assert study.execute(quiet=True) == first
    assert len(called(calls)) == 4
    more = Study("s", runs.measure, cells, [0, 1, 2], tmp_path / "out").execute(quiet=True)
    assert called(calls)[4:] == ["0 2", "1 2"]
    assert more.metrics["level 0"][1] == first.metrics["level 0"][1]


def test_an_interrupted_study_goes_on_where_it_stopped(cells: dict, tmp_path: Path) -> None:
    done: list[tuple[int, int]] = []

    def run(params: dict, seed: int) -> dict:
        if len(done) == 3 and not resumed:
            raise KeyboardInterrupt
        done.append((params["level"], seed))
        return {"score": params["level"] + seed}

    resumed = False
    study = Study("s", run, cells, [0, 1], tmp_path / "out")
    with pytest.raises(KeyboardInterrupt):
        study.execute(quiet=True)
    assert study.results().missing == (("level 1", 1),)
    resumed = True
    assert study.execute(quiet=True).complete
    assert done == [(0, 0), (1, 0), (0, 1), (1, 1)]


def test_other_parameters_are_measured_anew_and_nothing_is_lost(
    runs: ModuleType, cells: dict, calls: Path, tmp_path: Path
) -> None:
    before = Study("s", runs.measure, cells, [0], tmp_path / "out").execute(quiet=True)
    changed = {**cells, "level 1": {**cells["level 1"], "level": 7}}
    after = Study("s", runs.measure, changed, [0], tmp_path / "out").execute(quiet=True)
    assert called(calls) == ["0 0", "1 0", "7 0"]
    assert after.metrics["level 1"][0]["score"] == pytest.approx(before.metrics["level 1"][0]["score"] + 6)
    assert Study("s", runs.measure, cells, [0], tmp_path / "out").execute(quiet=True) == before
    assert len(called(calls)) == 3


def test_parameters_are_the_same_in_any_order_and_as_tuple_or_list(tmp_path: Path) -> None:
    count = []

    def run(params: dict, seed: int) -> dict:
        count.append(params)
        return {"score": 1}

    Study("s", run, {"a": {"x": (1, 2), "y": 1}}, [0], tmp_path).execute(quiet=True)
    Study("s", run, {"a": {"y": 1, "x": [1, 2]}}, [0], tmp_path).execute(quiet=True)
    assert count == [{"x": [1, 2], "y": 1}]


def test_a_failing_run_is_recorded_and_tried_again(runs: ModuleType, cells: dict, calls: Path, tmp_path: Path) -> None:
    trouble = tmp_path / "trouble"
    trouble.touch()
    study = Study("s", runs.fail_while_told, cells, [0, 1, 2], tmp_path / "out")
    results = study.execute(quiet=True)
    assert not results.complete
    (failure,) = results.failures
    assert (failure.cell, failure.seed) == ("level 1", 1)
    assert "RuntimeError: no luck today" in failure.error
    assert "fail_while_told" in failure.error
    assert [row["seeds"] for row in results.table()] == [3, 2]
    assert "1 runs failed" in results.to_markdown()
    with pytest.raises(InputError, match="'level 1' has no result for seed 1"):
        results.judge(Claim("c", "score", "higher", "level 1", ("level 0",), 0.0, (0, 1, 2, 3, 4)))
    trouble.unlink()
    assert study.execute(quiet=True).complete
    assert called(calls)[5:] == ["1 1"]


def test_two_processes_find_what_one_finds(runs: ModuleType, cells: dict, tmp_path: Path) -> None:
    one = Study("s", runs.measure, cells, [0, 1, 2], tmp_path / "one").execute(quiet=True)
    two = Study("s", runs.measure, cells, [0, 1, 2], tmp_path / "two").execute(workers=2, quiet=True)
    assert two.complete
    assert two.metrics == one.metrics
    assert two.table() == one.table()
    assert [(r.cell, r.seed) for r in two.records] == [(r.cell, r.seed) for r in one.records]


def test_a_run_that_kills_its_process_does_not_stop_the_others(
    runs: ModuleType, cells: dict, calls: Path, tmp_path: Path
) -> None:
    results = Study("s", runs.die, cells, [0, 1, 2], tmp_path / "out").execute(workers=2, quiet=True)
    assert [(failure.cell, failure.seed) for failure in results.failures] == [("level 1", 1)]
    assert "exit code 9" in results.failures[0].error
    assert results.missing == ()
    assert results.metrics["level 0"] == {seed: {"score": float(seed)} for seed in (0, 1, 2)}
    assert called(calls).count("1 1") == 2  # tried once more, and then left


def test_a_used_up_budget_starts_nothing_new(cells: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1e9
    monkeypatch.setattr(study_module.time, "time", lambda: now)

    def run(params: dict, seed: int) -> dict:
        nonlocal now
        now += 60
        return {"score": 0.0}

    study = Study("s", run, cells, range(3), tmp_path / "out")
    with pytest.warns(UserWarning, match="the time is used up; 3 of 6 runs were not started"):
        results = study.execute(max_minutes=2.5, quiet=True)
    assert results.missing == (("level 1", 1), ("level 0", 2), ("level 1", 2))
    assert "3 were not started" in results.to_markdown()
    assert study.execute(max_minutes=5, quiet=True).complete


def test_a_file_that_is_no_record_is_measured_anew(runs: ModuleType, cells: dict, calls: Path, tmp_path: Path) -> None:
    study = Study("s", runs.measure, cells, [0, 1], tmp_path / "out")
    first = study.execute(quiet=True)
    files = sorted((tmp_path / "out").rglob("*"))
    records = [file for file in files if file.is_file()]
    assert len(records) == 4
    assert not [file for file in records if file.suffix != ".json" or file.name.startswith(".")]
    records[0].write_text(records[0].read_text()[:100])
    records[1].write_text("[]")
    assert study.execute(quiet=True).metrics == first.metrics
    assert len(called(calls)) == 6


def test_threads_are_shared_out_and_given_back(
    runs: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    monkeypatch.setattr(study_module, "available_cores", lambda: 6)
    alone = Study("s", runs.threads, {"a": {}}, [0], tmp_path / "1").execute(quiet=True)
    fixed = Study("s", runs.threads, {"a": {}}, [0], tmp_path / "2").execute(threads=3, quiet=True)
    shared = Study("s", runs.threads, {"a": {}}, [0, 1], tmp_path / "3").execute(workers=2, quiet=True)
    assert [results.metrics["a"][0]["threads"] for results in (alone, fixed, shared)] == [6, 3, 3]
    assert shared.records[0].threads == 3
    assert os.environ["OMP_NUM_THREADS"] == "5"


def test_what_is_not_finite_stays_visible(tmp_path: Path) -> None:
    def run(params: dict, seed: int) -> dict:
        broken = params["broken"] and seed == 1
        return {
            "loss": np.float32("nan") if broken else np.float32(0.5),
            "curve": np.array([1.0, np.inf]),
            "n": np.int64(3),
        }

    cells = {"good": {"broken": False}, "bad": {"broken": True}}
    results = Study("s", run, cells, [0, 1], tmp_path / "out").execute(quiet=True)
    assert math.isnan(results.metrics["bad"][1]["loss"])
    assert math.isnan(results.metrics["bad"][0]["curve"][1])
    good, bad = results.table()
    assert (good["loss"].estimate, good["n"].estimate) == (0.5, 3.0)
    assert math.isnan(bad["loss"].estimate)  # not the mean of what is left
    with pytest.raises(InputError, match="finite"):
        results.compare("bad", "good", "loss")
    content = results.to_json(tmp_path / "study.json").read_text()
    parsed = json.loads(content, parse_constant=pytest.fail)  # no NaN, no Infinity: strict JSON
    assert parsed["complete"] is True
    assert [run["metrics"]["loss"] for run in parsed["runs"]] == [0.5, 0.5, 0.5, None]
    assert parsed["runs"][0]["versions"]["numpy"] == np.__version__
    assert parsed["table"][0]["loss"]["estimate"] == 0.5


@pytest.mark.parametrize("returned", [None, {}, 0.5, {"loss": "low"}, {"loss": {"a": 1}}])
def test_a_run_that_returns_no_metrics_has_failed(returned: object, tmp_path: Path) -> None:
    results = Study("s", lambda params, seed: returned, {"a": {}}, [0], tmp_path).execute(quiet=True)
    assert "InputError" in results.failures[0].error


def test_cells_are_compared_over_their_common_seeds(tmp_path: Path) -> None:
    def run(params: dict, seed: int) -> dict:
        if params["gain"] and seed == 2:
            raise RuntimeError
        return {"error": seed - params["gain"] * (1 + seed / 10)}

    results = Study("s", run, {"old": {"gain": 0}, "new": {"gain": 1}}, range(6), tmp_path).execute(quiet=True)
    comparison = results.compare("new", "old", "error", better="lower")
    assert comparison.seeds == (0, 1, 3, 4, 5)
    assert comparison.differences == pytest.approx((1.0, 1.1, 1.3, 1.4, 1.5))
    assert comparison.interval.estimate == pytest.approx(statistics.mean([1.0, 1.1, 1.3, 1.4, 1.5]))
    assert comparison.outcome == "holds"
    claim = Claim("c", "error", "lower", "new", ("old",), 0.5, (0, 1, 3, 4, 5))
    assert results.judge(claim).outcome == "holds"


def test_the_table_as_markdown(tmp_path: Path) -> None:
    results = Study("s", lambda p, s: {"a|b": 0.5 + s / 4, "n": s}, {"x": {}}, [0], tmp_path).execute(quiet=True)
    assert results.to_markdown() == "| cell | seeds | a\\|b | n |\n|---|---|---|---|\n| x | 1 | 0.5 | 0 |"
    assert results.to_markdown(["n"]).splitlines()[0] == "| cell | seeds | n |"
    with pytest.raises(InputError, match="no metric"):
        results.table(["recall"])


def test_an_empty_study_folder_has_a_table_too(tmp_path: Path) -> None:
    results = Study("s", lambda p, s: {}, {"x": {}}, [0, 1], tmp_path / "never").results()
    assert results.table() == [{"cell": "x", "seeds": 0}]
    assert results.missing == (("x", 0), ("x", 1))
    assert not (tmp_path / "never").exists()


@pytest.mark.parametrize(
    ("cells", "seeds", "message"),
    [
        ({}, [0], "0 cells"),
        ({"a": {}}, [], "0 seeds"),
        ({"a": {}}, [1, 1], "twice"),
        ({"../a": {}}, [0], "cannot name a folder"),
        ({"a/b": {}}, [0], "cannot name a folder"),
        ({"": {}}, [0], "cannot name a folder"),
        ({"a.": {}}, [0], "cannot name a folder"),
        ({"a": {}, "A": {}}, [0], "case"),
        ({"a": {"x": object()}}, [0], "JSON"),
        ({"a": {"x": math.nan}}, [0], "JSON"),
    ],
)
def test_studies_that_cannot_be_kept_are_refused(cells: dict, seeds: list[int], message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        Study("s", lambda params, seed: {"x": 1}, cells, seeds, tmp_path)


def test_executions_that_cannot_work_are_refused(tmp_path: Path) -> None:
    study = Study("s", lambda params, seed: {"x": 1}, {"a": {}}, [0], tmp_path)
    with pytest.raises(InputError, match="top level"):
        study.execute(workers=2)
    with pytest.raises(InputError, match="at least 1"):
        study.execute(workers=0)
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot make the folder"):
        Study("s", lambda params, seed: {"x": 1}, {"a": {}}, [0], tmp_path / "file" / "out").execute()

import numpy as np
import pytest

from robustvision.core.errors import InputError
from robustvision.rppg.calibration import calibrate_confidence, judge_clips
from robustvision.rppg.confidence import SIGNALS
from robustvision.rppg.data import Clip
from robustvision.rppg.evaluation import classical_predictor, evaluate_clips
from robustvision.rppg.protocol import PAPER2023, Protocol

FS = 30.0


def clip(name, bpm, *, scenario="still", seconds=20.0, lost=(), noise=0.0):
    """Flat skin-coloured crops whose trace pulses."""
    rng = np.random.default_rng(len(name))
    time_s = np.arange(round(seconds * FS)) / FS
    bvp = np.sin(2 * np.pi * bpm / 60 * time_s)
    traces = np.array([200.0, 150.0, 120.0]) * (1 - 0.005 * bvp[:, None] * np.array([0.33, 0.77, 0.53]))
    traces += noise * rng.normal(size=traces.shape)
    has_face = np.ones(len(time_s), bool)
    has_face[slice(*lost) if lost else slice(0, 0)] = False
    traces[~has_face] = np.nan
    frames = np.broadcast_to(np.nan_to_num(traces)[:, None, None, :], (len(time_s), 4, 4, 3)).astype(np.uint8)
    conditions = {"scenario": scenario, "skin_type": 2}
    return Clip(name, name, conditions, FS, frames, traces, has_face, bvp.astype(np.float32))


def test_a_perfect_and_a_wrong_wave_are_told_apart():
    clips = [clip("a", 60.0), clip("b", 90.0)]
    wrong = np.sin(2 * np.pi * 2.0 * np.arange(600) / FS)
    found = evaluate_clips(
        {"perfect": lambda one: one.bvp.astype(float), "wrong": lambda one: wrong}, clips, quiet=True
    )
    rows = {row["predictor"]: row for row in found.rows()}
    assert rows["perfect"]["mae"] == 0
    assert rows["perfect"]["n"] == 2
    assert rows["wrong"]["mae"] == pytest.approx((120 - 60 + 120 - 90) / 2, abs=2 * 60 * FS / 1024)


def test_every_row_carries_protocol_version_and_hash():
    found = evaluate_clips({"m": lambda one: one.bvp.astype(float)}, [clip("a", 70.0)], hashes={"m": "abc"}, quiet=True)
    for rows in (found.rows(), found.rows("scenario"), found.sensitivity("m", [PAPER2023])):
        assert {"sha256": "abc", "protocol": "paper2023", "method": "fft"}.items() <= rows[0].items()
        assert rows[0]["version"]
        assert rows[0]["detrend_lambda"] == 100


def test_groups_are_those_of_the_clips():
    clips = [clip("a", 60.0), clip("b", 66.0, scenario="walk"), clip("c", 72.0, scenario="walk")]
    found = evaluate_clips({"m": lambda one: one.bvp.astype(float)}, clips, quiet=True)
    assert [(row["scenario"], row["n"]) for row in found.rows("scenario")] == [("still", 1), ("walk", 2)]
    with pytest.raises(InputError, match="does not say its weather; it says scenario, skin_type"):
        found.rows("weather")


def test_a_face_that_is_lost_for_long_lowers_the_coverage_and_is_no_zero():
    clips = [clip("a", 60.0), clip("b", 60.0, lost=(100, 400)), clip("c", 60.0, lost=(100, 110))]
    row = evaluate_clips({"pos": classical_predictor("pos")}, clips, Protocol("p", refine=True), quiet=True).rows()[0]
    assert row["coverage"] == pytest.approx(2 / 3)
    assert row["mae"] < 1


def test_refusals():
    with pytest.raises(InputError, match=r"no method 'magic': choose from green"):
        classical_predictor("magic")
    with pytest.raises(InputError, match="0 clips"):
        evaluate_clips({}, [], quiet=True)


def test_the_calibrated_confidence_ranks_right_readings_before_wrong_ones():
    rng = np.random.default_rng(1)
    clips = [clip(f"{k}", rng.uniform(55, 110), noise=noise, seconds=10) for noise in (0.05, 4.0) for k in range(12)]
    predict = classical_predictor("green")
    signals, errors = judge_clips(predict, clips, quiet=True)
    assert signals.shape == (24, len(SIGNALS))
    confidence = calibrate_confidence(predict, clips, "test clips", quiet=True)
    sure = confidence(signals)
    right = errors < 5
    assert 6 < right.sum() < 24
    assert sure[right].mean() > sure[~right].mean() + 0.3
    assert confidence.calibrated_on.startswith("test clips: 24 readings")


def test_windows_without_a_face_are_not_judged():
    with pytest.raises(InputError, match="none of 1 clips has a window of 10 s"):
        judge_clips(classical_predictor("pos"), [clip("a", 60.0, seconds=10, lost=(0, 5))], quiet=True)

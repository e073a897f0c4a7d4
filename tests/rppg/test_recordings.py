import json
import math

import cv2
import numpy as np
import pytest

from robustvision.core.errors import InputError
from robustvision.core.runtime import write_json
from robustvision.rppg.heart_rate_track import HeartRateTrack, Lag, align_lag, compare_series
from robustvision.rppg.pipeline import PulseEstimator
from robustvision.rppg.recordings import estimate_track, evaluate_recordings, reference_track
from robustvision.rppg.reference_csv import Reference, read_reference


def rates(times_s):
    """Heart rate after some exercise: it falls, and breathes."""
    return 70 + 25 * np.exp(-np.asarray(times_s) / 40) + 4 * np.sin(np.asarray(times_s) / 5)


def track(times_s, bpm):
    times_s = np.asarray(times_s, float)
    return HeartRateTrack(times_s, np.broadcast_to(np.asarray(bpm, float), times_s.shape), np.ones(len(times_s)))


def film(path, fps=30, seconds=20, hz=1.25, seed=0):
    """A skin-coloured film with a pulse; a face only for a detector that is told so."""
    rng = np.random.default_rng(seed)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), fps, (64, 64))
    writer.set(cv2.VIDEOWRITER_PROP_QUALITY, 100)
    for index in range(fps * seconds):
        beat = 1 - 0.02 * np.cos(2 * np.pi * hz * index / fps) * np.array([0.33, 0.77, 0.53])
        image = np.array([190, 140, 115]) * beat + rng.normal(0, 2, (64, 64, 3))
        writer.write(np.clip(np.rint(image), 0, 255).astype(np.uint8)[..., ::-1])
    writer.release()
    return path


@pytest.fixture
def write(tmp_path):
    def make(text, name="ref.csv"):
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return path

    return make


# ---------------------------------------------------------------------------------------------------------- comparing


@pytest.mark.parametrize("lag_s", [-5.0, -1.25, 0.0, 2.5, 5.0])
def test_the_lag_is_found_and_taken_out(lag_s):
    times = np.arange(90.0)
    estimated = track(times, rates(times) + 1.5)
    reference = track(np.arange(-20, 120, 0.5) + lag_s, rates(np.arange(-20, 120, 0.5)))
    found = align_lag(estimated, reference)
    assert (found.seconds, found.is_found) == (lag_s, True)
    assert found.rho == pytest.approx(1, abs=1e-3)
    agreement = compare_series(estimated, reference)
    assert agreement.mae == pytest.approx(1.5, abs=0.02)
    assert agreement.bias == pytest.approx(1.5, abs=0.02)
    assert agreement.lag_s == lag_s
    expected = np.abs(rates(times) + 1.5 - rates(times - lag_s)).mean()
    assert agreement.mae_without_lag == pytest.approx(expected, abs=0.02)


def test_the_lag_is_that_of_a_search_by_hand():
    rng = np.random.default_rng(0)
    times = np.arange(60.0)
    estimated = track(times, rates(times) + rng.normal(0, 3, 60))
    reference = track(np.arange(-10, 80.0), rates(np.arange(-10, 80.0) - 1.6))
    best = max(
        (np.corrcoef(estimated.bpm, np.interp(times + lag, reference.times_s, reference.bpm))[0, 1], -abs(lag), lag)
        for lag in np.arange(-5, 5.25, 0.25)
    )
    found = align_lag(estimated, reference)
    assert found.seconds == best[2]
    assert found.rho == pytest.approx(best[0], abs=1e-9)


def test_steady_or_short_tracks_show_no_lag():
    times = np.arange(60.0)
    steady = align_lag(track(times, 72.0), track(times, rates(times)))
    assert (steady.seconds, steady.is_found) == (0.0, False)
    assert math.isnan(steady.rho)
    short = align_lag(track(times[:15], rates(times[:15])), track(times[:15], rates(times[:15])))
    assert not short.is_found  # 5 s at either end are needed for the search
    rng = np.random.default_rng(0)
    noise = align_lag(track(times, rng.normal(70, 5, 60)), track(np.arange(-9, 70.0), rng.normal(70, 5, 79)))
    assert not noise.is_found
    assert noise.seconds == 0
    assert noise.rho < 0.5


def test_a_lag_cannot_win_by_leaving_moments_out():
    times = np.arange(40.0)
    found = align_lag(track(times, rates(times)), track(times, rates(times)))  # no reference beyond the film
    assert (found.seconds, found.is_found) == (0.0, True)


def test_metrics_are_their_definitions():
    times = np.arange(50.0)
    rng = np.random.default_rng(1)
    estimated = rates(times) + rng.normal(0, 4, 50)
    estimated[[3, 4, 30]] = np.nan
    agreement = compare_series(track(times, estimated), track(times, rates(times)), Lag(0.0, 1.0, True))
    known = np.isfinite(estimated)
    error = (estimated - rates(times))[known]
    assert agreement.is_lag_found
    assert agreement.lag_s == 0
    assert (agreement.n, agreement.moments) == (47, 50)
    assert agreement.coverage == pytest.approx(47 / 50)
    assert agreement.mae == pytest.approx(np.abs(error).mean())
    assert agreement.rmse == pytest.approx(np.sqrt((error**2).mean()))
    assert agreement.mape == pytest.approx(100 * (np.abs(error) / rates(times)[known]).mean())
    assert agreement.bias == pytest.approx(error.mean())
    assert agreement.within_5_bpm == pytest.approx((np.abs(error) <= 5).mean())
    assert agreement.rho == pytest.approx(np.corrcoef(estimated[known], rates(times)[known])[0, 1])


def test_gaps_of_the_reference_are_not_bridged_and_nothing_is_extrapolated():
    times = np.arange(30.0)
    kept = np.array([0.0, 1, 2, 3, 9, 10, 11, 12, 15, 16])  # gaps of 6 s and, allowed, 3 s
    agreement = compare_series(track(times, 80.0), track(kept, 80.0))
    assert agreement.moments == 4 + 8
    holed = track(kept, np.where(kept == 1, np.nan, 80.0))
    assert compare_series(track(times, 80.0), holed).moments == 12  # 2 s: bridged
    nothing = compare_series(track(times, 80.0), track(times + 100, 80.0))
    assert (nothing.n, nothing.moments) == (0, 0)
    assert math.isnan(nothing.mae)
    assert math.isnan(nothing.coverage)


def test_an_estimator_that_always_refuses_has_coverage_0():
    times = np.arange(30.0)
    agreement = compare_series(track(times, np.nan), track(times, rates(times)))
    assert (agreement.n, agreement.coverage) == (0, 0.0)
    assert math.isnan(agreement.within_5_bpm)


# --------------------------------------------------------------------------------------------------------------- waves


def wave(times_s, bpm):
    phase = 2 * np.pi * np.cumsum(bpm / 60 * np.diff(times_s, prepend=times_s[0]))
    return 512 + 100 * np.cos(phase) + 40 * np.cos(2 * phase - 1) + 30 * np.sin(0.6 * times_s)


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("fs", [20.0, 60.0, 256.0])
def test_a_pulse_wave_is_read_in_windows_that_end_now(fs, sign):
    times = np.arange(0, 40, 1 / fs)
    bpm = np.full(len(times), 66.0)
    found = reference_track(Reference("a", 2, times, sign * wave(times, bpm), "ppg"))
    np.testing.assert_allclose(found.bpm, 66, atol=0.5)
    np.testing.assert_allclose(found.times_s, np.arange(10, 10 + len(found.bpm)), atol=1.5 / min(fs, 100))
    assert len(found.bpm) == 31 - (1 if found.times_s[-1] < 39 else 0)
    faster = np.where(times < 20, 60.0, 90.0)
    found = reference_track(Reference("a", 2, times, wave(times, faster), "ppg"))
    np.testing.assert_allclose(found.bpm[found.times_s < 20.1], 60, atol=1)
    np.testing.assert_allclose(found.bpm[found.times_s > 29.9], 90, atol=1)


def test_gaps_and_flat_parts_of_a_wave_have_no_rate():
    times = np.arange(0, 60, 1 / 50)
    values = wave(times, np.full(len(times), 75.0))
    values[1000:1600] = 300.0  # 20 to 32 s: off the finger
    kept = (times < 45) | (times > 46)
    found = reference_track(Reference("a", 2, times[kept], values[kept], "ppg"))
    at = {round(time_s): rate for time_s, rate in zip(found.times_s, found.bpm, strict=True)}
    assert math.isnan(at[31])  # 21 to 31 s: nothing but a constant
    assert at[44] == pytest.approx(75, abs=0.5)
    assert all(math.isnan(at[second]) for second in range(46, 56))
    assert at[58] == pytest.approx(75, abs=0.5)
    assert found.confidence[np.isnan(found.bpm)].max() == 0


def test_a_wave_that_cannot_be_read_is_refused():
    times = np.arange(0, 8, 1 / 50)
    with pytest.raises(InputError, match=r"pulse wave of a is 8\.0 s long: it needs 10 s"):
        reference_track(Reference("a", 2, times, np.sin(times), "ppg"))
    slow = np.arange(0, 60, 0.2)
    with pytest.raises(InputError, match=r"has 5\.0 samples a second: it needs more than 6\.6"):
        reference_track(Reference("a", 2, slow, np.sin(slow), "ppg"))


# ----------------------------------------------------------------------------------------------------------- CSV files


@pytest.mark.parametrize(
    "text",
    [
        "video,timestamp_s,bpm\na.mp4,0,71.5\na.mp4,1.5,72\n",
        "\ufeffBPM, Time ,Film,remark\n71.5,0,a.mp4,x\n72,1.5,a.mp4,\n\n",
        "file;t;hr\na.mp4;0;71,5\na.mp4;1,5;72\n",
        "filename\ttime_ms\theart_rate\r\na.mp4\t0\t71.5\r\na.mp4\t1500\t72\r\n",
        'video,seconds,ppg,hr_bpm\n"a.mp4",0,400,71.5\n"a.mp4",1.5,500,72\n',
    ],
)
def test_names_separators_and_units(write, text):
    (found,) = read_reference(write(text))
    assert (found.video, found.kind) == ("a.mp4", "bpm")
    np.testing.assert_allclose(found.times_s, [0, 1.5])
    np.testing.assert_allclose(found.values, [71.5, 72])


def test_videos_may_alternate_and_gaps_stay_gaps(write):
    text = "video,timestamp_s,bpm\na,0,70\nb,0,80\na,1,\nb,1,0\na,2,nan\nb,2,82\n"
    first, second = read_reference(write(text))
    assert (first.video, first.line, second.video, second.line) == ("a", 2, "b", 3)
    np.testing.assert_array_equal(first.values, [70, np.nan, np.nan])
    np.testing.assert_array_equal(second.values, [80, np.nan, 82])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"ref\.csv:1 names the columns \(none\), but none for a time"),
        ("video,bpm\na,70\n", r"ref\.csv:1 names the columns video, bpm, but none for a time \(timestamp_s\)"),
        ("video,time,spo2\na,0,98\n", r":1 names .* but none for a heart rate \(bpm\) or a pulse wave"),
        ("video,time,bpm\n", "has no row below its header"),
        ("time,bpm\n0,70\n1,fast\n", r"ref\.csv:3 has the bpm 'fast': expected a number"),
        ("time,bpm\n0,70\n\n1s,70\n", r"ref\.csv:4 has the time '1s': expected a number"),
        ("time,bpm\n0,70\ninf,71\n", r"ref\.csv:3 has the time inf: expected seconds"),
        ("time,bpm\n0,1.2\n", r"ref\.csv:2 has a heart rate of 1\.2: expected 20 to 300"),
        ("time,bpm\n0,70\n1\n", r"ref\.csv:3 has 1 columns, fewer"),
        ("time,bpm\n0,70\n2,71\n1,72\n", r"ref\.csv:4 has the time 1 s after 2 s in line 3"),
        ("video,time,ppg\na,0,7\na,1,inf\n", r"ref\.csv:3 has an infinite ppg"),
    ],
)
def test_a_wrong_file_is_told_by_line(write, text, message):
    with pytest.raises(InputError, match=message):
        read_reference(write(text))


def test_no_text(tmp_path):
    (tmp_path / "ref.csv").write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(InputError, match="as UTF-8 text"):
        read_reference(tmp_path / "ref.csv")
    with pytest.raises(InputError, match="cannot read"):
        read_reference(tmp_path / "none.csv")


# --------------------------------------------------------------------------------------------------------------- films


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "films"
    (folder / "more").mkdir(parents=True)
    for name in ("a.avi", "b.mp4", "more/c.mov", "spare.mkv"):
        (folder / name).write_bytes(b"film")
    (folder / "notes.txt").write_text("no film")
    return folder


def csv_of(names, bpm=rates, seconds=60):
    rows = [f"{name},{second},{bpm(second):.4f}" for name in names for second in range(-6, seconds + 6)]
    return "video,timestamp_s,bpm\n" + "\n".join(rows) + "\n"


def test_films_are_matched_estimated_and_summed_up(folder, write):
    offsets = {"a.avi": 1.0, "b.mp4": -3.0, "c.mov": 7.0}

    def estimate(path):
        times = np.arange(60.0)
        bpm = rates(times) + offsets[path.name]
        bpm[: {"a.avi": 30, "b.mp4": 0, "c.mov": 6}[path.name]] = np.nan
        return track(times, bpm)

    result = evaluate_recordings(folder, write(csv_of(["a", "b.mp4", "more/c"])), estimate, quiet=True)
    assert [row["video"] for row in result["recordings"]] == ["a.avi", "b.mp4", "c.mov"]
    assert [row["mae"] for row in result["recordings"]] == pytest.approx([1, 3, 7], abs=0.02)
    assert [row["within_5_bpm"] for row in result["recordings"]] == [1, 1, 0]
    overall = result["overall"]
    assert (overall["films"], overall["n"], overall["moments"]) == (3, 30 + 60 + 54, 180)
    assert overall["coverage"] == pytest.approx(144 / 180)
    assert overall["mae"] == pytest.approx((30 * 1 + 60 * 3 + 54 * 7) / 144, abs=0.02)
    assert overall["within_5_bpm"] == pytest.approx(90 / 144)
    assert overall["mae_low"] < overall["mae"] < overall["mae_high"]
    assert overall["mae_high"] == pytest.approx(7, abs=0.1)  # whole films are drawn: all three may be the worst
    assert result["without_reference"] == ["spare.mkv"]
    assert result["failed"] == {}
    write_json(folder / "metrics.json", result)
    assert json.loads((folder / "metrics.json").read_text())["overall"]["films"] == 3


def test_a_film_that_fails_is_named_and_the_others_count(folder, write):
    def estimate(path):
        if path.name == "a.avi":
            raise InputError("a.avi is damaged")
        return track(np.arange(60.0), rates(np.arange(60.0)))

    result = evaluate_recordings(folder, write(csv_of(["a", "b"])), estimate, quiet=True)
    assert result["failed"] == {"a.avi": "a.avi is damaged"}
    assert [row["video"] for row in result["recordings"]] == ["b.mp4"]
    assert "mae_low" not in result["overall"]  # one film has no interval
    with pytest.raises(InputError, match=r"not one of 1 films could be estimated: a\.avi is damaged"):
        evaluate_recordings(folder, write(csv_of(["a"])), estimate, quiet=True)


def test_refusals_everywhere_count_against_the_coverage_of_all(folder, write):
    def estimate(path):
        bpm = rates(np.arange(60.0)) if path.name == "b.mp4" else np.full(60, np.nan)
        return track(np.arange(60.0), bpm)

    overall = evaluate_recordings(folder, write(csv_of(["a", "b"])), estimate, quiet=True)["overall"]
    assert overall["coverage"] == 0.5
    nothing = evaluate_recordings(folder, write(csv_of(["a"])), estimate, quiet=True)
    assert nothing["overall"]["coverage"] == 0
    assert "mae" not in nothing["overall"]


def test_films_that_cannot_be_matched_are_told_by_line(folder, write, tmp_path):
    def estimate(path):
        raise AssertionError("nothing is estimated before all is matched")

    def run(text, videos=folder):
        return evaluate_recordings(videos, write(text), estimate, quiet=True)

    with pytest.raises(InputError, match=r"ref\.csv:2 names 'z\.mp4', but .*films holds no such film"):
        run(csv_of(["z.mp4"]))
    with pytest.raises(InputError, match=r"ref\.csv:2 names no video, but .* holds 4 of them: a\.avi, b\.mp4, c\.mov"):
        run("time,bpm\n0,70\n")
    (folder / "a.mp4").write_bytes(b"film")
    with pytest.raises(InputError, match=r"ref\.csv:2 names 'a', but .* holds 2 of them: a\.avi, a\.mp4"):
        run(csv_of(["a"]))
    with pytest.raises(InputError, match=r"names b\.mp4 in two ways"):
        run(csv_of(["b", "b.mp4"]))
    with pytest.raises(InputError, match="is no folder"):
        run(csv_of(["b"]), tmp_path / "none")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="holds no film"):
        run(csv_of(["b"]), tmp_path / "empty")


class WholePicture:
    def detect(self, image):
        from robustvision.core.runtime import Faces

        size = image.shape[0]
        box = np.array([[size * 0.15, size * 0.15, size * 0.7, size * 0.7]], np.float32)
        return Faces(box, np.zeros((1, 5, 2), np.float32), np.ones(1, np.float32))


def test_the_live_estimator_on_a_film_that_was_really_encoded(tmp_path, write):
    videos = tmp_path / "films"
    videos.mkdir()
    film(videos / "a.avi", hz=1.25)
    reference = write("timestamp_s,bpm\n" + "".join(f"{second},75\n" for second in range(25)))
    estimator = PulseEstimator("pos", detector=WholePicture())
    result = evaluate_recordings(videos, reference, lambda path: estimate_track(path, estimator), quiet=True)
    (row,) = result["recordings"]
    assert row["within_5_bpm"] == 1
    assert row["mae"] < 2
    assert 0.5 < row["coverage"] < 1  # it warms up
    assert not row["is_lag_found"]  # a steady heart shows none
    found = estimate_track(videos / "a.avi", estimator)
    assert np.isnan(found.bpm[found.times_s < 4.9]).all()
    assert found.times_s.shape == found.bpm.shape == found.confidence.shape

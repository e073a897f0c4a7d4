"""The model in the package: it is what its card says, finds a pulse in rendered faces, and none in a photo."""

import numpy as np
import pytest

from robustvision.core.runtime import open_model
from robustvision.rppg import PulseEstimator
from robustvision.rppg.evaluation import evaluate_clips, model_predictor
from robustvision.rppg.models import shipped_model
from robustvision.rppg.protocol import FINE_GRID
from robustvision.rppg.synthetic import SyntheticPulse

MAX_BYTES = 1_500_000


@pytest.fixture(scope="module")
def model():
    return open_model(shipped_model(), task="heart-rate")


def film(scenario, seed=0, seconds=15.0):
    return SyntheticPulse(1, scenarios=(scenario,), split="test", seed=seed, seconds=seconds)[0]


def test_it_computes_what_it_computed_when_it_was_made(model):
    assert model.self_test().ok
    assert set(model.graphs) == {"window", "stream"}
    assert sum(path.stat().st_size for path in shipped_model().iterdir()) < MAX_BYTES


def test_it_says_where_it_comes_from_and_how_far_to_trust_it(model):
    assert model.manifest.training["trained_on"] == "synthetic"
    assert "within 5 bpm" in model.manifest.metrics["confidence"]["calibrated_on"]


def test_it_reads_still_films_of_people_whom_it_never_saw(model):
    films = SyntheticPulse(24, split="test", seed=2)
    clips = films.clips(int(model.manifest.preprocessing["size"]), workers=1, quiet=True)
    [row] = evaluate_clips({"small": model_predictor(model)}, clips, FINE_GRID, quiet=True).rows()
    assert row["mae"] < 4.0  # ten seeds: 0.2 to 2.4, standard deviation 0.7
    assert row["coverage"] == 1


def test_frame_by_frame_it_says_what_it_says_of_the_whole_clip(model):
    size = int(model.manifest.preprocessing["size"])
    [clip] = SyntheticPulse(1, split="test", seed=3, seconds=4.0).clips(size, workers=1, quiet=True)
    frames = np.ascontiguousarray(clip.frames.transpose(3, 0, 1, 2)[None])
    (whole,) = model.graphs["window"](frames)
    stream = model.graphs["stream"].stream()
    steps = [stream.step(frame=np.ascontiguousarray(frames[:, :, t : t + 1]))["bvp"][0, 0] for t in range(len(clip))]
    np.testing.assert_allclose(steps, whole[0], atol=1e-4 * np.abs(whole).max())


def live(recording, **options):
    estimator = PulseEstimator.synthetic(**options)
    for image, time_s, box in zip(recording.frames(), recording.timestamps_s, recording.boxes_xywh, strict=True):
        estimator.push(image, float(time_s), box)
    return estimator.result()


@pytest.mark.parametrize("asked_every", [1, 7, 30])
def test_the_wave_is_the_same_however_often_it_is_asked_for(model, asked_every):
    """Four crops wait for one call of the network; who asks gets the value of every frame so far."""
    recording = film("still", seed=4)
    estimators = [PulseEstimator.synthetic() for _ in range(2)]
    for count, (image, time_s) in enumerate(zip(recording.frames(), recording.timestamps_s, strict=True), 1):
        for estimator in estimators:
            estimator.push(image, float(time_s), recording.boxes_xywh[count - 1])
        if count % asked_every == 0:
            asked = estimators[0].result()
            assert not len(asked.waveform_times_s) or asked.waveform_times_s[-1] == pytest.approx(time_s, abs=0.02)
    often, once = (estimator.result() for estimator in estimators)
    np.testing.assert_allclose(often.waveform, once.waveform, atol=1e-4)
    assert often.raw_bpm == pytest.approx(once.raw_bpm, abs=1e-3)


def test_a_still_film_is_read_live():
    recording = film("still", seed=4)
    result = live(recording)
    assert result.state == "ok"
    assert result.heart_rate_bpm == pytest.approx(recording.conditions["heart_rate_bpm"], abs=5)


@pytest.mark.parametrize("scenario", ["photo", "static"])
def test_a_photo_is_given_no_heart_rate(scenario):
    result = live(film(scenario, seed=4))
    assert result.heart_rate_bpm is None
    assert result.state == "low_confidence"

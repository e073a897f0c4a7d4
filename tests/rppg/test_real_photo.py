"""A real photo made into films: YuNet finds the face; with a pulse painted on it is read, without one it is refused."""

import cv2
import numpy as np
import pytest
from skimage import data

from robustvision.rppg import PulseEstimator, estimate_video
from robustvision.rppg.data import Recording
from robustvision.rppg.synthetic import write_film

BPM, FPS, SECONDS = 78.0, 30, 12
PULSATILITY = np.array([0.33, 0.77, 0.53])


def film(path, depth, codec="h264"):
    photo = cv2.resize(data.astronaut()[:300, 80:380], (256, 256), interpolation=cv2.INTER_AREA).astype(np.float32)
    time_s = np.arange(SECONDS * FPS) / FPS
    wave = np.sin(2 * np.pi * BPM / 60 * time_s)
    noise = np.random.default_rng(0)

    def frames():
        for value in wave:
            seen = photo * (1 - depth * value * PULSATILITY) + noise.normal(0, 1.5, photo.shape)
            yield np.clip(np.rint(seen), 0, 255).astype(np.uint8)

    return write_film(
        Recording("photo", "1", time_s, wave.astype(np.float32), frames, {}), path, codec=codec, quality=14
    )


@pytest.mark.parametrize("codec", ["h264", "mjpeg"])
def test_a_pulse_on_a_real_face_is_read(tmp_path, codec):
    path = film(tmp_path / {"h264": "photo.mp4", "mjpeg": "photo.avi"}[codec], 0.012, codec)
    last = list(estimate_video(path, PulseEstimator("pos")))[-1]
    assert last.state == "ok"
    assert last.heart_rate_bpm == pytest.approx(BPM, abs=3)


def test_the_photo_itself_is_refused(tmp_path):
    results = list(estimate_video(film(tmp_path / "photo.mp4", 0.0), PulseEstimator("pos")))
    assert {result.state for result in results} == {"warming_up", "low_confidence"}
    assert all(result.heart_rate_bpm is None for result in results)

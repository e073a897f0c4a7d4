"""Tiny trees in the layout of real data sets, written here and not by the generator, so that two hands agree on it.

A frame is flat; its red channel is its number (twice, so that half of it is seen), green tells the recording.
"""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import scipy.io

from robustvision.rppg.data import Clip

START_NS = 1_392_643_993_642_815_000
WIDTH, HEIGHT = 32, 24


def frame(index, green=0):
    image = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    image[..., 0], image[..., 1] = 2 * index % 256, green
    image[0, 0, 2] = 255  # top left, so that a flip is seen
    return image


def wave(times_s, bpm=72.0):
    """A sharp upstroke at phase 0 and a slow fall: three harmonics of a saw tooth, whose jump is upwards."""
    phase = 2 * np.pi * bpm / 60 * np.asarray(times_s)
    return sum(np.sin(k * phase) / k for k in (1, 2, 3))


@pytest.fixture
def pure_tree(tmp_path):
    """Write recordings NN-MM, their frames at the given times; the wave is a ramp, equal to the time in s."""

    def write(name="01-01", frame_times_s=(0.0, 0.03, 0.09), label_times_s=(-0.1, 0.0, 0.2), root=None) -> Path:
        root = root or tmp_path / "pure"
        images = root / name / name
        images.mkdir(parents=True)
        stamps = [START_NS + round(second * 1e9) for second in frame_times_s]
        for index, stamp in enumerate(stamps):
            ok, data = cv2.imencode(".png", np.ascontiguousarray(frame(index)[..., ::-1]))
            assert ok
            (images / f"Image{stamp}.png").write_bytes(data.tobytes())
        package = [
            {"Timestamp": START_NS + round(second * 1e9), "Value": {"waveform": second, "pulseRate": 72}}
            for second in label_times_s
        ]
        content = {"/FullPackage": package, "/Image": [{"Timestamp": stamp} for stamp in stamps]}
        (root / name / f"{name}.json").write_text(json.dumps(content))
        return root

    return write


@pytest.fixture
def ubfc_tree(tmp_path):
    """Write subjectN with an uncompressed film of the given rate; the wave is a ramp, equal to its own time."""
    av = pytest.importorskip("av")

    def write(number=1, frames=12, fps=30, label_times_s=None) -> Path:
        folder = tmp_path / "ubfc" / f"subject{number}"
        folder.mkdir(parents=True)
        with av.open(str(folder / "vid.avi"), "w") as film:
            stream = film.add_stream("rawvideo", rate=fps)
            stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "bgr24"
            for index in range(frames):
                film.mux(stream.encode(av.VideoFrame.from_ndarray(frame(index, number), format="rgb24")))
            film.mux(stream.encode(None))
        times = np.arange(frames) / fps if label_times_s is None else np.asarray(label_times_s)
        rows = (times, np.full(len(times), 72.0), times)
        text = "\n".join("  ".join(f"{value:.7e}" for value in row) for row in rows)
        (folder / "ground_truth.txt").write_text(text + "\n")
        return tmp_path / "ubfc"

    return write


@pytest.fixture
def mmpd_tree(tmp_path):
    """Write subjectS/pS_V.mat of MATLAB version 5; keywords replace variables, None leaves one out."""

    def write(subject=1, clip=0, frames=12, **changes) -> Path:
        folder = tmp_path / "mmpd" / f"subject{subject}"
        folder.mkdir(parents=True, exist_ok=True)
        content = {
            "video": np.stack([frame(index, subject) for index in range(frames)]) / 255.0,
            "GT_ppg": np.arange(frames, dtype=float)[None],
            "light": "LED-low",
            "motion": "Stationary (after exercise)",
            "exercise": "True",
            "glasser": "False",
            "hair_cover": "False",
            "makeup": "False",
            "skin_color": 4,
            "gender": "female",
        }
        content = {key: value for key, value in {**content, **changes}.items() if value is not None}
        scipy.io.savemat(folder / f"p{subject}_{clip}.mat", content, do_compression=True)
        return tmp_path / "mmpd"

    return write


@pytest.fixture
def make_clip():
    """A clip in memory whose frames are noise and whose wave has the given heart rate."""

    def make(frames=400, bpm=72.0, *, fs=30.0, size_px=8, beats=True, name="clip", subject="1", seed=0) -> Clip:
        times = np.arange(frames) / fs
        rng = np.random.default_rng(seed)
        pixels = rng.integers(60, 190, (frames, size_px, size_px, 3), dtype=np.uint8)
        return Clip(
            name=name,
            subject=subject,
            conditions={},
            fs=fs,
            frames=pixels,
            traces=pixels.mean(axis=(1, 2), dtype=np.float64),
            has_face=np.ones(frames, bool),
            bvp=wave(times, bpm).astype(np.float32),
            beats_s=np.arange(0, times[-1], 60 / bpm) if beats else None,
        )

    return make

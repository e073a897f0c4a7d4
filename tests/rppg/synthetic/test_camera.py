"""The camera: the sRGB curve, noise whose size physics tells, compression."""

from __future__ import annotations

import numpy as np
import pytest

from robustvision.rppg.synthetic.camera import NATIVE_PX, Camera, through_jpeg
from robustvision.rppg.synthetic.skin import to_linear

QUIET = Camera(exposure=1, gain=1, full_well_e=0, read_noise_e=0, jpeg=0)


def grey(level: float, side: int = 64) -> np.ndarray:
    return np.full((1, side, side, 3), level, np.float32)


@pytest.mark.parametrize(("linear", "srgb"), [(0.0, 0), (0.214041, 127.5), (0.0021, 0.0021 * 12.92 * 255), (1.0, 255)])
def test_the_srgb_curve(linear, srgb):
    taken = QUIET.take(grey(linear), 0.01, np.random.default_rng(0))
    assert abs(float(taken.mean()) - srgb) <= 0.51


def test_linear_and_back():
    values = np.arange(256)
    taken = QUIET.take(to_linear(values / 255)[None, :, None, None].repeat(3, -1), 1, np.random.default_rng(0))
    assert np.abs(taken[0, :, 0, 0].astype(int) - values).max() <= 1


@pytest.mark.parametrize("pixel", [1 / NATIVE_PX, 4 / NATIVE_PX])
def test_noise_is_shot_and_read_noise_of_the_area(pixel):
    camera = Camera(exposure=1, gain=1, full_well_e=2000, read_noise_e=10, jpeg=0)
    level, area = 0.3, (pixel * NATIVE_PX) ** 2
    taken = camera.take(grey(level, 256), pixel, np.random.default_rng(0)).astype(np.float64)
    deviation = np.sqrt((level / 2000 + (10 / 2000) ** 2) / area)  # of linear light
    slope = 255 * 1.055 / 2.4 * level ** (1 / 2.4 - 1)
    expected = np.sqrt((slope * deviation) ** 2 + 1 / 12)  # rounding
    assert taken.std() == pytest.approx(expected, rel=0.04)


def test_gain_lifts_the_noise_with_the_signal():
    dark = Camera(exposure=0.1, gain=4, full_well_e=2000, read_noise_e=5, jpeg=0)
    lit = Camera(exposure=0.4, gain=1, full_well_e=2000, read_noise_e=5, jpeg=0)
    noisy, clean = (camera.take(grey(0.5), 1 / NATIVE_PX, np.random.default_rng(0)) for camera in (dark, lit))
    assert abs(noisy.mean() - clean.mean()) < 1.5
    assert noisy.std() > 1.8 * clean.std()  # four times the gain, a quarter of the electrons: twice the shot noise


def test_too_much_light_is_white_and_too_little_black():
    camera = Camera(exposure=1, gain=1, full_well_e=500, read_noise_e=50, jpeg=0)
    assert camera.take(grey(9.0), 1 / NATIVE_PX, np.random.default_rng(0)).min() == 255
    assert camera.take(grey(-0.5), 1 / NATIVE_PX, np.random.default_rng(0)).max() == 0


def test_jpeg_loses_more_at_lower_quality_and_keeps_the_channels():
    rng = np.random.default_rng(0)
    frames = np.clip(rng.normal([180, 90, 40], 12, (2, 48, 48, 3)), 0, 255).astype(np.uint8)
    errors = [np.abs(through_jpeg(frames, quality).astype(int) - frames).mean() for quality in (95, 60, 20)]
    assert errors == sorted(errors)
    assert np.abs(through_jpeg(frames, 60).mean(axis=(0, 1, 2)) - frames.mean(axis=(0, 1, 2))).max() < 2

"""Motion and light: spectra, independence of the heart, and nothing at all where nothing may move."""

from __future__ import annotations

import numpy as np
import pytest

from robustvision.core.errors import InputError
from robustvision.rppg.synthetic import SCENARIOS, SyntheticPulse
from robustvision.rppg.synthetic.light import Light
from robustvision.rppg.synthetic.motion import Motion, gait_phase, rough_noise
from robustvision.rppg.synthetic.scenarios import scenario

TIME_S = np.arange(300) / 30


def draw(name: str, seed: int = 0) -> tuple[Motion, Light]:
    rng, what = np.random.default_rng(seed), scenario(name)
    steps = gait_phase(rng, what, TIME_S)
    return Motion.sample(rng, what, TIME_S, steps), Light.sample(rng, what, TIME_S, steps)


def peak_hz(x: np.ndarray) -> float:
    power = np.abs(np.fft.rfft((x - x.mean()) * np.hanning(len(x)), 4096)) ** 2
    frequency = np.fft.rfftfreq(4096, 1 / 30)
    return float(frequency[np.argmax(power * (frequency > 1))])


def test_rough_noise_has_rms_1_and_power_falling_with_the_frequency():
    time_s = np.arange(4096) / 30
    noise = rough_noise(np.random.default_rng(0), (200, 4096), time_s)
    assert np.allclose(noise.std(axis=1), 1)
    power = (np.abs(np.fft.rfft(noise * np.hanning(4096))) ** 2).mean(axis=0)
    frequency = np.fft.rfftfreq(4096, 1 / 30)
    chosen = (frequency > 0.1) & (frequency < 5)
    slope = np.polyfit(np.log(frequency[chosen]), np.log(power[chosen]), 1)[0]
    assert slope == pytest.approx(-1, abs=0.1)
    assert power[frequency > 6.2].sum() < 1e-3 * power.sum()


def test_steps_move_the_head_at_their_own_rate():
    steps = [peak_hz(draw("walk", seed)[0].shift[:, 1]) for seed in range(40)]
    low, high = SCENARIOS["walk"].gait_hz
    assert low - 0.15 < min(steps)
    assert max(steps) < high + 0.15
    assert np.std(steps) > 0.1


def test_no_motion_tells_the_heart_rate():
    films = SyntheticPulse(120, scenarios=("walk",))
    scenes = [films.scene(index) for index in range(120)]
    steps = [peak_hz(scene.motion.shift[:, 1]) for scene in scenes]
    rates = [scene.pulse.heart_rate_bpm(10) for scene in scenes]
    assert abs(np.corrcoef(steps, rates)[0, 1]) < 0.25  # 2.7 standard errors


def test_the_jaw_moves_in_speech_only():
    assert np.ptp(draw("talk")[0].jaw) > 0.01
    assert not draw("rotate")[0].jaw.any()


def test_turning_is_wide_and_slow():
    yaw = draw("rotate")[0].angles_rad[:, 0]
    assert np.ptp(yaw) > 0.35
    assert np.ptp(draw("still")[0].angles_rad[:, 0]) < 0.15


@pytest.mark.parametrize("name", ["photo", "static"])
def test_nothing_moves_in_a_photo(name):
    motion, light = draw(name)
    assert not motion.shift.any()
    assert not motion.lids.any()
    assert not np.ptp(motion.angles_rad, axis=0).any()
    assert (light.course == 1).all()


def test_an_unknown_scenario_is_named():
    with pytest.raises(InputError, match="'dancing' is not known; choose from still, talk"):
        scenario("dancing")

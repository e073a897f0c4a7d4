"""The dichromatic model, read back from the linear light of rendered frames."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from robustvision.rppg.synthetic import SyntheticPulse
from robustvision.rppg.synthetic.head import View
from robustvision.rppg.synthetic.light import Light
from robustvision.rppg.synthetic.scene import Scene


def calm(scene: Scene, **changes) -> Scene:
    """The scene without motion and changes of the light."""
    motion = scene.motion
    motion = replace(
        motion,
        shift=0 * motion.shift,
        angles_rad=0 * motion.angles_rad,
        jaw=0 * motion.jaw,
        lids=0 * motion.lids,
    )
    light = replace(scene.light, course=np.ones_like(scene.light.course), slope=0 * scene.light.slope)
    return replace(scene, motion=motion, light=changes.pop("light", light), **changes)


def matt(scene: Scene) -> Scene:
    surface = scene.face.surface.copy()
    surface[..., 3] = 0
    return replace(scene, face=replace(scene.face, surface=surface))


@pytest.fixture(scope="module")
def scene() -> Scene:
    return SyntheticPulse(1, skin_types=(3,), seconds=4).scene(0)


def frame_light(scene: Scene, side: int = 48) -> np.ndarray:
    view = View.whole(len(scene.time_s), side)
    return scene.radiance(view, slice(0, len(scene.time_s))).astype(np.float64)


def cheek(scene: Scene, side: int = 48) -> tuple[int, int]:
    x, y, width, height = scene.boxes[0] * side
    return int(y + 0.6 * height), int(x + 0.25 * width)


def test_the_pulse_takes_light_in_the_ratio_of_its_signature(scene):
    row, column = cheek(scene)
    trace = frame_light(matt(calm(scene)))[:, row, column]
    depth = np.ptp(trace, axis=0) / trace.mean(axis=0)
    assert np.allclose(depth / depth[1], np.array([0.33, 0.77, 0.53]) / 0.77, rtol=0.01)


def test_the_depth_on_a_cheek_is_the_amplitude_times_its_pulsatility(scene):
    row, column = cheek(scene)
    trace = frame_light(matt(calm(scene)))[:, row, column, 1]
    half = np.ptp(trace) / 2 / trace.mean()
    assert 0.5 * scene.amplitude < half < 1.01 * scene.amplitude


def test_more_blood_is_less_light(scene):
    row, column = cheek(scene)
    trace = frame_light(matt(calm(scene)))[:, row, column, 1]
    wave = scene.pulse.wave(scene.time_s - 0.015)
    assert np.corrcoef(trace, wave)[0, 1] < -0.99


def test_the_chin_pulses_later_than_the_forehead(scene):
    light = frame_light(matt(calm(scene)), 96)
    _, y, _, height = scene.boxes[0] * 96
    column = round((scene.boxes[0][0] + 0.5 * scene.boxes[0][2]) * 96)
    high, low = (-light[:, round(y + share * height), column, 1] for share in (0.15, 0.92))
    fine = np.linspace(0.2, scene.time_s[-1] - 0.2, 4000)

    def lag_s(trace):
        lags = np.arange(-0.05, 0.05, 0.001)
        seen = np.interp(fine, scene.time_s, trace)
        return lags[np.argmax([np.corrcoef(seen, scene.pulse.wave(fine - lag))[0, 1] for lag in lags])]

    assert 0.005 < lag_s(low) - lag_s(high) < 0.03


def test_gloss_adds_light_without_pulse(scene):
    still = calm(scene)
    gloss = frame_light(still) - frame_light(matt(still))
    assert gloss.min() > -1e-6
    assert gloss.max() > 0.005
    assert np.ptp(gloss, axis=0).max() < 1e-6


def test_hair_and_background_do_not_pulse(scene):
    light = frame_light(calm(scene), 64)
    depth = np.ptp(light, axis=0)[..., 1] / light.mean(axis=0)[..., 1]
    x, y, width, _ = scene.boxes[0] * 64
    assert depth[2, 2] < 1e-6
    assert depth[max(int(y) - 4, 0), int(x + width / 2)] < 0.1 * scene.amplitude


def test_without_a_heart_the_light_is_constant(scene):
    assert np.ptp(frame_light(calm(scene, pulse=None)), axis=0).max() == 0


def test_motion_is_no_mere_change_of_brightness(scene):
    """A head that shifts under fixed light changes its pixels by different factors: no projection cancels that."""
    moved = calm(scene, pulse=None)
    shift = moved.motion.shift.copy()
    shift[1:, 0] = 0.05
    moved = replace(moved, motion=replace(moved.motion, shift=shift))
    first, second = frame_light(moved)[:2]
    x, y, width, height = (moved.boxes[0] * 48).astype(int)
    ratio = (second / first)[y : y + height, x : x + width]
    assert ratio.std(axis=(0, 1)).max() > 0.05
    assert (ratio.max(axis=2) - ratio.min(axis=2)).max() > 0.02


def test_skin_that_turns_to_the_lamp_gets_brighter():
    """Lambert's law at the middle of a white face: light in proportion to the cosine, wherever the head turns it."""
    scene = matt(calm(SyntheticPulse(1, seconds=2).scene(0), pulse=None))
    lamp = Light(
        np.array([[0.8, 0, 0.6], [0, 0, 1]], np.float32),
        np.array([[1, 1, 1], [0, 0, 0], [0, 0, 0]], np.float32),
        np.zeros(2, np.float32),
        np.ones((len(scene.time_s), 3), np.float32),
    )
    white, level = np.ones_like(scene.face.colour), scene.face.surface.copy()
    level[...] = (0, 0, 1, 0)  # flat: one normal everywhere
    angles = scene.motion.angles_rad.copy()
    angles[:, 0] = np.linspace(-0.5, 0.5, len(angles))
    scene = replace(
        scene,
        light=lamp,
        face=replace(scene.face, colour=white, surface=level),
        motion=replace(scene.motion, angles_rad=angles),
    )
    row, column = (round(share * 48) for share in scene.place.centre[::-1])
    expected = np.maximum(np.sin(angles[:, 0]) * 0.8 + np.cos(angles[:, 0]) * 0.6, 0)
    assert np.allclose(frame_light(scene)[:, row, column, 1], expected, atol=1e-4)

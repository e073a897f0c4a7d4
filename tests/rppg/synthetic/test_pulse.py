"""The heart: waveform against the formula written out anew, beats against what was asked for."""

from __future__ import annotations

import numpy as np
import pytest

from robustvision.rppg.synthetic import Pulse


def even(bpm: float, count: int = 40) -> Pulse:
    return Pulse(np.arange(-4, count) * 60 / bpm)


def test_the_wave_has_mean_0_and_height_2_over_a_beat():
    time_s = np.arange(10_000) / 10_000  # one beat at 60 bpm
    wave = even(60).wave(time_s)
    assert abs(wave.mean()) < 1e-3
    assert np.ptp(wave) == pytest.approx(2, abs=1e-3)


@pytest.mark.parametrize("phase", [0.0, 0.1, 0.22, 0.5, 0.75, 0.99])
def test_the_wave_is_three_bumps_up_to_offset_and_scale(phase):
    def bumps(x):  # neighbouring beats included: a beat's tail reaches into the next
        return sum(
            height * np.exp(-0.5 * ((x - centre - shift) / width) ** 2)
            for height, centre, width in ((1, 0.22, 0.09), (0.55, 0.47, 0.11), (0.15, 0.75, 0.12))
            for shift in (-1, 0, 1)
        )

    fine = bumps(np.linspace(0, 1, 20_001)[:-1])
    expected = (bumps(phase) - fine.mean()) / ((fine.max() - fine.min()) / 2)
    assert even(75).wave(np.array([(3 + phase) * 60 / 75]))[0] == pytest.approx(expected, abs=2e-3)


def test_it_rises_faster_than_it_falls():
    slope = np.diff(even(60).wave(np.arange(1000) / 1000))
    assert slope.max() > 1.2 * -slope.min()


def test_heart_rate_counts_fractions_of_beats():
    assert even(72).heart_rate_bpm(7.3) == pytest.approx(72)


def test_beats_have_the_rate_and_the_variability_asked_for():
    rng = np.random.default_rng(0)
    pulses = [Pulse.sample(rng, 80, 120, sdnn_s=0.04) for _ in range(20)]
    intervals = np.concatenate([np.diff(pulse.beats_s) for pulse in pulses])
    assert 60 / intervals.mean() == pytest.approx(80, rel=0.01)
    assert intervals.std() == pytest.approx(0.04, rel=0.1)


def test_breathing_is_in_the_intervals():
    beats = Pulse.sample(np.random.default_rng(3), 75, 300, sdnn_s=0.05).beats_s
    time_s = np.arange(0, 290, 0.25)
    series = np.interp(time_s, beats[1:], np.diff(beats))
    power = np.abs(np.fft.rfft(series - series.mean())) ** 2
    frequency = np.fft.rfftfreq(len(series), 0.25)

    def share(low, high):
        return power[(frequency > low) & (frequency < high)].sum() / power.sum()

    assert share(0.23, 0.27) > 0.25
    assert share(0.08, 0.12) > 0.25


def test_the_film_lies_within_the_beats():
    for bpm in (40, 180):
        pulse = Pulse.sample(np.random.default_rng(0), bpm, 10, sdnn_s=0.06)
        assert pulse.beats_s[0] < -1
        assert pulse.beats_s[-1] > 11

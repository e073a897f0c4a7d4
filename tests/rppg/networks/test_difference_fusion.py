"""Differences of frames: the formula, its ends, its limits, and the branches that see them."""

import numpy as np
import pytest
import torch

from robustvision.core.errors import InputError
from robustvision.rppg.networks import DifferenceFusion, Past, normalised_difference, running_difference
from robustvision.rppg.networks.difference_fusion import Branch


def by_formula(clip):
    """The published formula in float64, one frame at a time: clip [C, T, H, W]."""
    clip = np.asarray(clip, np.float64)
    d = [(clip[:, t + 1] - clip[:, t]) / (clip[:, t + 1] + clip[:, t] + 1e-7) for t in range(clip.shape[1] - 1)]
    return np.stack([*(np.array(d) / np.std(d)), np.zeros_like(clip[:, 0])], axis=1)


def running_by_formula(clip, memory_frames=150):
    """The recursion in float64: clip [C, T, H, W]."""
    clip = np.asarray(clip, np.float64)
    decay = np.exp(-1 / memory_frames)
    out, power, weight = [np.zeros_like(clip[:, 0])], 0.0, 0.0
    for t in range(1, clip.shape[1]):
        d = (clip[:, t] - clip[:, t - 1]) / (clip[:, t] + clip[:, t - 1] + 1e-7)
        power, weight = decay * power + np.mean(d**2), decay * weight + 1
        out.append(d / np.sqrt(power / weight))
    return np.stack(out, axis=1)


def test_normalised_difference_is_the_formula(film):
    frames = film(3, 21)
    d = normalised_difference(frames.float())
    for clip, ours in zip(frames, d, strict=True):
        np.testing.assert_allclose(ours, by_formula(clip), rtol=1e-4, atol=1e-4)
    assert d[:, :, -1].abs().max() == 0
    np.testing.assert_allclose(d[:, :, :-1].std(dim=(1, 2, 3, 4), correction=0), 1, rtol=1e-4)


def test_difference_is_free_of_brightness(film):
    frames = film(2, 20).double() + 1
    shade = torch.rand(2, 3, 1, 16, 16, dtype=torch.float64) + 0.1
    torch.testing.assert_close(normalised_difference(frames * shade), normalised_difference(frames), atol=1e-6, rtol=0)


def test_difference_of_the_film_run_backwards(film):
    d, backwards = normalised_difference(film(1, 12).double()), normalised_difference(film(1, 12).double().flip(2))
    torch.testing.assert_close(backwards[:, :, :-1], -d[:, :, :-1].flip(2))


@pytest.mark.parametrize("value", [0.0, 1.0, 255.0])
@pytest.mark.parametrize("difference", [normalised_difference, lambda frames: running_difference(frames, Past())])
def test_a_film_without_change_gives_zeros_and_a_finite_gradient(difference, value):
    frames = torch.full((2, 3, 8, 4, 4), value, requires_grad=True)
    d = difference(frames)
    assert d.abs().max() == 0
    d.square().sum().backward()
    assert frames.grad.isfinite().all()


def test_black_pixels_among_others_are_finite(film):
    frames = film(1, 12).float()
    frames[..., :8] = 0
    frames[:, :, 5, :4, :4] = 3  # out of black and back
    assert normalised_difference(frames).isfinite().all()
    assert running_difference(frames, Past()).isfinite().all()


@pytest.mark.parametrize("frames", [1, 2, 300])
def test_running_difference_is_the_recursion(film, frames):
    clips = film(2, frames, size_px=4)
    for clip, ours in zip(clips, running_difference(clips.float(), Past()), strict=True):
        np.testing.assert_allclose(ours, running_by_formula(clip), rtol=2e-5, atol=2e-5)


def test_running_difference_keeps_its_digits_over_two_minutes(film):
    clip = film(1, 3600, size_px=2)
    ours = running_difference(clip.float(), Past())[0]
    np.testing.assert_allclose(ours, running_by_formula(clip[0]), rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("cuts", [(1, 19), (7, 6, 7), (1,) * 20])
def test_running_difference_in_chunks(film, cuts):
    clip, past, parts = film(2, 20).float(), Past(), []
    for part in clip.split(cuts, dim=2):
        parts.append(running_difference(part, past))
        past = Past(past.after)
    torch.testing.assert_close(torch.cat(parts, 2), running_difference(clip, Past()), rtol=1e-5, atol=1e-6)


def test_a_branch_sees_each_frame_on_its_own(film):
    """Clips and frames share one axis inside: neither may leak into the other."""
    branch = Branch(8).eval()
    frames, order = film(3, 10).float(), torch.randperm(10)
    features = branch(frames)
    torch.testing.assert_close(branch(frames[:, :, order]), features[:, :, order])
    torch.testing.assert_close(branch(frames[1:2, :, 4:5]), features[1:2, :, 4:5])


def test_the_modes_see_what_they_say(film):
    frames = film(2, 12).float() + 1
    brighter = frames * 1.3
    for mode, changes in (("diff", False), ("raw", True), ("dff", True)):
        fusion = DifferenceFusion(8, mode).eval()
        assert torch.allclose(fusion(frames), fusion(brighter), atol=1e-4) != changes, mode
    still = frames[:, :, :1].expand_as(frames)
    for mode, uniform in (("diff", True), ("raw", False)):
        features = DifferenceFusion(8, mode).eval()(still)
        assert (features[..., 2:-2, 2:-2].std(dim=(3, 4)).max() < 1e-5) == uniform, mode


def test_an_unknown_mode_is_refused():
    with pytest.raises(InputError, match=r"both.*dff, diff, raw"):
        DifferenceFusion(8, "both")

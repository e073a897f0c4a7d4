"""The causal twin: it never looks ahead, and a stream of frames is the clip."""

import pytest
import torch

from robustvision.rppg.networks import CausalStep, Past, PhysFSUNet


def streamed(network, frames):
    """Frame by frame."""
    step = CausalStep(network, frames.shape[-1])
    memory, values = step.start(frames.shape[0]), []
    for frame in frames.split(1, dim=2):
        value, memory = step(frame, memory)
        values.append(value)
    return torch.cat(values, dim=1)


@torch.no_grad()
@pytest.mark.parametrize("frames", [1, 2, 3, 300])
def test_frame_by_frame_is_the_clip(networks, film, frames):
    clip = film(2, frames)
    wave = networks["causal"](clip)
    torch.testing.assert_close(streamed(networks["causal"], clip), wave, rtol=0, atol=1e-5)
    assert frames < 300 or wave.std() > 0.1


@torch.no_grad()
@pytest.mark.parametrize("settings", [{"mode": "raw"}, {"mode": "diff"}, {"stas": False}, {"width": 16}])
def test_frame_by_frame_in_every_variant(film, settings):
    network = PhysFSUNet(**{"width": 8, **settings}, causal=True)
    network(film(2, 40))
    clip = film(1, 60)
    torch.testing.assert_close(streamed(network.eval(), clip), network(clip), rtol=0, atol=1e-5)


@torch.no_grad()
def test_chunks_of_any_length_are_the_clip(networks, film):
    network, clip, past, parts = networks["causal"], film(2, 50), Past(), []
    for part in clip.split((3, 1, 20, 2, 24), dim=2):
        parts.append(network(part, past))
        past = Past(past.after)
    torch.testing.assert_close(torch.cat(parts, 1), network(clip), rtol=0, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("t", [0, 1, 5, 38, 59])
def test_no_value_depends_on_a_later_frame(networks, film, t):
    clip = film(1, 60)
    changed = clip.clone()
    changed[:, :, t:] = film(1, 60 - t, seed=5)
    before, after = networks["causal"](clip), networks["causal"](changed)
    torch.testing.assert_close(after[:, :t], before[:, :t], rtol=0, atol=1e-6)
    assert (after[:, t] - before[:, t]).abs() > 1e-4


@torch.no_grad()
def test_the_value_of_a_frame_does_not_depend_on_the_length_of_the_clip(networks, film):
    clip = film(1, 61)
    torch.testing.assert_close(networks["causal"](clip[:, :, :33]), networks["causal"](clip)[:, :33], rtol=0, atol=1e-6)


def reach(network, frames, at):
    """Frames that one value depends on, by the gradient."""
    film = torch.rand(1, 3, frames, 16, 16, generator=torch.Generator().manual_seed(0)).mul(255).requires_grad_()
    network(film)[0, at].backward()
    touched = film.grad.abs().amax(dim=(0, 1, 3, 4)).nonzero()[:, 0]
    return int(touched[-1] - touched[0]) + 1


def test_the_causal_twin_reaches_as_far():
    """Raw frames alone, as the scale of differences remembers without end. The shift looks one way only in the twin."""
    torch.manual_seed(0)
    both = reach(PhysFSUNet(8, mode="raw", stas=False).eval(), 200, 100)
    past = reach(PhysFSUNet(8, mode="raw", stas=False, causal=True).eval(), 200, 199)
    assert abs(past - both) <= 8
    assert past >= 50


def test_streams_of_a_batch_do_not_mix(networks, film):
    clip = film(3, 12)
    with torch.no_grad():
        together = streamed(networks["causal"], clip)
        torch.testing.assert_close(streamed(networks["causal"], clip[1:2]), together[1:2], rtol=0, atol=1e-5)

"""What every pulse network promises: its size, its input, its output, that a batch is its clips, and that it learns."""

import pytest
import torch

from robustvision.core.errors import InputError
from robustvision.rppg.losses import neg_pearson
from robustvision.rppg.networks import PhysFSUNet, PhysNet


def count(network):
    return sum(parameter.numel() for parameter in network.parameters())


def test_sizes():
    assert 0.78e6 <= count(PhysFSUNet()) <= 0.88e6
    assert count(PhysNet()) == 768_577
    assert count(PhysFSUNet(causal=True)) == count(PhysFSUNet())
    assert count(PhysFSUNet()) - count(PhysFSUNet(stas=False)) == 4 * 65  # four masks


@pytest.mark.parametrize("size_px", [16, 36, 72])
@pytest.mark.parametrize("make", [PhysFSUNet, lambda width: PhysFSUNet(width, causal=True), PhysNet])
def test_crop_sizes(make, size_px, film):
    assert make(16).eval()(film(2, 8, size_px)).shape == (2, 8)


@torch.no_grad()
def test_frames_may_be_bytes_or_numbers(network, film):
    frames = film()
    torch.testing.assert_close(network(frames), network(frames.float()), rtol=0, atol=0)


@torch.no_grad()
def test_a_batch_is_its_clips(network, film):
    frames = film(3, 40)
    together = network(frames)
    alone = torch.cat([network(frames[i : i + 1]) for i in range(3)])
    torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(network(frames[[2, 0, 1]]), together[[2, 0, 1]], rtol=1e-5, atol=1e-5)
    assert together.std() > 0.01  # else the comparison says nothing


@torch.no_grad()
def test_the_order_of_frames_matters(network, film):
    frames, order = film(1, 40), torch.randperm(40, generator=torch.Generator().manual_seed(0))
    wave = network(frames)
    assert (network(frames[:, :, order]) - wave[:, order]).std() > 0.1 * wave.std()


@pytest.mark.parametrize("value", [0, 128, 255])
def test_a_film_without_change_is_finite(network, value):
    wave = network(torch.full((2, 3, 16, 16, 16), value, dtype=torch.uint8))
    assert wave.isfinite().all()
    wave.sum().backward()
    assert all(parameter.grad.isfinite().all() for parameter in network.parameters())
    network.zero_grad()


def test_training_reaches_every_weight(network, film):
    network.train()
    network(film(2, 16, size_px=32)).square().mean().backward()  # of 16 pixels the last mask would see one: no choice
    silent = [name for name, parameter in network.named_parameters() if not parameter.grad.abs().max() > 0]
    network.zero_grad()
    network.eval()
    # a bias before batch normalisation has no effect, and rounding alone may touch it
    assert [name for name in silent if not name.endswith("bias")] == []


def test_autocast_is_finite_and_close(network, film):
    frames = film(2, 40)
    with torch.no_grad():
        wave = network(frames)
        with torch.autocast("cpu", torch.bfloat16):
            low = network(frames)
    assert low.isfinite().all()
    assert neg_pearson(low.float(), wave) < 0.05


@pytest.mark.parametrize("causal", [False, True])
def test_it_learns_a_beat(causal, film):
    """One minus the correlation falls from about 1 to below 0.3 (0.03 to 0.18 over eight runs)."""
    torch.manual_seed(0)
    network = PhysFSUNet(8, causal=causal)
    optimiser = torch.optim.AdamW(network.parameters(), 0.01)
    t = torch.arange(64) / 30
    for step in range(40):
        generator = torch.Generator().manual_seed(step)
        phase = 2 * torch.pi * (t * (1 + torch.rand(6, 1, generator=generator)) + torch.rand(6, 1, generator=generator))
        bvp = torch.sin(phase)
        skin = 60 + 120 * torch.rand(6, 3, 1, 16, 16, generator=generator)
        noise = torch.randn(6, 3, 64, 16, 16, generator=generator)
        frames = (skin * (1 - 0.02 * bvp[:, None, :, None, None]) + noise).clamp(0, 255).to(torch.uint8)
        loss = neg_pearson(network(frames), bvp)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert loss < 0.3


@pytest.mark.parametrize("make", [PhysFSUNet, PhysNet])
def test_a_length_that_is_no_multiple_of_four_is_refused(make):
    with pytest.raises(InputError, match="has 10 frames: cut or pad it to a multiple of 4"):
        make(8)(torch.zeros(1, 3, 10, 16, 16))


@pytest.mark.parametrize("shape", [(3, 8, 16, 16), (1, 8, 16, 16, 3), (1, 1, 8, 16, 16), (1, 3, 8, 12, 16)])
def test_frames_of_another_form_are_refused(networks, shape):
    with pytest.raises(InputError, match=r"expected RGB \[B, 3, T, S, S\]"):
        networks["causal"](torch.zeros(shape))


def test_a_width_that_is_too_small_is_refused():
    with pytest.raises(InputError, match="width is 4"):
        PhysFSUNet(4)

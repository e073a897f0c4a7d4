"""Small films and small networks whose normalisation has seen such films."""

import pytest
import torch

from robustvision.rppg.networks import PhysFSUNet, PhysNet


def make_film(batch=2, frames=40, size_px=16, seed=0, depth=0.02):
    """Noise with a colour of its own at each pixel, whose brightness beats at 1 Hz to 2 Hz: uint8 [B, 3, T, S, S]."""
    generator = torch.Generator().manual_seed(seed)
    t = torch.arange(frames) / 30
    rate_hz = 1 + torch.rand(batch, 1, generator=generator)
    beat = 1 + depth * torch.sin(2 * torch.pi * rate_hz * t)[:, None, :, None, None]
    skin = 60 + 120 * torch.rand(batch, 3, 1, size_px, size_px, generator=generator)
    noise = torch.randn(batch, 3, frames, size_px, size_px, generator=generator)
    return (skin * beat + noise).clamp(0, 255).to(torch.uint8)


def settle(network, size_px=16):
    """Give the batch normalisation the statistics of a film, and its weights some spread: fresh ones hide faults."""
    torch.manual_seed(0)
    for module in network.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            module.momentum = 1.0
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.normal_(module.bias, std=0.3)
    with torch.no_grad():
        network(make_film(3, 80, size_px, seed=9))
    return network.eval()


@pytest.fixture(scope="session")
def film():
    """The maker of films."""
    return make_film


@pytest.fixture(scope="session")
def networks():
    """Every kind of network at width 8, settled."""
    torch.manual_seed(1)
    made = {
        "dff": PhysFSUNet(8),
        "diff": PhysFSUNet(8, mode="diff"),
        "raw": PhysFSUNet(8, mode="raw"),
        "no stas": PhysFSUNet(8, stas=False),
        "causal": PhysFSUNet(8, causal=True),
        "PhysNet": PhysNet(32),
    }
    return {name: settle(network) for name, network in made.items()}


@pytest.fixture(params=["dff", "diff", "raw", "no stas", "causal", "PhysNet"])
def network(request, networks):
    """Each of them."""
    return networks[request.param]

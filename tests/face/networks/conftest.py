"""Every face network under its name, built once."""

import pytest
import torch

from robustvision.face.networks import IR, MBF, IResNet, MobileFaceNet, MobileNetV1Embedding, TinyFaceNet

SMALL_ENOUGH_TO_RUN = {
    "TinyFaceNet": TinyFaceNet,
    "MobileFaceNet": MobileFaceNet,
    "MBF": MBF,
    "MobileNetV1Embedding": MobileNetV1Embedding,
    "IResNet18": lambda **settings: IResNet(depth=18, **settings),
    "IR50": lambda **settings: IR(depth=50, **settings),
}


@pytest.fixture(scope="session", params=SMALL_ENOUGH_TO_RUN.values(), ids=SMALL_ENOUGH_TO_RUN.keys())
def constructor(request):
    """A constructor that takes ``embedding_size`` and ``normalisation``."""
    return request.param


@pytest.fixture(scope="session")
def network(constructor, crops):
    """The network in evaluation mode, with the statistics of the crops: random ones drown the input."""
    torch.manual_seed(0)
    network = constructor(embedding_size=32)
    for module in network.modules():
        if isinstance(module, (torch.nn.BatchNorm1d, torch.nn.BatchNorm2d)):
            module.momentum = 1.0
    with torch.no_grad():
        network(crops)
    return network.eval()


@pytest.fixture(scope="session")
def crops():
    """Three aligned crops of noise, RGB 0 to 255."""
    return torch.randint(0, 256, (3, 3, 112, 112), generator=torch.Generator().manual_seed(0)).float()

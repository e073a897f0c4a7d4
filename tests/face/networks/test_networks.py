"""What every face network promises: its size, its input, its output, and that a batch is its samples."""

import pytest
import torch
from torch import nn

from robustvision.core.errors import InputError
from robustvision.core.losses import CosineHead, SFaceLoss
from robustvision.face.networks import IR, MBF, IResNet, MobileFaceNet, MobileNetV1Embedding, TinyFaceNet


@pytest.mark.parametrize(
    ("constructor", "settings", "count"),
    [
        (MobileFaceNet, {"embedding_size": 128}, 1_003_264),
        (MobileFaceNet, {"embedding_size": 512}, 1_201_024),
        (MBF, {"embedding_size": 512}, 2_059_520),
        (IResNet, {"depth": 18}, 24_025_600),
        (IResNet, {"depth": 50}, 43_590_848),
        (IResNet, {"depth": 100}, 65_156_160),
        (IR, {"depth": 50}, 43_574_976),
        (IR, {"depth": 101}, 65_129_792),
    ],
)
def test_parameter_count_is_the_published_one(constructor, settings, count):
    with torch.device("meta"):
        network = constructor(**settings)
    assert sum(parameter.numel() for parameter in network.parameters()) == count


def test_mobilenet_has_as_many_values_as_the_opencv_file():
    with torch.device("meta"):
        values = MobileNetV1Embedding().state_dict()
    assert sum(tensor.numel() for name, tensor in values.items() if "num_batches" not in name) == 9_667_072


def test_tiny_network_fits_a_file_of_1_5_megabytes():
    values = sum(tensor.numel() for tensor in TinyFaceNet(embedding_size=128).state_dict().values())
    assert 4 * values < 1.3e6  # what is left is for the graph and the manifest


@pytest.mark.parametrize("constructor", [IResNet, IR])
def test_unknown_depth_is_refused(constructor):
    with pytest.raises(InputError, match="depth 20"):
        constructor(depth=20)


@torch.no_grad()
def test_batch_equals_its_samples(network, crops):
    batch = network(crops)
    assert batch.shape == (3, 32)
    singles = torch.cat([network(crop[None]) for crop in crops])
    torch.testing.assert_close(batch, singles, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(batch[0], batch[1], atol=1e-2)  # else the above would hold for a constant too


@torch.no_grad()
def test_evaluation_repeats_and_leaves_the_input(network, crops):
    before = crops[:1].clone()
    assert torch.equal(network(crops[:1]), network(crops[:1]))
    assert torch.equal(crops[:1], before)


@torch.no_grad()
def test_channels_last_gives_the_same(network, crops):
    expected = network(crops[:2])
    torch.testing.assert_close(
        network(crops[:2].contiguous(memory_format=torch.channels_last)), expected, rtol=1e-3, atol=1e-3
    )


@torch.no_grad()
def test_pixels_are_normalised_inside_by_127_5_and_128(network, crops):
    """The same network with the identity inside must be fed (p - 127.5) / 128 by hand."""
    mean, scale = network.normalise.mean, network.normalise.scale
    expected = network(crops[:1])
    network.normalise.mean, network.normalise.scale = 0.0, 1.0
    by_hand = network((crops[:1] - 127.5) / 128)
    network.normalise.mean, network.normalise.scale = mean, scale
    torch.testing.assert_close(expected, by_hand, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_normalisation_can_be_another():
    """What the PyTorch code of the SFace authors has: ten times the scale."""
    torch.manual_seed(0)
    network = TinyFaceNet(normalisation=(100.0, 0.078125)).eval()
    first = []
    network.body[0].register_forward_pre_hook(lambda module, inputs: first.append(inputs[0]))
    network(torch.full((1, 3, 112, 112), 228.0))
    torch.testing.assert_close(first[0], torch.full((1, 3, 112, 112), 10.0))


@torch.no_grad()
def test_whole_numbers_are_taken_as_pixels(crops):
    network = TinyFaceNet().eval()
    assert torch.equal(network(crops[:1].to(torch.uint8)), network(crops[:1]))


def test_colour_order_matters():
    torch.manual_seed(0)
    network = TinyFaceNet().eval()
    red = torch.zeros(1, 3, 112, 112)
    red[:, 0] = 255.0
    assert not torch.allclose(network(red), network(red.flip(1)), atol=1e-2)


@pytest.mark.parametrize("constructor", [TinyFaceNet, MobileFaceNet, MBF, MobileNetV1Embedding, IResNet, IR])
def test_gradient_reaches_every_parameter(constructor):
    torch.manual_seed(0)
    network = constructor(embedding_size=16) if constructor is not IResNet else IResNet(16, depth=18)
    network.train()
    crops = torch.randint(0, 256, (3, 3, 112, 112)).float()
    SFaceLoss()(CosineHead(5, 16)(network(crops)), torch.tensor([0, 1, 2])).backward()
    wanting = [
        name
        for name, parameter in network.named_parameters()
        if parameter.requires_grad
        and (parameter.grad is None or not parameter.grad.any() or not parameter.grad.isfinite().all())
    ]
    # A bias ahead of batch normalisation is taken away again with the mean: its gradient is rounding.
    assert [name for name in wanting if name != "embed.bias"] == []


def test_last_scale_of_iresnet_is_frozen_at_one():
    with torch.device("meta"):
        network = IResNet(depth=18)
    frozen = [name for name, parameter in network.named_parameters() if not parameter.requires_grad]
    assert frozen == ["standardise.weight"]


@pytest.mark.parametrize(
    ("constructor", "eps"),
    [
        (MobileFaceNet, {1e-3, 2e-5}),
        (MBF, {1e-5}),
        (IResNet, {1e-5}),
        (IR, {1e-5}),
        (MobileNetV1Embedding, {1e-3, 2e-5}),
    ],
)
def test_epsilon_of_the_batch_normalisation(constructor, eps):
    with torch.device("meta"):
        network = constructor()
    norms = [module for module in network.modules() if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d))]
    assert {module.eps for module in norms} == eps
    assert norms[-1] is network.standardise
    assert isinstance(norms[-1], nn.BatchNorm1d)


def test_start_values_follow_the_fan_out():
    torch.manual_seed(0)
    network = MobileFaceNet()
    wide = network.body[-2][0].weight  # 128 to 512 channels, 1x1
    assert wide.std().item() == pytest.approx(2 * (2 / 512) ** 0.5, rel=0.02)
    assert network.embed.weight.std().item() == pytest.approx(2 * (2 / 128) ** 0.5, rel=0.02)
    assert network.embed.bias.eq(0).all()
    assert IResNet(depth=18).stem[0].weight.std().item() == pytest.approx(0.1, rel=0.05)

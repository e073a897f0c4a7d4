"""U-Net3+: the size that its definition gives, and every level sees every scale."""

import pytest
import torch

from robustvision.buildings.networks import build_network
from robustvision.buildings.networks.unet3plus import FullScaleDecoder


def test_the_decoder_has_the_size_of_its_definition():
    """Five scales over ResNet-18: four levels of five 3x3 convolutions to 64 channels, and one of 320 to 320."""
    scales = [64, 64, 128, 256, 512]
    levels = []
    for level in range(4):
        into = [scales[s] if s <= level or s == 4 else 320 for s in range(5)]
        levels.append(sum(channels * 64 * 9 + 2 * 64 for channels in into) + 320 * 320 * 9 + 2 * 320)
    network = build_network("unet3plus", "resnet18")
    assert sum(p.numel() for p in network.decoder.parameters()) == sum(levels)
    assert sum(p.numel() for p in network.segmentation_head.parameters()) == 320 * 9 + 1


@pytest.mark.parametrize("depth", [3, 5])
def test_the_result_depends_on_every_scale_but_the_picture(depth):
    scales = [4, 6, 8, 10, 12][:depth]
    torch.manual_seed(0)
    decoder = FullScaleDecoder(scales, 5).eval()
    features = [
        torch.randn(1, channels, 64 >> scale, 64 >> scale, requires_grad=True)
        for scale, channels in enumerate([3, *scales])
    ]
    result = decoder(features)
    assert result.shape == (1, 5 * depth, 32, 32)
    needed = torch.autograd.grad(result.square().sum(), features, allow_unused=True)
    assert needed[0] is None
    assert all(gradient.abs().max() > 0 for gradient in needed[1:])


def test_a_scale_is_brought_to_a_level_at_the_same_place():
    """One bright cell in one map lights up the result around it, not elsewhere."""
    decoder = FullScaleDecoder([1, 1, 1], 1).eval()
    for parameter in decoder.parameters():
        torch.nn.init.constant_(parameter, 1.0 if parameter.ndim == 1 else 0.1)
    for module in decoder.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.zeros_(module.bias)
    for scale in (1, 2, 3):
        features = [torch.zeros(1, 1, 64 >> s, 64 >> s) for s in range(4)]
        row, column = 24 >> (scale - 1), 8 >> (scale - 1)  # of the map; 24 and 8 of the result, whose side is 32
        features[scale][0, 0, row, column] = 1
        result = decoder(features)[0].sum(0)
        rows, columns = torch.meshgrid(torch.arange(32.0), torch.arange(32.0), indexing="ij")
        centre = ((result * rows).sum() / result.sum(), (result * columns).sum() / result.sum())
        half = (2 ** (scale - 1) - 1) / 2
        assert centre[0].item() == pytest.approx(24 + half, abs=1.5)
        assert centre[1].item() == pytest.approx(8 + half, abs=1.5)

"""Pooling to cells at any size: the numbers of torch's adaptive pooling and of smp's networks."""

import pytest
import segmentation_models_pytorch as smp
import torch
from torch import nn

from robustvision.buildings.networks import build_network
from robustvision.buildings.networks.pyramid_pool import AdaptiveMean2d, free_the_size


@pytest.mark.parametrize("cells", [2, 3, 6])
@pytest.mark.parametrize("size", [(1, 1), (2, 5), (6, 6), (7, 13), (64, 40), (129, 6)])
def test_cells_are_those_of_adaptive_average_pooling(cells, size):
    values = torch.randn(2, 3, *size, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    values.requires_grad_()
    ours, theirs = AdaptiveMean2d(cells)(values), nn.AdaptiveAvgPool2d(cells)(values)
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-14)
    weights = torch.randn_like(ours)
    torch.testing.assert_close(
        torch.autograd.grad((ours * weights).sum(), values)[0],
        torch.autograd.grad((theirs * weights).sum(), values)[0],
        rtol=1e-12,
        atol=1e-14,
    )


@pytest.mark.parametrize(("decoder", "kind"), [("pspnet", smp.PSPNet), ("upernet", smp.UPerNet)])
def test_a_network_has_the_weights_and_the_numbers_of_the_original(decoder, kind):
    encoder = "tu-tf_mobilenetv3_small_075"
    torch.manual_seed(0)
    original = kind(encoder, encoder_weights=None)
    ours = build_network(decoder, encoder)
    ours.load_state_dict(original.state_dict())
    original.eval()
    ours.eval()
    with torch.no_grad():
        for size in ((128, 128), (96, 160)):
            image = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(1))
            torch.testing.assert_close(ours(image), original(image), rtol=1e-5, atol=1e-5)


def test_a_pooling_to_one_cell_and_one_without_a_size_stay():
    network = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.AdaptiveAvgPool2d((None, 4)), nn.AdaptiveAvgPool2d((3, 3)))
    free_the_size(network)
    assert [type(part) for part in network] == [nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool2d, AdaptiveMean2d]

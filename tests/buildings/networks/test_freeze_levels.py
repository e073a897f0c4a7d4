"""The levels of gradual fine-tuning: a partition of the weights, in the order in which the network needs them."""

import pytest
import torch

from robustvision.buildings.networks import ENCODERS, CompactUNet, build_network, freeze_levels
from robustvision.core.errors import InputError
from robustvision.core.training.hooks.freeze import freeze
from robustvision.core.training.hooks.gradual import frozen_below

FAMILIES = ["vgg19_bn", "tu-vgg19", "resnet18", "densenet121", "tu-mnasnet_small", "timm-tf_efficientnet_lite0"]
LISTED = [name for family in ENCODERS.values() for name in family]


def level_of_each(network, levels):
    """Parameter name to its levels, by the exact path and a dot, as freezing matches them."""
    return {
        name: [number for number, paths in enumerate(levels) for path in paths if name.startswith(f"{path}.")]
        for name, _ in network.named_parameters()
    }


def assert_partition(network, levels):
    assert all(len(found) == 1 for found in level_of_each(network, levels).values())
    assert all(levels)
    assert {path for level in levels for path in level} <= {name for name, _ in network.named_modules()}


def test_vgg_blocks_are_those_of_the_published_code():
    features = [f"encoder.features.{i}" for i in (28, 30, 32, 34, 19, 21, 23, 25, 10, 12, 14, 16, 5, 7, 0, 2)]
    assert freeze_levels(build_network("unet", "vgg19")) == (
        ("decoder.blocks", "segmentation_head"),
        ("decoder.center",),
        tuple(features[:4]),
        tuple(features[4:8]),
        tuple(features[8:12]),
        tuple(features[12:14]),
        tuple(features[14:]),
    )


@pytest.mark.parametrize("name", FAMILIES)
def test_every_weight_is_in_one_level(name):
    network = build_network("unet", name)
    levels = freeze_levels(network)
    assert_partition(network, levels)
    assert len(levels) == (7 if name.startswith("vgg") else 6)
    assert levels[0][-1] == "segmentation_head"


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in LISTED if name not in FAMILIES])
def test_every_weight_of_every_listed_encoder_is_in_one_level(name):
    network = build_network("unet", name)
    levels = freeze_levels(network)
    assert_partition(network, levels)
    assert len(levels) == {"vgg19": 7, "mit_b0": 5, "mit_b2": 5}.get(name, 6)


@pytest.mark.parametrize("decoder", ["unetplusplus", "unet3plus", "linknet", "pspnet", "fpn", "deeplabv3plus"])
def test_every_decoder_is_the_first_level(decoder):
    network = build_network(decoder, "resnet18")
    levels = freeze_levels(network)
    assert_partition(network, levels)
    assert levels[0] == ("decoder", "segmentation_head")
    assert len(levels) == (4 if decoder == "pspnet" else 6)  # PSPNet uses three stages
    assert levels[-1] == ("encoder.conv1", "encoder.bn1")


def test_manets_attention_at_the_bottom_is_a_level():
    network = build_network("manet", "resnet18")
    levels = freeze_levels(network)
    assert_partition(network, levels)
    assert levels[:2] == (("decoder.blocks", "segmentation_head"), ("decoder.center",))


def test_a_compact_network_has_a_level_for_each_of_its_own():
    network = CompactUNet((4, 8, 12, 16))
    levels = freeze_levels(network)
    assert_partition(network, levels)
    assert levels[1:] == (("encoder.3",), ("encoder.2",), ("encoder.1",), ("encoder.0",))


@pytest.mark.parametrize("name", ["resnet18", "tu-tf_efficientnet_lite0", "tu-hrnet_w18_small"])
def test_a_level_changes_its_feature_and_none_that_is_finer(name):
    torch.manual_seed(0)
    network = build_network("unet", name).eval()
    levels = freeze_levels(network)
    image = torch.randn(1, 3, 64, 64)
    blocks = levels[:0:-1]  # the stem first; its feature is number 1, the picture number 0
    with torch.no_grad():
        before = network.encoder(image)
        for number, level in enumerate(blocks, start=1):
            changed = build_network("unet", name).eval()
            changed.load_state_dict(network.state_dict())
            for path in level:
                for parameter in changed.get_submodule(path).parameters():
                    parameter.mul_(1.5)
            same = [torch.equal(a, b) for a, b in zip(before, changed.encoder(image), strict=True)]
            assert all(same[:number])
            assert not same[number]


def test_the_network_is_left_as_it_was():
    network = build_network("unet", "resnet18").train()
    network.encoder.layer1.eval()
    network.encoder.conv1.requires_grad_(False)
    modes = [module.training for module in network.modules()]
    state = {name: value.clone() for name, value in network.state_dict().items()}
    freeze_levels(network)
    assert [module.training for module in network.modules()] == modes
    assert [name for name, p in network.named_parameters() if not p.requires_grad] == ["encoder.conv1.weight"]
    assert all(p.grad is None for p in network.parameters())
    assert all(torch.equal(value, state[name]) for name, value in network.state_dict().items())


def test_freezing_below_a_level_leaves_the_rest_to_learn():
    network = build_network("unet", "vgg19_bn").train()
    frozen = freeze(network, frozen_below(freeze_levels(network), trainable=3))
    trainable = {name.rsplit(".", 1)[0] for name, p in network.named_parameters() if p.requires_grad}
    encoder = {int(name.split(".")[2]) for name in trainable if name.startswith("encoder")}
    assert min(encoder) == 40  # the first of block 4 with batch norms between
    assert all(not part.training for part in frozen)


def test_weights_that_no_path_separates_are_an_error():
    with pytest.raises(InputError, match="by hand"):
        freeze_levels(build_network("dpt", "tu-vit_tiny_patch16_224"))

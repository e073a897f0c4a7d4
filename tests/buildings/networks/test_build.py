"""The grid: every decoder and encoder is built offline, has the published size, and learns."""

import pickle
import socket

import pytest
import segmentation_models_pytorch as smp
import torch
from torch.nn.functional import binary_cross_entropy_with_logits

from robustvision.buildings.losses import bce_dice_loss
from robustvision.buildings.networks import DECODERS, ENCODERS, RENAMED, CompactUNet, build_network
from robustvision.core.errors import InputError

SIZES = [(name, size) for family in ENCODERS.values() for name, size in family.items()]
TRANSFORMER = "tu-vit_tiny_patch16_224"
OPTIMISERS = ("Adam", "SGD", "RMSprop", "Adadelta", "Adagrad", "Adamax", "NAdam")


def millions(module):
    return sum(parameter.numel() for parameter in module.parameters()) / 1e6


def encoder_for(decoder):
    return TRANSFORMER if decoder == "dpt" else "tu-tf_efficientnet_lite0"


def squares(side, batch=2, seed=0):
    """Bright squares on a dark ground, and where they are."""
    generator = torch.Generator().manual_seed(seed)
    target = torch.zeros(batch, 1, side, side)
    target[:, :, side // 4 : side // 2, side // 4 : 3 * side // 4] = 1
    return 2 * target - 1 + 0.3 * torch.randn(batch, 3, side, side, generator=generator), target


def learns_in_one_step(network, side):
    """Take one step of Adam; the stem and the head must move, by finite gradients."""
    image, target = squares(side)
    network.train()
    loss = bce_dice_loss(network(image), target)
    loss.backward()
    assert loss.isfinite()
    gradients = [p.grad for p in network.parameters() if p.grad is not None]
    assert all(gradient.isfinite().all() for gradient in gradients)
    before = [p.detach().clone() for p in network.parameters()]
    torch.optim.Adam(network.parameters(), lr=1e-3).step()
    after = list(network.parameters())
    assert not torch.equal(before[0], after[0])
    assert not torch.equal(before[-1], after[-1])
    assert all(p.isfinite().all() for p in after)


@pytest.fixture
def offline(monkeypatch):
    def refuse(*_args, **_kwargs):
        raise AssertionError("a network was opened")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def test_the_students_are_smaller_than_the_teacher_as_published():
    """Compression "up to 82 %": U-Net over EfficientNet-lite0 against U-Net over VGG-19."""
    teacher, lite, v2 = (
        millions(build_network("unet", encoder))
        for encoder in ("vgg19", "tu-tf_efficientnet_lite0", "tu-tf_efficientnetv2_b3")
    )
    assert teacher == pytest.approx(29.06, abs=0.005)
    assert lite == pytest.approx(5.20, abs=0.005)
    assert 1 - lite / teacher == pytest.approx(0.821, abs=0.0005)
    assert 1 - v2 / teacher == pytest.approx(0.498, abs=0.0005)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "size"), SIZES, ids=[name for name, _ in SIZES])
def test_every_encoder_is_built_offline_has_its_size_and_learns(name, size, offline):
    torch.manual_seed(0)
    network = build_network("unet", name)
    assert millions(network.encoder) == pytest.approx(size.encoder_m, abs=0.0051)
    assert millions(network) == pytest.approx(size.unet_m, abs=0.0051)
    assert network.multiple == 32
    learns_in_one_step(network, 64)


@pytest.mark.slow
@pytest.mark.parametrize("decoder", DECODERS)
def test_every_decoder_is_built_offline_and_learns(decoder, offline):
    torch.manual_seed(0)
    network = build_network(decoder, encoder_for(decoder))
    learns_in_one_step(network, network.fixed_size_px or 128)


@pytest.mark.slow
@pytest.mark.parametrize("decoder", [name for name in DECODERS if name != "dpt"])
@pytest.mark.parametrize("depth", [3, 4, 5])
def test_logits_have_the_size_of_the_picture_at_every_depth_and_multiple(decoder, depth):
    channels = {"decoder_channels": (32, 16, 16, 8, 8)[:depth]} if decoder in ("unet", "unetplusplus", "manet") else {}
    network = build_network(decoder, "tu-mnasnet_small", classes=2, encoder_depth=depth, **channels).eval()
    least = 128 // network.multiple if decoder == "pan" else 3
    height, width = least * network.multiple, (least + 2) * network.multiple
    with torch.no_grad():
        assert network(torch.zeros(1, 3, height, width)).shape == (1, 2, height, width)


def test_a_network_has_the_parts_that_others_rely_on(offline):
    network = build_network("fpn", "resnet18", in_channels=4, encoder_depth=4)
    assert (network.multiple, network.fixed_size_px) == (16, None)
    parts = {name.split(".")[0] for name, _ in network.named_parameters()}
    assert parts == {"encoder", "decoder", "segmentation_head"}
    with torch.no_grad():
        assert network.eval()(torch.zeros(1, 4, 48, 64)).shape == (1, 1, 48, 64)


@pytest.mark.parametrize("name", OPTIMISERS)
def test_optimisers_are_a_name_in_the_configuration(name):
    """The authors' factory: torch's defaults, only the learning rate is set."""
    torch.manual_seed(0)
    network, (image, target) = CompactUNet((6, 12, 16)), squares(32)
    optimiser = getattr(torch.optim, name)(network.parameters(), lr=0.01)
    losses = []
    for _ in range(6):
        optimiser.zero_grad()
        loss = binary_cross_entropy_with_logits(network(image), target)
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]


@pytest.mark.parametrize(
    ("spelling", "kind"),
    [("U-Net", smp.Unet), ("U-Net++", smp.UnetPlusPlus), ("DeepLabv3+", smp.DeepLabV3Plus), ("LinkNet", smp.Linknet)],
)
def test_the_papers_spelling_of_a_decoder_is_understood(spelling, kind):
    assert type(build_network(spelling, "tu-tf_mobilenetv3_small_075")) is kind


@pytest.mark.parametrize(
    ("decoder", "encoder", "words"),
    [
        ("unnet", "resnet18", ["unnet", "did you mean unet?"]),
        ("unet", "resnet19", ["resnet19", "did you mean resnet18?"]),
        ("unet", "tu-mnasnet_smal", ["did you mean tu-mnasnet_small?"]),
        ("unet", "timm-gernet_xx", ["timm-gernet_xx", "not known"]),
        ("unet", "timm-efficientnet-lite0", ["timm-tf_efficientnet_lite0"]),
        ("unet", "tu-resnest18", ["tu-resnest14d"]),
        ("linknet", "mit_b0", ["empty feature at stride 2", "unet"]),
        ("unetplusplus", "mit_b2", ["empty feature at stride 2"]),
        ("unet3plus", "mit_b0", ["empty feature at stride 2"]),
        ("unet3plus", "tu-convnext_atto", ["no feature at stride 2"]),
        ("deeplabv3plus", "vgg19", ["cannot be built", "dilated"]),
        ("pan", "tu-vgg19", ["cannot be built", "output stride"]),
        ("dpt", "resnet18", ["cannot be built", "tu-"]),
    ],
)
def test_names_that_do_not_work_say_what_would(decoder, encoder, words):
    with pytest.raises(InputError) as caught:
        build_network(decoder, encoder)
    assert all(word in str(caught.value) for word in words)


@pytest.mark.parametrize("name", sorted(set(RENAMED.values())))
def test_the_new_name_of_an_old_one_works(name):
    with torch.device("meta"):
        assert millions(build_network("unet", name)) > 1


@pytest.mark.parametrize("name", ["timm-mobilenetv3_large_100", "timm-resnest14d", "timm-gernet_s"])
def test_old_names_that_still_resolve_are_taken(name):
    with torch.device("meta"):
        assert build_network("fpn", name).multiple == 32


@pytest.mark.parametrize(
    "options", [{"encoder_weights": "imagenet"}, {"activation": "sigmoid"}, {"aux_params": {}}, {"upsampling": 2}]
)
def test_downloads_and_other_outputs_are_refused(options, offline):
    with pytest.raises(InputError, match="not offered"):
        build_network("unet", "resnet18", **options)


@pytest.mark.parametrize("encoder", ["resnet18", "tu-resnet18"])
def test_an_option_that_the_decoder_does_not_take_is_named(encoder):
    """smp drops one without a word where the encoder is its own."""
    with pytest.raises(InputError, match="decoder_chanels"):
        build_network("unet", encoder, decoder_chanels=(64, 32, 16, 8, 4))


def test_an_option_that_does_not_fit_another_is_explained():
    with pytest.raises(InputError, match=r"depth is 4.*5 blocks"):
        build_network("unet", "resnet18", encoder_depth=4)


class TestWeights:
    ENCODER = "tu-tf_mobilenetv3_small_075"

    def test_of_a_network_or_of_its_encoder(self, tmp_path):
        trained = build_network("fpn", self.ENCODER)
        torch.save(trained.state_dict(), tmp_path / "whole.pt")
        torch.save(trained.encoder.state_dict(), tmp_path / "encoder.pt")
        whole = build_network("fpn", self.ENCODER, weights=tmp_path / "whole.pt")
        part = build_network("unet", self.ENCODER, weights=tmp_path / "encoder.pt")
        assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), trained.parameters(), strict=True))
        assert all(
            torch.equal(a, b) for a, b in zip(part.encoder.parameters(), trained.encoder.parameters(), strict=True)
        )

    def test_of_another_network_are_refused(self, tmp_path):
        torch.save(build_network("fpn", self.ENCODER).state_dict(), tmp_path / "fpn.pt")
        with pytest.raises(InputError, match="another network"):
            build_network("unet", self.ENCODER, weights=tmp_path / "fpn.pt")
        torch.save(build_network("fpn", self.ENCODER).encoder.state_dict(), tmp_path / "encoder.pt")
        with pytest.raises(InputError, match="another encoder"):
            build_network("unet", "tu-tf_mobilenetv3_small_100", weights=tmp_path / "encoder.pt")

    def test_a_file_that_is_none_is_refused_and_runs_nothing(self, tmp_path):
        class Trap:
            def __reduce__(self):
                return (open, (str(tmp_path / "sprung"), "w"))

        (tmp_path / "trap.pt").write_bytes(pickle.dumps(Trap()))
        torch.save([1, 2], tmp_path / "list.pt")
        for name, word in (("trap.pt", "cannot|can be read"), ("list.pt", "no state dict"), ("none.pt", "can be read")):
            with pytest.raises(InputError, match=word):
                build_network("unet", self.ENCODER, weights=tmp_path / name)
        assert not (tmp_path / "sprung").exists()

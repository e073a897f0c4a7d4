"""The graph that leaves torch: the same logits in onnxruntime at sizes that were not traced."""

import numpy as np
import pytest
import torch

from robustvision.buildings.contract import IMAGE, LOGITS, TASK
from robustvision.buildings.graphs import same_map, segmentation_graph
from robustvision.buildings.networks import DECODERS, CompactUNet, build_network
from robustvision.core.errors import ExportError, InputError
from robustvision.core.export import export_model
from robustvision.core.export.onnx_graph import to_onnx
from robustvision.core.export.self_test import open_session
from robustvision.core.runtime import open_model

LIGHT = "tu-tf_efficientnet_lite0"


def settled(network, side=128):
    """Give the batch norms statistics of their own: in a fresh network they do nothing that could be got wrong."""
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 0.5
    with torch.no_grad():
        network.train()(picture(4, side, side, seed=9))
    return network.eval()


def picture(batch, height, width, seed=0):
    return torch.randn(batch, 3, height, width, generator=torch.Generator().manual_seed(seed))


def assert_same(session, network, batch, height, width):
    image = picture(batch, height, width)
    with torch.no_grad():
        wanted = network(image).numpy()
    (found,) = session.run([LOGITS], {IMAGE: image.numpy()})
    assert found.shape == (batch, 1, height, width)
    assert np.abs(wanted).max() > 1e-2
    figures = same_map([wanted], [found])
    assert figures.ok, figures.failure


@pytest.mark.parametrize("kind", ["compact", "unet"])
def test_a_file_runs_at_sizes_that_were_not_traced(kind, tmp_path):
    torch.manual_seed(0)
    network = settled(CompactUNet((4, 8, 12)) if kind == "compact" else build_network("unet", "tu-tinynet_e"), 64)
    report = export_model(tmp_path / "m.onnx", {"main": segmentation_graph(network, 64)}, task=TASK, name="test")
    model = open_model(tmp_path / "m.onnx", task=TASK)
    for batch, height, width in ((1, 96, 160), (5, 32, 64), (2, network.multiple, 3 * network.multiple)):
        image = picture(batch, height, width)
        with torch.no_grad():
            wanted = network(image).numpy()
        found = model.main.run({IMAGE: image.numpy()})[LOGITS]
        np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=1e-3)
    assert report.parity_max_abs < 1e-2


@pytest.mark.slow
@pytest.mark.parametrize("decoder", [name for name in DECODERS if name != "dpt"])
def test_every_decoder_leaves_with_a_free_size(decoder):
    torch.manual_seed(0)
    network = settled(build_network(decoder, LIGHT))
    session = open_session(to_onnx("main", segmentation_graph(network, 256)))
    assert_same(session, network, 2, 128, 128)
    assert_same(session, network, 1, *((160, 192) if decoder == "pan" else (96, 160)))


@pytest.mark.slow
def test_a_transformer_leaves_with_its_own_size():
    torch.manual_seed(0)
    network = settled(build_network("dpt", "tu-vit_tiny_patch16_224", img_size=64), 64)
    with pytest.raises(InputError, match="64 alone"):
        segmentation_graph(network, 128)
    session = open_session(to_onnx("main", segmentation_graph(network, 64)))
    assert_same(session, network, 3, 64, 64)


@pytest.mark.slow
@pytest.mark.parametrize("decoder", ["unet", "pspnet"])
def test_dynamo_leaves_the_size_free_too(decoder):
    """PSPNet is the one that both exporters fix in its original form."""
    torch.manual_seed(0)
    network = settled(build_network(decoder, "resnet18"))
    session = open_session(to_onnx("main", segmentation_graph(network, 128, exporter="dynamo")))
    assert_same(session, network, 2, 128, 128)
    assert_same(session, network, 1, 96, 160)


def test_a_tile_that_the_network_does_not_take_is_named():
    network = CompactUNet((4, 8, 12)).eval()
    with pytest.raises(InputError, match="multiples of 4"):
        segmentation_graph(network, 30)
    assert segmentation_graph(network, 4).example_inputs[0].shape == (2, 3, 4, 4)


def test_a_network_in_training_is_refused():
    with pytest.raises(ExportError, match="training mode"):
        segmentation_graph(CompactUNet((4, 8)).train(), 32)


class TestSameMap:
    EXPECTED = np.array([[[[3.0, -0.5, 0.0005, 0.002]]]], np.float32)

    def judge(self, *changes):
        actual = self.EXPECTED.copy()
        for place, value in changes:
            actual[..., place] = value
        return same_map([self.EXPECTED], [actual])

    def test_rounding_is_accepted(self):
        assert self.judge((0, 3.002), (1, -0.501)).ok

    def test_a_pixel_that_is_almost_undecided_may_change_sides(self):
        assert self.judge((2, -0.0005)).ok

    def test_another_may_not(self):
        figures = self.judge((3, -0.0005))
        assert not figures.ok
        assert "1 pixels change sides" in figures.failure

    def test_a_large_difference_is_refused(self):
        assert not self.judge((0, 3.01)).ok

    def test_where_logits_are_a_thousand_so_is_rounding(self):
        expected = self.EXPECTED * np.float32(1000)
        expected[..., 2] = 0.05
        actual = expected.copy()
        actual[..., 2] = -0.05
        assert same_map([expected], [actual]).ok

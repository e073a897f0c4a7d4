"""The model in training: its three modes, and the networks' own words on size."""

import pytest
import torch

from robustvision.buildings.contract import Preprocessing
from robustvision.buildings.evaluator import BuildingMetric
from robustvision.buildings.losses import BCEDiceLoss
from robustvision.buildings.model import BuildingModel
from robustvision.buildings.networks import CompactUNet
from robustvision.core.errors import InputError


@pytest.fixture
def model():
    torch.manual_seed(0)
    return BuildingModel(CompactUNet((4, 8)), BCEDiceLoss())


def test_pictures_are_normalised_as_on_the_edge(model):
    image = torch.randint(0, 256, (2, 3, 16, 16), dtype=torch.uint8)
    model.eval()
    given = Preprocessing(tile_px=16, stride_px=16, multiple=2).normalise(image.numpy().transpose(0, 2, 3, 1))
    torch.testing.assert_close(model(image), model.network(torch.from_numpy(given)), atol=1e-5, rtol=1e-5)


def test_the_loss_is_that_of_the_logits(model):
    image, label = torch.randint(0, 256, (2, 3, 16, 16)), torch.randint(0, 2, (2, 1, 16, 16)).float()
    model.eval()
    expected = BCEDiceLoss()(model(image), label, valid=torch.ones_like(label))
    assert torch.equal(model(image, label, torch.ones_like(label), mode="loss")["loss"], expected)


def test_a_mode_that_needs_labels_says_so(model):
    with pytest.raises(InputError, match="needs the label"):
        model(torch.zeros(1, 3, 16, 16), mode="loss")


def test_validation_counts_all_pixels_together_and_only_valid_ones():
    metric = BuildingMetric()
    first = {"probability": torch.tensor([[0.9, 0.5, 0.1]]), "label": torch.tensor([[1.0, 0, 1]])}
    second = {"probability": torch.tensor([[0.9, 0.9, 0.1]]), "label": torch.tensor([[1.0, 1, 1]])}
    metric.process({}, [first | {"valid": torch.ones(1, 3)}, second | {"valid": torch.tensor([[1.0, 0, 0]])}])
    found = metric.compute_metrics(metric.results)  # TP 2, FP 1, FN 1
    assert found == pytest.approx({"f1": 2 / 3, "iou": 0.5, "precision": 2 / 3, "recall": 2 / 3})


@pytest.mark.parametrize("widths", [(4, 8), (4, 8, 12), (8, 16, 32, 48)])
def test_the_compact_network_keeps_the_size_of_multiples(widths):
    network = CompactUNet(widths)
    assert network.multiple == 2 ** (len(widths) - 1)
    assert network(torch.zeros(1, 3, 3 * network.multiple, network.multiple)).shape[2:] == (
        3 * network.multiple,
        network.multiple,
    )


def test_a_network_of_one_level_is_refused():
    with pytest.raises(InputError, match="at least two levels"):
        CompactUNet((8,))

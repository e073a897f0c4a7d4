import pytest
import torch
from mmengine.logging import MessageHub
from mmengine.registry import MODELS
from torch import nn

from robustvision.core.errors import InputError
from robustvision.core.training import list_recipes
from robustvision.rppg.evaluator import PulseMetric
from robustvision.rppg.model import PulseModel
from robustvision.rppg.training import PACKAGE, load_pulse_recipe


class Mean(nn.Module):
    def forward(self, frames):
        return frames.float().mean(dim=(1, 3, 4))


class Told(nn.Module):
    def forward(self, prediction, bvp, heart_rate_bpm, *, epoch, epochs):
        return {"loss": prediction.sum() * 0 + epoch, "epochs": torch.tensor(float(epochs))}


def test_every_recipe_is_complete_and_its_model_can_be_built():
    assert list_recipes(PACKAGE) == ["paper", "small", "tiny"]
    for name in list_recipes(PACKAGE):
        config = load_pulse_recipe(name)
        with torch.device("meta"):
            model = MODELS.build(config.model)
        count = sum(parameter.numel() for parameter in model.parameters())
        assert (780_000 < count < 880_000) == (name == "paper")
        assert config.train_dataloader.dataset.size_px == config.val_dataloader.dataset.size_px


def test_the_loss_is_told_the_epoch():
    model = PulseModel(Mean(), Told())
    frames, bvp = torch.zeros(2, 3, 8, 16, 16), torch.zeros(2, 8)
    hub = MessageHub.get_current_instance()
    hub.update_info("epoch", 3)
    hub.update_info("max_epochs", 12)
    try:
        outputs = model(frames, bvp, torch.full((2,), 60.0), mode="loss")
    finally:
        hub.pop_info("epoch")
        hub.pop_info("max_epochs")
    assert outputs["loss"] == 3
    assert outputs["epochs"] == 12


def test_modes_without_their_inputs_are_refused():
    with pytest.raises(InputError, match="mode 'loss' needs the reference"):
        PulseModel(Mean(), Told())(torch.zeros(1, 3, 8, 16, 16), mode="loss")
    assert PulseModel(Mean(), Told())(torch.zeros(1, 3, 8, 16, 16)).shape == (1, 8)


def test_the_metric_reads_the_windows_that_the_model_predicts():
    time_s = torch.arange(300) / 30
    waves = [torch.sin(2 * torch.pi * rate / 60 * time_s) for rate in (60.0, 84.0)]
    metric = PulseMetric()
    metric.process({}, [{"prediction": waves[0], "bvp": waves[0]}, {"prediction": waves[0], "bvp": waves[1]}])
    measured = metric.compute_metrics(metric.results)
    assert measured["mae"] == pytest.approx(12.0, abs=0.3)
    assert measured["coverage"] == 1


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"kind": "pure"}, "--kind and --split need --data"),
        ({"split": "pure_validated"}, "--kind and --split need --data"),
        ({"data": "/nowhere", "kind": "pure"}, "is not a folder: give the root of the data set"),
    ],
)
def test_data_by_halves_are_refused(given, message, tmp_path):
    if "data" in given:
        given = {**given, "data": tmp_path / "nowhere"}
    with pytest.raises(InputError, match=message):
        load_pulse_recipe("tiny", **given)


def test_own_data_take_the_place_of_the_rendered_ones(tmp_path):
    config = load_pulse_recipe("tiny", data=tmp_path, kind="ubfc", split="ubfc_validated")
    train, validation = config.train_dataloader.dataset, config.val_dataloader.dataset
    assert (train.kind, train.part, validation.part) == ("ubfc", "train", "validation")
    assert train.split == validation.split == "ubfc_validated"
    assert train.frames_per_sample == 160
    assert "num_recordings" not in train

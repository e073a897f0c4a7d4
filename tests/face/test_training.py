import json

import pytest
import torch
from mmengine.registry import MODELS

from robustvision.core.errors import InputError
from robustvision.core.training import list_recipes, read_checkpoint
from robustvision.face.export import export_run
from robustvision.face.synthetic import synthesize
from robustvision.face.training import PACKAGE, build_training_set, load_face_recipe, train_face


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    folder = tmp_path_factory.mktemp("faces") / "train"
    synthesize(folder, identities=5, images_per_identity=2, workers=1, quiet=True)
    return folder


@pytest.mark.parametrize(
    "options",
    [
        ["model.loss.type=robustvision.core.losses.ArcFaceLoss", "model.loss.margin=0.3"],
        ["model.loss.type=robustvision.core.losses.NormalizedSoftmaxLoss", "model.loss.scale=16"],
        [
            "model.loss.type=robustvision.core.losses.AutoSFaceLoss",
            "model.loss.num_classes=1",
            "model.loss.embedding_size=128",
        ],
        ["model.loss.type=robustvision.core.losses.GCELoss", "model.loss.q=0.5", "model.head.scale=16"],
        ["model.loss.type=robustvision.core.losses.ALDRLoss", "model.loss.lam0=1.0", "model.head.scale=16"],
        ["model.loss.type=robustvision.core.losses.BiTemperedLoss", "model.head.learn_scale=True"],
        ["model.backbone.type=robustvision.face.networks.MobileFaceNet"],
    ],
)
def test_any_loss_and_network_can_be_named_and_fits_the_data(tree, options):
    config = load_face_recipe("tiny", data=tree, cfg_options=options)
    dataset = build_training_set(config)
    model = MODELS.build(config.model)
    images = torch.stack([dataset[place]["image"] for place in range(4)])
    labels = torch.tensor([dataset[place]["label"] for place in range(4)])
    outputs = model(images, labels, torch.arange(4), mode="loss")
    assert model.head.centres.shape == (5, 128)
    assert torch.isfinite(outputs["loss"])


def test_every_recipe_is_complete_and_its_model_can_be_built():
    assert list_recipes(PACKAGE) == ["paper", "small", "tiny"]
    for name in list_recipes(PACKAGE):
        config = load_face_recipe(name)
        with torch.device("meta"):
            model = MODELS.build(config.model)
        assert model.head.centres.shape == (config.model.head.num_classes, config.embedding_size)
        assert config.model.loss.k == 80


def test_own_data_without_validation_trains_without_it(tree):
    config = load_face_recipe("tiny", data=tree)
    assert config.get("val_dataloader") is None
    assert config.default_hooks.checkpoint.save_best is None


def test_paths_that_are_not_there_are_named(tree, tmp_path):
    for paths in ({"data": tmp_path / "none"}, {"data": tree, "val_data": tmp_path / "none"}):
        with pytest.raises(InputError, match="none is not there"):
            load_face_recipe("tiny", **paths)


@pytest.mark.parametrize(
    "loss",
    [
        ["model.loss.type=robustvision.core.losses.GCELoss", "model.loss.q=0.7"],
        ["model.loss.type=robustvision.core.losses.ALDRLoss", "model.loss.lam0=1.0"],
    ],
    ids=["gce", "aldr"],
)
def test_a_face_recipe_trains_with_a_loss_of_the_core(tree, tmp_path, loss):
    """Through the file formats: a checkpoint with what the loss remembers, and an export."""
    options = [*loss, "model.head.scale=16", "train_cfg.max_epochs=2", "train_dataloader.batch_size=5"]
    options += ["param_scheduler.0.end=1", "param_scheduler.1.end=2"]
    paths = {"data": tree, "val_data": tree, "work_dir": tmp_path / "run", "cfg_options": options, "quiet": True}
    result = train_face("tiny", **paths)
    log = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    values = [line["loss"] for line in log if line["kind"] == "train"]
    assert len(values) == 4
    weights = read_checkpoint(result["checkpoint"])["state_dict"]
    if "ALDR" in loss[0]:
        assert weights["loss.state.visited"].all()
        assert ((weights["loss.state.lam"] > 0.5) & (weights["loss.state.lam"] < 1.0)).all()
    exported = export_run(tmp_path / "run", tmp_path / "face.onnx", quiet=True)
    assert exported["parity_max_abs"] < 1e-3

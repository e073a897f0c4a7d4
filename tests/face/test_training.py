import pytest
import torch
from mmengine.registry import MODELS

from robustvision.core.errors import InputError
from robustvision.core.training import list_recipes
from robustvision.face.synthetic import synthesize
from robustvision.face.training import PACKAGE, build_training_set, load_face_recipe


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
        ["model.backbone.type=robustvision.face.networks.MobileFaceNet"],
    ],
)
def test_any_loss_and_network_can_be_named_and_fits_the_data(tree, options):
    config = load_face_recipe("tiny", data=tree, cfg_options=options)
    dataset = build_training_set(config)
    model = MODELS.build(config.model)
    images = torch.stack([dataset[place]["image"] for place in range(4)])
    labels = torch.tensor([dataset[place]["label"] for place in range(4)])
    outputs = model(images, labels, mode="loss")
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

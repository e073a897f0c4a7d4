"""The whole way: train, adapt, export, measure; and what a half-given command is told."""

import json

import numpy as np
import pytest
from mmengine.registry import DATASETS, MODELS
from typer.testing import CliRunner

from robustvision.buildings.cli import app
from robustvision.buildings.data import Tile, synthetic_dataset
from robustvision.buildings.evaluate import evaluate_data, outlines, polygon_scores
from robustvision.buildings.evaluation import evaluate_tiles
from robustvision.buildings.export import export_run, settings_of
from robustvision.buildings.models import shipped_model
from robustvision.buildings.pipeline import BuildingMapper
from robustvision.buildings.synthetic import write_city
from robustvision.buildings.training import load_building_recipe, train_buildings
from robustvision.core.errors import InputError
from robustvision.core.runtime.session import open_model

SHORT = [
    "train_dataloader.dataset.count=16",
    "train_dataloader.dataset.size_px=64",
    "clean_dataset.size_px=64",
    "val_dataloader.dataset.count=8",
    "val_dataloader.dataset.size_px=64",
    "adaptation.noisy_epochs=1",
    "adaptation.clean_epochs=1",
    "adaptation.clean_steps_per_epoch=2",
]


@pytest.fixture(scope="module")
def finished_run(tmp_path_factory):
    work_dir = tmp_path_factory.mktemp("buildings") / "run"
    result = train_buildings("tiny", work_dir=work_dir, seed=3, cfg_options=SHORT, quiet=True)
    return work_dir, result


def test_training_tells_what_it_did(finished_run):
    work_dir, result = finished_run
    assert (result["method"], result["clean_steps"], result["steps"]) == ("sda", 2, 4)
    assert set(result["metrics"]) == {"val/f1", "val/iou", "val/precision", "val/recall"}
    assert "labels of the large set" in (work_dir / "report.html").read_text(encoding="utf-8")


def test_a_run_leaves_as_one_file_that_says_where_it_comes_from(finished_run, tmp_path):
    exported = export_run(finished_run[0], tmp_path / "m.onnx", quiet=True)
    model = open_model(exported["model"])
    assert model.self_test().ok
    assert model.manifest.training["method"] == "sda"
    assert model.manifest.training["trained_on"] == "synthetic"
    assert (model.manifest.preprocessing["target"], model.manifest.preprocessing["tile_px"]) == ("roof", 256)
    measured = model.manifest.metrics["validation"]["f1"]
    assert measured == pytest.approx(finished_run[1]["metrics"]["val/f1"], abs=0.02)  # crops against whole tiles


def test_a_folder_without_a_finished_run_is_refused(tmp_path):
    with pytest.raises(InputError, match="no finished training"):
        export_run(tmp_path, tmp_path / "m.onnx")
    with pytest.raises(InputError, match=r"must end in \.onnx"):
        export_run(tmp_path, tmp_path / "model")
    (tmp_path / "weights.pth").touch()
    with pytest.raises(InputError, match="no finished training"):
        export_run(tmp_path / "weights.pth", tmp_path / "m.onnx")


def test_a_folder_that_cannot_be_used_is_told_before_data_are_made(tmp_path, monkeypatch):
    monkeypatch.setattr(DATASETS, "build", lambda config: pytest.fail("data were made"))
    (tmp_path / "file").touch()
    for folder, told in ((tmp_path, "file"), (tmp_path / "file", "cannot use")):
        with pytest.raises(InputError, match=told):
            train_buildings("tiny", work_dir=folder, quiet=True)


def test_an_unknown_method_is_named(tmp_path):
    with pytest.raises(InputError, match="method is 'sdaa': expected noisy-only"):
        load_building_recipe("tiny", method="sdaa", images=tmp_path, labels=tmp_path)


@pytest.mark.parametrize(
    ("choices", "told"),
    [
        ({"images": True}, "--images and --labels belong together"),
        ({"clean_images": True, "clean_labels": True}, "without the large set"),
        ({"data": True}, "give --data with --kind"),
        ({"images": True, "labels": True}, "method sda needs clean labels"),
        ({"images": True, "labels": "missing"}, "missing does not exist"),
    ],
)
def test_data_given_by_halves_are_named(choices, told, tmp_path):
    given = {name: tmp_path if value is True else tmp_path / str(value) for name, value in choices.items()}
    with pytest.raises(InputError, match=told):
        load_building_recipe("tiny", **given)


def test_the_users_images_take_the_place_of_rendered_ones(tmp_path):
    config = load_building_recipe("paper", images=tmp_path, labels=tmp_path, method="noisy-only", target="footprint")
    assert config.train_dataloader.dataset.root == str(tmp_path)
    assert config.train_dataloader.dataset.target == "footprint"
    assert (config.train_dataloader.dataset.part, config.val_dataloader.dataset.part) == ("train", "validation")
    assert "augmentation" in config.train_dataloader.dataset


def test_the_shipped_model_sees_roofs_of_every_class():
    tiles = synthetic_dataset(16, label="roof", split="test", seed=5, workers=1, quiet=True).tiles
    mapper = BuildingMapper(shipped_model())
    evaluation = evaluate_tiles({"small": lambda tile: mapper.probabilities(tile.image)}, tiles, quiet=True)
    assert evaluation.rows()[0]["f1"] > 0.65  # 0.78 on 320 tiles
    assert {row["height_class"] for row in evaluation.rows("height_class")} == {"low", "mid", "high", "skyscraper"}
    with pytest.raises(InputError, match="does not say its weather"):
        evaluation.rows("weather")


def test_a_perfect_prediction_has_perfect_outlines():
    tiles = synthetic_dataset(4, label="roof", split="test", seed=6, workers=1, quiet=True).tiles
    scores = polygon_scores([tile.label.astype(np.float32) for tile in tiles], tiles)
    assert (scores["spacenet_f1"], scores["ap"], scores["c_iou"]) == (1.0, 1.0, 1.0)
    assert scores["tangent_angle_deg"] == pytest.approx(0, abs=1e-6)


def test_an_outline_has_its_own_mean_probability():
    mask = np.zeros((8, 8), bool)
    mask[1:3, 1:3], mask[5:7, 4:8] = True, True
    probability = np.where(mask, 0.5, 0.0)
    probability[1:3, 1:3] = 0.9
    (first, a), (second, b) = sorted(outlines(mask, probability), key=lambda one: one[0].area)
    assert (first.area, second.area, round(a, 6), round(b, 6)) == (4, 8, 0.9, 0.5)


def test_the_mean_leaves_out_another_building_in_the_bounding_box():
    mask = np.zeros((12, 12), bool)
    mask[0, :], mask[:, 0], mask[5:9, 5:9] = True, True, True
    probability = np.where(mask, 0.6, 0.0)
    probability[5:9, 5:9] = 1.0
    assert sorted(round(score, 6) for _, score in outlines(mask, probability)) == [0.6, 1.0]
    assert outlines(np.zeros((4, 4), bool), np.zeros((4, 4))) == []


def test_outlines_where_nothing_is_known_count_nowhere():
    label = np.zeros((32, 32), np.uint8)
    label[4:12, 4:12] = label[20:28, 20:28] = 1
    valid = np.ones((32, 32), bool)
    valid[16:] = False
    found = np.zeros((32, 32), np.float32)
    found[4:12, 4:12] = found[20:28, 4:12] = 1  # the second where nobody knows
    tile = Tile("one", np.zeros((32, 32, 3), np.uint8), label, valid)
    scores = polygon_scores([found], [tile])
    assert (scores["spacenet_f1"], scores["ap"], scores["c_iou"]) == (1.0, 1.0, 1.0)


def test_evaluation_writes_its_tables(tmp_path, monkeypatch):
    monkeypatch.setattr("robustvision.buildings.evaluate.TEST_TILES", 8)
    result = evaluate_data(None, work_dir=tmp_path / "e", quiet=True)
    assert set(result["tables"]) == {"pixels", "pixels by height class", "buildings and polygons"}
    assert json.loads((tmp_path / "e" / "metrics.json").read_text())["sha256"] == result["sha256"]
    with pytest.raises(InputError, match="--data with --kind"):
        evaluate_data(None, data=tmp_path, work_dir=tmp_path / "f")


def test_an_evaluation_that_cannot_be_written_is_told_before_data_are_made(tmp_path, monkeypatch):
    monkeypatch.setattr("robustvision.buildings.evaluate._tiles", lambda *_: pytest.fail("tiles were made"))
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(InputError, match="cannot make the folder"):
        evaluate_data(None, work_dir=tmp_path / "file", quiet=True)


@pytest.mark.parametrize("option", [("--count", "3"), ("--label", "noisy")])
def test_a_city_does_not_ignore_what_it_cannot_do(tmp_path, option):
    done = CliRunner().invoke(app, ["synthesize", str(tmp_path / "city"), *option])
    assert isinstance(done.exception, InputError)
    assert "another --layout" in str(done.exception)
    assert not (tmp_path / "city").exists()


def test_the_command_line_maps_many_rasters_and_tells_which_failed(tmp_path):
    run = CliRunner()
    for name in ("a", "b"):
        made = run.invoke(app, ["synthesize", str(tmp_path / name), "--size", "160", "--json"])
        assert made.exit_code == 0, made.output
        (tmp_path / name / "image.tif").rename(tmp_path / f"{name}.tif")
    (tmp_path / "c.tif").write_bytes(b"no raster")
    rasters = [str(tmp_path / f"{name}.tif") for name in "abc"]
    done = run.invoke(app, ["predict", *rasters, "--out", str(tmp_path / "maps"), "--json"])
    told = json.loads(done.stdout)
    assert done.exit_code == 1
    assert told["failed"] == [rasters[2]]
    assert sorted(file.name for file in (tmp_path / "maps").glob("*.gpkg")) == ["a.gpkg", "b.gpkg"]


def test_the_scale_of_the_tiles_leaves_with_the_model():
    config = load_building_recipe("tiny")
    model = MODELS.build(config.model)
    tile = Tile("t", np.zeros((8, 8, 3), np.uint8), np.zeros((8, 8), np.uint8), gsd_m=0.5, scale=((0.0, 900.0),) * 3)
    settings = settings_of(model, config, [tile])
    assert (settings.scale, settings.gsd_m, settings.multiple) == (tile.scale, (0.5, 0.5), 8)


def test_one_height_for_all_or_a_file_of_heights(tmp_path):
    made = write_city(tmp_path / "city", size_px=160, seed=3)
    run, view = CliRunner(), ["--target", "footprint", "--off-nadir", "15", "--azimuth", "40"]
    out, known = tmp_path / "map.geojson", ["--heights", str(made.footprints)]
    for heights in (["--default-height", "8"], [*known, "--default-height", "8"]):
        done = run.invoke(app, ["predict", str(made.image), "--out", str(out), *view, *heights, "--json"])
        assert json.loads(done.stdout)["target"] == "footprint", done.output
    args = ["predict", str(made.image), "--out", str(out), "--target", "footprint", *known]
    done = run.invoke(app, args)
    assert "give --off-nadir and --azimuth" in str(done.exception)


def test_a_kind_without_its_folder_is_not_taken_for_rendered_scenes(tmp_path):
    with pytest.raises(InputError, match="--data with --kind"):
        evaluate_data(None, kind="whu", work_dir=tmp_path)

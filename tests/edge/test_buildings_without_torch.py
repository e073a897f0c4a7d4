"""The map of buildings where there is no torch: shipped model, commands, errors that say why."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from pyogrio.raw import read

from robustvision.buildings import BuildingMapper
from robustvision.buildings.metrics import count_pixels
from robustvision.buildings.models import shipped_model
from robustvision.buildings.synthetic import write_city
from robustvision.core.errors import MissingExtraError

SCRIPTS = Path(sys.executable).parent


def command(*args):
    return subprocess.run([SCRIPTS / args[0], *map(str, args[1:])], capture_output=True, text=True, check=False)


def test_a_rendered_city_becomes_a_map(tmp_path):
    city = write_city(tmp_path / "city", size_px=320, seed=3)
    mapper = BuildingMapper()
    counts = count_pixels(mapper.probabilities(city.scene.image) >= 0.5, city.scene.roof)
    assert counts.f1 > 0.6  # 0.77 on this city; 0.50 to 0.81 on ten
    result = mapper.predict(city.image, out=tmp_path / "map.gpkg", quiet=True)
    meta, _, geometries, _ = read(result.path, layer="buildings")
    assert len(geometries) == result.buildings > 0
    assert meta["crs"] == "EPSG:32755"
    assert not {"torch", "mmengine", "matplotlib", "segmentation_models_pytorch"} & set(sys.modules)


def test_names_of_the_training_half_say_which_extra_they_need():
    import robustvision.buildings as buildings

    with pytest.raises(MissingExtraError, match=r"BuildingModel needs .*pip install 'robustvision-buildings\[train\]'"):
        buildings.BuildingModel  # noqa: B018


def test_commands_that_need_no_torch_run(tmp_path):
    told = command("robustvision", "info", shipped_model(), "--check", "--json")
    assert json.loads(told.stdout)["self_test"]["ok"] is True
    assert command("robustvision", "buildings", "--help").returncode == 0
    made = command("robustvision-buildings", "synthesize", tmp_path / "city", "--size", 256, "--json")
    image = json.loads(made.stdout)["image"]
    out = tmp_path / "map.geojson"
    done = command("robustvision-buildings", "predict", image, "--out", out, "--json")
    assert json.loads(done.stdout)["buildings"] == len(json.loads(out.read_text())["features"])
    city = ("--heights", json.loads(made.stdout)["footprints"], "--gsd", 0.6, "--off-nadir", 15, "--json")
    planned = command("robustvision-buildings", "plan", *city)
    assert sum(row["buildings"] for row in json.loads(planned.stdout)["classes"]) > 0, planned.stderr
    scenes = ("--layout", "folder", "--count", 3, "--size", 64, "--json")
    written = command("robustvision-buildings", "synthesize", tmp_path / "tree", *scenes)
    assert json.loads(written.stdout)["images"] == 3
    checked = command("robustvision-buildings", "check", "--data", tmp_path / "tree", "--kind", "folder", "--json")
    assert checked.returncode == 0, checked.stderr


@pytest.mark.parametrize(
    ("args", "extra"),
    [
        (("robustvision-buildings", "train", "tiny"), "robustvision-core[train]"),
        (("robustvision-buildings", "predict", "nothing.tif"), "nothing.tif"),
    ],
)
def test_commands_that_cannot_run_say_why_in_one_line(args, extra, tmp_path):
    done = subprocess.run([SCRIPTS / args[0], *args[1:]], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 2
    assert extra in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_a_picture_of_any_size_has_probabilities():
    image = np.zeros((50, 333, 3), np.uint8)
    assert BuildingMapper().probabilities(image).shape == (50, 333)

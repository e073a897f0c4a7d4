"""Rendered scenes on disk: the readers of real data, and pycocotools, find the truth in them again."""

from __future__ import annotations

import contextlib
import csv
import io
import json

import numpy as np
import pytest
import shapely
from pycocotools.coco import COCO
from shapely import affinity

from robustvision.buildings.data import read_tiles
from robustvision.buildings.synthetic import LAYOUTS, SyntheticScenes, noisy_label, synthesize
from robustvision.core.errors import InputError

GSD_M = {"whu": 0.3, "inria": 0.3, "massachusetts": 1.0}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_reader_of_each_layout_reads_the_scenes_back(layout, tmp_path):
    scenes = SyntheticScenes(8, size_px=64, gsd_m=GSD_M.get(layout, 0.6), seed=3)
    written = synthesize(tmp_path / "set", scenes, layout=layout, quiet=True)
    assert (written["images"], written["layout"]) == (8, layout)
    read = [source.read() for source in read_tiles(layout, tmp_path / "set", tile_px=64)]
    assert len(read) == 8
    for scene in scenes:
        (tile,) = (tile for tile in read if np.array_equal(tile.image, scene.image))
        expected = scene.roof
        if layout == "bonai":  # its roofs are whole, also beneath others
            expected = tile.label.astype(bool)
            assert not (scene.roof & ~expected & (True if tile.valid is None else tile.valid)).any()
        assert np.mean(tile.label.astype(bool) != expected) < 1e-3  # polygons are written to 0.001 px
        if layout in GSD_M:
            assert tile.gsd_m == GSD_M[layout]


@pytest.mark.parametrize("layout", ["whu", "massachusetts"])
@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_splits_have_their_folders(layout, split, tmp_path):
    scenes = SyntheticScenes(2, size_px=32, gsd_m=GSD_M[layout], split=split)
    synthesize(tmp_path / "set", scenes, layout=layout, quiet=True)
    assert len(read_tiles(layout, tmp_path / "set", part=split, tile_px=32)) == 2


def test_masks_show_the_label_asked_for(tmp_path):
    scenes = SyntheticScenes(4, size_px=48)
    for label in ("footprint", "shape", "noisy"):
        synthesize(tmp_path / "set", scenes, layout="folder", label=label, quiet=True)
        read = [source.read() for source in read_tiles("folder", tmp_path / "set", tile_px=48)]
        for tile, scene in zip(read, scenes, strict=True):
            expected = noisy_label(scene).mask if label == "noisy" else getattr(scene, label)
            assert np.array_equal(tile.label, expected)


def open_coco(path) -> COCO:
    with contextlib.redirect_stdout(io.StringIO()):
        return COCO(path)


def test_pycocotools_reads_the_visible_roofs(tmp_path):
    scenes = SyntheticScenes(4, size_px=96, seed=1)
    synthesize(tmp_path / "set", scenes, layout="coco", quiet=True)
    coco = open_coco(tmp_path / "set" / "annotation.json")
    for image_id, scene in zip(coco.getImgIds(), scenes, strict=True):
        drawn = np.zeros(scene.roof.shape, bool)
        for annotation in coco.loadAnns(coco.getAnnIds(image_id)):
            mask = coco.annToMask(annotation).astype(bool)
            left, top, width, height = annotation["bbox"]
            assert left >= 0
            assert top >= 0
            assert left + width <= 96
            assert top + height <= 96
            assert annotation["area"] == pytest.approx(mask.sum(), rel=0.15, abs=40)
            drawn |= mask
        # pycocotools draws at another rule, half a pixel off along edges
        both = (drawn & scene.roof).sum() / (drawn | scene.roof).sum()
        assert both > 0.93


def test_bonai_s_annotations_say_what_the_scene_knows(tmp_path):
    scenes = SyntheticScenes(4, size_px=96, seed=1)
    synthesize(tmp_path / "set", scenes, layout="bonai", quiet=True)
    coco = open_coco(tmp_path / "set" / "bonai_synthetic_trainval.json")
    partly = 0
    for image_id, scene in zip(coco.getImgIds(), scenes, strict=True):
        annotations = coco.loadAnns(coco.getAnnIds(image_id))
        for annotation in annotations:
            roof, footprint = (
                shapely.Polygon(np.reshape(ring, (-1, 2)))
                for ring in (annotation["segmentation"][0], annotation["footprint_mask"])
            )
            moved = affinity.translate(footprint, *annotation["offset"])
            assert shapely.hausdorff_distance(moved, roof) < 0.01
            length = annotation["building_height"] * np.tan(np.deg2rad(scene.off_nadir_deg)) / scene.gsd_m
            assert np.hypot(*annotation["offset"]) == pytest.approx(length, rel=1e-9)
            left, top, width, height = annotation["building_bbox"]
            bounds = shapely.union(roof, footprint).bounds
            assert (left, top, left + width, top + height) == pytest.approx(bounds, abs=0.01)
            partly += annotation["only_footprint"]
        seen = sum(not annotation["only_footprint"] for annotation in annotations)
        assert seen == len(np.unique(scene.instances[scene.instances > 0]))
    assert partly > 0


def test_the_tables_say_how_each_scene_was_seen(tmp_path):
    scenes = SyntheticScenes(4, size_px=32, districts=(7,), seed=2)
    synthesize(tmp_path / "set", scenes, quiet=True)
    with open(tmp_path / "set" / "scenes.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    for row, scene in zip(rows, scenes, strict=True):
        assert (tmp_path / "set" / row["path"]).is_file()
        assert (row["name"], row["height_class"], row["district"]) == (scene.name, scene.height_class, "7")
        assert float(row["azimuth_deg"]) == scene.azimuth_deg
    recipe = json.loads((tmp_path / "set" / "synthetic.json").read_text(encoding="utf-8"))
    assert (recipe["layout"], recipe["seed"], recipe["districts"]) == ("folder", 2, [7])


@pytest.mark.parametrize(
    ("layout", "label", "change", "message"),
    [
        ("png", "roof", {}, "choose folder"),
        ("folder", "roofs", {}, "noisy"),
        ("coco", "noisy", {}, "folder"),
        ("whu", "roof", {"gsd_m": 0.6}, "0.3"),
        ("inria", "roof", {"gsd_m": 0.3, "split": "test"}, "not published"),
    ],
)
def test_what_a_layout_cannot_hold_is_refused(layout, label, change, message, tmp_path):
    with pytest.raises(InputError, match=message):
        synthesize(tmp_path / "set", SyntheticScenes(1, **change), layout=layout, label=label, quiet=True)
    assert not list(tmp_path.iterdir())

"""The data set of scenes: the same bytes again, other scenes in other splits, styles by district, tiles in parallel."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest

from robustvision.buildings.synthetic import SyntheticScenes, noisy_label, tiles
from robustvision.buildings.synthetic.source import CLASSES
from robustvision.core.errors import InputError

SMALL = {"size_px": 48}


def test_equal_parameters_give_equal_scenes():
    for first, second in zip(SyntheticScenes(4, **SMALL), SyntheticScenes(4, **SMALL), strict=True):
        assert np.array_equal(first.image, second.image)
        assert np.array_equal(first.instances, second.instances)
        assert first.buildings == second.buildings


def test_a_scene_does_not_depend_on_how_many_there_are_or_what_was_rendered_before():
    many = SyntheticScenes(9, **SMALL)
    assert np.array_equal(SyntheticScenes(6, **SMALL)[5].image, [many[index] for index in (0, 7, 5)][2].image)


def test_no_two_splits_seeds_or_places_coincide():
    scenes = [
        SyntheticScenes(3, classes=("low",), districts=(3,), split=split, seed=seed, **SMALL)[index]
        for split, seed, index in itertools.product(("train", "validation", "test"), (0, 1), (0, 2))
    ]
    assert len({scene.name for scene in scenes}) == len(scenes)
    for first, second in itertools.combinations(scenes, 2):
        assert first.azimuth_deg != second.azimuth_deg
        assert not {building.height_m for building in first.buildings} & {
            building.height_m for building in second.buildings
        }


def test_classes_take_turns_at_their_own_ground_sampling_distance():
    scenes = list(SyntheticScenes(8, **SMALL))
    assert [scene.height_class for scene in scenes] == [*CLASSES, *CLASSES]
    assert [scene.gsd_m for scene in scenes[:4]] == [0.6, 0.6, 0.6, 1.2]
    assert {scene.gsd_m for scene in SyntheticScenes(4, gsd_m=0.9, **SMALL)} == {0.9}


def test_views_are_drawn_for_each_scene():
    scenes = list(SyntheticScenes(120, classes=("low",), size_px=16, off_nadir_deg=(5.0, 25.0)))
    off_nadir = [scene.off_nadir_deg for scene in scenes]
    assert 5 <= min(off_nadir) < 8
    assert 22 < max(off_nadir) <= 25
    quarters = np.histogram([scene.azimuth_deg for scene in scenes], 4, (0, 360))[0]
    assert quarters.min() >= 15  # of 30 expected: below that once in 2000 draws


def ground_colours(scenes: SyntheticScenes) -> np.ndarray:
    """[n, 3] shares of red, green and blue in the open ground: the gain of a scene's camera falls out."""
    colours = np.array([np.median(scene.image[~scene.shape], axis=0) for scene in scenes])
    return colours / colours.sum(axis=1, keepdims=True)


def test_a_district_is_a_style_and_none_is_a_wide_set():
    """Within six districts, colours spread half as far as over all of them: 0.51, 0.49 and 0.56 by channel."""
    assert len({scene.district for scene in SyntheticScenes(40, classes=("low",), size_px=16)}) > 30
    wide = ground_colours(SyntheticScenes(40, classes=("low",), size_px=64)).std(axis=0)
    narrow = [
        ground_colours(SyntheticScenes(12, classes=("low",), size_px=64, districts=(number,))).std(axis=0)
        for number in (3, 11, 20, 40)
    ]
    assert (np.mean(narrow, axis=0) < 0.75 * wide).all()
    assert {scene.district for scene in SyntheticScenes(12, districts=(3, 11), size_px=16)} == {3, 11}


def test_tiles_hold_the_scene_s_picture_and_the_label_asked_for():
    scenes = SyntheticScenes(4, **SMALL)
    for label in ("roof", "footprint", "shape", "noisy"):
        for tile, scene in zip(tiles(scenes, label=label, quiet=True), scenes, strict=True):
            expected = noisy_label(scene).mask if label == "noisy" else getattr(scene, label)
            assert np.array_equal(tile.image, scene.image)
            assert tile.label.dtype == np.uint8
            assert np.array_equal(tile.label, expected)
            assert (tile.name, tile.gsd_m, tile.group) == (scene.name, scene.gsd_m, scene.name)
            assert tile.conditions == {
                "height_class": scene.height_class,
                "off_nadir_deg": scene.off_nadir_deg,
                "azimuth_deg": scene.azimuth_deg,
                "district": scene.district,
            }


def test_workers_give_the_same_tiles():
    scenes = SyntheticScenes(64, classes=("low",), size_px=16)
    alone, together = tiles(scenes, workers=1, quiet=True), tiles(scenes, workers=2, quiet=True)
    for one, other in zip(alone, together, strict=True):
        assert one.name == other.name
        assert np.array_equal(one.image, other.image)
        assert np.array_equal(one.label, other.label)


def test_a_cache_serves_every_label_and_mends_itself(tmp_path):
    scenes = SyntheticScenes(3, **SMALL)
    fresh = tiles(scenes, label="noisy", quiet=True)
    tiles(scenes, label="roof", cache_dir=tmp_path / "new", quiet=True)
    files = sorted((tmp_path / "new").iterdir())
    assert len(files) == 3
    written = [file.stat().st_mtime_ns for file in files]
    files[0].write_bytes(files[0].read_bytes()[:100])  # a run that was cut short elsewhere
    more = tiles(replace(scenes, count=4), label="noisy", cache_dir=tmp_path / "new", quiet=True)
    for one, other in zip(fresh, more, strict=False):
        assert np.array_equal(one.image, other.image)
        assert np.array_equal(one.label, other.label)
        assert one.conditions == other.conditions
    assert [file.stat().st_mtime_ns for file in files[1:]] == written[1:]  # read, not rendered again
    assert len(list((tmp_path / "new").iterdir())) == 4
    other_seed = tiles(replace(scenes, seed=1), cache_dir=tmp_path / "new", quiet=True)
    assert not np.array_equal(other_seed[0].image, fresh[0].image)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"split": "val"}, "val"),
        ({"classes": ("tall",)}, "skyscraper"),
        ({"classes": ()}, "classes"),
        ({"count": 0}, "count 0"),
        ({"size_px": 8}, "size_px 8"),
        ({"seed": -1}, "seed -1"),
        ({"off_nadir_deg": (20.0, 10.0)}, "low <= high"),
        ({"off_nadir_deg": (10.0, 80.0)}, "60"),
        ({"districts": ()}, "districts"),
        ({"gsd_m": {"low": 0.6}}, "gsd_m"),
        ({"gsd_m": 0.0}, "gsd_m"),
    ],
)
def test_what_cannot_be_rendered_is_refused(change, message):
    with pytest.raises(InputError, match=message):
        SyntheticScenes(**{"count": 4, **change})


def test_indices_and_labels_out_of_range():
    with pytest.raises(IndexError):
        SyntheticScenes(2)[2]
    with pytest.raises(InputError, match="noisy"):
        tiles(SyntheticScenes(1), label="roofs")

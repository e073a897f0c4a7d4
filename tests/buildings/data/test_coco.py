"""COCO files and BONAI's on tiny trees: outlines, crowds, run lengths, offsets and their sign."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import shapely
from shapely import affinity

from robustvision.buildings.data import read_bonai, read_coco, read_tiles
from robustvision.buildings.data.readers import own_parts
from robustvision.core.errors import InputError


def expected(size: int = 64) -> np.ndarray:
    label = np.zeros((size, size), np.uint8)
    label[10:30, 5:25] = 1
    return label


def ring(left: float, top: float, right: float, bottom: float) -> list[float]:
    return [left, top, right, top, right, bottom, left, bottom]


BUILDING = ring(5, 10, 25, 30)


def coco(images: list[dict], annotations: list[dict]) -> str:
    return json.dumps({"images": images, "annotations": annotations, "categories": [{"id": 100, "name": "building"}]})


class TestCoco:
    @pytest.fixture
    def write(self, tmp_path, write_png, picture):
        def make(annotations: list[dict], part: str = "train", size: int = 64, stated: int = 64) -> Path:
            write_png(tmp_path / part / "images" / "000.png", picture(0, size, size))
            image = {"id": 7, "file_name": "000.png", "height": stated, "width": stated}
            numbered = [{"id": number, "image_id": 7, **one} for number, one in enumerate(annotations)]
            (tmp_path / part / "annotation.json").write_text(coco([image], numbered))
            return tmp_path

        return make

    def test_polygons_of_several_rings_and_of_one(self, write) -> None:
        root = write([{"segmentation": [BUILDING, ring(40, 40, 50, 50)]}, {"segmentation": ring(30, 0, 40, 5)}])
        (source,) = read_tiles("coco", root, part="train")
        label = expected()
        label[40:50, 40:50] = label[0:5, 30:40] = 1
        np.testing.assert_array_equal(source.read().label, label)
        assert source.name == "train/000"

    def test_an_image_without_annotations_is_empty(self, write) -> None:
        assert not read_tiles("coco", write([]))[0].read().label.any()

    def test_crowds_and_what_is_to_be_ignored_do_not_count(self, write) -> None:
        runs = {"size": [64, 64], "counts": [64 * 40, 64 * 3, 64 * 21]}  # columns 40 to 42
        root = write([{"segmentation": [BUILDING]}, {"segmentation": runs, "iscrowd": 1}])
        tile = read_tiles("coco", root)[0].read()
        np.testing.assert_array_equal(tile.label, expected())
        assert tile.valid is not None
        assert not tile.valid[:, 40:43].any()
        assert tile.valid.sum() == 64 * 61

    def test_degenerate_and_crossing_rings(self, write) -> None:
        bow_tie = [5, 10, 25, 30, 25, 10, 5, 30]
        root = write([{"segmentation": [[1, 1, 2, 2]]}, {"segmentation": [bow_tie]}, {"segmentation": []}])
        label = read_tiles("coco", root)[0].read().label
        assert label.sum() == pytest.approx(200, abs=12)
        assert not label[:5].any()

    @pytest.mark.parametrize(
        ("annotation", "message"),
        [
            ({"segmentation": [[1, 2, 3]]}, "expected lists x, y"),
            ({"segmentation": "abc"}, "expected lists x, y"),
            ({"segmentation": [[1, 2, None, 4, 5, 6]]}, "expected lists x, y"),
            ({"segmentation": {"size": [64, 64], "counts": "abc"}}, "packed run lengths"),
            ({"segmentation": {"size": [64, 64], "counts": [5]}}, "do not fill 64 x 64"),
            ({"segmentation": {"size": [64, 64], "counts": ["a", 3]}}, "do not fill 64 x 64"),
            ({"segmentation": {"size": None, "counts": [64 * 64]}}, "do not fill 64 x 64"),
            ({"segmentation": 5}, "expected lists x, y"),
            ({"segmentation": [{"x": 1}]}, "expected lists x, y"),
            ({"bbox": [1, 2, 30, 40]}, "a box is no outline"),
            ({"segmentation": None}, "a box is no outline"),
        ],
    )
    def test_segmentations_that_cannot_be_read(self, write, annotation, message) -> None:
        (source,) = read_tiles("coco", write([annotation]))
        with pytest.raises(InputError, match=message):
            source.read()

    def test_files_that_contradict_themselves(self, write, tmp_path) -> None:
        with pytest.raises(InputError, match=r"64 x 64 px, but .* says 300 x 300"):
            read_coco(write([], stated=300))
        file = tmp_path / "train" / "annotation.json"
        for content, message in (
            ("{", "is no COCO file"),
            ("[]", "is no COCO file"),
            ('{"images": []}', "'annotations' is missing"),
            (coco([{"id": 1, "file_name": "000.png"}], []), "'height' is missing"),
            (coco([], [{"image_id": 3}]), "3 is missing, or names an image"),
            (coco([{"id": 1}, {"id": 1}], [{"image_id": 3}]), "2 images with 1 ids"),
            (coco([{"id": 1, "file_name": "gone.png", "height": 64, "width": 64}], []), "names gone.png"),
        ):
            file.write_text(content)
            with pytest.raises(InputError, match=message):
                read_coco(tmp_path)
        file.unlink()
        with pytest.raises(InputError, match="no JSON file"):
            read_coco(tmp_path)


class TestBonai:
    OFFSET = (8.0, -6.0)

    def annotation(self, footprint: list[float], sign: int = 1, **extra) -> dict:
        """A building whose stored offset leads from roof to footprint (1), or back."""
        dx, dy = self.OFFSET
        roof = np.reshape(footprint, (-1, 2)) + np.array([dx, dy])
        stored = [-sign * dx, -sign * dy]
        return {
            "segmentation": [roof.ravel().tolist()],
            "footprint_mask": footprint,
            "offset": stored,
            "building_height": 3.0,
            **extra,
        }

    @pytest.fixture
    def write(self, tmp_path, write_png, picture):
        def make(annotations: list[dict], city: str = "shanghai", part: str = "trainval") -> Path:
            name = f"{city}_arg__L18_0_0.png"
            write_png(tmp_path / part / "images" / name, picture())
            image = {"id": 1, "file_name": name, "height": 64, "width": 64}
            numbered = [{"id": number, "image_id": 1, **one} for number, one in enumerate(annotations)]
            path = tmp_path / "coco" / f"bonai_{city}_{part}.json"
            path.parent.mkdir(exist_ok=True)
            path.write_text(coco([image], numbered))
            return tmp_path

        return make

    @pytest.mark.parametrize("sign", [1, -1])
    def test_targets_whichever_way_the_offsets_lead(self, write, sign) -> None:
        root = write([self.annotation(BUILDING, sign)])
        labels = {
            target: read_tiles("bonai", root, part="train", target=target)[0].read().label
            for target in ("roof", "footprint", "shape")
        }
        np.testing.assert_array_equal(labels["footprint"], expected())
        np.testing.assert_array_equal(labels["roof"], np.roll(expected(), (-6, 8), axis=(0, 1)))
        corners = shapely.MultiPoint([(x + k * 8, y - k * 6) for x in (5, 25) for y in (10, 30) for k in (0, 1)])
        inside = shapely.contains_xy(corners.convex_hull, *np.meshgrid(np.arange(64) + 0.5, np.arange(64) + 0.5))
        assert (labels["shape"] != inside).sum() <= 4  # a rectangle's sweep is convex; centres may lie on its edge

    def test_mixed_directions_are_refused(self, write) -> None:
        others = [self.annotation(ring(x, 10, x + 9, 20), sign) for x, sign in ((30, 1), (42, 1), (5, -1))]
        with pytest.raises(InputError, match="in 2 buildings, and back in 1"):
            read_bonai(write(others))

    def test_offsets_that_show_no_direction_are_refused(self, write) -> None:
        with pytest.raises(InputError, match="no building has an offset above 5 px"):
            read_bonai(write([self.annotation(BUILDING) | {"offset": [1.0, 0.0]}]))

    def test_what_is_ignored_or_known_by_half_does_not_count(self, write) -> None:
        half = self.annotation(ring(40, 40, 50, 50), only_footprint=1)
        root = write([self.annotation(BUILDING), half, self.annotation(ring(40, 10, 50, 20), ignore=1)])
        roof = read_tiles("bonai", root, target="roof")[0].read()
        assert roof.valid is not None
        assert not roof.valid[40:50, 40:50].any()
        assert roof.valid[30:36, 20:30].all()
        footprint = read_tiles("bonai", root, target="footprint")[0].read()
        assert footprint.label[40:50, 40:50].all()
        assert footprint.valid is not None
        assert not footprint.valid[10:20, 40:50].any()
        assert not footprint.label[10:20, 40:50].any()

    def test_cities_and_parts(self, write) -> None:
        write([self.annotation(BUILDING)])
        root = write([self.annotation(BUILDING)], "xian", "test")
        (train,), (test,) = (read_bonai(root, part) for part in ("train", "test"))
        assert (train.group, test.group) == ("shanghai", "xian")
        assert train.conditions["displacement_px"] == pytest.approx(10)
        with pytest.raises(InputError, match="has no validation"):
            read_bonai(root, "validation")

    def test_a_part_that_is_not_there_is_not_asked_for(self, write) -> None:
        root = write([self.annotation(BUILDING)])
        assert own_parts("bonai", root) == ("train",)
        write([self.annotation(BUILDING)], "xian", "test")
        assert own_parts("bonai", root) == ("train", "test")

    def test_run_lengths_are_no_roof(self, write) -> None:
        with pytest.raises(InputError, match="expected lists x, y"):
            read_bonai(write([self.annotation(BUILDING) | {"segmentation": {"size": [64, 64], "counts": [1]}}]))

    def test_an_offset_that_is_none(self, write) -> None:
        with pytest.raises(InputError, match="an offset is None"):
            read_bonai(write([self.annotation(BUILDING) | {"offset": None}]))


def test_an_offset_moves_by_the_convention_of_the_tests() -> None:
    """Guards the tests above: the roof, moved by the stored offset of sign 1, is the footprint."""
    made = TestBonai().annotation(BUILDING)
    roof = shapely.Polygon(np.reshape(made["segmentation"][0], (-1, 2)))
    moved = affinity.translate(roof, *made["offset"])
    assert moved.equals(shapely.Polygon(np.reshape(BUILDING, (-1, 2))))

"""What to expect of an acquisition: displacements by geometry, the rest read from the measured curves."""

import json
import math

import numpy as np
import pyogrio.raw
import pytest
import shapely
from typer.testing import CliRunner

from robustvision.buildings.cli import app
from robustvision.buildings.planning import CURVES, TYPICAL_SIDE_M, plan, read_buildings
from robustvision.buildings.synthetic.layout import SIZES
from robustvision.core.errors import InputError

GIVEN = {"gsd_m": 0.5, "off_nadir_deg": 25.0}


def by_class(plans):
    return {one.height_class: one for one in plans}


class TestPlan:
    def test_displacements_follow_the_geometry(self):
        found = by_class(plan([6.0, 8.0, 20.0, 150.0], [math.nan] * 4, **GIVEN))
        lean = math.tan(math.radians(25)) / 0.5
        assert list(found) == ["low", "mid", "skyscraper"]
        assert (found["low"].buildings, found["low"].height_m) == (2, 7.0)
        assert found["low"].displacement_px == pytest.approx(7 * lean)
        assert found["low"].max_displacement_px == pytest.approx(8 * lean)
        assert found["skyscraper"].displacement_px == pytest.approx(150 * lean)

    def test_labels_are_worse_the_higher_and_the_narrower_a_building_is_and_gsd_does_not_matter(self):
        def label_f1(height, area, gsd=0.5):
            return plan([height], [area], gsd_m=gsd, off_nadir_deg=15.0)[0].label_f1

        falling = [label_f1(height, 400.0) for height in (3, 10, 30, 60)]
        assert falling == sorted(falling, reverse=True)
        assert len(set(falling)) == 4
        assert label_f1(30, 2000.0) > label_f1(30, 400.0)
        assert label_f1(30, 400.0, gsd=1.2) == pytest.approx(label_f1(30, 400.0))

    def test_straight_down_nothing_leans(self):
        (found,) = plan([90.0], [900.0], gsd_m=0.3, off_nadir_deg=0.0)
        assert found.displacement_px == 0
        assert found.label_f1 == max(json.loads(CURVES.read_text())["labels"]["f1"])

    def test_an_area_that_is_not_known_is_that_of_a_typical_building(self):
        for name, side_m in TYPICAL_SIDE_M.items():
            assert side_m == np.mean(SIZES[name].side_m)
        known, unknown = (plan([20.0], [area], **GIVEN)[0] for area in (21.0**2, math.nan))
        assert known == unknown

    @pytest.mark.parametrize(
        ("heights", "areas", "changes", "words"),
        [
            ([], [], {}, "0 heights and 0 areas"),
            ([3.0, 4.0], [9.0], {}, "2 heights and 1 areas"),
            ([-3.0], [9.0], {}, "negative"),
            ([math.nan], [9.0], {}, "missing"),
            ([3000.0], [9.0], {}, "check the unit"),
            ([3.0], [0.0], {}, "area is 0 m2"),
            ([3.0], [9.0], {"gsd_m": 0.0}, "above 0"),
            ([3.0], [9.0], {"gsd_m": math.nan}, "expected numbers"),
            ([3.0], [9.0], {"off_nadir_deg": 90.0}, "below|outside"),
            ([3.0], [9.0], {"off_nadir_deg": -1.0}, "outside"),
        ],
    )
    def test_what_cannot_be_is_refused(self, heights, areas, changes, words):
        with pytest.raises(InputError, match=words):
            plan(heights, areas, **{**GIVEN, **changes})


class TestCurves:
    def test_the_file_is_what_the_study_measured(self):
        """Fewest tiles are one of those measured, and zero of them means the network trained on noisy labels alone."""
        curves = json.loads(CURVES.read_text())
        assert curves["labels"]["relative_shift"] == sorted(curves["labels"]["relative_shift"])
        assert [one["height_class"] for one in curves["adaptation"]] == ["low", "mid", "high", "skyscraper"]
        for one in curves["adaptation"]:
            assert one["clean_tiles"] == [0, 4, 8, 16, 32, 64]
            assert len(one["f1"]) == 6
            assert one["enough"] in one["clean_tiles"]

    def test_the_plan_reads_them_at_the_nearest_displacement_in_sides(self):
        for one in json.loads(CURVES.read_text())["adaptation"]:
            height = min(1000.0, one["relative_shift"] * 30 / math.tan(math.radians(40)))
            (found,) = plan([height], [900.0], gsd_m=0.5, off_nadir_deg=40.0)
            assert found.measured_as == one["height_class"]
            assert found.noisy_only_f1 == one["f1"][0]
            assert found.adapted_f1 == one["f1"][one["clean_tiles"].index(found.clean_tiles)]


class TestReadBuildings:
    def test_a_table_with_and_without_areas(self, tmp_path):
        table = tmp_path / "heights.csv"
        table.write_text("\ufeffname,height_m,area_m2\na,3.5,100\nb,20,\nc,,50\n", encoding="utf-8")
        heights, areas = read_buildings(table)
        assert heights.tolist() == [3.5, 20.0]
        assert areas[0] == 100
        assert math.isnan(areas[1])
        table.write_text("height_m\n7\n")
        assert [values.tolist() for values in read_buildings(table)] == [[7.0], pytest.approx([math.nan], nan_ok=True)]

    @pytest.mark.parametrize("crs", ["EPSG:32633", "EPSG:4326", "EPSG:3857"])
    def test_a_map_whatever_its_system(self, tmp_path, crs):
        from pyproj import Transformer

        change = Transformer.from_crs("EPSG:32633", crs, always_xy=True)
        boxes = [shapely.box(500000, 5.8e6, 500020, 5.8e6 + 30), shapely.box(500100, 5.8e6, 500110, 5.8e6 + 10)]
        boxes = shapely.transform(boxes, lambda points: np.column_stack(change.transform(*points.T)))
        _write_map(tmp_path / "map.gpkg", boxes, [12.0, 30.0], crs)
        heights, areas = read_buildings(tmp_path / "map.gpkg")
        assert heights.tolist() == [12.0, 30.0]
        np.testing.assert_allclose(areas, [600, 100], rtol=2e-3)

    @pytest.mark.parametrize(
        ("text", "words"),
        [
            ("storeys\n3\n", "columns.*storeys"),
            ("", "columns"),
            ("height_m\n", "holds no building"),
            ("height_m\ntall\n", ":2: .*does not hold numbers"),
            ("height_m,area_m2\n3,9\n4,wide\n", ":3: .*does not hold numbers"),
        ],
    )
    def test_a_table_that_is_none(self, tmp_path, text, words):
        (tmp_path / "heights.csv").write_text(text)
        with pytest.raises(InputError, match=words):
            read_buildings(tmp_path / "heights.csv")

    def test_files_that_cannot_be_read(self, tmp_path):
        (tmp_path / "broken.gpkg").write_bytes(b"no map")
        (tmp_path / "broken.csv").write_bytes(b"height_m\n\xff\xfe\n")
        for name in ("broken.gpkg", "broken.csv", "none.gpkg", "none.csv"):
            with pytest.raises(InputError, match="cannot be read"):
                read_buildings(tmp_path / name)
        _write_map(tmp_path / "nowhere.gpkg", [shapely.box(0, 0, 9, 9)], [3.0], None)
        with pytest.raises(InputError, match="no coordinate system"):
            read_buildings(tmp_path / "nowhere.gpkg")


def _write_map(path, geometries, heights, crs):
    wkb = np.array([shapely.to_wkb(one) for one in geometries], dtype=object)
    options = {"geometry_type": "Polygon", "crs": crs, "driver": "GPKG"}
    pyogrio.raw.write(str(path), wkb, [np.array(heights)], ["height_m"], **options)


def test_the_command(tmp_path):
    (tmp_path / "heights.csv").write_text("height_m,area_m2\n6,150\n25,500\n80,\n")
    call = ["plan", "--gsd", "0.5", "--off-nadir", "25", "--heights", str(tmp_path / "heights.csv")]
    shown = CliRunner().invoke(app, call)
    assert shown.exit_code == 0, shown.output
    assert [line.split()[1] for line in shown.output.splitlines()[2:5]] == ["low", "mid", "high"]
    assert "rendered scenes" in shown.output
    told = json.loads(CliRunner().invoke(app, [*call, "--json"]).output)
    assert [row["height_class"] for row in told["classes"]] == ["low", "mid", "high"]
    assert told["classes"][1]["displacement_px"] == pytest.approx(25 * math.tan(math.radians(25)) / 0.5)

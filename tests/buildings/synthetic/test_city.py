"""A city, and its files as GDAL reads them."""

from __future__ import annotations

import json
import math

import numpy as np
import pyogrio
import pytest
import rasterio
import shapely
from rasterio.features import rasterize
from shapely import affinity

from robustvision.buildings.geo import ground_sampling_distance
from robustvision.buildings.offsets import height_class
from robustvision.buildings.synthetic import City, noisy_label, render_city, write_city
from robustvision.core.errors import InputError


@pytest.fixture(scope="module")
def city(tmp_path_factory) -> City:
    return write_city(tmp_path_factory.mktemp("cities") / "city", size_px=512, seed=1)


def layer(path) -> tuple[dict, np.ndarray, dict]:
    meta, _, geometry, columns = pyogrio.raw.read(path)
    return meta, shapely.from_wkb(geometry), dict(zip(meta["fields"], columns, strict=True))


def test_it_has_all_classes_each_in_its_quarter(city):
    scene = city.scene
    assert (scene.height_class, scene.district) == ("mixed", -1)
    quarters = {"low": (0, 0), "mid": (1, 0), "high": (0, 1), "skyscraper": (1, 1)}
    assert {building.height_class for building in scene.buildings} == set(quarters)
    for building in scene.buildings:
        centre = building.footprint.centroid
        assert (centre.x > 256, centre.y > 256) == quarters[building.height_class]
        assert height_class(building.height_m) == building.height_class
    assert shapely.union_all([one.footprint for one in scene.buildings]).area == pytest.approx(
        sum(one.footprint.area for one in scene.buildings), rel=1e-9
    )


def test_its_ground_is_painted_everywhere(city):
    dark = (city.scene.image.max(axis=2) < 8).mean()
    assert dark < 0.005


def test_a_city_follows_from_its_seed():
    first, again, other = (render_city(96, 160, seed=seed) for seed in (3, 3, 4))
    assert first.image.shape == (96, 160, 3)
    assert np.array_equal(first.image, again.image)
    assert not np.array_equal(first.image, other.image)


def test_the_picture_lies_in_utm_and_says_how_it_was_seen(city):
    with rasterio.open(city.image) as raster:
        assert raster.crs.to_epsg() == 32755
        assert (raster.count, raster.dtypes[0], raster.block_shapes[0]) == (3, "uint8", (256, 256))
        assert np.array_equal(np.moveaxis(raster.read(), 0, -1), city.scene.image)
        tags = raster.tags()
        size = ground_sampling_distance(raster.transform, raster.crs, raster.height, raster.width)
    assert float(tags["OFF_NADIR_DEG"]) == 15.0
    assert float(tags["AZIMUTH_DEG"]) == city.scene.azimuth_deg
    assert float(tags["GSD_M"]) == 0.6
    assert size == pytest.approx((0.6, 0.6), rel=2e-3)  # UTM's scale is within 0.1 % of 1


def test_the_map_is_the_noisy_label(city):
    meta, polygons, columns = layer(city.footprints)
    assert "32755" in meta["crs"]
    label = noisy_label(city.scene, seed=1)
    assert columns["height_m"].tolist() == list(label.heights_m)
    with rasterio.open(city.image) as raster:
        burnt = rasterize(polygons, raster.shape, transform=raster.transform) > 0
    assert (burnt != label.mask).sum() <= 2  # map coordinates are rounded: a centre on an edge may change sides
    heights, areas = np.loadtxt(city.heights, delimiter=",", skiprows=1, unpack=True)
    assert heights == pytest.approx(label.heights_m, abs=0.01)
    assert areas == pytest.approx([polygon.area for polygon in polygons], abs=0.1)


def test_the_roofs_are_the_visible_ones(city):
    meta, roofs, columns = layer(city.roofs)
    assert "32755" in meta["crs"]
    assert shapely.is_valid(roofs).all()
    with rasterio.open(city.image) as raster:
        burnt = rasterize(
            list(zip(roofs, columns["number"].tolist(), strict=True)), raster.shape, transform=raster.transform
        )
    assert np.mean(burnt != city.scene.instances) < 1e-4
    known = {building.number: building for building in city.scene.buildings}
    for number, height_m, dx, dy in zip(
        *(columns[name] for name in ("number", "height_m", "offset_x_px", "offset_y_px")), strict=True
    ):
        assert (height_m, (dx, dy)) == (known[number].height_m, known[number].offset_px)


def test_north_is_up(city):
    """A building's footprint on the map lies where its pixels are."""
    building = next(one for one in city.scene.buildings if shapely.box(40, 40, 470, 470).contains(one.footprint))
    with rasterio.open(city.image) as raster:
        on_map = affinity.affine_transform(building.footprint, raster.transform.to_shapely())
        row, column = raster.index(on_map.centroid.x, on_map.centroid.y)
    assert math.hypot(row + 0.5 - building.footprint.centroid.y, column + 0.5 - building.footprint.centroid.x) < 1


def test_the_folder_is_replaced_only_if_it_is_one_of_these(tmp_path):
    first = write_city(tmp_path / "city", size_px=64)
    again = write_city(tmp_path / "city", size_px=64, seed=2)
    assert first.image == again.image
    assert json.loads((tmp_path / "city" / "synthetic.json").read_text())["seed"] == 2
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    with pytest.raises(InputError, match="remove it"):
        write_city(tmp_path / "mine", size_px=64)
    assert (tmp_path / "mine" / "thesis.txt").exists()


@pytest.mark.parametrize(
    "values", [{"height_px": 32}, {"width_px": 5000}, {"gsd_m": 0.0}, {"off_nadir_deg": 75.0}, {"seed": -1}]
)
def test_values_out_of_range_are_refused(values):
    with pytest.raises(InputError, match="expected"):
        render_city(**values)

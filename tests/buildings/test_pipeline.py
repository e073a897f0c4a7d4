"""From a raster to polygons in one call: in the right place, moved where that is asked for, refused with a reason."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pyogrio
import pytest
import rasterio
import shapely
from affine import Affine
from onnx import TensorProto, helper, numpy_helper
from pyproj import Geod, Transformer

from robustvision.buildings.contract import IMAGE, LOGITS, TASK, Preprocessing
from robustvision.buildings.data import read_layer as read_layer_of_labels
from robustvision.buildings.footprints import FootprintOptions
from robustvision.buildings.pipeline import BuildingMapper, MapFailure
from robustvision.buildings.polygons import View
from robustvision.core.errors import InputError, ModelError
from robustvision.core.runtime.manifest import METADATA_KEY, GraphSpec, Manifest, TensorSpec
from robustvision.core.runtime.session import open_model

UTM = "EPSG:32755"
NORTH_UP = Affine(0.5, 0, 320000, 0, -0.5, 5812000)
ROOFS_PX = ((60, 50, 120, 90), (300, 200, 330, 260))
"""left, top, right, bottom."""


@pytest.fixture(scope="module")
def write_model(tmp_path_factory):
    """A model that sees a building where the red channel is above the middle, by the logit ``10 (red - 0.5)``."""

    def write(target="roof", task=TASK):
        settings = Preprocessing(tile_px=64, stride_px=48, target=target, mean=(0.5, 0.5, 0.5), std=(1, 1, 1))
        axes = ("batch", {IMAGE: 3, LOGITS: 1}, "y", "x")
        specs = [TensorSpec(name, "float32", (axes[0], axes[1][name], *axes[2:])) for name in (IMAGE, LOGITS)]
        infos = [helper.make_tensor_value_info(spec.name, TensorProto.FLOAT, list(spec.shape)) for spec in specs]
        weight = numpy_helper.from_array(np.float32([10, 0, 0]).reshape(1, 3, 1, 1), "w")
        node = helper.make_node("Conv", [IMAGE, "w"], [LOGITS])
        model = helper.make_model(
            helper.make_graph([node], "g", infos[:1], infos[1:], [weight]),
            opset_imports=[helper.make_opsetid("", 18)],
            ir_version=10,
        )
        graphs = {"main": GraphSpec(inputs=tuple(specs[:1]), outputs=tuple(specs[1:]))}
        manifest = Manifest(task=task, name=f"bright-{target}", graphs=graphs, preprocessing=settings.entry())
        helper.set_model_props(model, {METADATA_KEY: manifest.to_json()})
        path = tmp_path_factory.mktemp("models") / f"{target}.onnx"
        path.write_bytes(model.SerializeToString())
        return path

    return write


@pytest.fixture(scope="module")
def roof_model(write_model):
    return write_model()


@pytest.fixture
def write_city(tmp_path):
    def write(name="city.tif", *, transform=NORTH_UP, crs=UTM, roofs=ROOFS_PX, size=(300, 400)):
        image = np.full((3, *size), 25, np.uint8)
        for left, top, right, bottom in roofs:
            image[:, top:bottom, left:right] = 230
        profile = {"driver": "GTiff", "count": 3, "dtype": "uint8", "transform": transform, "crs": crs}
        with rasterio.open(tmp_path / name, "w", height=size[0], width=size[1], **profile) as file:
            file.write(image)
        return tmp_path / name

    return write


def read_layer(path):
    """Shapes, and a table, of the buildings in a file."""
    meta, _, wkb, columns = pyogrio.raw.read(path, layer="buildings")
    return shapely.from_wkb(wkb), dict(zip(meta["fields"], columns, strict=True)), meta["crs"]


def on_map(roof_px, transform=NORTH_UP, shift=(0.0, 0.0)):
    corners = [transform @ corner for corner in shapely.box(*roof_px).exterior.coords]
    return shapely.Polygon([(x + shift[0], y + shift[1]) for x, y in corners])


def same(found, expected, metres=0.0):
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert shapely.symmetric_difference(one, other).area <= 1e-6 + metres * other.length


@pytest.mark.parametrize("size", [(1, 1), (20, 31), (64, 64), (150, 201)])
def test_a_picture_in_memory_is_predicted_as_it_is(roof_model, size):
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    found = BuildingMapper(roof_model).probabilities(image)
    expected = 1 / (1 + np.exp(-10 * (image[..., 0] / 255 - 0.5)))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_an_opened_model_does_as_well(roof_model):
    mapper = BuildingMapper(open_model(roof_model))
    assert mapper.target == "roof"
    assert mapper.probabilities(np.full((5, 5, 3), 255, np.uint8)) == pytest.approx(1 / (1 + np.exp(-5)))


@pytest.mark.parametrize("image", [np.zeros((5, 5), np.uint8), np.zeros((5, 5, 3)), np.zeros((0, 5, 3), np.uint8)])
def test_other_arrays_are_refused(roof_model, image):
    with pytest.raises(InputError, match="a picture is uint8"):
        BuildingMapper(roof_model).probabilities(image)


def test_a_raster_becomes_polygons_where_its_roofs_are(roof_model, write_city, tmp_path):
    result = BuildingMapper(roof_model).predict(write_city(), out=tmp_path / "city.gpkg", quiet=True)
    shapes, table, crs = read_layer(tmp_path / "city.gpkg")
    same(shapes, [on_map(roof) for roof in ROOFS_PX])
    assert (result.buildings, result.target, result.unit) == (2, "roof", "m")
    assert result.area == pytest.approx(30 * 20 + 15 * 30)
    assert "32755" in crs
    assert table["number"].tolist() == [1, 2]
    assert result.probability is None
    assert {path.name for path in tmp_path.iterdir()} == {"city.tif", "city.gpkg"}


@pytest.mark.parametrize(
    "transform",
    [
        Affine(0.5, 0, 320000, 0, 0.5, 5811000),
        Affine.translation(320000, 5811000) @ Affine.rotation(30) @ Affine.scale(0.5, -0.5),
    ],
    ids=["south-up", "rotated"],
)
def test_they_are_there_whatever_the_transform(roof_model, write_city, tmp_path, transform):
    result = BuildingMapper(roof_model).predict(write_city(transform=transform), out=tmp_path / "o.gpkg", quiet=True)
    same(read_layer(tmp_path / "o.gpkg")[0], [on_map(roof, transform) for roof in ROOFS_PX])
    assert result.area == pytest.approx(1050)


def test_geojson_is_in_degrees(roof_model, write_city, tmp_path):
    BuildingMapper(roof_model).predict(write_city(), out=tmp_path / "o.geojson", quiet=True)
    features = json.loads((tmp_path / "o.geojson").read_text())["features"]
    to_metres = Transformer.from_crs("EPSG:4326", UTM, always_xy=True)
    found = [
        shapely.transform(shapely.geometry.shape(one["geometry"]), to_metres.transform, interleaved=False)
        for one in features
    ]
    same(found, [on_map(roof) for roof in ROOFS_PX], metres=0.01)


def test_probabilities_alone_or_as_well(roof_model, write_city, tmp_path):
    mapper, path = BuildingMapper(roof_model), write_city()
    alone = mapper.predict(path, out=tmp_path / "p.tif", quiet=True)
    assert (alone.buildings, alone.area, alone.probability) == (None, None, tmp_path / "p.tif")
    both = mapper.predict(path, out=tmp_path / "o.gpkg", probability=tmp_path / "kept.tif", quiet=True)
    assert both.probability == tmp_path / "kept.tif"
    assert (tmp_path / "kept.tif").read_bytes() == (tmp_path / "p.tif").read_bytes()
    with rasterio.open(tmp_path / "kept.tif") as file:
        values = file.read(1)
    assert set(np.unique(values)) == {round(255 / (1 + np.exp(-10 * (v / 255 - 0.5)))) for v in (25, 230)}


def test_options_reach_their_stages(roof_model, write_city, tmp_path):
    mapper, path = BuildingMapper(roof_model), write_city()
    assert mapper.predict(path, out=tmp_path / "a.gpkg", min_area_m2=500, quiet=True).buildings == 1
    assert mapper.predict(path, out=tmp_path / "b.gpkg", threshold=0.99, quiet=True).buildings == 0
    area = tmp_path / "area.gpkg"
    box = shapely.to_wkb(np.array([on_map((0, 0, 200, 150))]))
    pyogrio.raw.write(area, box, field_data=[], fields=np.array([], object), geometry_type="Polygon", crs=UTM)
    result = mapper.predict(path, out=tmp_path / "c.gpkg", aoi=area, quiet=True)
    assert result.buildings == 1
    assert result.skipped_tiles > 0


def test_without_a_place_areas_are_in_pixels(roof_model, write_city, tmp_path):
    path = write_city(transform=Affine.identity(), crs=None)
    result = BuildingMapper(roof_model).predict(path, out=tmp_path / "o.gpkg", quiet=True)
    assert (result.unit, result.area) == ("px", 60 * 40 + 30 * 60)
    assert "no place on the map" in result.warnings[0]


@pytest.mark.parametrize("azimuth_deg", [0, 90, 225])
def test_one_height_moves_all_roofs_back(roof_model, write_city, tmp_path, azimuth_deg):
    options = FootprintOptions(View(30, azimuth_deg), default_height_m=20)
    result = BuildingMapper(roof_model).predict(
        write_city(), out=tmp_path / "o.gpkg", target="footprint", footprints=options, quiet=True
    )
    shapes, table, _ = read_layer(tmp_path / "o.gpkg")
    to_degrees = Transformer.from_crs(UTM, "EPSG:4326", always_xy=True)
    for found, roof in zip(shapes, ROOFS_PX, strict=True):
        here, there = (to_degrees.transform(*shape.centroid.coords[0]) for shape in (found, on_map(roof)))
        azimuth, _, metres = Geod(ellps="WGS84").inv(*here, *there)
        assert metres == pytest.approx(20 * np.tan(np.deg2rad(30)), rel=1e-3)
        assert (azimuth - azimuth_deg + 180) % 360 - 180 == pytest.approx(0, abs=0.1)
    assert (result.target, result.buildings) == ("footprint", 2)
    assert table["height_m"].tolist() == [20, 20]
    assert table["height_class"].tolist() == ["mid", "mid"]


def test_a_map_of_heights_moves_each_by_its_own(roof_model, write_city, tmp_path):
    heights, lean_px = np.array([60.0, 9.0]), np.array([60.0, 9.0]) * np.tan(np.deg2rad(30)) / 0.5
    footprints_px = [(100, 100, 140, 140), (50, 200, 80, 250)]
    roofs = [(a + round(d), b, c + round(d), e) for (a, b, c, e), d in zip(footprints_px, lean_px, strict=True)]
    shapes = np.array([on_map(one) for one in footprints_px])
    write_map(tmp_path / "map.gpkg", shapes, height_m=heights)
    options = FootprintOptions(View(30, 90), tmp_path / "map.gpkg")
    mapper = BuildingMapper(roof_model)
    mapper.predict(write_city(roofs=roofs), out=tmp_path / "o.gpkg", target="footprint", footprints=options, quiet=True)
    found, table, _ = read_layer(tmp_path / "o.gpkg")
    assert table["height_m"].tolist() == [60, 9]
    for one, expected in zip(found, shapes, strict=True):
        assert shapely.symmetric_difference(one, expected).area < 0.1 * expected.area


def write_map(path, shapes, **columns):
    pyogrio.raw.write(
        path,
        shapely.to_wkb(shapes),
        field_data=list(columns.values()),
        fields=np.array(list(columns), object),
        geometry_type="Polygon",
        crs=UTM,
    )


def test_what_footprints_need_is_named_before_anything_is_run(roof_model, write_model, write_city, tmp_path):
    mapper, path, out, view = BuildingMapper(roof_model), write_city(), tmp_path / "o.gpkg", View(30, 90)

    def predict(options=None, path=path, out=out, target="footprint"):
        mapper.predict(path, out=out, target=target, footprints=options, quiet=True)

    with pytest.raises(InputError, match="for footprints the view and heights must be given"):
        predict()
    with pytest.raises(InputError, match="for footprints heights must be given"):
        predict(FootprintOptions(view))
    with pytest.raises(InputError, match="for footprints the view must be given"):
        predict(FootprintOptions(default_height_m=20))
    with pytest.raises(InputError, match=r"name a \.gpkg"):
        predict(FootprintOptions(view, default_height_m=20), out=tmp_path / "o.tif")
    with pytest.raises(InputError, match="shows roof, which cannot be turned into shape"):
        predict(target="shape")
    bare = write_city("bare.tif", transform=Affine.identity(), crs=None)
    with pytest.raises(InputError, match="has no place on the map"):
        predict(FootprintOptions(view, default_height_m=20), path=bare)
    write_map(tmp_path / "flat.gpkg", np.array([on_map(ROOFS_PX[0])]), storeys=np.array([3]))
    with pytest.raises(InputError, match="has the attributes storeys"):
        predict(FootprintOptions(view, tmp_path / "flat.gpkg"))
    write_map(tmp_path / "flat.gpkg", np.array([on_map(ROOFS_PX[0], shift=(5000, 0))]), height_m=np.array([30.0]))
    with pytest.raises(InputError, match=r"none of the 1 buildings of .*flat\.gpkg lies in"):
        predict(FootprintOptions(view, tmp_path / "flat.gpkg", default_height_m=20))
    assert {entry.name for entry in tmp_path.iterdir()} == {"city.tif", "bare.tif", "flat.gpkg"}
    own = BuildingMapper(write_model("footprint")).predict(path, out=out, target="footprint", quiet=True)
    assert own.target == "footprint"


def test_other_endings_and_models_are_refused(roof_model, write_model, write_city, tmp_path):
    with pytest.raises(InputError, match=r"ends in \.shp"):
        BuildingMapper(roof_model).predict(write_city(), out=tmp_path / "o.shp", quiet=True)
    with pytest.raises(ModelError, match="is a model for cats"):
        BuildingMapper(write_model(task="cats"))


def test_one_bad_raster_among_many_takes_no_other_with_it(roof_model, write_city, tmp_path):
    good, other = write_city("good.tif"), write_city("other.tif", roofs=ROOFS_PX[:1])
    bad = tmp_path / "bad.tif"
    bad.write_bytes(b"nothing")
    mapper = BuildingMapper(roof_model, threads=1)
    for workers in (1, 2):
        folder = tmp_path / f"maps-{workers}"
        first, second, third = mapper.predict_many([good, bad, other], folder, workers=workers, quiet=True)
        assert (first.buildings, third.buildings) == (2, 1)
        assert isinstance(second, MapFailure)
        assert "bad.tif is no raster" in second.error
        assert {path.name for path in folder.iterdir()} == {"good.gpkg", "other.gpkg"}
    assert (tmp_path / "maps-1/good.gpkg").read_bytes() == (tmp_path / "maps-2/good.gpkg").read_bytes()


def test_many_rasters_need_names_of_their_own(roof_model, write_city, tmp_path):
    mapper = BuildingMapper(roof_model)
    (tmp_path / "b").mkdir()
    with pytest.raises(InputError, match=r"several rasters would become city\.gpkg"):
        mapper.predict_many([write_city(), tmp_path / "b" / "city.tif"], tmp_path / "maps")
    with pytest.raises(InputError, match="no raster is given"):
        mapper.predict_many([], tmp_path / "maps")


def test_nothing_here_imports_torch(roof_model, write_city, tmp_path):
    code = """
import sys
from robustvision.buildings.footprints import FootprintOptions
from robustvision.buildings.pipeline import BuildingMapper
BuildingMapper(sys.argv[1]).predict(sys.argv[2], out=sys.argv[3], quiet=True)
print([name for name in ("torch", "mmengine", "matplotlib", "albumentations", "onnx") if name in sys.modules])
"""
    command = [sys.executable, "-c", code, str(roof_model), str(write_city()), str(tmp_path / "o.gpkg")]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip() == "[]"


def test_a_map_that_was_written_serves_as_area_of_interest_and_as_labels(roof_model, write_city, tmp_path):
    """A GeoPackage of ours holds a table of styles beside the buildings; readers of layers must not stumble over it."""
    city = write_city()
    first = BuildingMapper(roof_model).predict(city, out=tmp_path / "first.gpkg", quiet=True)
    assert len(read_layer_of_labels(first.path).polygons) == first.buildings == len(ROOFS_PX)
    again = BuildingMapper(roof_model).predict(city, out=tmp_path / "again.gpkg", aoi=first.path, quiet=True)
    assert again.buildings == len(ROOFS_PX)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"threshold": 2}, "threshold is 2"),
        ({"threshold": float("nan")}, "threshold is nan"),
        ({"min_area_m2": -1}, "min_area_m2 is -1"),
        ({"simplify_m": -1}, "simplify_m is -1"),
        ({"opening_px": -1}, "opening_px is -1"),
        ({"probability": "kept.png"}, r"kept\.png: name a file \.tif"),
        ({"out": "o.tif", "probability": "kept.tif"}, "holds the probabilities already"),
        ({"out": "none/o.gpkg"}, "none is not a folder: make it first"),
        ({"out": "folder.gpkg"}, "folder.gpkg is a folder"),
        ({"footprints": FootprintOptions(View(30, 90), default_height_m=20)}, "ask for target footprint"),
        ({"target": "footprint", "footprints": FootprintOptions(View(30, 90), default_height_m=-2)}, "-2.* negative"),
        ({"target": "footprint", "footprints": FootprintOptions(View(30, 90), default_height_m=5e3)}, "5000 m high"),
    ],
)
def test_impossible_options_are_told_before_anything_is_run(
    roof_model, write_city, tmp_path, monkeypatch, options, match
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder.gpkg").mkdir()
    path = write_city()
    with pytest.raises(InputError, match=match):
        BuildingMapper(roof_model).predict(path, **{"out": "o.gpkg", "quiet": True, **options})
    assert {entry.name for entry in tmp_path.iterdir()} == {"city.tif", "folder.gpkg"}


@pytest.mark.parametrize(
    ("place", "out", "match"),
    [
        ({"crs": None}, "o.geojson", "GeoJSON is longitude and latitude"),
        ({"crs": "EPSG:4326"}, "o.gpkg", "outside"),
        ({"transform": Affine(0.5, 0, 320000, 0, 0, 5812000)}, "o.gpkg", "have an area of 0"),
    ],
)
def test_a_place_where_nothing_can_be_outlined_is_told_as_early(roof_model, write_city, tmp_path, place, out, match):
    with pytest.raises(InputError, match=match):
        BuildingMapper(roof_model).predict(write_city(**place), out=tmp_path / out, quiet=True)
    assert {entry.name for entry in tmp_path.iterdir()} == {"city.tif"}


def test_nothing_that_is_read_is_written_over(roof_model, write_city, tmp_path):
    path, area = write_city(), tmp_path / "area.gpkg"
    write_map(area, np.array([on_map((0, 0, 400, 300))]), height_m=np.array([5.0]))
    before = area.read_bytes()
    heights = FootprintOptions(View(30, 90), area)
    for options in ({"aoi": area}, {"target": "footprint", "footprints": heights}):
        with pytest.raises(InputError, match="is read, so it is not written over"):
            BuildingMapper(roof_model).predict(path, out=area, quiet=True, **options)
    assert area.read_bytes() == before


def test_many_rasters_cannot_share_one_file_of_probabilities(roof_model, write_city, tmp_path):
    rasters = [write_city(name) for name in ("a.tif", "b.tif")]
    with pytest.raises(InputError, match="cannot keep the probabilities of 2 rasters"):
        BuildingMapper(roof_model).predict_many(rasters, tmp_path / "o", probability=tmp_path / "kept.tif")
    assert not (tmp_path / "o").exists()

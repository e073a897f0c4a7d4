"""The files that a GIS user has of a city: a picture with its place on earth, and the map's misaligned footprints."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyogrio
import rasterio
import shapely
from affine import Affine
from shapely import affinity

from robustvision.buildings.synthetic.city import render_city
from robustvision.buildings.synthetic.label_noise import NoisyLabel, noisy_label
from robustvision.buildings.synthetic.roofs import visible_roofs
from robustvision.buildings.synthetic.scene import Building, Scene
from robustvision.buildings.synthetic.source import GENERATOR_VERSION
from robustvision.core.runtime.files import write_folder_atomically, write_json

RECIPE_NAME = "synthetic.json"
"""The file that marks a folder of rendered data: the parameters it was made with."""

CITY_CRS = "EPSG:32755"
"""UTM zone 55 south."""

CORNER_M = (320_000.0, 5_813_000.0)
"""East and north of a city's upper left corner: near Melbourne."""

_IMAGE, _FOOTPRINTS, _ROOFS, _HEIGHTS = "image.tif", "footprints.gpkg", "roofs.gpkg", "heights.csv"


@dataclass(frozen=True, eq=False)
class City:
    """A city on disk.

    Attributes:
        image: GeoTIFF, RGB, tiled; its tags say how it was seen: ``GSD_M``, ``OFF_NADIR_DEG``, ``AZIMUTH_DEG``.
        footprints: GeoPackage of the map as `noisy_label` makes it, with ``height_m``.
        roofs: GeoPackage of the visible roofs, exactly, with ``number``, ``height_m``, ``height_class``,
            ``offset_x_px`` and ``offset_y_px``.
        heights: CSV of the map's ``height_m`` and ``area_m2``.
        scene: What was rendered.
    """

    image: Path
    footprints: Path
    roofs: Path
    heights: Path
    scene: Scene


def write_city(
    folder: str | Path,
    *,
    size_px: int = 1024,
    gsd_m: float = 0.6,
    off_nadir_deg: float = 15.0,
    azimuth_deg: float | None = None,
    seed: int = 0,
) -> City:
    """Render a city and write it near Melbourne, in UTM.

    Args:
        folder: The folder to write; it must not exist, be empty, or be such a folder, which is then replaced.
        size_px: Side of the square picture.
        gsd_m: Ground sampling distance.
        off_nadir_deg: Angle between the view and the vertical.
        azimuth_deg: Direction in which tops lean, clockwise from north; drawn where None.
        seed: Seed of the city and of the map's errors.

    Returns:
        Where the files are.

    Raises:
        InputError: A value is out of range, or the folder holds something else.
    """
    view = {"gsd_m": gsd_m, "off_nadir_deg": off_nadir_deg, "azimuth_deg": azimuth_deg}
    scene = render_city(size_px, size_px, seed=seed, **view)  # type: ignore[arg-type]
    label, transform = noisy_label(scene, seed=seed), city_transform(gsd_m)
    with write_folder_atomically(folder, marker=RECIPE_NAME) as made:
        _write_image(made / _IMAGE, scene, transform)
        _write_layer(made / _FOOTPRINTS, _to_map(label.polygons, transform), {"height_m": np.array(label.heights_m)})
        _write_roofs(made / _ROOFS, scene, transform)
        _write_heights(made / _HEIGHTS, label, gsd_m)
        recipe = {"generator": GENERATOR_VERSION, "layout": "city", "size_px": size_px, "seed": seed, **view}
        write_json(made / RECIPE_NAME, recipe)
    place = Path(folder)
    return City(place / _IMAGE, place / _FOOTPRINTS, place / _ROOFS, place / _HEIGHTS, scene)


def city_transform(gsd_m: float) -> Affine:
    """Return from (column, row) of a city's picture to metres east and north in `CITY_CRS`."""
    return Affine(gsd_m, 0.0, CORNER_M[0], 0.0, -gsd_m, CORNER_M[1])


def _write_image(path: Path, scene: Scene, transform: Affine) -> None:
    height, width = scene.image.shape[:2]
    form = {"tiled": True, "blockxsize": 256, "blockysize": 256, "compress": "deflate", "predictor": 2}
    size = {"height": height, "width": width, "count": 3, "dtype": "uint8", "photometric": "RGB"}
    with rasterio.open(path, "w", driver="GTiff", **form, **size, crs=CITY_CRS, transform=transform) as raster:
        raster.write(np.moveaxis(scene.image, -1, 0))
        raster.update_tags(GSD_M=scene.gsd_m, OFF_NADIR_DEG=scene.off_nadir_deg, AZIMUTH_DEG=scene.azimuth_deg)


def _to_map(geometries: Sequence[shapely.Geometry], transform: Affine) -> list[shapely.Geometry]:
    """Outlines in metres, their exteriors counter-clockwise."""
    return [shapely.orient_polygons(affinity.affine_transform(one, transform.to_shapely())) for one in geometries]


def _write_layer(path: Path, geometries: Sequence[shapely.Geometry], columns: dict[str, Any]) -> None:
    is_multi = any(one.geom_type == "MultiPolygon" for one in geometries)
    pyogrio.raw.write(
        path,
        geometry=shapely.to_wkb(np.array(geometries, dtype=object)),
        field_data=list(columns.values()),
        fields=list(columns),
        layer=path.stem,
        driver="GPKG",
        geometry_type="MultiPolygon" if is_multi else "Polygon",
        promote_to_multi=is_multi,
        crs=CITY_CRS,
    )


def _write_roofs(path: Path, scene: Scene, transform: Affine) -> None:
    seen: list[tuple[Building, shapely.Geometry]] = visible_roofs(scene)
    buildings = [building for building, _ in seen]
    columns = {
        "number": np.array([building.number for building in buildings]),
        "height_m": np.array([building.height_m for building in buildings]),
        "height_class": np.array([building.height_class for building in buildings], dtype=object),
        "offset_x_px": np.array([building.offset_px[0] for building in buildings]),
        "offset_y_px": np.array([building.offset_px[1] for building in buildings]),
    }
    _write_layer(path, _to_map([roof for _, roof in seen], transform), columns)


def _write_heights(path: Path, label: NoisyLabel, gsd_m: float) -> None:
    with open(path, "w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["height_m", "area_m2"])
        for polygon, height_m in zip(label.polygons, label.heights_m, strict=True):
            table.writerow([f"{height_m:.2f}", f"{polygon.area * gsd_m**2:.1f}"])

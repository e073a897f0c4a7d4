"""Polygons of a map, from any vector file that GDAL opens, drawn on an image's own grid.

A layer is read once a process, in its own coordinate system, and mended: Z is dropped, self-crossing outlines are made
valid, what is empty or no polygon is left out. Its outlines are brought to each image's coordinate system, and by the
image's own transform to its pixels, so turned and south-up images need no special case. A pixel is building if its
centre is.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyogrio
import shapely
from affine import Affine
from pyogrio.errors import DataLayerError, DataSourceError
from pyproj import CRS
from rasterio.features import rasterize

from robustvision.buildings.data.pictures import file_stamp
from robustvision.buildings.data.tile import Bool, UInt8
from robustvision.buildings.geo import as_crs, transformer
from robustvision.core.errors import InputError

Geometries = npt.NDArray[np.object_]
_POLYGONS = (3, 6)  # shapely's numbers of Polygon and MultiPolygon


@dataclass(frozen=True, eq=False)
class Layer:
    """Polygons of a map, mended.

    Attributes:
        path: The file.
        crs: Their coordinate system; None where the file has none.
        polygons: Valid polygons and multipolygons, two-dimensional, not empty.
        num_mended: How many were broken.
        num_empty: How many features without a geometry, or without an area, were left out.
        num_other: How many points and lines were.
        num_repeated: How many of ``polygons`` are in it already.
    """

    path: Path
    crs: CRS | None
    polygons: Geometries
    num_mended: int
    num_empty: int
    num_other: int
    num_repeated: int


def read_layer(path: Path, layer: str | None = None, *, needs_crs: bool = True) -> Layer:
    """Read the polygons of a vector file.

    Args:
        path: GeoPackage, GeoJSON, Shapefile, or what else GDAL opens.
        layer: Its layer; not needed where there is one.
        needs_crs: Whether a file without a coordinate system is refused.

    Returns:
        The mended polygons; there may be none.

    Raises:
        InputError: It cannot be read, has several layers and none is named, or no coordinate system.
    """
    read = _layer(path, layer, file_stamp(path))
    if needs_crs:
        _system(read)
    return read


@lru_cache(maxsize=4)
def _layer(path: Path, layer: str | None, stamp: tuple[int, int]) -> Layer:
    try:
        layers = [str(name) for name, form in pyogrio.list_layers(path) if form is not None]  # tables have no form
        if layer is None and len(layers) != 1:
            raise InputError(f"{path} has the layers {', '.join(layers) or '(none)'}: name one, or write one to a file")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of measures and Z, which are dropped below
            meta, _, wkb, _ = pyogrio.raw.read(path, layer=layer or layers[0], columns=[], force_2d=True)
    except (DataSourceError, DataLayerError, OSError) as error:
        raise InputError(f"{path} cannot be read as a vector file ({error}): give a GeoPackage or GeoJSON") from error
    geometries = shapely.from_wkb(wkb, on_invalid="ignore")
    is_empty = shapely.is_missing(geometries) | shapely.is_empty(geometries)
    rest = geometries[~is_empty]
    is_polygon = np.isin(shapely.get_type_id(rest), (*_POLYGONS, 7))
    polygons, num_mended = mend_polygons(rest[is_polygon])
    return Layer(
        path=path,
        crs=as_crs(meta["crs"]) if meta["crs"] else None,
        polygons=polygons,
        num_mended=num_mended,
        num_empty=int(is_empty.sum()) + int(is_polygon.sum()) - len(polygons),
        num_other=int((~is_polygon).sum()),
        num_repeated=len(polygons) - len(np.unique(shapely.to_wkb(shapely.normalize(polygons)))),
    )


def mend_polygons(geometries: Geometries) -> tuple[Geometries, int]:
    """Make outlines valid, and leave out those without an area.

    Args:
        geometries: Polygons, multipolygons, collections.

    Returns:
        Valid polygons and multipolygons, and how many were broken.
    """
    geometries = shapely.force_2d(geometries)
    broken = ~shapely.is_valid(geometries)
    geometries[broken] = shapely.make_valid(geometries[broken], method="structure", keep_collapsed=False)
    mixed = shapely.get_type_id(geometries) == 7
    geometries[mixed] = [_only_polygons(geometry) for geometry in geometries[mixed]]
    return geometries[shapely.area(geometries) > 0], int(broken.sum())


def draw_layer(
    path: Path, layer: str | None, transform: Affine, crs: str, row: int, column: int, height: int, width: int
) -> tuple[UInt8, Bool | None]:
    """Draw the polygons that a window of an image shows.

    Args:
        path: The vector file.
        layer: As in `read_layer`.
        transform: The image's, from (column, row) to map units.
        crs: The image's coordinate system, as text.
        row: First row.
        column: First column.
        height: Rows.
        width: Columns.

    Returns:
        uint8 [height, width], 1 for building, else 0; and None: a map is taken to be complete.
    """
    polygons, tree = _layer_in(path, layer, crs, file_stamp(path))
    corners = [transform @ (column + x, row + y) for x in (0, width) for y in (0, height)]
    found = polygons[tree.query(shapely.convex_hull(shapely.multipoints(corners)))]
    inverse = ~transform

    def to_pixels(points: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        x, y = inverse @ (points[:, 0], points[:, 1])
        return np.column_stack([x - column, y - row])

    return draw_polygons(shapely.transform(found, to_pixels), height, width), None


def draw_polygons(polygons: Geometries, height: int, width: int) -> UInt8:
    """Draw polygons that are given in pixels (x right, y down, corners of pixels at integers).

    Args:
        polygons: Polygons and multipolygons, with holes.
        height: Rows.
        width: Columns.

    Returns:
        uint8 [height, width], 1 where a pixel's centre lies in a polygon, else 0.
    """
    if not len(polygons):
        return np.zeros((height, width), np.uint8)
    drawn: UInt8 = rasterize(polygons.tolist(), out_shape=(height, width), dtype=np.uint8)
    return drawn


def count_inside(path: Path, layer: str | None, crs: str, bounds: tuple[float, float, float, float]) -> int:
    """Count the polygons of a layer that touch a rectangle.

    Args:
        path: The vector file.
        layer: As in `read_layer`.
        crs: The rectangle's coordinate system, as text.
        bounds: Least x, least y, greatest x, greatest y.
    """
    _, tree = _layer_in(path, layer, crs, file_stamp(path))
    return len(tree.query(shapely.box(*bounds)))


@lru_cache(maxsize=8)
def _layer_in(path: Path, layer: str | None, crs: str, stamp: tuple[int, int]) -> tuple[Geometries, shapely.STRtree]:
    """A layer's polygons in another coordinate system, with their index."""
    source = _layer(path, layer, stamp)
    polygons, target, own = source.polygons, as_crs(crs), _system(source)
    if target != own:
        change = transformer(own, target)
        polygons = shapely.transform(polygons, lambda points: np.column_stack(change.transform(*points.T)))
        # outside the target's domain there is no such place, so no image of it either
        finite = np.isfinite(shapely.bounds(polygons)).all(axis=1)
        polygons, _ = mend_polygons(polygons[finite])
    return polygons, shapely.STRtree(polygons)


def _system(layer: Layer) -> CRS:
    if layer.crs is None:
        raise InputError(f"{layer.path} has no coordinate system: give it the right one (ogr2ogr -a_srs EPSG:...)")
    return layer.crs


def _only_polygons(collection: shapely.Geometry) -> shapely.Geometry:
    parts = shapely.get_parts(shapely.get_parts(collection))
    return shapely.union_all(parts[np.isin(shapely.get_type_id(parts), _POLYGONS)])

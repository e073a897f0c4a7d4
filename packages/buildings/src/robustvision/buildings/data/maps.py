"""Images on the map with the polygons of a vector file, and SpaceNet 4, which is that 27 times over one place."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path

from robustvision.buildings.data.folders import pair
from robustvision.buildings.data.layers import count_inside, draw_layer, read_layer
from robustvision.buildings.data.pictures import Form, Label, Picture, read_form
from robustvision.core.errors import InputError
from robustvision.core.runtime.images import list_images

LOOKS = {"nadir": 25.0, "off-nadir": 40.0, "very-off-nadir": 90.0}
"""SpaceNet 4's groups of looks, and the greatest off-nadir angle of each, in degrees."""
_LOOK = re.compile(r".*nadir(-?\d+)_catid_([0-9A-F]+)_(\d+_\d+)\.tiff?", re.IGNORECASE)
_TRUTH = re.compile(r".*?(\d+_\d+)\.geojson", re.IGNORECASE)


def read_vectors(images: str | Path, labels: str | Path, *, layer: str | None = None) -> list[Picture]:
    """List the images of a folder with the polygons of a map.

    Args:
        images: Folder of rasters with a coordinate system.
        labels: GeoPackage, GeoJSON, Shapefile, or what else GDAL opens; in any coordinate system.
        layer: Its layer; not needed where there is one.

    Returns:
        The pictures. Their labels are drawn on their own grids when they are read; one that shows no building has an
        empty label.

    Raises:
        InputError: An image or the file has no coordinate system, the file cannot be used, or none of its polygons lies
            in any image.
    """
    file = Path(labels)
    source = read_layer(file, layer)
    if not len(source.polygons):
        raise InputError(
            f"{file} holds no polygon, but {source.num_other} points or lines and {source.num_empty} empty geometries: "
            "give outlines of buildings"
        )
    pictures, inside = [], 0
    for path in list_images(images):
        form = read_form(path)
        pictures.append(Picture(path, path.stem, map_label(path, form, file, layer), form))
        inside += count_inside(file, layer, _crs(path, form), form.bounds)
    if not inside:
        raise InputError(
            f"none of the {len(source.polygons)} polygons of {file} ({source.crs and source.crs.name}) lies in one "
            f"of the {len(pictures)} images of {images}: check the coordinate system and the axis order of both"
        )
    return pictures


def read_labelled(
    images: str | Path, labels: str | Path, *, layer: str | None = None, building: int | None = None
) -> list[Picture]:
    """List the images of a folder with labels of any kind.

    Args:
        images: Folder of images.
        labels: A folder of masks of the same stems, or a vector file.
        layer: Of a vector file, as for `read_vectors`.
        building: Of masks, the value that means building; see ``read_mask``.

    Raises:
        InputError: As for `read_vectors` or ``pair``.
    """
    folder = Path(labels)
    if folder.is_dir() and folder.suffix.lower() != ".gdb":  # a file geodatabase is a folder
        return pair(Path(images), folder, building=building)
    return read_vectors(images, labels, layer=layer)


def map_label(path: Path, form: Form, file: Path, layer: str | None = None) -> Label:
    """Return what draws a map's polygons on an image's own grid.

    Args:
        path: The image.
        form: Its header.
        file: The vector file.
        layer: Its layer; not needed where there is one.

    Raises:
        InputError: The image has no coordinate system.
    """
    return partial(draw_layer, file, layer, form.transform, _crs(path, form))


def read_spacenet4(root: str | Path, *, looks: str | None = None) -> list[Picture]:
    """List SpaceNet 4: 900 x 900 px at 0.5 m, 27 looks at one place, one set of footprints for all.

    Images are found by their names wherever they lie below the folder (``..._nadir32_catid_..._743501_3724139.tif``),
    footprints by theirs (``..._743501_3724139.geojson``). The footprints lie on the ground: what they miss of a leaning
    building is the noise that this project is about.

    Args:
        root: The folder.
        looks: "nadir" (up to 25 deg), "off-nadir" (up to 40) or "very-off-nadir"; None for all.

    Returns:
        The pictures; their scene is the place, which all looks share. They say off-nadir angle and group of looks.

    Raises:
        InputError: An unknown group of looks, no image of it, or an image of a place that has no footprints.

    References:
        Weir et al.: SpaceNet MVOI: a multi-view overhead imagery dataset, ICCV 2019.
    """
    if looks is not None and looks not in LOOKS:
        raise InputError(f"looks {looks!r} is not known: choose {', '.join(LOOKS)}")
    root = Path(root)
    truths = {match[1]: path for path in root.rglob("*.geojson") if (match := _TRUTH.fullmatch(path.name))}
    pictures = []
    for path in sorted(root.rglob("*.tif*")):
        match = _LOOK.fullmatch(path.name)
        if match is None:
            continue
        angle_deg, place = abs(float(match[1])), match[3]
        group = next(name for name, limit_deg in LOOKS.items() if angle_deg <= limit_deg)
        if looks not in (None, group):
            continue
        if place not in truths:
            raise InputError(f"{path} has no footprints: expected a file ..._{place}.geojson below {root}")
        form = read_form(path)
        conditions = {"off_nadir_deg": angle_deg, "looks": group, "catid": match[2]}
        label = map_label(path, form, truths[place])
        pictures.append(Picture(path, path.stem, label, form, scene=place, gsd_m=0.5, conditions=conditions))
    if not pictures:
        raise InputError(
            f"{root} holds no image of SpaceNet 4 {f'({looks}) ' if looks else ''}named ..._nadir7_catid_..."
        )
    return pictures


def _crs(path: Path, form: Form) -> str:
    if form.crs is None:
        raise InputError(
            f"{path} has no coordinate system, so polygons of a map cannot be laid on it: "
            "georeference it (gdal_edit.py -a_srs, -a_ullr), or give masks"
        )
    return str(form.crs.to_wkt())

"""``robustvision-buildings predict`` and ``synthesize``: from options to calls, and back to plain values."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from robustvision.buildings.footprints import FootprintOptions
from robustvision.buildings.pipeline import BuildingMapper, MapFailure, MapResult
from robustvision.buildings.polygons import View
from robustvision.buildings.rasters.sweeping import BATCH_SIZE
from robustvision.buildings.synthetic import SyntheticScenes, synthesize, write_city
from robustvision.buildings.synthetic.tree import layout_gsd_m
from robustvision.core.errors import InputError


def predict_rasters(
    rasters: Sequence[Path],
    *,
    model: Path | None,
    out: Path,
    heights: Path | None = None,
    default_height_m: float | None = None,
    off_nadir_deg: float | None = None,
    azimuth_deg: float | None = None,
    batch_size: int = BATCH_SIZE,
    workers: int = 1,
    quiet: bool = False,
    **options: Any,
) -> dict[str, Any]:
    """Map one raster to a file, or many into a folder.

    Args:
        rasters: The rasters.
        model: An exported model; the shipped one where None.
        out: A file for one raster; for many a folder, whose files are GeoPackages.
        heights: For footprints: a map or a table of heights.
        default_height_m: For footprints: height of those that it does not hold.
        off_nadir_deg: For footprints: angle between the view and the vertical.
        azimuth_deg: For footprints: direction in which tops lean, clockwise from north.
        batch_size: Tiles of one call.
        workers: Processes.
        quiet: No progress.
        options: As for ``BuildingMapper.predict``; those that are None are left to it.

    Returns:
        Plain values: what came of each raster.

    Raises:
        InputError: A raster or an option cannot be used.
    """
    given = {name: value for name, value in options.items() if value is not None}
    if any(value is not None for value in (heights, default_height_m, off_nadir_deg, azimuth_deg)):
        if off_nadir_deg is None or azimuth_deg is None:
            raise InputError("footprints need the view: give --off-nadir and --azimuth, beside --heights")
        seen_from = View(off_nadir_deg, azimuth_deg)
        given["footprints"] = FootprintOptions(seen_from, heights, default_height_m=default_height_m)
    mapper = BuildingMapper(model, batch_size=batch_size)
    if len(rasters) == 1:
        return _plain(mapper.predict(rasters[0], out=out, workers=workers, quiet=quiet, **given))
    if out.suffix and not out.is_dir():
        raise InputError(f"{len(rasters)} rasters need a folder: give --out without an ending, not {out}")
    results = mapper.predict_many(rasters, out, workers=workers, quiet=quiet, **given)
    failed = [one.source for one in results if isinstance(one, MapFailure)]
    return {"rasters": [_plain(one) for one in results], "failed": failed}


def synthesize_scenes(
    out: Path,
    *,
    layout: str,
    size_px: int,
    seed: int,
    count: int | None = None,
    label: Any = None,
    quiet: bool = False,
) -> dict[str, Any]:
    """Write a rendered city, or scenes in the layout of a public data set.

    Args:
        out: The folder.
        layout: ``city``, or one of ``synthetic.LAYOUTS``.
        size_px: Side of a scene, or of the city.
        seed: Seed of the scenes.
        count: Number of scenes, 16 where None; a city is one image.
        label: What masks show, roofs where None; a city comes with vectors of all.
        quiet: No progress.

    Returns:
        Plain values: what was written.

    Raises:
        InputError: What the generator refuses.
    """
    if layout == "city":
        if count is not None or label is not None:
            raise InputError(
                "a city is one image with maps of its roofs and footprints: leave out --count and --label, or choose "
                "another --layout"
            )
        city = write_city(out, size_px=size_px, seed=seed)
        names = ("image", "footprints", "roofs", "heights")
        return {"folder": str(out), "layout": layout, **{name: str(getattr(city, name)) for name in names}}
    scenes = SyntheticScenes(16 if count is None else count, size_px=size_px, seed=seed)
    if (gsd_m := layout_gsd_m(layout)) is not None:
        scenes = dataclasses.replace(scenes, gsd_m=gsd_m)
    return synthesize(out, scenes, layout=layout, label=label or "roof", quiet=quiet)


def _plain(result: MapResult | MapFailure) -> dict[str, Any]:
    return dataclasses.asdict(result)

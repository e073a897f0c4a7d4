"""A raster in, a raster of probabilities out, in memory that does not grow with its height.

Strips of the raster are predicted by one or more processes, kept in a work folder beside the output, and put together
at the end. After a kill, the same call goes on with the next strip; after the end, it finds all done.
"""

from __future__ import annotations

import multiprocessing
import os
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from robustvision.buildings.contract import Preprocessing
from robustvision.buildings.outputs import check_replaceable, refuse_overwriting
from robustvision.buildings.rasters.area import read_area
from robustvision.buildings.rasters.blending import Blend
from robustvision.buildings.rasters.reading import Raster, open_raster
from robustvision.buildings.rasters.strips import (
    Job,
    count_strips,
    limited_cache,
    model_file,
    opened,
    predict_strip,
    read_strips,
)
from robustvision.buildings.rasters.sweeping import BATCH_SIZE, settings_of
from robustvision.buildings.rasters.tiling import TilePlan
from robustvision.buildings.rasters.work_folder import (
    fingerprint,
    finished_tags,
    is_own_result,
    prepare_folder,
    read_finished,
)
from robustvision.buildings.rasters.writing import write_probabilities
from robustvision.core.runtime.parallel import run_ordered
from robustvision.core.runtime.session import Model

GSD_TOLERANCE = 1.1


@dataclass(frozen=True)
class RasterPrediction:
    """What came of a raster.

    Attributes:
        source: The raster.
        path: The GeoTIFF of probabilities.
        height: Rows of both.
        width: Columns of both.
        crs_wkt: The raster's coordinate reference system; None where it has no place on the map.
        target: What a positive pixel shows: roof, footprint or shape.
        tiles: Tiles that the model was run on.
        skipped_tiles: Tiles without a pixel that has data and lies in the area of interest.
        valid_share: Share of the pixels that have a probability, 0 to 1.
        resumed_strips: Strips that an earlier run had finished.
        seconds: How long it took.
        warnings: What should be known: what the raster left open, a ground sampling distance that the model was not
            trained on, that there was nothing to look at.
    """

    source: str
    path: Path
    height: int
    width: int
    crs_wkt: str | None
    target: str
    tiles: int
    skipped_tiles: int
    valid_share: float
    resumed_strips: int
    seconds: float
    warnings: tuple[str, ...] = ()


def predict_raster(
    path: str | os.PathLike[str],
    model: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    aoi: str | os.PathLike[str] | None = None,
    bands: Sequence[int] | None = None,
    scale: Sequence[Any] | None = None,
    nodata: float | None = None,
    tile_px: int | None = None,
    stride_px: int | None = None,
    blend: Blend = "hann",
    batch_size: int = BATCH_SIZE,
    workers: int = 1,
    threads: int | None = None,
    providers: Sequence[str] | None = None,
    resume: bool = True,
    quiet: bool = False,
) -> RasterPrediction:
    """Predict a raster.

    The result does not depend on ``workers``, and on ``batch_size`` by rounding alone. Besides the output, the work
    folder takes some three bytes a pixel, until the end.

    Args:
        path: The raster; see `open_raster` for what is taken.
        model: An exported model of buildings.
        out: The GeoTIFF to write.
        aoi: A vector file of polygons: only there are results wanted.
        bands: As for `open_raster`.
        scale: As for `open_raster`; where None the model's own, if it was trained on more than 8 bits.
        nodata: As for `open_raster`.
        tile_px: Side of the tiles; the model's own where None.
        stride_px: Step between tiles; where None the model's own, in proportion to the tile.
        blend: How overlapping tiles are weighted, as for `blend_weights`.
        batch_size: Tiles of one call.
        workers: Processes; each opens the raster and the model itself.
        threads: Threads of one call; the cores of the machine, shared by the workers, where None.
        providers: onnxruntime's execution providers; the best available where None.
        resume: Whether to take over what an earlier call on the same raster and model, with the same settings, has
            finished: strips, or the whole output.
        quiet: Whether to show no progress.

    Returns:
        What came of it.

    Raises:
        InputError: The raster, the area or an option cannot be used, or the output cannot be written.
        ModelError: The model is broken, or no model of buildings.
    """
    start_s = time.perf_counter()
    target, source = Path(out), os.fspath(path)
    refuse_overwriting(target, (source, model, aoi))
    check_replaceable(target, is_own_result)
    is_alone = workers == 1 and multiprocessing.parent_process() is None
    file = model_file(Path(model), _provider_names(providers), threads, spinning=is_alone)
    network = opened(file)
    settings = settings_of(network, tile_px=tile_px, stride_px=stride_px, batch_size=batch_size, blend=blend)
    scale = settings.preprocessing.scale if scale is None else scale
    with limited_cache(), open_raster(path, bands=bands, scale=scale, nodata=nodata) as raster:
        plan = TilePlan(raster.height, raster.width, settings.tile_px, settings.stride_px)
        area = None if aoi is None else read_area(aoi, raster.crs, raster.transform, plan.height, plan.width)
        job = Job(raster.description, file, settings, plan, area, target.with_name(f".{target.name}.work"))
        key = fingerprint(raster, network, settings, area)
        counts, num_finished = read_finished(target, key) if resume else None, len(plan.strips)
        if counts is None:
            num_finished = _predict_strips(job, key, workers, resume, quiet)
            counts = _write_result(job, key, target, raster, network)
        tiles, valid = counts
        return RasterPrediction(
            source=source,
            path=target,
            height=plan.height,
            width=plan.width,
            crs_wkt=raster.crs.to_wkt() if raster.crs else None,
            target=settings.preprocessing.target,
            tiles=tiles,
            skipped_tiles=len(plan.rows) * len(plan.columns) - tiles,
            valid_share=valid / (plan.height * plan.width),
            resumed_strips=num_finished,
            seconds=time.perf_counter() - start_s,
            warnings=raster.notes + _gsd_warnings(raster, settings.preprocessing) + _empty_warnings(valid),
        )


def _predict_strips(job: Job, key: str, workers: int, resume: bool, quiet: bool) -> int:
    """Predict what is missing in the work folder; return how many strips were there."""
    finished = prepare_folder(job, key, resume)
    missing = [strip.number for strip in job.plan.strips if strip.number not in finished]
    label = f"predicting {os.path.basename(job.raster.path)}"
    run_ordered(partial(predict_strip, job), missing, workers=workers, label=label, quiet=quiet)
    return len(finished)


def _write_result(job: Job, key: str, out: Path, raster: Raster, model: Model) -> tuple[int, int]:
    """Put the strips together; return how many tiles and pixels they have."""
    counts = count_strips(job)
    tags = {
        "ROBUSTVISION_TARGET": job.settings.preprocessing.target,
        "ROBUSTVISION_MODEL": model.manifest.name,
        "ROBUSTVISION_MODEL_SHA256": model.sha256,
        "ROBUSTVISION_SOURCE": os.path.basename(raster.path),
    }
    write_probabilities(
        out,
        read_strips(job),
        height=raster.height,
        width=raster.width,
        transform=raster.transform,
        crs=raster.crs,
        tags=tags | finished_tags(key, counts),
        has_mask=counts[1] < raster.height * raster.width,
    )
    shutil.rmtree(job.folder, ignore_errors=True)
    return counts


def _provider_names(providers: Sequence[str] | None) -> tuple[str, ...] | None:
    return (providers,) if isinstance(providers, str) else None if providers is None else tuple(providers)


def _empty_warnings(valid: int) -> tuple[str, ...]:
    return (
        () if valid else ("no pixel has data, or none inside the area: nothing was looked at; check its nodata value",)
    )


def _gsd_warnings(raster: Raster, preprocessing: Preprocessing) -> tuple[str, ...]:
    if preprocessing.gsd_m is None or raster.gsd_m is None:
        return ()
    low, high = preprocessing.gsd_m
    if low / GSD_TOLERANCE <= raster.gsd_m <= high * GSD_TOLERANCE:
        return ()
    return (
        f"its pixels are {raster.gsd_m:.3g} m, the model was trained on {low:.3g} to {high:.3g} m: "
        "resample it (gdalwarp -tr), or expect worse results",
    )

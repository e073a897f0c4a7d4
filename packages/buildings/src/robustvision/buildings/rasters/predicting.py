"""A raster in, a raster of probabilities out, in memory that does not grow with its height.

Strips of the raster are predicted by one or more processes, kept in a work folder beside the output, and put together
at the end. Whoever is killed goes on with the next strip: the same call finds the folder again, by a fingerprint of
the raster, the model and all settings that change the result.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from robustvision.buildings.contract import Preprocessing
from robustvision.buildings.rasters.area import Area, read_area
from robustvision.buildings.rasters.blending import Blend
from robustvision.buildings.rasters.reading import Raster, open_raster
from robustvision.buildings.rasters.strips import Job, limited_cache, model_file, opened, predict_strip, read_strips
from robustvision.buildings.rasters.sweeping import BATCH_SIZE, Settings, settings_of
from robustvision.buildings.rasters.tiling import TilePlan
from robustvision.buildings.rasters.writing import write_probabilities
from robustvision.core.errors import InputError, RobustVisionError
from robustvision.core.runtime.files import json_text, make_folder, write_atomically
from robustvision.core.runtime.parallel import run_ordered
from robustvision.core.runtime.session import Model

FORMAT = 1
"""Of the work folder: a change of what strips hold, or of how they are computed, makes old ones unusable."""
FINGERPRINT_FILE = "fingerprint.txt"
GSD_TOLERANCE = 1.1

Bool = npt.NDArray[np.bool_]
UInt8 = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class RasterPrediction:
    """What came of a raster.

    Attributes:
        source: The raster.
        path: The GeoTIFF of probabilities.
        height: Rows of both.
        width: Columns of both.
        target: What a positive pixel shows: roof, footprint or shape.
        tiles: Tiles that the model was run on.
        skipped_tiles: Tiles without a pixel that has data and lies in the area of interest.
        valid_share: Share of the pixels that have a probability, 0 to 1.
        resumed_strips: Strips that an earlier run had finished.
        seconds: How long it took.
        warnings: What should be known: what the raster left open, a ground sampling distance that the model was not
            trained on.
    """

    source: str
    path: Path
    height: int
    width: int
    target: str
    tiles: int
    skipped_tiles: int
    valid_share: float
    resumed_strips: int
    seconds: float
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class RasterFailure:
    """A raster, among others, of which nothing came.

    Attributes:
        source: The raster.
        error: Why.
    """

    source: str
    error: str


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
        scale: As for `open_raster`; where None the model's own, if its manifest has one.
        nodata: As for `open_raster`.
        tile_px: Side of the tiles; the model's own where None.
        stride_px: Step between tiles; where None the model's own, in proportion to the tile.
        blend: How overlapping tiles are weighted, as for `blend_weights`.
        batch_size: Tiles of one call.
        workers: Processes; each opens the raster and the model itself.
        threads: Threads of one call; the cores of the machine, shared by the workers, where None.
        providers: onnxruntime's execution providers; the best available where None.
        resume: Whether to go on with what an earlier, interrupted call with the same settings has finished.
        quiet: Whether to show no progress.

    Returns:
        What came of it.

    Raises:
        InputError: The raster, the area or an option cannot be used, or the output cannot be written.
        ModelError: The model is broken, or no model of buildings.
    """
    start_s = time.perf_counter()
    target, source = Path(out), os.fspath(path)
    _check_output(target, source)
    file = model_file(
        Path(model),
        _provider_names(providers),
        threads,
        spinning=workers == 1 and multiprocessing.parent_process() is None,
    )
    network = opened(file)
    settings = settings_of(network, tile_px=tile_px, stride_px=stride_px, batch_size=batch_size, blend=blend)
    scale = network.manifest.preprocessing.get("scale") if scale is None else scale
    with limited_cache(), open_raster(path, bands=bands, scale=scale, nodata=nodata) as raster:
        transform, crs = raster.transform, raster.crs
        plan = TilePlan(raster.height, raster.width, settings.tile_px, settings.stride_px)
        area = None if aoi is None else read_area(aoi, crs, transform, plan.height, plan.width)
        key = _fingerprint(raster, network, settings, area)
        notes = raster.notes + _gsd_warnings(raster, settings.preprocessing)
        job = Job(raster.description, file, settings, plan, area, target.with_name(f".{target.name}.work"))
    finished = _prepare_folder(job, key, resume)
    missing = [strip.number for strip in plan.strips if strip.number not in finished]
    label = f"predicting {os.path.basename(source)}"
    run_ordered(partial(predict_strip, job), missing, workers=workers, label=label, quiet=quiet)
    tally: list[tuple[int, int]] = []
    with limited_cache():
        write_probabilities(
            target,
            _tallied(read_strips(job), tally),
            height=plan.height,
            width=plan.width,
            transform=transform,
            crs=crs,
            tags={
                "ROBUSTVISION_TARGET": settings.preprocessing.target,
                "ROBUSTVISION_MODEL": network.manifest.name,
                "ROBUSTVISION_MODEL_SHA256": network.sha256,
                "ROBUSTVISION_SOURCE": os.path.basename(source),
            },
        )
    shutil.rmtree(job.folder, ignore_errors=True)
    tiles, valid = (sum(numbers) for numbers in zip(*tally, strict=True))
    return RasterPrediction(
        source=source,
        path=target,
        height=plan.height,
        width=plan.width,
        target=settings.preprocessing.target,
        tiles=tiles,
        skipped_tiles=len(plan.rows) * len(plan.columns) - tiles,
        valid_share=valid / (plan.height * plan.width),
        resumed_strips=len(finished),
        seconds=time.perf_counter() - start_s,
        warnings=notes,
    )


def predict_many(
    paths: Sequence[str | os.PathLike[str]],
    model: str | os.PathLike[str],
    out_folder: str | os.PathLike[str],
    *,
    workers: int = 1,
    quiet: bool = False,
    **options: Any,
) -> list[RasterPrediction | RasterFailure]:
    """Predict many rasters, each by one process. One that fails takes no other with it.

    Args:
        paths: The rasters.
        model: An exported model of buildings.
        out_folder: Where the results go, under the names of the rasters, as ``.tif``; made if it is not there.
        workers: Rasters at a time.
        quiet: Whether to show no progress.
        **options: Of `predict_raster`.

    Returns:
        What came of each, in order.

    Raises:
        InputError: There is no raster, two would write the same file, or ``workers`` is not possible.
    """
    folder = make_folder(out_folder)
    outputs = [folder / f"{Path(path).stem}.tif" for path in paths]
    twice = sorted({out.name for out in outputs if outputs.count(out) > 1})
    if twice or not outputs:
        raise InputError(
            f"several rasters would be written to {twice[0]}: rename one" if twice else "no raster is given"
        )
    one = partial(_predict_or_tell, model=model, options=options)
    pairs = list(zip([os.fspath(path) for path in paths], outputs, strict=True))
    return run_ordered(one, pairs, workers=workers, label="predicting rasters", quiet=quiet)


def _predict_or_tell(
    pair: tuple[str, Path], model: str | os.PathLike[str], options: dict[str, Any]
) -> RasterPrediction | RasterFailure:
    try:
        return predict_raster(pair[0], model, pair[1], quiet=True, **options)
    except RobustVisionError as error:
        return RasterFailure(pair[0], str(error))


def _check_output(out: Path, source: str) -> None:
    if os.path.realpath(out) == os.path.realpath(source):
        raise InputError(f"{out} is the raster itself: name another file for the result")
    if not out.parent.is_dir():
        raise InputError(f"cannot write {out}: {out.parent} is not a folder: make it first")


def _provider_names(providers: Sequence[str] | None) -> tuple[str, ...] | None:
    return (providers,) if isinstance(providers, str) else None if providers is None else tuple(providers)


def _tallied(strips: Iterator[tuple[UInt8, Bool, int]], tally: list[tuple[int, int]]) -> Iterator[tuple[UInt8, Bool]]:
    """Pass strips on, and note the tiles and the pixels of each."""
    for probability, valid, tiles in strips:
        tally.append((tiles, int(np.count_nonzero(valid))))
        yield probability, valid


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


def _fingerprint(raster: Raster, model: Model, settings: Settings, area: Area | None) -> str:
    """Everything that changes the result, but for rounding: batch, workers and providers may differ."""
    states = [(os.path.realpath(file), os.stat(file)) for file in raster.files if os.path.exists(file)]
    collar = raster.description.collar
    content = {
        "format": FORMAT,
        "raster": raster.path,
        "files": [(file, state.st_size, state.st_mtime_ns) for file, state in states],
        "size": (raster.height, raster.width),
        "bands": raster.bands,
        "scale": raster.scale,
        "nodata": [str(value) for value in raster.description.nodata],
        "collar": None if collar is None else (collar.value, hashlib.sha256(collar.region.tobytes()).hexdigest()),
        "model": model.sha256,
        "tiles": (settings.tile_px, settings.stride_px, settings.blend),
        "area": None if area is None else hashlib.sha256(area.geometry.wkb).hexdigest(),
    }
    return hashlib.sha256(json_text(content).encode()).hexdigest()


def _prepare_folder(job: Job, key: str, resume: bool) -> set[int]:
    """Make the work folder, or take over the one of an earlier run; return the strips that are finished."""
    mark = job.folder / FINGERPRINT_FILE
    if mark.is_file() and not (resume and mark.read_text(encoding="utf-8") == key):
        shutil.rmtree(job.folder)
    make_folder(job.folder)
    if not mark.is_file():
        if any(job.folder.iterdir()):
            raise InputError(f"{job.folder} is in the way, and not from here: remove it, or name another output")
        with write_atomically(mark) as place:
            place.write_text(key, encoding="utf-8")
    return {strip.number for strip in job.plan.strips if job.place(strip).is_file()}

"""One strip of a raster: predicted by whoever is free, kept in the work folder until all are there.

A strip runs its own tiles alone. Where two strips overlap, each keeps its two blending sums, which are added when the
result is put together: nothing is computed twice, and nothing depends on who computed what.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import rasterio

from robustvision.buildings.contract import TASK
from robustvision.buildings.rasters.area import Area
from robustvision.buildings.rasters.blending import to_bytes
from robustvision.buildings.rasters.reading import RasterDescription
from robustvision.buildings.rasters.sweeping import Settings, sweep
from robustvision.buildings.rasters.tiling import Strip, TilePlan
from robustvision.core.errors import InputError
from robustvision.core.runtime.files import write_atomically
from robustvision.core.runtime.session import Model, open_model

CACHE_BYTES = 64 * 2**20
"""GDAL's block cache. Its own default, a twentieth of the machine's memory, fills up with every raster."""

Float32 = npt.NDArray[np.float32]
UInt8 = npt.NDArray[np.uint8]
Bool = npt.NDArray[np.bool_]
Stamp = tuple[int, int]


@dataclass(frozen=True)
class ModelFile:
    """How a model is opened.

    Attributes:
        path: The file or folder.
        stamp: Time and size of it: another file at the path is another model.
        providers: As for core's ``open_model``.
        threads: Likewise.
        spinning: Likewise.
    """

    path: Path
    stamp: Stamp
    providers: tuple[str, ...] | None
    threads: int | None
    spinning: bool


@dataclass(frozen=True, eq=False)
class Job:
    """What a worker needs to know to predict any strip of a raster.

    Attributes:
        raster: The raster.
        model: The model.
        settings: How it is run.
        plan: The tiles.
        area: Where results are wanted; everywhere where None.
        folder: Where finished strips are kept.
    """

    raster: RasterDescription
    model: ModelFile
    settings: Settings
    plan: TilePlan
    area: Area | None
    folder: Path

    def place(self, strip: Strip) -> Path:
        """Return the file of a finished strip."""
        return self.folder / f"strip-{strip.number:05d}.npz"


def limited_cache() -> rasterio.Env:
    """Return GDAL's environment with a block cache that does not grow with the raster."""
    return rasterio.Env(GDAL_CACHEMAX=CACHE_BYTES)


def model_file(
    path: Path, providers: tuple[str, ...] | None, threads: int | None, *, spinning: bool = True
) -> ModelFile:
    """Describe a model's file as it is now."""
    state = path.stat() if path.exists() else None
    return ModelFile(path, (state.st_mtime_ns, state.st_size) if state else (0, 0), providers, threads, spinning)


@lru_cache(maxsize=1)
def opened(model: ModelFile) -> Model:
    """Open a model; each process keeps the one that it used last.

    Raises:
        ModelError: It is broken, or no model of buildings.
    """
    return open_model(model.path, task=TASK, providers=model.providers, threads=model.threads, spinning=model.spinning)


def predict_strip(job: Job, number: int) -> None:
    """Predict a strip and keep it.

    Args:
        job: The raster and the model.
        number: The strip's.

    Raises:
        InputError: The raster cannot be read there, or the strip not be written.
    """
    strip, width = job.plan.strips[number], job.plan.width
    above = np.empty((2, strip.shared, width), np.float32)
    below = np.empty((2, strip.bottom - strip.top - strip.own, width), np.float32)
    body = np.empty((strip.own - strip.shared, width), np.uint8)
    valid = np.empty((strip.own, width), bool)
    row = tiles = 0
    inside = None if job.area is None else job.area.inside
    with limited_cache(), job.raster.open() as raster:
        graph = opened(job.model).main
        for sums, is_valid, run in sweep(raster, graph, job.settings, job.plan, strip.tile_rows, inside):
            end = row + sums.shape[1]
            first, last = (min(max(limit, row), end) for limit in (strip.shared, strip.own))
            above[:, row:first] = sums[:, : first - row]
            body[first - strip.shared : last - strip.shared] = to_bytes(sums[:, first - row : last - row])
            below[:, last - strip.own : end - strip.own] = sums[:, last - row :]
            valid[row : min(end, strip.own)] = is_valid[: max(0, strip.own - row)]
            row, tiles = end, tiles + run
    counts, packed = np.array([tiles, np.count_nonzero(valid)]), np.packbits(valid, axis=1)
    try:
        with write_atomically(job.place(strip)) as place, place.open("wb") as file:
            np.savez(file, above=above, body=body, below=below, valid=packed, counts=counts)
    except OSError as error:
        reason = error.strerror or error
        raise InputError(
            f"{job.folder}: a strip cannot be kept ({reason}): free space, the same call goes on"
        ) from error


def count_strips(job: Job) -> tuple[int, int]:
    """Return how many tiles were run for all strips, and how many pixels have a result."""
    total = np.zeros(2, np.int64)
    for strip in job.plan.strips:
        with np.load(job.place(strip)) as kept:
            total += kept["counts"]
    return int(total[0]), int(total[1])


def read_strips(job: Job) -> Iterator[tuple[UInt8, Bool]]:
    """Put finished strips together.

    Args:
        job: The raster and the model.

    Yields:
        From the top, uint8 [n, width], probabilities, 0 where there are none; and bool [n, width], where there are.
    """
    handed_on = np.empty((2, 0, job.plan.width), np.float32)
    for strip in job.plan.strips:
        with np.load(job.place(strip)) as kept:
            above = kept["above"]
            above[:, : handed_on.shape[1]] += handed_on
            probability = np.concatenate([to_bytes(above), kept["body"]])
            valid = np.unpackbits(kept["valid"], axis=1, count=job.plan.width).astype(bool)
            handed_on = kept["below"]
        probability[~valid] = 0
        yield probability, valid

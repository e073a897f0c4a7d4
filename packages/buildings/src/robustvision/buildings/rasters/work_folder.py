"""What is finished already: strips in the work folder, or the whole output. Known by a fingerprint."""

from __future__ import annotations

import hashlib
import os
import shutil
import warnings
from pathlib import Path

import rasterio
from rasterio.errors import NotGeoreferencedWarning, RasterioError

from robustvision.buildings.rasters.area import Area
from robustvision.buildings.rasters.reading import Raster
from robustvision.buildings.rasters.strips import Job
from robustvision.buildings.rasters.sweeping import Settings
from robustvision.core.errors import InputError
from robustvision.core.runtime.files import json_text, make_folder, write_atomically
from robustvision.core.runtime.session import Model

FORMAT = 1
"""Of strips and output: a change of what they hold, or how it is computed, makes old ones unusable."""
FINGERPRINT_FILE = "fingerprint.txt"
KEY_TAG, TILES_TAG, VALID_TAG = "ROBUSTVISION_FINGERPRINT", "ROBUSTVISION_TILES", "ROBUSTVISION_VALID_PIXELS"


def fingerprint(raster: Raster, model: Model, settings: Settings, area: Area | None) -> str:
    """Return a hash of all that changes the result by more than rounding: not the batch, the workers, the providers.

    Args:
        raster: The open raster; its files count by place, size and time.
        model: The model, which counts by its content.
        settings: How it is run.
        area: The area of interest.
    """
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


def prepare_folder(job: Job, key: str, resume: bool) -> set[int]:
    """Make the work folder, or take over the one of an earlier run.

    Args:
        job: What is to be done.
        key: Its fingerprint.
        resume: Whether to take over.

    Returns:
        The numbers of the strips that are finished.

    Raises:
        InputError: Something else stands there, or it cannot be made.
    """
    mark = job.folder / FINGERPRINT_FILE
    if mark.is_file() and not (resume and mark.read_text(encoding="utf-8") == key):
        shutil.rmtree(job.folder)
    make_folder(job.folder)
    if not mark.is_file():
        if any(entry.name != FINGERPRINT_FILE for entry in job.folder.iterdir() if not entry.name.startswith(".")):
            raise InputError(f"{job.folder} is in the way, and not from here: remove it, or name another output")
        with write_atomically(mark) as place:
            place.write_text(key, encoding="utf-8")
    return {strip.number for strip in job.plan.strips if job.place(strip).is_file()}


def finished_tags(key: str, counts: tuple[int, int]) -> dict[str, str]:
    """Return what an output says about itself, so that `read_finished` knows it again."""
    return {KEY_TAG: key, TILES_TAG: str(counts[0]), VALID_TAG: str(counts[1])}


def is_own_result(path: Path) -> bool:
    """Return whether a file is the output of a prediction, whatever it was made from."""
    return KEY_TAG in _tags(path)


def read_finished(out: Path, key: str) -> tuple[int, int] | None:
    """Return how many tiles were run for an output, and how many of its pixels have a result.

    Args:
        out: The output.
        key: The fingerprint that it must have.

    Returns:
        The numbers; None where the output is not there, or another one.
    """
    tags = _tags(out)
    return (int(tags[TILES_TAG]), int(tags[VALID_TAG])) if tags.get(KEY_TAG) == key else None


def _tags(path: Path) -> dict[str, str]:
    """What a raster says about itself; nothing where there is none."""
    if not path.is_file():
        return {}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            with rasterio.open(path) as raster:
                return dict(raster.tags())
    except RasterioError:
        return {}

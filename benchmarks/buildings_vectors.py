"""What do polygons from a raster of probabilities cost, beside ``rasterio.features.shapes`` on the whole mask?

A rendered raster: turned rectangles on a grid, blurred, with noise, as tiled GeoTIFF of 0.5 m. Every way runs in a
process of its own and reads the file; peak memory is the process's highest resident size above what it held after its
imports, and all that its workers held. The reference holds the whole mask, and all polygons; ``vectorise`` holds a
strip and passes polygons on. "the same polygons" skips simplification and squaring, so that both make the very same
outlines. Shown is the least of the repeats, since other work on the machine only adds; ratios are of processor time.

    python benchmarks/buildings_vectors.py [--sizes 4096x4096 8192x8192 16384x4096] [--repeats 3]
"""

from __future__ import annotations

import argparse
import contextlib
import json
import multiprocessing
import os
import platform
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import rasterio
import shapely
from affine import Affine
from rasterio.features import shapes
from rasterio.windows import Window

from robustvision.buildings.polygons import vectorise, write_polygons
from robustvision.core.runtime import write_json

OUT = Path(__file__).parent / "out" / "buildings_vectors.json"
CRS, TRANSFORM = "EPSG:32755", Affine(0.5, 0, 320_000, 0, -0.5, 5_810_000)
PITCH_PX = 56  # from one building to the next
REFERENCE = "shapes on the whole mask"


def write_probabilities(path: Path, height: int, width: int, seed: int = 0) -> None:
    """Write a city of rectangles, a strip of buildings at a time."""
    rng = np.random.default_rng(seed)
    profile = {"driver": "GTiff", "height": height, "width": width, "count": 1, "dtype": "uint8", "compress": "deflate"}
    tiling = {"tiled": True, "blockxsize": 512, "blockysize": 512, "bigtiff": "if_safer"}
    strip = PITCH_PX * 64
    with rasterio.open(path, "w", **profile, **tiling, crs=CRS, transform=TRANSFORM) as raster:
        for top in range(0, height, strip):
            mask = np.zeros((strip, width), np.uint8)
            for y in range(PITCH_PX // 2, strip, PITCH_PX):
                for x in range(PITCH_PX // 2, width, PITCH_PX):
                    centre = (x + rng.uniform(-4, 4), y + rng.uniform(-4, 4))
                    box = cv2.boxPoints((centre, tuple(rng.uniform(16, 40, 2)), rng.uniform(0, 90)))
                    cv2.fillPoly(mask, [np.rint(box).astype(np.int32)], 255)
            noise = cv2.resize(rng.uniform(-60, 60, (strip // 4, width // 4)).astype(np.float32), (width, strip))
            levels = np.clip(cv2.GaussianBlur(mask, (0, 0), 1.5) + noise, 0, 255).astype(np.uint8)
            rows = min(strip, height - top)
            raster.write(levels[:rows], 1, window=Window(0, top, width, rows))


def reference(path: Path) -> int:
    """What a short script does."""
    with rasterio.open(path) as raster:
        mask = raster.read(1) >= 128
        found = shapes(mask.view(np.uint8), mask=mask, connectivity=4, transform=raster.transform)
        return len([shapely.geometry.shape(shape) for shape, _ in found])


def outlines(path: Path) -> int:
    """The same polygons, from strips."""
    return sum(1 for _ in vectorise(path, simplify_m=0, regularise=False, min_area_m2=0))


def simplified(path: Path) -> int:
    """Simplified."""
    return sum(1 for _ in vectorise(path, regularise=False))


def squared(path: Path, workers: int = 1) -> int:
    """Simplified and squared."""
    return sum(1 for _ in vectorise(path, workers=workers))


def written(path: Path) -> int:
    """As `squared`, into a GeoPackage."""
    return write_polygons(vectorise(path), path.with_suffix(".gpkg"), crs=CRS, target="roof")


WAYS: dict[str, Callable[[Path], int]] = {
    REFERENCE: reference,
    "vectorise, the same polygons": outlines,
    "vectorise, simplified": simplified,
    "vectorise, squared": squared,
    "vectorise, squared, 2 workers": lambda path: squared(path, 2),
    "vectorise, squared, to GeoPackage": written,
}


def measure(way: str, path: Path) -> None:
    """Run one way in this process and print what it took."""
    held_mib, workers_mib, before = peak_mib("self"), [0.0], os.times()
    done = threading.Event()

    def watch() -> None:
        while not done.wait(0.05):
            with contextlib.suppress(OSError):  # a worker may end meanwhile
                held = sum(peak_mib(process.pid) for process in multiprocessing.active_children())
                workers_mib[0] = max(workers_mib[0], held)

    watcher = threading.Thread(target=watch)
    watcher.start()
    start_s = time.perf_counter()
    count = WAYS[way](path)
    seconds = time.perf_counter() - start_s
    done.set()
    watcher.join()
    used = os.times()  # of workers that have ended, too
    peak = peak_mib("self") - held_mib + workers_mib[0]
    processor_s = sum(used[:4]) - sum(before[:4])
    print(json.dumps({"polygons": count, "seconds": seconds, "processor_seconds": processor_s, "peak_mib": peak}))


def peak_mib(process: int | str | None) -> float:
    """Highest resident size of a process. Not ``ru_maxrss``, which begins at that of the process that started it."""
    for line in Path(f"/proc/{process}/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) / 1024
    return 0.0


def compare(size: str, repeats: int, folder: Path) -> dict[str, dict[str, float]]:
    """Let all ways take turns on one raster."""
    height, width = (int(side) for side in size.split("x"))
    path = folder / f"{size}.tif"
    write_probabilities(path, height, width)
    runs: dict[str, list[dict[str, float]]] = {way: [] for way in WAYS}
    for _ in range(repeats):
        for way, found in runs.items():
            command = [sys.executable, __file__, "--way", way, "--raster", str(path)]
            answer = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            found.append(json.loads(answer.splitlines()[-1]))
    return {way: {name: min(run[name] for run in found) for name in found[0]} for way, found in runs.items()}


def main() -> None:
    """Measure, print a table a size, write all to a file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", default=["4096x4096", "8192x8192", "16384x4096"], help="rows x columns")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    parser.add_argument("--raster", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.way:
        measure(options.way, options.raster)
        return
    results = {}
    with tempfile.TemporaryDirectory() as folder:
        for size in options.sizes:
            results[size] = compare(size, options.repeats, Path(folder))
            base = results[size][REFERENCE]
            print(
                f"\n{size}\n| way | polygons | seconds | processor seconds | ratio | peak MiB | ratio |\n"
                + "|---" * 7
                + "|"
            )
            for way, row in results[size].items():
                ratios = (row[name] / base[name] for name in ("processor_seconds", "peak_mib"))
                cells = (row["seconds"], row["processor_seconds"], next(ratios), row["peak_mib"], next(ratios))
                print(f"| {way} | {row['polygons']} | {' | '.join(f'{cell:.3g}' for cell in cells)} |")
    machine = {"processor": platform.machine(), "cores": os.cpu_count(), "python": platform.python_version()}
    OUT.parent.mkdir(exist_ok=True)
    write_json(OUT, {"repeats": options.repeats, "machine": machine, "results": results})


if __name__ == "__main__":
    main()

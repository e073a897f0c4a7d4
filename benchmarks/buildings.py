"""What mapping a raster costs, in time and memory: beside the bare call of the graph, beside MONAI, beside itself.

- ``memory``: the largest memory of ``predict_raster``, each time in a process of its own, with a graph that returns its
  input. Target: flat in the number of rows; it grows with the number of columns alone.
- ``speed``: ``predict_raster`` of 4,096 x 4,096 px, from file to file, beside onnxruntime on the same tiles in the same
  batches, which lie in memory, normalised. Target: at most 1.3.
- ``blending``: from a picture in memory to probabilities with a network that returns its input, beside
  ``monai.inferers.sliding_window_inference`` with the same tiles and batches; and its largest memory beyond that.
- ``workers``: two processes of one thread beside one.

The two of a pair take turns; ratios are of the medians: of the clock, and of the processor's time in this process,
which a busy machine distorts less (and which does not see workers).

    python benchmarks/buildings.py [--only memory speed blending workers] [--repeats 3]

MONAI is in the dependency group ``bench``. A section that was not asked for keeps its last result in the JSON file.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime
import rasterio
from affine import Affine

from robustvision.buildings.contract import IMAGE, LOGITS, TASK, Preprocessing
from robustvision.buildings.models import shipped_model
from robustvision.buildings.rasters import TilePlan, open_raster, predict_raster
from robustvision.buildings.rasters.sweeping import Settings, settings_of, sweep_picture
from robustvision.core.runtime.cores import default_threads
from robustvision.core.runtime.progress import track
from robustvision.core.runtime.session import open_model

OUT = Path(__file__).parent / "out" / "buildings.json"
SIDE_PX = 4096
LENGTHS_PX = (4096, 8192, 16384)
BLOCK_PX = 512

Row = dict[str, float | str]


def section_memory(repeats: int) -> list[Row]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = write_identity(folder / "identity.onnx")
        sizes = [(rows, SIDE_PX) for rows in LENGTHS_PX] + [(SIDE_PX, columns) for columns in LENGTHS_PX[1:]]
        rows = []
        for height, width in track(sizes, "measuring memory"):
            raster = write_city(folder / "city.tif", height, width)
            start = time.perf_counter()
            peak_mb = child("memory", raster, model, folder / "out.tif")
            seconds = time.perf_counter() - start
            rows.append(
                {
                    "what": f"{height:,} rows x {width:,} columns",
                    "peak_mb": peak_mb,
                    "million_px_a_s": height * width / 1e6 / seconds,
                }
            )
        rows.append({"what": "the libraries alone", "peak_mb": child("nothing"), "million_px_a_s": float("nan")})
    return rows


def section_speed(repeats: int) -> list[Row]:
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        raster, model = write_city(folder / "city.tif", SIDE_PX, SIDE_PX), small_model(folder)
        settings = settings_of(open_model(model))
        for threads in sorted({1, default_threads()}):
            options: dict[str, Any] = {"threads": threads, "resume": False, "quiet": True}
            ours, bare = (
                partial(predict_raster, raster, model, folder / "out.tif", **options),
                bare_calls(raster, model, settings, threads),
            )
            timings = in_turns(ours, bare, repeats, f"predicting, and the bare graph, {threads} threads")
            what = f"{model.stem}, {SIDE_PX} x {SIDE_PX} px, tiles of {settings.tile_px} px, {threads} threads"
            rows.append(pair(what, *timings, "the bare graph"))
    return rows


def section_blending(repeats: int) -> list[Row]:
    rows = []
    for side in (SIDE_PX, 2 * SIDE_PX):
        picture = np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8)
        ours_s, peer_s = in_turns(partial(blend, picture), monai_blend(picture), repeats, "blending, and MONAI")
        one = pair(f"blending, {side} x {side} px", ours_s, peer_s, "MONAI")
        rows.append(one | {"ours_mb": child("blend", side), "peer_mb": child("monai", side)})
    return rows


def section_workers(repeats: int) -> list[Row]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        raster, model = write_city(folder / "city.tif", SIDE_PX, SIDE_PX), small_model(folder)
        one, two = (
            partial(predict_raster, raster, model, folder / f"{n}.tif", workers=n, threads=1, resume=False, quiet=True)
            for n in (1, 2)
        )
        two_s, one_s = in_turns(two, one, repeats, "two workers, and one")
        return [pair("two workers of one thread", two_s, one_s, "one worker")]


def small_model(folder: Path) -> Path:
    """The shipped model; without it an untrained one of its form, since weights do not change what a call costs."""
    if shipped_model().is_file():
        return shipped_model()
    import torch

    from robustvision.buildings.export import export_network
    from robustvision.buildings.networks.compact_unet import CompactUNet

    torch.manual_seed(0)
    export_network(CompactUNet(), folder / "untrained.onnx", Preprocessing(), name="untrained", training={})
    return folder / "untrained.onnx"


def write_identity(path: Path) -> Path:
    """Write a graph whose logits are the first channel of its input."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    from robustvision.core.export import adopt_model

    weight = numpy_helper.from_array(np.float32([1, 0, 0]).reshape(1, 3, 1, 1), "w")
    shapes = {IMAGE: ["batch", 3, "y", "x"], LOGITS: ["batch", 1, "y", "x"]}
    image, logits = (helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items())
    graph = helper.make_graph([helper.make_node("Conv", [IMAGE, "w"], [LOGITS])], "g", [image], [logits], [weight])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), path)
    test = {IMAGE: np.zeros((1, 3, 32, 32), np.float32)}
    adopt_model(path, path, task=TASK, name="identity", preprocessing=Preprocessing().entry(), self_test_inputs=test)
    return path


def write_city(path: Path, height: int, width: int) -> Path:
    """Write a raster of noise with the grain of a city: tiled, DEFLATE, as orthophotos come."""
    place = {"transform": Affine(0.5, 0, 320000, 0, -0.5, 5812000), "crs": "EPSG:32755"}
    form = {"driver": "GTiff", "count": 3, "dtype": "uint8", "tiled": True, "compress": "deflate", "predictor": 2}
    blocks = {"blockxsize": BLOCK_PX, "blockysize": BLOCK_PX}
    rng = np.random.default_rng(0)
    with rasterio.open(path, "w", height=height, width=width, **form, **blocks, **place) as file:
        for row in range(0, height, BLOCK_PX):
            coarse = rng.integers(40, 200, (3, BLOCK_PX // 16, width // 16), dtype=np.uint8)
            grain = rng.integers(0, 16, (3, BLOCK_PX, width), dtype=np.uint8)
            rows = coarse.repeat(16, axis=1).repeat(16, axis=2) + grain
            file.write(rows, window=rasterio.windows.Window(0, row, width, BLOCK_PX))
    return path


def bare_calls(raster: Path, model: Path, settings: Settings, threads: int) -> Callable[[], None]:
    """onnxruntime itself, on the normalised tiles of a raster, with the options of ``predict_raster``."""
    with open_raster(raster) as file:
        image, _ = file.read(0, 0, file.height, file.width)
    plan = TilePlan(image.shape[0], image.shape[1], settings.tile_px, settings.stride_px)
    batches = []
    for row in plan.rows:
        planes = settings.preprocessing.normalise(image[row : row + plan.tile_px])
        tiles = [planes[:, :, column : column + plan.tile_px] for column in plan.columns]
        size = settings.batch_size
        batches += [np.stack(tiles[first : first + size]) for first in range(0, len(tiles), size)]
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(str(model), options, ["CPUExecutionProvider"])

    def call() -> None:
        for batch in batches:
            session.run(None, {IMAGE: batch})

    return call


def blend(picture: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """From a picture to probabilities, with a network that returns its input."""
    identity: Any = lambda tiles: [tiles[:, :1].copy()]  # noqa: E731
    return sweep_picture(picture, identity, Settings(Preprocessing(), 256, 192, 4, is_fixed=False))


def monai_blend(picture: npt.NDArray[np.uint8]) -> Callable[[], object]:
    """The same by MONAI, which takes the whole picture normalised."""
    import torch
    from monai.inferers import sliding_window_inference

    torch.set_grad_enabled(False)
    identity = lambda tiles: tiles[:, :1]  # noqa: E731
    options: dict[str, Any] = {"roi_size": (256, 256), "sw_batch_size": 4, "overlap": 0.25, "mode": "gaussian"}

    def call() -> object:
        image = torch.from_numpy(Preprocessing().normalise(picture))[None]
        return torch.sigmoid_(sliding_window_inference(image, predictor=identity, **options))

    return call


def child(task: str, *arguments: object) -> float:
    """Do something in a process of its own; return its largest memory in MB, on Linux."""
    command = [sys.executable, __file__, "--child", task, *map(str, arguments)]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def work(task: str, *arguments: str) -> None:
    """What a child does; it prints its largest memory, of blending beyond the picture and the libraries."""
    before_mb = 0.0
    if task == "memory":
        raster, model, out = arguments
        predict_raster(raster, model, out, resume=False, quiet=True)
    elif task in ("blend", "monai"):
        side = int(arguments[0])
        picture = np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8)
        call = partial(blend, picture) if task == "blend" else monai_blend(picture)
        before_mb = memory_mb("VmRSS")
        call()
    print(memory_mb("VmHWM") - before_mb)


def memory_mb(entry: str) -> float:
    """Memory of this process, now (``VmRSS``) or at most so far (``VmHWM``). What a parent held does not count."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(entry)) / 1024


Timing = tuple[list[float], list[float]]
"""Seconds of each call on the clock, and of the processor in this process."""


def in_turns(ours: Callable[[], object], peer: Callable[[], object], repeats: int, label: str) -> tuple[Timing, Timing]:
    """Time two calls in turns, after one of each that warms up."""
    timings: tuple[Timing, Timing] = ([], []), ([], [])
    for repeat in track(range(repeats + 1), label):
        for call, (clock, processor) in zip((ours, peer), timings, strict=True):
            start, busy = time.perf_counter(), time.process_time()
            call()
            if repeat:
                clock.append(time.perf_counter() - start)
                processor.append(time.process_time() - busy)
    return timings


def pair(name: str, ours: Timing, peer: Timing, of: str) -> Row:
    ours_s, ours_cpu, peer_s, peer_cpu = (statistics.median(seconds) for seconds in (*ours, *peer))
    return {
        "what": name,
        "peer": of,
        "ours_s": ours_s,
        "peer_s": peer_s,
        "ratio": ours_s / peer_s,
        "shortest_ratio": min(ours[0]) / min(peer[0]),
        "processor_ratio": ours_cpu / peer_cpu,
    }


SECTIONS: dict[str, Callable[[int], list[Row]]] = {
    "memory": section_memory,
    "speed": section_speed,
    "blending": section_blending,
    "workers": section_workers,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=SECTIONS, default=list(SECTIONS))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--child", nargs="+", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        work(*arguments.child)
        return
    results = json.loads(OUT.read_text()) if OUT.exists() else {}
    for name in arguments.only:
        rows = SECTIONS[name](arguments.repeats)
        versions = {"numpy": np.__version__, "onnxruntime": onnxruntime.__version__, "rasterio": rasterio.__version__}
        machine = {"processor": platform.machine(), "cores": len(os.sched_getaffinity(0)), **versions}
        results[name] = {"machine": machine, "repeats": arguments.repeats, "rows": rows}
        print(f"\n{name}")
        for one in rows:
            figures = (f"{key} {value:.3f}" for key, value in one.items() if isinstance(value, float))
            print(f"  {one['what']:68}{'   '.join(figures)}{'   beside ' + str(one['peer']) if 'peer' in one else ''}")
    OUT.parent.mkdir(exist_ok=True)
    OUT.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()

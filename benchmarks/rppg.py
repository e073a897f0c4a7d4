"""What the parts of the rppg package cost beside others' and beside the bare call; all of a section in one run.

- POS beside vitallens's POS on the same trace at 30 fps, where both use windows of 48 frames. Ours detrends and filters
  as well, vitallens's does not. Target: not slower.
- ``detrend`` beside the bare ``scipy.linalg.solveh_banded`` of the same system. Target: at most 2.
- ``PulseEstimator.push`` with a given face box of 150 px in a frame of 640x480, beside the bare call of its ``stream``
  graph in onnxruntime for every frame, all on one thread: crop, skin, time grid and tracking are what is added, and the
  graph is called for four frames at once. Timed are blocks of 60 frames, in each of which the skin of all is averaged
  at once: what a frame puts off is counted. Target: at most 1.2, and at least twice as fast as 30 frames a second.
  Beside it without a target: the bare graph called for four frames at once, too. Then an hour of frames (``--hour``):
  what the process holds after five minutes and at the end.

The two of a pair take turns in blocks of calls; ratios are of the medians, of blocks for ``push`` and else of calls.

    python benchmarks/rppg.py [--only pos detrend streaming] [--repeats 200] [--hour]

vitallens is in the dependency group ``bench``. A section that was not asked for keeps its last result in the JSON file.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import platform
import resource
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # one core, like an edge device
import cv2
import numpy as np
import numpy.typing as npt
import onnxruntime
import scipy
import scipy.linalg

from robustvision.rppg.classical import pos
from robustvision.rppg.contract import STREAM_GRAPH
from robustvision.rppg.models import shipped_model
from robustvision.rppg.pipeline import PulseEstimator
from robustvision.rppg.preprocessing import Preprocessing
from robustvision.rppg.signal import DETREND_LAMBDA, detrend
from robustvision.rppg.wave_source import AT_ONCE

OUT = Path(__file__).parent / "out" / "rppg.json"
FS = 30.0
SECONDS = (10, 60, 300)
BLOCK, WARM_UP = 20, 5  # calls
BLOCK_FRAMES = 60
BOX = (220, 100, 150, 190)

Row = dict[str, float | str]


def section_pos(repeats: int) -> list[Row]:
    from vitallens.methods.pos import POSRPPGMethod

    peer = POSRPPGMethod()
    rows = []
    for seconds in SECONDS[:2]:  # its memory grows with the square: 650 MB at 300 s
        trace = skin_trace(seconds)
        ours_s, peer_s = in_turns(partial(pos, trace, FS), partial(peer.algorithm, trace, FS), repeats)
        agreement = np.corrcoef(pos(trace, FS)[48:-48], peer.algorithm(trace, FS)[48:-48])[0, 1]
        rows.append(row(f"POS, {seconds} s", ours_s, peer_s, "vitallens") | {"correlation": float(agreement)})
    return rows


def section_detrend(repeats: int) -> list[Row]:
    rows = []
    for seconds in SECONDS:
        x = skin_trace(seconds)[:, 1]
        bands = system_bands(len(x))
        bare = partial(scipy.linalg.solveh_banded, bands, x, lower=True)
        ours_s, bare_s = in_turns(partial(detrend, x), bare, repeats)
        error = float(np.abs(detrend(x) - (x - bare())).max())
        rows.append(row(f"detrend, {seconds} s", ours_s, bare_s, "solveh_banded") | {"largest_difference": error})
    return rows


def section_streaming(repeats: int) -> list[Row]:
    rows = []
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as folder:
        for name, path in stream_models(Path(folder)):
            estimator = PulseEstimator(path, graph="stream", threads=1)
            image = np.random.default_rng(0).integers(90, 160, (480, 640, 3), dtype=np.uint8)
            clock = itertools.count()
            push = partial(_push, estimator, image, clock)
            crop = estimator.preprocessing.crop(image, BOX)
            bare, bare_at_once = (bare_stream(path, crop, frames) for frames in (1, AT_ONCE))
            turns = [
                (block_of(push), block_of(bare), block_of(bare_at_once, AT_ONCE)) for _ in range(max(2, repeats // 2))
            ]
            ours_s, one_s, at_once_s = (list(seconds) for seconds in zip(*turns[1:], strict=True))
            for peer_s, peer in ((one_s, "the bare graph"), (at_once_s, f"it, {AT_ONCE} frames a call")):
                one = row(f"push, {name}", ours_s, peer_s, peer)
                one["times_real_time"] = 1 / (FS * statistics.median(ours_s))
                rows.append(one)
    return rows


def block_of(call: Callable[[], None], frames: int = 1) -> float:
    """Mean seconds for a frame in a block of them, of a call that takes so many."""
    start = time.perf_counter()
    for _ in range(BLOCK_FRAMES // frames):
        call()
    return (time.perf_counter() - start) / BLOCK_FRAMES


def stream_models(folder: Path) -> Iterator[tuple[str, Path]]:
    """The shipped model, and an untrained one of full width: what a call costs does not depend on the weights."""
    import torch

    from robustvision.rppg.export import export_network
    from robustvision.rppg.networks import PhysFSUNet

    yield "the shipped model", shipped_model()
    for width in (16, 64):
        torch.manual_seed(0)
        network = PhysFSUNet(width=width, causal=True).eval()
        path = folder / f"width-{width}"
        export_network(network, path, Preprocessing(), name=path.name, training={})
        yield f"width {width}, 36 px", path


def bare_stream(path: Path, crop: npt.NDArray[np.uint8], frames: int) -> Callable[[], None]:
    """The stream graph in onnxruntime itself, for so many frames a call, which hands its states on."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path / f"{STREAM_GRAPH}.onnx"), options, ["CPUExecutionProvider"])
    frame, *states = session.get_inputs()
    outputs = [output.name for output in session.get_outputs()]
    sizes = {state.name: [size if isinstance(size, int) else 1 for size in state.shape] for state in states}
    feed: dict[str, npt.NDArray[np.generic]] = {name: np.zeros(shape, np.float32) for name, shape in sizes.items()}
    feed[frame.name] = np.repeat(crop.transpose(2, 0, 1)[None, :, None], frames, axis=2)

    def call() -> None:
        _, *after = session.run(outputs, feed)
        feed.update(zip(sizes, after, strict=True))

    return call


def _push(estimator: PulseEstimator, image: npt.NDArray[np.uint8], clock: Iterator[int]) -> None:
    estimator.push(image, next(clock) / FS, BOX)


def hour_of_frames() -> Row:
    """Push an hour of frames, ask every second; what the process holds after five minutes, and at the end."""
    with tempfile.TemporaryDirectory() as folder:
        name, path = next(stream_models(Path(folder)))
        estimator = PulseEstimator(path, graph="stream", threads=1)
        image = np.random.default_rng(0).integers(90, 160, (120, 160, 3), dtype=np.uint8)
        early_kb, start = 0, time.perf_counter()
        for k in range(round(3600 * FS)):
            estimator.push(image, k / FS, (50, 30, 60, 70))
            if k % round(FS) == 0:
                estimator.result()
            if k == round(300 * FS):
                early_kb = resident_kb()
    end_kb, seconds = resident_kb(), time.perf_counter() - start
    return {"what": f"an hour, {name}", "early_kb": early_kb, "end_kb": end_kb, "seconds": seconds}


def resident_kb() -> int:
    """Memory of this process now; on Linux."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() // 1024


def skin_trace(seconds: int) -> npt.NDArray[np.float64]:
    """Mean colours of a light skin with a pulse of 75 bpm, drift and noise."""
    times = np.arange(seconds * FS) / FS
    beat = 0.01 * np.cos(2 * np.pi * 1.25 * times)[:, None] * [0.33, 0.77, 0.53]
    drift = 0.02 * np.sin(2 * np.pi * 0.1 * times)[:, None]
    noise = np.random.default_rng(0).normal(0, 0.05, (len(times), 3))
    return np.array([196.0, 148.0, 121.0]) * (1 + drift - beat) + noise


def system_bands(length: int) -> npt.NDArray[np.float64]:
    """Lower bands of ``I + lambda^2 D'D``, from the dense product of a small one: all but the ends repeats."""
    second = np.diff(np.eye(9), 2, axis=0)
    product = np.eye(9) + DETREND_LAMBDA**2 * second.T @ second
    bands = np.zeros((3, length))
    for k in range(3):
        diagonal = np.diagonal(product, -k)
        bands[k, : length - k] = np.concatenate(
            [diagonal[:3], np.full(length - k - 6, diagonal[len(diagonal) // 2]), diagonal[-3:]]
        )
    return bands


def in_turns(ours: Callable[[], object], peer: Callable[[], object], repeats: int) -> tuple[list[float], list[float]]:
    """Seconds of each call. They take turns in blocks, of which the first calls warm up: what runs alone in an
    application has the processor's caches to itself."""
    seconds: tuple[list[float], list[float]] = ([], [])
    for _ in range(max(1, repeats // BLOCK)):
        for call, into in zip((ours, peer), seconds, strict=True):
            for place in range(BLOCK + WARM_UP):
                start = time.perf_counter()
                call()
                if place >= WARM_UP:
                    into.append(time.perf_counter() - start)
    return seconds


def row(name: str, ours_s: list[float], peer_s: list[float], peer: str) -> Row:
    ours, theirs = statistics.median(ours_s), statistics.median(peer_s)
    return {
        "what": name,
        "ours_ms": 1e3 * ours,
        "peer": peer,
        "peer_ms": 1e3 * theirs,
        "ratio": ours / theirs,
        "shortest_ratio": min(ours_s) / min(peer_s),
    }


SECTIONS: dict[str, Callable[[int], list[Row]]] = {
    "pos": section_pos,
    "detrend": section_detrend,
    "streaming": section_streaming,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=SECTIONS, default=list(SECTIONS))
    parser.add_argument("--repeats", type=int, default=200)
    parser.add_argument("--hour", action="store_true", help="push an hour of frames as well, some minutes")
    arguments = parser.parse_args()
    results = json.loads(OUT.read_text()) if OUT.exists() else {}
    for name in arguments.only:
        rows = SECTIONS[name](arguments.repeats)
        machine = {"numpy": np.__version__, "scipy": scipy.__version__, "processor": platform.machine()}
        results[name] = {"machine": machine, "repeats": arguments.repeats, "rows": rows}
        print(f"\n{'':24}{'ours ms':>10}{'peer ms':>10}{'ratio':>8}{'shortest':>10}")
        for one in rows:
            print(
                f"{one['what']:24}{one['ours_ms']:10.3f}{one['peer_ms']:10.3f}{one['ratio']:8.3f}"
                f"{one['shortest_ratio']:10.3f}  beside {one['peer']}"
            )
    if arguments.hour:
        results["hour"] = hour_of_frames()
        print(json.dumps(results["hour"]))
    OUT.parent.mkdir(exist_ok=True)
    OUT.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()

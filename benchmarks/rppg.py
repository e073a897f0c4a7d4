"""What the parts of the rppg package cost beside others' and beside the bare call; all of a section in one run.

- POS beside vitallens's POS on the same trace at 30 fps, where both use windows of 48 frames. Ours detrends and filters
  as well, vitallens's does not. Target: not slower.
- ``detrend`` beside the bare ``scipy.linalg.solveh_banded`` of the same system. Target: at most 2.

The two of a pair take turns; ratios are of the medians.

    python benchmarks/rppg.py [--only pos detrend] [--repeats 200]

vitallens is in the dependency group ``bench``. A section that was not asked for keeps its last result in the JSON file.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # one core, like an edge device
import numpy as np
import numpy.typing as npt
import scipy
import scipy.linalg

from robustvision.rppg.classical import pos
from robustvision.rppg.signal import DETREND_LAMBDA, detrend

OUT = Path(__file__).parent / "out" / "rppg.json"
FS = 30.0
SECONDS = (10, 60, 300)

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


SECTIONS: dict[str, Callable[[int], list[Row]]] = {"pos": section_pos, "detrend": section_detrend}


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
    """Seconds of each call; the first of both is the warm-up."""
    seconds: tuple[list[float], list[float]] = ([], [])
    for repeat in range(repeats + 1):
        for call, into in zip((ours, peer), seconds, strict=True):
            start = time.perf_counter()
            call()
            if repeat:
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=SECTIONS, default=list(SECTIONS))
    parser.add_argument("--repeats", type=int, default=200)
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
    OUT.parent.mkdir(exist_ok=True)
    OUT.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()

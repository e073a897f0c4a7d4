"""What do the 19 image corruptions cost, beside the package imagecorruptions? Milliseconds an image, in one run.

The photo is scikit-image's astronaut, 224x224, on one thread; the two take turns, corruption by corruption, and the
figure is the shortest of the repeats, since other work on the machine only adds. imagecorruptions 1.1.2 needs an old
numpy, so it runs in an environment of its own, which this script makes in ``benchmarks/out`` with uv; one argument of
scikit-image that was renamed since is translated for it. Its elastic transform is a milder one than the published. The
last column is what a frame of a video costs, where all that is random is drawn once.

    python benchmarks/corruptions.py [--repeats 15] [--severity 3] [--no-peer] [--picture FILE.png]

With ``--picture`` it only draws the picture of the documentation.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from skimage import data

from robustvision.core.data import CORRUPTIONS, corrupt, corrupt_video

OUT = Path(__file__).parent / "out"
PEER = ("imagecorruptions==1.1.2", "numpy<2", "setuptools<80", "scikit-image<0.25", "opencv-python-headless<4.11")
FRAMES = 8

# runs in the peer's environment: reads "name severity repeats" a line, answers with seconds and the mean error
WORKER = """
import json, sys, time, warnings
warnings.simplefilter("ignore")
import cv2, numpy as np, imagecorruptions.corruptions as functions
from imagecorruptions import corrupt
from skimage.filters import gaussian
cv2.setNumThreads(1)
functions.gaussian = lambda image, sigma=1, multichannel=None, **options: gaussian(
    image, sigma=sigma, channel_axis=-1 if multichannel else None, **options)
image = np.load(sys.argv[1])
for line in sys.stdin:
    name, severity, repeats = line.split()
    seconds = []
    for _ in range(int(repeats)):
        start = time.perf_counter()
        corrupted = corrupt(image, corruption_name=name, severity=int(severity))
        seconds.append(time.perf_counter() - start)
    print(json.dumps([seconds, float(abs(corrupted.astype(float) - image).mean())]), flush=True)
"""


def photo(size: int) -> npt.NDArray[Any]:
    return cv2.resize(data.astronaut(), (size, size), interpolation=cv2.INTER_AREA)


def seconds(function: Callable[[], object], repeats: int) -> list[float]:
    function()  # what is made once a process, such as tables, is not a cost of an image
    taken = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        taken.append(time.perf_counter() - start)
    return taken


class Peer:
    """imagecorruptions in another process, asked line by line."""

    def __init__(self, image: npt.NDArray[Any]) -> None:
        OUT.mkdir(exist_ok=True)
        environment, file = OUT / "imagecorruptions-env", OUT / "corruptions_photo.npy"
        python = environment / "bin" / "python"
        if not python.exists():
            uv = Path(sys.executable).parent / "uv"
            subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, environment], check=True)
            subprocess.run([uv, "pip", "install", "--quiet", "--python", python, *PEER], check=True)
        np.save(file, image)
        pipe = subprocess.PIPE
        self.process = subprocess.Popen([python, "-c", WORKER, file], stdin=pipe, stdout=pipe, text=True)

    def seconds(self, name: str, severity: int, repeats: int) -> list[float]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{name} {severity} {repeats}\n")
        self.process.stdin.flush()
        taken, _ = json.loads(self.process.stdout.readline())
        return list(taken)


def measure(severity: int, repeats: int, peer: Peer | None, image: npt.NDArray[Any]) -> list[dict[str, Any]]:
    rows = []
    frames = np.repeat(image[None], FRAMES, axis=0)
    print(f"{'corruption':18} {'ours ms':>8} {'theirs ms':>10} {'ratio':>7} {'ours, a frame of video ms':>26}")
    for name in CORRUPTIONS:
        ours = min(seconds(partial(corrupt, image, name, severity, 0), repeats))
        video = min(seconds(partial(corrupt_video, frames, name, severity, 0), repeats)) / FRAMES
        row: dict[str, Any] = {"name": name, "ours_ms": 1e3 * ours, "video_frame_ms": 1e3 * video}
        if peer is not None:
            few = repeats if name != "glass_blur" else 3  # half a second each
            row["theirs_ms"] = 1e3 * min(peer.seconds(name, severity, few))
            row["ratio"] = row["theirs_ms"] / row["ours_ms"]
        rows.append(row)
        theirs = f"{row['theirs_ms']:10.2f} {row['ratio']:7.1f}" if peer is not None else f"{'-':>10} {'-':>7}"
        print(f"{name:18} {row['ours_ms']:8.2f} {theirs} {row['video_frame_ms']:26.2f}")
    return rows


def draw(path: Path) -> None:
    """The picture of the documentation: every corruption at severity 3, on a part of the photo."""
    image = photo(224)
    tiles = []
    for name in CORRUPTIONS:
        tile = cv2.resize(corrupt(image, name, 3, seed=1), (96, 96), interpolation=cv2.INTER_AREA)
        label = np.full((16, 96, 3), 255, np.uint8)
        cv2.putText(label, name.replace("_", " "), (3, 12), cv2.FONT_HERSHEY_SIMPLEX, 0.32, (0, 0, 0), 1, cv2.LINE_AA)
        tiles.append(np.vstack([label, tile]))
    tiles.insert(0, np.vstack([np.full((16, 96, 3), 255, np.uint8), cv2.resize(image, (96, 96))]))
    rows = [np.hstack(tiles[i : i + 5]) for i in range(0, 20, 5)]
    cv2.imwrite(str(path), cv2.cvtColor(np.vstack(rows), cv2.COLOR_RGB2BGR), [cv2.IMWRITE_PNG_COMPRESSION, 9])
    print(f"{path}: {path.stat().st_size / 1000:.0f} kB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--severity", type=int, default=3, choices=range(1, 6))
    parser.add_argument("--no-peer", action="store_true", help="measure ours alone")
    parser.add_argument("--picture", type=Path, help="only draw the picture, into this file")
    options = parser.parse_args()
    if options.picture is not None:
        return draw(options.picture)
    cv2.setNumThreads(1)
    start = time.perf_counter()
    image = photo(224)
    try:
        peer = None if options.no_peer else Peer(image)
    except (OSError, subprocess.CalledProcessError) as error:
        peer = None
        print(f"imagecorruptions cannot be installed here ({error}); ours alone")
    rows = measure(options.severity, options.repeats, peer, image)
    if peer is not None:
        peer.process.terminate()
        print(f"median ratio {statistics.median(row['ratio'] for row in rows):.1f}")
    minutes = (time.perf_counter() - start) / 60
    result = {"machine": platform.processor() or platform.machine(), "severity": options.severity, "rows": rows}
    OUT.mkdir(exist_ok=True)
    (OUT / "corruptions.json").write_text(json.dumps(result | {"minutes": minutes}, indent=1) + "\n")
    print(f"{minutes:.1f} minutes; {OUT / 'corruptions.json'}")
    return None


if __name__ == "__main__":
    main()

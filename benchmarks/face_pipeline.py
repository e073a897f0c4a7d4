"""What the face pipeline adds to the model: time of ``embed(image, landmarks)``, and of import to first embedding.

Ratios in one run, alternating. The network is MobileFaceNet with 512 dimensions and random weights; the image is a
640 x 480 photo with one face.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from robustvision.face import FaceRecognizer
from robustvision.face.export import export_backbone
from robustvision.face.networks import MobileFaceNet

REPEATS, STARTS = 300, 9
LANDMARKS = np.array([[290, 200], [350, 202], [320, 240], [296, 272], [344, 274]], np.float32)
BARE_START = """
import time; start = time.perf_counter()
import sys
import numpy, onnxruntime
session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
session.run(None, {"data": numpy.zeros((1, 3, 112, 112), numpy.float32)})
print(time.perf_counter() - start)
"""
OUR_START = """
import time; start = time.perf_counter()
import sys
import numpy
from robustvision.face import FaceRecognizer
FaceRecognizer(sys.argv[1]).embed(numpy.full((112, 112, 3), 90, numpy.uint8))
print(time.perf_counter() - start)
"""


def measure_calls(path: Path) -> dict[str, float]:
    """Alternate the pipeline and the bare call on the same input."""
    image = np.random.default_rng(0).integers(0, 255, (480, 640, 3), dtype=np.uint8)
    recognizer = FaceRecognizer(path)
    run = recognizer.model.main._run_session  # two sessions would fight for the cores
    crop = recognizer.align(image, LANDMARKS)
    blob = np.ascontiguousarray(crop.transpose(2, 0, 1)[None], np.float32)
    ours, bare = [], []
    for _ in range(REPEATS):
        start = time.perf_counter()
        recognizer.embed(image, LANDMARKS)
        middle = time.perf_counter()
        run(None, {"data": blob})
        ours.append(middle - start)
        bare.append(time.perf_counter() - middle)
    return {
        "pipeline_ms": 1e3 * statistics.median(ours),
        "bare_ms": 1e3 * statistics.median(bare),
        "ratio": statistics.median(a / b for a, b in zip(ours, bare, strict=True)),
    }


def measure_starts(path: Path) -> dict[str, float]:
    """Alternate fresh processes: import, open, first embedding."""
    seconds: dict[str, list[float]] = {"ours": [], "bare": []}
    for turn in range(STARTS + 1):
        for name, code in (("ours", OUR_START), ("bare", BARE_START)):
            done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
            if turn:  # the first of each warms the disk cache
                seconds[name].append(float(done.stdout))
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    return {"start_s": medians["ours"], "bare_start_s": medians["bare"], "ratio": medians["ours"] / medians["bare"]}


def main() -> None:
    """Measure, print, and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/out/face_pipeline.json"))
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "face.onnx"
        export_backbone(MobileFaceNet(512), path, name="benchmark", training={"trained_on": "random weights"})
        result = {
            "image and landmarks to embedding": measure_calls(path),
            "import to first embedding": measure_starts(path),
        }
    for title, figures in result.items():
        print(title, *(f"{name}={value:.3f}" for name, value in figures.items()))
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

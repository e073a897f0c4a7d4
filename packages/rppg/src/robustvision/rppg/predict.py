"""``robustvision-rppg predict``: a film or a camera in, a heart rate a second out, as text, CSV or JSON. No torch."""

from __future__ import annotations

import csv
import io
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from robustvision.core.errors import InputError
from robustvision.core.runtime.faces import FaceDetector
from robustvision.core.runtime.files import write_atomically
from robustvision.rppg.estimate import estimate_video
from robustvision.rppg.pipeline import PulseEstimator, PulseResult

COLUMNS = ("time_s", "state", "heart_rate_bpm", "raw_bpm", "confidence", "frames_per_s", "reasons")
COLOURS = {"ok": "green", "warming_up": "cyan", "no_face": "red", "low_confidence": "yellow"}


def open_estimator(model: str | None, detector: Path | None = None) -> PulseEstimator:
    """Open an exported model, a classical method, or the shipped model where None."""
    found = None if detector is None else FaceDetector(detector)
    return PulseEstimator.synthetic(detector=found) if model is None else PulseEstimator(model, detector=found)


def predict_source(
    source: str,
    *,
    model: str | None = None,
    fps: float | None = None,
    detector: Path | None = None,
    every_s: float = 1.0,
    seconds: float | None = None,
    out: Path | None = None,
    show: bool = True,
) -> dict[str, Any]:
    """Read the heart rate of a film or a camera.

    Args:
        source: A video file, a folder of pictures, or the number of a camera.
        model: An exported model, or the name of a classical method; the shipped model where None.
        fps: Frames a second of a folder of pictures.
        detector: A YuNet file.
        every_s: Seconds between two readings.
        seconds: Stop after so many seconds; a camera runs until it is interrupted where None.
        out: A CSV file for the readings.
        show: Print a line a reading on standard error.

    Returns:
        Plain values: the median of the heart rates that were given, how often one was, and every reading.

    Raises:
        InputError: The source or the model cannot be used.
        MissingExtraError: The face detector's extra is not installed.
    """
    if source.isdecimal() and not Path(source).exists():
        opened: str | int = int(source)
    else:
        opened = source
    console = Console(stderr=True, highlight=False)
    results: list[PulseResult] = []
    try:
        for result in estimate_video(opened, open_estimator(model, detector), fps=fps, every_s=every_s):
            results.append(result)
            if show:
                console.print(_line(result), style=COLOURS[result.state], soft_wrap=True)
            if seconds is not None and result.time_s >= seconds:
                break
    except KeyboardInterrupt:  # how a camera is stopped
        pass
    if not results:
        raise InputError(f"{source} gave no reading: it holds no frame")
    rows = [_row(result) for result in results]
    if out is not None:
        with write_atomically(out) as place:
            place.write_text(_csv(rows), encoding="utf-8")
    return _summary(rows, results[-1])


def _summary(rows: Sequence[dict[str, Any]], last: PulseResult) -> dict[str, Any]:
    given = [row["heart_rate_bpm"] for row in rows if row["heart_rate_bpm"] is not None]
    summary: dict[str, Any] = {
        "heart_rate_bpm": float(np.median(given)) if given else None,
        "given": f"{len(given)} of {len(rows)} readings",
        "states": dict(Counter(row["state"] for row in rows)),
        "reasons": list(last.reasons),
        "readings": rows,
    }
    if last.hrv is not None and np.isfinite(last.hrv.sdnn_ms):
        summary["hrv"] = vars(last.hrv)
    return summary


def _row(result: PulseResult) -> dict[str, Any]:
    return {name: getattr(result, name) for name in COLUMNS[:-1]} | {"reasons": list(result.reasons)}


def _csv(rows: Sequence[dict[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator=os.linesep)
    writer.writeheader()
    writer.writerows({**row, "reasons": "; ".join(row["reasons"])} for row in rows)
    return text.getvalue()


def _line(result: PulseResult) -> str:
    rate = "  --" if result.heart_rate_bpm is None else f"{result.heart_rate_bpm:4.0f}"
    return f"{result.time_s:7.1f} s {rate} bpm  {result.confidence:.2f}  {result.state}  {'; '.join(result.reasons)}"

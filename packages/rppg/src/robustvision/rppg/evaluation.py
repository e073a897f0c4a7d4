"""Measures exported models and classical methods side by side on recordings that nobody trained on.

The way through: a predictor turns a clip into a wave, the protocol reads both waves, the metrics sum up the readings,
over all and by scenario and skin type. Every row carries the protocol, the version and, for a model, its hash.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from robustvision.core.errors import InputError
from robustvision.core.evaluation import places_by_condition, predictor_stamps
from robustvision.core.runtime.progress import track
from robustvision.core.runtime.session import Model
from robustvision.rppg.classical import METHODS, fill_gaps
from robustvision.rppg.contract import WINDOW_GRAPH
from robustvision.rppg.data.recording import Clip
from robustvision.rppg.metrics import Reading, pulse_metrics
from robustvision.rppg.protocol import PAPER2023, Protocol, protocol_sensitivity

Float64 = npt.NDArray[np.float64]
Predictor = Callable[[Clip], Float64]
MULTIPLE = 4
"""Networks that halve the time twice take a multiple of four frames."""


def classical_predictor(name: str) -> Predictor:
    """Return a classical method over the skin's mean colour.

    Args:
        name: One of ``classical.METHODS``.

    Raises:
        InputError: There is no such method.
    """
    if name not in METHODS:
        raise InputError(f"there is no method {name!r}: choose from {', '.join(METHODS)}")

    def predict(clip: Clip) -> Float64:
        return METHODS[name](fill_gaps(clip.traces, clip.fs), clip.fs)

    return predict


def model_predictor(model: Model) -> Predictor:
    """Return an exported network over whole clips.

    Args:
        model: With a ``window`` graph.

    Raises:
        InputError: The model has none, or a clip's crops are of another size.
    """
    if WINDOW_GRAPH not in model.graphs:
        raise InputError(f"{model.path} has no graph {WINDOW_GRAPH!r}: export it again")
    graph = model.graphs[WINDOW_GRAPH]

    def predict(clip: Clip) -> Float64:
        missing = -len(clip) % MULTIPLE
        frames = np.concatenate([clip.frames, np.repeat(clip.frames[-1:], missing, axis=0)])
        (wave,) = graph(np.ascontiguousarray(frames.transpose(3, 0, 1, 2)[None]))
        return np.asarray(wave[0, : len(clip)], np.float64)

    return predict


@dataclass(frozen=True)
class PulseEvaluation:
    """What several predictors reach on the same clips.

    Attributes:
        clips: The clips.
        waves: Name of each predictor to its wave on each clip.
        readings: Name of each predictor to its readings on each clip.
        protocol: How heart rates were read.
        stamps: Name of each predictor to what its rows carry beside the protocol.
    """

    clips: tuple[Clip, ...]
    waves: Mapping[str, tuple[Float64, ...]]
    readings: Mapping[str, tuple[list[Reading], ...]]
    protocol: Protocol
    stamps: Mapping[str, Mapping[str, str]]

    def rows(self, by: str = "") -> list[dict[str, Any]]:
        """Sum up.

        Args:
            by: A condition of the clips, such as ``scenario``; empty for all together.

        Returns:
            A row for each predictor and value of the condition.

        Raises:
            InputError: A clip does not say the condition.
        """
        groups = places_by_condition(self.clips, by)
        rows = []
        for name, readings in self.readings.items():
            for group, places in groups.items():
                found = [reading for place in places for reading in readings[place]]
                label = {by: group} if by else {}
                stamp = self.protocol.stamp() | dict(self.stamps[name])
                rows.append({"predictor": name, **label, **pulse_metrics(found).row(), **stamp})
        return rows

    def metrics(self, name: str) -> dict[str, float]:
        """Return the finite metrics of one predictor over all clips."""
        found = pulse_metrics([reading for each in self.readings[name] for reading in each]).row()
        return {key: float(value) for key, value in found.items() if np.isfinite(value)}

    def rates(self, name: str) -> tuple[Float64, Float64]:
        """Return heart rates and references in bpm, [n] each, of the windows of one predictor that have both."""
        table = np.array([(one.hr_bpm, one.label_bpm) for each in self.readings[name] for one in each]).reshape(-1, 2)
        table = table[np.isfinite(table).all(axis=1)]
        return table[:, 0], table[:, 1]

    def sensitivity(self, name: str, protocols: Sequence[Protocol] | None = None) -> list[dict[str, Any]]:
        """Measure one predictor's waves under many protocols: see :func:`protocol.protocol_sensitivity`."""
        pairs = [(wave, clip.bvp) for wave, clip in zip(self.waves[name], self.clips, strict=True)]
        rows = protocol_sensitivity(pairs, self.clips[0].fs, *([] if protocols is None else [protocols]))
        return [{"predictor": name, **row, **self.stamps[name]} for row in rows]


def evaluate_clips(
    predictors: Mapping[str, Predictor],
    clips: Sequence[Clip],
    protocol: Protocol = PAPER2023,
    *,
    hashes: Mapping[str, str] | None = None,
    quiet: bool = False,
) -> PulseEvaluation:
    """Run every predictor on every clip, and read the heart rates.

    Args:
        predictors: By name.
        clips: Of one frame rate.
        protocol: How heart rates are read.
        hashes: Name of a predictor to the hash of its model's file.
        quiet: No progress.

    Returns:
        Waves and readings. A clip in which a face is missing for longer than gaps may be filled has no classical wave:
        its readings are NaN and lower the coverage.

    Raises:
        InputError: There is no clip, or they differ in frame rate.
    """
    if not clips or len({clip.fs for clip in clips}) > 1:
        rates = sorted({clip.fs for clip in clips})
        raise InputError(f"{len(clips)} clips with frame rates {rates}: give clips of one rate")
    waves: dict[str, list[Float64]] = {name: [] for name in predictors}
    for clip in track(clips, "reading pulses", quiet=quiet):
        for name, predict in predictors.items():
            waves[name].append(_predict(predict, clip))
    readings = {
        name: tuple(
            protocol.read(wave, clip.bvp, clip.fs, name=clip.name) for wave, clip in zip(each, clips, strict=True)
        )
        for name, each in waves.items()
    }
    stamps = predictor_stamps("robustvision-rppg", predictors, hashes)
    return PulseEvaluation(
        tuple(clips), {name: tuple(each) for name, each in waves.items()}, readings, protocol, stamps
    )


def _predict(predict: Predictor, clip: Clip) -> Float64:
    try:
        return predict(clip)
    except InputError:
        if clip.has_face.all():
            raise
        return np.full(len(clip), np.nan)

"""The live half of heart rate: frames in as they come, a heart rate out where there is one to give. No torch.

A frame passes the tracker (which face), the crop, the time grid (by timestamps; a nominal frame rate is never
believed), and the wave's source. ``result`` averages the skin of the new crops, reads the last ten seconds and decides
whether they are worth a number: a photo, a face that is gone, a film of five frames a second get a reason instead.
"""

from __future__ import annotations

import math
import os
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from robustvision.core.errors import InputError, ModelError
from robustvision.rppg.classical import METHODS, fill_gaps
from robustvision.rppg.confidence import DEFAULT, LIVE, MANIFEST_KEY, Confidence, Signals, picture_quality
from robustvision.rppg.contract import FRAME, FRAMES, TASK, read_preprocessing
from robustvision.rppg.hrv import HRV, heart_rate_variability
from robustvision.rppg.judgement import judge_pulse
from robustvision.rppg.models import shipped_model
from robustvision.rppg.preprocessing import Preprocessing, check_image
from robustvision.rppg.pulse_buffer import Ring
from robustvision.rppg.skin import mean_colours
from robustvision.rppg.time_grid import Sample, TimeGrid, is_later
from robustvision.rppg.tracking import LOST_AFTER_S, BoxTracker, Detector
from robustvision.rppg.wave_source import ClassicalWave, StreamWave, WaveSource, WindowWave

KEEP_S = 60.0
WARM_UP_S = 5.0
LEAST_GRID_HZ = 10.0
_FRAME_TIMES = 300
_FOLD_AFTER = 60  # samples: where a result is asked for every two seconds, `push` never waits for it

Float64 = npt.NDArray[np.float64]
UInt8 = npt.NDArray[np.uint8]
State = Literal["warming_up", "no_face", "low_confidence", "ok"]


@dataclass(frozen=True, eq=False)
class PulseResult:
    """What the estimator can say now.

    Attributes:
        state: ``no_face``: none for a second; ``warming_up``: a face for less than 5 s; ``low_confidence``: there is
            a wave, but no heart rate that can be defended; ``ok``.
        time_s: The time of the newest frame; NaN before the first.
        heart_rate_bpm: The heart rate; None unless the state is ``ok``.
        raw_bpm: What the last 10 s alone say, neither smoothed nor judged; None where there is nothing to read.
        confidence: Probability that ``raw_bpm`` is within 5 bpm, 0 to 1.
        reasons: Why there is no heart rate, and what to do; with ``ok``, what else should be known.
        waveform: float64 [T] the pulse of the last 10 s at most, band-passed, of variance 1, upstroke positive.
        waveform_times_s: float64 [T] its times.
        signals: What the confidence is made of; None where there is no wave.
        hrv: Heart rate variability over the last minute at most, which says itself what is too short to know; None
            unless the state is ``ok``.
        frames_per_s: What the camera really gave; NaN before the second frame.
    """

    state: State
    time_s: float
    heart_rate_bpm: float | None = None
    raw_bpm: float | None = None
    confidence: float = 0.0
    reasons: tuple[str, ...] = ()
    waveform: Float64 = field(default_factory=lambda: np.empty(0))
    waveform_times_s: Float64 = field(default_factory=lambda: np.empty(0))
    signals: Signals | None = None
    hrv: HRV | None = None
    frames_per_s: float = math.nan


class PulseEstimator:
    """Reads the heart rate of the face in a stream of frames.

    Memory does not grow. Everything about a face is forgotten when it is gone for more than a second, when the frames
    pause for more than a second, and when the box jumps to another place: nothing of one person reaches the next.

    Args:
        model: An exported model (file or folder), or the name of a classical method, which needs none: ``pos``,
            ``chrom``, ``green``, ``ica``, ``lgi``, ``pbv``, ``omit``.
        graph: Which graph of the model to run, where it has both: ``stream``, every four frames (and when
            asked), or ``window``, once a second over the last 5 s.
        detector: Finds faces where the caller gives no boxes; core's ``FaceDetector``, made when it is first needed.
        preprocessing: Crop and grid of a classical method; a model brings its own.
        confidence: Judges the readings; by default the model's own calibration, else `confidence.DEFAULT`.
        smooth_over: The heart rate is the median of the raw ones of so many results; 1 leaves it raw.
        providers: onnxruntime's execution providers; the best available where None.
        threads: Threads of one call; the cores of the machine where None.

    Raises:
        InputError: There is no such method, or an option is out of range.
        ModelError: The model is broken, or not one of heart rates.

    Example:
        >>> estimator = PulseEstimator("pos")
        >>> skin = np.full((48, 48, 3), (200, 150, 120), np.uint8)
        >>> for k in range(180):
        ...     estimator.push(skin, timestamp_s=k / 30, box_xywh=(8, 8, 32, 32))
        >>> estimator.result().state, estimator.result().heart_rate_bpm
        ('low_confidence', None)
    """

    def __init__(
        self,
        model: str | os.PathLike[str] = "pos",
        *,
        graph: Literal["stream", "window"] | None = None,
        detector: Detector | None = None,
        preprocessing: Preprocessing | None = None,
        confidence: Confidence | None = None,
        smooth_over: int = 1,
        providers: list[str] | None = None,
        threads: int | None = None,
    ) -> None:
        if smooth_over < 1:
            raise InputError(f"smooth_over is {smooth_over}: it counts results, at least 1")
        if model in METHODS:
            self.preprocessing, self.confidence = preprocessing or Preprocessing(), DEFAULT
            self._open_source: Any = lambda: ClassicalWave(str(model), self.preprocessing.fs)
        else:
            self._open_model(Path(model), graph, preprocessing, providers, threads)
        if self.preprocessing.fs < LEAST_GRID_HZ:
            raise InputError(f"the grid has {self.preprocessing.fs:g} Hz: at least {LEAST_GRID_HZ:g} are needed")
        self.confidence = confidence or self.confidence
        self._second_method = "chrom" if model == "pos" else "pos"
        self._keep = round(KEEP_S * self.preprocessing.fs)
        self._detector = detector
        self._smooth_over = smooth_over
        self.reset()

    @classmethod
    def synthetic(cls, **options: Any) -> PulseEstimator:
        """Open the small model that ships with the package.

        It was trained on rendered faces alone: it shows that everything works, and is no medical device.

        Args:
            **options: As for the class.
        """
        return cls(shipped_model(), **options)

    def _open_model(
        self,
        path: Path,
        wanted: str | None,
        preprocessing: Preprocessing | None,
        providers: list[str] | None,
        threads: int | None,
    ) -> None:
        from robustvision.core.runtime.session import open_model  # classical methods need no onnxruntime

        if not path.exists():
            raise InputError(f"{path} is neither an exported model nor a method ({', '.join(METHODS)})")
        if preprocessing is not None:
            raise InputError("a model brings its own preprocessing: leave it out")
        model = open_model(path, task=TASK, providers=providers, threads=threads)
        graphs = {_role(graph.spec.inputs[0].name): graph for graph in model.graphs.values()}
        role = wanted or ("stream" if "stream" in graphs else "window")
        if role not in graphs:
            raise ModelError(f"{path} has no graph for {role}: it has {', '.join(model.graphs)}")
        settings = read_preprocessing(model.manifest.preprocessing, str(path))
        if graphs[role].spec.inputs[0].shape[3:] != (settings.size_px, settings.size_px):
            raise ModelError(f"{path}: {graphs[role]!r} does not take the {settings.size_px} px of its manifest")
        entry = model.manifest.metrics.get(MANIFEST_KEY)
        self.preprocessing = settings
        self.confidence = DEFAULT if entry is None else Confidence.from_entry(entry, str(path))
        self._open_source = lambda: (
            StreamWave(graphs[role], settings.size_px, settings.fs, self._keep)
            if role == "stream"
            else WindowWave(graphs[role], settings.size_px, round(settings.fs), self._keep)
        )

    def reset(self) -> None:
        """Forget everything, the clock as well: the next frame may have any time."""
        self._tracker = BoxTracker(self._detector)
        self._time_s = self._seen_s = -math.inf
        self._frame_times: deque[float] = deque(maxlen=_FRAME_TIMES)
        self._faces = 0
        self._forget()

    def _forget(self) -> None:
        """Forget the face."""
        self._track = -1
        self._grid = TimeGrid(self.preprocessing.fs)
        self._source: WaveSource = self._open_source()
        self._rows = Ring(self._keep, (5,), np.float64)  # mean R, G, B; motion, exposure
        self._pending: list[Sample] = []  # samples whose rows are not worked out yet
        self._crop: UInt8 | None = None  # the newest one
        self._folded: UInt8 | None = None  # the newest one that is in the rows
        self._sample_s = math.nan
        self._raw: deque[float] = deque(maxlen=self._smooth_over)
        self._read_s = math.nan

    def push(self, image: UInt8, timestamp_s: float, box_xywh: npt.ArrayLike | None = None) -> None:
        """Take the next frame.

        Args:
            image: uint8 [H, W, 3], RGB.
            timestamp_s: When it was taken, in seconds on any clock. A frame with the time of the one before is left
                out.
            box_xywh: [4] left, top, width and height of the face in pixels, NaN where there is none; None looks for
                it, every fifth frame.

        Raises:
            InputError: No RGB image, a time that runs backwards, or something else than a box. The frame is then left
                out, and the estimator can go on.
        """
        check_image(image)
        if box_xywh is not None:
            box_xywh = np.asarray(box_xywh, np.float64)
            if box_xywh.shape != (4,):
                raise InputError(f"a box of shape {box_xywh.shape}: give x, y, width and height, NaN without a face")
        if not is_later(timestamp_s, self._time_s if math.isfinite(self._time_s) else None):
            return
        if timestamp_s - self._time_s > LOST_AFTER_S:
            self.reset()
        found = self._tracker.update(image, timestamp_s, box_xywh)
        self._time_s, self._faces = timestamp_s, found.faces
        self._frame_times.append(timestamp_s)
        box = found.box_xywh
        crop = None if box is None else self.preprocessing.crop_if_seen(image, box)
        if crop is not None:
            if found.track != self._track:
                self._forget()
                self._track = found.track
            self._seen_s = timestamp_s
        elif self._track >= 0 and timestamp_s - self._seen_s > LOST_AFTER_S:
            self._forget()
        if self._track < 0:
            return
        for sample in self._grid.push(timestamp_s, crop, self._track if crop is not None else -1):
            self._take(sample)

    def _take(self, sample: Sample) -> None:
        self._pending.append(sample)
        if len(self._pending) >= _FOLD_AFTER:
            self._fold()
        if sample.crop is not None:
            self._crop = sample.crop
        if self._crop is not None:
            self._source.push(self._crop)  # where the face is missed for a moment, the last one is held
        self._sample_s = sample.time_s

    def _fold(self) -> None:
        """Work out colour and picture quality of the pending samples: all at once costs a third of one by one."""
        if not self._pending:
            return
        rows = np.full((len(self._pending), 5), np.nan)
        rows[:, :3] = mean_colours(self._pending)
        crops = [sample.crop for sample in self._pending if sample.crop is not None]
        if crops:
            rows[np.isfinite(rows[:, 0]), 3:] = picture_quality(np.stack(crops), self._folded)
            self._folded = crops[-1]
        for row in rows:
            self._rows.append(row)
        self._pending.clear()

    def result(self) -> PulseResult:
        """Say what can be said now; all heavy work is done here, so ask as often as an answer is wanted.

        Returns:
            The state, and with ``ok`` the heart rate.
        """
        fs, time_s = self.preprocessing.fs, self._time_s if math.isfinite(self._time_s) else math.nan
        times = self._frame_times
        rate = (len(times) - 1) / (times[-1] - times[0]) if len(times) > 1 else math.nan
        notes = (f"{self._faces} faces: the first one seen is followed",) if self._faces > 1 else ()
        if self._track < 0:
            reason = "no face is found: face the camera, upright and in good light"
            return PulseResult("no_face", time_s, reasons=(reason,), frames_per_s=rate)
        self._fold()
        rows = self._rows.last()
        traces = fill_gaps(rows[:, :3], fs, longest_s=math.inf)
        known_s = len(rows) / fs
        wave = self._source.wave(traces) if known_s >= WARM_UP_S else None
        if wave is None or len(wave.values) < WARM_UP_S * fs:
            reasons = (f"{known_s:.1f} s of a face so far: hold still a moment", *notes)
            return PulseResult("warming_up", time_s, reasons=reasons, frames_per_s=rate)
        assert LIVE.window_s is not None
        count = min(len(wave.values), round(LIVE.window_s * fs))
        last = slice(len(rows) - wave.pending - count, len(rows) - wave.pending)
        judgement = judge_pulse(
            wave.values[-count:],
            traces[last],
            rows[last, 3:],
            fs,
            lost=float(np.isnan(rows[last, 0]).mean()),
            frames_per_s=rate,
            confidence=self.confidence,
            second_method=self._second_method,
        )
        is_ok = not judgement.objections
        return PulseResult(
            state="ok" if is_ok else "low_confidence",
            time_s=time_s,
            heart_rate_bpm=self._smooth(judgement.raw_bpm) if is_ok else None,
            raw_bpm=judgement.raw_bpm,
            confidence=judgement.confidence,
            reasons=(*judgement.objections, *notes),
            waveform=judgement.wave,
            waveform_times_s=self._sample_s - (wave.pending + np.arange(count)[::-1]) / fs,
            signals=judgement.signals,
            hrv=heart_rate_variability(wave.values, fs) if is_ok else None,
            frames_per_s=rate,
        )

    def _smooth(self, raw_bpm: float | None) -> float | None:
        """The median over the last results; asking twice about the same frame counts once."""
        if raw_bpm is not None and self._read_s != self._time_s:
            self._raw.append(raw_bpm)
            self._read_s = self._time_s
        return float(np.median(self._raw)) if self._raw else None


def _role(first_input: str) -> str:
    return {FRAME: "stream", FRAMES: "window"}.get(first_input, first_input)

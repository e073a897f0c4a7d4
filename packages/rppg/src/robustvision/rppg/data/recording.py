"""What readers and the generator yield (`Recording`), and what training and evaluation take (`Clip`). No torch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from robustvision.core.errors import InputError
from robustvision.rppg.signal import check_times

Condition = str | int | float


@dataclass(frozen=True, eq=False)
class Recording:
    """One film of one person with its reference; nothing is decoded before `frames` is called.

    Attributes:
        name: Unique within its data set, such as ``01-03``.
        subject: Who it shows; splits are made by it.
        timestamps_s: [T] float64, the time of each frame, strictly increasing.
        bvp: [T] float32, the reference pulse wave at the frames' times, upstroke positive; NaN where the reference does
            not reach (before its first sample and after its last).
        frames: Opens the film anew: yields T frames, uint8 [H, W, 3], RGB. It can be pickled.
        conditions: What is known about it: task, light, motion, skin type.
        beats_s: [N] float64, the times of the heart beats, on the clock of ``timestamps_s``; None where not known.
        boxes_xywh: [T, 4] float32, the face in each frame in pixels, NaN where there is none; None where a detector
            has to find it.
    """

    name: str
    subject: str
    timestamps_s: npt.NDArray[np.float64] = field(repr=False)
    bvp: npt.NDArray[np.float32] = field(repr=False)
    frames: Callable[[], Iterator[npt.NDArray[np.uint8]]] = field(repr=False)
    conditions: Mapping[str, Condition]
    beats_s: npt.NDArray[np.float64] | None = field(default=None, repr=False)
    boxes_xywh: npt.NDArray[np.float32] | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        try:
            times = check_times(self.timestamps_s)
        except InputError as error:
            raise InputError(f"{self.name}: {error}") from None
        if len(times) < 2:
            raise InputError(f"{self.name} has one frame: a recording needs at least 2")
        if self.bvp.shape != times.shape:
            raise InputError(f"{self.name}: bvp is {self.bvp.shape}, but there are {len(times)} frames")
        if self.boxes_xywh is not None and self.boxes_xywh.shape != (len(times), 4):
            raise InputError(f"{self.name}: boxes_xywh is {self.boxes_xywh.shape}; expected {(len(times), 4)}")

    @property
    def duration_s(self) -> float:
        """From the first frame to the last."""
        return float(self.timestamps_s[-1] - self.timestamps_s[0])


@dataclass(frozen=True, eq=False)
class Clip:
    """A recording after preprocessing: one face crop a frame, on a uniform grid of times.

    Attributes:
        name, subject, conditions: As in `Recording`.
        fs: Frames per second.
        frames: [T, S, S, 3] uint8, RGB, the face crops; black where there is no face.
        traces: [T, 3] float64, mean skin colour, R, G, B in 0..255; NaN where there is no face.
        has_face: [T] bool.
        bvp: [T] float32, the reference pulse wave, upstroke positive; finite.
        beats_s: [N] float64, heart beats, in seconds from the first frame; None where not known.
    """

    name: str
    subject: str
    conditions: Mapping[str, Condition]
    fs: float
    frames: npt.NDArray[np.uint8]
    traces: npt.NDArray[np.float64]
    has_face: npt.NDArray[np.bool_]
    bvp: npt.NDArray[np.float32]
    beats_s: npt.NDArray[np.float64] | None = None

    def __post_init__(self) -> None:
        count = len(self.frames)
        if self.frames.dtype != np.uint8 or self.frames.ndim != 4 or self.frames.shape[3] != 3:
            raise InputError(f"{self.name}: frames are {self.frames.dtype} {self.frames.shape}; expected [T, S, S, 3]")
        shapes = {"traces": (count, 3), "has_face": (count,), "bvp": (count,)}
        for name, shape in shapes.items():
            if getattr(self, name).shape != shape:
                raise InputError(f"{self.name}: {name} is {getattr(self, name).shape}; expected {shape}")

    def __len__(self) -> int:
        return len(self.frames)

    @property
    def face_share(self) -> float:
        """Share of the frames that show a face, 0 to 1."""
        return float(self.has_face.mean())

"""The torch data set over clips: windows, augmentation that leaves the label true, the heart rate of each window."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import Dataset

from robustvision.core.data import array_fingerprint
from robustvision.core.errors import InputError
from robustvision.core.training.sampling import sample_rng, split_index
from robustvision.rppg.data.recording import Clip
from robustvision.rppg.signal import detrend, heart_rate_fft, z_score

RATE_RANGE_BPM = (40.0, 179.0)
"""Where a heart rate is looked for in a label, and how far a change of speed may move it: the bins of the losses."""

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Augmentation:
    """What may change without making the label wrong; everything is one draw a window, never one a frame.

    Colour jitter from frame to frame and playing backwards are no options: the first adds a pulse, the second mirrors
    the wave.

    Attributes:
        flip: Probability of a horizontal flip.
        gain: Brightness is multiplied by at most ``1 + gain`` and at least ``1 - gain``.
        offset: Grey levels, of 255, that are added or taken at most.
        crop: Share of the side that is cut away at most; the rest is enlarged to the full size.
        speed: Time runs at most so many times faster or slower, and the heart rate with it; 1 for none. The heart rate
            stays within 40 to 179 bpm.
        shift: Whether windows begin anywhere in the clip, not only at multiples of their length.
    """

    flip: float = 0.5
    gain: float = 0.2
    offset: float = 10.0
    crop: float = 0.15
    speed: float = 1.25
    shift: bool = True

    def __post_init__(self) -> None:
        for name in ("flip", "gain", "crop"):
            value, limit = getattr(self, name), 1.0 if name == "flip" else 0.9
            if not 0 <= value <= limit:
                raise InputError(f"{name} is {value}; expected 0 to {limit:g}")
        if not 0 <= self.offset <= 128:
            raise InputError(f"offset is {self.offset}; expected 0 to 128 grey levels")
        if not 1 <= self.speed <= 2:
            raise InputError(f"speed is {self.speed}; expected 1 (no change) to 2")


class PulseDataset(Dataset):
    """Windows of clips, augmented without a state: a sample depends on (seed, epoch, index) alone.

    Windows do not overlap, and the rest of a clip is left out. So is a window in which a frame shows no face, or whose
    label is flat; `num_without_face` and `num_flat` count them.

    Args:
        clips: Clips of one size and one frame rate.
        frames_per_sample: Frames of a window; the networks take multiples of 4.
        augmentation: What is changed in training, an ``Augmentation`` or its fields; None for evaluation.
        seed: Seed of the augmentation.

    Raises:
        InputError: No clip, clips that differ in size or rate, or none with a window that can be used.
    """

    def __init__(
        self,
        clips: Sequence[Clip],
        frames_per_sample: int = 160,
        *,
        augmentation: Augmentation | dict[str, Any] | None = None,
        seed: int = 0,
    ) -> None:
        if frames_per_sample < 8 or frames_per_sample % 4:
            raise InputError(f"frames_per_sample is {frames_per_sample}; expected a multiple of 4, at least 8")
        self.clips = tuple(clips)
        self.fs, self.size_px = _common_form(self.clips)
        self.frames_per_sample, self.seed = frames_per_sample, seed
        self.augmentation = Augmentation(**augmentation) if isinstance(augmentation, dict) else augmentation
        self._fingerprint: str | None = None
        candidates = np.array(
            [
                (place, start)
                for place, clip in enumerate(self.clips)
                for start in range(0, len(clip) - frames_per_sample + 1, frames_per_sample)
            ],
            np.int64,
        ).reshape(-1, 2)
        spans = [(self.clips[place], slice(start, start + frames_per_sample)) for place, start in candidates.tolist()]
        has_face = np.array([clip.has_face[span].all() for clip, span in spans], bool)
        moves = np.array([np.ptp(clip.bvp[span]) > 0 for clip, span in spans], bool)
        self.num_without_face = int((~has_face).sum())
        self.num_flat = int((has_face & ~moves).sum())
        self.windows: npt.NDArray[np.int64] = candidates[has_face & moves]
        """[N, 2] int64, the place of the clip and the first frame of each sample (before augmentation)."""
        if not len(self.windows):
            raise InputError(
                f"no window of {frames_per_sample} frames can be used: {len(self.clips)} clips gave {len(spans)}, of "
                f"which {self.num_without_face} lack a face and {self.num_flat} have a flat label"
            )

    @property
    def metainfo(self) -> dict[str, Any]:
        """What mmengine stores beside the weights: plain values."""
        return {
            "num_samples": len(self),
            "num_clips": len(self.clips),
            "num_subjects": len({clip.subject for clip in self.clips}),
            "num_without_face": self.num_without_face,
            "num_flat": self.num_flat,
            "frames_per_sample": self.frames_per_sample,
            "size_px": self.size_px,
            "fs": self.fs,
            "fingerprint": self.fingerprint(),
        }

    def fingerprint(self) -> str:
        """Return a hash that changes when the frames, the labels or the windows do."""
        if self._fingerprint is None:  # it is asked for at every checkpoint
            arrays = (array for clip in self.clips for array in (clip.frames, clip.bvp, clip.beats_s))
            self._fingerprint = array_fingerprint((self.fs, self.frames_per_sample), (self.windows, *arrays))
        return self._fingerprint

    def __len__(self) -> int:
        return len(self.windows)

    def __getitem__(self, key: int | tuple[int, int]) -> dict[str, Any]:
        """Return one sample.

        Args:
            key: (epoch, index), or the index alone, which means epoch 0.

        Returns:
            "frames", uint8 tensor [3, T, S, S], RGB; "bvp", float32 tensor [T], mean 0 and standard deviation 1;
            "heart_rate_bpm", float32 tensor []; "index", int.
        """
        epoch, index = split_index(key)
        if not 0 <= index < len(self):
            raise IndexError(index)  # ends a for loop over the data set
        place, start = self.windows[index].tolist()
        clip = self.clips[place]
        if self.augmentation is None:
            frames = clip.frames[start : start + self.frames_per_sample]
            bvp, rate_bpm = _label(clip, start + np.arange(self.frames_per_sample))
        else:
            rng = sample_rng(self.seed, epoch, index)
            at = _draw_times(clip, start, self.frames_per_sample, self.augmentation, rng)
            frames = _draw_look(clip.frames, at, self.augmentation, rng)
            bvp, rate_bpm = _label(clip, at)
        planes = np.array(frames.transpose(3, 0, 1, 2), order="C")  # a copy: the clip stays untouched
        return {
            "frames": torch.from_numpy(planes),
            "bvp": torch.from_numpy(bvp),
            "heart_rate_bpm": torch.tensor(rate_bpm, dtype=torch.float32),
            "index": index,
        }


def heart_rate_bpm(bvp: npt.NDArray[np.floating], fs: float, beats_s: npt.NDArray[np.float64] | None = None) -> float:
    """Return the heart rate of one window: the mean beat interval where beats are known, else the label's spectrum.

    Args:
        bvp: [T], the label, of any scale.
        fs: Its rate in Hz.
        beats_s: Beats, in seconds from the window's first sample; those outside the window are left out, and fewer than
            two inside count as not known.

    Returns:
        bpm; NaN for a flat label without beats. The spectrum's grid is 0.11 bpm at 30 fps, not the 7 bpm that 160
        frames give without padding, and looks between 40 and 179 bpm.
    """
    if beats_s is not None:
        inside = beats_s[(beats_s >= 0) & (beats_s <= (len(bvp) - 1) / fs)]
        if len(inside) > 1:
            return float(60 * (len(inside) - 1) / (inside[-1] - inside[0]))
    low, high = (rate / 60 for rate in RATE_RANGE_BPM)
    tapered = detrend(z_score(bvp)) * np.hanning(len(bvp))  # else the edges of a slow drift leak into the band
    return float(heart_rate_fft(tapered, fs, (low, min(high, 0.499 * fs)), refine=True))


def _common_form(clips: Sequence[Clip]) -> tuple[float, int]:
    """The rate and size that all clips share."""
    if not clips:
        raise InputError("the data set holds no clips")
    first = clips[0]
    for clip in clips:
        if clip.fs != first.fs or clip.frames.shape[1:] != first.frames.shape[1:]:
            raise InputError(
                f"{clip.name} is {clip.frames.shape[1:3]} px at {clip.fs:g} fps, but {first.name} is "
                f"{first.frames.shape[1:3]} px at {first.fs:g} fps: prepare all clips alike"
            )
    return first.fs, first.frames.shape[1]


def _label(clip: Clip, at: npt.NDArray[np.floating]) -> tuple[Floats, float]:
    """The label at evenly spaced places (in frames, also fractions) and the heart rate, on the new clock."""
    step = (at[-1] - at[0]) / (len(at) - 1)
    bvp = np.interp(at, np.arange(len(clip)), clip.bvp)
    beats = None if clip.beats_s is None else (clip.beats_s - at[0] / clip.fs) / step
    return z_score(bvp).astype(np.float32), heart_rate_bpm(bvp, clip.fs, beats)


def _draw_times(
    clip: Clip, start: int, count: int, augmentation: Augmentation, rng: np.random.Generator
) -> npt.NDArray[np.float64]:
    """Draw the places in the clip, in frames, from which the window's frames are taken."""
    drawn = math.exp(rng.uniform(-1, 1) * math.log(augmentation.speed))
    where = rng.random()
    for step in (drawn, 1.0):
        starts = _usable_starts(clip, math.ceil((count - 1) * step) + 1)
        if not augmentation.shift:
            starts = starts[starts == start]
        if len(starts):
            at = starts[int(where * len(starts))] + np.arange(count) * step
            if _is_plausible(clip, at):
                return at
    return start + np.arange(count, dtype=np.float64)


def _usable_starts(clip: Clip, span: int) -> npt.NDArray[np.int64]:
    """Where ``span`` frames with a face begin."""
    faces = np.concatenate([[0], np.cumsum(clip.has_face)])
    return np.flatnonzero(faces[span:] - faces[:-span] == span)


def _is_plausible(clip: Clip, at: npt.NDArray[np.float64]) -> bool:
    low, high = RATE_RANGE_BPM
    return low <= _label(clip, at)[1] <= high


def _draw_look(
    frames: npt.NDArray[np.uint8], at: npt.NDArray[np.float64], augmentation: Augmentation, rng: np.random.Generator
) -> npt.NDArray[np.uint8]:
    """Draw how the window looks: one flip, one cut and one brightness for all of its frames."""
    size = frames.shape[1]
    flip, cut, top, left, gain, offset = rng.random(6)
    side = 1 - augmentation.crop * cut
    centres = (np.arange(size) + 0.5) * side - 0.5
    picture = _read_between(frames, at, axis=0)
    picture = _read_between(picture, centres + top * (1 - side) * size, axis=1)
    picture = _read_between(picture, centres + left * (1 - side) * size, axis=2)
    if flip < augmentation.flip:
        picture = picture[:, :, ::-1]
    picture = picture * np.float32(1 + (2 * gain - 1) * augmentation.gain)
    picture += np.float32((2 * offset - 1) * augmentation.offset)
    return np.clip(np.rint(picture), 0, 255).astype(np.uint8)


def _read_between(values: npt.NDArray[Any], at: npt.NDArray[np.float64], *, axis: int) -> Floats:
    """Read an array between its places along an axis, linearly; the ends are held."""
    at = np.clip(at, 0, values.shape[axis] - 1)
    low = np.floor(at).astype(np.int64)
    weight = (at - low).astype(np.float32).reshape([-1 if axis == each else 1 for each in range(values.ndim)])
    below = values.take(low, axis).astype(np.float32)
    if not weight.any():
        return below
    above = values.take(np.minimum(low + 1, values.shape[axis] - 1), axis).astype(np.float32)
    return below + (above - below) * weight

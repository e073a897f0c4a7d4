"""Where a live estimator's wave comes from: a classical method, a network over windows, or one with memory.

All three take the face on the time grid, sample by sample, and give the wave of the last minute.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from robustvision.core.errors import ModelError
from robustvision.core.runtime.graph import Graph
from robustvision.rppg.classical import METHODS
from robustvision.rppg.contract import BVP, FRAME, FRAMES, T_MULTIPLE, WINDOW_FRAMES
from robustvision.rppg.pulse_buffer import OverlapAdd, Ring

Float64 = npt.NDArray[np.float64]
UInt8 = npt.NDArray[np.uint8]

SETTLE_S = 1.0
"""What a network with memory says while its caches fill is not used."""

AT_ONCE = 4
"""Samples that a network with memory takes in one call: in 0.57 to 0.82 of the time of as many calls."""


@dataclass(frozen=True)
class Wave:
    """The wave so far.

    Attributes:
        values: float64 [N], upstroke positive, of any offset and scale.
        pending: Samples that came after its end, and are not in it yet.
    """

    values: Float64
    pending: int = 0


class WaveSource(Protocol):
    """One face's wave."""

    def push(self, crop: UInt8) -> None:
        """Take the crop [S, S, 3] of the next sample."""

    def wave(self, traces: Float64) -> Wave:
        """Return the wave; ``traces``, [T, 3] without NaN, are the mean colours of the newest samples."""
        ...


class ClassicalWave:
    """The wave of a classical method, computed over the traces when it is asked for.

    Args:
        method: Its name.
        fs: Samples a second.
    """

    def __init__(self, method: str, fs: float) -> None:
        self._method, self._fs = METHODS[method], fs

    def push(self, crop: UInt8) -> None:
        """Nothing: the traces say all."""

    def wave(self, traces: Float64) -> Wave:
        """Return the wave of the traces."""
        return Wave(self._method(traces, self._fs))


class StreamWave:
    """The wave of a network with memory, one value a sample.

    Samples wait until there are `AT_ONCE` of them, or until the wave is asked for. A graph that takes one frame a call
    gets one.

    Args:
        graph: The graph ``stream``.
        size_px: Side of the crops.
        fs: Samples a second.
        keep: Samples to remember.
    """

    def __init__(self, graph: Graph, size_px: int, fs: float, keep: int) -> None:
        check_graph(graph, FRAME)
        self._stream = graph.stream()
        at_once = AT_ONCE if isinstance(graph.spec.inputs[0].shape[2], str) else 1
        self._frames = np.empty((1, 3, at_once, size_px, size_px), graph.spec.inputs[0].dtype)
        self._waiting = 0
        self._values = Ring(keep, (), np.float64)
        self._to_settle = round(SETTLE_S * fs)

    def push(self, crop: UInt8) -> None:
        """Keep a crop; run the network where there are enough of them."""
        self._frames[0, :, self._waiting] = crop.transpose(2, 0, 1)
        self._waiting += 1
        if self._waiting == self._frames.shape[2]:
            self._run(self._frames)

    def wave(self, traces: Float64) -> Wave:
        """Return what the network says, of the waiting samples too."""
        if self._waiting:
            self._run(np.ascontiguousarray(self._frames[:, :, : self._waiting]))
        return Wave(self._values.last())

    def _run(self, frames: npt.NDArray[Any]) -> None:
        self._waiting = 0
        for value in self._stream.step(**{FRAME: frames})[BVP][0]:
            if self._to_settle:
                self._to_settle -= 1
            else:
                self._values.append(value)


class WindowWave:
    """The wave of a network over windows, run once every hop, windows joined by weighted addition.

    Args:
        graph: The graph ``window``.
        size_px: Side of the crops.
        hop: Samples from one window to the next.
        keep: Samples to remember.
    """

    def __init__(self, graph: Graph, size_px: int, hop: int, keep: int) -> None:
        check_graph(graph, FRAMES)
        length = graph.spec.inputs[0].shape[2]
        self.length = length if isinstance(length, int) else WINDOW_FRAMES
        if self.length % T_MULTIPLE or self.length > keep:
            raise ModelError(f"{graph!r}: a window has {self.length} frames, expected a multiple of {T_MULTIPLE}")
        self._graph, self._hop = graph, hop
        self._dtype = graph.spec.inputs[0].dtype
        self._crops = Ring(self.length, (size_px, size_px, 3), np.uint8)
        self._sums = Ring(keep, (2,), np.float64)
        self._overlap_add = OverlapAdd(self.length)
        self._until_window = self.length

    def push(self, crop: UInt8) -> None:
        """Keep a crop; run the network where a hop is complete."""
        self._crops.append(crop)
        self._sums.append(0.0)
        self._until_window -= 1
        if self._until_window:
            return
        self._until_window = self._hop
        frames = np.ascontiguousarray(self._crops.last().transpose(3, 0, 1, 2), self._dtype)[None]
        (wave,) = self._graph(frames)
        self._overlap_add.add(wave[0].astype(np.float64), self._sums.last(self.length))

    def wave(self, traces: Float64) -> Wave:
        """Return the wave up to the end of the last window."""
        sums = self._sums.last()
        covered = sums[:, 1] > 0
        pending = int(np.argmax(covered[::-1])) if covered.any() else len(sums)
        done = sums[: len(sums) - pending]
        return Wave(done[:, 0] / np.where(done[:, 1] > 0, done[:, 1], 1.0), pending)


def check_graph(graph: Graph, first_input: str) -> None:
    """Refuse a graph whose tensors are not those of the contract.

    Raises:
        ModelError: Its first input or its wave has another name or form, or another input is no state.
    """
    spec = graph.spec
    image, others = spec.inputs[0], {tensor.name for tensor in spec.inputs[1:]}
    form = (image.name, len(image.shape), image.shape[1:2], image.dtype in ("uint8", "float32"))
    if form != (first_input, 5, (3,), True) or spec.outputs[0].name != BVP or others != set(spec.states):
        raise ModelError(
            f"{graph!r} is not the graph of a pulse network, which takes {first_input} [batch, 3, time, size, size], "
            f"uint8 or float32, and gives {BVP} [batch, time]; every other input is a state: export it again"
        )

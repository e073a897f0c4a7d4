"""Which graphs of a pulse network leave torch: a window of film, and some frames with the memory of those before.

``core.export`` turns them into files, ``contract.py`` names what they share with the pipeline.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from robustvision.core.errors import InputError
from robustvision.core.export import GraphExport
from robustvision.rppg.contract import BVP, DESCRIPTIONS, FRAME, FRAMES, T_MULTIPLE, WINDOW_FRAMES
from robustvision.rppg.networks import CausalStep

MEMORY, NEXT_MEMORY = "memory", "next_memory"
TIME = "time"
EXPORTER: Literal["torchscript"] = "torchscript"
"""dynamo writes the same graphs, in ten times the time."""


def window_graph(network: nn.Module, size_px: int) -> GraphExport:
    """The graph ``window``: ``frames``, uint8 [batch, 3, time, S, S], to ``bvp``, float32 [batch, time].

    Batch and time are free; time is a multiple of 4, except for a causal network.

    Args:
        network: A pulse network, on the CPU and in ``eval()``.
        size_px: S.
    """
    short = 7 if _is_causal(network) else 2 * T_MULTIPLE
    return GraphExport(
        module=network,
        example_inputs=(_film(2, 40, size_px),),
        input_names=(FRAMES,),
        output_names=(BVP,),
        exporter=EXPORTER,
        dynamic_axes={FRAMES: {0: "batch", 2: TIME}},
        value_ranges={FRAMES: (0, 255)},
        parity_sizes={"batch": (1, 3), TIME: (short, WINDOW_FRAMES)},
        descriptions={name: DESCRIPTIONS[name] for name in (FRAMES, BVP)},
    )


def stream_graph(network: nn.Module, size_px: int) -> GraphExport:
    """The graph ``stream``: the next frames, or one, and the memory to their values and the next memory.

    ``frame`` is uint8 [batch, 3, time, S, S], ``memory`` and ``next_memory`` float32 [batch, N], zeros at the start of
    a film, ``bvp`` float32 [batch, time]. However a film is cut, its wave is the same.

    Args:
        network: A causal network, on the CPU and in ``eval()``.
        size_px: S.

    Raises:
        InputError: The network sees the future.
    """
    if not _is_causal(network):
        raise InputError(f"{type(network).__name__} sees later frames, a stream has none: train it with causal=True")
    step = CausalStep(network, size_px).eval()
    film = _film(2, 6, size_px)
    with torch.no_grad():
        memory = step(film[:, :, :3], step.start(batch=2))[1]
    return GraphExport(
        module=step,
        example_inputs=(film[:, :, 3:], memory),
        input_names=(FRAME, MEMORY),
        output_names=(BVP, NEXT_MEMORY),
        exporter=EXPORTER,
        dynamic_axes={FRAME: {0: "batch", 2: TIME}, MEMORY: {0: "batch"}},
        states={MEMORY: NEXT_MEMORY},
        value_ranges={FRAME: (0, 255), MEMORY: (0, 1)},
        parity_sizes={"batch": (1, 3), TIME: (1, 7)},
        stream_steps=24,
        descriptions={
            FRAME: DESCRIPTIONS[FRAME],
            BVP: DESCRIPTIONS[BVP],
            MEMORY: "what the network remembers of earlier frames; zeros at the start of a film",
        },
    )


def _is_causal(network: nn.Module) -> bool:
    return bool(getattr(network, "causal", False))


def _film(batch: int, frames: int, size_px: int) -> Tensor:
    """A face-like patch whose brightness beats, with noise."""
    generator = torch.Generator().manual_seed(0)
    beat = 1.0 + 0.01 * torch.sin(torch.arange(frames) * 0.25)[:, None, None]
    skin = 90.0 + 80.0 * torch.rand(batch, 3, 1, size_px, size_px, generator=generator)
    noise = torch.randn(batch, 3, frames, size_px, size_px, generator=generator)
    return (skin * beat + noise).clamp(0, 255).to(torch.uint8)

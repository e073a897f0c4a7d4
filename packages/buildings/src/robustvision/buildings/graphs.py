"""Which graph of a segmentation network leaves torch: a normalised picture of any size to logits.

``core.export`` turns it into a file, ``contract.py`` names what it shares with the pipeline. Sigmoid, padding and
blending stay outside.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from robustvision.buildings.contract import DESCRIPTIONS, IMAGE, LOGITS
from robustvision.core.errors import InputError
from robustvision.core.export import CloseOutputs, GraphExport, ParityFigures

EXPORTER: Literal["torchscript"] = "torchscript"
"""dynamo writes half the nodes in several times the time, and takes a quarter of an hour for timm's ``tf_`` encoders,
whose padding follows the size of the picture."""
HEIGHT, WIDTH = "y", "x"
EXAMPLE_PX = 128
"""Side of the example at most: the graph is free in its size, a larger one only takes longer to trace."""


def segmentation_graph(
    network: nn.Module, tile_px: int, *, exporter: Literal["dynamo", "torchscript"] = EXPORTER
) -> GraphExport:
    """The graph: ``image``, float32 [batch, 3, y, x], normalised, to ``logits``, float32 [batch, 1, y, x].

    Batch, y and x are free; y and x are multiples of ``network.multiple`` (the graph does not check it: pad outside). A
    network with a ``fixed_size_px`` (DPT's transformer) keeps that size.

    Args:
        network: A network of ``build_network`` or a ``CompactUNet``, on the CPU and in ``eval()``.
        tile_px: Side of the tiles that the model is run on.
        exporter: Of torch.

    Raises:
        InputError: The tile is no multiple of the network's, or not its fixed size.
        ExportError: The network is in training mode, or not on the CPU.
    """
    multiple = multiple_of(network)
    if tile_px < 1 or tile_px % multiple:
        raise InputError(f"tile_px is {tile_px}: {type(network).__name__} takes multiples of {multiple}")
    fixed = getattr(network, "fixed_size_px", None)
    if fixed not in (None, tile_px):
        raise InputError(f"tile_px is {tile_px}: this network's encoder takes {fixed} alone; build it with img_size")
    side = tile_px if fixed else min(tile_px, max(EXAMPLE_PX // multiple, 2) * multiple)
    sizes = {HEIGHT: (side + multiple, side), WIDTH: (side + 2 * multiple, side + 3 * multiple)}
    return GraphExport(
        module=network,
        example_inputs=(_picture(side),),
        input_names=(IMAGE,),
        output_names=(LOGITS,),
        exporter=exporter,
        dynamic_axes={IMAGE: {0: "batch"} if fixed else {0: "batch", 2: HEIGHT, 3: WIDTH}},
        value_ranges={IMAGE: (-2.2, 2.7)},
        compare=same_map,
        parity_sizes={"batch": (1, 3), **({} if fixed else sizes)},
        descriptions=dict(DESCRIPTIONS),
    )


def same_map(expected: Sequence[npt.NDArray[Any]], actual: Sequence[npt.NDArray[Any]]) -> ParityFigures:
    """Judge logits: within a thousandth of the largest, and on the same side of 0 wherever they are not almost 0.

    MAnet's attention and PAN's large activations miss core's default tolerance; what a user sees is the map at 0.5.

    Args:
        expected: Torch's logits, in a list of one.
        actual: onnxruntime's.

    Returns:
        Core's figures. Almost 0 is 0.001, or a ten-thousandth of the largest logit where that is more.
    """
    figures = CloseOutputs(rtol=1e-3)(expected, actual)
    if not figures.ok:
        return figures
    logits = np.abs(expected[0])
    certain = logits >= max(1e-3, 1e-4 * float(logits.max(initial=0.0)))
    flipped = int((certain & ((expected[0] > 0) != (actual[0] > 0))).sum())
    return replace(figures, failure=f"{flipped} pixels change sides at 0.5") if flipped else figures


def multiple_of(network: nn.Module) -> int:
    """Return what height and width of a network's pictures are multiples of.

    Args:
        network: A network of ``build_network`` or a ``CompactUNet``.
    """
    return int(network.multiple)  # type: ignore[arg-type]  # an attribute of every network of ours


def _picture(side: int) -> Tensor:
    """Two pictures of a gradient with bright squares and noise, float32 [2, 3, side, side]."""
    place = torch.arange(side, dtype=torch.float32)
    ground = (place[:, None] + place) / side - 1
    roofs = ((place // 12)[:, None] + place // 12) % 3 == 0
    noise = torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(0))
    return ground + 1.2 * roofs + 0.2 * noise

"""The parts of a network from its output to its input: what gradual fine-tuning unfreezes one after the other."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from robustvision.core.errors import InputError

PROBE_PX = 64
CENTRE = "decoder.center."


def freeze_levels(network: nn.Module) -> tuple[tuple[str, ...], ...]:
    """Return the parts of a network, from the output side, for core's ``frozen_below`` and ``GradualUnfreezeHook``.

    The levels are: decoder and head; the bottleneck, where there is one (``decoder.center`` of a VGG U-Net and of
    MAnet, a ``CompactUNet``'s deepest level); the blocks of the encoder, deepest first. Block k holds what the
    encoder's k-th feature needs and no finer feature does, which autograd tells for any family; what no feature needs
    (an unused head, the stages beyond ``encoder_depth``) goes to the deepest block. Where the branches of a network run
    side by side (HRNet) most of it is needed by the first feature after the stem.

    Args:
        network: A network of ``build_network``, or a ``CompactUNet``.

    Returns:
        For each level exact paths of modules. Together they hold every parameter once. A level that would be empty is
        left out: ResNet's U-Net has six levels, VGG's seven.

    Raises:
        InputError: Parameters of two levels sit so that no module separates them.

    References:
        PGFiT, whose U-Nets unfreeze decoder, bottleneck, and encoder blocks 4 to 0.

    Example:
        >>> from robustvision.buildings.networks import CompactUNet
        >>> freeze_levels(CompactUNet((8, 16, 24)))
        (('decoder', 'segmentation_head'), ('encoder.2',), ('encoder.1',), ('encoder.0',))
    """
    blocks = _encoder_blocks(network)
    deepest = max(blocks.values())
    level_of = {
        name: 2 + deepest - blocks[name] if name in blocks else 1 if name.startswith(CENTRE) else 0
        for name, _ in network.named_parameters()
    }
    paths: dict[int, list[str]] = {level: [] for level in sorted(set(level_of.values()))}
    for level, path in _separated(network, "", level_of):
        paths[level].append(path)
    return tuple(tuple(found) for found in paths.values())


def _encoder_blocks(network: nn.Module) -> dict[str, int]:
    """Parameter name to the block, counted from the input, that it belongs to."""
    encoder: Any = network.encoder
    names = [name for name, _ in encoder.named_parameters()]
    if isinstance(encoder, nn.ModuleList):
        return {f"encoder.{name}": int(name.split(".")[0]) for name in names}
    features = _features(copy.deepcopy(encoder).eval().requires_grad_(True), getattr(network, "fixed_size_px", None))
    block_of: dict[str, int] = {}
    for block, needed in enumerate(features):
        block_of.update(
            {name: block for name, needs in zip(names, needed, strict=True) if needs and name not in block_of}
        )
    deepest = max(block_of.values())
    return {f"encoder.{name}": block_of.get(name, deepest) for name in names}


def _features(encoder: Any, side_px: int | None) -> Iterator[list[bool]]:
    """For each feature of an encoder: which parameters it needs."""
    parameters = list(encoder.parameters())
    side = side_px or max(PROBE_PX, encoder.output_stride)
    like = parameters[0]
    channels = int(getattr(encoder, "_in_channels", 3))
    with torch.enable_grad():
        outputs = encoder(torch.zeros(1, channels, side, side, dtype=like.dtype, device=like.device))
        features: list[Tensor] = outputs[0] if isinstance(outputs, tuple) else outputs
        for feature in features:
            if not feature.requires_grad:
                yield [False] * len(parameters)
                continue
            gradients = torch.autograd.grad(feature.sum(), parameters, retain_graph=True, allow_unused=True)
            yield [gradient is not None for gradient in gradients]


def _separated(module: nn.Module, path: str, level_of: Mapping[str, int]) -> Iterator[tuple[int, str]]:
    """The largest modules whose parameters are all of one level, each with that level."""
    prefix = f"{path}." if path else ""
    levels = {level_of[prefix + name] for name, _ in module.named_parameters()}
    if len(levels) == 1 and path:
        yield levels.pop(), path
        return
    own = [name for name, _ in module.named_parameters(recurse=False)]
    if own:
        raise InputError(
            f"{path or type(module).__name__} holds {own} beside parts of several levels: no module path separates "
            "them; give the levels of this network by hand"
        )
    for name, child in module.named_children():
        if next(child.parameters(), None) is not None:
            yield from _separated(child, prefix + name, level_of)

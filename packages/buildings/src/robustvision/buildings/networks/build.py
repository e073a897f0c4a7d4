"""One constructor for every network of the grid: a decoder and an encoder, each by name."""

from __future__ import annotations

import inspect
import os
import warnings
from collections.abc import Callable
from typing import Any

import segmentation_models_pytorch as smp
import timm
import torch
from torch import nn

from robustvision.buildings.networks.encoders import RENAMED
from robustvision.buildings.networks.pyramid_pool import free_the_size
from robustvision.buildings.networks.unet3plus import UNet3Plus
from robustvision.core.errors import InputError
from robustvision.core.training.classes import nearest

DECODERS: dict[str, Callable[..., Any]] = {
    "unet": smp.Unet,
    "unetplusplus": smp.UnetPlusPlus,
    "unet3plus": UNet3Plus,
    "linknet": smp.Linknet,
    "pspnet": smp.PSPNet,
    "fpn": smp.FPN,
    "deeplabv3plus": smp.DeepLabV3Plus,
    "manet": smp.MAnet,
    "deeplabv3": smp.DeepLabV3,
    "pan": smp.PAN,
    "upernet": smp.UPerNet,
    "segformer": smp.Segformer,
    "dpt": smp.DPT,
}
"""Name to class. The first eight are the paper's repository's; [R] the paper's seven are those without U-Net3+.
``dpt`` takes timm's vision transformers alone, at one size; ``pan`` needs pictures of at least 128 pixels; both
DeepLabs and ``pan`` need an encoder that can be dilated, which VGG cannot."""

FIRST_STRIDE: dict[str, Callable[[int], int]] = {
    "pspnet": lambda depth: 2**depth,
    "fpn": lambda depth: 2 ** (depth - 3),
}
"""Decoders whose result is at a stride that depends on ``encoder_depth``, while their head keeps the default's."""

NEED_EVERY_SCALE = ("unetplusplus", "unet3plus", "linknet")
"""Decoders that cannot take the empty feature which a transformer has at stride 2."""


def build_network(
    decoder: str = "unet",
    encoder: str = "resnet18",
    *,
    classes: int = 1,
    in_channels: int = 3,
    weights: str | os.PathLike[str] | None = None,
    **options: Any,
) -> nn.Module:
    """Build a segmentation network without downloading anything.

    Args:
        decoder: A name of ``DECODERS``; case, ``-`` and ``_`` do not matter, ``+`` may stand for ``plus``.
        encoder: A name of segmentation-models-pytorch, or ``tu-`` and a name of timm.
        classes: Channels of the logits.
        in_channels: Channels of the picture.
        weights: A file with the state dict of the same network, or of its encoder, saved by torch. None starts from
            random numbers.
        options: What the decoder's class takes beside: ``encoder_depth``, ``decoder_channels`` ... With a ``tu-``
            encoder, also what timm takes.

    Returns:
        The network: normalised pictures [B, in_channels, H, W] to logits [B, classes, H, W]. H and W are multiples of
        ``network.multiple``, or both ``network.fixed_size_px`` where that is not None (a transformer of ``dpt``); its
        parts are ``.encoder``, ``.decoder`` and ``.segmentation_head``.

    Raises:
        InputError: An unknown name, a decoder and an encoder that do not fit, an option that the decoder does not take,
            or weights of another network.

    Example:
        >>> network = build_network("unet", "resnet18")
        >>> network.multiple, round(sum(p.numel() for p in network.parameters()) / 1e6, 2)
        (32, 14.33)
    """
    decoder = decoder_name(decoder)
    _check_encoder(decoder, encoder)
    _check_options(decoder, encoder, options)
    if decoder in FIRST_STRIDE and "encoder_depth" in options:
        options["upsampling"] = FIRST_STRIDE[decoder](options["encoder_depth"])
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # smp's, for every timm- name
            network = DECODERS[decoder](
                encoder_name=encoder, encoder_weights=None, in_channels=in_channels, classes=classes, **options
            )
    except InputError:
        raise
    except (AssertionError, KeyError, NotImplementedError, RuntimeError, TypeError, ValueError) as error:
        reason = str(error) or "the encoder cannot have the decoder's output stride"
        raise InputError(
            f"decoder {decoder!r} cannot be built over encoder {encoder!r} with {options or 'no options'}: {reason}"
        ) from error
    free_the_size(network)
    network.multiple = int(network.encoder.output_stride)
    network.fixed_size_px = _fixed_size_px(network.encoder)
    if weights is not None:
        _load(network, weights)
    return network


def decoder_name(name: str) -> str:
    """Return the key of ``DECODERS`` that a name means: ``U-Net++`` is ``unetplusplus``.

    Raises:
        InputError: There is none.

    Example:
        >>> decoder_name("DeepLabv3+")
        'deeplabv3plus'
    """
    folded = name.lower().replace("+", "plus").replace("-", "").replace("_", "")
    if folded not in DECODERS:
        raise InputError(f"decoder {name!r} is not known{nearest(folded, DECODERS)}; there are {', '.join(DECODERS)}")
    return folded


def _check_encoder(decoder: str, name: str) -> None:
    if name in RENAMED:
        raise InputError(f"encoder {name!r} does not exist any more: it is called {RENAMED[name]!r} now")
    if not _is_encoder(name):
        candidates = [*smp.encoders.encoders, *(f"tu-{model}" for model in timm.list_models())]
        raise InputError(
            f"encoder {name!r} is not known{nearest(name, candidates)}; give a name of segmentation-models-pytorch, "
            "or tu- and a name of timm"
        )
    if decoder in NEED_EVERY_SCALE and name.startswith("mit_"):
        raise InputError(
            f"encoder {name!r} has an empty feature at stride 2, and {decoder} joins every scale: choose unet, fpn, "
            "manet or segformer for it, or a convolutional encoder"
        )


def _is_encoder(name: str) -> bool:
    if name.startswith("tu-"):
        return bool(timm.is_model(name.removeprefix("tu-")))
    if name in smp.encoders.encoders:
        return True
    if not smp.encoders.is_equivalent_to_timm_universal(name):
        return False
    model = name.removeprefix("timm-")
    return bool(timm.is_model(f"tf_{model}" if "mobilenetv3" in model else model))


def _check_options(decoder: str, encoder: str, options: dict[str, Any]) -> None:
    fixed = sorted({"encoder_name", "encoder_weights", "activation", "aux_params", "upsampling"} & set(options))
    if fixed:
        raise InputError(
            f"options {fixed} are not offered: the encoder is named by encoder=, weights come from a local file "
            "(weights=), and a network gives logits of one head in the size of the picture"
        )
    known = set(inspect.signature(DECODERS[decoder]).parameters)
    unknown = sorted(set(options) - known)
    if unknown and not encoder.startswith("tu-"):  # smp drops them without a word; timm does not
        raise InputError(f"decoder {decoder!r} has no option {unknown[0]!r}{nearest(unknown[0], known)}")


def _fixed_size_px(encoder: Any) -> int | None:
    """A vision transformer's positions are those of one size, which timm's option ``img_size`` sets."""
    patches = getattr(getattr(encoder, "model", None), "patch_embed", None)
    size = getattr(patches, "img_size", None)
    return int(size[0]) if size is not None and getattr(patches, "strict_img_size", False) else None


def _load(network: nn.Module, path: str | os.PathLike[str]) -> None:
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises whatever the broken file makes it meet
        raise InputError(f"{os.fspath(path)} holds no weights that can be read ({type(error).__name__})") from error
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise InputError(f"{os.fspath(path)} holds no state dict: save network.state_dict()")
    whole = any(str(name).startswith("encoder.") for name in state)
    part: Any = network if whole else network.encoder
    try:
        part.load_state_dict(state)
    except (RuntimeError, KeyError) as error:
        lines = " ".join(str(error).split())
        raise InputError(
            f"{os.fspath(path)} holds the weights of another {'network' if whole else 'encoder'}: {lines[:300]}"
        ) from error

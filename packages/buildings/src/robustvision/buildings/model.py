"""The model that is trained: a network from pictures to one logit a pixel, and a loss over masks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from mmengine.model import BaseModel
from mmengine.registry import MODELS
from torch import Tensor, nn

from robustvision.buildings.contract import IMAGENET_MEAN, IMAGENET_STD
from robustvision.core.errors import InputError


class BuildingModel(BaseModel):
    """A segmentation network in training.

    Args:
        network: Maps normalised pictures [B, 3, H, W] to logits [B, 1, H, W]; a module or its config.
        loss: Called with logits [B, 1, H, W], labels likewise and ``valid``, likewise or None; a module or its config.
        mean: Mean of each channel, of values in 0..1.
        std: Standard deviation of each channel, likewise.
    """

    def __init__(
        self,
        network: dict[str, Any] | nn.Module,
        loss: dict[str, Any] | nn.Module,
        mean: tuple[float, float, float] = IMAGENET_MEAN,
        std: tuple[float, float, float] = IMAGENET_STD,
    ) -> None:
        super().__init__()
        self.network, self.loss = _build(network), _build(loss)
        self.mean, self.std = mean, std
        self.register_buffer("scale", 1 / (255 * torch.tensor(self.std)[:, None, None]), persistent=False)
        self.register_buffer(
            "shift", (torch.tensor(self.mean) / torch.tensor(self.std))[:, None, None], persistent=False
        )

    def forward(
        self,
        image: Tensor,
        label: Tensor | None = None,
        valid: Tensor | None = None,
        index: Tensor | None = None,
        mode: str = "tensor",
    ) -> Tensor | dict[str, Tensor] | Sequence[dict[str, Any]]:
        """Run one batch.

        Args:
            image: uint8 or float [B, 3, H, W], RGB in 0..255.
            label: float [B, 1, H, W], the share of each pixel that is building.
            valid: float [B, 1, H, W], 0 where nothing is known; None where all counts.
            index: [B] places in the data set.
            mode: ``loss`` for training, ``predict`` for validation, ``tensor`` for logits.
        """
        logits: Tensor = self.network(image.to(self.scale.dtype) * self.scale - self.shift)
        if mode == "tensor":
            return logits
        if label is None:
            raise InputError(f"mode {mode!r} needs the label of every picture: pass label")
        if mode == "predict":
            known = torch.ones_like(label) if valid is None else valid
            return [
                {"probability": one, "label": truth, "valid": counts}
                for one, truth, counts in zip(logits.sigmoid(), label, known, strict=True)
            ]
        return {"loss": self.loss(logits, label, valid=valid)}


def _build(part: dict[str, Any] | nn.Module) -> nn.Module:
    return part if isinstance(part, nn.Module) else MODELS.build(part)

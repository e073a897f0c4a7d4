"""The model that is trained: a backbone, the centres of the training identities, a margin loss over their cosines."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any, cast

import torch
from mmengine.logging import MessageHub
from mmengine.model import BaseModel
from mmengine.registry import MODELS
from torch import Tensor, nn

from robustvision.core.errors import InputError
from robustvision.core.losses import CosineHead, SFaceLoss, sface_diagnostics


def _build(part: dict[str, Any] | nn.Module) -> nn.Module:
    return part if isinstance(part, nn.Module) else MODELS.build(part)


def _check_loss(loss: nn.Module) -> None:
    takes = inspect.signature(loss.forward).parameters
    if not {"index", "weight"} <= set(takes):
        raise InputError(
            f"model.loss is {type(loss).__name__}, which is called with {', '.join(takes)}: a face model needs a loss "
            "over classes, loss(scores, labels, *, index, weight)"
        )


class FaceModel(BaseModel):
    """A face embedding network in training.

    Args:
        backbone: Maps images [B, 3, 112, 112] (RGB, 0..255) to raw embeddings [B, d]; a module or its config.
        head: Compares embeddings with the class centres, a ``CosineHead`` or its config. Its scale is 1 for the margin
            losses, and more (such as 16) for losses over logits.
        loss: Any loss over classes of ``robustvision.core.losses``, or its config.
        diagnostics_interval: The angles are logged every so many steps.

    Raises:
        InputError: A loss that is not one over classes.
    """

    def __init__(
        self,
        backbone: dict[str, Any] | nn.Module,
        head: dict[str, Any] | CosineHead,
        loss: dict[str, Any] | nn.Module,
        diagnostics_interval: int = 10,
    ) -> None:
        super().__init__()
        self.backbone, self.loss = _build(backbone), _build(loss)
        self.head = cast(CosineHead, _build(head))
        _check_loss(self.loss)
        self.diagnostics_interval = diagnostics_interval

    def forward(
        self, image: Tensor, label: Tensor | None = None, index: Tensor | None = None, mode: str = "tensor"
    ) -> Tensor | dict[str, Tensor] | Sequence[dict[str, Any]]:
        """Run one batch.

        Args:
            image: [B, 3, 112, 112] RGB, uint8 or float in 0..255.
            label: [B] identities; -1 where unknown.
            index: [B] places in the data set; a loss with a state a sample uses them.
            mode: ``loss`` for training, ``predict`` for validation, ``tensor`` for raw embeddings.
        """
        pixels = image.to(torch.float32)
        if mode == "tensor":
            return self.backbone(pixels)
        if label is None:
            raise InputError(f"mode {mode!r} needs labels")
        if mode == "predict":
            flipped = self.backbone(pixels.flip(3))
            return [
                {"embedding": embedding, "label": one}
                for embedding, one in zip(self.backbone(pixels) + flipped, label, strict=True)
            ]
        cosines = self.head.cosines(self.backbone(pixels))
        outputs = {"loss": self.loss(self.head.scaled(cosines), label, index=index)}
        if MessageHub.get_current_instance().get_info("iter", 0) % self.diagnostics_interval == 0:
            outputs |= self._diagnostics(cosines, label)
        return outputs

    def _diagnostics(self, cosines: Tensor, label: Tensor) -> dict[str, Tensor]:
        if not isinstance(self.loss, SFaceLoss):
            return sface_diagnostics(cosines, label)
        return sface_diagnostics(cosines, label, self.loss.scale, self.loss.k, self.loss.a, self.loss.b)

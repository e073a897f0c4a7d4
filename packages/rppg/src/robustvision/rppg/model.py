"""The model that is trained: a network from face crops to a pulse wave, and a loss over waves and heart rates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mmengine.logging import MessageHub
from mmengine.model import BaseModel
from mmengine.registry import MODELS
from torch import Tensor, nn

from robustvision.core.errors import InputError


def _build(part: dict[str, Any] | nn.Module) -> nn.Module:
    return part if isinstance(part, nn.Module) else MODELS.build(part)


class PulseModel(BaseModel):
    """A pulse network in training.

    Args:
        network: Maps frames [B, 3, T, S, S] (RGB, 0..255) to waves [B, T]; a module or its config.
        loss: Called with prediction [B, T], reference [B, T] and heart rates [B] in bpm, and with ``epoch`` and
            ``epochs``, by which a dynamic loss weighs its terms; a module or its config.
    """

    def __init__(self, network: dict[str, Any] | nn.Module, loss: dict[str, Any] | nn.Module) -> None:
        super().__init__()
        self.network, self.loss = _build(network), _build(loss)

    def forward(
        self,
        frames: Tensor,
        bvp: Tensor | None = None,
        heart_rate_bpm: Tensor | None = None,
        index: Tensor | None = None,
        mode: str = "tensor",
    ) -> Tensor | dict[str, Tensor] | Sequence[dict[str, Any]]:
        """Run one batch.

        Args:
            frames: [B, 3, T, S, S] RGB, uint8 or float in 0..255.
            bvp: [B, T], the reference wave.
            heart_rate_bpm: [B], the reference heart rate.
            index: [B] places in the data set.
            mode: ``loss`` for training, ``predict`` for validation, ``tensor`` for waves.
        """
        wave: Tensor = self.network(frames)
        if mode == "tensor":
            return wave
        if bvp is None or heart_rate_bpm is None:
            raise InputError(f"mode {mode!r} needs the reference: pass bvp and heart_rate_bpm")
        if mode == "predict":
            return [
                {"prediction": one, "bvp": reference, "heart_rate_bpm": rate}
                for one, reference, rate in zip(wave, bvp, heart_rate_bpm, strict=True)
            ]
        hub = MessageHub.get_current_instance()
        epoch, epochs = hub.get_info("epoch", 0), hub.get_info("max_epochs", 1)
        outputs: dict[str, Tensor] = self.loss(wave, bvp, heart_rate_bpm, epoch=epoch, epochs=epochs)
        return outputs

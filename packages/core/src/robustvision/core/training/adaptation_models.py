"""Models in which one network learns from another, around any mmengine model that keeps its net in ``network``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from mmengine.model import BaseModel
from mmengine.optim import OptimWrapper
from mmengine.registry import MODELS
from torch import Tensor, nn

from robustvision.core.errors import InputError
from robustvision.core.training.adaptation_losses import distillation_loss, output_divergence
from robustvision.core.training.checkpoints import load_weights

Part = nn.Module | Mapping[str, Any]


class DistilledModel(BaseModel):
    """A student in training that also learns from a frozen teacher's outputs.

    The teacher's network sees what the student's sees, so both take the same input and give logits of one shape. The
    logits are the output of ``network``; a batch's ``valid`` masks them. Validation is the student's.

    Args:
        student: The model to train, or its config.
        teacher: The model whose ``network`` teaches, or its config.
        teacher_checkpoint: The weights of the teacher's ``network``.
        alpha: The teacher's part of the loss, 0..1 [R].
        temperature: What both outputs are softened by [R].

    Raises:
        InputError: A part has no ``network``, or the checkpoint does not fit.
    """

    def __init__(
        self,
        student: Part,
        teacher: Part,
        teacher_checkpoint: str | Path,
        alpha: float = 0.5,
        temperature: float = 2.0,
    ) -> None:
        super().__init__()
        self.student = _build(student)
        self.teacher = _build(teacher).network
        load_weights(self.teacher, teacher_checkpoint)
        self.teacher.requires_grad_(False).eval()
        self.alpha, self.temperature = alpha, temperature

    def init_weights(self) -> None:
        """Initialise the student as if it were alone: the teacher has its weights."""
        self.student.init_weights()

    def train(self, mode: bool = True) -> DistilledModel:
        """Set the student's mode; the teacher stays in eval."""
        super().train(mode)
        self.teacher.eval()
        return self

    def forward(self, mode: str = "tensor", **batch: Any) -> Any:
        """Run one batch of the student's; in mode ``loss`` with the teacher."""
        if mode != "loss":
            return _run(self.student, batch, mode)
        with _watch(self.student.network) as calls:
            outputs = _run(self.student, batch, mode)
        inputs, named, logits = _only(calls, self.student)
        with torch.no_grad():
            teacher_logits = self.teacher(*inputs, **named)
        loss = distillation_loss(
            logits,
            teacher_logits,
            _total(outputs),
            alpha=self.alpha,
            temperature=self.temperature,
            valid=batch.get("valid"),
        )
        return {**_without_losses(outputs), "loss": loss, "supervised": _total(outputs).detach()}


class MutualModel(BaseModel):
    """Networks that are trained together, each towards its labels and the outputs of the others (DML).

    :math:`L_k = L_{sup}(z_k) + w / (K - 1) * sum_{j != k} KL(P_j || P_k)`; :math:`P_j` gets no gradient.

    A batch is one that all networks learn from; or it holds two, ``noisy`` and ``clean`` (:class:`.Paired`): then the
    first network is supervised by the noisy one and the others by the clean one, and all outputs are compared on the
    clean one [R: the data that all can label]. Validation is the last network's.

    Args:
        models: Two or more models or configs. All take the same batches and give logits of one shape.
        weight: w; 1 is the original's.
        alternating: The original's order: the networks move one after another, and each sees the outputs that the
            others have after their moves; one process alone can do so. False is the simultaneous variant: all move at
            once, in one step of the optimiser.

    Raises:
        InputError: There are fewer than two models, or one has no ``network``.

    References:
        Zhang, Xiang, Hospedales and Lu, Deep Mutual Learning, CVPR 2018 (arXiv 1706.00384).
    """

    def __init__(self, models: Sequence[Part], weight: float = 1.0, alternating: bool = False) -> None:
        super().__init__()
        if len(models) < 2:
            raise InputError(f"{len(models)} model(s) to learn from each other: expected at least two")
        # the last first: the same seed gives the network that is wanted the weights that it would get alone
        self.models = nn.ModuleList([_build(model) for model in reversed(models)][::-1])
        self.weight, self.alternating = weight, alternating

    def init_weights(self) -> None:
        """Initialise the networks in the order in which they are built."""
        for model in list(self.models)[::-1]:
            model.init_weights()  # type: ignore[operator]  # a BaseModel

    def forward(self, mode: str = "tensor", **batch: Any) -> Any:
        """Run one batch; in mode ``loss`` for all networks, else for the last."""
        if mode != "loss":
            return _run(self.models[-1], batch, mode)
        if self.alternating:
            raise InputError("alternating mutual learning runs in one process: set alternating=False for several")
        runs = [self._supervised(model, batch.get("clean", batch)) for model in self.models]
        logits = [run[1] for run in runs]
        losses = [run[0] for run in runs]
        if "noisy" in batch:
            losses[0], _ = self._supervised(self.models[0], batch["noisy"])
        return {
            f"loss_{number}": losses[number] + self._mimicry(number, logits, batch)
            for number in range(len(self.models))
        }

    def train_step(self, data: Any, optim_wrapper: OptimWrapper) -> dict[str, Tensor]:
        """Move the networks: at once, or one after another."""
        if not self.alternating:
            return super().train_step(data, optim_wrapper)
        if optim_wrapper._accumulative_counts != 1:
            raise InputError("alternating mutual learning moves at each step: set accumulative_counts=1")
        batch = self.data_preprocessor(data, True)
        losses = {}
        for number, model in enumerate(self.models):
            with optim_wrapper.optim_context(self):
                logits = []
                for other in self.models:
                    with torch.set_grad_enabled(other is model):
                        loss, own = self._supervised(other, batch.get("clean", batch))
                        logits.append(own)
                    if other is model:
                        supervised = loss
                if number == 0 and "noisy" in batch:
                    supervised, _ = self._supervised(model, batch["noisy"])
                total = supervised + self._mimicry(number, logits, batch)
            optim_wrapper.update_params(total)
            losses[f"loss_{number}"] = total.detach()
        return {"loss": torch.stack(list(losses.values())).sum(), **losses}

    def _supervised(self, model: BaseModel, batch: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
        with _watch(model.network) as calls:
            outputs = _run(model, batch, "loss")
        return _total(outputs), _only(calls, model)[2]

    def _mimicry(self, number: int, logits: Sequence[Tensor], batch: Mapping[str, Any]) -> Tensor:
        valid = batch.get("clean", batch).get("valid")
        others = [
            output_divergence(peer, logits[number], valid=valid) for other, peer in enumerate(logits) if other != number
        ]
        return self.weight * torch.stack(others).mean()


def _build(part: Part) -> BaseModel:
    model = part if isinstance(part, nn.Module) else MODELS.build(part)
    if not isinstance(getattr(model, "network", None), nn.Module):
        raise InputError(f"{type(model).__name__} has no `network`: expected a model that keeps its net there")
    return model


def _run(model: BaseModel, batch: Mapping[str, Any], mode: str) -> Any:
    return model(**model.data_preprocessor(batch, mode == "loss"), mode=mode)


@contextmanager
def _watch(network: nn.Module) -> Iterator[list[tuple[tuple[Any, ...], dict[str, Any], Tensor]]]:
    """Note what a network is called with, and what it gives."""
    calls: list[tuple[tuple[Any, ...], dict[str, Any], Tensor]] = []
    handle = network.register_forward_hook(
        lambda module, inputs, named, output: calls.append((inputs, named, output)), with_kwargs=True
    )
    try:
        yield calls
    finally:
        handle.remove()


def _only(calls: list[tuple[tuple[Any, ...], dict[str, Any], Tensor]], model: BaseModel) -> Any:
    if len(calls) != 1 or not isinstance(calls[0][2], Tensor):
        raise InputError(
            f"{type(model).__name__} called its network {len(calls)} times: expected one call a batch, which gives "
            "the logits"
        )
    return calls[0]


def _total(outputs: Mapping[str, Tensor]) -> Tensor:
    return torch.as_tensor(sum(value.mean() for name, value in outputs.items() if "loss" in name))


def _without_losses(outputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: value for name, value in outputs.items() if "loss" not in name}

"""From many noisy labels to few clean ones: the ways to train a network on both, by one protocol.

Every way runs through :func:`robustvision.core.training.train`, stage by stage: it can be resumed, and run in many
processes. All ways share the recipe's model, batch size, optimiser, hooks and validation, and the seed: the networks
that are trained from scratch begin with the same weights.

===========  ==========================================================================================
noisy-only   on the noisy labels alone: the pre-training
clean-only   on the clean labels alone, from scratch
mixed        on the union of both, from scratch, for as many steps as ``sda`` has in all
oracle       on the clean set alone for as many steps as ``sda`` has in all: meant for a large clean set
sda          noisy-only, then fine-tuning of all its weights on the clean labels
gradual      likewise, one more part of the network in each phase (:class:`.GradualUnfreezeHook`)
kd           on the clean labels, from scratch, with the noisy-only network as the teacher (:class:`.DistilledModel`)
dml          two networks from scratch, one on noisy and one on clean labels (:class:`.MutualModel`)
===========  ==========================================================================================

``clean-only``, ``sda``, ``gradual`` (at most), ``kd`` and ``dml`` take the same number of steps on clean labels.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch.distributed as dist
from mmengine import Config
from mmengine.optim import CosineAnnealingLR, LinearLR
from mmengine.registry import DATASETS

from robustvision.core.data.combined import Mixed, Paired, Repeated
from robustvision.core.errors import InputError
from robustvision.core.training.adaptation_models import DistilledModel, MutualModel
from robustvision.core.training.adaptation_options import (
    METHODS,
    AdaptationOptions,
    AdaptationResult,
    Method,
    read_adaptation,
)
from robustvision.core.training.checkpoints import find_checkpoint, read_checkpoint, write_checkpoint
from robustvision.core.training.defaults import check_complete, with_defaults
from robustvision.core.training.hooks.freeze import FreezeHook
from robustvision.core.training.hooks.gradual import GradualUnfreezeHook
from robustvision.core.training.hooks.initial_network import InitialNetworkHook
from robustvision.core.training.processes import join_group, leave_group, on_first_process, resolve_device
from robustvision.core.training.run import TrainResult, train
from robustvision.core.training.tree import as_config, as_tree
from robustvision.core.training.work_dir import prepare_work_dir

WEIGHTS = "network.pth"
_NOISY, _FINAL = "noisy", "final"  # the folders of the stages
_WITH_PRETRAINING = ("noisy-only", "sda", "gradual", "kd")
_PREFIXES = {"kd": "student.network.", "dml": "models.1.network."}  # where a model keeps the network that is wanted


def adapt(
    method: Method,
    recipe: Config | Mapping[str, Any],
    *,
    noisy: Any,
    clean: Any,
    work_dir: str | Path,
    seed: int = 0,
    device: str = "auto",
    options: AdaptationOptions | None = None,
    pretrained: str | Path | None = None,
    resume: bool = False,
    quiet: bool = False,
) -> AdaptationResult:
    """Train a network on noisy and clean labels.

    Args:
        method: One of ``METHODS``.
        recipe: Model, batch size, optimiser, hooks and (clean) validation; the model keeps its net in ``network``.
            Data, epochs and the schedule of the learning rate are replaced.
        noisy: The large data set with noisy labels, or its config.
        clean: The small one with clean labels, or its config.
        work_dir: Where everything goes; new or empty, unless ``resume``.
        seed: The seed of the weights, the order of the data, and all else that is random; below 2^32.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        options: How long and how to train.
        pretrained: The ``weights`` of a ``noisy-only`` result, or a checkpoint of such a run: the noisy stage of
            ``sda``, ``gradual``, ``kd`` and ``noisy-only`` is left out. Its steps count as ``options`` plan them.
        resume: Go on with what was begun in the folder; return at once where it was finished.
        quiet: Show nothing but errors.

    Returns:
        The adapted network's weights, steps and metrics.

    Raises:
        InputError: The method, the recipe or the folder cannot be used.
        TrainingError: The loss or a weight is not finite, another process died, or the disk is full.
    """
    if method not in METHODS:
        raise InputError(f"method is {method!r}: expected {', '.join(METHODS)}")
    config = with_defaults(recipe)
    check_complete(config)
    folder = Path(work_dir)
    joined = join_group(resolve_device(device), config.env_cfg.dist_cfg.get("timeout", 600))
    try:
        if resume and (finished := read_adaptation(folder)) is not None:
            if finished.method != method:
                raise InputError(f"{folder} holds the result of {finished.method}, not {method}: choose another folder")
            return finished
        on_first_process(lambda: _prepare(folder, resume=resume))
        settings = {"seed": seed, "device": device, "quiet": quiet}
        work = _Adaptation(as_tree(config), options or AdaptationOptions(), folder, settings, resume)
        result = work.run(method, _build(noisy), _build(clean), pretrained)
        on_first_process(result.write)
        return result
    finally:
        if joined:
            leave_group()


def in_memory(dataset: Any) -> dict[str, Any]:
    """A recipe's entry for a data set that exists already; unlike the object itself, it is never copied.

    Args:
        dataset: The data set.

    Returns:
        The config.
    """
    return {"type": _InMemory(dataset)}


class _InMemory:
    """Stands for a data set in recipes, which mmengine copies a few times."""

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset

    def __call__(self) -> Any:
        return self.dataset

    def __deepcopy__(self, memo: Any) -> _InMemory:
        return self

    def __repr__(self) -> str:
        return f"{type(self.dataset).__name__} of {len(self.dataset)} samples in memory"


@dataclass(frozen=True)
class _Stage:
    """One training run: data, how long, and what it changes in the recipe."""

    data: Any
    epochs: int
    steps_per_epoch: int
    rate: float = 1.0
    model: Mapping[str, Any] | None = None
    hooks: Sequence[Mapping[str, Any]] = ()
    schedule: str | None = None


@dataclass(frozen=True)
class _Adaptation:
    recipe: dict[str, Any]
    options: AdaptationOptions
    folder: Path
    settings: Mapping[str, Any]
    resume: bool

    def run(self, method: Method, noisy: Any, clean: Any, pretrained: str | Path | None) -> AdaptationResult:
        """Train the stages of a method."""
        options, before, start, last = self.options, 0, None, None
        if method in _WITH_PRETRAINING:
            model = options.teacher if method == "kd" else None
            stage = _Stage(noisy, options.noisy_epochs, self._noisy_steps(noisy), model=model)
            before = stage.epochs * stage.steps_per_epoch
            if pretrained is None:
                last = self._train(_NOISY, stage)
                before = last.step
                pretrained = last.checkpoint
            start = self._keep_network(Path(pretrained), "network.", f"{_NOISY}_{WEIGHTS}")
            if method == "noisy-only":
                return self._result(method, start, last, clean_steps=0, total_steps=before)
        last = self._train(_FINAL, self._final_stage(method, noisy, clean, start))
        weights = self._keep_network(last.checkpoint, _PREFIXES.get(method, "network."), WEIGHTS)
        share = len(clean) / (len(clean) + len(noisy)) if method == "mixed" else 1.0
        return self._result(method, weights, last, clean_steps=round(last.step * share), total_steps=before + last.step)

    def _final_stage(self, method: Method, noisy: Any, clean: Any, start: Path | None) -> _Stage:
        options, model = self.options, self.recipe["model"]
        on_clean = (clean, options.clean_epochs, self._clean_steps(clean))
        if method in ("mixed", "oracle"):
            epochs = options.noisy_epochs + options.clean_epochs
            steps = options.noisy_epochs * self._noisy_steps(noisy) + on_clean[1] * on_clean[2]
            return _Stage(Mixed([noisy, clean]) if method == "mixed" else clean, epochs, -(-steps // epochs))
        if method == "kd":
            distilled = {
                "type": DistilledModel,
                "student": model,
                "teacher": dict(options.teacher or model),
                "teacher_checkpoint": str(start),
                "alpha": options.alpha,
                "temperature": options.temperature,
            }
            return _Stage(*on_clean, model=distilled)
        if method == "dml":
            length = on_clean[2] * self._samples_a_step
            pair = {"noisy": noisy, "clean": clean}
            pair = {name: Repeated(one, length, self.settings["seed"]) for name, one in pair.items()}
            mutual = {
                "type": MutualModel,
                "models": [model, model],
                "weight": options.mutual_weight,
                "alternating": options.alternating,
            }
            return _Stage(Paired(pair), *on_clean[1:], model=mutual)
        if method == "clean-only":
            return _Stage(*on_clean)
        initial = {"type": InitialNetworkHook, "weights": str(start)}
        if method == "sda":
            return _Stage(
                *on_clean, options.rate_ratio, hooks=[initial, {"type": FreezeHook, "freeze": options.freeze}]
            )
        gradual = {
            "type": GradualUnfreezeHook,
            "levels": [list(level) for level in options.levels],
            "patience": options.patience,
            "factors": options.factors,
            "slanted": options.slanted,
        }
        return _Stage(*on_clean, options.rate_ratio, hooks=[initial, gradual], schedule="constant")

    def _train(self, name: str, stage: _Stage) -> TrainResult:
        folder, seed = self.folder / name, self.settings["seed"]
        if self.resume:
            on_first_process(lambda: _clear_unless_resumable(folder))
        length = stage.steps_per_epoch * self._samples_a_step
        hooks = self.recipe["default_hooks"]
        tree = {
            **self.recipe,
            "model": stage.model or self.recipe["model"],
            "train_dataloader": {
                **self.recipe["train_dataloader"],
                "dataset": in_memory(Repeated(stage.data, length, seed)),
            },
            "train_cfg": {**self.recipe["train_cfg"], "max_epochs": stage.epochs},
            "optim_wrapper": self._optimiser(stage.rate),
            "param_scheduler": _schedule(stage.schedule or self.options.schedule, stage.epochs * stage.steps_per_epoch),
            "custom_hooks": [*self.recipe["custom_hooks"], *stage.hooks],
            "default_hooks": {**hooks, "log": {**hooks["log"], "interval": stage.steps_per_epoch}},
        }
        if stage.hooks:  # frozen weights get no gradients, and other processes must not wait for them
            tree["find_unused_parameters"] = True
        return train(as_config(tree), work_dir=folder, resume=self.resume and folder.is_dir(), **self.settings)

    def _optimiser(self, rate: float) -> dict[str, Any]:
        wrapper = self.recipe["optim_wrapper"]
        full = self.options.learning_rate or wrapper["optimizer"]["lr"]
        return {**wrapper, "optimizer": {**wrapper["optimizer"], "lr": full * rate}}

    @property
    def _samples_a_step(self) -> int:
        processes = dist.get_world_size() if dist.is_initialized() else 1
        return int(self.recipe["train_dataloader"]["batch_size"]) * processes

    def _noisy_steps(self, noisy: Any) -> int:
        return self.options.noisy_steps_per_epoch or -(-len(noisy) // self._samples_a_step)

    def _clean_steps(self, clean: Any) -> int:
        return self.options.clean_steps_per_epoch or -(-len(clean) // self._samples_a_step)

    def _keep_network(self, checkpoint: Path, prefix: str, name: str) -> Path:
        """Write a network's weights alone; a checkpoint that holds nothing else is taken as it is."""
        target = self.folder / name

        def keep() -> None:
            content = read_checkpoint(checkpoint)
            state = content.get("state_dict", {f"{prefix}{key}": value for key, value in content.items()})
            network = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
            if not network:
                raise InputError(f"{checkpoint} holds no {prefix}*: expected the weights of a model with a `network`")
            write_checkpoint(target, network)

        on_first_process(keep)
        return target

    def _result(
        self, method: Method, weights: Path, run: TrainResult | None, *, clean_steps: int, total_steps: int
    ) -> AdaptationResult:
        metrics = {} if run is None else dict(run.metrics)
        best_step = None if run is None else run.best_step
        return AdaptationResult(method, weights, clean_steps, total_steps, metrics, best_step, self.folder)


def _build(dataset: Any) -> Any:
    return DATASETS.build(dict(dataset)) if isinstance(dataset, Mapping) else dataset


def _prepare(folder: Path, *, resume: bool) -> None:
    if not resume or not folder.is_dir():
        prepare_work_dir(folder, resume=False)


def _clear_unless_resumable(folder: Path) -> None:
    """A stage that was killed before its first checkpoint begins anew."""
    if folder.is_dir():
        try:
            find_checkpoint(folder)
        except InputError:
            shutil.rmtree(folder)


def _schedule(name: str, steps: int) -> list[dict[str, Any]]:
    if name == "constant":
        return []
    climb = steps // 10
    fall = {"type": CosineAnnealingLR, "by_epoch": False, "begin": climb, "end": steps}
    rise = {"type": LinearLR, "start_factor": 0.1, "by_epoch": False, "end": climb}
    return [rise, fall] if climb else [fall]

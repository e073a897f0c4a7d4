"""Gradual fine-tuning: from the output to the input, one more part of the network is trained each phase."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mmengine.hooks import Hook
from torch import nn

from robustvision.core.errors import InputError
from robustvision.core.training.hooks.freeze import check_trainable, freeze, keep_in_eval, trained_network

GRADUAL_FACTORS = (1.0, 0.8, 0.6, 0.4, 0.2, 0.1, 0.1)
"""Learning rates of the phases in the discriminative variant of PGFiT, as parts of the first."""

Levels = Sequence[Sequence[str]]


def frozen_below(levels: Levels, trainable: int) -> tuple[str, ...]:
    """The parts to freeze so that the first levels are trained.

    Args:
        levels: Paths of a network's parts, grouped, from the output side: decoder and head first, the stem last.
        trainable: How many levels are trained.

    Returns:
        The paths of the others, for :class:`.FreezeHook`.

    Raises:
        InputError: There are not as many levels.

    Examples:
        >>> frozen_below([["decoder", "head"], ["encoder.deep"], ["encoder.stem"]], trainable=1)
        ('encoder.deep', 'encoder.stem')
    """
    if not 1 <= trainable <= len(levels):
        raise InputError(f"{trainable} levels to train: expected 1 to {len(levels)}")
    return tuple(name for level in levels[trainable:] for name in level)


def slanted_triangular(epoch: int, epochs: int, *, cut_fraction: float = 0.3, ratio: float = 32.0) -> float:
    """The slanted triangular schedule: a short climb, and a long way down.

    With ``cut = int(cut_fraction * epochs)``, p is ``epoch / cut`` before the cut, and then
    ``1 - (epoch - cut) / (epochs - cut)``; the factor is ``1 / ratio + p * (1 - 1 / ratio)``.

    Args:
        epoch: From 0.
        epochs: Their number.
        cut_fraction: The part of the epochs that climbs.
        ratio: By how much the lowest rate is below the highest.

    Returns:
        The factor of the highest rate.

    References:
        Howard and Ruder, Universal Language Model Fine-tuning for Text Classification, ACL 2018; as PGFiT uses it, an
        epoch a step.

    Examples:
        >>> [round(slanted_triangular(epoch, 10), 4) for epoch in (0, 3, 10)]
        [0.0312, 1.0, 0.0312]
    """
    cut = int(cut_fraction * epochs)
    part = epoch / cut if epoch < cut else 1 - (epoch - cut) / (epochs - cut)
    return 1 / ratio + part * (1 - 1 / ratio)


class GradualUnfreezeHook(Hook):
    """Train the first level alone, then two, until all are trained; a phase lasts as long as validation improves.

    A new phase begins with the weights as they are [R], and a new state of the optimiser. The best validation is
    that of the run, by ``default_hooks.checkpoint.save_best``; the count of epochs without a better one starts anew in
    each phase. The end of the last phase ends the run. Phase and count are in the checkpoints. The hook sets the
    learning rate, so a recipe has no other schedule.

    Args:
        levels: Paths of the network's parts, grouped, from the output side; together they hold all of its weights.
        patience: After how many validations in a row without a better one a phase ends.
        factors: The learning rates of the phases, as parts of the optimiser's; None leaves it the same.
        slanted: Whether the rate also follows :func:`slanted_triangular` over the recipe's epochs [R: over the run, not
            over each phase, whose length nobody knows in advance].

    Raises:
        InputError: The settings are out of range.

    References:
        PGFiT, gradual fine-tuning of the authors of "Fine-Tuning-Based Transfer Learning for Building Extraction from
        Off-Nadir Remote Sensing Images", Remote Sensing 17(7), 2025.
    """

    priority = "LOWEST"  # after the checkpoint hook has judged a validation

    def __init__(
        self,
        levels: Levels,
        patience: int = 5,
        factors: Sequence[float] | None = GRADUAL_FACTORS,
        slanted: bool = False,
    ) -> None:
        if not levels or patience < 1:
            raise InputError(f"{len(levels)} levels and patience {patience}: expected at least one of each")
        if factors is not None and len(factors) < len(levels):
            raise InputError(f"{len(factors)} factors for {len(levels)} levels: expected one a level")
        self.levels = [tuple(level) for level in levels]
        self.patience, self.factors, self.slanted = patience, factors, slanted
        self.phase = self.waited = 0
        self._rates: list[float] | None = None
        self._frozen: list[nn.Module] = []

    def before_train(self, runner: Any) -> None:
        """Begin with the first phase, or go on.

        Raises:
            InputError: The levels do not fit the network, or the recipe has no best checkpoint, or a schedule.
        """
        keeper = runner.checkpoint_hook
        if keeper.score is None:
            raise InputError("gradual fine-tuning needs a validation: set default_hooks.checkpoint.save_best")
        if runner.param_schedulers:
            raise InputError("gradual fine-tuning sets the learning rate: leave param_scheduler out of the recipe")
        _check_complete(trained_network(runner), self.levels)
        if self._rates is None:
            self._rates = [group["lr"] for group in runner.optim_wrapper.optimizer.param_groups]
        self._freeze(runner)

    def before_train_epoch(self, runner: Any) -> None:
        """Set the learning rate."""
        factor = 1.0 if self.factors is None else self.factors[self.phase]
        if self.slanted:
            factor *= slanted_triangular(runner.epoch, runner.max_epochs)
        for group, rate in zip(runner.optim_wrapper.optimizer.param_groups, self._rates or (), strict=True):
            group["lr"] = rate * factor

    def before_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:
        """Undo for the frozen parts what ``train()`` did."""
        keep_in_eval(self._frozen)

    def after_val_epoch(self, runner: Any, metrics: Any = None) -> None:
        """End the phase, if it is over."""
        self.waited = 0 if runner.checkpoint_hook.best_step == runner.iter else self.waited + 1
        if self.waited < self.patience:
            return
        if self.phase + 1 == len(self.levels):
            runner.train_loop.stop_training = True
            return
        self.phase, self.waited = self.phase + 1, 0
        runner.optim_wrapper.optimizer.state.clear()
        self._freeze(runner)

    def before_save_checkpoint(self, runner: Any, checkpoint: dict[str, Any]) -> None:
        """Save where the run stands."""
        checkpoint["gradual"] = {"phase": self.phase, "waited": self.waited, "rates": self._rates}

    def after_load_checkpoint(self, runner: Any, checkpoint: dict[str, Any]) -> None:
        """Restore it, when a run goes on."""
        if runner.is_resuming and "gradual" in checkpoint:
            saved = checkpoint["gradual"]
            self.phase, self.waited, self._rates = saved["phase"], saved["waited"], saved["rates"]

    def _freeze(self, runner: Any) -> None:
        names = frozen_below(self.levels, self.phase + 1)
        self._frozen = freeze(trained_network(runner), names)
        check_trainable(runner, names)


def _check_complete(network: nn.Module, levels: Levels) -> None:
    known = dict(network.named_modules())
    freeze(network, [name for level in levels for name in level])
    left = [name for name, parameter in network.named_parameters() if parameter.requires_grad]
    network.requires_grad_(True)
    if left:
        raise InputError(
            f"the levels leave out {', '.join(left[:4])}{' and more' if len(left) > 4 else ''} of "
            f"{type(network).__name__} ({len(known)} parts): these would be trained from the first phase on"
        )

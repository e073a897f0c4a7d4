"""Parts of a network that stay as they are while the rest is trained."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from torch import nn

from robustvision.core.errors import InputError
from robustvision.core.training.classes import nearest


def freeze(module: nn.Module, names: Sequence[str]) -> list[nn.Module]:
    """Freeze parts of a module: their weights get no gradients, and they go to eval mode.

    A later ``train()`` of the module would let batch norm's running statistics move again, whatever its weights do:
    pass what this returns to :func:`keep_in_eval` after it, as :class:`FreezeHook` does.

    Args:
        module: The module, changed in place; what ``names`` leaves out becomes trainable.
        names: Exact paths, such as ``encoder.features.2``, which does not mean ``encoder.features.21``. An empty path
            is the whole module.

    Returns:
        The frozen parts.

    Raises:
        InputError: There is no such part.
    """
    known = dict(module.named_modules())
    for name in names:
        if name not in known:
            raise InputError(f"{type(module).__name__} has no part {name!r} to freeze{nearest(name, known)}")
    module.requires_grad_(True)
    frozen = [known[name].requires_grad_(False) for name in names]
    keep_in_eval(frozen)
    return frozen


def keep_in_eval(frozen: Sequence[nn.Module]) -> None:
    """Put the parts that a ``train()`` has woken back to eval mode.

    Args:
        frozen: What :func:`freeze` returned.
    """
    for part in frozen:
        if part.training:
            part.eval()


class FreezeHook(Hook):
    """Keep parts of the model's ``network`` as they are: weights and running statistics.

    Args:
        freeze: ``encoder``, or exact paths within the network; None freezes nothing.
    """

    def __init__(self, freeze: str | Sequence[str] | None = None) -> None:
        self.names = (freeze,) if isinstance(freeze, str) else tuple(freeze or ())
        self._frozen: list[nn.Module] = []

    def before_train(self, runner: Any) -> None:
        """Freeze.

        Raises:
            InputError: There is no such part, all is frozen, or the processes would wait for the frozen gradients.
        """
        self._frozen = freeze(trained_network(runner), self.names)
        check_trainable(runner, self.names)

    def before_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:
        """Undo for the frozen parts what ``train()`` did: an epoch begins with one."""
        keep_in_eval(self._frozen)


def trained_network(runner: Any) -> nn.Module:
    """The ``network`` of the model that a runner trains.

    Args:
        runner: The runner.

    Raises:
        InputError: The model has none.
    """
    model = runner.model.module if is_model_wrapper(runner.model) else runner.model
    network = getattr(model, "network", None)
    if not isinstance(network, nn.Module):
        raise InputError(f"{type(model).__name__} has no `network`: adaptation needs a model that keeps its net there")
    return network


def check_trainable(runner: Any, names: Sequence[str]) -> None:
    """Refuse to train a model that is frozen as a whole, or whose processes would wait for frozen gradients.

    Args:
        runner: The runner.
        names: What is frozen.

    Raises:
        InputError: It is so.
    """
    if not any(parameter.requires_grad for parameter in runner.model.parameters()):
        raise InputError(f"{', '.join(names)} frozen: nothing is left to train")
    if names and is_model_wrapper(runner.model) and not runner.model.find_unused_parameters:
        raise InputError("frozen parts in several processes: set find_unused_parameters=True in the recipe")

"""A loss over classes as something to measure: found by name, built with settings, evaluated sample by sample.

``robustness_card`` measures what comes out of here. Losses over cosines are measured as functions of f = s cos, with s
their scale, so that p_y means for them what it means for the others.
"""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

import robustvision.core.losses as losses
from robustvision.core.errors import InputError
from robustvision.core.training.classes import build_class, find_class, nearest, parameters_of

LARGEST_BATCH = 2**15
"""Samples for which a loss with a state is built; no measurement takes more at once."""

_HANDED_IN = ("logits", "cosines", "scores", "target", "labels", "index", "weight", "reduction", "kwargs")


@dataclass(frozen=True)
class ExaminedLoss:
    """A loss, ready to be called.

    Attributes:
        name: What it is called.
        settings: Those that were given.
        call: The module or function.
        num_classes: C.
        over_cosines: Whether its scores are cosines.
        scale: s of a loss over cosines: scores are f / s. 1 for others.
        takes_index: Whether it is called with the places of the samples in the training set.
    """

    name: str
    settings: Mapping[str, Any]
    call: Callable[..., Any]
    num_classes: int
    over_cosines: bool
    scale: float
    takes_index: bool

    @property
    def origin(self) -> Callable[..., Any]:
        """The class of the module, or the function without its settings."""
        if isinstance(self.call, nn.Module):
            return type(self.call)
        return self.call.func if isinstance(self.call, partial) else self.call

    @property
    def limit(self) -> float:
        """The largest absolute f that exists: s for a loss over cosines."""
        return self.scale if self.over_cosines else math.inf

    @property
    def knows_samples(self) -> bool:
        """Whether it gives one value a sample, not only their mean or sum."""
        return self._call(torch.zeros(2, self.num_classes), torch.zeros(2, dtype=torch.long)).ndim == 1

    def values(self, f: Tensor, target: Tensor) -> Tensor:
        """The loss of each sample: f [B, C], of any floating dtype, and labels [B] to [B]."""
        result = self._call(f, target)
        if result.shape == target.shape:
            return result
        if len(f) == 1:
            return result[None]
        # A loss that knows only its mean or sum shows a single sample only in a batch of one.
        return torch.cat([self.values(f[i : i + 1], target[i : i + 1]) for i in range(len(f))])

    def _call(self, f: Tensor, target: Tensor) -> Tensor:
        index = {"index": torch.arange(len(f))} if self.takes_index else {}
        result = self.call(f / self.scale, target, **index)
        if not isinstance(result, Tensor) or result.shape not in ((), target.shape):
            shape = list(result.shape) if isinstance(result, Tensor) else type(result).__name__
            raise InputError(f"{self.name} returned {shape} for a batch of {len(f)}: expected one value each, or one")
        return result

    def values_and_gradients(self, f: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """The losses, [B], and their gradients with respect to f, [B, C]."""
        f = f.detach().requires_grad_()
        values = self.values(f, target)
        if not values.requires_grad:
            return values, torch.zeros_like(f)
        return values.detach(), torch.autograd.grad(values.sum(), f)[0]


def losses_over_classes() -> dict[str, type[nn.Module]]:
    """Every loss of this library with one value a sample and the signature ``loss(logits, target, *, index, weight)``.

    Returns:
        Class name -> class, by module and name.

    Example:
        >>> "GCELoss" in losses_over_classes(), "TripletLoss" in losses_over_classes()
        (True, False)
    """
    classes = (getattr(losses, name) for name in dir(losses))
    over_classes = [
        value
        for value in classes
        if inspect.isclass(value)
        and issubclass(value, nn.Module)
        and {"index", "weight"} <= set(inspect.signature(value.forward).parameters)
        and "reduction" in parameters_of(value)[0]
    ]
    return {
        value.__name__: value for value in sorted(over_classes, key=lambda value: (value.__module__, value.__name__))
    }


def what_it_is(loss: Callable[..., Any]) -> str:
    """The first line of a loss's documentation, as plain text; that of the function to which it refers, if it does.

    Example:
        >>> what_it_is(losses.AGCELoss)
        'Asymmetric GCE ((a+1)^q - (a+p_y)^q)/q.'
    """
    line = next(iter((loss.__doc__ or "").strip().splitlines()), "")
    behind = re.search(r"see :func:`(\w+)`", line)
    if behind and hasattr(losses, behind.group(1)):
        return what_it_is(getattr(losses, behind.group(1)))
    return _plain(re.sub(r":[a-z]+:`([^`]*)`", r"\1", line))


def _plain(formula: str) -> str:
    """TeX as one would type it: the names of functions and letters stay, the marks go."""
    formula = re.sub(r"\\frac\{([^{}]*)\}\{([^{}]*)\}", r" (\1)/(\2) ", formula)
    formula = re.sub(r"\\frac(\w)(\w)", r" \1/\2 ", formula)
    formula = re.sub(r"\\mathrm\{(\w+)\}", r"\1", formula)
    formula = re.sub(r"(?<=[-^_/(])\\", "", formula)
    formula = formula.replace(r"\ne", "!=").replace(r"\,", " ").replace("\\", " ")
    return re.sub(r"(?<=[({\[]) | (?=[)}\]])", "", " ".join(formula.split()))


def find_loss(name: str) -> Callable[..., Any]:
    """The loss that a name means.

    Args:
        name: A class of ``robustvision.core.losses``, in any case, with or without ``Loss``, dashes and underscores
            ("gce", "cross-entropy"); or the dotted path of any importable class or function.

    Returns:
        The class or function.

    Raises:
        InputError: There is none.

    Example:
        >>> find_loss("truncated-gce").__name__
        'TruncatedGCELoss'
    """
    if "." in name:
        return build_class(find_class(name, "NAME"))  # type: ignore[no-any-return]
    known = {_folded(known): loss for known, loss in losses_over_classes().items()}
    if _folded(name) not in known:
        names = {_folded(loss): loss for loss in (value.__name__ for value in known.values())}
        offer = nearest(_folded(name), names)
        offer = re.sub(r"did you mean (\w+)", lambda match: f"did you mean {names[match.group(1)]}", offer)
        raise InputError(f"there is no loss over classes {name}{offer or ': `robustvision losses list` shows them'}")
    return known[_folded(name)]


def examined(loss: str | Callable[..., Any], num_classes: int, settings: Mapping[str, Any]) -> ExaminedLoss:
    """Find a loss, build it and see whether it can be called.

    Args:
        loss: A name for :func:`find_loss`, a class, a function, or a module that is built already.
        num_classes: C, 2 to 1000.
        settings: For the constructor, or for the function.

    Returns:
        The loss, in evaluation mode, with one value a sample where it can give that.

    Raises:
        InputError: No such loss, settings that it does not take, or a call that fails.
    """
    if not 2 <= num_classes <= 1000:
        raise InputError(f"num_classes is {num_classes}, but a card is made for 2 to 1000 classes")
    target = find_loss(loss) if isinstance(loss, str) else loss
    name = getattr(target, "__name__", type(target).__name__)
    if isinstance(target, nn.Module):
        if settings:
            raise InputError(f"this {name} is built already: give its class to set {', '.join(settings)}")
        built: Callable[..., Any] = target
        if getattr(target, "reduction", "none") != "none":
            raise InputError(f"this {name} reduces by {target.reduction!r}: build it with reduction='none'")
    else:
        built = _build(name, target, num_classes, settings)
    if isinstance(built, nn.Module):
        built.eval()
    signature = inspect.signature(built.forward if isinstance(built, nn.Module) else built)
    over_cosines = _is_over_cosines(built, signature)
    scale = getattr(built, "scale", None) or getattr(built, "settings", settings).get("scale")
    if scale is None and over_cosines and "scale" in signature.parameters:
        scale = signature.parameters["scale"].default
    subject = ExaminedLoss(
        name,
        dict(settings),
        built,
        num_classes,
        over_cosines,
        float(scale) if over_cosines and scale else 1.0,
        "index" in signature.parameters,
    )
    try:
        subject.values_and_gradients(torch.zeros(4, num_classes), torch.zeros(4, dtype=torch.long))
    except InputError:
        raise
    except Exception as error:
        raise InputError(
            f"{name} cannot be called as loss(logits [4, {num_classes}], labels [4]): {type(error).__name__}: {error}"
        ) from error
    return subject


def _build(name: str, target: Callable[..., Any], num_classes: int, settings: Mapping[str, Any]) -> Callable[..., Any]:
    taken, any_other = parameters_of(target)
    choices = sorted(taken - set(_HANDED_IN))
    for key in settings:
        if key in _HANDED_IN or (key not in taken and not any_other):
            offer = nearest(key, choices) or (f": it takes {', '.join(choices)}" if choices else ": it takes none")
            raise InputError(f"{name} has no setting {key}{offer}")
    arguments = dict(settings)
    if "num_classes" in taken:
        arguments["num_classes"] = num_classes
    remembers = getattr(target, "remembers_samples", False) or "num_samples" in _required(target)
    if "num_samples" in taken and (remembers or "num_samples" in settings):
        arguments["num_samples"] = LARGEST_BATCH
    if "reduction" in taken:
        arguments["reduction"] = "none"
    is_class = inspect.isclass(target)
    missing = sorted(_required(target) - set(arguments) - set(_HANDED_IN)) if is_class else []
    if missing:
        raise InputError(f"{name} needs {', '.join(missing)}: pass --set {missing[0]}=...")
    if not is_class:
        return partial(target, **arguments)
    try:
        built: Callable[..., Any] = target(**arguments)
    except (TypeError, ValueError) as error:
        raise InputError(f"{name} does not take the settings {dict(settings)}: {error}") from error
    return built


def _required(target: Callable[..., Any]) -> set[str]:
    """The parameters without a default."""
    variadic = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
    parameters = inspect.signature(target).parameters.values()
    return {p.name for p in parameters if p.default is inspect.Parameter.empty and p.kind not in variadic}


def _is_over_cosines(built: Callable[..., Any], signature: inspect.Signature) -> bool:
    """Whether the first argument is called so: in the module's call, or in that of the function behind it."""
    function = getattr(built, "function", None)
    first = [next(iter(signature.parameters), "")]
    if function is not None:
        first.append(next(iter(inspect.signature(function).parameters)))
    return "cosines" in first


def _folded(name: str) -> str:
    return re.sub(r"[-_ ]", "", name).lower().removesuffix("loss")

"""The robustness card: what a loss over classes promises when labels are wrong, measured on the loss itself.

``examined_loss`` finds and calls the loss; ``loss_behaviour``, ``comp_sum_member`` and ``loss_dtypes`` measure;
``report.loss_card`` draws.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from robustvision.core.methods.comp_sum_member import Consistency, measure_consistency
from robustvision.core.methods.examined_loss import examined, what_it_is
from robustvision.core.methods.loss_behaviour import (
    Bounds,
    Symmetry,
    Temperatures,
    Weights,
    measure_bounds,
    measure_symmetry,
    measure_temperatures,
    measure_weights,
    random_scores,
)
from robustvision.core.methods.loss_dtypes import DtypeSafety, measure_dtypes

ROWS = 64
"""Random score vectors of each spread."""


@dataclass(frozen=True)
class RobustnessCard:
    """What was measured of one loss; values and gradients are those of a single sample.

    Attributes:
        name: The loss.
        what: What it is, in a line.
        settings: Settings other than its defaults.
        num_classes: C.
        over: "logits" or "cosines"; gradients and p_y of the latter are those of f = s cos.
        scale: s; 1 for logits.
        symmetry: The sum over all labels.
        value: Bounds of the value.
        gradient: Bounds of the largest ``|dL/df_k|``.
        weights: The weight on the cross-entropy gradient by p_y.
        temperatures: The individual temperature; None without one.
        consistency: The comp-sum loss that it is, with its bound; None if it is none, and the bound is not known.
        dtypes: What extreme scores and half precision do to it.
        remembers: Whether it remembers samples. All but the temperatures is then measured at a sample's first visit.
    """

    name: str
    what: str
    settings: Mapping[str, Any]
    num_classes: int
    over: str
    scale: float
    symmetry: Symmetry
    value: Bounds
    gradient: Bounds
    weights: Weights
    temperatures: Temperatures | None
    consistency: Consistency | None
    dtypes: DtypeSafety
    remembers: bool

    def as_dict(self) -> dict[str, Any]:
        """Everything, as plain values."""
        return dataclasses.asdict(self)

    @property
    def title(self) -> str:
        """The loss with its settings."""
        return f"{self.name}({', '.join(f'{key}={value}' for key, value in self.settings.items())})"

    def lines(self) -> dict[str, str]:
        """What a person reads: a line for each property."""
        over = f"cosines, as f = {self.scale:g} cos" if self.over == "cosines" else "logits"
        rows = {
            "what it is": self.what,
            "scores": f"{self.num_classes} classes, {over}",
            "symmetry gap": _symmetry_line(self.symmetry),
            "value": _bounds_line(self.value),
            "gradient, largest |dL/df|": _bounds_line(self.gradient, is_size=True),
            "weight by p_y": _TRENDS[self.weights.trend].format(at=self.weights.largest_at),
            "weight at p_y": ", ".join(f"{p}: {weight:.3g}" for p, weight in self.weights.named.items()) or "none",
        }
        power = self.weights.tail_power
        rows["weight as p_y -> 0"] = "no gradient" if power is None else f"as p_y to the power {_rounded(power)}"
        if self.temperatures is None:
            rows["individual temperature"] = "none"
        else:
            met = "; ".join(
                f"{low:.4g} to {high:.4g} at spread {s}" for s, (low, high) in self.temperatures.met.items()
            )
            interval = f"in [{self.temperatures.least:.4g}, {self.temperatures.most:.4g}]"
            rows["individual temperature"] = f"{interval}; met: {met}"
        rows["consistency bound"] = _consistency_line(self.consistency)
        rows["dtype safety"] = _dtypes_line(self.dtypes)
        if self.remembers:
            rows["note"] = "it remembers samples: measured at the first visit of each"
        return rows


def robustness_card(
    loss: str | Callable[..., Any], num_classes: int = 10, *, seed: int = 0, **settings: Any
) -> RobustnessCard:
    """Measure a loss over classes.

    Args:
        loss: A name ("gce", "ALDRLoss"), the dotted path of an importable class or function, the class or function
            itself, or a module with reduction "none"; its signature is ``loss(logits, target, *, index=None,
            weight=None)``.
        num_classes: C, 2 to 1000.
        seed: Of the random scores.
        settings: Of the loss. Number of classes, number of samples and reduction are set here.

    Returns:
        The card.

    Raises:
        InputError: No such loss, settings that it does not take, or a loss that cannot be called.

    References:
        Symmetric losses: Ghosh, Kumar, Sastry, "Robust Loss Functions under Label Noise for Deep Neural Networks",
        AAAI 2017, arXiv 1712.09482. Weights and the consistency bound: Mao, Mohri, Zhong, arXiv 2304.07288.

    Example:
        >>> card = robustness_card("gce", q=0.5)
        >>> card.symmetry.is_symmetric, card.weights.trend, round(card.consistency.tau, 6)
        (False, 'rises', 1.5)
        >>> card.value.highest
        2.0
    """
    subject = examined(loss, num_classes, settings)
    generator = torch.Generator().manual_seed(seed)
    scores = random_scores(subject, ROWS, generator)
    value, gradient = measure_bounds(subject, scores)
    weights = measure_weights(subject)
    return RobustnessCard(
        name=subject.name,
        what=what_it_is(subject.origin),
        settings=subject.settings,
        num_classes=num_classes,
        over="cosines" if subject.over_cosines else "logits",
        scale=subject.scale,
        symmetry=measure_symmetry(subject, scores),
        value=value,
        gradient=gradient,
        weights=weights,
        temperatures=measure_temperatures(subject, scores),
        consistency=measure_consistency(subject, weights, scores),
        dtypes=measure_dtypes(subject, scores),
        remembers=getattr(subject.call, "state", None) is not None,
    )


_TRENDS = {
    "rises": "rises with p_y: improbable, likely mislabelled samples weigh least",
    "flat": "flat: all samples as with cross-entropy",
    "falls": "falls with p_y: improbable, likely mislabelled samples weigh most",
    "turns": "neither rises nor falls throughout: largest at p_y = {at:.3g}",
    "none": "no gradient anywhere",
}


def _number(value: float) -> str:
    return f"{0.0 if abs(value) < 1e-12 else value:.4g}"


def _rounded(number: float) -> str:
    return f"{0.0 if abs(number) < 5e-4 else number:.3g}"


def _symmetry_line(symmetry: Symmetry) -> str:
    if symmetry.is_symmetric:
        return f"0 (symmetric): tolerates uniform label noise below {symmetry.noise_bound:.4g}"
    return f"{symmetry.gap:.4g}, {symmetry.relative_gap:.3g} of the mean sum of absolute losses: not symmetric"


def _bounds_line(bounds: Bounds, *, is_size: bool = False) -> str:
    if bounds.highest is None and is_size:
        line = "unbounded"
    elif is_size:
        line = f"up to {bounds.highest:.4g}"
    else:
        low, high = ("unbounded" if end is None else _number(end) for end in (bounds.lowest, bounds.highest))
        line = f"{low} to {high}"
    return "; ".join([line, *(f"{growth} ({way})" for way, growth in bounds.growth.items())])


def _consistency_line(consistency: Consistency | None) -> str:
    if consistency is None:
        return "not known: no comp-sum loss"
    line = f"comp-sum, tau = {consistency.tau:.4g}"
    if abs(consistency.factor - 1) > 1e-6:
        line += f", times {consistency.factor:.4g}"
    if not consistency.bounds:
        return f"{line}; the bound is for scores without limits, not for cosines"
    bounds = ", ".join(f"{excess}: {bound:.3g}" for excess, bound in consistency.bounds.items())
    return f"{line}; excess zero-one error at most, by excess loss, {bounds}"


def _dtypes_line(dtypes: DtypeSafety) -> str:
    errors = f"bfloat16 error {dtypes.bfloat16_error:.1g} (rounding of the scores: {dtypes.bfloat16_rounding:.1g})"
    verdict = "safe" if dtypes.is_safe else f"NOT safe: {'; '.join(dtypes.problems)}"
    return f"{verdict}; {errors}; one class: {dtypes.one_class}"

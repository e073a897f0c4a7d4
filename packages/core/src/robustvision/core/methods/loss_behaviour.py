"""What a loss over classes does, measured: symmetry, bounds, weights and individual temperatures.

Everything is computed in float64 from values and gradients of the loss alone, so it holds for a loss of any origin.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass

import torch
from torch import Tensor

from robustvision.core.losses import ALDRLoss, aldr_fixed_point
from robustvision.core.methods.examined_loss import ExaminedLoss

ROUNDING = 1e-6
"""Relative; a loss that computes in float32 reaches it."""

SPREADS = (0.1, 1.0, 3.0, 10.0)
"""Standard deviations of random logits."""

SHARES = (0.1, 0.3, 0.6, 1.0)
"""What they are for cosines: f is uniform within this share of [-s, s]."""

NAMED_P = (1e-4, 0.003, 0.03, 0.3, 0.9)
"""Where weights are stated; 1/C, where all scores are equal, is none of them for up to 1000 classes."""

VISITS = 10
NO_WEIGHT = 1e-12

HUGE = 1e30
"""What only an exponential reaches at scores of a million."""


@dataclass(frozen=True)
class Symmetry:
    """The sum of the loss over all labels, over random scores.

    Attributes:
        gap: Largest minus smallest sum.
        relative_gap: The same over the mean sum of the absolute losses, since a symmetric sum can be 0.
        is_symmetric: Whether the relative gap is rounding.
        noise_bound: The rate of uniform label noise below which a symmetric loss is tolerant, (C - 1) / C.
        spreads: Of the scores: standard deviations of logits, or shares of [-s, s] for cosines.
        sums: The sums for each spread.
    """

    gap: float
    relative_gap: float
    is_symmetric: bool
    noise_bound: float | None
    spreads: tuple[float, ...]
    sums: tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class Bounds:
    """How far a value goes: what was met, and the limits at the end of ways without one, which are extrapolated.

    Attributes:
        lowest: The smallest; None if it falls without limit.
        highest: The largest; None if it grows without limit.
        growth: Way of the scores -> how the value grows on it, for those on which it has no limit.
    """

    lowest: float | None
    highest: float | None
    growth: dict[str, str]


@dataclass(frozen=True)
class Weights:
    """The weight on the cross-entropy gradient, ``|dL/df_y| / (1 - p_y)``, where all other classes are equal.

    Attributes:
        p: Probability of the own class.
        loss: The loss there.
        weight: The weight there.
        trend: "rises", "flat", "falls", "turns" or "none" (no gradient anywhere).
        largest_at: The p_y of the largest weight.
        tail_power: The weight goes as p_y to this power where p_y is small; None where it is 0 there.
        named: Weights at some p_y; scores that a loss over cosines does not reach are left out.
    """

    p: tuple[float, ...]
    loss: tuple[float, ...]
    weight: tuple[float, ...]
    trend: str
    largest_at: float
    tail_power: float | None
    named: dict[str, float]


@dataclass(frozen=True)
class Temperatures:
    """The individual temperature of a loss that has one.

    Attributes:
        least: lam0 (1 - 1/alpha).
        most: lam0.
        met: Spread of random scores -> smallest and largest temperature met there.
    """

    least: float
    most: float
    met: dict[str, tuple[float, float]]


def random_scores(loss: ExaminedLoss, rows: int, generator: torch.Generator) -> list[Tensor]:
    """Random f of each spread, float64 [rows, C]."""
    shape = (rows, loss.num_classes)
    if loss.over_cosines:
        uniform = [2 * torch.rand(shape, generator=generator, dtype=torch.float64) - 1 for _ in SHARES]
        return [loss.scale * share * u for share, u in zip(SHARES, uniform, strict=True)]
    return [spread * torch.randn(shape, generator=generator, dtype=torch.float64) for spread in SPREADS]


def measure_symmetry(loss: ExaminedLoss, scores: list[Tensor]) -> Symmetry:
    """Sum the loss over all labels."""
    classes = loss.num_classes
    rows = max(2, min(len(scores[0]), 2**21 // classes**2))
    labels = torch.arange(classes).repeat(rows)
    values = torch.stack(
        [loss.values(f[:rows].repeat_interleave(classes, 0), labels).detach().reshape(rows, -1) for f in scores]
    ).double()
    sums = values.sum(2)
    gap = (sums.max() - sums.min()).item()
    relative = gap / max(values.abs().sum(2).mean().item(), torch.finfo(torch.float64).tiny)
    is_symmetric = relative <= ROUNDING
    return Symmetry(
        gap=gap,
        relative_gap=relative,
        is_symmetric=is_symmetric,
        noise_bound=(classes - 1) / classes if is_symmetric else None,
        spreads=SHARES if loss.over_cosines else SPREADS,
        sums=tuple(tuple(row.tolist()) for row in sums),
    )


def measure_bounds(loss: ExaminedLoss, scores: list[Tensor]) -> tuple[Bounds, Bounds]:
    """Bounds of the value and of the largest ``|dL/df_k|``: at random scores, and as scores go to the end."""
    start = torch.cat([f[:2] for f in scores])
    t = torch.exp2(torch.arange(21, dtype=torch.float64))[:, None]
    far = loss.scale * (1 - 1 / t) if loss.over_cosines else t

    def moved(place: int, to: Tensor) -> Tensor:
        """The scores [21, 8, C] with those of one class replaced."""
        f = start.repeat(len(t), 1, 1)
        f[:, :, place] = to
        return f

    ways = {
        "own score to -inf": moved(0, -far),
        "own score to +inf": moved(0, far),
        "another score to +inf": moved(1, far),
        "all scores to -inf": start - far[:, :, None],
        "all scores to +inf": start + far[:, :, None],
        "all scores to 0": start / t[:, :, None],
    }
    if loss.over_cosines:
        apart = far[:, :, None] * torch.ones_like(start)
        apart[:, :, 0] *= -1
        ways |= {"own score to -inf, others to +inf": apart, "own score to +inf, others to -inf": -apart}
        ways = {way.replace("inf", "s"): f.clamp(-loss.scale, loss.scale) for way, f in ways.items()}
    sampled = torch.cat([*scores, two_level(torch.linspace(-9, 9, 181).double().sigmoid(), loss.num_classes)])
    sampled = sampled.clamp(-loss.limit, loss.limit)
    f = torch.cat([f.reshape(-1, loss.num_classes) for f in ways.values()] + [sampled])
    values, gradients = loss.values_and_gradients(f, torch.zeros(len(f), dtype=torch.long))
    on_ways = len(ways) * len(t) * len(start)
    return tuple(  # type: ignore[return-value]
        _bounds(measured[:on_ways].reshape(len(ways), -1, len(start)), measured[on_ways:], list(ways))
        for measured in (values.double(), gradients.double().abs().amax(1))
    )


def _bounds(on_ways: Tensor, sampled: Tensor, names: list[str]) -> Bounds:
    on_ways, sampled = (
        on_ways.nan_to_num(torch.inf, torch.inf, -torch.inf),
        sampled.nan_to_num(torch.inf, torch.inf, -torch.inf),
    )
    lowest = min(on_ways.min().item(), sampled.min().item())
    highest = max(on_ways.max().item(), sampled.max().item())
    growth = {}
    for name, values in zip(names, on_ways, strict=True):
        end, word = _end(values)
        if word:
            growth[name] = word
        lowest, highest = min(lowest, end.min().item()), max(highest, end.max().item())
    low, high = (end if math.isfinite(end) else None for end in (lowest, highest))
    return Bounds(low, high, growth)


def _end(values: Tensor) -> tuple[Tensor, str]:
    """Where values [T, n] at doubled distances go: limits [n], infinite where there is none, and how they grow there.

    Steps between doublings stay the same for a logarithm, double for a line, and shrink where there is a limit. Only
    what goes on for some doublings grows: a loss in float32 has noise.
    """
    huge = ~(values.abs() < HUGE).all(0)
    if huge.any():
        end = torch.where(values.amax(0) >= -values.amin(0), torch.inf, -torch.inf)  # a guard may make the last one 0
        return torch.where(huge, end, values[-1]), "exponential"
    steps = values.diff(dim=0)[-8:]
    ratios = steps[1:] / steps[:-1].masked_fill(steps[:-1] == 0, torch.inf)
    grows = (ratios >= 0.9).all(0) & (steps[-1].abs() > 1e-9 * (1 + values[-1].abs()))
    ratio = ratios[-1].clamp(0.0, 0.9)
    end = torch.where(grows, steps[-1].sign() * torch.inf, values[-1] + steps[-1] * ratio / (1 - ratio))
    if not grows.any():
        return end, ""
    power = math.log2(ratios[-1][grows].max().item())
    if power < 0.1:
        return end, "logarithmic"
    return end, "linear" if abs(power - 1) < 0.05 else f"as t^{power:.2g}"


def measure_weights(loss: ExaminedLoss) -> Weights:
    """The weight on the cross-entropy gradient from p_y = 1e-4 to 1 - 1e-4, evenly in log p/(1 - p)."""
    end = math.log((1 - 1e-4) / 1e-4)
    grid = torch.linspace(-end, end, 80, dtype=torch.float64).sigmoid()
    p = torch.cat([grid, torch.tensor(NAMED_P, dtype=torch.float64)])
    f = two_level(p, loss.num_classes)
    values, gradients = loss.values_and_gradients(f, torch.zeros(len(f), dtype=torch.long))
    weight = gradients[:, 0].double().abs() / (1 - p)
    reached = f.abs().amax(1) <= loss.limit
    on_grid = reached[: len(grid)]
    grid, curve, of_grid = grid[on_grid], weight[: len(on_grid)][on_grid], values.double()[: len(on_grid)][on_grid]
    named = {f"{p:g}": w.item() for p, w, ok in zip(NAMED_P, weight[-5:], reached[-5:].tolist(), strict=True) if ok}
    tail = None
    if len(curve) > 1 and curve[0] > 0 and curve[1] > 0:
        tail = (torch.log(curve[1] / curve[0]) / torch.log(grid[1] / grid[0])).item()
    return Weights(
        p=tuple(grid.tolist()),
        loss=tuple(of_grid.tolist()),
        weight=tuple(curve.tolist()),
        trend=_trend(curve),
        largest_at=grid[curve.argmax()].item() if len(curve) else math.nan,
        tail_power=tail,
        named=named,
    )


def two_level(p: Tensor, classes: int) -> Tensor:
    """Scores [n, C] of mean 0, as a head's nearly are, whose first class has probability p and all others the same."""
    ahead = torch.logit(p) + math.log(classes - 1)
    f = (-ahead / classes)[:, None].repeat(1, classes)
    f[:, 0] += ahead
    return f


def _trend(curve: Tensor) -> str:
    if not len(curve) or not curve.max() > NO_WEIGHT:
        return "none"
    tolerance = ROUNDING * curve.max()
    if curve.max() - curve.min() <= tolerance:
        return "flat"
    steps = curve.diff()
    if (steps >= -tolerance).all():
        return "rises"
    return "falls" if (steps <= tolerance).all() else "turns"


def measure_temperatures(loss: ExaminedLoss, scores: list[Tensor]) -> Temperatures | None:
    """The temperatures after some visits of the same random scores; None for a loss without individual ones."""
    if not isinstance(loss.call, ALDRLoss):
        return None
    settings = loss.call.settings
    met = {}
    for spread, f in zip(SPREADS, scores, strict=True):
        labels, index = torch.arange(len(f)) % loss.num_classes, torch.arange(len(f))
        if loss.call.exact:
            lam = aldr_fixed_point(f, labels, **settings)
        else:
            module = copy.deepcopy(loss.call).train()
            for _ in range(VISITS):
                module(f, labels, index=index)
            lam = module.state_for(index)["lam"]
        met[f"{spread:g}"] = (lam.min().item(), lam.max().item())
    lam0, alpha = float(settings["lam0"]), float(settings["alpha"])
    return Temperatures(least=lam0 * (1 - 1 / alpha), most=lam0, met=met)

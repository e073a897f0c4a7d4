"""A robustness card as a picture, or as a page with its table."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from robustvision.core.errors import InputError
from robustvision.core.runtime.files import make_folder, write_atomically

from .document import Report
from .plots import COLOURS

if TYPE_CHECKING:
    from robustvision.core.methods.robustness_card import RobustnessCard

GREY = "#8a8f98"


def card_writer(path: str | os.PathLike[str]) -> Callable[[RobustnessCard], Path]:
    """How a card is written to a path, decided by the suffix, before anything is measured.

    Args:
        path: ``.png`` for the plots, ``.html`` for a page with table and plots. The folder is made.

    Returns:
        A function that takes the card, writes the file whole or not at all, and returns the path.

    Raises:
        InputError: Another suffix.
    """
    target = Path(path)
    if target.suffix.lower() not in (".png", ".html"):
        raise InputError(f"{target} ends in {target.suffix or 'nothing'}: a card is written as .png or .html")

    def write(card: RobustnessCard) -> Path:
        make_folder(target.parent)
        figure = draw_card(card)
        if target.suffix.lower() == ".html":
            rows = [{"property": name, "measured": line} for name, line in card.lines().items()]
            return Report(f"Robustness card: {card.title}", card.what).table(rows).figure(figure).write(target)
        with write_atomically(target) as temporary:
            figure.savefig(temporary, format="png", dpi=110, facecolor="white", metadata={"Software": None})
        return target

    return write


def draw_card(card: RobustnessCard) -> Figure:
    """Draw the loss and its weight against p_y, beside cross-entropy in grey, and the sum over all labels.

    Args:
        card: The card.

    Returns:
        The figure.
    """
    figure = Figure(figsize=(10.2, 3.2), layout="constrained")
    figure.suptitle(f"{card.title}, {card.num_classes} classes", fontsize=11)
    of_loss, of_weight, of_sum = figure.subplots(1, 3)
    p = np.array(card.weights.p)
    _draw_curve(of_loss, p, card.weights.loss, -np.log(p), "loss")
    _draw_curve(of_weight, p, card.weights.weight, np.ones_like(p), "weight on the cross-entropy gradient")
    of_weight.set_ylim(bottom=0)
    of_loss.legend([card.name, "cross-entropy"], frameon=False, fontsize=8)
    _draw_sums(of_sum, card)
    return figure


def _draw_curve(axes: Axes, p: np.ndarray, values: tuple[float, ...], cross_entropy: np.ndarray, name: str) -> None:
    axes.plot(p, values, color=COLOURS[0], linewidth=1.8, zorder=3)
    axes.plot(p, cross_entropy, color=GREY, linewidth=1.4)
    axes.set_xscale("log")
    high = max(values, default=1.0)
    if high > 100:  # a loss that explodes would leave everything else on the floor
        axes.set_yscale("symlog")
    axes.set(xlabel="p_y", title=name)
    _tidy(axes)


def _draw_sums(axes: Axes, card: RobustnessCard) -> None:
    symmetry = card.symmetry
    everything = np.array(symmetry.sums)
    if symmetry.is_symmetric:  # a spike in a range that shows how narrow it is
        middle = everything.mean()
        edges = np.linspace(middle - 0.05 * abs(middle) - 1e-9, middle + 0.05 * abs(middle) + 1e-9, 42)
    elif everything.min() > 0 and everything.max() > 100 * everything.min():
        edges = np.geomspace(everything.min(), everything.max(), 41)
        axes.set_xscale("log")
    else:
        edges = np.linspace(everything.min(), everything.max(), 41)
    for spread, sums, colour in zip(symmetry.spreads, symmetry.sums, COLOURS, strict=False):
        shares = np.histogram(sums, edges)[0] / len(sums)
        axes.stairs(shares, edges, fill=True, color=colour, alpha=0.3, label=f"spread {spread:g}")
        axes.stairs(shares, edges, color=colour)
    gap = "symmetric" if symmetry.is_symmetric else f"gap {symmetry.relative_gap:.3g} of the mean |loss| sum"
    axes.set(xlabel="sum over all labels", ylabel="share of random scores", title=gap)
    axes.legend(frameon=False, fontsize=8)
    _tidy(axes)


def _tidy(axes: Axes) -> None:
    axes.title.set_fontsize(9)
    axes.tick_params(labelsize=8)
    axes.grid(linewidth=0.5, alpha=0.4)
    axes.spines[["top", "right"]].set_visible(False)

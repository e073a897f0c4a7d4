"""Do robust losses keep a network from memorising wrong labels, as weight decay does? Corrupted modular addition.

A small version of the paper's task (arXiv 2310.13061): p 59, 200 neurons, 60 % of the pairs to train on, 30 % of their
labels redrawn, AdamW with learning rate 0.01 on the whole set, 400 steps, three seeds of split, noise and start. The
paper's loss (squared error) with three weight decays, with dropout 0.2 and with batch normalisation; robust losses
without weight decay. All that was fixed before the first table; only steps and sizes were tried before, on the squared
error. On one core:

    python benchmarks/grokking_phases.py [--smoke] [--picture docs/pictures/grokking.png]

A study's finished runs stay in benchmarks/out/grokking_phases and are not run again.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from robustvision.core.evaluation import Study, StudyResults
from robustvision.core.losses import ALDRLoss, gce_loss
from robustvision.core.methods import (
    ModularScores,
    QuadraticNet,
    grokking_phase,
    modular_addition,
    one_hot_mse,
    train_modular,
)

P, WIDTH, TRAIN_FRACTION, CORRUPTION = 59, 200, 0.6, 0.3
STEPS, EVERY, SEEDS = 400, 20, (0, 1, 2)
CELLS: dict[str, dict[str, Any]] = {
    "squared error": {"loss": "mse"},
    "squared error, decay 5": {"loss": "mse", "decay": 5.0},
    "squared error, decay 15": {"loss": "mse", "decay": 15.0},
    "squared error, dropout 0.2": {"loss": "mse", "dropout": 0.2},
    "squared error, batch norm": {"loss": "mse", "batch_norm": True},
    "cross-entropy": {"loss": "ce"},
    "GCE 0.7": {"loss": "gce"},
    "ALDR, lambda0 1, not normalised": {"loss": "aldr"},
}
TABLE_STEPS = (100, 300, 400)
NUMBERS = ("train_accuracy", "recovered", "memorised", "test_accuracy")
PICTURED = ("squared error", "squared error, decay 5", "squared error, decay 15", "GCE 0.7")
OUT = Path(__file__).parent / "out" / "grokking_phases"


def make_loss(name: str, samples: int) -> Callable[[Tensor, Tensor], Tensor]:
    """The loss of all training pairs; they always come in the same order, which is their index."""
    if name == "aldr":
        aldr = ALDRLoss(samples, lam0=1.0, normalize="none")
        return lambda outputs, labels: aldr(outputs, labels, index=torch.arange(samples))
    return {"mse": one_hot_mse, "ce": cross_entropy, "gce": gce_loss}[name]


def run(params: dict[str, Any], seed: int) -> dict[str, Any]:
    """Train one network and report its four numbers on the way and its neurons at the end."""
    task = modular_addition(P, TRAIN_FRACTION, CORRUPTION, seed)
    torch.manual_seed(seed)
    net = QuadraticNet(P, WIDTH, dropout=params.get("dropout", 0.0), batch_norm=params.get("batch_norm", False))
    loss = make_loss(params["loss"], len(task.train_labels))
    curve = train_modular(task, net, loss, steps=params["steps"], weight_decay=params.get("decay", 0.0), every=EVERY)
    metrics: dict[str, Any] = {"step": [float(step) for step in curve]}
    for name in NUMBERS:
        metrics[name] = [getattr(scores, name) for scores in curve.values()]
        for step in TABLE_STEPS:
            metrics[f"{name} {step}"] = getattr(curve[step], name) if step in curve else math.nan
    metrics["participation"] = net.participation().tolist()
    metrics["wrong_share"] = float(task.is_wrong.float().mean())
    return metrics


def phases(results: StudyResults, cell: str, step: int) -> str:
    """The phase of every seed after a step."""
    found = []
    for metrics in results.metrics[cell].values():
        scores = ModularScores(*(metrics[f"{name} {step}"] for name in NUMBERS))
        found.append(grokking_phase(scores, metrics["wrong_share"]))
    return ", ".join(f"{found.count(phase)} {phase}" for phase in dict.fromkeys(found))


def draw(results: StudyResults, path: Path) -> None:
    """Accuracies over steps, and the participation ratios of the neurons at the end."""
    figure, axes = plt.subplots(2, len(PICTURED), figsize=(13, 5.4), sharey="row", layout="constrained")
    lines = {"test_accuracy": "C0", "train_accuracy": "C1", "recovered": "C2", "memorised": "C3"}
    for column, cell in enumerate(PICTURED):
        above, below = axes[:, column]
        for seed, metrics in results.metrics[cell].items():
            for name, colour in lines.items():
                label = name.replace("_", " ") if seed == SEEDS[0] else None
                above.plot(metrics["step"], metrics[name], color=colour, linewidth=1, label=label)
        above.axhline(1 - CORRUPTION, color="0.7", linewidth=0.8, linestyle="--")
        above.set(title=cell, xlabel="step", ylim=(-0.03, 1.03))
        neurons = [value for metrics in results.metrics[cell].values() for value in metrics["participation"]]
        below.hist(neurons, bins=40, range=(0, 1), color="0.4")
        below.set(xlabel="inverse participation ratio of a neuron", xlim=(0, 1))
    axes[0, -1].legend(*axes[0, 0].get_legend_handles_labels(), loc="center right", fontsize=8)
    axes[0, 0].set_ylabel("share")
    axes[1, 0].set_ylabel(f"neurons of {len(SEEDS)} seeds")
    figure.savefig(path, dpi=75)
    plt.close(figure)


def main() -> None:
    """Run the study, and print, draw and write what came out."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smoke", action="store_true", help="one seed and 20 steps, to see that it runs")
    parser.add_argument("--picture", type=Path, help="where to draw the curves")
    arguments = parser.parse_args()
    begin, cpu = time.monotonic(), time.process_time()
    steps, seeds = (20, (100,)) if arguments.smoke else (STEPS, SEEDS)
    cells = {cell: params | {"steps": steps} for cell, params in CELLS.items()}
    results = Study("grokking phases", run, cells, seeds, OUT).execute(threads=1)
    for step in TABLE_STEPS if not arguments.smoke else ():
        print(f"\nafter {step} steps")
        print(results.to_markdown([f"{name} {step}" for name in NUMBERS]))
        print(*(f"{cell}: {phases(results, cell, step)}" for cell in cells), sep="\n")
    summary = results.to_dict()
    summary |= {"minutes": (time.monotonic() - begin) / 60, "cpu minutes": (time.process_time() - cpu) / 60}
    if not arguments.smoke:
        summary["phases"] = {cell: {step: phases(results, cell, step) for step in TABLE_STEPS} for cell in cells}
        OUT.with_suffix(".json").write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")
    if arguments.picture:
        draw(results, arguments.picture)
    print(f"{summary['minutes']:.1f} minutes in this run, {summary['cpu minutes']:.1f} of them on the core")


if __name__ == "__main__":
    main()

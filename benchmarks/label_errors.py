"""Which labels are wrong? Scores that one training run gives away, against cleanlab's confident learning.

Real data with labels made wrong, so that the truth is known: all but two of scikit-learn's digits (1,795), and 2,500
letters of KEEL's Letter drawn anew with every seed. Noise: 30 % uniform (a draw may hit the true class), and 30 %
class-dependent (digits: y to y + 1; Letter: the published swaps of 20 of its 26 classes). Five seeds draw labels,
weights, order and folds. Every sample is trained on and judged; nothing is tuned, since nobody who looks for wrong
labels has right ones to tune by.

    python benchmarks/label_errors.py [--smoke]       # needs cleanlab, of the group bench

One network and one schedule for all: two hidden layers (digits 128, Letter 64), ReLU, 60 epochs, SGD 0.1 with momentum
0.9, a tenth at 30 and 45, weight decay 5e-4, gradients clipped at 5. All of it is done with 10 epochs too, at which
networks have learned fewer of the wrong labels: whoever validates would stop early. Losses: cross-entropy, GCE (q 0.7)
and ALDR-KL (lambda_0 0.1, 1 and 10). The scores, always higher for a more suspicious label:

- from one run: "mean loss" of the training steps and "final loss", each with the network's own loss; "mean margin" (the
  area under the margin, negated; cross-entropy only); "temperature": ALDR's temperature at the sample's last visit. A
  large temperature means an unsure prediction and counts as suspicious. This direction was fixed beforehand; the
  temperature does not know the given label, so it can find errors only as far as they make a network unsure.
- from five further runs, each on four fifths: "p out of fold", one minus the probability of the given class;
  "cleanlab": 1 - get_label_quality_scores with its defaults, which is the same by definition; "cleanlab margin" and
  "cleanlab adjusted", its other settings. All of these for cross-entropy; cleanlab's for GCE too.

Measured are the area under the ROC curve, average precision, precision among as many as there are errors; and
precision and recall of find_label_issues with its defaults, beside the precision of every score among as many samples
as that names. Differences are paired over the seeds, against cleanlab with cross-entropy, and against cleanlab with
GCE; 95 % t intervals, not corrected for their number. The rule on cross-validation, for CE and for GCE: of "mean loss"
minus "cleanlab" with the same loss at 60 epochs, in area under the curve, the whole interval above -0.01 says that it
was not needed; else the whole interval below 0 says that it was; else the question is open.

All of this was committed before the first full run; tried before were 2 to 6 epochs with one seed (``--smoke``). What a
run writes was shortened afterwards. It takes five minutes of processor time. A second run resumes.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from real_data import digits, letter
from sklearn.metrics import average_precision_score
from stacked_training import Schedule, Stack, StackedMLP, train_stack
from torch import Tensor, nn

from robustvision.core.data import NoisyLabels, class_dependent_noise, uniform_noise
from robustvision.core.evaluation import Interval, Study, StudyResults, roc_auc, t_interval
from robustvision.core.evaluation.results import markdown_table
from robustvision.core.losses import ALDRLoss, CrossEntropyLoss, GCELoss
from robustvision.core.methods import LossTrajectory, individual_temperature_score, negative_margin
from robustvision.core.runtime.files import write_json

try:
    import cleanlab
    from cleanlab.filter import find_label_issues
    from cleanlab.rank import get_label_quality_scores
except ImportError as error:
    raise SystemExit(
        "cleanlab is not installed: .venv/bin/uv pip install --python .venv/bin/python -c constraints.txt --group bench"
    ) from error

SCHEDULES = {
    "digits": Schedule((64, 128, 128, 10), "relu", 60, 120, (30, 45), 5e-4, clip=5.0),
    "letter": Schedule((16, 64, 64, 26), "relu", 60, 100, (30, 45), 5e-4, clip=5.0),
}
SAMPLES = {"digits": 1795, "letter": 2500}  # the folds must be of equal size
MAPPING = {"digits": "next", "letter": "letter"}
NOISES = {"u.3": "uniform", "cd.3": "class"}
RATE, LEARNING_RATE, FOLDS = 0.3, 0.1, 5
LOSSES: dict[str, Callable[[int], nn.Module]] = {
    "CE": lambda samples: CrossEntropyLoss(reduction="none"),
    "GCE": lambda samples: GCELoss(0.7, reduction="none"),
    "ALDR 0.1": lambda samples: ALDRLoss(samples, lam0=0.1, reduction="none"),
    "ALDR 1": lambda samples: ALDRLoss(samples, lam0=1.0, reduction="none"),
    "ALDR 10": lambda samples: ALDRLoss(samples, lam0=10.0, reduction="none"),
}
CROSS_VALIDATED = ("CE", "GCE")
CLEANLAB = {
    "cleanlab": {},
    "cleanlab margin": {"method": "normalized_margin"},
    "cleanlab adjusted": {"adjust_pred_probs": True},
}
REFERENCES = ("CE cleanlab", "GCE cleanlab")
FIGURES = ("AUROC", "average precision", "precision at errors", "precision at cleanlab's")
NEGLIGIBLE = 0.01
OUT = Path(__file__).parent / "out"
Scores = dict[str, np.ndarray]


class Recorded(nn.Module):
    """A loss that keeps its trajectory; cross-entropy that of the margin too."""

    def __init__(self, loss: nn.Module, samples: int) -> None:
        super().__init__()
        self.loss, self.losses = loss, LossTrajectory(samples)
        self.margins = LossTrajectory(samples) if isinstance(loss, CrossEntropyLoss) else None

    def forward(self, logits: Tensor, target: Tensor, *, index: Tensor) -> Tensor:
        losses: Tensor = self.loss(logits, target, index=index)
        self.losses.record(losses.detach(), index=index)
        if self.margins is not None:
            self.margins.record(negative_margin(logits.detach(), target), index=index)
        return losses


@lru_cache(maxsize=2)
def features_of(name: str) -> tuple[Tensor, np.ndarray]:
    """All features, [N, d], Letter's standardised; and the true labels."""
    data = digits() if name == "digits" else letter()
    features = data.features
    if name == "letter":
        features = (features - features.mean(0)) / features.std(0)
    return torch.from_numpy(features), data.labels


def mislabelled(name: str, noise: str, seed: int) -> tuple[Tensor, NoisyLabels]:
    """The features of a seed's samples, [n, d], and their labels with the truth."""
    features, labels = features_of(name)
    chosen = np.random.default_rng(seed).permutation(len(labels))[: SAMPLES[name]]
    classes = SCHEDULES[name].widths[-1]
    if NOISES[noise] == "uniform":
        noisy = uniform_noise(labels[chosen], RATE, classes, seed)
    else:
        noisy = class_dependent_noise(labels[chosen], RATE, classes, seed, MAPPING[name])
    return features[chosen], noisy


def train(features: Tensor, labels: Tensor, places: Tensor, schedule: Schedule, loss: nn.Module, seed: int):
    """Train a network for each row of places."""
    size = len(places)
    stack = Stack(features, places, labels[places], torch.full((size,), LEARNING_RATE), (seed,) * size)
    return train_stack(stack, schedule, loss)


def one_run(name: str, features: Tensor, labels: Tensor, schedule: Schedule, seed: int) -> Scores:
    """All scores of one training with a loss."""
    samples = len(labels)
    loss = LOSSES[name](samples)
    recorded = Recorded(loss, samples)
    networks = train(features, labels, torch.arange(samples)[None], schedule, recorded, seed)
    scores = {"mean loss": recorded.losses.scores()}
    if recorded.margins is not None:
        scores["mean margin"] = recorded.margins.scores()
    if isinstance(loss, ALDRLoss):
        scores["temperature"] = individual_temperature_score(loss)
    loss.eval()  # ALDR's temperatures stay
    with torch.no_grad():
        scores["final loss"] = loss(networks(features)[0], labels, index=torch.arange(samples))
    return {f"{name} {kind}": score.numpy() for kind, score in scores.items()}


def out_of_fold(name: str, features: Tensor, labels: Tensor, schedule: Schedule, seed: int) -> np.ndarray:
    """Class probabilities of each sample by a network that has not seen it, float64 [n, K]."""
    samples = len(labels)
    folds = torch.from_numpy(np.random.default_rng([seed, 1]).permutation(samples)).view(FOLDS, -1)
    rest = torch.stack([torch.cat([*folds[:fold], *folds[fold + 1 :]]) for fold in range(FOLDS)])
    networks: StackedMLP = train(features, labels, rest, schedule, LOSSES[name](rest.numel()), seed)
    with torch.no_grad():
        predicted = networks(features[folds]).double().softmax(2)
    probabilities = torch.empty(samples, predicted.shape[2], dtype=torch.float64)
    probabilities[folds.flatten()] = predicted.flatten(0, 1)
    return probabilities.numpy()


def run(params: dict[str, Any], seed: int) -> dict[str, float]:
    """Train everything on one set of noisy labels, and see how well each score finds the wrong ones."""
    schedule = replace(SCHEDULES[params["data"]], epochs=params["epochs"])
    features, noisy = mislabelled(params["data"], params["noise"], seed)
    labels = torch.from_numpy(noisy.labels)
    scores: Scores = {}
    found: dict[str, float] = {"errors": float(noisy.is_noisy.mean())}
    for name in LOSSES:
        begin = time.process_time()
        scores |= one_run(name, features, labels, schedule, seed)
        found[f"{name}: seconds of one run"] = time.process_time() - begin
    for name in CROSS_VALIDATED:
        begin = time.process_time()
        places = torch.arange(len(labels))[None]
        train(features, labels, places, schedule, LOSSES[name](len(labels)), seed)  # for its time alone
        found[f"{name}: seconds of one run without scores"] = time.process_time() - begin
        begin = time.process_time()
        probabilities = out_of_fold(name, features, labels, schedule, seed)
        found[f"{name}: seconds of the folds"] = time.process_time() - begin
        begin = time.process_time()
        for kind, settings in CLEANLAB.items():
            scores[f"{name} {kind}"] = 1 - get_label_quality_scores(noisy.labels, probabilities, **settings)
        named = find_label_issues(noisy.labels, probabilities, n_jobs=1)
        found[f"{name}: seconds of cleanlab"] = time.process_time() - begin
        found[f"{name} cleanlab: named"] = float(named.mean())
        found[f"{name} cleanlab: precision"] = float(noisy.is_noisy[named].mean())
        found[f"{name} cleanlab: recall"] = float(named[noisy.is_noisy].mean())
        if name == "CE":
            scores["CE p out of fold"] = 1 - probabilities[np.arange(len(labels)), noisy.labels]
            as_many = int(named.sum())
    for detector, score in scores.items():
        ranked = noisy.is_noisy[np.argsort(-score, kind="stable")]
        figures = (
            roc_auc(score[noisy.is_noisy], score[~noisy.is_noisy]),
            average_precision_score(noisy.is_noisy, score),
            ranked[: noisy.is_noisy.sum()].mean(),
            ranked[:as_many].mean(),
        )
        found |= {f"{detector}: {figure}": float(value) for figure, value in zip(FIGURES, figures, strict=True)}
    return found


def difference(results: StudyResults, cell: str, detector: str, reference: str, figure: str) -> Interval:
    """A score's figure minus that of the reference, over the seeds."""
    runs = results.metrics[cell].values()
    return t_interval([run[f"{detector}: {figure}"] - run[f"{reference}: {figure}"] for run in runs])


def needed(interval: Interval) -> str:
    """The rule on cross-validation; the interval is of mean loss minus cleanlab."""
    if interval.low > -NEGLIGIBLE:
        return "not needed"
    return "needed" if interval.high < 0 else "open"


def report(results: StudyResults, cells: list[str]) -> dict[str, Any]:
    """Print the tables of some cells; return them."""
    measured = list(results.records[0].metrics)
    detectors = [name.removesuffix(": AUROC") for name in measured if name.endswith(": AUROC")]
    means = {row["cell"]: row for row in results.table()}
    tables = {
        figure: [{"score": name, **{cell: means[cell][f"{name}: {figure}"] for cell in cells}} for name in detectors]
        for figure in FIGURES
    }
    for reference in REFERENCES:
        for figure in FIGURES[:3]:
            tables[f"{figure} minus {reference}"] = [
                {"score": name, **{cell: difference(results, cell, name, reference, figure) for cell in cells}}
                for name in detectors
            ]
    tables["cleanlab's own choice, and the cost"] = [
        {"": name, **{cell: means[cell][name] for cell in cells}} for name in measured if not name.endswith(FIGURES)
    ]
    tables["was cross-validation needed"] = [
        {"mean loss minus cleanlab, AUROC": name, **{cell: f"{needed(found)}: {found}" for cell, found in row.items()}}
        for name in CROSS_VALIDATED
        for row in [
            {cell: difference(results, cell, f"{name} mean loss", f"{name} cleanlab", "AUROC") for cell in cells}
        ]
    ]
    for title, rows in tables.items():
        print(f"\n{title}\n\n{markdown_table(rows)}")
    return {title: [{key: str(value) for key, value in row.items()} for row in rows] for title, rows in tables.items()}


def by_measure(runs: list[dict[str, float]]) -> dict[str, list[float]]:
    """Measure -> values of the seeds."""
    return {measure: [round(run[measure], 6) for run in runs] for measure in runs[0]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smoke", action="store_true", help="six epochs and one seed, to try the code")
    options = parser.parse_args()
    name = "label_errors_smoke" if options.smoke else "label_errors"
    lengths = {"": 6, " short": 5} if options.smoke else {"": 60, " short": 10}
    cells = {
        f"{data} {noise}{length}": {"data": data, "noise": noise, "epochs": epochs}
        for length, epochs in lengths.items()
        for data in SCHEDULES
        for noise in NOISES
    }
    begin = time.perf_counter()
    results = Study("label-errors", run, cells, range(1 if options.smoke else 5), OUT / name).execute(threads=1)
    if not results.complete:
        raise SystemExit("\n".join(failure.error for failure in results.failures))
    tables = {}
    for epochs in lengths.values():
        print(f"\n{epochs} epochs")
        tables[f"{epochs} epochs"] = report(results, [cell for cell, it in cells.items() if it["epochs"] == epochs])
    minutes = sum(record.seconds for record in results.records) / 60
    print(f"\n{minutes:.1f} minutes, one run after another; {(time.perf_counter() - begin) / 60:.1f} in this call")
    runs = {cell: by_measure(list(of_seeds.values())) for cell, of_seeds in results.metrics.items()}
    versions = results.records[0].versions | {"cleanlab": cleanlab.__version__}
    kept = {"seeds": results.seeds, "versions": versions, "minutes": minutes, "tables": tables, "runs": runs}
    write_json(OUT / f"{name}.json", kept)


if __name__ == "__main__":
    main()

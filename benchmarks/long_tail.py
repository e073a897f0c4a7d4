"""Rare classes: does BatchFormer help them, and do iSogCLR's temperatures tell them from frequent ones?

Training sets are made long-tailed: of class number c of K, n_c = n_max r^(-c/(K-1)) images. Which class has which
number is drawn anew with every seed, so that no class is rare because it is hard. Tests are balanced. A class is "many"
with more than 100 training images, "few" with less than 20, and "medium" between.

1. The same network trained with and without BatchFormer before its classifier: digits (n_max 120, r 20: 409 images,
   10 seeds, 500 test images) and MNIST (n_max 1,000, r 100: 2,480 of the 60,000 images, 5 seeds, all 10,000 for test).
   Accuracy over all classes and over each kind, and the difference of the two over the seeds. The published gains are
   0.4 to 1.6 points, below what a few seeds resolve.
2. A small encoder trained without labels on the same long-tailed MNIST by NT-Xent, SogCLR and iSogCLR, 3 seeds. Rank
   correlation of the mean temperature of a class with its number of images (and of each image's temperature with that
   number): the paper expects it to be positive. Accuracy of a logistic regression on the frozen features, fitted to 200
   labelled images of each class that the encoder did not see. Beside the temperatures that the loss has reached stand
   the exact ones, at which each image's objective over the whole training set is smallest for the final features.
   (These were added after the first full run, to tell the noise of the learning from the objective; nothing else was
   changed.)

Nothing is tuned: learning rates are usual ones, temperatures and the settings of iSogCLR those of the authors'
CIFAR-100 example, and the optimiser is Adam, to which the different scales of the three losses do not matter. All
settings were committed before the first full run; what was run before is the smoke size, two epochs and two seeds. A
second run resumes. All of it takes six to seven minutes of processor time; on two cores shared with six other programs
that was 14 minutes.

    python benchmarks/long_tail.py [--workers 1] [--smoke]
"""

from __future__ import annotations

import argparse
import time
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from real_data import digits, mnist
from scipy.stats import spearmanr
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn
from torch.nn.functional import affine_grid, cross_entropy, grid_sample, normalize

from robustvision.core.evaluation import Study, StudyResults
from robustvision.core.losses import ISOGCLR_PUBLISHED, ISogCLRLoss, NTXentLoss, SogCLRLoss, kl_dro_ball
from robustvision.core.nn import BatchFormer
from robustvision.core.runtime.files import write_json

CLASSES = 10
N_MAX = {"digits": 120, "mnist": 1000}
RATIO = {"digits": 20, "mnist": 100}
EPOCHS = {"digits": 60, "mnist": 30}
BATCH = {"digits": 64, "mnist": 128}
LEARNING_RATE, MOMENTUM, WEIGHT_DECAY = 0.05, 0.9, 5e-4
OF_BATCHFORMER = 0.1  # times the learning rate, as in the authors' long-tail code
SEEDS = {"digits": tuple(range(10)), "mnist": tuple(range(5)), "contrast": tuple(range(3))}
DIGITS_TEST = 50  # images a class
CONTRAST_EPOCHS, CONTRAST_BATCH, CONTRAST_RATE = 40, 128, 1e-3
RHO = ISOGCLR_PUBLISHED["unimodal"].rho
PROBE = 200  # labelled images a class
CONTRASTS = {
    "NT-Xent": lambda samples: NTXentLoss(0.1),
    "SogCLR": lambda samples: SogCLRLoss(samples, 0.1),
    "iSogCLR": ISogCLRLoss,
}
SHOTS = ("all", "many", "medium", "few")
OUT = Path(__file__).parent / "out" / "long_tail"


def long_tail_counts(n_max: int, ratio: float) -> np.ndarray:
    """Images of each class, from the most frequent to the rarest: n_max to n_max / ratio."""
    return np.round(n_max * ratio ** (-np.arange(CLASSES) / (CLASSES - 1))).astype(int)


@lru_cache(maxsize=1)
def images_of(name: str) -> tuple[Tensor, np.ndarray, np.ndarray | None]:
    """Inputs in [0, 1], float32; labels; and the published test part."""
    data = digits() if name == "digits" else mnist()
    images = torch.from_numpy(data.features).float()
    return (images if name == "digits" else images[:, None] / 255), data.labels, data.is_test


class LongTail:
    """A long-tailed training set, drawn by a seed.

    Attributes:
        images: The images of the whole data set.
        labels: Their classes, int64.
        counts: Training images of each class, [K].
        train: Places of the training images.
        test: Places of the test images.
        probe: Places of 200 further images of each class (MNIST).
    """

    def __init__(self, name: str, seed: int) -> None:
        self.images, labels, is_test = images_of(name)
        rng = np.random.default_rng(seed)
        self.counts = rng.permutation(long_tail_counts(N_MAX[name], RATIO[name]))
        self.labels = torch.from_numpy(labels)
        train, test, probe = [], [], []
        for label in range(CLASSES):
            here = rng.permutation(np.flatnonzero(labels == label if is_test is None else (labels == label) & ~is_test))
            train.append(here[: self.counts[label]])
            if is_test is None:
                test.append(here[-DIGITS_TEST:])
            else:
                probe.append(here[-PROBE:])
        self.train = torch.from_numpy(np.concatenate(train))
        self.test = torch.from_numpy(np.concatenate(test) if is_test is None else np.flatnonzero(is_test))
        self.probe = torch.from_numpy(np.concatenate(probe)) if probe else None

    def accuracy(self, predicted: Tensor) -> dict[str, float]:
        """Mean of the classes' accuracies on the test images, percent: over all classes and over each kind."""
        correct = (predicted == self.labels[self.test]).double()
        by_class = np.array([correct[self.labels[self.test] == label].mean() for label in range(CLASSES)]) * 100
        kinds = {"many": self.counts > 100, "few": self.counts < 20}
        kinds["medium"] = ~(kinds["many"] | kinds["few"])
        return {"all": by_class.mean(), **{kind: by_class[kinds[kind]].mean() for kind in SHOTS[1:]}}


def encoder_of(name: str) -> nn.Sequential:
    """Inputs to 128 features."""
    if name == "digits":
        return nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU())
    return nn.Sequential(
        nn.Conv2d(1, 16, 5, stride=2, padding=2), nn.BatchNorm2d(16), nn.ReLU(),
        nn.Conv2d(16, 32, 3, stride=2, padding=1), nn.BatchNorm2d(32), nn.ReLU(),
        nn.Flatten(), nn.Linear(32 * 49, 128), nn.ReLU(),
    )  # fmt: skip


def classify(params: dict[str, Any], seed: int) -> dict[str, float]:
    """Train with or without BatchFormer; the first weights and the order of the images are the same."""
    name = params["data"]
    data = LongTail(name, seed)
    torch.manual_seed(seed)
    encoder, classifier = encoder_of(name), nn.Linear(128, CLASSES)
    batchformer = BatchFormer(128) if params["batchformer"] else nn.Identity()
    groups = [
        {"params": [*encoder.parameters(), *classifier.parameters()]},
        {"params": list(batchformer.parameters()), "lr": OF_BATCHFORMER * LEARNING_RATE},
    ]
    optimiser = torch.optim.SGD(groups, LEARNING_RATE, MOMENTUM, weight_decay=WEIGHT_DECAY)
    batches = -(-len(data.train) // BATCH[name])
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, params["epochs"] * batches)
    order = torch.Generator().manual_seed(seed)
    for _ in range(params["epochs"]):
        for places in data.train[torch.randperm(len(data.train), generator=order)].split(BATCH[name]):
            features, labels = encoder(data.images[places]), data.labels[places]
            if params["batchformer"]:
                features, labels = batchformer(features, labels)
            loss = cross_entropy(classifier(features), labels)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
    for module in (encoder, batchformer, classifier):
        module.eval()
    with torch.no_grad():
        scores = [classifier(batchformer(encoder(data.images[chunk]))) for chunk in data.test.split(1000)]
    return data.accuracy(torch.cat(scores).argmax(1))


def augmented(images: Tensor, generator: torch.Generator) -> Tensor:
    """Turned by up to 20 degrees, scaled by 0.8 to 1.2, shifted by up to 3 px, with noise."""
    angle, scale, x, y = (torch.rand(4, len(images), generator=generator) * 2 - 1) * torch.tensor(
        [[np.pi / 9], [0.2], [3 / 14], [3 / 14]]
    )
    cos, sin = angle.cos() / (1 + scale), angle.sin() / (1 + scale)
    theta = torch.stack([torch.stack([cos, -sin, x], 1), torch.stack([sin, cos, y], 1)], 1).float()
    grid = affine_grid(theta, list(images.shape), align_corners=False)
    warped = grid_sample(images, grid, align_corners=False)
    return warped + 0.1 * torch.randn(images.shape, generator=generator)


def contrast(params: dict[str, Any], seed: int) -> dict[str, Any]:
    """Train an encoder without labels, probe it, and see where its temperatures went."""
    data = LongTail("mnist", seed)
    torch.manual_seed(seed)
    encoder = encoder_of("mnist")
    projector = nn.Sequential(nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, 64))
    loss = CONTRASTS[params["loss"]](len(data.train))
    optimiser = torch.optim.Adam([*encoder.parameters(), *projector.parameters()], CONTRAST_RATE)
    batches = len(data.train) // CONTRAST_BATCH
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, params["epochs"] * batches)
    generator = torch.Generator().manual_seed(seed)
    for _ in range(params["epochs"]):
        for index in torch.randperm(len(data.train), generator=generator).split(CONTRAST_BATCH)[:batches]:
            images = data.images[data.train[index]]
            views = torch.cat([augmented(images, generator), augmented(images, generator)])
            first, second = projector(encoder(views)).chunk(2)
            value = loss(first, second, index=index)
            optimiser.zero_grad()
            value.backward()
            optimiser.step()
            schedule.step()
    result: dict[str, Any] = probe(encoder.eval(), data)
    if params["loss"] == "iSogCLR":
        result |= temperatures(loss.state.tau.numpy(), data)
        with torch.no_grad():
            images = data.images[data.train]
            views = [projector(encoder(augmented(images, generator))) for _ in range(2)]
        exact = temperatures(exact_temperatures(*views).numpy(), data)
        result |= {f"exact {name}": value for name, value in exact.items()}
    return result


@torch.no_grad()
def probe(encoder: nn.Module, data: LongTail) -> dict[str, float]:
    """Accuracy of a logistic regression on frozen features."""
    fitted, tested = (
        torch.cat([encoder(data.images[chunk]) for chunk in places.split(1000)]).numpy()
        for places in (data.probe, data.test)
    )
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    model.fit(fitted, data.labels[data.probe].numpy())
    return data.accuracy(torch.from_numpy(model.predict(tested)))


def temperatures(tau: np.ndarray, data: LongTail) -> dict[str, Any]:
    """How the temperatures go with the frequency of a class."""
    labels = data.labels[data.train].numpy()
    by_class = np.array([tau[labels == label].mean() for label in range(CLASSES)])
    return {
        "rho of classes": float(spearmanr(by_class, data.counts).statistic),
        "rho of images": float(spearmanr(tau, data.counts[labels]).statistic),
        "tau at its floor": float((tau < 0.0501).mean()),
        "tau of classes": by_class[np.argsort(-data.counts)].tolist(),  # the most frequent first
    }


def exact_temperatures(first: Tensor, second: Tensor) -> Tensor:
    """The temperature at which each image's objective over the whole training set is smallest, in the loss's range."""
    cosines = normalize(first) @ normalize(second).T
    others = ~torch.eye(len(cosines), dtype=torch.bool)
    h = (cosines - cosines.diagonal()[:, None])[others].view(len(cosines), -1)
    best = torch.cat([kl_dro_ball(rows, RHO).lam for rows in h.split(250)])
    return best.clamp(0.05, 1.0)


def differences(results: StudyResults, treatment: str, baseline: str, name: str) -> list[dict[str, Any]]:
    """Print and return the paired differences of each kind of class."""
    found = []
    for kind in SHOTS:
        one = results.compare(treatment, baseline, kind)
        signs = f"{one.sign_test.wins} of {len(one.seeds)} seeds better"
        print(f"{name}, {kind}: {treatment} - {baseline} = {one.interval} points, {signs}")
        found.append({"data": name, "kind": kind, "treatment": treatment, "baseline": baseline,
                      "differences": one.differences, "low": one.interval.low, "mean": one.interval.estimate,
                      "high": one.interval.high})  # fmt: skip
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--smoke", action="store_true", help="two seeds and two epochs, to try the code")
    options = parser.parse_args()
    start = time.perf_counter()
    out = OUT / ("smoke" if options.smoke else "full")
    seeds = {part: values[:2] if options.smoke else values for part, values in SEEDS.items()}
    written: dict[str, Any] = {"differences": [], "studies": {}}
    for name in ("digits", "mnist"):
        epochs = 2 if options.smoke else EPOCHS[name]
        cells = {
            label: {"data": name, "batchformer": label != "plain", "epochs": epochs}
            for label in ("plain", "BatchFormer")
        }
        study = Study(f"long-tail-{name}", classify, cells, seeds[name], out / name)
        results = study.execute(workers=options.workers, threads=1)
        print(f"\n{name}, n = {long_tail_counts(N_MAX[name], RATIO[name]).tolist()}\n\n{results.to_markdown(SHOTS)}\n")
        written["differences"] += differences(results, "BatchFormer", "plain", name)
        written["studies"][name] = results.to_dict()
    cells = {label: {"loss": label, "epochs": 2 if options.smoke else CONTRAST_EPOCHS} for label in CONTRASTS}
    cells["iSogCLR"]["exact"] = True  # measured anew when the exact temperatures were added
    study = Study("long-tail-contrast", contrast, cells, seeds["contrast"], out / "contrast")
    results = study.execute(workers=options.workers, threads=1)
    print(f"\nmnist without labels\n\n{results.to_markdown()}\n")
    for baseline in ("SogCLR", "NT-Xent"):
        written["differences"] += differences(results, "iSogCLR", baseline, "mnist without labels")
    for seed, run in results.metrics["iSogCLR"].items():
        for kind in ("", "exact "):
            print(f"seed {seed}, {kind}tau, frequent to rare classes:", np.round(run[f"{kind}tau of classes"], 3))
    written["studies"]["contrast"] = results.to_dict()
    minutes = sum(run["seconds"] for study in written["studies"].values() for run in study["runs"]) / 60
    written["minutes_of_all_runs"] = minutes
    path = write_json(OUT.with_suffix(".json") if not options.smoke else out / "long_tail.json", written)
    print(f"\n{path}; {minutes:.1f} minutes of runs, {(time.perf_counter() - start) / 60:.1f} in this call")


if __name__ == "__main__":
    main()

"""Does the SNR distance find unseen classes better than the Euclidean one? Digits 0-6 train, 7-9 are retrieved.

Scikit-learn's 8x8 digits, a small network, contrastive and triplet loss over three distances: SNR (with the paper's
zero-mean regulariser of weight 0.005), squared Euclidean, and squared Euclidean between embeddings of length 1. Each
method gets the same grid of margins, chosen by MAP@R of digits 4-6 after training on 0-3, with seeds of its own. A
sample of a class that training never saw is the query for all others of such classes, by the distance that was trained.
Everything that decides the answer stands in this file and was committed before the first result. A second run resumes.

    python benchmarks/snr_retrieval.py [--out benchmarks/out/snr_retrieval] [--smoke]
"""

from __future__ import annotations

import argparse
import json
import time
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.cluster import KMeans
from sklearn.datasets import load_digits
from sklearn.metrics import normalized_mutual_info_score
from torch import Tensor, nn
from torch.nn.functional import normalize

from robustvision.core.evaluation import Claim, Study, judge, map_at_r, recall_at
from robustvision.core.losses import (
    contrastive_loss,
    snr_distance,
    squared_euclidean_distance,
    triplet_loss,
    zero_mean_penalty,
)

SPLITS = {"tuning": (range(4), range(4, 7)), "evaluation": (range(7), range(7, 10))}
MARGINS = (0.1, 0.3, 1.0, 3.0)
TUNING_SEEDS = (100, 101)
SEEDS = (1, 2, 3, 4, 5)
STEPS, PER_CLASS, EMBEDDING, LEARNING_RATE = 300, 16, 32, 1e-3
METRIC = "map@r"


def unit_euclidean_distance(embeddings: Tensor) -> Tensor:
    return squared_euclidean_distance(normalize(embeddings))


LOSSES = {"contrastive": contrastive_loss, "triplet": triplet_loss}
DISTANCES = {"snr": snr_distance, "euclidean": squared_euclidean_distance, "unit euclidean": unit_euclidean_distance}
CLAIMS = [
    Claim(
        name=f"with the {loss} loss the SNR distance retrieves unseen digits better than both Euclidean ones",
        metric=METRIC,
        better="higher",
        treatment=f"{loss} snr",
        baselines=(f"{loss} euclidean", f"{loss} unit euclidean"),
        minimum_effect=0.0,
        seeds=SEEDS,
    )
    for loss in LOSSES
]


@cache
def digits() -> tuple[Tensor, Tensor]:
    """Pixels [1797, 64] in 0 to 1, and labels."""
    pixels, labels = load_digits(return_X_y=True)
    return torch.from_numpy(pixels).float() / 16, torch.from_numpy(labels)


def run(params: dict[str, Any], seed: int) -> dict[str, float]:
    """Train on some classes and retrieve others."""
    torch.manual_seed(seed)
    pixels, labels = digits()
    seen, unseen = SPLITS[params["split"]]
    members = [torch.nonzero(labels == one).squeeze(1) for one in seen]
    network = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, EMBEDDING))
    loss, distance = LOSSES[params["loss"]], DISTANCES[params["distance"]]
    chosen = torch.isin(labels, torch.tensor(list(unseen)))
    x, y = pixels[chosen], labels[chosen].numpy()
    untrained = retrieve(network, distance, x, y)
    optimiser = torch.optim.Adam(network.parameters(), LEARNING_RATE)
    batch_labels = torch.tensor(list(seen)).repeat_interleave(PER_CLASS)
    for _ in range(params["steps"]):
        batch = torch.cat([own[torch.randperm(len(own))[:PER_CLASS]] for own in members])
        embeddings = network(pixels[batch])
        value = loss(embeddings, batch_labels, params["margin"], distance=distance)
        if params["distance"] == "snr":
            value = value + zero_mean_penalty(embeddings)
        optimiser.zero_grad()
        value.backward()
        optimiser.step()
    found = retrieve(network, distance, x, y)
    with torch.no_grad():
        embeddings = network(x)
    if params["distance"] == "unit euclidean":
        embeddings = normalize(embeddings)
    clusters = KMeans(len(unseen), n_init=10, random_state=seed).fit_predict(embeddings.numpy())
    return {**found, "nmi": normalized_mutual_info_score(y, clusters), f"untrained {METRIC}": untrained[METRIC]}


@torch.no_grad()
def retrieve(network: nn.Module, distance: Any, x: Tensor, y: np.ndarray) -> dict[str, float]:
    distances = distance(network(x)).numpy()
    return {"recall@1": recall_at(distances, y, 1), METRIC: map_at_r(distances, y)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "out" / "snr_retrieval")
    parser.add_argument("--smoke", action="store_true", help="three steps a training, to try the script")
    arguments = parser.parse_args()
    begin = time.monotonic()
    steps = 3 if arguments.smoke else STEPS
    out = arguments.out.with_name(f"{arguments.out.name}_smoke") if arguments.smoke else arguments.out
    methods = {
        f"{loss} {distance}": {"loss": loss, "distance": distance, "steps": steps}
        for loss in LOSSES
        for distance in DISTANCES
    }

    points = {
        f"{name} {margin:g}": {**method, "margin": margin, "split": "tuning"}
        for name, method in methods.items()
        for margin in MARGINS
    }
    tuning = Study("snr retrieval: margins", run, points, TUNING_SEEDS, out / "tuning").execute(threads=1)
    means = {row["cell"]: row[METRIC].estimate for row in tuning.table([METRIC])}
    margins = {name: max(MARGINS, key=lambda margin, name=name: means[f"{name} {margin:g}"]) for name in methods}

    cells = {name: {**method, "margin": margins[name], "split": "evaluation"} for name, method in methods.items()}
    results = Study("snr retrieval", run, cells, SEEDS, out / "evaluation").execute(threads=1)
    verdicts = [judge(claim, results.metrics) for claim in CLAIMS]

    pixels, labels = digits()
    unseen = torch.isin(labels, torch.tensor([7, 8, 9]))
    raw = retrieve(nn.Identity(), squared_euclidean_distance, pixels[unseen], labels[unseen].numpy())
    print(tuning.to_markdown([METRIC]), f"chosen: {margins}", results.to_markdown(), f"raw pixels: {raw}", sep="\n\n")
    print(*verdicts, sep="\n")
    summary = {
        "margins": margins,
        "tuning": tuning.to_dict(),
        "evaluation": results.to_dict(),
        "raw pixels": raw,
        "claims": [verdict.to_dict() for verdict in verdicts],
        "minutes": (time.monotonic() - begin) / 60,
    }
    (out / "summary.json").write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")
    print(f"{summary['minutes']:.1f} minutes")


if __name__ == "__main__":
    main()

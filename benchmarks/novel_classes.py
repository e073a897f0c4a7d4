"""Are classes that training never saw recognised better through a normalised softmax? MNIST and digits, 0-6 and 7-9.

A small network is trained on the classes 0 to 6. Then 5 or 20 supports of each of the classes 7 to 9 make prototypes,
base classes get theirs from all training samples, and test samples go to the nearest: among the new classes only
(disjoint) and among all ten (joint). After arXiv 2102.03243, whose tables could not be read: nothing here is a
comparison with its figures.

MNIST: 700 of the training images of each class, drawn by the seed, to train on and to take supports from; all 10,000
test images. Digits: 60 % for training and supports, 40 % for the test, by the seed. Every seed also draws the
start and the batches; each number is the mean over ten draws of supports. Fixed before the first table: sizes, 64
dimensions, Adam at 0.001, 5 epochs (MNIST, two convolutions) or 60 (digits, one hidden layer), batches of 128, and the
scales: the one that allows a loss of 0.05 with 7 classes (4.08), 10, 20 and 64; margins at 20. Nothing was tuned.

    python benchmarks/novel_classes.py [--smoke]
"""

from __future__ import annotations

import argparse
import json
import time
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import real_data
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from robustvision.core.evaluation import Study, few_shot_supports, novel_class_accuracy
from robustvision.core.losses import (
    ArcFaceLoss,
    CosFaceLoss,
    CosineHead,
    NormalizedSoftmaxLoss,
    normface_bound,
    scale_for_loss,
)

BASE, NOVEL = tuple(range(7)), (7, 8, 9)
SHOTS, DRAWS, SEEDS = (5, 20), 10, (0, 1, 2, 3, 4)
IMAGES_A_CLASS, TRAIN_SHARE = 700, 0.6
EPOCHS = {"mnist": 5, "digits": 60}
BATCH, DIMENSIONS, LEARNING_RATE = 128, 64, 1e-3
ENOUGH = scale_for_loss(len(BASE), 0.05)
LOSSES: dict[str, dict[str, Any]] = {
    "raw pixels": {},
    "untrained network": {},
    "softmax": {},
    f"normalised softmax s {ENOUGH:.2f}": {"scale": ENOUGH},
    **{f"normalised softmax s {s}": {"scale": float(s)} for s in (10, 20, 64)},
    "ArcFace s 20, m 0.5": {"scale": 20.0, "margin": 0.5},
    "CosFace s 20, m 0.35": {"scale": 20.0, "margin": 0.35},
}
METRICS = ("disjoint", "joint", "joint_base", "joint_novel")
OUT = Path(__file__).parent / "out" / "novel_classes"

Part = tuple[Tensor, np.ndarray]


@lru_cache(maxsize=1)
def load(name: str) -> tuple[Tensor, np.ndarray, np.ndarray | None]:
    """Images [N, 1, H, W] in [0, 1], labels, and which are test images (None without a published split)."""
    data = real_data.mnist() if name == "mnist" else real_data.digits()
    size = 28 if name == "mnist" else 8
    pixels = torch.from_numpy(data.features).float().reshape(-1, 1, size, size)
    return pixels / (255 if name == "mnist" else 1), data.labels, data.is_test


def split(name: str, seed: int) -> tuple[Part, Part, Part]:
    """Training samples of the base classes, samples of the novel classes to take supports from, and test samples."""
    pixels, labels, is_test = load(name)
    rng = np.random.default_rng([seed, 7])
    if is_test is None:
        is_test = rng.random(len(labels)) >= TRAIN_SHARE
    is_novel, known = np.isin(labels, NOVEL), ~is_test
    if name == "mnist":
        known = few_shot_supports(np.where(is_test, -1, labels), (*BASE, *NOVEL), IMAGES_A_CLASS, seed)
    train, pool, test = ((pixels[chosen], labels[chosen]) for chosen in (known & ~is_novel, known & is_novel, is_test))
    return train, pool, test


def make_network(name: str) -> nn.Module:
    if name == "digits":
        return nn.Sequential(nn.Flatten(), nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, DIMENSIONS))
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, 2, 1),
        nn.ReLU(),
        nn.Conv2d(16, 32, 3, 2, 1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(32 * 7 * 7, DIMENSIONS),
    )


def make_head(method: str, setting: dict[str, float]) -> tuple[nn.Module, nn.Module]:
    """Embeddings to scores, and the loss on them."""
    if method == "softmax":
        return nn.Linear(DIMENSIONS, len(BASE)), nn.CrossEntropyLoss()
    family = {"ArcFace": ArcFaceLoss, "CosFace": CosFaceLoss}.get(method.split()[0], NormalizedSoftmaxLoss)
    return CosineHead(len(BASE), DIMENSIONS), family(**setting)


def train(name: str, method: str, setting: dict[str, float], part: Part) -> tuple[nn.Module, float]:
    """The network, and its plain loss on the training samples at the end."""
    network = make_network(name)
    if method == "untrained network":
        return network, float("nan")
    head, loss = make_head(method, setting)
    pixels, labels = part[0], torch.from_numpy(part[1])
    optimiser = torch.optim.Adam([*network.parameters(), *head.parameters()], LEARNING_RATE)
    for _ in range(EPOCHS[name]):
        for chosen in torch.randperm(len(pixels)).split(BATCH):
            optimiser.zero_grad()
            loss(head(network(pixels[chosen])), labels[chosen]).backward()
            optimiser.step()
    with torch.no_grad():
        reached = cross_entropy(setting.get("scale", 1.0) * head(network(pixels)), labels)
    return network, float(reached)


def run(params: dict[str, Any], seed: int) -> dict[str, Any]:
    """Train one network on the base classes, and recognise all ten by prototypes."""
    name, method = params["data"], params["method"]
    base, pool, test = split(name, seed)
    torch.manual_seed(seed)
    reached = float("nan")
    network: nn.Module = nn.Flatten()
    if method != "raw pixels":
        network, reached = train(name, method, params["setting"], base)
    with torch.no_grad():
        of_base, of_pool, of_test = (network(pixels).numpy() for pixels, _ in (base, pool, test))
    metrics: dict[str, Any] = {"training loss": reached}
    for shots in SHOTS:
        found = []
        for draw in range(DRAWS):
            chosen = few_shot_supports(pool[1], NOVEL, shots, seed=1000 * seed + draw)
            supports = np.concatenate([of_base, of_pool[chosen]]), np.concatenate([base[1], pool[1][chosen]])
            found.append(novel_class_accuracy(*supports, of_test, test[1], NOVEL))
        for metric in METRICS:
            metrics[f"{metric}, {shots} supports"] = float(np.mean([getattr(one, metric).estimate for one in found]))
        for one in NOVEL:
            metrics[f"class {one} joint, {shots} supports"] = float(
                np.mean([result.per_class_joint[one].estimate for result in found])
            )
    return metrics


def main() -> None:
    """Run the study, and print and write what came out."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smoke", action="store_true", help="one seed of the digits, to see that it runs")
    arguments = parser.parse_args()
    begin, cpu = time.monotonic(), time.process_time()
    names, seeds = (("digits",), (100,)) if arguments.smoke else (("mnist", "digits"), SEEDS)
    summary: dict[str, Any] = {"bound at s": {f"{s:.2f}": normface_bound(len(BASE), s) for s in (ENOUGH, 10, 20, 64)}}
    for name in names:
        cells = {method: {"data": name, "method": method, "setting": setting} for method, setting in LOSSES.items()}
        results = Study(f"novel classes of {name}", run, cells, seeds, OUT / name).execute(threads=1)
        if results.failures:
            raise SystemExit(results.failures[0].error)
        print(f"\n{name}")
        for shots in SHOTS:
            print(results.to_markdown([f"{metric}, {shots} supports" for metric in METRICS]), "\n")
        print(results.to_markdown([f"class {one} joint, {shots} supports" for shots in SHOTS for one in NOVEL]), "\n")
        print(results.to_markdown(["training loss"]), "\n")
        normalised = [method for method in LOSSES if "s " in method and "softmax" in method]
        for method in (*normalised, "ArcFace s 20, m 0.5", "CosFace s 20, m 0.35"):
            for metric in ("disjoint, 5 supports", "joint_novel, 5 supports"):
                difference = results.compare(method, "softmax", metric).interval if len(seeds) > 1 else None
                print(f"{method} minus softmax, {metric}: {difference}")
        summary[name] = results.to_dict()
    summary |= {"minutes": (time.monotonic() - begin) / 60, "cpu minutes": (time.process_time() - cpu) / 60}
    if not arguments.smoke:
        OUT.with_suffix(".json").write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")
    print(f"{summary['minutes']:.1f} minutes in this run, {summary['cpu minutes']:.1f} of them on the core")


if __name__ == "__main__":
    main()

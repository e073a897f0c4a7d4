"""Does adapting to a few clean tiles repair what misaligned labels taught? The headline claims, and curves.

Everything that decides the answer stands in this file and was committed before the first result: the rendered scenes,
the network, the tuning grids (three points a method, chosen on validation tiles with a seed of its own), the seeds and
the rules. A second run resumes. At most 90 minutes:

    python benchmarks/buildings_adaptation.py --out benchmarks/out/buildings_adaptation

The noisy set is wide: many districts, footprints as labels, displaced by the lean of the buildings and by errors of
registration. The clean set is small and from one district; so are the validation tiles. Test tiles have clean labels
(visible roofs) of other districts than the noisy set's as well. Each seed draws new scenes, a new district, new noise
and new weights; all methods of a seed share scenes, first weights, augmentation, and the number of gradient steps on
clean tiles; noisy-only, SDA and KD's teacher are one pre-training. Rendered scenes, a narrow network and a short
training: the result compares methods, and says nothing about accuracy on a real city.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.registry import MODELS

from robustvision.buildings.data import BuildingDataset, Tile
from robustvision.buildings.geometry_correction import correct_labels, estimate_lean
from robustvision.buildings.metrics import PixelCounts, count_pixels
from robustvision.buildings.synthetic import SyntheticScenes, tiles
from robustvision.buildings.training import load_building_recipe
from robustvision.core.evaluation import Claim, Study, judge, tune_then_compare
from robustvision.core.training import load_weights
from robustvision.core.training.adaptation import AdaptationOptions, adapt, in_memory

CLASSES = ("low", "mid", "high", "skyscraper")
SIZE_PX = 128
COUNTS = {"noisy": 1200, "validation": 32, "test": 320}
CLEAN_TILES = 16
CURVE = (4, 8, 16, 32, 64)
NOISY_EPOCHS = 10  # of 150 steps
CLEAN_EPOCHS, CLEAN_STEPS = 10, 30
RATE = 3e-3
GRIDS: dict[str, list[dict[str, Any]]] = {
    "sda": [{"rate_ratio": ratio} for ratio in (0.1, 0.3, 1.0)],
    "kd": [{"alpha": alpha} for alpha in (0.1, 0.5, 0.9)],
    "dml": [{"mutual_weight": weight} for weight in (0.3, 1.0, 3.0)],
}
TUNING_SEED = 100
SEEDS = (1, 2, 3, 4, 5)
CURVE_SEEDS = (1, 2, 3)
THRESHOLD = 0.5


def scenes(part: str, seed: int, count: int, districts: tuple[int, ...] | None) -> SyntheticScenes:
    """The scenes of one part of a replicate; classes take turns."""
    return SyntheticScenes(count, classes=CLASSES, size_px=SIZE_PX, districts=districts, split=part, seed=seed)


def district(seed: int) -> int:
    """The district of a replicate's clean tiles."""
    return seed


@lru_cache(maxsize=6)
def _tiles(part: str, seed: int, cache_dir: str) -> list[Tile]:
    """Noisy: training scenes of all districts; clean, validation: of one district; test: of all."""
    if part == "noisy":
        return tiles(scenes("train", seed, COUNTS["noisy"], None), label="noisy", workers=1, cache_dir=cache_dir, quiet=True)
    if part == "clean":
        chosen = scenes("train", 1000 + seed, max(CURVE), (district(seed),))
    elif part == "validation":
        chosen = scenes("validation", seed, COUNTS["validation"], (district(seed),))
    else:
        chosen = scenes("test", seed, COUNTS["test"], None)
    return tiles(chosen, label="roof", workers=1, cache_dir=cache_dir, quiet=True)


def train(params: dict[str, Any], seed: int) -> tuple[torch.nn.Module, dict[str, float]]:
    """Train one method, and return its network."""
    method, cache_dir = params["method"], params["cache_dir"]
    noisy, clean = _tiles("noisy", seed, cache_dir), _tiles("clean", seed, cache_dir)[: params["clean_tiles"]]
    if method == "geometry-corrected":
        noisy = corrected(noisy, _pretrained(params, seed), params["device"])
    recipe = load_building_recipe("tiny")
    recipe.val_dataloader.dataset = in_memory(BuildingDataset(_tiles("validation", seed, cache_dir)))
    recipe.default_hooks.log = {"interval": 50}
    options = AdaptationOptions(
        noisy_epochs=NOISY_EPOCHS,
        clean_epochs=CLEAN_EPOCHS,
        clean_steps_per_epoch=CLEAN_STEPS,
        learning_rate=RATE,
        **params["options"],
    )
    with tempfile.TemporaryDirectory() as folder:
        result = adapt(
            "noisy-only" if method == "geometry-corrected" else method,
            recipe,
            noisy=BuildingDataset(noisy, augmentation={}, seed=seed),
            clean=BuildingDataset(clean, augmentation={}, seed=seed),
            work_dir=Path(folder) / "run",
            seed=seed,
            device=params["device"],
            options=options,
            pretrained=_weights(params, seed) if method in ("sda", "kd") else None,
            quiet=True,
        )
        network = MODELS.build(recipe.model).network
        load_weights(network, result.weights)
        if method == "noisy-only":
            kept = _weights(params, seed)
            kept.parent.mkdir(parents=True, exist_ok=True)
            kept.write_bytes(result.weights.read_bytes())
    steps = {"clean steps": result.clean_steps, "total steps": result.total_steps}
    return network.eval(), {"validation iou": result.metrics["val/iou"], **steps}


def _weights(params: dict[str, Any], seed: int) -> Path:
    return Path(params["cache_dir"]) / "pretrained" / f"{seed}.pth"


def _pretrained(params: dict[str, Any], seed: int) -> torch.nn.Module:
    network = MODELS.build(load_building_recipe("tiny").model).network
    load_weights(network, _weights(params, seed))
    return network.eval()


@torch.no_grad()
def probabilities(network: torch.nn.Module, given: Sequence[Tile], device: str) -> np.ndarray:
    """Return float32 [N, H, W]."""
    model = MODELS.build({**load_building_recipe("tiny").model, "network": network}).to(device).eval()
    images = torch.from_numpy(np.stack([tile.image for tile in given]).transpose(0, 3, 1, 2))
    found = [model(batch.to(device)).sigmoid()[:, 0].float().cpu() for batch in images.split(32)]
    network.cpu()
    return torch.cat(found).numpy()


def corrected(noisy: Sequence[Tile], network: torch.nn.Module, device: str) -> list[Tile]:
    """Move the labels of each tile along the lean that the pre-trained network's roofs tell."""
    moved = []
    for tile, found in zip(noisy, probabilities(network, noisy, device), strict=True):
        lean = estimate_lean(found, tile.label)
        label = correct_labels(tile.label, lean)
        moved.append(Tile(tile.name, tile.image, label, group=tile.group, gsd_m=tile.gsd_m, conditions=tile.conditions))
    return moved


def run(params: dict[str, Any], seed: int) -> dict[str, float]:
    """Train one method and measure it on clean test tiles; a training that diverges returns NaN."""
    network, result = train(params, seed)
    return result | measure(network, seed, params)


def measure(network: torch.nn.Module, seed: int, params: dict[str, Any]) -> dict[str, float]:
    """F1 over all test tiles and by height class."""
    test = _tiles("test", seed, params["cache_dir"])
    found = probabilities(network, test, params["device"]) >= THRESHOLD
    counts = {name: PixelCounts() for name in CLASSES}
    for tile, mask in zip(test, found, strict=True):
        counts[str(tile.conditions["height_class"])] += count_pixels(mask, tile.label > 0)
    whole = sum(counts.values(), PixelCounts())
    result = {"f1": whole.f1, "iou": whole.iou, "precision": whole.precision, "recall": whole.recall}
    return result | {f"f1 {name}": counts[name].f1 for name in CLASSES}

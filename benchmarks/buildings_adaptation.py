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

A second question was added after the headline had failed, and before its own first result: what if clean and
validation tiles come from everywhere instead of one district? Same noisy sets, pre-trained networks, test tiles, grids,
seeds and rules; `mixed`, six times as dear as the others, has no curve there:

    python benchmarks/buildings_adaptation.py --clean-from everywhere
"""

from __future__ import annotations

import argparse
import itertools
import json
import re
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
from robustvision.buildings.metrics import PixelCounts, add_counts, count_pixels, counts_by_building, displacement_bin
from robustvision.buildings.synthetic import SyntheticScenes, noisy_label, tiles
from robustvision.core.evaluation import Claim, Study, judge, tune_then_compare
from robustvision.core.runtime.files import make_folder, write_atomically, write_json
from robustvision.core.runtime.parallel import run_ordered
from robustvision.core.training import load_recipe, load_weights
from robustvision.core.training.adaptation import AdaptationOptions, adapt, in_memory

CLASSES = ("low", "mid", "high", "skyscraper")
SIZE_PX = 96
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
COLOURS = {"sda": "C3", "kd": "C0", "dml": "C1", "clean-only": "C2", "mixed": "C4"}
COLOURS |= {"noisy-only": "0.4", "geometry-corrected": "C5"}


def scenes(part: str, seed: int, count: int, districts: tuple[int, ...] | None) -> SyntheticScenes:
    """The scenes of one part of a replicate; classes take turns."""
    return SyntheticScenes(count, classes=CLASSES, size_px=SIZE_PX, districts=districts, split=part, seed=seed)


def part_scenes(part: str, seed: int, clean_from: str = "district") -> tuple[SyntheticScenes, str]:
    """Noisy: training scenes of all districts; clean, validation: of one or of all; test: of all. And their labels."""
    districts = (seed,) if clean_from == "district" else None
    if part == "noisy":
        return scenes("train", seed, COUNTS["noisy"], None), "noisy"
    if part == "clean":
        return scenes("train", 1000 + seed, max(CURVE), districts), "roof"
    if part == "validation":
        return scenes("validation", seed, COUNTS["validation"], districts), "roof"
    return scenes("test", seed, COUNTS["test"], None), "roof"


@lru_cache(maxsize=6)
def _tiles(part: str, seed: int, cache_dir: str, clean_from: str = "district") -> list[Tile]:
    chosen, label = part_scenes(part, seed, clean_from)
    return tiles(chosen, label=label, workers=1, cache_dir=cache_dir, quiet=True)


def train(params: dict[str, Any], seed: int) -> tuple[torch.nn.Module, dict[str, float]]:
    """Train one method, and return its network."""
    method, cache_dir, clean_from = params["method"], params["cache_dir"], params.get("clean_from", "district")
    noisy, clean = _tiles("noisy", seed, cache_dir), _tiles("clean", seed, cache_dir, clean_from)
    clean = clean[: params["clean_tiles"]]
    if method == "geometry-corrected":
        noisy = corrected(noisy, _pretrained(params, seed), params["device"])
    recipe = load_recipe("tiny", "robustvision.buildings")
    recipe.val_dataloader.dataset = in_memory(BuildingDataset(_tiles("validation", seed, cache_dir, clean_from)))
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
    network = MODELS.build(load_recipe("tiny", "robustvision.buildings").model).network
    load_weights(network, _weights(params, seed))
    return network.eval()


@torch.no_grad()
def probabilities(network: torch.nn.Module, given: Sequence[Tile], device: str) -> np.ndarray:
    """Return float32 [N, H, W]."""
    model = MODELS.build({**load_recipe("tiny", "robustvision.buildings").model, "network": network}).to(device).eval()
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
    """F1 over all test tiles, by height class, and by displacement of the nearest building."""
    test = _tiles("test", seed, params["cache_dir"])
    found = probabilities(network, test, params["device"]) >= THRESHOLD
    counts = {name: PixelCounts() for name in CLASSES}
    for tile, mask in zip(test, found, strict=True):
        counts[str(tile.conditions["height_class"])] += count_pixels(mask, tile.label)
    whole = sum(counts.values(), PixelCounts())
    result = {"f1": whole.f1, "iou": whole.iou, "precision": whole.precision, "recall": whole.recall}
    result |= {f"f1 {name}": counts[name].f1 for name in CLASSES}
    kept = _buildings(seed, params["cache_dir"])
    bins = add_counts(
        counts_by_building(mask, one["instances"], _displacements(one)) for mask, one in zip(found, kept, strict=True)
    )
    return result | {f"f1 {name}": each.f1 for name, each in bins.items()}


@lru_cache(maxsize=2)
def _buildings(seed: int, cache_dir: str) -> list[dict[str, np.ndarray]]:
    """Of each test scene: the number of the building of every roof pixel, and the displacement of each building."""
    return [dict(np.load(Path(cache_dir) / "buildings" / f"{seed}-{index}.npz")) for index in range(COUNTS["test"])]


def _displacements(one: dict[str, np.ndarray]) -> dict[int, str]:
    return {int(number): displacement_bin(float(px)) for number, px in zip(one["numbers"], one["px"], strict=True)}


def keep_buildings(item: tuple[int, int, str]) -> dict[str, float]:
    """Render a test scene and keep its buildings; return what its labels are worth."""
    seed, index, cache_dir = item
    scene = scenes("test", seed, COUNTS["test"], None)[index]
    numbers = np.array([building.number for building in scene.buildings], np.int32)
    px = np.array([np.hypot(*building.offset_px) for building in scene.buildings])
    sides = np.array([building.footprint.area**0.5 for building in scene.buildings])
    with write_atomically(Path(cache_dir) / "buildings" / f"{seed}-{index}.npz") as temporary:
        np.savez_compressed(temporary, instances=scene.instances, numbers=numbers, px=px)
    label = count_pixels(noisy_label(scene).mask, scene.roof)
    return {
        "seed": seed,
        "px": float(px.mean()) if px.size else np.nan,
        "relative_shift": float((px / sides).mean()) if px.size else np.nan,
        **{name: getattr(label, name) for name in ("tp", "fp", "fn", "tn")},
        "class": CLASSES.index(scene.height_class),
    }


def render(cache_dir: str, workers: int, clean_from: str) -> list[dict[str, float]]:
    """Render every scene of the study once, in parallel."""
    make_folder(Path(cache_dir) / "buildings")
    for seed in (TUNING_SEED, *SEEDS):
        for part in ("noisy", "clean", "validation", "test"):
            chosen, label = part_scenes(part, seed, clean_from)
            tiles(chosen, label=label, workers=workers, cache_dir=cache_dir)
    items = [(seed, index, cache_dir) for seed in (TUNING_SEED, *SEEDS) for index in range(COUNTS["test"])]
    return run_ordered(keep_buildings, items, workers=workers, label="test buildings")


def label_curves(rows: Sequence[dict[str, float]]) -> dict[str, Any]:
    """F1 of footprint labels against visible roofs: by height class, and against the displacement in building sides."""
    by_class, edges = {}, np.quantile([row["relative_shift"] for row in rows], np.linspace(0, 1, 13))
    for place, name in enumerate(CLASSES):
        chosen = [row for row in rows if row["class"] == place]
        by_class[name] = {
            "label_f1": _counts(chosen).f1,
            "displacement_px": float(np.nanmean([row["px"] for row in chosen])),
            "relative_shift": float(np.nanmean([row["relative_shift"] for row in chosen])),
        }
    shifts, values = [], []
    for low, high in itertools.pairwise(edges):
        chosen = [row for row in rows if low <= row["relative_shift"] <= high]
        shifts.append(float(np.mean([row["relative_shift"] for row in chosen])))
        values.append(_counts(chosen).f1)
    return {"by_class": by_class, "relative_shift": shifts, "f1": values}


def _counts(rows: Sequence[dict[str, float]]) -> PixelCounts:
    return sum((PixelCounts(*(int(row[name]) for name in ("tp", "fp", "fn", "tn"))) for row in rows), PixelCounts())


def claims() -> dict[str, Claim]:
    """The verdicts: at every class at least something, a gap that grows, and SDA against its rivals."""
    plain: dict[str, Any] = {"better": "higher", "minimum_effect": 0.0, "seeds": SEEDS}
    gain = {
        name: Claim(f"SDA beats noisy-only: {name}", f"f1 {name}", treatment="sda", baselines=("noisy-only",), **plain)
        for name in CLASSES
    }
    growth = Claim("the gap grows with displacement", "gap slope", treatment="sda", baselines=("noisy-only",), **plain)
    rivals = Claim("SDA beats KD and DML at equal clean steps", "f1", treatment="sda", baselines=("kd", "dml"), **plain)
    return {**gain, "growth": growth, "rivals": rivals}


def with_slopes(results: dict[str, dict[int, dict[str, float]]], shifts: Sequence[float]) -> None:
    """Add the slope of the gap over the classes' mean displacement (in building sides), as SDA's; noisy-only's is 0."""
    for seed in SEEDS:
        sda, noisy = results["sda"][seed], results["noisy-only"][seed]
        gaps = [sda[f"f1 {name}"] - noisy[f"f1 {name}"] for name in CLASSES]
        sda["gap slope"], noisy["gap slope"] = float(np.polyfit(shifts, gaps, 1)[0]), 0.0


def plan_curves(
    labels: dict[str, Any], noisy_only: dict[int, dict[str, float]], curves: dict[str, dict[int, dict[str, float]]]
) -> dict[str, Any]:
    """What the package's `plan` reads: SDA's F1 by class and number of clean tiles, and how many are enough.

    Enough is the fewest whose F1 is within one standard error (of the paired difference) of the best number's.
    """
    by_class = []
    for name in CLASSES:
        runs = [noisy_only, *(curves[f"sda {count}"] for count in CURVE)]
        f1 = np.array([[run[seed][f"f1 {name}"] for seed in CURVE_SEEDS] for run in runs])
        lacks = f1[f1.mean(axis=1).argmax()] - f1
        error = lacks.std(axis=1, ddof=1) / len(CURVE_SEEDS) ** 0.5
        enough = int(np.flatnonzero(lacks.mean(axis=1) <= error)[0])
        counts = [0, *CURVE]
        by_class.append(
            {
                "height_class": name,
                "relative_shift": labels["by_class"][name]["relative_shift"],
                "clean_tiles": counts,
                "f1": f1.mean(axis=1).tolist(),
                "enough": counts[enough],
            }
        )
    return {"labels": {name: labels[name] for name in ("relative_shift", "f1")}, "adaptation": by_class}


def curve_means(
    noisy_only: dict[int, dict[str, float]], curves: dict[str, dict[int, dict[str, float]]]
) -> dict[str, list[float]]:
    """Mean F1 over the seeds of the curves, by method: one value a number of clean tiles, or one for all numbers."""

    def mean(run: dict[int, dict[str, float]]) -> float:
        return float(np.mean([run[seed]["f1"] for seed in CURVE_SEEDS]))

    methods = [method for method in (*GRIDS, "clean-only", "mixed") if f"{method} {CURVE[0]}" in curves]
    found = {method: [mean(curves[f"{method} {count}"]) for count in CURVE] for method in methods}
    alone = {"noisy-only": noisy_only, **{name: curves[name] for name in ("geometry-corrected",) if name in curves}}
    return found | {name: [mean(runs)] for name, runs in alone.items()}


def crossing(above: Sequence[float], below: Sequence[float]) -> float | str:
    """From how many clean tiles on a method's mean F1 stays at or above another's, between counts on a log scale."""
    gap = np.broadcast_to(above, len(CURVE)) - np.broadcast_to(below, len(CURVE))
    under = np.flatnonzero(gap < 0)
    if not under.size:
        return f"all, from {CURVE[0]}"
    last = int(under[-1])
    if last + 1 == len(CURVE):
        return f"none up to {CURVE[-1]}"
    share = gap[last] / (gap[last] - gap[last + 1])
    return float(CURVE[last] * (CURVE[last + 1] / CURVE[last]) ** share)


def crossings(means: dict[str, list[float]]) -> dict[str, float | str]:
    """Where each method passes noisy-only for good, and where SDA and its rivals pass each other."""
    against_noisy = {f"{name} passes noisy-only": (name, "noisy-only") for name in means if len(means[name]) > 1}
    against_sda = {
        f"{name} passes sda": (name, "sda") for name in ("clean-only", "mixed", "kd", "dml") if name in means
    }
    pairs = against_noisy | against_sda
    return {text: crossing(means[above], means[below]) for text, (above, below) in pairs.items()}


def draw(path: Path, panels: dict[str, dict[str, list[float]]]) -> None:
    """F1 over the number of clean tiles, a panel for each place that they come from."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(
        1, len(panels), figsize=(6 * len(panels), 4), sharey=True, squeeze=False, layout="constrained"
    )
    for place, means, panel in zip(panels, panels.values(), axes[0], strict=True):
        for name, values in means.items():
            if len(values) == 1:
                panel.axhline(values[0], label=name, color=COLOURS[name], linestyle="--")
            else:
                panel.plot(CURVE, values, "o-", label=name, color=COLOURS[name])
        panel.set(title=f"clean tiles from {place}", xlabel="clean tiles", xscale="log", xticks=CURVE)
        panel.set_xticks(CURVE, [str(count) for count in CURVE])
        panel.minorticks_off()
    axes[0, 0].set_ylabel(f"F1 on tiles of all districts, mean of {len(CURVE_SEEDS)} seeds")
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside right center")
    figure.savefig(path, dpi=75)


def without_paths(content: Any) -> Any:
    """The same values without the folder of the scenes."""
    if isinstance(content, dict):
        return {name: without_paths(value) for name, value in content.items() if name != "cache_dir"}
    if isinstance(content, str):
        return re.sub("cache_dir=[^,]*, ", "", content)
    return [without_paths(value) for value in content] if isinstance(content, list) else content


def main() -> None:
    """Run the study, and print and write what came out."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/out/buildings_adaptation"))
    parser.add_argument("--max-minutes", type=float, default=90.0)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--clean-from", choices=("district", "everywhere"), default="district")
    parser.add_argument("--picture", type=Path, help="where to draw the curves, once both questions are answered")
    arguments = parser.parse_args()
    begin, cache = time.monotonic(), str(arguments.out / "scenes")
    everywhere = arguments.clean_from == "everywhere"
    out = arguments.out / "everywhere" if everywhere else arguments.out

    def left() -> dict[str, Any]:
        minutes = max(0.0, arguments.max_minutes - (time.monotonic() - begin) / 60)
        return {"workers": arguments.workers, "threads": 1, "max_minutes": minutes}

    def cell(method: str, clean_tiles: int = CLEAN_TILES, **options: Any) -> dict[str, Any]:
        shared = {"cache_dir": cache, "device": arguments.device}
        if everywhere and method != "noisy-only":
            shared["clean_from"] = "everywhere"
        return {"method": method, "clean_tiles": clean_tiles, "options": options, **shared}

    labels = label_curves(render(cache, arguments.workers, arguments.clean_from))
    pretraining = Study(
        "noisy-only", run, {"noisy-only": cell("noisy-only")}, (TUNING_SEED, *SEEDS), arguments.out / "pretraining"
    ).execute(**left())
    if not pretraining.complete:
        raise SystemExit(f"not finished: {pretraining.failures[:1]}; run again, finished trainings are kept")
    tuned = tune_then_compare(
        "buildings adaptation",
        run,
        {method: [cell(method, **options) for options in grid] for method, grid in GRIDS.items()},
        metric="validation iou",
        tuning_seeds=(TUNING_SEED,),
        seeds=SEEDS,
        out_dir=out / "headline",
        **left(),
    )
    print(pretraining.to_markdown(), tuned.to_markdown(), sep="\n\n")
    if not tuned.complete or tuned.results is None:
        raise SystemExit("time is up: run again, finished trainings are kept")
    results = {name: dict(each) for name, each in tuned.results.metrics.items()}
    results["noisy-only"] = dict(pretraining.metrics["noisy-only"])
    results = {name: {seed: dict(values) for seed, values in each.items()} for name, each in results.items()}
    with_slopes(results, [labels["by_class"][name]["relative_shift"] for name in CLASSES])
    verdicts = {name: judge(claim, results) for name, claim in claims().items()}
    print(*verdicts.values(), sep="\n")
    chosen = {method: GRIDS[method][tuned.chosen[method]] for method in GRIDS}
    cells = {
        f"{method} {count}": cell(method, count, **chosen.get(method, {}))
        for count in CURVE
        for method in (*GRIDS, "clean-only", *(() if everywhere else ("mixed",)))
    }
    if not everywhere:
        cells = {"geometry-corrected": cell("geometry-corrected"), **cells}
    curves = Study("buildings curves", run, cells, CURVE_SEEDS, out / "curves").execute(**left())
    print(curves.to_markdown())
    minutes = (time.monotonic() - begin) / 60
    summary = {
        "device": arguments.device,
        "minutes": minutes,
        "labels": labels,
        "claims": {name: verdict.to_dict() for name, verdict in verdicts.items()},
        "pretraining": pretraining.to_dict(),
        "tuned": tuned.to_dict(),
        "curves": curves.to_dict(),
    }
    if curves.complete:
        summary["curve means"] = curve_means(pretraining.metrics["noisy-only"], curves.metrics)
        summary["crossings"] = crossings(summary["curve means"])
        print(summary["crossings"])
    write_json(out / "summary.json", without_paths(summary))
    if everywhere and curves.complete:
        write_json(out / "plan_curves.json", plan_curves(labels, pretraining.metrics["noisy-only"], curves.metrics))
    if arguments.picture:
        folders = {"one district": arguments.out, "everywhere": arguments.out / "everywhere"}
        found = {place: json.loads((folder / "summary.json").read_text()) for place, folder in folders.items()}
        draw(arguments.picture, {place: summary["curve means"] for place, summary in found.items()})
    print(f"{minutes:.0f} minutes in this run")


if __name__ == "__main__":
    main()

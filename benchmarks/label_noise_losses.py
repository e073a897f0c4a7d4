"""Which loss survives which label noise? Every robust loss on Vowel and digits; the main ones on Letter and MNIST.

Real data, small networks. Everything that decides the answer stands in this file and in ``stacked_training.py``, and
was committed before the first full run: splits, networks, grids, seeds, the rule. A second run resumes.

    python benchmarks/label_noise_losses.py [--out FOLDER] [--smoke]

- Vowel and Letter follow the published LDR protocol: labels of training and validation folds corrupted in seven ways,
  5 folds, each loss tuned over its published grid (and over the learning rate) by the noisy validation folds, a
  network of two tanh layers, 100 epochs, top-1 to top-5 on clean test data. Features are standardised by the training
  part. Vowel: the published split by speaker (528 / 462), five seeds that draw folds, noise and weights anew; a seed's
  value is the mean over its folds. Letter: 15,000 / 5,000 drawn once; the folds are the replicates, so they share test
  data and three quarters of their training data, and intervals over them are too narrow for other splits.
- Digits: 1197 / 240 / 360 by a fixed permutation, one setting a loss, learning rate tuned by the noisy validation
  part, 60 epochs, five seeds.
- MNIST: all images, averaged to 14x14; 55,000 / 5,000 / 10,000, one setting a loss, 8 epochs, three seeds, no verdict.

Headline claim, judged on Vowel, Letter and digits: LDR or ALDR beats cross-entropy by 5 points of top-1 accuracy under
30 % uniform noise and under 30 % class-dependent noise. There are three treatments (LDR as published, with softplus;
LDR with ALDR's L1 normalisation; ALDR), so each is judged at a confidence of 1 - 0.05/3. On a data set the claim holds
if one treatment exceeds 5 points under both noises; it fails if none can; over all, it holds if it holds on all three.

Tried before this was fixed, to time it: cross-entropy, and ALDR with lambda_0 = 10, for a few epochs on clean labels;
and every loss for one epoch (``--smoke``).
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).parent))
from real_data import digits, letter, mnist, vowel
from stacked_training import Schedule, Stack, StackedMLP, top_k_accuracies, train_stack

from robustvision.core import losses
from robustvision.core.data import class_dependent_noise, uniform_noise
from robustvision.core.evaluation import Claim, Study, judge, t_interval

NOISES = {
    "clean": ("uniform", 0.0),
    "u.3": ("uniform", 0.3),
    "u.6": ("uniform", 0.6),
    "u.9": ("uniform", 0.9),
    "cd.1": ("class", 0.1),
    "cd.3": ("class", 0.3),
    "cd.5": ("class", 0.5),
}
TOP = 5

# Each loss, its grid on Vowel and Letter (published for the first 15; for the others as many points around the usual
# setting), and its one setting on digits and MNIST.
Settings = list[dict[str, Any]]
SUMS: Settings = [{"alpha": a, "beta": 10 - a} for a in (0.1, 5, 9.9)]
LOSSES: dict[str, tuple[type[nn.Module], Settings, dict[str, Any]]] = {
    "CE": (losses.CrossEntropyLoss, [{}], {}),
    "CS": (losses.CrammerSingerLoss, [{"margin": c} for c in (0.1, 1, 10)], {"margin": 1}),
    "WW": (losses.WestonWatkinsLoss, [{"margin": c} for c in (0.1, 1, 10)], {"margin": 1}),
    "RLL": (losses.RLLLoss, [{"a": a} for a in (0.1, 1, 10)], {"a": 0.1}),
    "MAE": (losses.MAELoss, [{}], {}),
    "MSE": (losses.MSELoss, [{}], {}),
    "GCE": (losses.GCELoss, [{"q": q} for q in (0.05, 0.7, 0.95)], {"q": 0.7}),
    "TGCE": (losses.TruncatedGCELoss, [{"q": q} for q in (0.05, 0.7, 0.95)], {"q": 0.7}),
    "SCE": (
        losses.SCELoss,
        [{"alpha": 1 - b, "beta": b, "log_of_zero": -4.0} for b in (0.05, 0.5, 0.95)],
        {"alpha": 0.5, "beta": 0.5, "log_of_zero": -4.0},
    ),
    "JS": (losses.JSLoss, [{"pi": pi} for pi in (0.1, 0.5, 0.9)], {"pi": 0.5}),
    "NCE+RCE": (losses.NCERCELoss, SUMS, {"alpha": 5, "beta": 5}),
    "NCE+AGCE": (losses.NCEAGCELoss, [{**s, "a": 3.0} for s in SUMS], {"alpha": 5, "beta": 5, "a": 3.0}),
    "NCE+AUL": (losses.NCEAULLoss, [{**s, "a": 6.0} for s in SUMS], {"alpha": 5, "beta": 5, "a": 6.0}),
    "LDR": (losses.LDRLoss, [{"lam": lam} for lam in (0.1, 1, 10)], {"lam": 10}),
    "ALDR": (losses.ALDRLoss, [{"lam0": lam} for lam in (0.1, 1, 10)], {"lam0": 10}),
    "LDR L1": (
        losses.LDRLoss,
        [{"lam": lam, "normalize": "l1"} for lam in (0.1, 1, 10)],
        {"lam": 10, "normalize": "l1"},
    ),
    "LDR-k L1": (
        losses.LDRKLoss,
        [{"k": k, "lam": 1.0, "normalize": "l1"} for k in (2, 3, 5)],
        {"k": 2, "lam": 1.0, "normalize": "l1"},
    ),
    "focal": (losses.FocalLoss, [{"gamma": g} for g in (0.5, 2, 5)], {"gamma": 2}),
    "comp-sum": (losses.CompSumLoss, [{"tau": t} for t in (0.5, 1.5, 1.8)], {"tau": 1.5}),
    "bi-tempered": (
        losses.BiTemperedLoss,
        [{"t1": t1, "t2": t2} for t1, t2 in ((0.8, 1.2), (0.5, 1.5), (0.2, 3.0))],
        {"t1": 0.5, "t2": 1.5},
    ),
    "NCE": (losses.NCELoss, [{}], {}),
    "NFL": (losses.NFLLoss, [{"gamma": g} for g in (0.5, 2, 5)], {"gamma": 0.5}),
    "NGCE": (losses.NGCELoss, [{"q": q} for q in (0.05, 0.7, 0.95)], {"q": 0.7}),
    "RCE": (losses.RCELoss, [{}], {}),
    "AGCE": (losses.AGCELoss, [{"a": a} for a in (0.6, 3, 6)], {"a": 3.0}),
    "AUL": (losses.AULLoss, [{"a": a} for a in (1.5, 6, 9)], {"a": 6.0}),
    "AEL": (losses.AELLoss, [{"a": a} for a in (0.5, 1, 2.5)], {"a": 2.5}),
}
ONLY_DIGITS: dict[str, tuple[type[nn.Module], dict[str, Any]]] = {  # rows of the reference table beside
    "LDR 1 raw": (losses.LDRLoss, {"lam": 1.0, "margin": 0.0, "normalize": "none"}),
    "LDR 1 softplus": (losses.LDRLoss, {"lam": 1.0}),
    "LDR 1 L1": (losses.LDRLoss, {"lam": 1.0, "normalize": "l1"}),
    "ALDR 1 L1": (losses.ALDRLoss, {"lam0": 1.0}),
    "ALDR 10 exact": (losses.ALDRLoss, {"lam0": 10.0, "exact": True}),
}
MAIN = ("CE", "GCE", "LDR", "LDR L1", "ALDR")
ORDER = ("vowel", "digits", "letter", "mnist")
TREATMENTS = ("LDR", "LDR L1", "ALDR")
CLAIM_NOISES = ("u.3", "cd.3")
CLAIM_POINTS = 5.0


@dataclass(frozen=True)
class Protocol:
    """How one data set is used; a replicate is what intervals are taken over."""

    schedule: Schedule
    learning_rates: tuple[float, ...]
    replicates: int
    folds: int  # networks whose mean is one replicate's value
    tuned_by: str  # "replicate": by the validation folds of each; "all": one choice for all replicates
    mapping: str  # of the class-dependent noise


PROTOCOLS = {
    "vowel": Protocol(
        Schedule((10, 10, 10, 11), "tanh", 100, 64, (50, 75), 5e-3), (0.1, 0.01), 5, 5, "replicate", "vowel"
    ),
    "letter": Protocol(Schedule((16, 16, 16, 26), "tanh", 100, 64, (50, 75), 5e-3), (0.1, 0.01), 5, 1, "all", "letter"),
    "digits": Protocol(
        Schedule((64, 128, 128, 10), "relu", 60, 120, (30, 45), 5e-4, clip=5.0), (0.3, 0.1, 0.03), 5, 1, "all", "next"
    ),
    "mnist": Protocol(
        Schedule((196, 128, 128, 10), "relu", 8, 100, (5, 7), 5e-4, clip=5.0), (0.3, 0.1), 3, 1, "all", "next"
    ),
}


@dataclass(frozen=True)
class Task:
    """Features, clean labels, and which rows are for what: a row of places for each (replicate, fold)."""

    features: Tensor
    labels: np.ndarray
    train: Tensor
    validation: Tensor
    test: Tensor
    seeds: tuple[int, ...]  # one a (replicate, fold); equal seeds have equal noise, start weights and order


@lru_cache(maxsize=1)
def task(name: str) -> Task:
    """The data of one data set with its splits."""
    if name == "vowel":
        data = vowel()
        pool, test = np.flatnonzero(~data.is_test), np.flatnonzero(data.is_test)
        trains, validations, seeds = [], [], []
        for seed in range(1, 6):
            folds = np.array_split(np.random.default_rng(seed).permutation(pool), 5)
            for fold in range(5):
                rest = np.concatenate(folds[:fold] + folds[fold + 1 :])
                trains.append(rest[: len(pool) * 4 // 5])
                validations.append(folds[fold][: len(pool) // 5])
                seeds.append(seed)
        features = _standardised(data.features, pool)
    elif name == "letter":
        data = letter()
        order = np.random.default_rng(123).permutation(len(data.labels))
        pool, test = order[:15_000], order[15_000:]
        folds = np.array_split(pool, 5)
        trains = [np.concatenate(folds[:fold] + folds[fold + 1 :]) for fold in range(5)]
        validations, seeds = folds, [123] * 5
        features = _standardised(data.features, pool)
    else:
        data = digits() if name == "digits" else mnist()
        if name == "digits":
            order, sizes = np.random.default_rng(0).permutation(len(data.labels)), (1197, 240)
            features = torch.from_numpy(data.features)
        else:
            order, sizes = (
                np.r_[np.random.default_rng(0).permutation(60_000), np.arange(60_000, 70_000)],
                (55_000, 5_000),
            )
            images = torch.from_numpy(data.features)[:, None].float() / 255
            features = nn.functional.avg_pool2d(images, 2).flatten(1)
        replicates = PROTOCOLS[name].replicates
        trains = [order[: sizes[0]]] * replicates
        validations = [order[sizes[0] : sum(sizes)]] * replicates
        test, seeds = order[sum(sizes) :], list(range(1, replicates + 1))
    places = (torch.from_numpy(np.stack(rows)) for rows in (trains, validations))
    return Task(features, data.labels, *places, torch.from_numpy(test), tuple(seeds))


def _standardised(features: np.ndarray, pool: np.ndarray) -> Tensor:
    return torch.from_numpy((features - features[pool].mean(0)) / features[pool].std(0))


def run(params: dict[str, Any], seed: int) -> dict[str, Any]:
    """Train one loss on one data set in all its settings; the values are lists over the replicates."""
    begin = time.process_time()
    name = params["data"]
    protocol, data = PROTOCOLS[name], task(name)
    schedule = replace(protocol.schedule, epochs=params.get("epochs", protocol.schedule.epochs))
    classes, rates, runs = schedule.widths[-1], protocol.learning_rates, len(data.seeds)
    # The stack: noise x learning rate x (replicate, fold).
    told = torch.stack([_told(data, protocol, noise, classes) for noise in NOISES])  # [7, runs, N]
    shape = (len(NOISES), len(rates), runs)
    train = data.train.expand(*shape, -1)
    stack = Stack(
        data.features,
        train.flatten(0, 2),
        told[:, None].expand(*shape, -1).gather(3, train).flatten(0, 2),
        torch.tensor(rates)[None, :, None].expand(shape).flatten(),
        data.seeds * (len(NOISES) * len(rates)),
    )
    validation = data.validation.expand(*shape, -1).flatten(0, 2)
    validation_labels = told[:, None].expand(*shape, -1).flatten(0, 2).gather(1, validation)
    scores, tests = [], []
    for setting in params["settings"]:
        loss = _build(params["loss"], setting, train[..., 0].numel() * train.shape[3])
        networks = train_stack(stack, schedule, loss, after_epoch=_pruning(loss, stack, schedule))
        scores.append(top_k_accuracies(networks, data.features[validation], validation_labels, 1).view(shape))
        test_labels = torch.from_numpy(data.labels)[data.test]
        tests.append(top_k_accuracies(networks, data.features[data.test], test_labels, TOP).view(*shape, TOP))
    return {
        **_choose(torch.stack(scores, 1).flatten(1, 2), torch.stack(tests, 1).flatten(1, 2), protocol),
        "cpu_minutes": (time.process_time() - begin) / 60,
    }


def _told(data: Task, protocol: Protocol, noise: str, classes: int) -> Tensor:
    """The labels under one noise, [runs, N]; those of the test rows are never used."""
    kind, rate = NOISES[noise]
    noisy = {}
    for seed in set(data.seeds):
        if kind == "uniform":
            noisy[seed] = uniform_noise(data.labels, rate, classes, seed).labels
        else:
            noisy[seed] = class_dependent_noise(data.labels, rate, classes, seed, protocol.mapping).labels
    return torch.from_numpy(np.stack([noisy[seed] for seed in data.seeds]))


def _build(loss: str, setting: dict[str, Any], samples: int) -> nn.Module:
    kind = (LOSSES.get(loss) or ONLY_DIGITS[loss])[0]
    remembers = kind in (losses.ALDRLoss, losses.TruncatedGCELoss) and not setting.get("exact")
    return kind(**setting, **({"num_samples": samples} if remembers else {}), reduction="none")


def _pruning(loss: nn.Module, stack: Stack, schedule: Schedule) -> Callable[[int, StackedMLP], None] | None:
    """Truncated GCE prunes as published: after every tenth epoch of the second half."""
    if not isinstance(loss, losses.TruncatedGCELoss):
        return None

    @torch.no_grad()
    def prune(epoch: int, networks: StackedMLP) -> None:
        if epoch <= schedule.epochs // 2 or epoch % 10:
            return
        size, count = stack.places.shape
        for part in torch.arange(count).split(256):
            logits = networks(stack.features[stack.places[:, part]])
            index = torch.arange(size)[:, None] * count + part
            loss.prune(logits.flatten(0, 1), stack.labels[:, part].flatten(), index=index.flatten())

    return prune


def _choose(validation: Tensor, test: Tensor, protocol: Protocol) -> dict[str, Any]:
    """Pick a setting for each noise by noisy validation: [7, settings, runs] and [7, settings, runs, TOP] to values."""
    folds = (protocol.replicates, protocol.folds)
    score = validation.unflatten(2, folds).mean(3)  # [7, settings, replicates]
    if protocol.tuned_by == "all":
        score = score.mean(2, keepdim=True).expand_as(score)
    chosen = score.argmax(1)  # [7, replicates]
    values = test.unflatten(2, folds).mean(3)
    picked = values.gather(1, chosen[:, None, :, None].expand(-1, 1, -1, TOP)).squeeze(1)  # [7, replicates, TOP]
    result: dict[str, Any] = {}
    for i, noise in enumerate(NOISES):
        result[f"{noise} chosen"] = chosen[i].tolist()
        for k in range(TOP):
            result[f"{noise} top{k + 1}"] = picked[i, :, k].tolist()
    return result


def cells_of(name: str, best: tuple[str, ...] = ()) -> dict[str, dict[str, Any]]:
    """The losses that are run on a data set, with their settings."""
    if name == "vowel":
        named = {loss: grid for loss, (_, grid, _) in LOSSES.items()}
    elif name == "letter":
        named = {loss: LOSSES[loss][1] for loss in (*MAIN, *best)}
    elif name == "digits":
        named = {loss: [one] for loss, (_, _, one) in LOSSES.items()} | {
            loss: [one] for loss, (_, one) in ONLY_DIGITS.items()
        }
    else:
        named = {loss: [LOSSES[loss][2]] for loss in (*MAIN, *best)}
    return {loss: {"data": name, "loss": loss, "settings": settings} for loss, settings in named.items()}


Found = dict[str, dict[int, dict[str, Any]]]


def replicates_of(metrics: Found) -> Found:
    """Loss -> replicate -> metric -> value, out of lists over the replicates."""
    found: Found = {}
    for loss, runs in metrics.items():
        lists = {name: value for name, value in runs[0].items() if isinstance(value, list)}
        count = len(next(iter(lists.values())))
        found[loss] = {i: {name: value[i] for name, value in lists.items()} for i in range(count)}
    return found


def best_three(found: Found) -> tuple[str, ...]:
    """The three losses with the highest mean top-1 over the seven noises, besides the main ones."""
    means = {
        loss: np.mean([run[f"{noise} top1"] for run in runs.values() for noise in NOISES])
        for loss, runs in found.items()
    }
    return tuple(sorted((loss for loss in means if loss not in MAIN), key=lambda loss: -means[loss])[:3])


def table(found: Found, k: int = 1) -> str:
    """Mean and 95 % interval of every loss and noise; * where the paired difference to CE excludes 0."""
    lines = ["| loss | " + " | ".join(NOISES) + " |", "|---|" + "---|" * len(NOISES)]
    for loss, runs in found.items():
        shown = []
        for noise in NOISES:
            values = [run[f"{noise} top{k}"] for run in runs.values()]
            gain = t_interval([v - found["CE"][i][f"{noise} top{k}"] for i, v in enumerate(values)])
            star = "" if gain.low <= 0 <= gain.high else "+" if gain.low > 0 else "-"
            mean = t_interval(values)
            shown.append(f"{mean.estimate:.1f} ± {mean.high - mean.estimate:.1f}{star}")
        lines.append(f"| {loss} | " + " | ".join(shown) + " |")
    return "\n".join(lines)


def verdicts(found: dict[str, Found]) -> dict[str, Any]:
    """Judge the headline claim on each data set that has five replicates."""
    judged: dict[str, Any] = {}
    for name in ("vowel", "letter", "digits"):
        outcomes, lines = {}, []
        for treatment in TREATMENTS:
            for noise in CLAIM_NOISES:
                claim = Claim(
                    f"{name}, {noise}: {treatment} beats CE by {CLAIM_POINTS:g} points",
                    f"{noise} top1", "higher", treatment, ("CE",), CLAIM_POINTS, (0, 1, 2, 3, 4),
                    confidence=1 - 0.05 / len(TREATMENTS),
                )  # fmt: skip
                verdict = judge(claim, found[name])
                outcomes[treatment, noise] = verdict.outcome
                lines.append(str(verdict))
        per_treatment = [{outcomes[treatment, noise] for noise in CLAIM_NOISES} for treatment in TREATMENTS]
        outcome = "undecided"
        if any(one == {"holds"} for one in per_treatment):
            outcome = "holds"
        elif all("fails" in one for one in per_treatment):
            outcome = "fails"
        judged[name] = {"outcome": outcome, "comparisons": lines}
    outcomes_of_all = {one["outcome"] for one in judged.values()}
    judged["overall"] = (
        "holds" if outcomes_of_all == {"holds"} else "fails" if "fails" in outcomes_of_all else "undecided"
    )
    return judged


def adaptivity(found: Found) -> dict[str, str]:
    """ALDR minus LDR with the same normalisation, for every noise."""
    return {
        noise: str(
            t_interval([found["ALDR"][i][f"{noise} top1"] - run[f"{noise} top1"] for i, run in found["LDR L1"].items()])
        )
        for noise in NOISES
    }


def draw(found: dict[str, Found], path: Path) -> None:
    """The gain over cross-entropy of each loss, a panel a data set."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, len(found), figsize=(4.2 * len(found), 8), layout="constrained")
    for axis, (name, runs) in zip(axes, found.items(), strict=True):
        means = {loss: [np.mean([r[f"{n} top1"] for r in rs.values()]) for n in NOISES] for loss, rs in runs.items()}
        gains = np.array([np.subtract(means[loss], means["CE"]) for loss in means])
        axis.imshow(gains.clip(-30, 30), cmap="RdBu", vmin=-30, vmax=30, aspect="auto")
        for (row, column), gain in np.ndenumerate(gains):
            axis.text(column, row, f"{gain:+.0f}", ha="center", va="center", fontsize=7)
        axis.set_xticks(range(len(NOISES)), NOISES)
        axis.set_yticks(range(len(means)), means, fontsize=8)
        axis.set_title(f"{name}: top-1 minus CE's, points")
    figure.savefig(path, dpi=70)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/out/label_noise_losses"))
    parser.add_argument("--smoke", action="store_true", help="one epoch, to see that it runs")
    parser.add_argument("--workers", type=int, default=2)
    arguments = parser.parse_args()
    out = arguments.out / "smoke" if arguments.smoke else arguments.out
    found: dict[str, Found] = {}
    minutes: dict[str, float] = {}
    best: tuple[str, ...] = ()
    begin = time.monotonic()
    for name in ORDER:
        cells = cells_of(name, best)
        if arguments.smoke:
            cells = {loss: {**cell, "epochs": 1} for loss, cell in cells.items()}
        results = Study(name, run, cells, (0,), out / name).execute(workers=arguments.workers, threads=1)
        if not results.complete:
            raise SystemExit(f"{name}: {[failure.error for failure in results.failures]}")
        found[name] = replicates_of(results.metrics)
        minutes[name] = sum(runs[0]["cpu_minutes"] for runs in results.metrics.values())
        if name == "vowel":
            best = best_three(found[name])
            print("Vowel's best three beside the main ones:", ", ".join(best))
        for k in (1, TOP):
            print(
                f"\n{name}, top-{k} on clean test data, percent; mean ± half of the 95 % interval; + and - against CE"
            )
            print(table(found[name], k))
        print(f"\n{name}: ALDR minus LDR L1, top-1: {adaptivity(found[name])}")
    judged = verdicts(found)
    for name, one in judged.items():
        print(name, one if isinstance(one, str) else one["outcome"])
        if not isinstance(one, str):
            print("\n".join(one["comparisons"]))
    shown = ", ".join(f"{name} {value:.1f}" for name, value in minutes.items())
    print(f"core minutes: {shown}; sum {sum(minutes.values()):.0f}")
    print(f"{(time.monotonic() - begin) / 60:.0f} minutes in this run")
    draw(found, out / "label_noise_losses.png")
    summary = {"best": best, "verdicts": judged, "core_minutes": minutes, "found": found}
    summary["adaptivity"] = {name: adaptivity(one) for name, one in found.items()}
    (out / "summary.json").write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

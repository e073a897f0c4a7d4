"""Does fusing frames with their differences carry a heart rate into another domain? The headline claim, and tables.

Everything that decides the answer stands in this file and was committed before the first result: the rendered films,
the network, the tuning grid (three learning rates for each front end, chosen on validation films of the training domain
with a seed of its own), the seeds and the rule. A second run resumes. At most 60 minutes on two cores:

    python benchmarks/rppg_domain_shift.py --out benchmarks/out/rppg_domain_shift

Training and validation: still, talk and light on skin types I to III. Test: rotate, walk and dark on types IV to VI.
Rendered films, crops of 16 pixels, a narrow network and a short training: the result says how the front ends compare
here, and nothing about accuracy on real people.

What was tried before this file was fixed, with one seed that is not used here, learning rate 3e-3, 240 films and 15
epochs. With the correlation as the loss, a sketch of the network had errors of 18.8 (dff), 14.5 (diff) and 22.3 bpm
(raw) on such a test; this network had 15.9 (dff), and 1.8 on the source domain. So the order that the claim asks for
was not what the sketch had shown. With the dynamic hybrid loss at full weight this network learned more slowly (6.8 on
the source domain): the headline therefore compares the front ends under the correlation alone, and the tables compare
the losses. The generator's skin weights were changed after that (for photos), the network was not.
"""

from __future__ import annotations

import argparse
import json
import time
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from robustvision.core.evaluation import Claim, Study, judge, tune_then_compare
from robustvision.rppg.calibration import calibrate_confidence, judge_clips
from robustvision.rppg.confidence import RIGHT_BPM, coverage_curve
from robustvision.rppg.data import Clip, PulseDataset
from robustvision.rppg.evaluation import PulseEvaluation, classical_predictor, evaluate_clips
from robustvision.rppg.losses import DynamicHybridLoss
from robustvision.rppg.networks import PhysFSUNet
from robustvision.rppg.protocol import Protocol
from robustvision.rppg.synthetic import SyntheticPulse

SIZE_PX, WIDTH, WINDOW = 16, 16, 160
SOURCE = {"scenarios": ("still", "talk", "light"), "skin_types": (1, 2, 3)}
TARGET = {"scenarios": ("rotate", "walk", "dark"), "skin_types": (4, 5, 6)}
EVERYTHING = {"scenarios": ("still", "talk", "light", "rotate", "walk", "dark"), "skin_types": (1, 2, 3, 4, 5, 6)}
FILMS = {"train": 240, "validation": 60, "test": 135}
SECONDS = 10.0
EPOCHS, BATCH, CLIP_NORM = 15, 8, 5.0
FRONT_ENDS = ("dff", "diff", "raw")
LEARNING_RATES = (1e-3, 3e-3, 1e-2)
TUNING_SEED = 100
SEEDS = (1, 2, 3, 4, 5)
TABLE_SEEDS = (1, 2, 3)
QUALITIES = (90, 70, 50, 30)
PROTOCOL = Protocol("paper2023, fine grid", refine=True)
METRIC = "mae"
CLAIM = Claim(
    name="under domain shift dff has smaller errors than diff and than raw",
    metric=METRIC,
    better="lower",
    treatment="dff",
    baselines=("diff", "raw"),
    minimum_effect=0.0,
    seeds=SEEDS,
)


def films(part: str, seed: int, domain: dict[str, Any], **changes: Any) -> SyntheticPulse:
    """The films of one part of a replicate; nobody is in two parts."""
    count = changes.pop("count", FILMS[part])
    return SyntheticPulse(count, split=part, seed=seed, seconds=SECONDS, **domain, **changes)


@lru_cache(maxsize=8)
def _clips(part: str, seed: int, cache_dir: str) -> list[Clip]:
    domain = TARGET if part == "test" else SOURCE
    return films(part, seed, domain).clips(SIZE_PX, workers=1, cache_dir=cache_dir, quiet=True)


def train(params: dict[str, Any], seed: int) -> PhysFSUNet:
    """Train one network on the source domain."""
    dataset = PulseDataset(_clips("train", seed, params["cache_dir"]), WINDOW, augmentation={}, seed=seed)
    torch.manual_seed(seed)
    network = PhysFSUNet(WIDTH, params["mode"], stas=params["stas"])
    loss = DynamicHybridLoss(30.0, params["schedule"], frequency_weight=params["frequency_weight"])
    steps = EPOCHS * (len(dataset) // BATCH)
    optimiser = torch.optim.AdamW(network.parameters(), params["learning_rate"], weight_decay=0.0)
    rates = torch.optim.lr_scheduler.OneCycleLR(optimiser, params["learning_rate"], total_steps=steps)
    for epoch in range(EPOCHS):
        for chosen in torch.randperm(len(dataset)).split(BATCH)[: len(dataset) // BATCH]:
            samples = [dataset[epoch, int(place)] for place in chosen]
            frames, bvp, rate = (
                torch.stack([sample[name] for sample in samples]) for name in ("frames", "bvp", "heart_rate_bpm")
            )
            value = loss(network(frames), bvp, rate, epoch=epoch, epochs=EPOCHS)["loss"]
            optimiser.zero_grad()
            value.backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), CLIP_NORM)
            optimiser.step()
            rates.step()
    return network.eval()


class _Wave:
    """A network as a predictor over whole clips."""

    def __init__(self, network: PhysFSUNet) -> None:
        self.network = network

    @torch.no_grad()
    def __call__(self, clip: Clip) -> np.ndarray:
        frames = torch.from_numpy(np.ascontiguousarray(clip.frames.transpose(3, 0, 1, 2))[None])
        return self.network(frames)[0].double().numpy()


def run(params: dict[str, Any], seed: int) -> dict[str, float]:
    """Train one network, and measure it on both domains; a training that diverges returns NaN."""
    network = train(params, seed)
    wave = _Wave(network)
    source = evaluate_clips({"network": wave}, _clips("validation", seed, params["cache_dir"]), PROTOCOL, quiet=True)
    target = evaluate_clips({"network": wave}, _clips("test", seed, params["cache_dir"]), PROTOCOL, quiet=True)
    result = {"validation": source.rows()[0]["mae"], **_errors(target, "network")}
    if params.get("tables"):
        result |= _tables(wave, seed, params["cache_dir"])
    return result


def _errors(evaluation: PulseEvaluation, name: str) -> dict[str, float]:
    """The errors over all, and by scenario and skin type; harmonics are readings near twice or half the truth."""
    whole = next(row for row in evaluation.rows() if row["predictor"] == name)
    found, truth = evaluation.rates(name)
    ratio = found / truth
    result = {key: whole[key] for key in ("mae", "rmse", "rho", "snr_db", "macc", "coverage")}
    result["harmonics"] = float(((abs(ratio - 2) < 0.1) | (abs(ratio - 0.5) < 0.05)).mean())
    for by in ("scenario", "skin_type"):
        result |= {f"mae {row[by]}": row["mae"] for row in evaluation.rows(by) if row["predictor"] == name}
    return result


def _tables(wave: _Wave, seed: int, cache_dir: str) -> dict[str, float]:
    """Classical methods on the same films, the confidence calibrated on validation films, and compression."""
    test = _clips("test", seed, cache_dir)
    names = ("pos", "chrom")
    classical = evaluate_clips({name: classical_predictor(name) for name in names}, test, PROTOCOL, quiet=True)
    result = {f"{name} {key}": value for name in names for key, value in _errors(classical, name).items()}
    broad = films("validation", seed, EVERYTHING).clips(SIZE_PX, workers=1, cache_dir=cache_dir, quiet=True)
    confidence = calibrate_confidence(wave, broad, "validation films of every kind", quiet=True)
    signals, errors = judge_clips(wave, test, quiet=True)
    sure = confidence(signals)
    curve = coverage_curve(np.minimum(errors, 140.0), sure)
    for share in (0.25, 0.5, 0.75, 1.0):
        place = min(int(share * len(errors)), len(errors)) - 1
        result[f"mae at coverage {share:g}"] = float(curve.mae_bpm[place])
    given = sure >= confidence.threshold
    result["coverage at threshold"] = float(given.mean())
    result["right at threshold"] = float((errors[given] < RIGHT_BPM).mean()) if given.any() else np.nan
    for quality in QUALITIES:
        packed = films("test", seed, {"scenarios": ("still",), "skin_types": (1, 2, 3)}, count=45, jpeg=quality)
        clips = packed.clips(SIZE_PX, workers=1, cache_dir=cache_dir, quiet=True)
        both = {"network": wave, "pos": classical_predictor("pos")}
        for row in evaluate_clips(both, clips, PROTOCOL, quiet=True).rows():
            result[f"{row['predictor']} jpeg {quality}"] = row["mae"]
    return result


def main() -> None:
    """Run the study, and print and write what came out."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/out/rppg_domain_shift"))
    parser.add_argument("--max-minutes", type=float, default=60.0)
    arguments = parser.parse_args()
    begin, cache = time.monotonic(), str(arguments.out / "clips")

    def left() -> float:
        return max(0.0, arguments.max_minutes - (time.monotonic() - begin) / 60)

    def cell(
        mode: str, learning_rate: float, *, schedule: str = "static", frequency_weight: float = 0.0, stas: bool = True
    ) -> dict[str, Any]:
        return {
            "mode": mode,
            "learning_rate": learning_rate,
            "schedule": schedule,
            "frequency_weight": frequency_weight,
            "stas": stas,
            "cache_dir": cache,
            "tables": mode == "dff" and stas and not frequency_weight,
        }

    tuned = tune_then_compare(
        "rppg domain shift",
        run,
        {mode: [cell(mode, rate) for rate in LEARNING_RATES] for mode in FRONT_ENDS},
        metric="validation",
        better="lower",
        tuning_seeds=(TUNING_SEED,),
        seeds=SEEDS,
        out_dir=arguments.out / "headline",
        workers=2,
        threads=1,
        max_minutes=left(),
    )
    print(tuned.to_markdown())
    if not tuned.complete:
        raise SystemExit("time is up: run again, finished trainings are kept")
    verdict = judge(CLAIM, tuned.results.metrics)
    print(verdict)
    rate = LEARNING_RATES[tuned.chosen["dff"]]
    cells = {
        "time only": cell("dff", rate),
        "static hybrid": cell("dff", rate, schedule="static", frequency_weight=0.1),
        "dynamic hybrid": cell("dff", rate, schedule="cosine", frequency_weight=0.1),
        "dynamic hybrid, full weight": cell("dff", rate, schedule="cosine", frequency_weight=1.0),
        "without STAS": cell("dff", rate, stas=False),
    }
    tables = Study("rppg tables", run, cells, TABLE_SEEDS, arguments.out / "tables").execute(
        workers=2, threads=1, max_minutes=left()
    )
    print(tables.to_markdown())
    minutes = (time.monotonic() - begin) / 60
    summary = {"claim": verdict.to_dict(), "tuned": tuned.to_dict(), "tables": tables.to_dict(), "minutes": minutes}
    (arguments.out / "summary.json").write_text(json.dumps(summary, indent=1, default=vars) + "\n", encoding="utf-8")
    print(f"{minutes:.0f} minutes in this run")


if __name__ == "__main__":
    main()

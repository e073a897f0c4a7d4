"""What does an SDM head admit and reject, and how right is what it admits, against a threshold on the softmax?

Real images (scikit-learn's digits; 10,000 of MNIST with ``--data mnist``), pixels as features, one linear adaptor for
all methods. A test set is held out by the seed. Of the rest, half trains and half calibrates. Every method is asked for
alpha' = 0.95:

* no rejection: the softmax network, everything admitted;
* softmax: admitted where the highest probability is at least alpha';
* temperature: likewise, after temperature scaling on the calibration half;
* softmax, strictest 0.15: the threshold that admits 15 % of the calibration half, about what the SDM heads admit on the
  digits; added after they had been measured, to see what the accuracy owes to the small share alone;
* SDM, J = 1, and on the digits J = 10: the head of ``fit_sdm``; J even splits, the best run kept.

Measured on the test set: the accuracy among admitted images, the lowest accuracy by true or predicted class, the share
admitted. On inputs that are no digits of the set (uniform noise, rotated by 90 degrees, inverted): the share admitted;
rotated digits are partly still digits. Of the noise also the share with d = 0, the highest d, and the mean and highest
probability of the SDM activation's first class, which are to be 1, 0 and 1 / classes; of the test images the median d.

The settings below were chosen on the split of seed 100, which is not reported; seeds 0, 1, 2 are. Tried there: on the
digits learning rates 1e-3, 3e-3 and 1e-2, M 100 and 1,000, batches of 16 and 50, and five ways to train the rescaling;
on MNIST learning rates 3e-4, 1e-3 and 3e-3 and M 30 and 100. With a learning rate of 1e-3 on the digits, and all but
one of MNIST's settings, the SDM head admitted nothing at all. Means with 95 % t intervals; a cell that admits nothing
in a seed has no accuracy there, and so none in the mean. (Version 2 measures more of the noise; nothing else changed.)

    python benchmarks/sdm_rejection.py [--data digits|mnist] [--seeds 0 1 2] [--smoke]
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import real_data
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from robustvision.core.evaluation import Study, library_versions
from robustvision.core.methods import SDMSettings, fit_sdm, index_conditional_accuracy

ALPHA = 0.95
STRICT = 0.15
CLASSES = 10
OUT = Path(__file__).parent / "out"
SETTINGS = {
    "digits": SDMSettings(
        exemplar_size=100,
        epochs=50,
        batch_size=50,
        learning_rate=1e-2,
        alpha=ALPHA,
        rescaling_epochs=100,
        rescaling_batch_size=50,
        rescaling_learning_rate=3e-2,
    ),
    "mnist": SDMSettings(
        exemplar_size=100,
        epochs=20,
        batch_size=100,
        learning_rate=3e-3,
        alpha=ALPHA,
        rescaling_epochs=100,
        rescaling_batch_size=200,
        rescaling_learning_rate=3e-2,
    ),
}
RUNS = {"digits": 10, "mnist": 1}
SMOKE = {"epochs": 3, "rescaling_epochs": 5}


def load(data: str, seed: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Images [n, side, side] in [0, 1] and labels to learn from, and those to test with."""
    g = torch.Generator().manual_seed(seed)
    if data == "digits":
        loaded = real_data.digits()
        images, labels = torch.from_numpy(loaded.features).view(-1, 8, 8), torch.from_numpy(loaded.labels)
        order = torch.randperm(len(labels), generator=g)
        test, learn = order[:400], order[400:]
    else:
        loaded = real_data.mnist()
        images, labels = torch.from_numpy(loaded.features), torch.from_numpy(loaded.labels)
        learn = torch.randperm(60_000, generator=g)[:10_000]
        test = 60_000 + torch.randperm(10_000, generator=g)[:2_000]
    scale = 255.0 if images.dtype == torch.uint8 else 1.0
    return images[learn] / scale, labels[learn], images[test] / scale, labels[test]


def foreign(images: Tensor, seed: int) -> dict[str, Tensor]:
    """Inputs that are no digits of the set, in the shape of the test images."""
    g = torch.Generator().manual_seed(seed + 1000)
    return {"noise": torch.rand(images.shape, generator=g), "rotated": images.rot90(1, (1, 2)), "inverted": 1 - images}


class SoftmaxNet(nn.Module):
    """The SDM layer's adaptor, trained with cross-entropy; the epoch of the highest calibration accuracy is kept."""

    def __init__(
        self, x: Tensor, labels: Tensor, held_out: tuple[Tensor, Tensor], settings: SDMSettings, seed: int
    ) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.mean, self.std = x.mean(), x.std()
        self.net = nn.Sequential(
            nn.Linear(x.shape[1], settings.exemplar_size), nn.Linear(settings.exemplar_size, CLASSES)
        )
        optimizer = torch.optim.Adam(self.net.parameters(), lr=settings.learning_rate)
        best, best_state = -1.0, self.net.state_dict()
        for _ in range(settings.epochs):
            for rows in torch.randperm(len(labels)).split(settings.batch_size):
                optimizer.zero_grad()
                cross_entropy(self(x[rows]), labels[rows]).backward()
                optimizer.step()
            with torch.no_grad():
                accuracy = float((self(held_out[0]).argmax(1) == held_out[1]).float().mean())
            if accuracy >= best:
                best, best_state = accuracy, copy.deepcopy(self.net.state_dict())
        self.net.load_state_dict(best_state)
        self.requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        return self.net((x - self.mean) / self.std)


def temperature(logits: Tensor, labels: Tensor) -> float:
    """The temperature of the smallest negative log-likelihood, to 0.1 %."""
    grid = torch.logspace(-1.5, 1.5, 6909, dtype=torch.float64)
    losses = torch.stack([cross_entropy(logits.double() / t, labels) for t in grid])
    return float(grid[losses.argmin()])


def sureness(logits: Tensor) -> Tensor:
    """Log-odds of the most probable class: the highest probability itself saturates at 1."""
    log_p = logits.double().log_softmax(1).sort(dim=1, descending=True).values
    return log_p[:, 0] - log_p[:, 1:].logsumexp(1)


def measured(labels: Tensor, predictions: Tensor, admitted: Tensor, others: dict[str, Tensor]) -> dict[str, float]:
    accuracy = index_conditional_accuracy(labels, predictions, admitted, CLASSES)
    by_index = [value for value in accuracy["by_class"] + accuracy["by_prediction"] if not math.isnan(value)]
    return {
        "accuracy": accuracy["marginal"],
        "worst_class": min(by_index, default=math.nan),
        "admitted": float(admitted.double().mean()),
        **{f"admitted_{name}": float(mask.double().mean()) for name, mask in others.items()},
    }


def run(params: dict[str, Any], seed: int) -> dict[str, float]:
    """One method on one split."""
    settings = replace(SETTINGS[params["data"]], **(SMOKE if params["smoke"] else {}))
    images, labels, test_images, test_labels = load(params["data"], seed)
    x, test = images.flatten(1), test_images.flatten(1)
    others = {name: inputs.flatten(1) for name, inputs in foreign(test_images, seed).items()}
    if params["method"] == "sdm":
        return sdm_run(x, labels, test, test_labels, others, settings, params["runs"], seed)
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))  # as the first run of fit_sdm
    train, held_out = order[: len(order) // 2], order[len(order) // 2 :]
    net = SoftmaxNet(x[train], labels[train], (x[held_out], labels[held_out]), settings, seed)
    scale = temperature(net(x[held_out]), labels[held_out]) if params["method"] == "temperature" else 1.0
    least = {"none": -math.inf, "strict": float(sureness(net(x[held_out])).quantile(1 - STRICT))}

    def admitted(inputs: Tensor) -> Tensor:
        return sureness(net(inputs) / scale) >= least.get(params["method"], math.log(ALPHA / (1 - ALPHA)))

    found = measured(
        test_labels, net(test).argmax(1), admitted(test), {name: admitted(inputs) for name, inputs in others.items()}
    )
    return {**found, "temperature": scale}


def sdm_run(
    x: Tensor,
    labels: Tensor,
    test: Tensor,
    test_labels: Tensor,
    others: dict[str, Tensor],
    settings: SDMSettings,
    runs: int,
    seed: int,
) -> dict[str, float]:
    head = fit_sdm(x, labels, CLASSES, runs=runs, settings=settings, seed=seed).head
    decision, noise = head(test), head(others["noise"])
    predictions = decision.logits.argmax(1)
    return {
        **measured(
            test_labels,
            predictions,
            decision.admitted,
            {name: head(inputs).admitted for name, inputs in others.items()},
        ),
        "unrejected_accuracy": float((predictions == test_labels).double().mean()),
        "q_min": float(head.calibration.q_min),
        "median_d": float(decision.d.median()),
        "noise_share_d_0": float((noise.d == 0).double().mean()),
        "noise_highest_d": float(noise.d.max()),
        "noise_highest_probability": float(noise.probabilities.max()),
        "noise_mean_probability": float(noise.probabilities.amax(1).mean()),
        "noise_mean_q": float(noise.q.mean()),
    }


SHOWN = ["accuracy", "worst_class", "admitted", "admitted_noise", "admitted_rotated", "admitted_inverted"]
SHOWN_SDM = ["unrejected_accuracy", "q_min", "median_d"]
SHOWN_NOISE = [
    "noise_share_d_0",
    "noise_highest_d",
    "noise_mean_probability",
    "noise_highest_probability",
    "noise_mean_q",
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", choices=list(SETTINGS), default="digits")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--smoke", action="store_true", help="a few epochs, to see that it runs")
    arguments = parser.parse_args()
    begin = time.perf_counter()
    runs = RUNS[arguments.data]
    methods = {
        "no rejection": {"method": "none"},
        "softmax": {"method": "softmax"},
        "temperature": {"method": "temperature"},
        "softmax, strictest 0.15": {"method": "strict"},
        "SDM, J = 1": {"method": "sdm", "runs": 1},
        f"SDM, J = {runs}": {"method": "sdm", "runs": runs},
    }
    cells = {
        name: {**params, "data": arguments.data, "smoke": arguments.smoke, "version": 2}
        for name, params in methods.items()
    }
    name = f"sdm_rejection_{arguments.data}{'_smoke' if arguments.smoke else ''}"
    results = Study(name, run, cells, arguments.seeds, OUT / name).execute(threads=1)
    minutes = (time.perf_counter() - begin) / 60
    print(f"{arguments.data}, seeds {arguments.seeds}, alpha' {ALPHA}: mean [95 % t interval]\n")
    print(results.to_markdown(SHOWN))
    print()
    print(results.to_markdown(SHOWN_SDM))
    print()
    print(results.to_markdown(SHOWN_NOISE))
    print(f"\n{minutes:.1f} minutes")
    report = {**results.to_dict(), "minutes": minutes, "versions": library_versions()}
    (OUT / f"{name}.json").write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()

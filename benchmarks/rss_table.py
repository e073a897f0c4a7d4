"""How much do unlabelled samples of another distribution help a linear classifier? The table of the RSS paper.

mu0 and v are random unit vectors of 200 dimensions. m labelled samples are y mu0 + N(0, I), n unlabelled ones
y (mu0 + alpha v) + N(0, I). The accuracy on the labelled distribution is not sampled: it is Phi(cos(w, mu0)).

    python benchmarks/rss_table.py [--smoke]

The cited figures are the paper's (arXiv 2310.00027); its optimiser, lambda and g' are not known. Fixed before the first
table: plain ramp loss of slope 1 on the labelled samples, lambda 5, g' 0.25, Adam, learning rate 0.01, 200 steps, w of
length 1. What was tried before, on other draws at m 10 and alpha 0: g' 0.02 to 1 and infinite, lambda 0.2 to 50, slopes
0.5 and 2, 600 steps, learning rates 0.03 and 0.1. g' 0.25 was best at n 1,000 and as good as any at n 10,000; nothing
helped at n 100. The second table shows g' 0.5 and a plain loss on the pseudo-labels beside it, with and without the
length of w held.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize

from robustvision.core.evaluation import t_interval
from robustvision.core.evaluation.results import markdown_table
from robustvision.core.methods import fit_linear_rss

DIMENSIONS = 200
LABELLED = (10, 20, 40)
ALPHAS = (0.0, 0.5)
SETTING = {"g_out": 0.25, "weight": 5.0, "gamma": 1.0, "steps": 200, "learning_rate": 0.01}
MANY, LARGE = 10_000, 4_000
DRAWS, DRAWS_OF_LARGE = 40, 16  # a draw of 10,000 samples is 8 MB
CITED: dict[float, dict[int, dict[str, float]]] = {
    0.0: {
        10: {"0": 0.59, "m": 0.63, "10m": 0.66, "100m": 0.79, "10000": 0.82},
        20: {"0": 0.62, "m": 0.64, "10m": 0.69, "100m": 0.80, "10000": 0.82},
        40: {"0": 0.65, "m": 0.65, "10m": 0.71, "100m": 0.81, "10000": 0.82},
    },
    0.5: {
        10: {"0": 0.59, "m": 0.61, "10m": 0.65, "100m": 0.78, "10000": 0.81},
        20: {"0": 0.62, "m": 0.65, "10m": 0.65, "100m": 0.79, "10000": 0.80},
        40: {"0": 0.65, "m": 0.65, "10m": 0.73, "100m": 0.78, "10000": 0.80},
    },
}
CITED_ALL_LABELLED = 0.83
ABLATION = {
    "g' 0.25": {},
    "g' 0.25, length free": {"unit_norm": False},
    "g' 0.5": {"g_out": 0.5},
    "plain loss on pseudo-labels": {"g_out": math.inf},
    "plain loss on pseudo-labels, length free": {"g_out": math.inf, "unit_norm": False},
}
OUT = Path(__file__).parent / "out" / "rss_table.json"


def draw(draws: int, m: int, n: int, alpha: float, seed: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """mu0 [draws, d], labelled samples and their classes, and unlabelled samples, for all draws at once."""
    generator = torch.Generator().manual_seed(seed)
    mu0, v = (normalize(torch.randn(draws, DIMENSIONS, generator=generator), dim=1) for _ in range(2))
    y = torch.where(torch.rand(draws, m, generator=generator) < 0.5, -1.0, 1.0)
    x = torch.randn(draws, m, DIMENSIONS, generator=generator) + y[..., None] * mu0[:, None]
    x_out = torch.randn(draws, n, DIMENSIONS, generator=generator)
    y_out = torch.where(torch.rand(draws, n, generator=generator) < 0.5, -1.0, 1.0)
    return mu0, x, y, x_out.addcmul_(y_out[..., None], (mu0 + alpha * v)[:, None])


def accuracies(w: Tensor, mu0: Tensor) -> Tensor:
    """P(y w.x > 0), [draws]."""
    return torch.special.ndtr(torch.cosine_similarity(w, mu0, dim=1))


def measure(m: int, n: int, alpha: float, draws: int, seed: int, settings: dict[str, Any]) -> list[float]:
    mu0, x, y, x_out = draw(draws, m, n, alpha, seed)
    return accuracies(fit_linear_rss(x, y, x_out if n else None, **(SETTING | settings)), mu0).tolist()


def main_table(draws: int, large: int) -> list[dict[str, Any]]:
    """The paper's table, a row a cell."""
    rows = []
    for alpha, by_m in CITED.items():
        for m, cited in by_m.items():
            for column, n in (("0", 0), ("m", m), ("10m", 10 * m), ("100m", 100 * m), ("10000", MANY)):
                if column == "0" and alpha:
                    continue  # no unlabelled samples, no shift
                values = measure(m, n, alpha, large if n > LARGE else draws, seed=1, settings={})
                row = {"alpha": alpha, "m": m, "n": n, "cited": cited[column], "accuracy": t_interval(values)}
                print(*(f"{name} {value}" for name, value in row.items()), flush=True)
                rows.append(row | {"values": values})
    values = measure(MANY, 0, 0.0, large, seed=1, settings={})
    rows.append(
        {"alpha": 0.0, "m": MANY, "n": 0, "cited": CITED_ALL_LABELLED, "accuracy": t_interval(values), "values": values}
    )
    return rows


def ablation_table(draws: int, large: int) -> list[dict[str, Any]]:
    """What holds the effect up, at m 10 and alpha 0."""
    rows = []
    for name, settings in ABLATION.items():
        row: dict[str, Any] = {"setting": name}
        for n in (100, 1_000, MANY):
            row[f"n {n}"] = t_interval(measure(10, n, 0.0, large if n > LARGE else draws, seed=2, settings=settings))
        print(row["setting"], *list(row.values())[1:], sep=" | ", flush=True)
        rows.append(row)
    return rows


def mean_of_labelled(m: int) -> float:
    """The expected accuracy of the mean of y x, to first order: a yardstick for what m labels are worth."""
    return float(torch.special.ndtr(torch.tensor(1 / math.sqrt(1 + DIMENSIONS / m))))


def main() -> None:
    """Measure, print and write both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smoke", action="store_true", help="three draws a cell, to see that it runs")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    begin, cpu = time.monotonic(), time.process_time()
    draws, large = (3, 2) if arguments.smoke else (DRAWS, DRAWS_OF_LARGE)
    table, ablation = main_table(draws, large), ablation_table(draws, large)
    yardstick = {m: mean_of_labelled(m) for m in (*LABELLED, 80, MANY)}
    minutes, cpu_minutes = (time.monotonic() - begin) / 60, (time.process_time() - cpu) / 60
    print(markdown_table([{k: v for k, v in row.items() if k != "values"} for row in table]))
    print(markdown_table(ablation))
    print("mean of m labelled samples:", {m: round(value, 3) for m, value in yardstick.items()})
    OUT.parent.mkdir(exist_ok=True)
    content = {
        "setting": SETTING,
        "draws": draws,
        "draws of n 10000": large,
        "table": table,
        "ablation": ablation,
        "mean of labelled": yardstick,
        "minutes": minutes,
        "cpu minutes": cpu_minutes,
    }
    name = OUT.with_name("rss_table_smoke.json") if arguments.smoke else OUT
    name.write_text(json.dumps(content, indent=1, default=vars) + "\n", encoding="utf-8")
    print(f"{minutes:.1f} minutes, {cpu_minutes:.1f} of them on the core; {draws} draws a cell ({large} of n 10,000)")


if __name__ == "__main__":
    main()

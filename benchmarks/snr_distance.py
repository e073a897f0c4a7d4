"""What does the SNR distance cost beside pytorch-metric-learning's? Time and peak memory, forward and backward.

Both measure all pairs of B 1,024 embeddings of D 512, and sum them up; ours also B 4,096, alone and inside of each pair
loss, where theirs would need 32 GiB for the differences alone. Each is measured in a process of its own, one after the
other. Memory is the highest sum of torch's own allocations during a step; the embeddings, which are there before, are
not counted. pytorch-metric-learning 2.9 needs about 6 GiB, and the whole about 5 minutes.

    python benchmarks/snr_distance.py [--repeats 10] [--threads 1] [--smoke]
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from margin_losses import peak_mib
from torch import Tensor

from robustvision.core.losses import (
    contrastive_loss,
    lifted_structure_loss,
    n_pair_loss,
    snr_distance,
    triplet_loss,
)

SIZE, CLASSES = 512, 64
SMALL, LARGE = 1_024, 4_096
OURS, THEIRS = "ours", "pytorch-metric-learning"
LOSSES = {
    "contrastive": contrastive_loss,
    "triplet": triplet_loss,
    "lifted structure": lifted_structure_loss,
    "N-pair": n_pair_loss,
}
OUT = Path(__file__).parent / "out" / "snr_distance.json"


class Step:
    """Forward and backward of a function of embeddings."""

    def __init__(self, batch: int, function: Callable[[Tensor], Tensor]) -> None:
        self.embeddings = torch.randn(batch, SIZE, generator=torch.Generator().manual_seed(0)).requires_grad_()
        self.function = function

    def clear(self) -> None:
        self.embeddings.grad = None

    def __call__(self) -> None:
        self.function(self.embeddings).sum().backward()


def function_of(name: str, batch: int) -> Callable[[Tensor], Tensor]:
    if name == OURS:
        return snr_distance
    if name == THEIRS:
        from pytorch_metric_learning.distances import SNRDistance

        return SNRDistance(normalize_embeddings=False)
    labels = torch.arange(batch) % CLASSES
    return lambda embeddings: LOSSES[name](embeddings, labels)


def measure(name: str, batch: int, repeats: int) -> dict[str, object]:
    step = Step(batch, function_of(name, batch))
    seconds = []
    for repeat in range(repeats + 1):
        step.clear()
        start = time.perf_counter()
        step()
        if repeat:  # the first is the warm-up
            seconds.append(time.perf_counter() - start)
    return {
        "name": name,
        "batch": batch,
        "milliseconds": 1e3 * statistics.median(seconds),
        "shortest_milliseconds": 1e3 * min(seconds),
        "peak_mib": peak_mib(step),
    }


def measure_apart(name: str, batch: int, repeats: int, threads: int) -> dict[str, object]:
    """In a process of its own, so that memory is given back before the next."""
    command = [sys.executable, __file__, "--repeats", str(repeats), "--threads", str(threads)]
    done = subprocess.run([*command, "--one", name, str(batch)], capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--smoke", action="store_true", help="tiny batches, to try the script")
    parser.add_argument("--one", nargs=2, metavar=("NAME", "BATCH"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.one:
        name, batch = arguments.one
        print(json.dumps(measure(name, int(batch), arguments.repeats)))
        return

    begin = time.perf_counter()
    small, large = (64, 128) if arguments.smoke else (SMALL, LARGE)
    few = min(3, arguments.repeats)  # theirs takes seconds
    cells = [(OURS, small, arguments.repeats), (THEIRS, small, few), (OURS, large, few)]
    cells += [(name, large, few) for name in LOSSES]
    rows = [measure_apart(*cell, arguments.threads) for cell in cells]
    ours, theirs = rows[:2]
    ratios = {
        "time": theirs["milliseconds"] / ours["milliseconds"],
        "shortest_time": theirs["shortest_milliseconds"] / ours["shortest_milliseconds"],
        "memory": theirs["peak_mib"] / ours["peak_mib"],
    }
    print(f"D {SIZE}, {arguments.threads} threads, forward and backward")
    print(f"{'':26}{'B':>7}{'ms':>11}{'shortest':>11}{'peak MiB':>11}")
    for row in rows:
        print(
            f"{row['name']:26}{row['batch']:7,}{row['milliseconds']:11.1f}{row['shortest_milliseconds']:11.1f}"
            f"{row['peak_mib']:11.1f}"
        )
    print(
        f"at B {small:,} theirs takes {ratios['time']:.0f} times the time ({ratios['shortest_time']:.0f} by the "
        f"shortest) and {ratios['memory']:.0f} times the memory"
    )
    print(f"{(time.perf_counter() - begin) / 60:.1f} minutes")
    if not arguments.smoke:
        OUT.parent.mkdir(exist_ok=True)
        machine = {"torch": torch.__version__, "processor": platform.machine(), "threads": arguments.threads}
        OUT.write_text(json.dumps({"machine": machine, "size": SIZE, "rows": rows, "ratios": ratios}, indent=2) + "\n")


if __name__ == "__main__":
    main()

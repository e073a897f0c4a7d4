"""What does a margin loss cost beside plain cosine cross-entropy? Time and peak memory of a training step.

A step is forward and backward from embeddings [256, 512] through ``CosineHead`` and the loss, at the number of classes
of CASIA-WebFace and of MS1MV2. All losses take turns in one run. Ratios are of the medians, and of the shortest times,
which suffer less from other work on the machine. Memory is the highest sum of torch's own allocations during a step;
the centres themselves, which are there before, are not counted.

    python benchmarks/margin_losses.py [--repeats 15] [--threads 2]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

os.environ.setdefault("KINETO_LOG_LEVEL", "9")  # the profiler is talkative
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, linear, normalize
from torch.profiler import ProfilerActivity, profile

from robustvision.core.losses import (
    CosineHead,
    arcface_loss,
    combined_margin_loss,
    cosface_loss,
    normalized_softmax_loss,
    sface_diagnostics,
    sface_loss,
)

Loss = Callable[[Tensor, Tensor], Tensor]

BATCH, SIZE = 256, 512
CLASSES = (10_572, 85_742)
REFERENCE = "cross-entropy"
OUT = Path(__file__).parent / "out" / "margin_losses.json"


def plain_head(embeddings: Tensor, head: CosineHead) -> Tensor:
    """The head as it is usually written, to show what ``CosineHead`` saves."""
    return linear(normalize(embeddings), normalize(head.centres))


class Step:
    """Forward and backward of one loss; every loss works on the same embeddings, centres and labels."""

    def __init__(
        self, head: CosineHead, embeddings: Tensor, labels: Tensor, loss: Loss, *, plain: bool = False
    ) -> None:
        self.head, self.embeddings, self.labels, self.loss = head, embeddings, labels, loss
        self.cosines = partial(plain_head, head=head) if plain else head

    def clear(self) -> None:
        self.embeddings.grad = self.head.centres.grad = None

    def __call__(self) -> None:
        self.loss(self.cosines(self.embeddings), self.labels).backward()


def plain_loss(cosines: Tensor, labels: Tensor) -> Tensor:
    return cross_entropy(64.0 * cosines, labels)


def watched_loss(cosines: Tensor, labels: Tensor) -> Tensor:
    sface_diagnostics(cosines, labels)
    return sface_loss(cosines, labels)


def steps(classes: int) -> dict[str, Step]:
    """The step of every loss."""
    torch.manual_seed(0)
    head = CosineHead(classes, SIZE)
    embeddings = torch.randn(BATCH, SIZE, requires_grad=True)
    labels = torch.randint(0, classes, (BATCH,))

    losses: dict[str, Loss] = {
        REFERENCE: plain_loss,
        "SFace": sface_loss,
        "normalised softmax": normalized_softmax_loss,
        "CosFace": cosface_loss,
        "ArcFace": arcface_loss,
        "combined, filtered": partial(combined_margin_loss, filter_above=0.4),
        "SFace with diagnostics": watched_loss,
    }
    named = {name: Step(head, embeddings, labels, loss) for name, loss in losses.items()}
    named["cross-entropy, plain head"] = Step(head, embeddings, labels, plain_loss, plain=True)
    return named


def seconds_of(named: dict[str, Step], repeats: int) -> dict[str, list[float]]:
    """Every step has its turn in every repeat, so that a slow moment hits all alike."""
    seconds: dict[str, list[float]] = {name: [] for name in named}
    for repeat in range(repeats + 1):
        for name, step in named.items():
            step.clear()
            start = time.perf_counter()
            step()
            if repeat:  # the first is the warm-up
                seconds[name].append(time.perf_counter() - start)
    return seconds


def peak_mib(step: Step) -> float:
    """The highest sum of allocations during a step, from torch's allocator."""
    step.clear()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        step()
    events = [event for event in profiler.profiler.kineto_results.events() if event.name() == "[memory]"]
    held = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        held += event.nbytes()
        peak = max(peak, held)
    return peak / 2**20


def measure(classes: int, repeats: int) -> list[dict[str, float | str]]:
    named = steps(classes)
    seconds = seconds_of(named, repeats)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    peaks = {name: peak_mib(step) for name, step in named.items()}
    return [
        {
            "loss": name,
            "milliseconds": 1e3 * medians[name],
            "time_ratio": medians[name] / medians[REFERENCE],
            "shortest_ratio": min(seconds[name]) / min(seconds[REFERENCE]),
            "peak_mib": peaks[name],
            "memory_ratio": peaks[name] / peaks[REFERENCE],
        }
        for name in named
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    results = {classes: measure(classes, arguments.repeats) for classes in CLASSES}
    for classes, rows in results.items():
        print(f"\nB {BATCH}, d {SIZE}, C {classes:,}, {arguments.threads} threads; ratios to {REFERENCE}")
        print(f"{'':28}{'ms':>9}{'ratio':>8}{'shortest':>10}{'MiB':>9}{'ratio':>8}")
        for row in rows:
            print(
                f"{row['loss']:28}{row['milliseconds']:9.1f}{row['time_ratio']:8.2f}{row['shortest_ratio']:10.2f}"
                f"{row['peak_mib']:9.1f}{row['memory_ratio']:8.2f}"
            )
    OUT.parent.mkdir(exist_ok=True)
    machine = {"torch": torch.__version__, "processor": platform.machine(), "threads": arguments.threads}
    OUT.write_text(json.dumps({"machine": machine, "batch": BATCH, "size": SIZE, "classes": results}, indent=2) + "\n")


if __name__ == "__main__":
    main()

"""What does each loss over classes cost beside torch's cross-entropy? Time and peak memory of forward and backward.

Logits [256, K] of 1,000 and 100,000 classes, float32. All losses take turns in one run. Ratios are to
``torch.nn.functional.cross_entropy``: of the medians, and of the shortest times, which suffer less from other work on
the machine. As the activations of any network do, something larger is allocated and freed first: it makes glibc keep
freed memory. Without it every fresh megabyte comes from the system, page by page, the reference's too. Memory is the
highest sum of torch's own allocations during a step; the logits themselves, which are there before, are not counted,
their gradient is.

With ``--compile`` all of them, the reference too, go through ``torch.compile``, which fuses the passes over the scores.

Below stand the times of bare operations of torch on scores of that size, without gradient: what a loss cannot do
without, it cannot be faster than.

The target is at most 2 for both. Marked are the losses that need more than a pass over the scores: a sort (LDR-k), an
iteration (the tempered softmax; ALDR's exact temperature).

    python benchmarks/classification_losses.py [--repeats 7] [--threads 2] [--classes 1000 100000] [--compile]
        [--only ALDR "LDR softplus"]
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
from torch.nn.functional import cross_entropy
from torch.profiler import ProfilerActivity, profile

from robustvision.core import losses

BATCH, CLASSES = 256, (1_000, 100_000)
LARGER = 31 * 2**18  # in float32; glibc adapts itself to blocks of at most 32 MiB
REFERENCE = "torch cross_entropy"
OUT = Path(__file__).parent / "out" / "classification_losses.json"
OPERATIONS = {"softmax": partial(torch.softmax, dim=1), "log": torch.log}
OPERATIONS |= {"softplus": torch.nn.functional.softplus, "sigmoid": torch.sigmoid}
NEEDS_MORE = {"LDR-k": "sort", "bi-tempered": "iteration", "ALDR exact": "iteration"}

Loss = Callable[[Tensor, Tensor], Tensor]


def named_losses() -> dict[str, Loss]:
    """Every loss over classes with its default settings."""
    index = torch.randperm(10_000)[:BATCH]
    aldr = losses.ALDRLoss(10_000)
    robust = losses.SampleDRO(losses.CrossEntropyLoss(reduction="none"), lam=1.0)
    return {
        REFERENCE: cross_entropy,
        "cross-entropy": losses.cross_entropy_loss,
        "focal": losses.focal_loss,
        "MAE": losses.mae_loss,
        "MSE": losses.mse_loss,
        "GCE": losses.gce_loss,
        "truncated GCE": losses.truncated_gce_loss,
        "SCE": losses.sce_loss,
        "RCE": losses.rce_loss,
        "JS": losses.js_loss,
        "RLL": losses.rll_loss,
        "NCE": losses.nce_loss,
        "NFL": losses.nfl_loss,
        "NGCE": losses.ngce_loss,
        "AGCE": losses.agce_loss,
        "AUL": losses.aul_loss,
        "AEL": losses.ael_loss,
        "NCE+RCE": losses.nce_rce_loss,
        "NCE+AGCE": losses.nce_agce_loss,
        "NCE+AUL": losses.nce_aul_loss,
        "Crammer-Singer": losses.crammer_singer_loss,
        "Weston-Watkins": losses.weston_watkins_loss,
        "comp-sum 1.7": lambda f, y: losses.comp_sum_loss(f, y, 1.7),
        "LDR raw": lambda f, y: losses.ldr_loss(f, y, normalize="none"),
        "LDR L1": lambda f, y: losses.ldr_loss(f, y, normalize="l1"),
        "LDR softplus": losses.ldr_loss,
        "ALDR": lambda f, y: aldr(f, y, index=index),
        "DRO over samples": robust,
        "LDR-k": losses.ldr_k_loss,
        "bi-tempered": losses.bi_tempered_loss,
        "ALDR exact": losses.ALDRLoss(exact=True),
    }


def seconds_of(named: dict[str, Loss], logits: Tensor, target: Tensor, repeats: int) -> dict[str, list[float]]:
    """Every loss has its turn in every repeat, so that a slow moment hits all alike."""
    seconds: dict[str, list[float]] = {name: [] for name in named}
    for repeat in range(repeats + 1):
        for name, loss in named.items():
            logits.grad = None
            start = time.perf_counter()
            loss(logits, target).backward()
            if repeat:  # the first is the warm-up
                seconds[name].append(time.perf_counter() - start)
    return seconds


def operations_ms(classes: int, repeats: int) -> dict[str, float]:
    """Median milliseconds of bare operations on probabilities, each called in turn."""
    values = torch.rand(BATCH, classes)
    seconds: dict[str, list[float]] = {name: [] for name in OPERATIONS}
    for _ in range(repeats):
        for name, operation in OPERATIONS.items():
            start = time.perf_counter()
            operation(values)
            seconds[name].append(time.perf_counter() - start)
    return {name: 1e3 * statistics.median(found) for name, found in seconds.items()}


def peak_mib(loss: Loss, logits: Tensor, target: Tensor) -> float:
    """The highest sum of allocations during a step, from torch's allocator."""
    logits.grad = None
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        loss(logits, target).backward()
    events = [event for event in profiler.profiler.kineto_results.events() if event.name() == "[memory]"]
    held = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        held += event.nbytes()
        peak = max(peak, held)
    return peak / 2**20


def measure(classes: int, repeats: int, compiles: bool, only: list[str]) -> list[dict[str, float | str]]:
    torch.manual_seed(0)
    torch.ones(LARGER)
    logits = torch.randn(BATCH, classes).mul_(3).requires_grad_()
    target = torch.randint(0, classes, (BATCH,))
    named = {name: loss for name, loss in named_losses().items() if not only or name in (REFERENCE, *only)}
    if compiles:
        torch.compiler.reset()
        named = {name: torch.compile(loss, fullgraph=True) for name, loss in named.items()}
    seconds = seconds_of(named, logits, target, repeats)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    peaks = {name: peak_mib(loss, logits, target) for name, loss in named.items()}
    return [
        {
            "loss": name,
            "needs": NEEDS_MORE.get(name, ""),
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
    parser.add_argument("--repeats", type=int, default=7, help="at 100,000 classes; 20 times as many at 1,000")
    parser.add_argument("--classes", type=int, nargs="+", default=CLASSES)
    parser.add_argument("--compile", action="store_true", help="all through torch.compile; needs a C++ compiler")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--only", nargs="+", default=[], choices=named_losses(), help="these beside the reference")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    repeats = {classes: arguments.repeats * (20 if classes < 10_000 else 1) for classes in arguments.classes}
    results = {
        classes: measure(classes, count, arguments.compile, arguments.only) for classes, count in repeats.items()
    }
    operations = {classes: operations_ms(classes, count) for classes, count in repeats.items()}
    for classes, rows in results.items():
        how = f"{arguments.threads} threads{', compiled' * arguments.compile}"
        print(f"\nB {BATCH}, K {classes:,}, {how}; ratios to {REFERENCE}")
        print(f"{'':22}{'ms':>9}{'ratio':>8}{'shortest':>10}{'MiB':>9}{'ratio':>8}")
        for row in rows:
            print(
                f"{row['loss']:22}{row['milliseconds']:9.2f}{row['time_ratio']:8.2f}{row['shortest_ratio']:10.2f}"
                f"{row['peak_mib']:9.1f}{row['memory_ratio']:8.2f}  {row['needs']}"
            )
        print("bare operations, ms: " + ", ".join(f"{name} {ms:.2f}" for name, ms in operations[classes].items()))
    OUT.parent.mkdir(exist_ok=True)
    machine = {"torch": torch.__version__, "processor": platform.machine(), "threads": arguments.threads}
    out = OUT.with_stem(f"{OUT.stem}_compiled") if arguments.compile else OUT
    written = {"machine": machine, "batch": BATCH, "classes": results, "operations_ms": operations}
    out.write_text(json.dumps(written, indent=2) + "\n")


if __name__ == "__main__":
    main()

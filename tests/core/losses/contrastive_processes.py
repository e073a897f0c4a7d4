"""One of several processes that take contrastive steps together; a module, so that a new process finds it."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn

from robustvision.core.losses import BimodalISogCLRLoss, ISogCLRLoss, NTXentLoss

LOSSES = {"unimodal": ISogCLRLoss, "bimodal": BimodalISogCLRLoss}
SAMPLES, STEPS = 20, 3


def batches() -> list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    """Two inputs and the ids of each step, for all processes together."""
    generator = torch.Generator().manual_seed(0)
    found = []
    for step in range(STEPS):
        first = torch.randn(7, 5, generator=generator)
        second = first + 0.5 * torch.randn(7, 5, generator=generator)
        found.append((first, second, torch.randperm(SAMPLES, generator=generator)[:7] if step else torch.arange(7)))
    return found


def train(kind: str, parts: list[slice], rank: int) -> dict[str, object]:
    """Take the steps on this process's part of each batch; the gradients are averaged as DDP does."""
    torch.manual_seed(1)
    network = nn.Linear(5, 4)
    loss = LOSSES[kind](SAMPLES, 0.1, 0.01, 1.0, rho=0.4)
    values = []
    for first, second, index in batches():
        part = parts[rank]
        value = loss(network(first[part]), network(second[part]), index=index[part])
        value = value + 0.1 * NTXentLoss()(network(first[part]), network(second[part]))
        network.zero_grad()
        value.backward()
        with torch.no_grad():
            for parameter in network.parameters():
                if len(parts) > 1:
                    dist.all_reduce(parameter.grad)
                parameter -= 0.1 * parameter.grad / len(parts)
        values.append(value.item())
    return {"values": values, "state": loss.state_dict(), "network": network.state_dict()}


def train_one_of(rank: int, kind: str, parts: list[slice], folder: Path) -> None:
    """Train as one of several processes, and save what came out."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=len(parts))
    try:
        torch.save(train(kind, parts, rank), folder / f"{rank}.pt")
    finally:
        dist.destroy_process_group()

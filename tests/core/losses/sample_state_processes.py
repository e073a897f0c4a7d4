"""One of two processes that write into a SampleState and train with ALDR; a module, so that a new process finds it."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.distributed as dist

from robustvision.core.losses import ALDRLoss, SampleState


def batches(step: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Logits, labels and places of both processes' samples; the second step has a sample twice."""
    generator = torch.Generator().manual_seed(step)
    places = torch.randperm(20, generator=generator)[:7]
    if step == 1:
        places[6] = places[0]
    return torch.randn(7, 5, generator=generator), torch.randint(0, 5, (7,), generator=generator), places


def train(part: slice) -> dict[str, object]:
    """Three steps on a part of each batch, and a raw write with a value that is not finite."""
    loss, values = ALDRLoss(20, lam0=0.5, reduction="none"), []
    for step in range(3):
        logits, labels, places = (tensor[part] for tensor in batches(step))
        values.append(loss(logits, labels, index=places))
    state = SampleState(20, a=0.0, b=1.0)
    logits, _, places = (tensor[part] for tensor in batches(1))
    state.write(places, a=logits[:, 0], b=logits[:, 1].log())
    return {"values": values, "aldr": loss.state_dict(), "state": state.state_dict()}


def train_one_of(rank: int, folder: Path) -> None:
    """Train as one of two processes with unequal parts, and save what came out."""
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    torch.save(train([slice(0, 4), slice(4, 7)][rank]), folder / f"{rank}.pth")
    dist.destroy_process_group()

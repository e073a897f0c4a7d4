"""Many small networks trained as one: their weights are stacked, so a step of hundreds costs little more than of one.

Every network of a stack has data, labels, start weights and a learning rate of its own; loss and schedule are common.
A network that diverges hurts no other, since nothing is shared but the loops.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Stack:
    """What M networks learn from; all have the same number of samples.

    Attributes:
        features: [N, d] float32, the pool that all draw from.
        places: [M, n] int64, the rows that each network trains on.
        labels: [M, n] int64, what it is told.
        learning_rates: [M] float32.
        seeds: [M] int: networks of equal seed start from the same weights and see the same order.
    """

    features: Tensor
    places: Tensor
    labels: Tensor
    learning_rates: Tensor
    seeds: tuple[int, ...]


@dataclass(frozen=True)
class Schedule:
    """How the networks are trained, by SGD with momentum 0.9.

    Attributes:
        widths: Sizes of the layers, from features to classes.
        activation: Between the layers, "tanh" or "relu".
        epochs: Number of epochs; the last batch of one is left out where it is not full.
        batch: Samples in a batch.
        drops: Epochs at which the learning rate falls to a tenth.
        weight_decay: L2.
        clip: Gradients are clipped to this, element by element; None for not at all.
    """

    widths: tuple[int, ...]
    activation: str
    epochs: int
    batch: int
    drops: tuple[int, ...]
    weight_decay: float
    clip: float | None = None


@dataclass
class StackedMLP:
    """M multilayer perceptrons: weights [M, in, out] and biases [M, 1, out], layer after layer."""

    weights: list[Tensor]
    biases: list[Tensor]
    activation: Callable[[Tensor], Tensor]

    def __call__(self, x: Tensor) -> Tensor:
        """Scores [M, B, K] of inputs [M, B, d], or of [B, d] that all share."""
        x = x.expand(len(self.weights[0]), *x.shape[-2:])
        for weight, bias in zip(self.weights[:-1], self.biases[:-1], strict=True):
            x = self.activation(torch.baddbmm(bias, x, weight))
        return torch.baddbmm(self.biases[-1], x, self.weights[-1])

    def parameters(self) -> Iterator[Tensor]:
        yield from self.weights
        yield from self.biases


def initial_networks(seeds: tuple[int, ...], schedule: Schedule) -> StackedMLP:
    """Xavier-normal weights and zero biases, from one generator a seed."""
    drawn: dict[int, list[Tensor]] = {}
    for seed in set(seeds):
        generator = torch.Generator().manual_seed(seed)
        drawn[seed] = [
            torch.randn(fan_in, fan_out, generator=generator) * math.sqrt(2 / (fan_in + fan_out))
            for fan_in, fan_out in zip(schedule.widths[:-1], schedule.widths[1:], strict=True)
        ]
    layers = [torch.stack(layer) for layer in zip(*(drawn[seed] for seed in seeds), strict=True)]
    return StackedMLP(
        [layer.requires_grad_() for layer in layers],
        [torch.zeros(len(seeds), 1, layer.shape[2], requires_grad=True) for layer in layers],
        {"tanh": torch.tanh, "relu": torch.relu}[schedule.activation],
    )


def train_stack(
    stack: Stack,
    schedule: Schedule,
    loss: nn.Module,
    *,
    after_epoch: Callable[[int, StackedMLP], None] | None = None,
) -> StackedMLP:
    """Train a stack.

    Args:
        stack: The data.
        schedule: The training.
        loss: A loss over classes with reduction "none". The index of sample j of network m is m * n + j.
        after_epoch: Called with the number of the epoch, from 1, and the networks.

    Returns:
        The trained networks.
    """
    networks, count = initial_networks(stack.seeds, schedule), stack.places.shape[1]
    size = len(stack.seeds)
    parameters = list(networks.parameters())
    velocity = [torch.zeros_like(parameter) for parameter in parameters]
    orders = {seed: torch.Generator().manual_seed(10_000 + seed) for seed in set(stack.seeds)}
    offsets = torch.arange(size)[:, None] * count
    rates = stack.learning_rates[:, None, None].clone()
    for epoch in range(1, schedule.epochs + 1):
        shuffled = {seed: torch.randperm(count, generator=generator) for seed, generator in orders.items()}
        order = torch.stack([shuffled[seed] for seed in stack.seeds])
        for start in range(0, count - schedule.batch + 1, schedule.batch):
            chosen = order[:, start : start + schedule.batch]
            logits = networks(stack.features[stack.places.gather(1, chosen)])
            labels = stack.labels.gather(1, chosen)
            losses = loss(logits.flatten(0, 1), labels.flatten(), index=(offsets + chosen).flatten())
            gradients = torch.autograd.grad(losses.sum() / schedule.batch, parameters)
            with torch.no_grad():
                for parameter, gradient, speed in zip(parameters, gradients, velocity, strict=True):
                    if schedule.clip is not None:
                        gradient = gradient.clamp_(-schedule.clip, schedule.clip)
                    speed.mul_(0.9).add_(gradient.add(parameter, alpha=schedule.weight_decay))
                    parameter.sub_(rates * speed)
        if epoch in schedule.drops:
            rates /= 10
        if after_epoch is not None:
            after_epoch(epoch, networks)
    return networks


@torch.no_grad()
def top_k_accuracies(networks: StackedMLP, features: Tensor, labels: Tensor, largest: int = 5) -> Tensor:
    """Top-1 to top-k accuracy in percent of every network, [M, k]; a network with NaN scores is never right.

    Args:
        networks: M networks.
        features: [M, n, d], or [n, d] that all share.
        labels: [M, n] or [n].
        largest: k.
    """
    hits = []
    for part in torch.arange(features.shape[-2]).split(512):
        scores = networks(features[..., part, :])
        own = scores.gather(2, labels[..., part].expand(len(scores), -1)[..., None])
        rank = (scores > own).sum(2)  # ties go to the own class
        rank = rank.masked_fill(~scores.isfinite().all(2), scores.shape[2])
        hits.append(torch.stack([rank < k for k in range(1, largest + 1)], dim=2))
    return 100 * torch.cat(hits, dim=1).double().mean(1)

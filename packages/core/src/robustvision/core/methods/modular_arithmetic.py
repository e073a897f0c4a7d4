"""Corrupted modular arithmetic: a small task in which memorising and generalising can be told apart to the sample.

The task is z = (m + n) mod p over all pairs, split by a seed, with a share of the training labels redrawn and the truth
kept (:func:`modular_addition`). A two-layer network with a quadratic activation (:class:`QuadraticNet`) is trained on
the whole training set at once (:func:`train_modular`); four numbers say what it did with right, wrong and unseen pairs,
and name the phase (:func:`grokking_phase`). Neurons that generalise are periodic in m and n, which the inverse
participation ratio of their weights shows.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss, one_hot

from robustvision.core.errors import InputError

Phase = Literal["coexistence", "partial inversion", "full inversion", "memorisation", "forgetting"]

GENERALISES, FITS, NEAR = 0.9, 0.98, 0.02
"""From which test accuracy a network generalises; from which training accuracy it fits all labels; how near counts."""


@dataclass(frozen=True)
class ModularTask:
    """All pairs of residues, split into training and test pairs; a pair is two one-hot vectors side by side.

    Attributes:
        p: The modulus, and the number of classes.
        train_inputs: [n_train, 2 p] float32.
        train_labels: [n_train] int64, as training is told.
        train_truth: [n_train] int64, (m + n) mod p.
        test_inputs: [n_test, 2 p] float32.
        test_labels: [n_test] int64; test labels are right.
    """

    p: int
    train_inputs: Tensor
    train_labels: Tensor
    train_truth: Tensor
    test_inputs: Tensor
    test_labels: Tensor

    @property
    def is_wrong(self) -> Tensor:
        """Which training labels are wrong, bool [n_train]: a redrawn label may have come out right."""
        return self.train_labels != self.train_truth


@dataclass(frozen=True)
class ModularScores:
    """What a network makes of the task; all shares.

    Attributes:
        train_accuracy: Training pairs predicted as labelled, wrong labels included.
        recovered: Training pairs with a wrong label that are predicted right; NaN without any.
        memorised: Training pairs with a wrong label that are predicted as labelled; NaN without any.
        test_accuracy: Test pairs predicted right; NaN without any.
    """

    train_accuracy: float
    recovered: float
    memorised: float
    test_accuracy: float


def modular_addition(p: int = 97, train_fraction: float = 0.5, corruption: float = 0.35, seed: int = 0) -> ModularTask:
    """All pairs (m, n) with the label (m + n) mod p, shuffled and split, and a share of the training labels redrawn.

    The first ``floor(corruption * n_train)`` training labels are drawn anew, uniformly over all p classes, so that one
    in p of them stays right.

    Args:
        p: Modulus, at least 2.
        train_fraction: Share of the p^2 pairs to train on, above 0 and at most 1.
        corruption: Share of the training labels to redraw, in [0, 1].
        seed: Seed of the split and the labels.

    Returns:
        The task.

    Raises:
        InputError: Numbers out of range, or no pair to train on.

    References:
        Doshi et al., "To grok or not to grok: Disentangling generalization and memorization on corrupted algorithmic
        datasets", ICLR 2024, arXiv 2310.13061.

    Example:
        >>> task = modular_addition(p=7, train_fraction=0.5, corruption=0.5)
        >>> task.train_inputs.shape, task.test_labels.shape
        (torch.Size([24, 14]), torch.Size([25]))
    """
    if p < 2:
        raise InputError(f"p is {p}, but a modulus is at least 2")
    if not 0 < train_fraction <= 1 or not 0 <= corruption <= 1:
        raise InputError(
            f"train_fraction is {train_fraction} and corruption {corruption}, but they are shares: "
            "0 < train_fraction <= 1 and 0 <= corruption <= 1"
        )
    train = _floor(train_fraction * p * p)
    if not train:
        raise InputError(f"train_fraction {train_fraction} of {p * p} pairs leaves none to train on: raise it")
    generator = torch.Generator().manual_seed(seed)
    pairs = torch.cartesian_prod(torch.arange(p), torch.arange(p))[torch.randperm(p * p, generator=generator)]
    truth = pairs.sum(1) % p
    inputs = one_hot(pairs, p).flatten(1).float()
    labels = truth[:train].clone()
    redrawn = _floor(corruption * train)
    labels[:redrawn] = torch.randint(p, (redrawn,), generator=generator)
    return ModularTask(p, inputs[:train], labels, truth[:train], inputs[train:], truth[train:])


class QuadraticNet(nn.Module):
    r"""The network :math:`f(x) = W_2 (W_1 x)^2`, without biases.

    Weights start normal with the standard deviation :math:`0.5 / (2N)^{1/3}`.

    Args:
        p: Modulus.
        width: N, the number of neurons.
        dropout: Rate of the dropout before the square; 0 for none.
        batch_norm: Whether batch normalisation follows the square.

    Attributes:
        first: W1, [N, 2 p].
        second: W2, [p, N].

    References:
        Doshi et al., arXiv 2310.13061. (Gromov, "Grokking modular arithmetic", arXiv 2301.02679, has the network.)

    Example:
        >>> QuadraticNet(p=7, width=20)(modular_addition(p=7).train_inputs).shape
        torch.Size([24, 7])
    """

    def __init__(self, p: int, width: int = 500, *, dropout: float = 0.0, batch_norm: bool = False) -> None:
        super().__init__()
        std = 0.5 / (2 * width) ** (1 / 3)
        self.first = nn.Parameter(std * torch.randn(width, 2 * p))
        self.second = nn.Parameter(std * torch.randn(p, width))
        self.dropout = nn.Dropout(dropout)
        self.norm = nn.BatchNorm1d(width) if batch_norm else nn.Identity()

    def forward(self, inputs: Tensor) -> Tensor:
        """Pairs [B, 2 p] to outputs [B, p]."""
        outputs: Tensor = self.norm(self.dropout(inputs @ self.first.T).square()) @ self.second.T
        return outputs

    @torch.no_grad()
    def participation(self) -> Tensor:
        """The mean inverse participation ratio of each neuron's weights for m, for n and for z: [N], in (0, 1].

        That these three are averaged is RECONSTRUCTED.
        """
        for_m, for_n = self.first.chunk(2, dim=1)
        return torch.stack([inverse_participation_ratio(rows) for rows in (for_m, for_n, self.second.T)]).mean(0)


def inverse_participation_ratio(rows: Tensor, r: int = 2) -> Tensor:
    r"""How few frequencies a row is made of: :math:`\sum_k (|\hat w_k| / \|\hat w\|_2)^{2r}`.

    Over the p // 2 + 1 frequencies of a real signal. 1 for a pure cosine (or a constant), near 4/p for noise and r = 2.

    Args:
        rows: Weights, [..., p].
        r: Power.

    Returns:
        [...], in (0, 1]; 0 for a row of zeros, which has no frequency.

    References:
        Doshi et al., arXiv 2310.13061.

    Example:
        >>> t = torch.arange(59) * 2 * torch.pi / 59
        >>> inverse_participation_ratio(torch.stack([torch.cos(3 * t), torch.cos(3 * t) + torch.cos(5 * t)]))
        tensor([1.0000, 0.5000])
    """
    largest = rows.abs().amax(-1, keepdim=True)
    power = torch.fft.rfft(rows / largest.masked_fill(largest == 0, 1.0)).abs().square()
    total = power.sum(-1, keepdim=True)
    shares: Tensor = power / total.masked_fill(total == 0, 1.0)
    return shares.pow(r).sum(-1)


def one_hot_mse(outputs: Tensor, labels: Tensor) -> Tensor:
    """The paper's loss: the mean over all B p outputs of their squared distance to the one-hot labels.

    Args:
        outputs: [B, p].
        labels: Class indices, [B].

    Returns:
        A scalar.

    Example:
        >>> one_hot_mse(torch.tensor([[1.0, 0.0], [1.0, 1.0]]), torch.tensor([0, 1]))
        tensor(0.2500)
    """
    return mse_loss(outputs, one_hot(labels, outputs.shape[1]).to(outputs.dtype))


def train_modular(
    task: ModularTask,
    net: nn.Module,
    loss: Callable[[Tensor, Tensor], Tensor] = one_hot_mse,
    *,
    steps: int,
    weight_decay: float = 0.0,
    learning_rate: float = 0.01,
    every: int = 10,
) -> dict[int, ModularScores]:
    """Train by AdamW on the whole training set in every step, with betas (0.9, 0.98).

    Args:
        task: The task.
        net: The network, changed in place.
        loss: Outputs [n_train, p] and labels [n_train] to a scalar; the order of the samples never changes.
        steps: Steps.
        weight_decay: Of AdamW, on all parameters.
        learning_rate: Its learning rate.
        every: Steps between two measurements.

    Returns:
        Step to scores: before the first step, each ``every`` steps, and after the last.

    Raises:
        InputError: No step at all, or ``every`` below 1.

    Example:
        >>> task = modular_addition(p=7, corruption=0.0)
        >>> curve = train_modular(task, QuadraticNet(p=7, width=50), steps=30)
        >>> list(curve), curve[30].train_accuracy
        ([0, 10, 20, 30], 1.0)
    """
    if steps < 1 or every < 1:
        raise InputError(f"steps is {steps} and every {every}, but both are at least 1")
    optimiser = torch.optim.AdamW(net.parameters(), learning_rate, betas=(0.9, 0.98), weight_decay=weight_decay)
    curve = {0: modular_scores(task, net)}
    for step in range(1, steps + 1):
        net.train()
        optimiser.zero_grad()
        loss(net(task.train_inputs), task.train_labels).backward()
        optimiser.step()
        if step % every == 0 or step == steps:
            curve[step] = modular_scores(task, net)
    return curve


@torch.no_grad()
def modular_scores(task: ModularTask, net: nn.Module) -> ModularScores:
    """The four numbers of a network, in its eval mode.

    Args:
        task: The task.
        net: The network; left in eval mode.

    Returns:
        The scores.
    """
    net.eval()
    predicted, wrong = net(task.train_inputs).argmax(1), task.is_wrong
    return ModularScores(
        train_accuracy=_share(predicted == task.train_labels),
        recovered=_share((predicted == task.train_truth)[wrong]),
        memorised=_share((predicted == task.train_labels)[wrong]),
        test_accuracy=_share(net(task.test_inputs).argmax(1) == task.test_labels),
    )


def grokking_phase(scores: ModularScores, wrong_share: float) -> Phase:
    """The name of what a network does: by training accuracy, test accuracy, and what is left without the wrong labels.

    Generalising means a test accuracy of at least 0.9. Then it is coexistence where the training accuracy is at least
    0.98 (wrong labels are memorised beside), full inversion where it is no higher than the share of right labels
    (within 0.02), and partial inversion in between. Without generalising it is memorisation from a training accuracy of
    0.9 on, else forgetting. The paper names the phases; the thresholds are chosen here.

    Args:
        scores: The scores.
        wrong_share: Share of wrong training labels, such as ``task.is_wrong.float().mean()``.

    Returns:
        The phase.

    Example:
        >>> grokking_phase(ModularScores(0.71, 0.98, 0.01, 1.0), wrong_share=0.3)
        'full inversion'
    """
    if scores.test_accuracy >= GENERALISES:
        if scores.train_accuracy >= FITS:
            return "coexistence"
        return "full inversion" if scores.train_accuracy <= 1 - wrong_share + NEAR else "partial inversion"
    return "memorisation" if scores.train_accuracy >= GENERALISES else "forgetting"


def _share(right: Tensor) -> float:
    return float(right.float().mean())


def _floor(count: float) -> int:
    return math.floor(count + 1e-9)  # 0.29 * 100 is 28.999999999999996

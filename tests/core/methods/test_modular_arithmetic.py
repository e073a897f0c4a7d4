"""The task by counting, the network and its numbers against numpy, the phases of the sheet, and short trainings."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from robustvision.core.errors import InputError
from robustvision.core.methods import (
    ModularScores,
    QuadraticNet,
    grokking_phase,
    inverse_participation_ratio,
    modular_addition,
    modular_scores,
    one_hot_mse,
    train_modular,
)


def pairs_of(inputs, p):
    return inputs[:, :p].argmax(1), inputs[:, p:].argmax(1)


def test_every_pair_is_there_once_with_its_sum():
    task = modular_addition(p=11, train_fraction=0.6, corruption=0.4, seed=3)
    inputs = torch.cat([task.train_inputs, task.test_inputs])
    assert inputs.shape == (121, 22)
    assert (inputs.sum(1) == 2).all()
    m, n = pairs_of(inputs, 11)
    assert sorted((11 * m + n).tolist()) == list(range(121))
    assert ((m + n) % 11 == torch.cat([task.train_truth, task.test_labels])).all()


def test_the_papers_size_has_its_count_of_wrong_labels():
    """1646 of 4704 labels are redrawn, one in 97 of them to the truth; the authors' seed left 1629 wrong."""
    wrong = [modular_addition(97, 0.5, 0.35, seed).is_wrong for seed in range(3)]
    for one in wrong:
        assert len(one) == 4704
        assert not one[1646:].any()
        assert abs(one.sum().item() - 1646 * 96 / 97) < 4 * math.sqrt(1646 * 96) / 97
    assert (wrong[0] != wrong[1]).any()


def test_redrawn_labels_are_uniform():
    task = modular_addition(p=7, train_fraction=1.0, corruption=1.0)
    labels = torch.cat([modular_addition(7, 1.0, 1.0, seed).train_labels for seed in range(100)])
    counts = torch.bincount(labels, minlength=7).double()
    assert ((counts - 700) ** 2 / 700).sum() < 22.5  # chi-squared with 6 degrees, p = 0.001
    assert task.test_inputs.shape == (0, 14)


@pytest.mark.parametrize(("share", "count"), [(0.29, 29), (0.3, 30), (0.295, 29), (0.0, 0)])
def test_shares_are_rounded_down_but_not_by_their_last_digit(share, count):
    task = modular_addition(p=100, train_fraction=0.01, corruption=share)
    clean = modular_addition(p=100, train_fraction=0.01, corruption=0.0)
    assert len(task.train_labels) == 100
    assert (task.train_labels[count:] == clean.train_labels[count:]).all()
    assert (task.is_wrong[:count].float().mean() > 0.8) == (count > 0)


def test_the_same_seed_gives_the_same_task():
    one, same, other = (modular_addition(p=13, seed=seed) for seed in (5, 5, 6))
    assert (one.train_inputs == same.train_inputs).all()
    assert (one.train_labels == same.train_labels).all()
    assert (one.train_inputs != other.train_inputs).any()


def test_network_is_its_formula():
    torch.manual_seed(0)
    net, inputs = QuadraticNet(p=5, width=7), modular_addition(p=5).train_inputs
    first, second = (w.detach().numpy().astype(np.float64) for w in (net.first, net.second))
    expected = ((inputs.numpy() @ first.T) ** 2) @ second.T
    np.testing.assert_allclose(net(inputs).detach(), expected, rtol=1e-5)


def test_network_starts_as_the_paper_says():
    torch.manual_seed(0)
    net = QuadraticNet(p=97, width=500)
    for weights in (net.first, net.second):
        assert weights.std().item() == pytest.approx(0.05, rel=0.02)  # 0.5 / 1000^(1/3)
        assert abs(weights.mean().item()) < 1e-3


def test_dropout_comes_before_the_square():
    """Before: a kept neuron's square is multiplied by 1/(1 - rate)^2 = 4. After, it would be 2."""
    torch.manual_seed(0)
    net = QuadraticNet(p=5, width=1, dropout=0.5)
    inputs = modular_addition(p=5, train_fraction=1.0).train_inputs
    net.eval()
    plain = net(inputs)
    net.train()
    ratio = (net(inputs) / plain)[:, 0]
    assert ((ratio.abs() < 1e-6) | ((ratio - 4).abs() < 1e-3)).all()
    assert 0 < (ratio > 1).sum() < 25


def test_batch_norm_comes_after_the_square():
    torch.manual_seed(0)
    net = QuadraticNet(p=5, width=4, batch_norm=True)
    inputs = modular_addition(p=5, train_fraction=1.0).train_inputs
    squares = (inputs @ net.first.T).square()
    expected = (squares - squares.mean(0)) / (squares.var(0, unbiased=False) + 1e-5).sqrt() @ net.second.T
    torch.testing.assert_close(net(inputs), expected)


def ipr_in_numpy(row, r):
    u = np.abs(np.fft.rfft(row))
    return ((u / np.sqrt((u**2).sum())) ** (2 * r)).sum()


@pytest.mark.parametrize("r", [2, 3])
def test_participation_ratio_is_its_formula(r):
    rows = np.random.default_rng(0).normal(size=(4, 5, 31))
    found = inverse_participation_ratio(torch.tensor(rows), r)
    np.testing.assert_allclose(found, np.apply_along_axis(ipr_in_numpy, 2, rows, r), rtol=1e-12)


def test_participation_ratio_of_cosines_noise_and_nothing():
    t = 2 * math.pi * torch.arange(59, dtype=torch.float64) / 59
    cosines = torch.stack([torch.cos(k * t + phase) for k in (1, 7, 29) for phase in (0.0, 1.0)])
    torch.testing.assert_close(inverse_participation_ratio(cosines), torch.ones(6, dtype=torch.float64))
    noise = inverse_participation_ratio(torch.randn(4000, 59, generator=torch.Generator().manual_seed(0)))
    assert noise.mean().item() == pytest.approx(4 / 59, rel=0.1)
    assert inverse_participation_ratio(torch.zeros(59)).item() == 0.0


@pytest.mark.parametrize("scale", [1e-30, 1e30, -3.0])
def test_participation_ratio_does_not_depend_on_length(scale):
    rows = torch.randn(5, 59, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(inverse_participation_ratio(scale * rows), inverse_participation_ratio(rows))


def test_a_periodic_neuron_has_participation_1():
    net = QuadraticNet(p=59, width=2)
    t = 2 * math.pi * torch.arange(59) / 59
    with torch.no_grad():
        net.first[0] = torch.cat([torch.cos(3 * t), torch.cos(3 * t + 1)])
        net.second[:, 0] = torch.cos(3 * t + 1)
    periodic, random = net.participation()
    assert periodic.item() == pytest.approx(1.0)
    assert random.item() < 0.3


def test_loss_is_the_mean_over_all_outputs():
    outputs = torch.randn(6, 4, dtype=torch.float64, requires_grad=True)
    labels = torch.tensor([0, 1, 2, 3, 0, 1])
    expected = ((outputs.detach().numpy() - np.eye(4)[labels]) ** 2).sum() / 24
    assert one_hot_mse(outputs, labels).item() == pytest.approx(expected)
    assert torch.autograd.gradcheck(lambda f: one_hot_mse(f, labels), (outputs,))


class Oracle(torch.nn.Module):
    """Predicts the sum of every pair, plus a shift for pairs with m below a bound."""

    def __init__(self, p, below):
        super().__init__()
        self.p, self.below = p, below

    def forward(self, inputs):
        m, n = pairs_of(inputs, self.p)
        return torch.nn.functional.one_hot((m + n + (m < self.below).long()) % self.p, self.p).float()


def test_the_four_numbers_by_counting():
    task = modular_addition(p=13, corruption=0.4, seed=1)
    right = modular_scores(task, Oracle(13, below=0))
    assert (right.recovered, right.memorised, right.test_accuracy) == (1.0, 0.0, 1.0)
    assert right.train_accuracy == pytest.approx(1 - task.is_wrong.float().mean().item())
    shifted = modular_scores(task, Oracle(13, below=13))
    memorised = (task.train_labels == (task.train_truth + 1) % 13)[task.is_wrong].float().mean().item()
    assert 0 < memorised < 0.3
    assert (shifted.recovered, shifted.test_accuracy) == (0.0, 0.0)
    assert shifted.memorised == pytest.approx(memorised)
    assert shifted.train_accuracy == pytest.approx(memorised * task.is_wrong.float().mean().item())


def test_without_wrong_labels_or_test_pairs_there_is_no_share():
    scores = modular_scores(modular_addition(p=5, train_fraction=1.0, corruption=0.0), Oracle(5, below=0))
    assert scores.train_accuracy == 1.0
    assert all(math.isnan(value) for value in (scores.recovered, scores.memorised, scores.test_accuracy))


@pytest.mark.parametrize(
    ("train", "test", "phase"),
    [
        (1.0, 0.91, "coexistence"),
        (0.84, 1.0, "partial inversion"),
        (0.709, 0.999, "full inversion"),
        (1.0, 0.02, "memorisation"),
        (0.2, 0.02, "forgetting"),
        (0.2, float("nan"), "forgetting"),
    ],
)
def test_phases_of_measured_numbers(train, test, phase):
    assert grokking_phase(ModularScores(train, 0.0, 0.0, test), wrong_share=0.3) == phase


def test_clean_labels_that_are_fitted_coexist():
    """Without wrong labels fitting all is no inversion."""
    assert grokking_phase(ModularScores(1.0, math.nan, math.nan, 1.0), wrong_share=0.0) == "coexistence"


def test_weight_decay_decides_whether_wrong_labels_are_memorised():
    """The benchmark's point in small: same task, same start; both generalise."""
    task = modular_addition(p=41, train_fraction=0.6, corruption=0.2)
    curves = {}
    for decay in (0.0, 10.0):
        torch.manual_seed(0)
        curves[decay] = train_modular(task, QuadraticNet(p=41, width=150), steps=200, weight_decay=decay, every=60)
    assert list(curves[0.0]) == [0, 60, 120, 180, 200]
    assert curves[0.0][0] == curves[10.0][0]
    plain, decayed = curves[0.0][200], curves[10.0][200]
    assert min(plain.test_accuracy, decayed.test_accuracy) > 0.9
    assert plain.memorised > 0.9
    assert decayed.recovered > 0.6


def test_input_that_cannot_be_used():
    for arguments, message in (
        ({"p": 1}, "p is 1"),
        ({"train_fraction": 0.0}, "train_fraction is 0"),
        ({"train_fraction": 1.1}, "train_fraction is 1.1"),
        ({"corruption": -0.1}, "corruption -0.1"),
        ({"corruption": math.nan}, "corruption nan"),
        ({"p": 3, "train_fraction": 0.1}, "none to train on"),
    ):
        with pytest.raises(InputError, match=message):
            modular_addition(**arguments)
    with pytest.raises(InputError, match="at least 1"):
        train_modular(modular_addition(p=5), QuadraticNet(p=5), steps=0)

"""Scores of labels: means over visits against numpy, what a visit is, margins, and temperatures without the label."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from robustvision.core.errors import InputError
from robustvision.core.losses import ALDRLoss
from robustvision.core.methods import LossTrajectory, individual_temperature_score, negative_margin


def test_the_score_is_the_mean_over_the_visits():
    rng = np.random.default_rng(0)
    trajectory = LossTrajectory(50)
    seen: dict[int, list[float]] = {}
    for _ in range(40):
        index = rng.choice(45, 20, replace=False)
        values = rng.exponential(size=20).astype(np.float32)
        trajectory.record(torch.from_numpy(values), index=torch.from_numpy(index))
        for place, value in zip(index.tolist(), values.tolist(), strict=True):
            seen.setdefault(place, []).append(value)
    expected = [np.mean(seen[place]) if place in seen else np.nan for place in range(50)]
    assert np.isnan(expected[45:]).all()
    np.testing.assert_allclose(trajectory.scores(), expected, rtol=1e-5)


def test_what_is_not_finite_is_no_visit():
    trajectory = LossTrajectory(2)
    for value in (1.0, math.nan, math.inf, 4.0):
        trajectory.record(torch.tensor([value]), index=torch.tensor([0]))
    assert trajectory.scores()[0] == 2.5
    assert trajectory.scores()[1].isnan()


def test_a_sample_twice_in_a_batch_is_one_visit_with_the_mean():
    trajectory = LossTrajectory(3)
    trajectory.record(torch.tensor([1.0, 3.0, 5.0]), index=torch.tensor([2, 0, 2]))
    trajectory.record(torch.tensor([6.0]), index=torch.tensor([2]))
    assert trajectory.scores()[2] == 4.5
    assert trajectory.state.visits.tolist() == [1, 0, 2]


def test_a_checkpoint_goes_on_exactly_and_no_graph_is_kept():
    first, second = LossTrajectory(4), LossTrajectory(4)
    values = torch.tensor([0.1, 0.7], dtype=torch.bfloat16, requires_grad=True)
    first.record(values, index=torch.tensor([1, 3]))
    second.load_state_dict(first.state_dict())
    for trajectory in (first, second):
        trajectory.record(torch.tensor([0.3], dtype=torch.float64), index=torch.tensor([3]))
    torch.testing.assert_close(first.scores(), second.scores(), rtol=0, atol=0, equal_nan=True)
    assert not first.scores().requires_grad


def test_scores_are_a_copy():
    trajectory = LossTrajectory(1)
    trajectory.record(torch.tensor([2.0]), index=torch.tensor([0]))
    trajectory.scores().zero_()
    assert trajectory.scores().tolist() == [2.0]


@pytest.mark.parametrize(
    ("values", "index", "says"),
    [
        (torch.tensor(1.0), torch.tensor([0]), 'reduction="none"'),
        (torch.ones(2, 3), torch.tensor([0, 1]), 'reduction="none"'),
        (torch.ones(2), torch.tensor([0]), "each of 2 samples"),
        (torch.ones(2), torch.tensor([0, 3]), "num_samples=4"),
        (torch.ones(2), None, "without index"),
    ],
)
def test_bad_values_or_places_are_refused_and_leave_no_trace(values, index, says):
    trajectory = LossTrajectory(3)
    with pytest.raises(InputError, match=says):
        trajectory.record(values, index=index)
    assert not trajectory.state.visited.any()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_margins_against_a_sort(dtype):
    """The given class against the best of the others: in sorted order the first, or the second where it is first."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(200, 7, generator=generator, dtype=torch.float64).to(dtype)
    target = torch.randint(7, (200,), generator=generator)
    values = logits.double().numpy()
    own = values[np.arange(200), target]
    order = np.sort(values, axis=1)
    expected = np.where(own == order[:, -1], order[:, -2], order[:, -1]) - own
    found = negative_margin(logits, target)
    assert found.dtype == torch.promote_types(dtype, torch.float32)
    np.testing.assert_allclose(found.double(), expected, rtol=1e-6)


def test_margins_at_ties_at_large_logits_and_of_ignored_samples():
    logits = torch.tensor([[3.0, 3.0, 1.0], [1e4, -1e4, 0.0], [1.0, 2.0, 3.0]])
    found = negative_margin(logits, torch.tensor([1, 1, -1]))
    assert found[:2].tolist() == [0.0, 2e4]
    assert found[2].isnan()


@pytest.mark.parametrize(("classes", "label"), [(1, 0), (3, 3)])
def test_margins_of_bad_input_are_refused(classes, label):
    with pytest.raises(InputError):
        negative_margin(torch.zeros(1, classes), torch.tensor([label]))


@pytest.mark.parametrize(("lam0", "alpha"), [(0.1, 2.0), (1.0, 3.0), (10.0, 2.0)])
def test_the_temperature_score_is_one_minus_the_share_of_the_divergence(lam0, alpha):
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(30, 5))
    loss = ALDRLoss(num_samples=31, lam0=lam0, alpha=alpha)
    loss(torch.from_numpy(logits), torch.zeros(30, dtype=torch.int64), index=torch.arange(30))
    outputs = logits / np.abs(logits).mean(1, keepdims=True)
    q = np.exp(outputs / lam0)
    q = q / q.sum(1, keepdims=True) + 1e-5
    q /= q.sum(1, keepdims=True)
    expected = 1 - (q * np.log(5 * q)).sum(1) / np.log(5)
    score = individual_temperature_score(loss)
    np.testing.assert_allclose(score[:30], expected, atol=1e-6)
    assert score[30].isnan()


def test_the_temperature_score_does_not_know_the_label():
    logits = torch.tensor([[4.0, 1.0, 0.0]])
    scores = []
    for label in range(3):
        loss = ALDRLoss(num_samples=1, lam0=1.0)
        loss(logits, torch.tensor([label]), index=torch.tensor([0]))
        scores.append(individual_temperature_score(loss).item())
    assert scores[0] == scores[1] == scores[2] < 1.0


def test_an_exact_loss_has_no_temperature_score():
    with pytest.raises(InputError, match="exact=False"):
        individual_temperature_score(ALDRLoss(exact=True))

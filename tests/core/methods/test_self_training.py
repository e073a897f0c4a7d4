"""The ascent against brute force and the closed form; the objective against its parts."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

from robustvision.core.errors import InputError
from robustvision.core.methods import robust_loss, robust_ramp_loss, rss_objective


def sigmoid_loss(w):
    """A bounded loss of a linear model: at most 1, its gradient's Lipschitz constant is at most 0.1 |w|^2."""
    return lambda z: torch.sigmoid(-(z @ w))


@pytest.mark.parametrize("g", [0.3, 1.0, 5.0])
def test_ascent_finds_the_supremum_of_a_smooth_loss(g):
    rng = np.random.default_rng(0)
    x, w = rng.normal(size=(30, 3)), rng.normal(size=3)
    w /= np.linalg.norm(w)
    t = np.linspace(-5, 5, 200_001)
    expected = [(1 / (1 + np.exp(point @ w + t)) - g * t**2).max() for point in x]
    losses = robust_loss(sigmoid_loss(torch.tensor(w)), torch.tensor(x), g, steps=30)
    np.testing.assert_allclose(losses, expected, atol=1e-7)


def test_ascent_lies_between_the_plain_and_the_robust_ramp():
    """And reaches the latter for samples on the slope whose best point is on it too."""
    generator = torch.Generator().manual_seed(0)
    x = 2 * torch.randn(200, 3, dtype=torch.float64, generator=generator)
    w = torch.tensor([0.6, 0.0, 0.8], dtype=torch.float64)
    y, u = torch.ones(200, dtype=torch.float64), x @ w
    found = robust_loss(lambda z: (1 - z @ w).clamp(0, 1), x, 1.0)
    exact = robust_ramp_loss(x, y, w, 1.0, cost="squared")
    assert (found <= exact + 1e-12).all()
    assert (found >= (1 - u).clamp(0, 1)).all()
    on_slope = (u > 0.5) & (u < 1)  # the best point is half a unit further down
    assert on_slope.sum() > 10
    torch.testing.assert_close(found[on_slope], exact[on_slope])


@pytest.mark.parametrize("steps", [1, 3])
def test_the_best_point_of_the_way_counts(steps):
    """With a price below half the Lipschitz constant (200) steps overshoot; the loss may not fall below the plain."""
    x = torch.linspace(-3, 3, 50)[:, None]
    plain = torch.sin(20 * x[:, 0])
    found = robust_loss(lambda z: torch.sin(20 * z[:, 0]), x, 60.0, steps=steps)
    assert (found >= plain).all()
    assert (found > plain + 0.1).any()


def test_an_infinite_price_gives_the_plain_loss_and_a_high_one_nearly():
    x, w = torch.randn(9, 3, dtype=torch.float64), torch.ones(3, dtype=torch.float64)
    loss = sigmoid_loss(w)
    torch.testing.assert_close(robust_loss(loss, x, math.inf), loss(x), rtol=0, atol=0)
    torch.testing.assert_close(robust_loss(loss, x, 1e8), loss(x), rtol=0, atol=1e-8)


def test_gradients_are_those_of_the_supremum():
    """By finite differences of the converged value: Danskin's theorem, and x counts too."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(5, 3, dtype=torch.float64, generator=generator, requires_grad=True)
    w = torch.randn(3, dtype=torch.float64, generator=generator, requires_grad=True)
    assert torch.autograd.gradcheck(lambda a, b: robust_loss(sigmoid_loss(b), a, 2.0, steps=40), (x, w), atol=1e-6)


def test_the_search_leaves_no_gradient_and_works_without_grad_mode():
    model = nn.Linear(3, 1)
    loss = lambda z: torch.sigmoid(model(z)).squeeze(1)  # noqa: E731
    x = torch.randn(4, 3)
    with torch.no_grad():
        quiet = robust_loss(loss, x, 1.0)
    assert not quiet.requires_grad
    torch.testing.assert_close(robust_loss(loss, x, 1.0).detach(), quiet)
    assert model.weight.grad is None


def test_images_keep_their_shape_and_samples_do_not_mix():
    generator = torch.Generator().manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Tanh(), nn.Flatten(), nn.Linear(18, 1))
    loss = lambda z: torch.sigmoid(net(z)).squeeze(1)  # noqa: E731
    images = torch.randn(6, 1, 5, 5, generator=generator)
    together = robust_loss(loss, images, 0.5)
    assert (together > loss(images)).all()
    torch.testing.assert_close(together[2:3], robust_loss(loss, images[2:3], 0.5))


def test_a_step_that_breaks_is_never_the_best():
    """The gradient of the square root is infinite at 0: the ascent leaves to infinity, x stays."""
    x = torch.zeros(2, 1)
    losses = robust_loss(lambda z: -z.abs().sqrt().squeeze(1), x, 1.0)
    torch.testing.assert_close(losses, torch.zeros(2))


@pytest.fixture
def classifier():
    torch.manual_seed(0)
    return nn.Linear(4, 3).double()


def one_minus_p(logits, labels):
    return 1 - logits.softmax(1).gather(1, labels[:, None]).squeeze(1)


def test_objective_is_the_sum_of_its_parts(classifier):
    x, x_out = torch.randn(5, 4).double(), torch.randn(11, 4).double() + 1
    labels = torch.tensor([0, 1, 2, 1, 0])
    decided = classifier(x_out).argmax(1)
    expected = (
        robust_loss(lambda z: one_minus_p(classifier(z), labels), x, 2.0).mean()
        + 0.7 * robust_loss(lambda z: one_minus_p(classifier(z), decided), x_out, 0.5).mean()
    )
    found = rss_objective(classifier, one_minus_p, x, labels, x_out, g=2.0, g_out=0.5, weight=0.7)
    torch.testing.assert_close(found, expected)
    assert found > rss_objective(classifier, one_minus_p, x, labels, x_out, g_out=math.inf, weight=0.7)


def test_no_gradient_runs_through_the_pseudo_labels(classifier):
    x, labels, x_out = torch.randn(5, 4).double(), torch.tensor([0, 1, 2, 1, 0]), torch.randn(11, 4).double()
    decided = classifier(x_out).argmax(1)
    found = rss_objective(classifier, one_minus_p, x, labels, x_out, g_out=math.inf, weight=2.0)
    fixed = one_minus_p(classifier(x), labels).mean() + 2 * one_minus_p(classifier(x_out), decided).mean()
    for one, other in zip(
        torch.autograd.grad(found, classifier.parameters()),
        torch.autograd.grad(fixed, classifier.parameters()),
        strict=True,
    ):
        torch.testing.assert_close(one, other)


def test_pseudo_labels_follow_the_model_where_the_labelled_ones_say_nothing(classifier):
    """A weight of 0 leaves the labelled part alone."""
    x, labels, x_out = torch.randn(5, 4).double(), torch.tensor([0, 1, 2, 1, 0]), torch.randn(11, 4).double()
    found = rss_objective(classifier, one_minus_p, x, labels, x_out, weight=0.0)
    torch.testing.assert_close(found, one_minus_p(classifier(x), labels).mean())


def test_input_that_cannot_be_used(classifier):
    x, labels = torch.randn(5, 4).double(), torch.tensor([0, 1, 2, 1, 0])
    with pytest.raises(InputError, match="g is 0"):
        robust_loss(lambda z: z.sum(1), x, 0.0)
    with pytest.raises(InputError, match="steps is 0"):
        robust_loss(lambda z: z.sum(1), x, 1.0, steps=0)
    with pytest.raises(InputError, match=r"returned \[\] for 5 samples"):
        robust_loss(lambda z: z.sum(), x, 1.0)
    with pytest.raises(InputError, match=r"returned \[5, 4\]"):
        robust_loss(lambda z: z, x, math.inf)
    with pytest.raises(InputError, match="weight is -1"):
        rss_objective(classifier, one_minus_p, x, labels, x, weight=-1.0)
    with pytest.raises(InputError, match="0 unlabelled"):
        rss_objective(classifier, one_minus_p, x, labels, x[:0])

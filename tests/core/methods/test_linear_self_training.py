"""The closed forms against a brute-force supremum in float64, their limits and gradients; the fit on two Gaussians."""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import pytest
import torch

from robustvision.core.errors import InputError
from robustvision.core.methods import fit_linear_rss, ramp_loss, robust_hinge_loss, robust_ramp_loss

COSTS = {"distance": np.abs, "squared": np.square}
both_costs = pytest.mark.parametrize("cost", COSTS)


def ramp(u, gamma):
    return np.minimum(1, np.maximum(0, 1 - gamma * u))


def hinge(u, gamma):
    return np.maximum(0, 1 - gamma * u)


def supremum_along_w(loss, x, y, w, g, gamma, cost, reach=20.0):
    """max over t of loss at x + t w/|w|, minus the price: moving across w would only cost."""
    t = np.linspace(-reach, reach, 400_001)
    norm = np.linalg.norm(w)
    return np.array(
        [(loss(c * (w @ point + t * norm), gamma) - g * COSTS[cost](t)).max() for point, c in zip(x, y, strict=True)]
    )


def problem(seed=0, samples=40, size=3, norm=1.7):
    rng = np.random.default_rng(seed)
    w = rng.normal(size=size)
    return rng.normal(size=(samples, size)), rng.choice([-1.0, 1.0], samples), w * norm / np.linalg.norm(w)


def tensors(*arrays):
    return [torch.tensor(array) for array in arrays]


@both_costs
@pytest.mark.parametrize("gamma", [0.5, 1.0, 3.0])
@pytest.mark.parametrize("g", [0.05, 0.3, 1.0, 4.0])
def test_ramp_is_the_supremum(cost, g, gamma):
    x, y, w = problem()
    expected = supremum_along_w(ramp, x, y, w, g, gamma, cost)
    losses = robust_ramp_loss(*tensors(x, y, w), g, gamma, cost=cost)
    np.testing.assert_allclose(losses, expected, atol=1e-3)  # the grid's step times the slope
    differs = np.abs(losses.numpy() - ramp(y * (x @ w), gamma)).max() > 0.02
    assert differs == (cost == "squared" or g < gamma * 1.7)  # the price of a distance may be too high for any move


@both_costs
def test_no_point_of_the_plane_is_worse(cost):
    """The supremum over all z, not only along w."""
    x, y, w = problem(seed=1, samples=8, size=2)
    losses = robust_ramp_loss(*tensors(x, y, w), 0.4, 1.0, cost=cost).numpy()
    z = np.stack(np.meshgrid(*[np.linspace(-6, 6, 1201)] * 2), -1).reshape(-1, 2)
    for point, c, found in zip(x, y, losses, strict=True):
        brute = (ramp(c * (z @ w), 1.0) - 0.4 * COSTS[cost](np.linalg.norm(z - point, axis=1))).max()
        assert found - 0.03 < brute <= found + 1e-12


@pytest.mark.parametrize("g", [0.6, 1.0, 4.0])
def test_hinge_with_squared_cost_is_the_supremum(g):
    x, y, w = problem(seed=2)
    expected = supremum_along_w(hinge, x, y, w, g, 0.8, "squared")
    np.testing.assert_allclose(robust_hinge_loss(*tensors(x, y, w), g, 0.8, cost="squared"), expected, atol=1e-3)


def test_hinge_is_itself_where_moving_never_pays_and_refused_where_it_always_does():
    x, y, w = problem(norm=2.0)
    np.testing.assert_allclose(robust_hinge_loss(*tensors(x, y, w), 2.0 + 1e-9), hinge(y * (x @ w), 1.0))
    with pytest.raises(InputError, match=r"reaches 2.*infinite"):
        robust_hinge_loss(*tensors(x, y, w), 1.99)
    with pytest.raises(InputError, match="infinite"):
        robust_hinge_loss(*tensors(x, y, w), 2.5, gamma=1.5)


@both_costs
def test_limits_of_the_price(cost):
    x, y, w = tensors(*problem())
    u = y * (x @ w)
    torch.testing.assert_close(robust_ramp_loss(x, y, w, math.inf, cost=cost), ramp_loss(u), rtol=0, atol=0)
    torch.testing.assert_close(robust_ramp_loss(x, y, w, 1e9, cost=cost), ramp_loss(u))
    torch.testing.assert_close(robust_ramp_loss(x, y, w, 1e-9, cost=cost), torch.ones_like(u))


def test_hand_value():
    """u = 2, |w| = 2: at the distance 1 from the boundary, 1 - 0.25; by squares, u* = 0 and 1 - 0.25."""
    x, y, w = torch.tensor([[1.0, 0.0]]), torch.tensor([1.0]), torch.tensor([2.0, 0.0])
    assert robust_ramp_loss(x, y, w, 0.25).item() == pytest.approx(0.75)
    assert robust_ramp_loss(x, y, w, 0.25, cost="squared").item() == pytest.approx(0.75)
    assert robust_ramp_loss(x, y, w, 4.0, cost="squared").item() == 0.0  # u* = 1: too far, so it stays


@both_costs
@pytest.mark.parametrize("loss", [robust_ramp_loss, partial(robust_hinge_loss, gamma=0.2)])
def test_gradients(loss, cost):
    x, y, w = tensors(*problem(samples=12))
    inputs = (x.requires_grad_(), w.requires_grad_())
    assert torch.autograd.gradcheck(lambda a, b: loss(a, y, b, 0.5, cost=cost), inputs)


@both_costs
def test_weights_of_length_0_lose_1_without_gradient(cost):
    x, y, _ = tensors(*problem())
    w = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    losses = robust_ramp_loss(x, y, w, 0.5, cost=cost)
    losses.sum().backward()
    assert (losses == 1).all()
    assert w.grad.isfinite().all()


@both_costs
@pytest.mark.parametrize("scale", [1e4, 1e-4])
def test_extreme_scores_are_finite_in_float32(cost, scale):
    x, y, w = (t.float() for t in tensors(*problem()))
    w = (scale * w).requires_grad_()
    losses = robust_ramp_loss(x, y, w, 0.5, cost=cost)
    losses.sum().backward()
    assert losses.isfinite().all()
    assert w.grad.isfinite().all()


def test_half_precision_is_computed_in_float32():
    x, y, w = (t.bfloat16() for t in tensors(*problem()))
    losses = robust_ramp_loss(x, y, w, 0.3)
    assert losses.dtype == torch.float32
    torch.testing.assert_close(losses, robust_ramp_loss(x.float(), y.float(), w.float(), 0.3))


def gaussians(problems, m, n, size=20, seed=0):
    """Two Gaussians at +-mu, of length 1.5: mu, labelled samples with classes, unlabelled ones."""
    generator = torch.Generator().manual_seed(seed)
    mu = 1.5 * torch.nn.functional.normalize(torch.randn(problems, size, generator=generator), dim=1)

    def draw(count):
        y = torch.where(torch.rand(problems, count, generator=generator) < 0.5, -1.0, 1.0)
        return y[..., None] * mu[:, None] + torch.randn(problems, count, size, generator=generator), y

    return mu, *draw(m), draw(n)[0]


def alignment(w, mu):
    return torch.cosine_similarity(w, mu, dim=-1)


def test_unlabelled_samples_turn_the_boundary():
    mu, x, y, x_out = gaussians(problems=8, m=6, n=1000)
    alone, together = alignment(fit_linear_rss(x, y), mu), alignment(fit_linear_rss(x, y, x_out), mu)
    assert alone.mean() < 0.8
    assert together.mean() > 0.95
    assert (together > alone).all()


def test_problems_are_independent():
    _, x, y, x_out = gaussians(problems=3, m=6, n=50)
    together = fit_linear_rss(x, y, x_out, steps=30)
    for one in range(3):
        torch.testing.assert_close(together[one], fit_linear_rss(x[one], y[one], x_out[one], steps=30))


def test_the_length_is_held_unless_told_otherwise():
    _, x, y, x_out = gaussians(problems=2, m=6, n=50)
    torch.testing.assert_close(fit_linear_rss(x, y, x_out).norm(dim=1), torch.ones(2))
    free = fit_linear_rss(x, y, x_out, g_out=math.inf, unit_norm=False)
    assert (free.norm(dim=1) > 1.1).all()


def test_the_objective_of_the_fit_falls_as_defined():
    """One step of Adam of size 1e-4 is a step against the signs of the gradient of mean phi + lambda mean phi'."""
    _, x, y, x_out = gaussians(problems=1, m=6, n=50)
    start = torch.nn.functional.normalize((y[..., None] * x).mean(1), dim=1).requires_grad_()
    decided = torch.where((x_out @ start.detach()[..., None]).squeeze(-1) < 0, -1.0, 1.0)
    objective = robust_ramp_loss(x, y, start, 0.7).mean() + 3 * robust_ramp_loss(x_out, decided, start, 0.2).mean()
    (slope,) = torch.autograd.grad(objective, start)
    w = fit_linear_rss(x, y, x_out, g=0.7, g_out=0.2, weight=3.0, steps=1, learning_rate=1e-4, unit_norm=False)
    torch.testing.assert_close(w, start.detach() - 1e-4 * slope.sign(), rtol=0, atol=1e-7)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"x": torch.ones(3)}, r"x is \[3\]"),
        ({"x": torch.ones(3, 4)}, r"x is \[3, 4\] and w \[2\]"),
        ({"w": torch.ones(5, 2)}, r"w \[5, 2\]"),
        ({"y": torch.ones(4)}, r"y is \[4\]"),
        ({"y": torch.tensor([0.0, 1.0, 1.0])}, "2 \\* labels - 1"),
        ({"g": 0.0}, "g is 0"),
        ({"g": -1.0}, "g is -1"),
        ({"g": math.nan}, "g is nan"),
        ({"gamma": 0.0}, "gamma is 0"),
        ({"cost": "l2"}, "cost is 'l2'"),
    ],
)
@pytest.mark.parametrize("loss", [robust_ramp_loss, robust_hinge_loss])
def test_input_that_cannot_be_used(loss, changed, message):
    arguments = {"x": torch.ones(3, 2), "y": torch.ones(3), "w": torch.ones(2), "g": 9.0, "gamma": 1.0}
    with pytest.raises(InputError, match=message):
        loss(**(arguments | changed))


def test_the_fit_refuses_what_cannot_be_fitted():
    _, x, y, x_out = gaussians(problems=2, m=6, n=50)
    with pytest.raises(InputError, match="weight is -1"):
        fit_linear_rss(x, y, x_out, weight=-1.0)
    with pytest.raises(InputError, match="g is 0"):
        fit_linear_rss(x, y, x_out, g_out=0.0)
    with pytest.raises(InputError, match=r"x is \[1, 50, 20\]"):
        fit_linear_rss(x, y, x_out[:1])


def test_without_samples_nothing_is_learned_and_without_autograd_all_the_same():
    x, y = torch.tensor([[2.0, 0.3], [-1.0, 0.2]]), torch.tensor([1.0, -1.0])
    for wrong in ({"x": x[:0], "y": y[:0]}, {"x": x, "y": y, "x_out": x[:0]}):
        with pytest.raises(InputError, match="no samples"):
            fit_linear_rss(**wrong)
    with torch.no_grad():
        torch.testing.assert_close(fit_linear_rss(x, y), fit_linear_rss(x, y))
        assert fit_linear_rss(x, y).norm().item() == pytest.approx(1.0, rel=1e-6)

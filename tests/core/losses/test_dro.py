"""The KL-DRO primitive against direct maximisation over the weights, and at its limits."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from robustvision.core.errors import InputError
from robustvision.core.losses import CrossEntropyLoss, SampleDRO, cross_entropy_loss, kl_dro, kl_dro_ball


def values(n=5, seed=0, dtype=torch.float64, rows=()):
    return torch.randn(*rows, n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def divergence(w, prior):
    return sum(a * math.log(a / b) for a, b in zip(w, prior, strict=True) if a > 0)


def best_over_the_simplex(x, prior, penalty=0.0, radius=None):
    """max w.x - penalty KL(w, prior), with KL(w, prior) <= radius, by a general solver."""
    constraints = [{"type": "eq", "fun": lambda w: w.sum() - 1}]
    if radius is not None:
        constraints.append({"type": "ineq", "fun": lambda w: radius - divergence(w, prior)})
    found = minimize(
        lambda w: -(w @ x - penalty * divergence(w, prior)),
        prior,
        bounds=[(1e-12, 1)] * len(x),
        constraints=constraints,
        method="SLSQP",
        options={"ftol": 1e-14, "maxiter": 500},
    )
    return -found.fun, found.x


@pytest.mark.parametrize("lam", [0.2, 1.0, 7.0])
@pytest.mark.parametrize("uniform", [True, False])
def test_it_is_the_maximum_over_the_weights(lam, uniform):
    x = values(4, seed=1)
    prior = np.full(4, 0.25) if uniform else np.array([0.1, 0.5, 0.15, 0.25])
    expected, weights = best_over_the_simplex(x.numpy(), prior, penalty=lam)
    found = kl_dro(x, lam, None if uniform else torch.from_numpy(prior))
    assert found.value.item() == pytest.approx(expected, abs=1e-7)
    np.testing.assert_allclose(found.weights, weights, atol=1e-4)


@pytest.mark.parametrize("radius", [0.01, 0.2, 0.9])
@pytest.mark.parametrize("uniform", [True, False])
def test_the_ball_is_the_maximum_over_the_weights_in_it(radius, uniform):
    x = values(4, seed=2)
    prior = np.full(4, 0.25) if uniform else np.array([0.1, 0.5, 0.15, 0.25])
    expected, weights = best_over_the_simplex(x.numpy(), prior, radius=radius)
    found = kl_dro_ball(x, radius, None if uniform else torch.from_numpy(prior))
    assert found.value.item() == pytest.approx(expected, abs=1e-6)
    np.testing.assert_allclose(found.weights, weights, atol=1e-3)
    assert divergence(found.weights.numpy(), prior) == pytest.approx(radius, rel=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_limits_are_exact(dtype):
    x = values(6, seed=3, dtype=dtype, rows=(3,))
    prior = torch.tensor([0.0, 0.3, 0.1, 0.2, 0.4, 0.0], dtype=dtype)
    for tiny in (0.0, 1e-40, 1e-6):
        torch.testing.assert_close(kl_dro(x, tiny).value, x.amax(1), rtol=0, atol=2e-5)
    assert torch.equal(kl_dro(x, 0.0).value, x.amax(1))
    for huge in (math.inf, 1e20, 1e9):
        torch.testing.assert_close(kl_dro(x, huge).value, x.mean(1), rtol=1e-6, atol=1e-6)
        torch.testing.assert_close(kl_dro(x, huge, prior).value, x @ prior, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(kl_dro(x, 0.0, prior).value, x[:, 1:5].amax(1))


@pytest.mark.parametrize("lam", [1e-3, 1.0, 10.0, 1e3, 1e6])
def test_float32_loses_no_digits_at_any_temperature(lam):
    """A plain lam * (logsumexp(x / lam) - log K) is off by lam * 1e-7: by 0.1 at lam = 1e6.

    What is left is the rounding of entries of up to 4, a few 2^-23.
    """
    x = values(200, seed=4, rows=(50,))
    expected = kl_dro(x, lam).value
    torch.testing.assert_close(kl_dro(x.float(), lam).value.double(), expected, rtol=0, atol=2e-6)


def test_ties_share_the_weight_in_the_limit():
    assert kl_dro(torch.tensor([1.0, 2.0, 2.0]), 0.0).weights.tolist() == [0.0, 0.5, 0.5]


def test_gradients():
    """The weights with respect to x, minus the divergence with respect to the temperature."""
    x, lam = values(5, seed=5, rows=(3,)).requires_grad_(), torch.tensor([0.3, 1.0, 20.0]).double().requires_grad_()
    prior = torch.tensor([0.2, 0.1, 0.3, 0.15, 0.25]).double()
    assert torch.autograd.gradcheck(lambda x, lam: kl_dro(x, lam, prior).value, (x, lam))
    assert torch.autograd.gradgradcheck(lambda x, lam: kl_dro(x, lam, prior).value, (x, lam))
    found = kl_dro(x, lam, prior)
    by_x, by_lam = torch.autograd.grad(found.value.sum(), (x, lam))
    torch.testing.assert_close(by_x, found.weights)
    torch.testing.assert_close(by_lam, -(found.weights * (found.weights / prior).log()).sum(1))
    assert torch.autograd.gradcheck(lambda x: kl_dro_ball(x, 0.4, prior).value, (x,))


@pytest.mark.parametrize("lam", [0.0, 1e-30, 1.0, math.inf])
def test_gradients_are_finite_at_extremes(lam):
    x = torch.tensor([[1e4, -1e4, 0.0], [0.0, 0.0, 0.0], [3e38, -3e38, 0.0]], requires_grad=True)
    temperature = torch.full((3,), lam).requires_grad_()
    found = kl_dro(x, temperature)
    found.value.sum().backward()
    assert found.value.isfinite().all()
    assert x.grad.isfinite().all()
    assert temperature.grad[:2].isfinite().all()
    torch.testing.assert_close(x.grad.sum(1), torch.ones(3))


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), lam=st.floats(1e-3, 1e3))
def test_properties(seed, lam):
    x = values(6, seed=seed)
    value = kl_dro(x, lam).value.item()
    assert x.mean().item() - 1e-9 <= value <= x.max().item() + 1e-9
    assert kl_dro(x, 2 * lam).value.item() <= value + 1e-12  # a dearer distance is used less
    assert kl_dro(x + 3.0, lam).value.item() == pytest.approx(value + 3.0)
    assert kl_dro(2 * x, 2 * lam).value.item() == pytest.approx(2 * value)


def test_prior_of_zero_leaves_out_whatever_is_there():
    x = torch.tensor([1.0, math.inf, 2.0, math.nan], requires_grad=True)
    prior = torch.tensor([0.5, 0.0, 0.5, 0.0])
    found = kl_dro(x, 1.0, prior)
    found.value.backward()
    assert found.value.item() == pytest.approx(math.log(0.5 * (math.e + math.e**2)))
    assert x.grad[[1, 3]].tolist() == [0.0, 0.0]


def test_any_dimension():
    x = values(5, seed=6, rows=(3, 4))
    assert kl_dro(x, 1.0, dim=1).value.shape == (3, 5)
    torch.testing.assert_close(kl_dro(x, 1.0, dim=1).value, kl_dro(x.transpose(1, 2), 1.0).value)
    torch.testing.assert_close(kl_dro_ball(x, 0.3, dim=0).value, kl_dro_ball(x.permute(1, 2, 0), 0.3).value)


def test_ball_at_its_limits():
    x = values(5, seed=7, rows=(2,))
    torch.testing.assert_close(kl_dro_ball(x, 0.0).value, x.mean(1))
    wide = kl_dro_ball(x, math.log(5) + 0.1)
    assert torch.equal(wide.value, x.amax(1))
    assert wide.lam.tolist() == [0.0, 0.0]
    flat = kl_dro_ball(torch.ones(4), 0.5)
    assert flat.value == 1.0
    bounds = kl_dro_ball(x, torch.tensor([0.1, 0.5]))
    torch.testing.assert_close(bounds.value[1:], kl_dro_ball(x[1:], 0.5).value)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_computed_in_float32(dtype):
    x = values(50, seed=8, dtype=dtype)
    assert kl_dro(x, 0.1).value.dtype == torch.float32
    assert kl_dro(x, 0.1).value.item() == pytest.approx(kl_dro(x.double(), 0.1).value.item(), rel=1e-6)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: kl_dro(torch.zeros(3), -1.0), "must be at least 0"),
        (lambda: kl_dro(torch.zeros(3), math.nan), "must be at least 0"),
        (lambda: kl_dro(torch.zeros(2, 3), torch.tensor([1.0, -2.0])), "holds -2"),
        (lambda: kl_dro(torch.zeros(2, 0), 1.0), "entries along dimension"),
        (lambda: kl_dro(torch.zeros(3, dtype=torch.int64), 1.0), "floating-point"),
        (lambda: kl_dro(torch.zeros(3), 1.0, torch.tensor([0.5, 0.6, 0.5])), "no distribution"),
        (lambda: kl_dro(torch.zeros(3), 1.0, torch.tensor([1.5, -0.5, 0.0])), "no distribution"),
        (lambda: kl_dro_ball(torch.zeros(3), -0.1), "radius"),
        (lambda: SampleDRO(CrossEntropyLoss(reduction="none")), "give one of them"),
        (lambda: SampleDRO(CrossEntropyLoss(reduction="none"), lam=1.0, radius=1.0), "give one of them"),
        (lambda: SampleDRO(CrossEntropyLoss(), lam=1.0), "reduction='none'"),
        (lambda: SampleDRO(CrossEntropyLoss(reduction="none"), lam=-1.0), "lam is -1"),
        (lambda: SampleDRO(CrossEntropyLoss(reduction="none"), radius=math.nan), "radius is nan"),
        (lambda: robust_loss(torch.ones(1)), "one number for each of 2"),
        (lambda: robust_loss(torch.tensor([1.0, -1.0])), "negative"),
    ],
)
def test_bad_input_is_refused(call, message):
    with pytest.raises(InputError, match=message):
        call()


def robust_loss(weight):
    loss = SampleDRO(CrossEntropyLoss(reduction="none"), lam=1.0)
    return loss(torch.zeros(2, 3), torch.tensor([0, 1]), weight=weight)


def test_robust_mean_over_samples():
    f = values(3, seed=9, rows=(6,))
    y = torch.tensor([0, 1, 2, 0, -1, 1])
    counted = torch.tensor([True, True, True, True, False, True])
    each = cross_entropy_loss(f, y, reduction="none")[counted]
    loss = CrossEntropyLoss(reduction="none")
    torch.testing.assert_close(SampleDRO(loss, lam=0.5)(f, y), kl_dro(each, 0.5).value)
    torch.testing.assert_close(SampleDRO(loss, lam=1e12)(f, y), each.mean())
    torch.testing.assert_close(SampleDRO(loss, lam=0.0)(f, y), each.max())
    torch.testing.assert_close(SampleDRO(loss, radius=0.2)(f, y), kl_dro_ball(each, 0.2).value)
    w = torch.tensor([1.0, 2.0, 0.0, 1.0, 7.0, 1.0], dtype=torch.float64)
    torch.testing.assert_close(SampleDRO(loss, lam=0.5)(f, y, weight=w), kl_dro(each, 0.5, w[counted] / 5).value)
    assert SampleDRO(loss, lam=0.5)(f, torch.full((6,), -1)) == 0
    assert SampleDRO(loss, lam=0.5)(f[:0], y[:0]) == 0


def test_no_graph_break_under_compile():
    x = values(6, dtype=torch.float32, rows=(3,))
    torch._dynamo.reset()
    compiled = torch.compile(lambda x: kl_dro(x, 0.7).value, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(x), kl_dro(x, 0.7).value)

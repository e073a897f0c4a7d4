"""LDR, LDR-k and ALDR against their definitions: maximisation over weights and temperature, limits, and traps."""

import io
import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize, minimize_scalar

from robustvision.core.errors import InputError
from robustvision.core.losses import (
    ALDRLoss,
    LDRLoss,
    aldr_fixed_point,
    aldr_loss,
    aldr_temperature,
    crammer_singer_loss,
    cross_entropy_loss,
    ldr_k_loss,
    ldr_loss,
    normalize_logits,
)

F, Y = torch.tensor([[2.0, 1.0, 0.0]], dtype=torch.float64), torch.tensor([1])


def batch_of(size=6, classes=5, seed=0, spread=1.5):
    generator = torch.Generator().manual_seed(seed)
    f = spread * torch.randn(size, classes, generator=generator, dtype=torch.float64)
    return f, torch.randint(0, classes, (size,), generator=generator)


def margins(f, y, c):
    d = f - f[y] + c
    d[y] = 0.0
    return d


def kl_from_uniform(w):
    return sum(x * math.log(len(w) * x) for x in w if x > 0)


# ---- LDR


def test_it_is_the_worst_reweighting_of_the_margins():
    f, y = batch_of(3, 4, seed=1)
    for row, label, found in zip(f.numpy(), y, ldr_loss(f, y, 0.6, 0.1, "none", reduction="none"), strict=True):
        d = margins(row.copy(), int(label), 0.1)
        best = minimize(
            lambda w, d=d: -(w @ d - 0.6 * kl_from_uniform(w)),
            np.full(4, 0.25),
            bounds=[(1e-12, 1)] * 4,
            constraints={"type": "eq", "fun": lambda w: w.sum() - 1},
            method="SLSQP",
            options={"ftol": 1e-14},
        )
        assert found.item() == pytest.approx(-best.fun, abs=1e-7)


def test_cross_entropy_and_crammer_singer_are_members():
    f, y = batch_of(20, 7, seed=2)
    log_k = math.log(7)
    torch.testing.assert_close(
        ldr_loss(f, y, 1.0, 0.0, "none", reduction="none"), cross_entropy_loss(f, y, reduction="none") - log_k
    )
    for margin in (0.0, 0.1, 1.0):
        hinge = crammer_singer_loss(f, y, margin, reduction="none")
        torch.testing.assert_close(ldr_loss(f, y, 0.0, margin, "none", reduction="none"), hinge)
        small = ldr_loss(f, y, 1e-3, margin, "none", reduction="none")
        assert (small <= hinge + 1e-12).all()
        assert (small >= hinge - 1e-3 * log_k - 1e-12).all()


@pytest.mark.parametrize("normalize", ["l1", "softplus"])
def test_at_infinite_temperature_it_is_the_mean_margin_and_symmetric(normalize):
    """Softplus has a fixed sum of outputs, so the losses of all labels sum to a constant; L1 bounds it."""
    f, y = batch_of(20, 7, seed=3)
    g = normalize_logits(f, normalize)
    own = g.gather(1, y[:, None]).squeeze(1)
    expected = g.mean(1) - own + 0.1 * 6 / 7
    torch.testing.assert_close(ldr_loss(f, y, 1e15, 0.1, normalize, reduction="none"), expected)
    total = sum(ldr_loss(f, torch.full_like(y, k), math.inf, 0.0, normalize, reduction="none") for k in range(7))
    torch.testing.assert_close(total, torch.zeros_like(total), atol=1e-9, rtol=0)


@pytest.mark.parametrize("lam", [0.01, 1.0, 100.0])
def test_gradient_is_the_weights_minus_the_label_and_bounded(lam):
    f, y = batch_of(10, 6, seed=4, spread=5.0)
    f.requires_grad_()
    ldr_loss(f, y, lam, 0.1, "none", reduction="sum").backward()
    d = torch.stack(
        [torch.from_numpy(margins(row.copy(), int(k), 0.1)) for row, k in zip(f.detach().numpy(), y, strict=True)]
    )
    torch.testing.assert_close(f.grad, torch.softmax(d / lam, 1) - torch.nn.functional.one_hot(y, 6))
    assert f.grad.abs().max() <= 1.0


@pytest.mark.parametrize("normalize", ["l1", "softplus"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_head_of_zeros_can_start(normalize, dtype):
    """The official code gives NaN there."""
    f = torch.zeros(3, 5, dtype=dtype, requires_grad=True)
    for value in (
        ldr_loss(f, torch.tensor([0, 1, 2]), 10.0, 0.1, normalize),
        ALDRLoss(3, normalize=normalize)(f, torch.tensor([0, 1, 2]), index=torch.arange(3)),
    ):
        f.grad = None
        value.backward()
        assert value.item() == pytest.approx(0.1 * 4 / 5, abs=0.01)
        assert f.grad.isfinite().all()


@pytest.mark.parametrize("normalize", ["l1", "softplus"])
@pytest.mark.parametrize("scale", [1e-20, 1.0, 1e20])
@pytest.mark.parametrize("lam", [0.0, 1.0, math.inf])
def test_the_temperature_and_the_norm_together_leave_no_range(normalize, scale, lam):
    """Their product is computed in float32, where 1e20 times the largest temperature is infinite."""
    f, y = batch_of(6, 7, seed=9)
    single, double = ((scale * f.detach()).to(dtype).requires_grad_() for dtype in (torch.float32, torch.float64))
    values = [ldr_loss(scores, y, lam, 0.1, normalize) for scores in (single, double)]
    torch.testing.assert_close(values[0].double(), values[1], rtol=2e-6, atol=2e-6)
    gradients = [torch.autograd.grad(value, scores)[0] for value, scores in zip(values, (single, double), strict=True)]
    size = gradients[1].abs().max().item()
    torch.testing.assert_close(gradients[0].double(), gradients[1], rtol=1e-4, atol=2e-6 * size)


def test_normalised_outputs():
    f, _ = batch_of(8, 5, seed=5)
    for normalize in ("l1", "softplus"):
        g = normalize_logits(f, normalize)
        torch.testing.assert_close(g.abs().mean(1), torch.ones(8, dtype=torch.float64))
        assert g.abs().max() <= 5
        torch.testing.assert_close(normalize_logits(g, "l1"), g)
    torch.testing.assert_close(normalize_logits(7.0 * f, "l1"), normalize_logits(f, "l1"))  # the scale is gone
    positive = torch.nn.functional.softplus(f)
    torch.testing.assert_close(normalize_logits(f, "softplus"), positive / positive.mean(1, keepdim=True))


# ---- LDR-k


@pytest.mark.parametrize("k", [1, 2, 3, 5])
@pytest.mark.parametrize("lam", [0.1, 1.0])
def test_capped_weights_by_a_general_solver(k, lam):
    f, y = batch_of(4, 5, seed=6)
    for row, label, found in zip(f.numpy(), y, ldr_k_loss(f, y, k, lam, 0.1, "none", reduction="none"), strict=True):
        d = margins(row.copy(), int(label), 0.1)
        best = minimize(
            lambda w, d=d: -(w @ d - lam * kl_from_uniform(w)),
            np.full(5, 0.2),
            bounds=[(1e-14, 1 / k)] * 5,
            constraints={"type": "eq", "fun": lambda w: w.sum() - 1},
            method="SLSQP",
            options={"ftol": 1e-14, "maxiter": 500},
        )
        assert found.item() == pytest.approx(-best.fun, abs=2e-6)


def test_capped_weights_between_their_ends():
    f, y = batch_of(50, 6, seed=7, spread=4.0)
    by_k = [ldr_k_loss(f, y, k, 0.3, normalize="none", reduction="none") for k in range(1, 7)]
    torch.testing.assert_close(by_k[0], ldr_loss(f, y, 0.3, normalize="none", reduction="none"))
    assert all((a >= b - 1e-12).all() for a, b in pairwise(by_k))
    mean = torch.stack(
        [torch.from_numpy(margins(row.copy(), int(k), 0.1)).mean() for row, k in zip(f.numpy(), y, strict=True)]
    )
    torch.testing.assert_close(by_k[5], mean)


@pytest.mark.parametrize("k", [1, 2, 4])
def test_gradient_of_capped_weights(k):
    f, y = batch_of(4, 5, seed=8)
    for normalize in ("none", "l1"):
        assert torch.autograd.gradcheck(lambda f, n=normalize: ldr_k_loss(f, y, k, 0.5, 0.1, n), (f.requires_grad_(),))


def test_capped_weights_with_ties_and_extremes():
    f = torch.tensor([[1e4, 1e4, 0, -1e4], [0, 0, 0, 0], [1e4, 0, 0, 0]], requires_grad=True)
    for k in (1, 2, 3, 4):
        f.grad = None
        value = ldr_k_loss(f, torch.tensor([3, 0, 0]), k, 0.1, 0.0, "none")
        value.backward()
        assert value.isfinite()
        assert f.grad.isfinite().all()
        assert f.grad.max() <= 1 / k / 3 + 1e-6


def test_k_out_of_range():
    for k in (0, 4):
        with pytest.raises(InputError, match=f"k is {k}, .* between 1 and the 3 classes"):
            ldr_k_loss(F, Y, k)


# ---- ALDR


@pytest.mark.parametrize(
    ("lam0", "kl", "lam", "loss"), [(1.0, 0.266217, 0.878840, 0.406986), (10.0, 0.003325, 9.984867, 0.100220)]
)
def test_hand_values_of_the_official_step(lam0, kl, lam, loss):
    """Without the 1e-5, which moves the temperature in its fifth digit."""
    q = torch.softmax(normalize_logits(F, "l1") / lam0, 1)
    assert kl_from_uniform(q[0].tolist()) == pytest.approx(kl, abs=1e-6)
    found = aldr_temperature(F, lam0=lam0)
    assert found.item() == pytest.approx(lam, abs=2e-5)
    assert aldr_loss(F, Y, found, lam0=lam0).item() == pytest.approx(loss, abs=2e-6)
    assert aldr_loss(F, Y, torch.tensor([lam]), lam0=lam0).item() == pytest.approx(loss, abs=1e-6)


def test_hand_values_of_the_fixed_point():
    lam = aldr_fixed_point(F, Y, lam0=1.0)
    assert lam.item() == pytest.approx(0.82911, abs=1e-5)
    assert aldr_loss(F, Y, lam, lam0=1.0).item() == pytest.approx(0.40891, abs=1e-5)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6), lam0=st.floats(0.05, 20), alpha=st.floats(1.05, 5))
def test_the_fixed_point_is_the_maximum_over_the_temperature(seed, lam0, alpha):
    f, y = batch_of(1, 4, seed=seed)
    d = torch.from_numpy(margins(normalize_logits(f, "l1")[0].numpy().copy(), int(y), 0.1)).numpy()
    a = alpha * math.log(4) / lam0

    def objective(lam):
        top = d.max()
        return top + lam * math.log(np.mean(np.exp((d - top) / lam))) - 0.5 * a * (lam - lam0) ** 2

    grid = np.linspace(lam0 * (1 - 1 / alpha), lam0, 400)[1:]
    at = max(grid, key=objective)
    step = grid[1] - grid[0]
    best = minimize_scalar(
        lambda v: -objective(v), bounds=(max(at - step, 1e-9), min(at + step, lam0)), method="bounded"
    )
    lam = aldr_fixed_point(f, y, lam0, alpha)
    assert lam0 * (1 - 1 / alpha) - 1e-9 <= lam.item() <= lam0
    assert aldr_loss(f, y, lam, lam0, alpha).item() >= -best.fun - 1e-6


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), lam0=st.floats(0.01, 100), alpha=st.floats(1.01, 10))
def test_temperatures_stay_in_their_interval(seed, lam0, alpha):
    f, _ = batch_of(8, 5, seed=seed, spread=10.0)
    lam = None
    for normalize in ("l1", "softplus", "none"):
        for _ in range(3):
            lam = aldr_temperature(f, lam, lam0, alpha, normalize)
            assert (lam <= lam0 * (1 + 1e-12)).all()
            assert (lam >= lam0 * (1 - 1 / alpha) * (1 - 1e-12)).all()
    assert aldr_temperature(torch.zeros(1, 5), lam0=lam0).item() == pytest.approx(lam0)


def test_how_far_the_temperatures_move():
    """At lambda_0 = 10 with L1 the adaptivity is all but switched off; at 0.1 it is not (K = 7, random logits)."""
    f = torch.randn(2000, 7, generator=torch.Generator().manual_seed(0))
    wide = aldr_temperature(f, lam0=10.0)
    assert 9.97 < wide.quantile(0.1) < wide.max() < 10.0
    lam = torch.full((2000,), 0.1)
    for _ in range(20):
        lam = aldr_temperature(f, lam, lam0=0.1)
    assert lam.min() < 0.051
    assert 0.06 < lam.max() < 0.1


def test_gradient_does_not_go_through_the_temperature():
    f, y = batch_of(4, 5, seed=9)
    lam = aldr_temperature(f, lam0=1.0)
    assert torch.autograd.gradcheck(lambda f: aldr_loss(f, y, lam, lam0=1.0, reduction="none"), (f.requires_grad_(),))
    loss = ALDRLoss(10, lam0=1.0)
    value = loss(f, y, index=torch.arange(4))
    (gradient,) = torch.autograd.grad(value, f)
    (expected,) = torch.autograd.grad(aldr_loss(f, y, lam, lam0=1.0), f)
    torch.testing.assert_close(gradient, expected, rtol=1e-6, atol=1e-9)  # the state is float32


def test_state_over_two_visits():
    f, y = batch_of(3, 5, seed=10)
    index, loss = torch.tensor([5, 0, 3]), ALDRLoss(8, lam0=1.0)
    first = aldr_temperature(f, lam0=1.0)
    second = aldr_temperature(2 * f.flip(0), first.float(), lam0=1.0)
    loss(f, y, index=index)
    torch.testing.assert_close(loss.state_for(index)["lam"], first.float())
    value = loss(2 * f.flip(0), y, index=index)
    torch.testing.assert_close(value, aldr_loss(2 * f.flip(0), y, second, lam0=1.0), rtol=1e-6, atol=1e-8)
    torch.testing.assert_close(loss.state_for(index)["lam"], second.float())
    assert loss.state_for(torch.tensor([1, 2, 4, 6, 7]))["lam"].tolist() == [1.0] * 5
    assert loss.state.visited.nonzero().squeeze(1).tolist() == [0, 3, 5]


def test_what_leaves_the_state_alone():
    f, y = batch_of(3, 5, seed=11)
    loss, index = ALDRLoss(4, lam0=1.0), torch.tensor([0, 1, 2])
    loss.eval()(f, y, index=index)
    loss.train()(f, torch.tensor([-1, -1, -1]), index=index)
    loss(torch.full((3, 5), torch.nan), y, index=index)
    loss(torch.full((3, 5), torch.inf), y, index=index)
    for wrong in ({"target": torch.tensor([0, 1, 9])}, {"weight": torch.ones(2)}):
        with pytest.raises(InputError):
            loss(f, **{"target": y, "index": index, **wrong})
    assert loss.state.lam.tolist() == [1.0] * 4
    assert not loss.state.visited.any()
    assert loss.eval()(f, y).item() == pytest.approx(aldr_loss(f, y, aldr_temperature(f, lam0=1.0), lam0=1.0).item())


def test_resume_is_exact():
    def steps(loss, seeds):
        return [
            loss(*batch_of(4, 5, seed=s), index=torch.randperm(9, generator=torch.Generator().manual_seed(s))[:4])
            for s in seeds
        ]

    whole, resumed = ALDRLoss(9, lam0=0.5), ALDRLoss(9, lam0=0.5)
    steps(whole, range(3))
    file = io.BytesIO()
    torch.save(whole.state_dict(), file)
    file.seek(0)
    resumed.load_state_dict(torch.load(file, weights_only=True))
    assert all(torch.equal(a, b) for a, b in zip(steps(whole, range(3, 6)), steps(resumed, range(3, 6)), strict=True))
    assert torch.equal(whole.state.lam, resumed.state.lam)
    assert whole.state.lam.dtype == torch.float32
    assert not torch.equal(
        torch.stack(steps(ALDRLoss(9, lam0=0.5), range(3, 6))), torch.stack(steps(whole, range(3, 6)))
    )


def test_exact_form_needs_no_memory():
    loss = ALDRLoss(exact=True, lam0=1.0)
    assert loss(F, Y).item() == pytest.approx(0.40891, abs=1e-5)
    assert not loss.state_dict()
    with pytest.raises(InputError, match="remembers no sample"):
        loss.state_for(torch.tensor([0]))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ALDRLoss(), "pass num_samples"),
        (lambda: ALDRLoss(0), "num_samples is 0"),
        (lambda: ALDRLoss(3, lam0=0.0), "lam0 is 0.0"),
        (lambda: ALDRLoss(3, lam0=-1.0), "lam0 is -1"),
        (lambda: ALDRLoss(3, alpha=1.0), "alpha is 1.0, but it must be above 1"),
        (lambda: ALDRLoss(3, normalize="L1"), "normalize is 'L1'"),
        (lambda: ALDRLoss(3)(F, Y), "came without index"),
        (lambda: ALDRLoss(3)(F, Y, index=torch.tensor([3])), "holds 3 to 3, but .* 0 to 2: pass num_samples=4"),
        (lambda: ALDRLoss(3)(F, Y, index=torch.tensor([-1])), "holds -1"),
        (lambda: ALDRLoss(3)(F, Y, index=torch.tensor([0.0])), "whole number"),
        (lambda: ALDRLoss(3)(F, Y, index=torch.tensor([0, 1])), "each of 1 samples"),
        (lambda: ALDRLoss(3)(torch.zeros(1, 1), torch.tensor([0]), index=torch.tensor([0])), "at least 2"),
        (lambda: LDRLoss()(torch.zeros(1, 1), torch.tensor([0])), "at least 2"),
    ],
)
def test_bad_input_is_refused(call, message):
    with pytest.raises(InputError, match=message):
        call()


def test_aldr_has_no_graph_break_under_compile():
    loss, f = ALDRLoss(10, lam0=1.0), F.float()
    expected = loss(f, Y, index=torch.tensor([4]))
    again = ALDRLoss(10, lam0=1.0)
    torch._dynamo.reset()
    compiled = torch.compile(lambda f, y, index: again(f, y, index=index), fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(f, Y, torch.tensor([4])), expected)
    torch.testing.assert_close(again.state.lam, loss.state.lam)

"""The comp-sum family, its consistency bound by brute force, and its adversarial form."""

import math

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from torch import nn

from robustvision.core.errors import InputError
from robustvision.core.losses import (
    CompSumLoss,
    comp_sum_loss,
    cross_entropy_loss,
    h_consistency,
    h_consistency_transform,
    mae_loss,
    smooth_adversarial_comp_sum_loss,
)


def batch_of(size=6, classes=5, seed=0, spread=1.5):
    generator = torch.Generator().manual_seed(seed)
    f = spread * torch.randn(size, classes, generator=generator, dtype=torch.float64)
    return f, torch.randint(0, classes, (size,), generator=generator)


@pytest.mark.parametrize("at", [1.0, 2.0])
def test_it_is_continuous_in_tau(at):
    f, y = batch_of(20)
    here = comp_sum_loss(f, y, at, reduction="none")
    for near in (1e-5, 2e-6, 1e-7, 1e-9):
        for tau in (at - near, at + near):
            torch.testing.assert_close(comp_sum_loss(f, y, tau, reduction="none"), here, rtol=20 * near, atol=1e-12)


def test_members():
    f, y = batch_of(20)
    p = f.softmax(1).gather(1, y[:, None]).squeeze(1)
    torch.testing.assert_close(comp_sum_loss(f, y, 0.0, reduction="none"), 1 / p - 1)
    torch.testing.assert_close(comp_sum_loss(f, y, 1.0), cross_entropy_loss(f, y))
    torch.testing.assert_close(comp_sum_loss(f, y, 2.0), mae_loss(f, y) / 2)


@pytest.mark.parametrize("tau", [0.0, 0.5, 1.0, 1.7, 3.0])
def test_a_sample_weighs_its_cross_entropy_gradient_by_a_power_of_p(tau):
    f, y = batch_of(10)
    f.requires_grad_()
    (gradient,) = torch.autograd.grad(comp_sum_loss(f, y, tau, reduction="sum"), f)
    (reference,) = torch.autograd.grad(cross_entropy_loss(f, y, reduction="sum"), f)
    p = f.detach().softmax(1).gather(1, y[:, None])
    torch.testing.assert_close(gradient, p ** (tau - 1) * reference)


def test_the_exponent_can_be_cut():
    """At tau < 1 a mislabelled sample would blow up the batch."""
    f = torch.tensor([[50.0, 0.0], [0.0, 0.0]], requires_grad=True)
    y = torch.tensor([1, 1])
    value = CompSumLoss(tau=0.0, max_exponent=5.0, reduction="none")(f, y)
    value.sum().backward()
    torch.testing.assert_close(value, torch.tensor([math.expm1(5.0), 1.0]))
    assert f.grad[0].abs().sum() == 0
    assert f.grad[1].abs().sum() > 0


# ---- the bound


def conditional_excess(tau, n, t):
    """The least excess of the loss's conditional risk over all scores whose best class is worse by t, by brute force.

    Two classes decide; the distribution p has p_max - p_predicted = t.
    """

    def phi(u):
        return np.log1p(u) if tau == 1 else ((1 + u) ** (1 - tau) - 1) / (1 - tau)

    def risk(scores, p):
        e = np.exp(scores - scores.max())
        return float(p @ phi(e.sum() / e - 1))

    def least(p, constrained):
        best = np.inf
        for start in range(8):
            rng = np.random.default_rng(start)
            constraints = [{"type": "ineq", "fun": lambda s, k=k: s[1] - s[k]} for k in range(len(p)) if k != 1]
            found = minimize(
                risk,
                rng.normal(size=len(p)),
                args=(p,),
                method="SLSQP",
                bounds=[(-12, 12)] * len(p),
                constraints=constraints if constrained else (),
                options={"maxiter": 500, "ftol": 1e-13},
            )
            best = min(best, found.fun)
        return best

    worst = np.inf
    for mass in np.linspace(t, 1.0, 9 if n > 2 else 1) if n > 2 else [1.0]:
        p = np.zeros(n)
        p[0], p[1] = (mass + t) / 2, (mass - t) / 2
        p[2:] = (1 - mass) / max(n - 2, 1)
        if p[2:].max(initial=0.0) > p[0]:
            continue
        worst = min(worst, least(p, True) - least(p, False))
    return worst


@pytest.mark.parametrize("tau", [0.0, 0.5, 1.0, 1.5])
@pytest.mark.parametrize("t", [0.2, 0.6])
def test_the_transform_is_the_least_excess_of_two_classes(tau, t):
    expected = conditional_excess(tau, 2, t)
    assert h_consistency_transform(t, tau, 2).item() == pytest.approx(expected, abs=2e-4)


@pytest.mark.parametrize(("tau", "exact"), [(0.0, True), (1.0, True), (1.5, False)])
def test_the_transform_bounds_the_excess_of_three_classes(tau, exact):
    expected = conditional_excess(tau, 3, 0.5)
    found = h_consistency_transform(0.5, tau, 3).item()
    assert found <= expected + 1e-4
    if exact:
        assert found == pytest.approx(expected, abs=2e-3)


def test_hand_values_of_the_transform():
    for tau, value in [(0.0, 0.08348), (0.5, 0.07845), (1.0, 0.08228)]:
        for classes in (2, 10, 1000):
            assert h_consistency_transform(0.4, tau, classes).item() == pytest.approx(value, abs=1e-5)


@pytest.mark.parametrize("tau", [0.0, 0.3, 0.999999, 1.0, 1.000001, 1.5, 1.999, 2.0, 3.0])
@pytest.mark.parametrize("classes", [2, 10, 1000])
def test_the_bound_inverts_the_transform_and_stays_below_its_closed_forms(tau, classes):
    t = torch.linspace(0, 1, 21, dtype=torch.float64)
    excess = h_consistency_transform(t, tau, classes)
    assert (excess.diff() > 0).all()
    torch.testing.assert_close(h_consistency(excess, tau, classes), t, rtol=1e-4, atol=1e-6)
    if tau < 1:
        closed = (2**tau * (2 - tau) * excess).sqrt()
    elif tau < 2:
        closed = (2 * classes ** (tau - 1) * excess).sqrt()
    else:
        closed = (tau - 1) * classes ** (tau - 1) * excess
    assert (h_consistency(excess, tau, classes) <= closed + 1e-6).all()
    assert h_consistency(0.0, tau, classes) == 0
    assert h_consistency(1e6, tau, classes) == 1


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: h_consistency(-0.1, 1.0, 3), "cannot be below 0"),
        (lambda: h_consistency(0.1, -1.0, 3), "tau is -1"),
        (lambda: h_consistency(0.1, 1.0, 1), "num_classes is 1"),
        (lambda: h_consistency_transform(1.2, 1.0, 3), r"in \[0, 1\]"),
    ],
)
def test_bounds_out_of_range_are_refused(call, message):
    with pytest.raises(InputError, match=message):
        call()


# ---- the adversarial form


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.BatchNorm1d(8), nn.Tanh(), nn.Linear(8, 3)).double()


def ascent(objective, x, radius=0.3, steps=5):
    """A projected ascent from noise, as an attack does it."""
    start = x + radius * (2 * torch.rand(x.shape, generator=torch.Generator().manual_seed(1), dtype=x.dtype) - 1)
    for _ in range(steps):
        start = start.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(objective(start).sum(), start)
        start = (start + 0.1 * gradient.sign()).clamp(x - radius, x + radius)
    return start.detach()


def test_without_the_second_term_it_is_the_clean_loss():
    model, x, y = network().eval(), torch.randn(5, 4, dtype=torch.float64), torch.tensor([0, 1, 2, 0, 1])

    def never(objective, x):
        raise AssertionError

    found = smooth_adversarial_comp_sum_loss(model, x, y, never, nu=0.0)
    torch.testing.assert_close(found, cross_entropy_loss(model(x), y))
    scaled = smooth_adversarial_comp_sum_loss(model, x, y, never, tau=0.5, rho=0.3, nu=0.0)
    torch.testing.assert_close(scaled, comp_sum_loss(model(x) / 0.3, y, 0.5))


def test_second_term_is_the_distance_between_the_margins():
    model, x, y = network().eval(), torch.randn(5, 4, dtype=torch.float64), torch.tensor([0, 1, 2, 0, 1])
    moved = x + 0.2
    found = smooth_adversarial_comp_sum_loss(model, x, y, lambda objective, x: moved, rho=2.0, nu=3.0, reduction="none")
    for i, label in enumerate(y.tolist()):
        f, g = model(x)[i].detach().numpy(), model(moved)[i].detach().numpy()
        others = [k for k in range(3) if k != label]
        d = [(g[label] - g[k]) - (f[label] - f[k]) for k in others]
        clean = math.log1p(sum(math.exp(-(f[label] - f[k]) / 2) for k in others))
        assert found[i].item() == pytest.approx(clean + 3 * math.hypot(*d), rel=1e-9)


def test_gradient_of_the_second_term():
    x, y = torch.randn(3, 4, dtype=torch.float64), torch.tensor([0, 1, 2])
    moved = x + 0.3 * torch.randn(3, 4, dtype=torch.float64)
    weight = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(
        lambda w: smooth_adversarial_comp_sum_loss(lambda x: x @ w, x, y, lambda objective, x: moved), (weight,)
    )
    still = smooth_adversarial_comp_sum_loss(lambda x: x @ weight, x, y, lambda objective, x: x)
    still.backward()
    assert weight.grad.isfinite().all()  # |0| under the root


def test_the_attack_sees_a_network_in_evaluation_and_leaves_its_modes():
    model, x, y = network().train(), torch.randn(6, 4, dtype=torch.float64), torch.tensor([0, 1, 2, 0, 1, 2])
    model[2].eval()  # frozen statistics
    seen = []

    def attack(objective, x):
        seen.append([part.training for part in model.modules()])
        return ascent(objective, x)

    value = smooth_adversarial_comp_sum_loss(model, x, y, attack)
    value.backward()
    assert not any(seen[0])
    assert [part.training for part in model] == [True, True, False, True, True]
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())


def test_the_attack_raises_what_it_is_given():
    model, x, y = network().eval(), torch.randn(6, 4, dtype=torch.float64), torch.tensor([0, 1, 2, 0, 1, 2])
    values = [
        smooth_adversarial_comp_sum_loss(model, x, y, lambda o, x, n=steps: ascent(o, x, steps=n)).item()
        for steps in (0, 1, 5)
    ]
    assert values[0] < values[1] < values[2]


def test_the_modes_come_back_when_the_attack_fails():
    model = network().train()

    def broken(objective, x):
        raise ValueError

    with pytest.raises(ValueError):  # noqa: PT011
        smooth_adversarial_comp_sum_loss(model, torch.randn(4, 4).double(), torch.tensor([0, 1, 2, 0]), broken)
    assert all(part.training for part in model.modules())


@pytest.mark.parametrize(
    ("setting", "message"), [({"rho": 0.0}, "rho is 0"), ({"nu": -1.0}, "nu is -1"), ({"tau": -1.0}, "tau is -1")]
)
def test_bad_settings_are_refused(setting, message):
    with pytest.raises(InputError, match=message):
        smooth_adversarial_comp_sum_loss(nn.Identity(), torch.zeros(1, 3), torch.tensor([0]), ascent, **setting)


def test_an_attack_of_another_shape_is_refused():
    with pytest.raises(InputError, match=r"returned \[1, 2\]"):
        smooth_adversarial_comp_sum_loss(nn.Identity(), torch.zeros(1, 3), torch.tensor([0]), lambda o, x: x[:, :2])


@pytest.mark.parametrize("tau", [1.999, 1.99999, 2 - 1e-12])
def test_the_transform_comes_to_its_limit_at_tau_2_without_overflow(tau):
    t = torch.tensor([0.0, 0.1, 0.4, 1.0], dtype=torch.float64)
    torch.testing.assert_close(h_consistency_transform(t, tau, 10), t / 10, rtol=2 * (2 - tau) * 20, atol=4 * (2 - tau))
    assert h_consistency(0.02, tau, 10).item() == pytest.approx(0.2, rel=0.05)


@pytest.mark.parametrize("max_exponent", [0.0, -1.0, math.nan])
def test_an_exponent_that_cuts_everything_off_is_refused(max_exponent):
    with pytest.raises(InputError, match="max_exponent is"):
        CompSumLoss(tau=0.0, max_exponent=max_exponent)
    with pytest.raises(InputError, match="max_exponent is"):
        comp_sum_loss(torch.zeros(1, 2), torch.tensor([0]), 0.0, max_exponent=max_exponent)

"""SogCLR and iSogCLR against the authors' steps in numpy, against the robust objective, and at its known defects."""

import math

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from robustvision.core.errors import InputError
from robustvision.core.losses import (
    ISOGCLR_PUBLISHED,
    BimodalISogCLRLoss,
    BimodalSogCLRLoss,
    ISogCLRLoss,
    SogCLRLoss,
    global_contrast,
    kl_dro,
    kl_dro_ball,
)

N, D = 12, 6


def pair(batch=5, seed=0, dtype=torch.float64, spread=0.4):
    """Two views that are near each other."""
    generator = torch.Generator().manual_seed(seed)
    first = torch.randn(batch, D, generator=generator, dtype=torch.float64)
    second = first + spread * torch.randn(batch, D, generator=generator, dtype=torch.float64)
    return first.to(dtype), second.to(dtype)


def unit(x):
    return x / np.linalg.norm(x, axis=1, keepdims=True)


class UnimodalInNumpy:
    """The authors' step, written over explicit lists of negatives, with s itself and not its logarithm."""

    def __init__(self, setting):
        self.setting = setting
        self.s, self.u, self.tau = {}, {}, {}

    def step(self, first, second, ids):
        c, batch = self.setting, len(ids)
        z = np.concatenate([unit(first), unit(second)])
        total, memory = 0.0, []
        for i, name in enumerate(ids):
            tau, seen = self.tau.get(name, c.tau_init), name in self.s
            s_of, gradient_of = [], []
            for anchor in (i, i + batch):
                sims = np.array([z[anchor] @ z[j] for j in range(2 * batch) if j % batch != i])
                assert len(sims) == 2 * batch - 2
                g = np.mean(np.exp(sims / tau))
                s = (1 - c.gamma) * self.s[name] + c.gamma * g if seen else g
                weights = np.exp(sims / tau) / s
                total += np.mean(weights * sims) - z[i] @ z[i + batch]
                s_of.append(s)
                gradient_of.append(np.log(s) + c.rho - np.mean(weights * sims / tau))
            gradient = np.clip(np.mean(gradient_of), -c.grad_clip, c.grad_clip)
            u = (1 - c.beta) * self.u.get(name, 0.0) + c.beta * gradient
            memory.append((name, np.mean(s_of), u, np.clip(tau - c.eta * u, c.tau_min, c.tau_max)))
        for name, s, u, tau in memory:
            self.s[name], self.u[name], self.tau[name] = s, u, tau
        return total / batch


class BimodalInNumpy:
    """The authors' step for one side, with the running maximum b that keeps s in range; the positive is left out."""

    def __init__(self, setting):
        self.setting = setting
        self.s, self.b, self.u, self.tau = {}, {}, {}, {}

    def step(self, sims, ids):
        """``sims[i, j]`` is anchor i against candidate j."""
        c, batch, values = self.setting, len(ids), []
        for i, name in enumerate(ids):
            tau = self.tau.get(name, c.tau_init)
            diff = np.array([sims[i, j] - sims[i, i] for j in range(batch) if j != i])
            old_b = self.b.get(name, -np.inf)
            b = max(old_b, (diff / tau).max())
            e = np.exp(diff / tau - b)
            g = e.sum() / (batch - 1)
            s = (1 - c.gamma) * self.s[name] * np.exp(old_b - b) + c.gamma * g if name in self.s else g
            weights = e / s
            values.append((weights * diff).sum() / (batch - 1))
            gradient = np.log(s) + b + c.rho - (weights * diff / tau).sum() / (batch - 1)
            gradient = np.clip(gradient, -c.grad_clip, c.grad_clip)
            u = (1 - c.beta) * self.u.get(name, 0.0) + c.beta * gradient
            self.s[name], self.b[name], self.u[name] = s, b, u
            self.tau[name] = np.clip(tau - c.eta * u, c.tau_min, c.tau_max)
        return np.array(values)


BATCHES = [[3, 0, 7, 11, 5], [3, 7, 1, 0, 2], [7, 11, 3, 2, 9], [3, 7, 0]]
"""Visited and unvisited samples mixed, and a last batch that is smaller."""


@pytest.mark.parametrize("name", ["unimodal", "unimodal_class_default"])
def test_unimodal_steps_are_those_of_the_authors(name):
    setting = ISOGCLR_PUBLISHED[name]
    loss, expected = ISogCLRLoss(N, **setting._asdict()), UnimodalInNumpy(setting)
    for seed, ids in enumerate(BATCHES):
        first, second = pair(len(ids), seed)
        value = loss(first, second, index=torch.tensor(ids))
        assert value.item() == pytest.approx(expected.step(first.numpy(), second.numpy(), ids), rel=2e-6)
        for place in range(N):
            assert loss.state.visited[place].item() == (place in expected.s)
            for kept, values in (("tau", expected.tau), ("u", expected.u)):
                before = setting.tau_init if kept == "tau" else 0.0
                found = getattr(loss.state, kept)[place].item()
                assert found == pytest.approx(values.get(place, before), rel=1e-5, abs=1e-6)
            if place in expected.s:
                assert loss.state.log_s[place].item() == pytest.approx(math.log(expected.s[place]), rel=1e-5, abs=1e-6)


def test_bimodal_steps_are_those_of_the_authors_with_their_running_maximum():
    setting = ISOGCLR_PUBLISHED["bimodal"]._replace(rho=1.0)  # so that some temperatures rise and others fall
    loss, pictures, texts = BimodalISogCLRLoss(N, **setting._asdict()), BimodalInNumpy(setting), BimodalInNumpy(setting)
    for seed, ids in enumerate(BATCHES):
        first, second = pair(len(ids), seed, spread=1.5)
        sims = unit(first.numpy()) @ unit(second.numpy()).T
        expected = (pictures.step(sims, ids) + texts.step(sims.T, ids)).mean()
        assert loss(first, second, index=torch.tensor(ids)).item() == pytest.approx(expected, rel=1e-5)
        for state, side in ((loss.first_state, pictures), (loss.second_state, texts)):
            for place in side.s:
                assert state.tau[place].item() == pytest.approx(side.tau[place], rel=1e-4)
                assert state.u[place].item() == pytest.approx(side.u[place], rel=1e-5, abs=1e-5)
                log_s = math.log(side.s[place]) + side.b[place]
                assert state.log_s[place].item() == pytest.approx(log_s, rel=1e-5, abs=1e-5)
    taus = torch.cat([loss.first_state.tau, loss.second_state.tau])
    assert taus.min() < 0.01 < taus.max()


# ---- gradients


def visited_loss(kind, seeds=(0, 1)):
    """A loss whose s is an average of two visits, so that it differs from g."""
    loss = kind(N)
    for seed in seeds:
        loss(*pair(5, seed), index=torch.arange(5))
    return loss


@pytest.mark.parametrize("kind", [SogCLRLoss, ISogCLRLoss])
def test_unimodal_gradient_is_that_of_the_formula_with_fixed_weights(kind):
    loss = visited_loss(kind)
    first, second = pair(5, 2)
    tau = loss.state.tau[:5].double()
    s_before = loss.state.log_s[:5].double().exp()
    with torch.no_grad():
        z = torch.cat([normalize(first), normalize(second)])
        e = (z @ z.T / tau.repeat(2)[:, None]).exp()
        e = e * (1 - torch.eye(5, dtype=e.dtype).repeat(2, 2))
        s = 0.2 * s_before.repeat(2) + 0.8 * e.sum(1) / 8
        weights = e / s[:, None] / 8

    def fixed(first, second):
        z = torch.cat([normalize(first), normalize(second)])
        return ((weights * (z @ z.T)).sum() - 2 * (z[:5] * z[5:]).sum()) / 5

    inputs = (first.requires_grad_(), second.requires_grad_())
    assert torch.autograd.gradcheck(fixed, inputs)
    expected = torch.autograd.grad(fixed(*inputs), inputs)
    found = torch.autograd.grad(loss(*inputs, index=torch.arange(5)), inputs)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("kind", [BimodalSogCLRLoss, BimodalISogCLRLoss])
def test_bimodal_gradient_is_that_of_the_formula_with_fixed_weights(kind):
    """With 1/(B - 1), and with the positive in h but not among the negatives."""
    loss = visited_loss(kind)
    first, second = pair(5, 2, spread=1.5)
    weights = []
    with torch.no_grad():
        sims = normalize(first) @ normalize(second).T
        for state, of_anchors in ((loss.first_state, sims), (loss.second_state, sims.T)):
            e = ((of_anchors - sims.diagonal()[:, None]) / state.tau[:5].double()[:, None]).exp()
            e = e * (1 - torch.eye(5, dtype=e.dtype))
            s = 0.2 * state.log_s[:5].double().exp() + 0.8 * e.sum(1) / 4
            weights.append(e / s[:, None] / 4)

    def fixed(first, second):
        sims = normalize(first) @ normalize(second).T
        h = [one - sims.diagonal()[:, None] for one in (sims, sims.T)]
        return ((weights[0] * h[0]).sum() + (weights[1] * h[1]).sum()) / 5

    inputs = (first.requires_grad_(), second.requires_grad_())
    assert torch.autograd.gradcheck(fixed, inputs)
    expected = torch.autograd.grad(fixed(*inputs), inputs)
    found = torch.autograd.grad(loss(*inputs, index=torch.arange(5)), inputs)
    torch.testing.assert_close(found, expected, rtol=2e-5, atol=1e-7)


def unimodal_objective(first, second, tau):
    """tau log E exp(h / tau) over all negatives, h = cos - cos to the positive: both views, mean over the samples."""
    z = torch.cat([normalize(first), normalize(second)])
    batch = len(first)
    h = z @ z.T - (z[:batch] * z[batch:]).sum(1).repeat(2)[:, None]
    rows = [h[i, [j for j in range(2 * batch) if j % batch != i % batch]] for i in range(2 * batch)]
    values = [tau[i % batch] * torch.logsumexp(row / tau[i % batch], 0) for i, row in enumerate(rows)]
    return sum(values) / batch - 2 * (tau * math.log(2 * batch - 2)).sum() / batch


def test_at_the_first_visit_the_gradient_is_that_of_the_robust_objective():
    """s = g, so nothing is stale: gradcheck holds for the objective, and the loss has its gradient."""
    inputs = tuple(view.requires_grad_() for view in pair())
    tau = torch.full((5,), 0.1, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda a, b: unimodal_objective(a, b, tau), inputs)
    expected = torch.autograd.grad(unimodal_objective(*inputs, tau), inputs)
    for loss in (ISogCLRLoss(N), SogCLRLoss(N), SogCLRLoss(N, gamma=1.0)):
        found = torch.autograd.grad(loss(*inputs, index=torch.arange(5)), inputs)
        torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-8)


def test_with_gamma_1_nothing_is_remembered():
    loss = SogCLRLoss(N, gamma=1.0)
    loss(*pair(5, 3), index=torch.arange(5))
    inputs = tuple(view.requires_grad_() for view in pair(5, 4))
    again = torch.autograd.grad(loss(*inputs, index=torch.arange(5)), inputs)
    first_time = torch.autograd.grad(SogCLRLoss(N, gamma=1.0)(*inputs, index=torch.arange(5)), inputs)
    torch.testing.assert_close(again, first_time)


def test_the_gradient_of_tau_is_the_derivative_of_the_dual():
    """Of KL-DRO_tau(h) + tau rho, by finite differences and by autograd through the shared primitive."""
    torch.manual_seed(0)
    h, negatives = torch.randn(4, 7, dtype=torch.float64), torch.rand(4, 7) > 0.3
    tau = torch.tensor([0.05, 0.1, 0.4, 1.0], dtype=torch.float64, requires_grad=True)
    prior = negatives.double() / negatives.sum(1, keepdim=True)

    def dual(tau):
        return kl_dro(h, tau, prior).value + 0.4 * tau

    step = global_contrast(h, negatives, tau.detach(), torch.zeros(4), torch.zeros(4, dtype=torch.bool), rho=0.4)
    eps = 1e-6
    with torch.no_grad():
        slope = (dual(tau + eps) - dual(tau - eps)) / (2 * eps)
    torch.testing.assert_close(step.tau_gradient, slope, rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(step.tau_gradient, torch.autograd.grad(dual(tau).sum(), tau)[0], rtol=1e-9, atol=1e-9)


def test_temperatures_settle_where_the_weights_lie_on_the_border_of_the_ball():
    """Fixed features: tau_i goes to the dual temperature that ``kl_dro_ball`` finds by bisection."""
    torch.manual_seed(0)
    first, second = torch.randn(8, D), torch.randn(8, D)
    loss = BimodalISogCLRLoss(8, 0.5, 0.01, 2.0, rho=0.4, eta=0.05)
    for _ in range(400):
        loss(first, second, index=torch.arange(8))
    sims = normalize(first.double()) @ normalize(second.double()).T
    others = ~torch.eye(8, dtype=torch.bool)
    for state, of_anchors in ((loss.first_state, sims), (loss.second_state, sims.T)):
        h = (of_anchors - sims.diagonal()[:, None])[others].view(8, 7)
        torch.testing.assert_close(state.tau.double(), kl_dro_ball(h, 0.4).lam, rtol=1e-3, atol=0)


def test_the_value_is_that_of_a_hand():
    """Orthogonal samples, equal views: every weight is 1, so L = 0 - 1 for each view; the gradient of tau is rho."""
    loss = ISogCLRLoss(4)
    assert loss(torch.eye(4), 3 * torch.eye(4), index=torch.arange(4)).item() == pytest.approx(-2.0, abs=1e-7)
    assert loss.state.u.tolist() == pytest.approx([0.5 * 0.4] * 4)
    assert loss.state.tau.tolist() == pytest.approx([0.1 - 0.03 * 0.2] * 4)


# ---- the known defects


@pytest.mark.parametrize("kind", [ISogCLRLoss, BimodalISogCLRLoss])
def test_the_positive_is_no_negative(kind):
    """Defect (a). All negatives at right angles to the anchor: with the positive among them, s would be far from 1."""
    loss = kind(4, 0.1, 0.05, 1.0)
    loss(torch.eye(4), torch.eye(4), index=torch.arange(4))
    state = loss.state if kind is ISogCLRLoss else loss.first_state
    expected = 0.0 if kind is ISogCLRLoss else -1 / 0.1  # mean exp((0 - 1) / tau)
    assert state.log_s.tolist() == pytest.approx([expected] * 4, abs=1e-5)


@pytest.mark.parametrize("kind", [ISogCLRLoss, BimodalISogCLRLoss])
def test_the_gradient_does_not_grow_with_the_batch(kind):
    """Defect (b), a missing 1/(B - 1). Against copies of one negative, an anchor's gradient is the same at any B."""
    norms = []
    for batch in (3, 9, 129):
        anchor = torch.tensor([[1.0, 0.2, 0.0]], dtype=torch.float64, requires_grad=True)
        rest = torch.tensor([[0.3, 1.0, 0.1]], dtype=torch.float64).expand(batch - 1, 3)
        partner = torch.tensor([[1.0, 0.0, 0.5]], dtype=torch.float64)
        loss = kind(batch, 0.5, 0.05, 1.0)
        value = loss(torch.cat([anchor, rest]), torch.cat([partner, rest]), index=torch.arange(batch))
        (gradient,) = torch.autograd.grad(value * batch, anchor)
        norms.append(gradient.norm().item())
    # the anchor is also a negative of the others, which is B - 1 anchors with 1 / (B - 1) of it each
    assert max(norms) / min(norms) < 1.12


def test_first_visits_are_told_apart_within_a_batch():
    """Defect (c): the old flag was one for the whole batch, so the newcomer would start from s = 0."""
    loss, fresh = SogCLRLoss(N), SogCLRLoss(N)
    loss(*pair(4, 0), index=torch.tensor([0, 1, 2, 3]))
    before = loss.state.log_s.clone()
    for one in (loss, fresh):
        one(*pair(4, 1), index=torch.tensor([0, 1, 2, 9]))
    assert loss.state.log_s[9] == fresh.state.log_s[9]
    mixed = torch.logaddexp(before[:3] + math.log(0.2), fresh.state.log_s[:3] + math.log(0.8))
    assert (mixed - fresh.state.log_s[:3]).abs().min() > 1e-3
    # the two views are averaged after the mixing, which is linear in s
    torch.testing.assert_close(loss.state.log_s[:3], mixed)


@pytest.mark.parametrize("kind", [ISogCLRLoss, SogCLRLoss, BimodalISogCLRLoss, BimodalSogCLRLoss])
def test_any_batch_size_in_any_order(kind):
    """Defect (d), a mask made for one size."""
    loss = kind(N)
    for batch in (5, 2, 12, 3):
        assert loss(*pair(batch, batch), index=torch.arange(batch)).isfinite()
    batch_of_two = kind(N)(*pair(2), index=torch.tensor([1, 0]))
    assert batch_of_two.isfinite()


@pytest.mark.parametrize("kind", [ISogCLRLoss, BimodalISogCLRLoss])
@pytest.mark.parametrize("batch", [0, 1])
def test_less_than_two_samples_have_no_negatives(kind, batch):
    with pytest.raises(InputError, match=rf"a batch of {batch} came.*drop_last"):
        kind(N)(*pair(batch), index=torch.arange(batch))


# ---- numbers


@pytest.mark.parametrize("kind", [BimodalISogCLRLoss, BimodalSogCLRLoss])
def test_the_lowest_temperature_does_not_overflow(kind):
    """h / tau is up to 2 / 0.005 = 400 here; e^400 is far beyond float32."""
    loss = kind(N, 0.005)
    first = torch.eye(N)[:5].requires_grad_()
    second = -torch.eye(N)[:5] + torch.eye(N)[[1, 2, 3, 4, 0]]  # nearest to the wrong one
    for _ in range(3):
        value = loss(first, second, index=torch.arange(5))
        (gradient,) = torch.autograd.grad(value, first)
        assert value.isfinite()
        assert gradient.isfinite().all()
    assert loss.first_state.log_s[:5].min() > 250
    assert loss.first_state.visited[:5].all()


@pytest.mark.parametrize("kind", [ISogCLRLoss, BimodalISogCLRLoss])
def test_half_precision_features_are_computed_in_float32(kind):
    first, second = pair(6, dtype=torch.bfloat16)
    expected = kind(N)(first.float(), second.float(), index=torch.arange(6))
    plain = kind(N)(first, second, index=torch.arange(6))
    with torch.autocast("cpu", torch.bfloat16):
        loss = kind(N)
        found = loss(first.float(), second.float(), index=torch.arange(6))
    assert plain.dtype == found.dtype == torch.float32
    assert torch.equal(plain, expected)
    assert torch.equal(found, expected)
    assert all(buffer.dtype == torch.float32 for name, buffer in loss.named_buffers() if "visited" not in name)


def test_features_of_any_length_and_of_none():
    first, second = pair(dtype=torch.float32)
    index = torch.arange(5)
    expected = ISogCLRLoss(N)(first, second, index=index)
    torch.testing.assert_close(ISogCLRLoss(N)(1e4 * first, 1e-4 * second, index=index), expected)
    first[0] = 0.0
    first.requires_grad_()
    loss = ISogCLRLoss(N)
    value = loss(first, second, index=index)
    value.backward()
    assert value.isfinite()
    assert first.grad.isfinite().all()
    assert loss.state.visited[:5].all()


def test_the_order_of_a_batch_does_not_matter():
    first, second = pair(5)
    order = torch.tensor([4, 2, 0, 1, 3])
    one, other = ISogCLRLoss(N), ISogCLRLoss(N)
    torch.testing.assert_close(
        one(first, second, index=order), other(first[order], second[order], index=order[order]), rtol=1e-10, atol=0
    )
    torch.testing.assert_close(one.state.tau, other.state.tau)


def test_settings_out_of_range():
    for bad, message in (
        ({"tau_min": 0.0}, "tau_min is 0.0, but it must be above 0"),
        ({"tau_init": 2.0}, "tau_init is 2.0, but it must lie in"),
        ({"gamma": 0.0}, r"gamma is 0.0, but a weight of the new value is in \(0, 1\]"),
        ({"beta": 1.5}, "beta is 1.5"),
        ({"rho": -1.0}, "rho is -1.0"),
        ({"eta": -1.0}, "eta is -1.0"),
        ({"grad_clip": 0.0}, "grad_clip is 0.0"),
        ({"num_samples": 0}, "num_samples is 0"),
    ):
        with pytest.raises(InputError, match=message):
            ISogCLRLoss(**{"num_samples": N, **bad})


def test_features_that_do_not_fit():
    first, second = pair()
    for a, b in ((first, second[:4]), (first[0], second[0]), (first.long(), second.long())):
        with pytest.raises(InputError, match=r"two floating-point \[batch, size\] of one shape"):
            ISogCLRLoss(N)(a, b, index=torch.arange(5))


def test_published_settings_are_those_of_the_table():
    assert tuple(ISOGCLR_PUBLISHED["unimodal"]) == (0.1, 0.05, 1.0, 0.8, 0.4, 0.5, 0.03, 3.0)
    assert ISogCLRLoss(1).state.setting == ISOGCLR_PUBLISHED["unimodal"]
    assert BimodalISogCLRLoss(1).first_state.setting == ISOGCLR_PUBLISHED["bimodal"]

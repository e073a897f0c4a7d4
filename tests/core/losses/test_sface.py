"""SFace against its formula in numpy, its analytic gradients, and the numeric traps of its official code."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from robustvision.core.errors import InputError
from robustvision.core.losses import SFACE_PUBLISHED, CosineHead, SFaceLoss, sface_diagnostics, sface_loss

SETTINGS = [tuple(setting) for setting in SFACE_PUBLISHED.values()] + [(64.0, 80.0, 0.80, 1.23), (30.0, 5.0, 0.5, 1.5)]


def random_cosines(batch=6, classes=9, dtype=torch.float64, seed=0):
    generator = torch.Generator().manual_seed(seed)
    cosines = torch.rand(batch, classes, dtype=dtype, generator=generator) * 1.9 - 0.95
    return cosines, torch.randint(0, classes, (batch,), generator=generator)


def sface_in_numpy(cosines, labels, scale, k, a, b):
    """The loss as its authors write it, in float64: one-hot masks, arccos, and the logistic function by exp."""
    cosines = cosines.detach().numpy().astype(np.float64)
    batch, classes = cosines.shape
    own = np.zeros((batch, classes))
    own[np.arange(batch), labels.numpy()] = 1
    theta = np.arccos(cosines)
    r_intra = scale / (1 + np.exp(-k * (theta - a)))
    r_inter = scale / (1 + np.exp(k * (theta - b)))
    intra = (own * -r_intra * cosines).sum(1).mean()
    inter = ((1 - own) * r_inter * cosines).sum(1).mean()
    gradient = np.where(own, -r_intra, r_inter) / batch
    return intra, inter, gradient


@pytest.mark.parametrize("setting", SETTINGS)
def test_value_is_that_of_the_authors_formula(setting):
    cosines, labels = random_cosines(batch=32, classes=50)
    intra, inter, _ = sface_in_numpy(cosines, labels, *setting)
    assert sface_loss(cosines, labels, *setting).item() == pytest.approx(intra + inter, abs=7e-13)
    watch = sface_diagnostics(cosines, labels, *setting)
    assert watch["intra"].item() == pytest.approx(intra, abs=7e-13)
    assert watch["inter"].item() == pytest.approx(inter, abs=7e-13)


@pytest.mark.parametrize("setting", SETTINGS)
def test_gradient_is_the_gate_because_gates_carry_none(setting):
    cosines, labels = random_cosines(batch=32, classes=50)
    cosines.requires_grad_()
    sface_loss(cosines, labels, *setting).backward()
    *_, gradient = sface_in_numpy(cosines, labels, *setting)
    np.testing.assert_allclose(cosines.grad.numpy(), gradient, rtol=1e-11, atol=1e-13)


def test_objective_with_fixed_gates_passes_gradcheck_through_the_head():
    """The numeric derivative of sum(gates * cos) at frozen gates is what the loss hands to embeddings and centres."""
    torch.manual_seed(0)
    head = CosineHead(6, 8).double()
    embeddings = torch.randn(5, 8, dtype=torch.float64, requires_grad=True)
    labels = torch.randint(0, 6, (5,))
    *_, gates = sface_in_numpy(head(embeddings), labels, 64.0, 5.0, 0.87, 1.2)
    gates = torch.from_numpy(gates)
    grads = torch.autograd.grad(sface_loss(head(embeddings), labels, k=5.0), [embeddings, head.centres])

    def fixed(embeddings):
        return (gates * head(embeddings)).sum()

    assert torch.autograd.gradcheck(fixed, (embeddings,))
    expected = torch.autograd.grad(fixed(embeddings), [embeddings, head.centres])
    for grad, expected_grad in zip(grads, expected, strict=True):
        torch.testing.assert_close(grad, expected_grad)


def test_second_derivative_through_the_gates_is_zero():
    cosines, labels = random_cosines()
    cosines.requires_grad_()
    (grad,) = torch.autograd.grad(sface_loss(cosines, labels), cosines, create_graph=True)
    assert not grad.requires_grad or torch.autograd.grad(grad.sum(), cosines, allow_unused=True)[0] is None


@pytest.mark.parametrize(("theta", "gate"), [(0.80, 0.0037), (0.85, 0.168), (0.87, 0.5), (0.90, 0.917), (0.95, 0.998)])
def test_pull_follows_the_gate_table(theta, gate):
    cosines = torch.tensor([[math.cos(theta)]], dtype=torch.float64, requires_grad=True)
    sface_loss(cosines, torch.tensor([0])).backward()
    assert cosines.grad.item() / -64 == pytest.approx(gate, abs=6e-4)


@pytest.mark.parametrize(("theta", "gate"), [(1.15, 0.982), (1.20, 0.5), (1.25, 0.018), (1.30, 3.3e-4)])
def test_push_follows_the_gate_table(theta, gate):
    cosines = torch.tensor([[1.0, math.cos(theta)]], dtype=torch.float64, requires_grad=True)
    sface_loss(cosines, torch.tensor([0])).backward()
    assert cosines.grad[0, 1].item() / 64 == pytest.approx(gate, rel=0.03)


def test_parallel_vectors_in_float32_stay_finite():
    """Rounding takes many of these cosines above 1, where the arccos is NaN."""
    torch.manual_seed(0)
    above_one = 0
    for _ in range(200):
        head = CosineHead(20, 128)
        embeddings = (head.centres.detach() * torch.rand(20, 1) * 10).requires_grad_()
        cosines = head(embeddings)
        above_one += int((cosines > 1).any())
        loss = sface_loss(cosines, torch.arange(20))
        loss.backward()
        assert loss.isfinite()
        assert embeddings.grad.isfinite().all()
        assert head.centres.grad.isfinite().all()
    assert above_one > 100  # else this test proves nothing


@pytest.mark.parametrize("extreme", [1.0, -1.0, 1.0000002, -1.0000002, 0.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_gates_saturate_without_overflow(extreme, dtype):
    """exp(80 * (pi - 1.2)) is beyond float32, exp(80 * 0.87) beyond float16."""
    cosines = torch.full((2, 3), extreme, dtype=dtype, requires_grad=True)
    loss = sface_loss(cosines, torch.tensor([0, 2]))
    loss.backward()
    pull, push = float(math.acos(max(-1.0, min(1.0, extreme))) > 0.87), float(extreme >= 1)
    value = min(max(extreme, -1.0), 1.0)
    assert loss.item() == pytest.approx(64 * value * (2 * push - pull), rel=1e-5)
    expected = torch.full((2, 3), 32.0 * push)
    expected[0, 0] = expected[1, 2] = -32.0 * pull
    torch.testing.assert_close(cosines.grad.float(), expected, rtol=1e-2, atol=1e-4)


def test_zero_embedding_is_pulled_nowhere_and_breaks_nothing():
    head = CosineHead(5, 8)
    embeddings = torch.zeros(2, 8, requires_grad=True)
    loss = sface_loss(head(embeddings), torch.tensor([0, 1]))
    loss.backward()
    assert loss.item() == 0  # cosine 0 at every gate
    assert embeddings.grad.eq(0).all()
    assert head.centres.grad.isfinite().all()


def test_float32_under_autocast():
    torch.manual_seed(0)
    head, embeddings, labels = CosineHead(30, 64), torch.randn(16, 64), torch.randint(0, 30, (16,))
    expected = sface_loss(head(embeddings), labels)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cosines = head(embeddings)
        loss = SFaceLoss()(cosines, labels)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, expected, rtol=0, atol=0)


def test_random_start_only_pulls():
    torch.manual_seed(0)
    head, embeddings, labels = CosineHead(1000, 512), torch.randn(32, 512), torch.randint(0, 1000, (32,))
    cosines = head(embeddings).detach().requires_grad_()
    sface_loss(cosines, labels).backward()
    own = torch.nn.functional.one_hot(labels, 1000).bool()
    torch.testing.assert_close(cosines.grad[own], torch.full((32,), -2.0))  # -s / B
    assert cosines.grad[~own].abs().max() < 64 / 32 * 1e-4
    assert sface_diagnostics(cosines, labels)["inter_open"] == 0


def test_value_is_negative_where_training_stands():
    cosines = torch.full((4, 100), 0.1)
    cosines[:, 0] = 0.6
    assert sface_loss(cosines, torch.zeros(4, dtype=torch.long)) < 0


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), batch=st.integers(1, 6), classes=st.integers(1, 8))
def test_order_of_classes_and_samples_does_not_matter(seed, batch, classes):
    cosines, labels = random_cosines(batch, classes, seed=seed)
    rng = np.random.default_rng(seed)
    columns, rows = torch.from_numpy(rng.permutation(classes)), torch.from_numpy(rng.permutation(batch))
    shuffled = sface_loss(cosines[rows][:, columns], columns.argsort()[labels[rows]])
    assert shuffled.item() == pytest.approx(sface_loss(cosines, labels).item(), abs=1e-10)


def test_inter_term_is_a_sum_over_classes_not_a_mean():
    cosines = torch.tensor([[0.9, 0.5, -0.9]], dtype=torch.float64)
    labels = torch.tensor([0])
    once = sface_loss(cosines, labels)
    twice = sface_loss(torch.cat([cosines, cosines[:, 1:2]], 1), labels)
    assert (twice - once).item() == pytest.approx(64 * 0.5, rel=1e-3)  # cos 0.5 is 1.05 rad: the push is open


def test_reductions():
    cosines, labels = random_cosines()
    losses = sface_loss(cosines, labels, reduction="none")
    singles = torch.stack([sface_loss(cosines[i : i + 1], labels[i : i + 1]) for i in range(6)])
    torch.testing.assert_close(losses, singles)
    torch.testing.assert_close(sface_loss(cosines, labels, reduction="sum"), singles.sum())
    torch.testing.assert_close(sface_loss(cosines, labels), singles.mean())


def test_one_class_is_pulled_and_never_pushed():
    loss = sface_loss(torch.tensor([[0.5]]), torch.tensor([0]))
    assert loss.item() == pytest.approx(-32, rel=1e-4)


def test_unlabelled_samples_count_for_nothing():
    cosines, labels = random_cosines()
    cosines.requires_grad_()
    labels[[1, 4]] = -1
    loss = sface_loss(cosines, labels)
    loss.backward()
    kept = labels >= 0
    torch.testing.assert_close(loss, sface_loss(cosines[kept], labels[kept]))
    assert cosines.grad[~kept].eq(0).all()


def test_unlabelled_samples_are_pushed_from_all_where_asked():
    cosines = torch.tensor([[0.9, 0.5], [0.9, 0.5]], dtype=torch.float64, requires_grad=True)
    losses = sface_loss(cosines, torch.tensor([0, -1]), push_unlabelled=True, reduction="none")
    assert losses.tolist() == pytest.approx([64 * 0.5, 64 * (0.9 + 0.5)], rel=1e-3)
    sface_loss(cosines, torch.tensor([0, -1]), push_unlabelled=True).backward()
    assert cosines.grad[1].tolist() == pytest.approx([32, 32], rel=1e-3)  # s / B: it counts in the mean


@pytest.mark.parametrize("labels", [[], [-1, -1]])
def test_nothing_to_learn_from_is_zero_with_zero_gradient(labels):
    cosines = torch.rand(len(labels), 4, requires_grad=True)
    loss = SFaceLoss()(cosines, torch.tensor(labels, dtype=torch.long))
    loss.backward()
    assert loss.item() == 0
    assert cosines.grad.eq(0).all()


def test_diagnostics_against_numpy():
    cosines, labels = random_cosines(batch=40, classes=12)
    labels[::7] = -1
    watch = {name: value.item() for name, value in sface_diagnostics(cosines, labels, a=1.0, b=1.4).items()}
    kept = (labels >= 0).numpy()
    theta, y = np.arccos(cosines.numpy()[kept]), labels.numpy()[kept]
    own = np.eye(12, dtype=bool)[y]
    assert watch["theta_y"] == pytest.approx(theta[own].mean())
    assert watch["theta_j"] == pytest.approx(theta[~own].mean())
    assert watch["intra_open"] == pytest.approx((theta[own] > 1.0).mean())
    assert watch["inter_open"] == pytest.approx((theta[~own] < 1.4).mean())
    assert watch["top1"] == pytest.approx((theta.argmin(1) == y).mean())


def test_diagnostics_do_not_depend_on_the_blocks(monkeypatch):
    cosines, labels = random_cosines(batch=7, classes=5)
    labels[3] = -1
    whole = sface_diagnostics(cosines, labels)
    monkeypatch.setattr("robustvision.core.losses.sface.BLOCK", 12)  # two rows
    in_blocks = sface_diagnostics(cosines, labels)
    assert whole.keys() == in_blocks.keys()
    for name, value in whole.items():
        torch.testing.assert_close(in_blocks[name], value)


def test_diagnostics_leave_no_trace_in_the_graph():
    cosines, labels = random_cosines()
    cosines.requires_grad_()
    before = cosines.detach().clone()
    assert not any(value.requires_grad for value in sface_diagnostics(cosines, labels).values())
    assert torch.equal(cosines, before)


def test_diagnostics_of_nothing_are_nan():
    watch = sface_diagnostics(torch.rand(2, 3), torch.tensor([-1, -1]))
    assert all(value.isnan() for value in watch.values())
    assert sface_diagnostics(torch.rand(2, 1), torch.tensor([0, 0]))["theta_j"].isnan()


def test_published_settings():
    assert SFACE_PUBLISHED["casia_webface"] == (64, 80, 0.87, 1.20)
    assert SFACE_PUBLISHED["vggface2"] == (64, 80, 0.88, 1.25)
    assert SFACE_PUBLISHED["ms1mv2"] == (64, 80, 0.90, 1.20)
    loss = SFaceLoss()
    assert (loss.scale, loss.k, loss.a, loss.b) == SFACE_PUBLISHED["casia_webface"]


def test_compiled_and_eager_agree():
    cosines, labels = random_cosines(dtype=torch.float32)
    compiled = torch.compile(sface_loss, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(cosines, labels), sface_loss(cosines, labels))


def test_an_unknown_reduction_is_refused_at_once():
    with pytest.raises(InputError, match="'average'"):
        SFaceLoss(reduction="average")

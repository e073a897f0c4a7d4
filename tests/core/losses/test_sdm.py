"""The SDM activation and loss: hand values, an independent derivation, limits, stability, bad input."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch

from robustvision.core.errors import InputError
from robustvision.core.losses import SDMLoss, sdm, sdm_loss

Z = torch.tensor([[2.0, 1.0, 0.0]])


def batch(rows: int = 40, classes: int = 5, seed: int = 0) -> tuple[torch.Tensor, ...]:
    g = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(rows, classes, generator=g, dtype=torch.float64)
    labels = torch.randint(0, classes, (rows,), generator=g)
    q = torch.randint(0, 50, (rows,), generator=g).double()
    return logits, labels, q, torch.rand(rows, generator=g, dtype=torch.float64)


def by_powers(logits: torch.Tensor, q: torch.Tensor, d: torch.Tensor) -> np.ndarray:
    """The definition, as powers of 2 + q, a row at a time."""
    rows = []
    for z, similarity, distance in zip(logits.numpy(), q.numpy(), d.numpy(), strict=True):
        powers = np.power(2.0 + similarity, distance * z)
        rows.append(powers / powers.sum())
    return np.array(rows)


@pytest.mark.parametrize(
    ("q", "d", "expected"),
    [
        (0.0, 1.0, [0.571429, 0.285714, 0.142857]),
        (10.0, 0.5, [0.728858, 0.210403, 0.060738]),
        (5.0, 0.0, [1 / 3, 1 / 3, 1 / 3]),
    ],
)
def test_hand_values(q: float, d: float, expected: list[float]) -> None:
    found = sdm(Z, torch.tensor([q]), torch.tensor([d]))
    np.testing.assert_allclose(found[0].numpy(), expected, atol=1e-6)


def test_activation_is_its_definition() -> None:
    logits, _, q, d = batch()
    np.testing.assert_allclose(sdm(logits, q, d).numpy(), by_powers(logits, q, d), rtol=1e-12)


def test_loss_is_minus_the_logarithm_to_the_base_2_plus_q() -> None:
    logits, labels, q, d = batch()
    p = by_powers(logits, q, d)
    expected = [-math.log(p[i, y], 2.0 + float(q[i])) for i, y in enumerate(labels.tolist())]
    np.testing.assert_allclose(sdm_loss(logits, labels, q, d, reduction="none").numpy(), expected, rtol=1e-10)


def test_softmax_is_q_e_minus_2_and_d_1() -> None:
    logits, labels, _, _ = batch()
    q, d = torch.full((40,), math.e - 2, dtype=torch.float64), torch.ones(40, dtype=torch.float64)
    torch.testing.assert_close(sdm(logits, q, d), logits.softmax(1))
    torch.testing.assert_close(
        sdm_loss(logits, labels, q, d), torch.nn.functional.cross_entropy(logits, labels), rtol=1e-12, atol=0
    )


def test_d_0_is_uniform_and_teaches_nothing() -> None:
    logits, labels, q, d = batch()
    logits.requires_grad_()
    assert torch.equal(sdm(logits, q, 0 * d), torch.full_like(logits, 0.2))
    sdm_loss(logits, labels, q, 0 * d).backward()
    assert torch.count_nonzero(logits.grad) == 0


def test_argmax_stays_for_every_q_and_d_above_0() -> None:
    logits, _, q, d = batch(500)
    assert torch.equal(sdm(logits, q, d.clamp_min(1e-6)).argmax(1), logits.argmax(1))


def test_more_neighbours_sharpen_the_distribution() -> None:
    q = torch.tensor([0.0, 1.0, 10.0, 1000.0])
    highest = sdm(Z.expand(4, 3), q, torch.ones(4))[:, 0]
    assert bool((highest.diff() > 0).all())


def test_a_shift_of_all_logits_changes_nothing() -> None:
    logits, labels, q, d = batch()
    torch.testing.assert_close(sdm(logits + 7, q, d), sdm(logits, q, d))
    torch.testing.assert_close(sdm_loss(logits + 7, labels, q, d), sdm_loss(logits, labels, q, d))


def test_gradients() -> None:
    logits, labels, q, d = batch(6)
    logits.requires_grad_()
    assert torch.autograd.gradcheck(lambda z: sdm(z, q, d), (logits,))
    assert torch.autograd.gradcheck(lambda z: sdm_loss(z, labels, q, d, reduction="none"), (logits,))


@pytest.mark.parametrize("scale", [1e4, -1e4])
def test_extreme_logits_have_finite_losses_and_gradients(scale: float) -> None:
    logits = (scale * torch.eye(3)).requires_grad_()
    loss = sdm_loss(logits, torch.tensor([0, 2, 1]), torch.tensor([0.0, 5.0, 1000.0]), torch.ones(3))
    loss.backward()
    assert bool(loss.isfinite())
    assert bool(logits.grad.isfinite().all())


def test_the_loss_of_an_improbable_class_does_not_saturate() -> None:
    # the authors' code ends at log(1.2e-7) / log(2 + q), 6.4 here
    loss = sdm_loss(torch.tensor([[100.0, 0.0]]), torch.tensor([1]), torch.tensor([10.0]), torch.ones(1))
    assert float(loss) == pytest.approx(100.0, rel=1e-6)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_low_precision_logits_are_computed_in_float32(dtype: torch.dtype) -> None:
    logits, labels, q, d = batch()
    low = logits.to(dtype)
    assert sdm(low, q.float(), d.float()).dtype == torch.float32
    torch.testing.assert_close(
        sdm_loss(low, labels, q.float(), d.float()).double(), sdm_loss(low.double(), labels, q, d), rtol=1e-5, atol=1e-6
    )


def test_reductions_weights_and_ignored_samples() -> None:
    logits, labels, q, d = batch()
    one = sdm_loss(logits, labels, q, d, reduction="none")
    torch.testing.assert_close(sdm_loss(logits, labels, q, d, reduction="sum"), one.sum())
    torch.testing.assert_close(sdm_loss(logits, labels, q, d), one.mean())
    weight = torch.rand(40, dtype=torch.float64)
    torch.testing.assert_close(sdm_loss(logits, labels, q, d, weight=weight), (one * weight).sum() / weight.sum())
    labels[3:] = -1
    torch.testing.assert_close(sdm_loss(logits, labels, q, d), one[:3].mean())
    labels[:] = -1
    assert float(sdm_loss(logits, labels, q, d)) == 0


def test_empty_batch() -> None:
    nothing = torch.empty(0)
    assert sdm(torch.empty(0, 3), nothing, nothing).shape == (0, 3)
    assert float(sdm_loss(torch.empty(0, 3), torch.empty(0, dtype=torch.int64), nothing, nothing)) == 0


# ---- the module


def test_module_is_cross_entropy_until_its_state_is_set() -> None:
    logits, labels, q, d = batch()
    loss, index = SDMLoss(100), torch.arange(40) + 20
    torch.testing.assert_close(
        loss(logits, labels, index=index), torch.nn.functional.cross_entropy(logits, labels), rtol=1e-6, atol=0
    )
    everything = torch.zeros(100), torch.ones(100)
    everything[0][20:60], everything[1][20:60] = q.float(), d.float()
    loss.set_state(*everything)
    torch.testing.assert_close(loss(logits, labels, index=index), sdm_loss(logits, labels, q, d), rtol=1e-6, atol=1e-8)
    torch.testing.assert_close(loss.state_for(torch.tensor([22]))["q"], q[2:3].float())


def test_module_state_survives_saving() -> None:
    loss = SDMLoss(3)
    loss.set_state(torch.tensor([0.0, 7.0, 2.0]), torch.tensor([0.0, 0.5, 1.0]))
    again = SDMLoss(3)
    again.load_state_dict(copy.deepcopy(loss.state_dict()))
    found = again.state_for(torch.arange(3))
    assert found["q"].tolist() == [0, 7, 2]
    assert found["d"].tolist() == [0, 0.5, 1]


# ---- bad input


@pytest.mark.parametrize(
    ("q", "d", "message"),
    [
        ([-1.0], [1.0], "similarity is at least 0"),
        ([math.nan], [1.0], "similarity is at least 0"),
        ([0.0], [1.5], "lies in"),
        ([0.0], [-0.5], "lies in"),
        ([0.0], [math.nan], "lies in"),
        ([0.0, 0.0], [1.0], "q has shape"),
        ([0.0], [1.0, 1.0], "d has shape"),
    ],
)
def test_bad_q_and_d_are_refused(q: list[float], d: list[float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        sdm(Z, torch.tensor(q), torch.tensor(d))
    with pytest.raises(InputError, match=message):
        sdm_loss(Z, torch.tensor([0]), torch.tensor(q), torch.tensor(d))


def test_bad_scores_and_labels_are_refused() -> None:
    one = torch.ones(1)
    with pytest.raises(InputError, match="floating-point"):
        sdm(torch.ones(3), one, one)
    with pytest.raises(InputError, match="labels hold 3"):
        sdm_loss(Z, torch.tensor([3]), one, one)
    with pytest.raises(InputError, match="reduction"):
        sdm_loss(Z, torch.tensor([0]), one, one, reduction="max")
    with pytest.raises(InputError, match="index"):
        SDMLoss(4)(Z, torch.tensor([0]))
    with pytest.raises(InputError, match="samples 0 to 3"):
        SDMLoss(4)(Z, torch.tensor([0]), index=torch.tensor([4]))
    with pytest.raises(InputError, match="q has shape"):
        SDMLoss(4).set_state(torch.ones(3), torch.ones(4))


def test_no_graph_break_under_compile() -> None:
    logits, labels, q, d = (tensor.float() if tensor.is_floating_point() else tensor for tensor in batch())
    compiled = torch.compile(sdm_loss, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(logits, labels, q, d), sdm_loss(logits, labels, q, d))

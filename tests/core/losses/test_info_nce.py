"""InfoNCE and NT-Xent against their sums in numpy, and their limits."""

import math

import numpy as np
import pytest
import torch

from robustvision.core.errors import InputError
from robustvision.core.losses import InfoNCELoss, NTXentLoss, info_nce_loss, nt_xent_loss

BOTH = [nt_xent_loss, info_nce_loss]


def pair(batch=5, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    first = torch.randn(batch, 6, generator=generator, dtype=torch.float64)
    return first.to(dtype), (first + 0.4 * torch.randn(batch, 6, generator=generator, dtype=torch.float64)).to(dtype)


def unit(x):
    return x / np.linalg.norm(x, axis=1, keepdims=True)


@pytest.mark.parametrize("tau", [0.05, 0.1, 1.0])
def test_nt_xent_is_the_sum_over_all_other_views(tau):
    first, second = pair()
    z = np.concatenate([unit(first.numpy()), unit(second.numpy())])
    losses = []
    for i in range(10):
        e = [math.exp(z[i] @ z[j] / tau) for j in range(10) if j != i]
        losses.append(-math.log(math.exp(z[i] @ z[(i + 5) % 10] / tau) / sum(e)))
    assert nt_xent_loss(first, second, tau).item() == pytest.approx(np.mean(losses), rel=1e-12)
    assert NTXentLoss(tau)(first, second).item() == pytest.approx(np.mean(losses), rel=1e-12)


@pytest.mark.parametrize("tau", [0.05, 0.07, 1.0])
def test_info_nce_is_the_mean_of_both_directions(tau):
    first, second = pair()
    e = np.exp(unit(first.numpy()) @ unit(second.numpy()).T / tau)
    losses = [-math.log(e[i, i] / e[i].sum()) - math.log(e[i, i] / e[:, i].sum()) for i in range(5)]
    assert info_nce_loss(first, second, tau).item() == pytest.approx(np.mean(losses) / 2, rel=1e-12)
    assert InfoNCELoss(tau)(first, second).item() == pytest.approx(np.mean(losses) / 2, rel=1e-12)


@pytest.mark.parametrize("loss", BOTH)
def test_gradients(loss):
    inputs = tuple(view.requires_grad_() for view in pair(4))
    assert torch.autograd.gradcheck(lambda a, b: loss(a, b, 0.3), inputs)


@pytest.mark.parametrize(("loss", "candidates"), [(nt_xent_loss, 9), (info_nce_loss, 5)])
def test_where_all_are_one_point_it_is_the_logarithm_of_the_candidates(loss, candidates):
    same = torch.ones(5, 3, dtype=torch.float64)
    assert loss(same, same, 0.05).item() == pytest.approx(math.log(candidates))


@pytest.mark.parametrize("loss", BOTH)
def test_length_order_and_sides_do_not_matter(loss):
    first, second = pair()
    expected = loss(first, second)
    order = torch.tensor([4, 2, 0, 1, 3])
    for other in (loss(7 * first, 0.1 * second), loss(first[order], second[order]), loss(second, first)):
        torch.testing.assert_close(other, expected)


@pytest.mark.parametrize("loss", BOTH)
def test_half_precision_is_computed_in_float32(loss):
    first, second = pair(dtype=torch.bfloat16)
    expected = loss(first.float(), second.float(), 0.05)
    with torch.autocast("cpu", torch.bfloat16):
        found = loss(first, second, 0.05)
    assert found.dtype == torch.float32
    assert torch.equal(found, expected)


@pytest.mark.parametrize("loss", BOTH)
def test_bad_input(loss):
    first, second = pair()
    with pytest.raises(InputError, match="a batch of 1 came"):
        loss(first[:1], second[:1])
    with pytest.raises(InputError, match="tau is 0, but it must be above 0"):
        loss(first, second, 0)
    with pytest.raises(InputError, match=r"float64 \[5, 6\] and float64 \[4, 6\]"):
        loss(first, second[:4])

"""The distances between all pairs against numpy, hand values, error bounds, invariances and degenerate embeddings."""

import numpy as np
import pytest
import torch

from robustvision.core.errors import InputError
from robustvision.core.losses import (
    SNRDistance,
    SquaredEuclideanDistance,
    snr_distance,
    squared_euclidean_distance,
)

DISTANCES = {"snr": snr_distance, "euclidean": squared_euclidean_distance}
every_distance = pytest.mark.parametrize("distance", DISTANCES.values(), ids=DISTANCES.keys())


def drawn(batch=7, size=5, dtype=torch.float64, seed=0):
    return torch.randn(batch, size, dtype=dtype, generator=torch.Generator().manual_seed(seed)) + 0.3


def snr_in_numpy(anchors, others):
    return np.array([[np.var(a - o, ddof=1) / np.var(a, ddof=1) for o in others] for a in anchors])


def euclidean_in_numpy(anchors, others):
    return np.array([[np.sum((a - o) ** 2) for o in others] for a in anchors])


def test_hand_values():
    a, b = torch.tensor([[1.0, 2.0, 3.0, 4.0]]), torch.tensor([[1.0, 3.0, 2.0, 5.0]])
    assert snr_distance(a, b).item() == pytest.approx(0.55, rel=1e-6)
    assert snr_distance(b, a).item() == pytest.approx(0.314286, rel=1e-5)


@pytest.mark.parametrize(
    ("distance", "in_numpy"), [(snr_distance, snr_in_numpy), (squared_euclidean_distance, euclidean_in_numpy)]
)
def test_value_is_that_of_the_definition(distance, in_numpy):
    anchors, others = drawn(), drawn(batch=4, seed=1)
    np.testing.assert_allclose(distance(anchors, others), in_numpy(anchors.numpy(), others.numpy()), rtol=1e-12)
    np.testing.assert_allclose(distance(anchors), in_numpy(anchors.numpy(), anchors.numpy()), rtol=1e-12, atol=1e-14)


def test_value_by_correlation_and_ratio_of_spreads():
    h = drawn().numpy()
    r = h.std(1)[None, :] / h.std(1)[:, None]
    expected = 1 + r**2 - 2 * r * np.corrcoef(h)
    np.testing.assert_allclose(snr_distance(torch.from_numpy(h)), expected, rtol=1e-12, atol=1e-14)


@every_distance
def test_gradient_by_finite_differences(distance):
    anchors, others = drawn(4).requires_grad_(), drawn(3, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(distance, (anchors, others))
    assert torch.autograd.gradcheck(distance, (anchors,))


def test_what_the_snr_distance_does_not_see():
    h = drawn()
    expected = snr_distance(h)
    torch.testing.assert_close(snr_distance(-3.7 * h), expected)
    torch.testing.assert_close(snr_distance(h + torch.arange(7.0)[:, None]), expected)
    torch.testing.assert_close(snr_distance(h[:, [2, 0, 1, 4, 3]]), expected)
    order = torch.tensor([3, 1, 0, 2, 6, 5, 4])
    torch.testing.assert_close(snr_distance(h[order]), expected[order][:, order])
    assert not torch.allclose(expected, expected.T)


def test_with_zero_means_it_is_the_squared_euclidean_distance_over_the_squared_length():
    h = drawn()
    h = h - h.mean(1, keepdim=True)
    torch.testing.assert_close(snr_distance(h), squared_euclidean_distance(h) / h.square().sum(1, keepdim=True))


@every_distance
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_diagonal_is_exactly_zero_and_nothing_is_negative(distance, dtype):
    one = drawn(1, 64)
    near = (one + 1e-7 * drawn(50, 64, seed=1)).to(dtype)  # all nearly alike: the product form cancels
    distances = distance(near)
    assert distances.diagonal().eq(0).all()
    assert distances.ge(0).all()
    assert distance(near, near.flip(0)).ge(0).all()


@pytest.mark.parametrize("spread", [1e-4, 1e-2, 1.0, 100.0])
@pytest.mark.parametrize("size", [2, 16, 512, 4096])
def test_error_in_float32_is_bounded_where_the_product_form_cancels(spread, size):
    """|error| <= 8 eps (1 + r^2): absolute in the units of the anchor's signal, whatever the distance is."""
    h = (drawn(1, size) + spread * drawn(64, size, seed=1)).float()
    exact = h.double()
    powers = exact.var(1)
    eps = torch.finfo(torch.float32).eps
    snr_error = (snr_distance(h) - snr_distance(exact)).abs()
    assert (snr_error <= 8 * eps * (1 + powers[None, :] / powers[:, None])).all()
    squares = exact.square().sum(1)
    euclidean_error = (squared_euclidean_distance(h) - squared_euclidean_distance(exact)).abs()
    assert (euclidean_error <= 8 * eps * (squares[None, :] + squares[:, None])).all()


def test_a_distance_above_the_rounding_is_right_to_a_percent():
    """d = 1e-4 between embeddings that differ by 1 % of their spread; in bfloat16 nothing of it would be left."""
    h = drawn(1, 512, dtype=torch.float32)
    pair = torch.cat([h, h + 0.01 * drawn(1, 512, dtype=torch.float32, seed=1)])
    expected = snr_distance(pair.double())[0, 1].item()
    assert expected == pytest.approx(1e-4, rel=0.3)
    assert snr_distance(pair)[0, 1].item() == pytest.approx(expected, rel=0.01)


@every_distance
@pytest.mark.parametrize("scale", [1e-4, 1e4])
def test_large_and_small_embeddings_have_finite_gradients(distance, scale):
    h = (scale * drawn(dtype=torch.float32)).requires_grad_()
    distance(h).sum().backward()
    assert h.grad.isfinite().all()


@pytest.mark.parametrize("size", [1, 2, 3, 512, 4097])
@pytest.mark.parametrize("value", [0.0, 0.1, 1 / 3, -1e4, 1e-30])
def test_a_constant_anchor_has_a_row_of_zeros_without_gradient(value, size):
    """What centring leaves of a constant is rounding; without a guard the row would be of the order 1e14."""
    h = torch.cat([torch.full((1, size), value), drawn(2, size, dtype=torch.float32)]).requires_grad_()
    distances = snr_distance(h)
    assert distances[0].eq(0).all()
    distances[0].sum().backward()
    assert h.grad.eq(0).all()


def test_a_constant_embedding_is_noise_of_power_1_for_an_anchor():
    h = torch.stack([torch.full((8,), 0.1), torch.linspace(-1, 1, 8)]).requires_grad_()
    distances = snr_distance(h)
    assert distances[1, 0].item() == pytest.approx(1, rel=1e-6)
    distances.sum().backward()
    assert h.grad.isfinite().all()


def test_only_a_spread_below_eps_counts_as_constant():
    shape = torch.tensor([[1.0, -1.0, 1.0, -1.0]], dtype=torch.float64)
    h, other = 1 + 1e-3 * shape, -1e-3 * shape
    assert snr_distance(h, other).item() == pytest.approx(4)
    assert snr_distance(h, other, eps=0.9e-3).item() == pytest.approx(4)
    assert snr_distance(h, other, eps=1.1e-3).item() == 0
    assert snr_distance(1 + 1e-6 * shape, 1 - 1e-6 * shape).item() == pytest.approx(4, rel=1e-6)  # fine in float64


@every_distance
def test_half_precision_and_autocast_are_computed_in_float32(distance):
    h = drawn().bfloat16()
    expected = distance(h.float())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        for embeddings in (h, h.float()):
            assert torch.equal(distance(embeddings), expected)
            assert torch.equal(distance(embeddings, h), distance(h.float(), h.float()))
    assert expected.dtype == torch.float32
    assert distance(h.double()).dtype == torch.float64


@every_distance
def test_empty_and_single(distance):
    empty, one, some = torch.empty(0, 4, requires_grad=True), drawn(1, 4, dtype=torch.float32), drawn(3, 4).float()
    some.requires_grad_()
    assert distance(empty).shape == (0, 0)
    assert distance(empty, some).shape == (0, 3)
    assert distance(some, empty).shape == (3, 0)
    assert distance(one).tolist() == [[0.0]]
    (distance(empty).sum() + distance(empty, some).sum() + distance(some, empty).sum()).backward()
    assert some.grad.eq(0).all()


@every_distance
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((torch.zeros(3, 4, dtype=torch.long),), r"int64 \[3, 4\]"),
        ((torch.zeros(4),), r"float32 \[4\]"),
        ((torch.zeros(2, 0),), r"float32 \[2, 0\]"),
        ((torch.zeros(2, 3), torch.zeros(2, 4)), "same dimensions"),
        ((torch.zeros(2, 3), torch.zeros(3)), r"float32 \[3\]"),
    ],
)
def test_bad_input(distance, arguments, message):
    with pytest.raises(InputError, match=message):
        distance(*arguments)


@every_distance
def test_embeddings_of_the_caller_stay_as_they_are(distance):
    h = drawn()
    before = h.clone()
    distance(h, h)
    distance(h)
    assert torch.equal(h, before)


def test_modules_are_the_functions():
    h, other = drawn(), drawn(4, seed=1)
    assert torch.equal(SNRDistance()(h, other), snr_distance(h, other))
    assert torch.equal(SNRDistance(eps=10.0)(h), torch.zeros(7, 7, dtype=h.dtype))
    assert torch.equal(SquaredEuclideanDistance()(h), squared_euclidean_distance(h))

"""The margin losses against numpy, closed forms, limits and finite differences."""

import math
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from robustvision.core.losses import (
    ArcFaceLoss,
    CombinedMarginLoss,
    CosFaceLoss,
    CosineHead,
    NormalizedSoftmaxLoss,
    arcface_loss,
    combined_margin_loss,
    cosface_loss,
    normalized_softmax_loss,
)

LOSSES = {
    "softmax": normalized_softmax_loss,
    "cosface": cosface_loss,
    "arcface": arcface_loss,
    "arcface without fallback": partial(arcface_loss, fallback=False),
    "combined": partial(combined_margin_loss, margins=(1.0, 0.3, 0.2)),
    "combined with a factor": partial(combined_margin_loss, margins=(1.2, 0.3, 0.1)),
    "combined with filtering": partial(combined_margin_loss, margins=(1.0, 0.0, 0.4), filter_above=0.4),
}
every_loss = pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES.keys())


def random_cosines(batch=6, classes=9, dtype=torch.float64, seed=0):
    generator = torch.Generator().manual_seed(seed)
    cosines = torch.rand(batch, classes, dtype=dtype, generator=generator) * 1.9 - 0.95
    return cosines, torch.randint(0, classes, (batch,), generator=generator)


def cross_entropy_in_numpy(cosines, labels, change_own, scale, filter_above=None):
    """-log softmax of the scaled cosines, after ``change_own`` of the angle to the own class."""
    logits, labels = cosines.detach().numpy().copy(), labels.numpy()
    rows = np.arange(len(labels))
    own = logits[rows, labels].copy()
    if filter_above is not None:
        logits[logits > filter_above] = 0.0
    logits[rows, labels] = [change_own(theta) for theta in np.arccos(own)]
    logits = scale * logits
    return (np.log(np.exp(logits).sum(1)) - logits[rows, labels]).mean()


def arcface_with_fallback(theta, m):
    return math.cos(theta + m) if theta < math.pi - m else math.cos(theta) - m * math.sin(math.pi - m)


@pytest.mark.parametrize("scale", [1.0, 16.0, 64.0])
@pytest.mark.parametrize(
    ("loss", "change_own", "filter_above"),
    [
        (normalized_softmax_loss, math.cos, None),
        (cosface_loss, lambda theta: math.cos(theta) - 0.35, None),
        (partial(cosface_loss, margin=0.4), lambda theta: math.cos(theta) - 0.4, None),
        (arcface_loss, partial(arcface_with_fallback, m=0.5), None),
        (partial(arcface_loss, margin=1.2), partial(arcface_with_fallback, m=1.2), None),
        (partial(arcface_loss, fallback=False), lambda theta: math.cos(theta + 0.5), None),
        (partial(combined_margin_loss, margins=(1.3, 0.2, 0.1)), lambda t: math.cos(1.3 * t + 0.2) - 0.1, None),
        (partial(combined_margin_loss, margins=(1.0, 0.2, 0.1)), lambda t: math.cos(t + 0.2) - 0.1, None),
        (
            partial(combined_margin_loss, margins=(1.0, 0.0, 0.4), filter_above=0.4),
            lambda theta: math.cos(theta) - 0.4,
            0.4,
        ),
    ],
)
def test_value_is_that_of_the_formula(loss, change_own, filter_above, scale):
    cosines, labels = random_cosines(batch=64)
    expected = cross_entropy_in_numpy(cosines, labels, change_own, scale, filter_above)
    assert loss(cosines, labels, scale=scale).item() == pytest.approx(expected, rel=1e-11)


@every_loss
@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_gradient_by_finite_differences(loss, seed):
    cosines, labels = random_cosines(batch=3, classes=4, seed=seed)
    for kink in (0.4, -math.cos(0.5)):  # of the filter and of the fallback: a difference across them means nothing
        cosines[(cosines - kink).abs() < 1e-3] += 0.01
    assert torch.autograd.gradcheck(lambda c: loss(c, labels, scale=8.0), (cosines.requires_grad_(),))


@every_loss
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("extreme", [1.0, -1.0, 1.0000002, -1.0000002])
def test_gradient_is_finite_at_parallel_vectors(loss, dtype, extreme):
    """d cos(theta + m) / d cos = sin(theta + m) / sin(theta), which is infinite there."""
    cosines = torch.full((2, 3), extreme, dtype=dtype, requires_grad=True)
    value = loss(cosines, torch.tensor([0, 1]))
    value.backward()
    assert value.isfinite()
    assert cosines.grad.isfinite().all()


def test_parallel_vectors_through_the_head_in_float32():
    torch.manual_seed(0)
    for _ in range(50):
        head = CosineHead(20, 128)
        embeddings = (3 * head.centres.detach()).requires_grad_()
        loss = arcface_loss(head(embeddings), torch.arange(20))
        loss.backward()
        assert embeddings.grad.isfinite().all()
        assert head.centres.grad.isfinite().all()


@pytest.mark.parametrize(
    "loss",
    [
        partial(cosface_loss, margin=0.0),
        partial(arcface_loss, margin=0.0),
        partial(arcface_loss, margin=0.0, fallback=False),
        partial(combined_margin_loss, margins=(1.0, 0.0, 0.0)),
    ],
)
def test_without_margin_every_loss_is_the_normalised_softmax(loss):
    cosines, labels = random_cosines(dtype=torch.float32)
    assert torch.equal(loss(cosines, labels), normalized_softmax_loss(cosines, labels))


def test_tuples_of_the_combined_margin():
    cosines, labels = random_cosines(batch=32)
    arcface = arcface_loss(cosines, labels, margin=0.5, fallback=False)
    assert torch.equal(combined_margin_loss(cosines, labels, margins=(1.0, 0.5, 0.0)), arcface)
    cosface = cosface_loss(cosines, labels, margin=0.4)
    torch.testing.assert_close(combined_margin_loss(cosines, labels, margins=(1.0, 0.0, 0.4)), cosface)


def test_fallback_keeps_the_logit_falling_beyond_pi_minus_m():
    theta = torch.linspace(0.01, math.pi - 0.01, 500, dtype=torch.float64)
    cosines = torch.stack([theta.cos(), torch.zeros_like(theta)], dim=1)
    labels = torch.zeros(500, dtype=torch.long)
    with_fallback = arcface_loss(cosines, labels, scale=1.0, reduction="none")
    without = arcface_loss(cosines, labels, scale=1.0, fallback=False, reduction="none")
    turn = theta > math.pi - 0.5
    assert (with_fallback.diff() > -1e-12).all()
    assert (without[turn].diff() < 0).all()
    torch.testing.assert_close(with_fallback[~turn], without[~turn])


def test_filter_takes_the_class_out_before_the_scaling_and_not_out_of_the_sum():
    """A filtered logit is 0, not minus infinity: with the own logit at 0 the loss is log 2."""
    cosines = torch.tensor([[0.5, 0.9]], dtype=torch.float64)
    loss = partial(combined_margin_loss, margins=(1.0, 0.0, 0.5), scale=64.0)
    assert loss(cosines, torch.tensor([0]), filter_above=0.4).item() == pytest.approx(math.log(2))
    assert loss(cosines, torch.tensor([0]), filter_above=0.9).item() == pytest.approx(64 * 0.9, rel=1e-9)
    assert loss(cosines, torch.tensor([0]), filter_above=None).item() == pytest.approx(64 * 0.9, rel=1e-9)


def test_filter_gives_no_gradient_to_what_it_filters_and_spares_the_own_class():
    cosines = torch.tensor([[0.8, 0.7, 0.3]], dtype=torch.float64, requires_grad=True)
    combined_margin_loss(cosines, torch.tensor([0]), scale=4.0, margins=(1.0, 0.0, 0.4), filter_above=0.4).backward()
    assert cosines.grad[0, 1] == 0
    assert cosines.grad[0, 0] < 0 < cosines.grad[0, 2]


@every_loss
def test_ignored_samples_contribute_nothing(loss):
    cosines, labels = random_cosines()
    cosines.requires_grad_()
    labels[[0, 3]] = -1
    kept = labels >= 0
    losses = loss(cosines, labels, reduction="none")
    assert losses[~kept].eq(0).all()
    torch.testing.assert_close(losses[kept], loss(cosines[kept], labels[kept], reduction="none"))
    torch.testing.assert_close(loss(cosines, labels), losses.sum() / 4)
    torch.testing.assert_close(loss(cosines, labels, reduction="sum"), losses.sum())
    loss(cosines, labels).backward()
    assert cosines.grad[~kept].eq(0).all()
    assert cosines.grad[kept].abs().sum() > 0


@every_loss
@pytest.mark.parametrize("labels", [[], [-1, -1]])
def test_nothing_to_learn_from_is_zero_with_zero_gradient(loss, labels):
    cosines = torch.rand(len(labels), 4, requires_grad=True)
    value = loss(cosines, torch.tensor(labels, dtype=torch.long))
    value.backward()
    assert value.item() == 0
    assert cosines.grad.eq(0).all()


@every_loss
def test_batch_of_one_and_one_class(loss):
    cosines, labels = random_cosines()
    losses = loss(cosines, labels, reduction="none")
    torch.testing.assert_close(loss(cosines[2:3], labels[2:3]), losses[2])
    assert loss(torch.tensor([[0.3]]), torch.tensor([0])).item() == 0  # one class: nothing to confuse


@every_loss
def test_half_precision_is_computed_in_float32(loss):
    cosines, labels = random_cosines()
    half = cosines.bfloat16()
    expected = loss(half.float(), labels)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert loss(half, labels).dtype == torch.float32
        torch.testing.assert_close(loss(half, labels), expected, rtol=0, atol=0)
        torch.testing.assert_close(loss(half.float(), labels), expected, rtol=0, atol=0)


@every_loss
def test_cosines_of_the_caller_stay_as_they_are(loss):
    cosines, labels = random_cosines()
    before = cosines.clone()
    loss(cosines, labels)
    assert torch.equal(cosines, before)


@pytest.mark.parametrize(
    ("module", "function"),
    [
        (NormalizedSoftmaxLoss(scale=20.0), partial(normalized_softmax_loss, scale=20.0)),
        (CosFaceLoss(20.0, 0.2), partial(cosface_loss, scale=20.0, margin=0.2)),
        (ArcFaceLoss(20.0, 1.5, fallback=False), partial(arcface_loss, scale=20.0, margin=1.5, fallback=False)),
        (
            CombinedMarginLoss(20.0, (1.0, 0.1, 0.2), filter_above=0.1, reduction="sum"),
            partial(combined_margin_loss, scale=20.0, margins=(1.0, 0.1, 0.2), filter_above=0.1, reduction="sum"),
        ),
    ],
)
def test_modules_pass_their_settings_on(module, function):
    cosines, labels = random_cosines(batch=32)
    assert torch.equal(module(cosines, labels), function(cosines, labels))

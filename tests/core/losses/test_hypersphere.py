"""The bound of the normalised softmax against simplices built in numpy, its inverse, its limits, and where it ends."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from robustvision.core.errors import InputError
from robustvision.core.losses import CosineHead, normalized_softmax_loss, normface_bound, scale_for_loss


def simplex(n: int) -> np.ndarray:
    """n points in n dimensions, all equally far from each other around their mean."""
    return np.eye(n) - 1 / n


@pytest.mark.parametrize("n", [2, 3, 10])
@pytest.mark.parametrize("scale", [0.5, 4.0, 20.0])
def test_a_simplex_with_all_samples_on_their_centres_reaches_the_bound(n: int, scale: float) -> None:
    head = CosineHead(n, n).double()
    head.centres.data = torch.from_numpy(simplex(n))
    loss = normalized_softmax_loss(head(3.0 * head.centres), torch.arange(n), scale)
    assert loss.item() == pytest.approx(normface_bound(n, scale), rel=1e-10)


@given(st.integers(2, 6), st.floats(0.1, 10), st.integers(0, 10**6))
def test_no_centres_and_embeddings_get_below_it(n: int, scale: float, seed: int) -> None:
    """Samples near the centres of a bent simplex, so that the loss comes close."""
    rng = np.random.default_rng(seed)
    bend = rng.uniform(0, 0.3)
    centres = simplex(n) + bend * rng.normal(size=(n, n))
    samples = centres + bend * rng.normal(size=(n, n))
    cosines = samples @ centres.T
    cosines /= np.outer(np.linalg.norm(samples, axis=1), np.linalg.norm(centres, axis=1))
    logits = scale * cosines
    loss = np.mean(np.log(np.exp(logits).sum(1)) - np.diag(logits))
    assert loss >= normface_bound(n, scale) - 1e-12


def test_a_batch_of_one_class_gets_below_it() -> None:
    """All other centres opposite: the trap that the docstring names."""
    loss = normalized_softmax_loss(torch.tensor([[1.0, -1.0, -1.0]]), torch.tensor([0]), scale=2.0)
    assert loss.item() < 0.5 * normface_bound(3, 2.0)


@pytest.mark.parametrize(("n", "scale"), [(10, 4.65), (1000, 9.87)])
def test_the_scales_for_a_loss_of_0_05_to_two_decimals(n: int, scale: float) -> None:
    assert round(scale_for_loss(n, 0.05), 2) == scale


@given(st.integers(2, 10**9), st.floats(1e-6, 1 - 1e-6))
def test_the_two_are_inverse(n: int, share: float) -> None:
    loss = share * math.log(n)
    assert normface_bound(n, scale_for_loss(n, loss)) == pytest.approx(loss, rel=1e-7)


def test_limits() -> None:
    assert normface_bound(10, 1e-12) == pytest.approx(math.log(10))
    assert 0 <= normface_bound(10, 1e6) < 1e-300
    assert normface_bound(10**300, 64.0) == pytest.approx(300 * math.log(10) - 64.0)  # exp(-s) alone would be lost
    assert normface_bound(2, 40.0) == pytest.approx(math.exp(-80.0), rel=1e-12)  # log(1 + x) would be 0
    assert scale_for_loss(10, 1e-300) == pytest.approx(0.9 * (math.log(9) + 300 * math.log(10)))
    assert scale_for_loss(10, math.nextafter(math.log(10), 0)) == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize("scale", [0.0, -1.0, math.inf, math.nan])
def test_a_scale_is_positive(scale: float) -> None:
    with pytest.raises(InputError, match="positive"):
        normface_bound(10, scale)


@pytest.mark.parametrize("loss", [0.0, -0.1, math.log(10), 5.0, math.nan])
def test_a_loss_lies_between_0_and_log_n(loss: float) -> None:
    with pytest.raises(InputError, match="log 10"):
        scale_for_loss(10, loss)


def test_one_class_is_refused() -> None:
    with pytest.raises(InputError, match="at least 2"):
        normface_bound(1, 10.0)
    with pytest.raises(InputError, match="at least 2"):
        scale_for_loss(1, 0.1)

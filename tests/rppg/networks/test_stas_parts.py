"""The temporal shift and the attention mask."""

import numpy as np
import pytest
import torch

from robustvision.rppg.networks import AttentionMask, Past, temporal_shift


@pytest.mark.parametrize(("channels", "fold_div"), [(3, 3), (8, 8), (16, 8), (20, 3), (7, 8)])
def test_shift_is_zero_filled_and_not_wrapped(channels, fold_div):
    x = np.random.default_rng(0).uniform(1, 2, (2, channels, 6, 3, 3))
    expected, fold = x.copy(), channels // fold_div
    expected[:, :fold] = np.concatenate([x[:, :fold, 1:], 0 * x[:, :fold, :1]], axis=2)
    middle = x[:, fold : 2 * fold]
    expected[:, fold : 2 * fold] = np.concatenate([0 * middle[:, :, :1], middle[:, :, :-1]], axis=2)
    given = torch.from_numpy(x.copy())
    np.testing.assert_array_equal(temporal_shift(given, fold_div), expected)
    np.testing.assert_array_equal(given, x)


def test_online_shift_takes_from_the_past_alone():
    x = torch.rand(2, 16, 6, 3, 3)
    shifted = temporal_shift(x, past=Past())
    torch.testing.assert_close(shifted[:, :2, 1:], x[:, :2, :-1])
    assert shifted[:, :2, 0].abs().max() == 0
    torch.testing.assert_close(shifted[:, 2:], x[:, 2:])


def test_shift_passes_gradients():
    x = torch.rand(1, 9, 4, 2, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: temporal_shift(x, 3), (x,))


def test_mask_is_the_formula_and_sums_to_half_the_pixels():
    mask, z = AttentionMask(4).double(), torch.randn(2, 4, 3, 5, 6, dtype=torch.float64)
    weight, bias = (tensor.detach().numpy() for tensor in (mask.score.weight, mask.score.bias))
    m = 1 / (1 + np.exp(-(np.einsum("bcthw,c->bthw", z, weight[0, :, 0, 0, 0]) + bias)))
    expected = m / m.sum(axis=(2, 3), keepdims=True) * 5 * 6 / 2
    np.testing.assert_allclose(mask.weights(z)[:, 0].detach(), expected, rtol=1e-12)
    np.testing.assert_allclose(mask.weights(z).sum(dim=(3, 4)).detach(), 15, rtol=1e-12)
    np.testing.assert_allclose(mask(z).detach(), z.numpy() * expected[:, None], rtol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("score", [-1e4, 0.0, 1e4])
def test_mask_of_a_frame_that_is_attended_nowhere_or_everywhere(score, dtype):
    mask = AttentionMask(2).to(dtype)
    torch.nn.init.zeros_(mask.score.weight)
    torch.nn.init.constant_(mask.score.bias, score)
    assert (mask(torch.ones(1, 2, 1, 4, 4, dtype=dtype)) == 0.5).all()

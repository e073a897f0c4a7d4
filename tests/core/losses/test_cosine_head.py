"""The head against plain autograd, at zero vectors, under autocast, and its memory."""

import math

import pytest
import torch
from torch.nn.functional import linear, normalize
from torch.utils._python_dispatch import TorchDispatchMode

from robustvision.core.errors import InputError
from robustvision.core.losses import CosineHead


def head_and_embeddings(classes=7, size=5, batch=4, dtype=torch.float64):
    torch.manual_seed(0)
    head = CosineHead(classes, size).to(dtype)
    return head, torch.randn(batch, size, dtype=dtype, requires_grad=True)


def plain_cosines(embeddings, centres):
    return linear(normalize(embeddings), normalize(centres))


def test_value_and_gradients_agree_with_plain_autograd():
    head, x = head_and_embeddings()
    weights = torch.randn(4, 7, dtype=torch.float64)
    expected = plain_cosines(x, head.centres)
    expected_grads = torch.autograd.grad((expected * weights).sum(), [x, head.centres])
    cosines = head(x)
    grads = torch.autograd.grad((cosines * weights).sum(), [x, head.centres])
    torch.testing.assert_close(cosines, expected, rtol=1e-13, atol=1e-14)
    for grad, expected_grad in zip(grads, expected_grads, strict=True):
        torch.testing.assert_close(grad, expected_grad, rtol=1e-12, atol=1e-13)


def test_first_and_second_derivatives_by_finite_differences():
    head, x = head_and_embeddings(classes=3, size=4, batch=2)

    def cosines(x, centres):
        return torch.func.functional_call(head, {"centres": centres}, (x,))

    centres = head.centres.detach().clone().requires_grad_()
    assert torch.autograd.gradcheck(cosines, (x, centres))
    assert torch.autograd.gradgradcheck(cosines, (x, centres))


def test_a_frozen_side_gets_no_gradient_and_the_other_the_right_one():
    head, x = head_and_embeddings()
    (grad_x,) = torch.autograd.grad(plain_cosines(x, head.centres)[:, 0].sum(), [x])
    head.centres.requires_grad_(False)
    head(x)[:, 0].sum().backward()
    assert head.centres.grad is None
    torch.testing.assert_close(x.grad, grad_x)
    head.centres.requires_grad_(True)
    head(x.detach())[:, 0].sum().backward()
    assert head.centres.grad.abs().sum() > 0


def test_length_of_embeddings_and_centres_does_not_matter():
    head, x = head_and_embeddings()
    before = head(x)
    with torch.no_grad():
        head.centres *= torch.tensor([1e-3, 1e3, 1.0, 2.0, 3.0, 1e6, 1e-6], dtype=torch.float64)[:, None]
    torch.testing.assert_close(head(1e4 * x), before)


@pytest.mark.parametrize("length", [0.0, 1e-30])
def test_vectors_without_direction_have_cosine_and_gradient_zero(length):
    head, x = head_and_embeddings(dtype=torch.float32)
    with torch.no_grad():
        x[1] = length
        head.centres[2] = length
    cosines = head(x)
    cosines.sum().backward()
    assert cosines[1].eq(0).all()
    assert cosines[:, 2].eq(0).all()
    assert x.grad[1].eq(0).all()
    assert head.centres.grad[2].eq(0).all()
    assert x.grad.isfinite().all()
    assert x.grad[0].abs().sum() > 0
    assert head.centres.grad.isfinite().all()
    assert head.centres.grad[0].abs().sum() > 0


def test_float32_under_autocast_and_from_half_precision():
    head, x = head_and_embeddings(dtype=torch.float32, size=64)
    expected = head(x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cosines = head(x)
        cosines.sum().backward()
    assert cosines.dtype == torch.float32
    torch.testing.assert_close(cosines, expected, rtol=0, atol=0)
    assert head.centres.grad.dtype == torch.float32
    assert head(x.bfloat16()).dtype == torch.float32
    assert head.double()(x).dtype == torch.float64


def test_start_values_have_the_asked_spread():
    torch.manual_seed(0)
    assert CosineHead(800, 128).centres.std().item() == pytest.approx(2 * math.sqrt(2 / 800), rel=0.01)
    head = CosineHead(800, 128, init_std=0.01)
    first = head.centres.detach().clone()
    assert first.std().item() == pytest.approx(0.01, rel=0.01)
    head.reset_parameters()
    assert not torch.equal(head.centres, first)


def test_empty_batch_and_batch_of_one():
    head, x = head_and_embeddings()
    assert head(x[:0]).shape == (0, 7)
    torch.testing.assert_close(head(x[2:3]), head(x)[2:3])


def test_only_the_gradient_is_as_large_as_the_centres():
    """With many classes the copies of W are what fills the memory: count tensors of its size through a whole step."""
    head, x = head_and_embeddings(classes=1000, size=16, batch=2, dtype=torch.float32)
    made = []

    class CountLarge(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            result = function(*args, **(kwargs or {}))
            if isinstance(result, torch.Tensor) and result.numel() >= 1000 * 16:
                made.append(result.untyped_storage().data_ptr())
            return result

    with CountLarge():
        head(x).sum().backward()
    assert set(made) - {head.centres.data_ptr()} == {head.centres.grad.data_ptr()}


@pytest.mark.parametrize("sizes", [(0, 4), (4, 0), (-1, 4)])
def test_a_head_without_classes_or_dimensions_is_refused(sizes):
    with pytest.raises(InputError, match="at least 1"):
        CosineHead(*sizes)


@pytest.mark.parametrize("shape", [(5,), (2, 6), (2, 5, 1)])
def test_embeddings_of_another_shape_are_refused(shape):
    with pytest.raises(InputError, match=r"\[batch, 5\]"):
        CosineHead(7, 5)(torch.zeros(shape))


def test_scale_multiplies_the_cosines():
    torch.manual_seed(0)
    head = CosineHead(4, 3, scale=16.0)
    x = torch.randn(5, 3)
    torch.testing.assert_close(head(x), 16.0 * head.cosines(x))
    learned = CosineHead(4, 3, scale=16.0, learn_scale=True)
    learned.centres.data.copy_(head.centres.data)
    torch.testing.assert_close(learned(x), head(x))
    torch.nn.functional.cross_entropy(learned(x), torch.tensor([0, 1, 2, 3, 0])).backward()
    assert learned.log_scale.grad.abs() > 0
    assert "scale=16" in repr(head)
    assert set(head.state_dict()) == {"centres"}
    with pytest.raises(InputError, match="scale is 0"):
        CosineHead(4, 3, scale=0.0)

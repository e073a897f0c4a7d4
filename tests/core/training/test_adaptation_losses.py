"""Distillation and mutual learning against formulas in float64, and their gradients against cross-entropy's."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.special import expit, log_softmax, softmax
from torch.autograd import gradcheck
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from robustvision.core.errors import InputError
from robustvision.core.training import distillation_loss, output_divergence

SHAPES = {"classes": (5, 4), "maps": (2, 3, 4, 5), "one map": (2, 1, 4, 5), "one logit": (6, 1), "flat": (6,)}


def draw(shape, seed=0, scale=2.0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, dtype=torch.float64, generator=generator) * scale


def kl_by_hand(teacher, student, temperature):
    """Sum of p log(p / q) over all outcomes, for each sample or pixel."""
    if teacher.ndim > 1 and teacher.shape[1] > 1:
        p, q = softmax(teacher / temperature, 1), softmax(student / temperature, 1)
        return (p * np.log(p / q)).sum(1)
    p, q = expit(teacher / temperature), expit(student / temperature)
    return p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q))


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_divergence_is_the_formula(name, temperature):
    teacher, student = draw(SHAPES[name], 1), draw(SHAPES[name], 2)
    expected = kl_by_hand(teacher.numpy(), student.numpy(), temperature)
    got = output_divergence(teacher, student, temperature=temperature)
    np.testing.assert_allclose(got.item(), expected.mean(), rtol=1e-12)
    valid = torch.from_numpy(np.random.default_rng(0).integers(0, 2, expected.shape))
    got = output_divergence(teacher, student, temperature=temperature, valid=valid)
    np.testing.assert_allclose(got.item(), expected[valid.numpy() == 1].mean(), rtol=1e-12)


def test_one_logit_is_two_classes_with_half_of_it():
    teacher, student = draw((7, 1), 1), draw((7, 1), 2)
    two = [torch.cat((one / 2, -one / 2), 1) for one in (teacher, student)]
    torch.testing.assert_close(output_divergence(teacher, student), output_divergence(*two))


@pytest.mark.parametrize("name", SHAPES)
def test_gradient_is_that_of_cross_entropy_with_soft_labels(name):
    """The teacher's entropy is a constant."""
    teacher, student = draw(SHAPES[name], 1), draw(SHAPES[name], 2).requires_grad_()
    output_divergence(teacher, student).backward()
    got, student.grad = student.grad.clone(), None
    if name in ("classes", "maps"):
        cross_entropy(student, teacher.softmax(1)).backward()
    else:
        binary_cross_entropy_with_logits(student, teacher.sigmoid()).backward()
    torch.testing.assert_close(got, student.grad, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("name", SHAPES)
def test_gradcheck(name):
    student = draw(SHAPES[name], 2).requires_grad_()
    teacher = draw(SHAPES[name], 1)
    valid = torch.ones(SHAPES[name][:1] + SHAPES[name][2:])
    valid.view(-1)[0] = 0
    assert gradcheck(
        lambda one: distillation_loss(one, teacher, (one**2).mean(), alpha=0.3, temperature=2.5, valid=valid), student
    )


def test_teacher_gets_no_gradient():
    teacher, student = draw((4, 3), 1).requires_grad_(), draw((4, 3), 2).requires_grad_()
    output_divergence(teacher, student).backward()
    assert teacher.grad is None
    assert student.grad.abs().sum() > 0


def test_gradient_keeps_its_size_over_temperatures():
    """Hinton's reason for T^2: for large T the gradient tends to (z - z_teacher) / N, centred, a sample."""
    teacher, student = draw((3, 4), 1, 0.1), draw((3, 4), 2, 0.1).requires_grad_()
    distillation_loss(student, teacher, torch.zeros(()), alpha=1.0, temperature=1e4).backward()
    limit = student - student.mean(1, keepdim=True) - teacher + teacher.mean(1, keepdim=True)
    torch.testing.assert_close(student.grad, limit.detach() / 4 / 3, rtol=1e-3, atol=1e-7)


def test_limits_of_alpha():
    teacher, student, target = draw((4, 3), 1), draw((4, 3), 2), draw((), 3)
    assert distillation_loss(student, teacher, target, alpha=0.0, temperature=1.0) == target
    pure = distillation_loss(student, teacher, target, alpha=1.0, temperature=3.0)
    torch.testing.assert_close(pure, 9 * output_divergence(teacher, student, temperature=3.0))


@pytest.mark.parametrize("name", SHAPES)
def test_never_negative_and_zero_at_equality(name):
    teacher = draw(SHAPES[name], 1)
    assert output_divergence(teacher, teacher).item() == pytest.approx(0, abs=1e-14)
    assert output_divergence(teacher, draw(SHAPES[name], 2)) > 0


@pytest.mark.parametrize("name", ["maps", "one map"])
def test_pixels_that_are_not_valid_count_nowhere(name):
    shape = SHAPES[name]
    teacher, student = draw(shape, 1), draw(shape, 2).requires_grad_()
    valid = torch.ones(shape[0], 1, *shape[2:], dtype=torch.bool)
    valid[:, :, 1:3] = False
    first = output_divergence(teacher, student, valid=valid)
    first.backward()
    assert (student.grad[:, :, 1:3] == 0).all()
    changed = teacher.clone()
    changed[:, :, 1:3] += 5
    assert output_divergence(changed, student, valid=valid) == first
    nothing = output_divergence(teacher, student, valid=torch.zeros_like(valid))
    assert nothing.item() == 0
    assert nothing.requires_grad


def test_far_logits_and_half_precision_stay_finite():
    teacher = torch.tensor([[200.0], [-200.0], [0.0]])
    student = torch.tensor([[-200.0], [200.0], [0.0]], requires_grad=True)
    loss = output_divergence(teacher, student)
    loss.backward()
    assert loss.item() == pytest.approx(400 / 3)
    assert torch.isfinite(student.grad).all()
    low = output_divergence(teacher.bfloat16(), student.bfloat16())
    assert low.dtype == torch.float32
    three = torch.tensor([[300.0, 0.0, -300.0]])
    expected = -log_softmax(-three.numpy(), 1)[0, 0]
    assert output_divergence(three, -three).item() == pytest.approx(expected)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"temperature": 0.0}, "temperature"), ({"alpha": 1.2}, "alpha"), ({"alpha": -0.1}, "alpha")],
)
def test_settings_out_of_range(options, message):
    with pytest.raises(InputError, match=message):
        distillation_loss(draw((2, 3)), draw((2, 3)), torch.zeros(()), **options)


def test_shapes_must_be_equal():
    with pytest.raises(InputError, match="equal shapes"):
        output_divergence(draw((2, 3)), draw((2, 1)))

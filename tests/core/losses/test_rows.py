"""The way of the losses with sums over all classes: value and gradient at once, handed out without a copy."""

import gc
import math
import weakref

import pytest
import torch

from robustvision.core import losses
from robustvision.core.errors import InputError
from robustvision.core.losses.batch import check_batch, exp
from robustvision.core.losses.rows import reduce_rows

LOSSES = {
    "MSE": losses.mse_loss,
    "RLL": losses.rll_loss,
    "NCE": losses.nce_loss,
    "NFL": losses.nfl_loss,
    "NGCE": losses.ngce_loss,
    "NCE+RCE": losses.nce_rce_loss,
    "CS": losses.crammer_singer_loss,
    "WW": losses.weston_watkins_loss,
    "LDR": losses.ldr_loss,
    "LDR-k": losses.ldr_k_loss,
    "bi-tempered": losses.bi_tempered_loss,
}
EVERY = pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES.keys())


def batch_of(size=6, classes=5, seed=0):
    generator = torch.Generator().manual_seed(seed)
    logits = 3.0 * torch.randn(size, classes, dtype=torch.float64, generator=generator)
    return logits.requires_grad_(), torch.randint(0, classes, (size,), generator=generator)


def gradient_of(value, logits, **options):
    return torch.autograd.grad(value, logits, **options)[0]


@EVERY
@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("weighed", [False, True])
@pytest.mark.parametrize("some_ignored", [False, True])
def test_mean_and_sum_are_those_of_the_single_losses(loss, reduction, weighed, some_ignored):
    logits, target = batch_of()
    if some_ignored:
        target[2] = -1
    counted = (target >= 0).double()
    weight = torch.linspace(0.0, 2.0, len(target), dtype=torch.float64) if weighed else None
    share = counted if weight is None else counted * weight
    share = share / share.sum() if reduction == "mean" else share

    single = loss(logits, target, reduction="none")
    expected = 3.0 * (share * single).sum()
    value = 3.0 * loss(logits, target, reduction=reduction, weight=weight)
    torch.testing.assert_close(value, expected)
    torch.testing.assert_close(gradient_of(value, logits), gradient_of(expected, logits))


@EVERY
def test_weights_can_be_learnt(loss):
    """The gradient of a sample's weight is its loss: what methods that learn to reweight rest on."""
    logits, target = batch_of()
    weight = torch.linspace(0.5, 2.0, len(target), dtype=torch.float64, requires_grad=True)
    value = loss(logits, target, reduction="sum", weight=weight)
    by_logits, by_weight = torch.autograd.grad(value, (logits, weight))
    torch.testing.assert_close(by_weight, loss(logits, target, reduction="none").detach())
    without = loss(logits, target, reduction="sum", weight=weight.detach())
    torch.testing.assert_close(by_logits, gradient_of(without, logits))


@EVERY
def test_a_kept_graph_gives_the_same_gradient_again(loss):
    """Also when whoever got the first one changes it in place, as clipping does."""
    logits, target = batch_of()
    value = loss(logits, target)
    first = gradient_of(value, logits, retain_graph=True)
    copy = first.clone()
    first.zero_()
    second = gradient_of(value, logits, retain_graph=True)
    torch.testing.assert_close(second, copy)
    differentiable = gradient_of(value, logits, create_graph=True)
    torch.testing.assert_close(differentiable, copy)
    assert differentiable.requires_grad


@pytest.mark.parametrize("options", [{"retain_graph": True}, {"create_graph": True}])
def test_hooks_of_the_scores_run_once_each_time(options):
    leaf, target = batch_of()
    logits = leaf * 1.0
    expected = gradient_of(losses.mse_loss(logits, target), leaf, retain_graph=True)
    logits.register_hook(lambda gradient: 2.0 * gradient)
    value = losses.mse_loss(logits, target)
    for _ in range(2):
        torch.testing.assert_close(gradient_of(value, leaf, **options), 2.0 * expected)


def test_a_kept_graph_notices_scores_that_were_changed():
    leaf, target = batch_of()
    logits = leaf * 1.0
    value = losses.mse_loss(logits, target)
    value.backward(retain_graph=True)
    with torch.no_grad():
        logits.add_(1.0)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        value.backward()


@EVERY
def test_transforms_of_functions(loss):
    logits, target = batch_of()
    expected = gradient_of(loss(logits, target), logits)
    torch.testing.assert_close(torch.func.grad(loss)(logits.detach(), target), expected)


@EVERY
def test_nothing_is_computed_in_half_precision_under_autocast(loss):
    logits, target = batch_of()
    logits = logits.detach().float().requires_grad_()
    plain = loss(logits, target)
    with torch.autocast("cpu", torch.bfloat16):
        cast = loss(logits, target)
    torch.testing.assert_close(cast, plain, rtol=0, atol=0)
    torch.testing.assert_close(gradient_of(cast, logits), gradient_of(plain, logits), rtol=0, atol=0)


def test_the_gradient_is_handed_out_without_a_copy():
    logits, target = batch_of()
    places = []

    def twice_the_scores(scores, _):
        gradient = torch.full_like(scores, 2.0)
        places.append(gradient.data_ptr())
        return 2.0 * scores.sum(1), gradient

    reduce_rows(twice_the_scores, check_batch(logits, target, reduction="sum")).backward()
    assert logits.grad.data_ptr() == places[0]
    torch.testing.assert_close(logits.grad, torch.full_like(logits, 2.0))


@pytest.mark.parametrize("keeps", [False, True])
def test_scores_are_freed_with_the_loss(keeps):
    """By counting alone: a cycle would hold a batch until the collector comes."""
    leaf, target = batch_of()
    gc.collect()
    gc.disable()
    try:
        logits = leaf * 1.0
        value = losses.mse_loss(logits, target)
        if keeps:
            value.backward(retain_graph=True)
        gone = weakref.ref(logits)
        del logits, value
        assert gone() is None
    finally:
        gc.enable()


def test_what_wants_a_gradient_beside_the_scores_is_refused():
    logits, target = batch_of()
    with pytest.raises(InputError, match=r"target\.detach\(\)"):
        losses.mse_loss(logits, torch.nn.functional.one_hot(target, 5).double().requires_grad_())


@pytest.mark.parametrize("a", [1e-30, 1e-6, 0.1, 1.0, 30.0, 1e4])
@pytest.mark.parametrize("classes", [2, 7, 8, 9, 61])
def test_products_in_place_of_logarithms(a, classes):
    """The robust log loss multiplies classes before it takes the logarithm; nothing may over- or underflow."""
    logits, target = batch_of(9, classes, seed=3)
    logs = (a + logits.detach().softmax(1)).log()
    own = logs.gather(1, target[:, None])[:, 0]
    expected = math.log((a + 1) / a) - own + (logs.sum(1) - own) / (classes - 1)
    for dtype, tolerance in ((torch.float32, 2e-6), (torch.float64, 1e-11)):
        value = losses.rll_loss(logits.to(dtype), target, a=a, reduction="none").double()
        torch.testing.assert_close(value, expected, rtol=tolerance, atol=0.2 * tolerance)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_exponentials(dtype):
    """By exp2: the relative error grows with |x|, as the rounding of x itself makes that of exp(x) grow."""
    x = torch.linspace(-80.0, 0.0, 10_001, dtype=torch.float64).to(dtype)
    expected = x.double().exp()
    error = (exp(x).double() - expected).abs() / expected
    assert (error <= (4.0 + 2.0 * x.double().abs()) * torch.finfo(dtype).eps).all()
    torch.testing.assert_close(exp(torch.tensor([-2.0, 0.0]), 2.0), torch.tensor([-1.0, 0.0]).exp())
    assert exp(torch.tensor([-torch.inf])).item() == 0.0

"""Losses over building maps: the formulas again in float64 numpy, limits, masks, gradients, and smp's classes."""

import math

import numpy as np
import pytest
import segmentation_models_pytorch as smp
import torch

from robustvision.buildings.losses import (
    LOSSES,
    bce_dice_loss,
    bce_jaccard_loss,
    bce_loss,
    dice_loss,
    focal_loss,
    jaccard_loss,
    lovasz_loss,
    mcc_loss,
    tversky_loss,
)
from robustvision.core.errors import InputError

OVERLAP = ("dice", "jaccard", "tversky")
ALL = sorted(LOSSES)


def batch(seed=0, soft=False, dtype=torch.float64, shape=(3, 1, 6, 5)):
    """Logits of a few units, and a target with a third of buildings."""
    rng = np.random.default_rng(seed)
    target = rng.uniform(size=shape) if soft else (rng.uniform(size=shape) < 0.35)
    return torch.tensor(rng.normal(0, 2, shape), dtype=dtype), torch.tensor(target, dtype=dtype)


def expected(name, logits, target, valid=None):
    """The nine formulas, pixel by pixel in a row, with Python's own numbers."""
    z, y = logits.double().numpy().ravel(), target.double().numpy().ravel()
    if valid is not None:
        kept = valid.numpy().ravel() != 0
        z, y = z[kept], y[kept]
    p = 1 / (1 + np.exp(-z))
    bce = float(np.mean(-y * np.log(p) - (1 - y) * np.log(1 - p)))
    both, predicted, true = float(p @ y), float(p.sum()), float(y.sum())
    dice = 1 - 2 * both / (predicted + true)
    jaccard = 1 - both / (predicted + true - both)
    if name == "focal":
        cross = -y * np.log(p) - (1 - y) * np.log(1 - p)
        return float(np.mean((1 - np.exp(-cross)) ** 2 * cross))
    if name == "lovasz":
        return lovasz_by_sets(z, y)
    if name == "mcc":
        e = 1e-5
        tp, tn, fp, fn = both + e, (1 - p) @ (1 - y) + e, p @ (1 - y) + e, (1 - p) @ y + e
        return 1 - (tp * tn - fp * fn) / math.sqrt((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn))
    return {
        "bce": bce,
        "dice": dice,
        "tversky": dice,
        "jaccard": jaccard,
        "bce+dice": bce + dice,
        "bce+jaccard": bce + jaccard,
    }[name]


def lovasz_by_sets(z, y):
    """The Lovász extension from its definition: the Jaccard loss of every set of worst pixels, a set at a time."""
    errors = 1 - z * (2 * y - 1)
    order = sorted(range(len(z)), key=lambda i: -errors[i])

    def loss_of(wrong):
        right = y.sum() - sum(y[i] for i in wrong)
        union = y.sum() + sum(1 - y[i] for i in wrong)
        return 1 - right / union

    total, last = 0.0, 0.0
    for k, i in enumerate(order):
        now = loss_of(order[: k + 1])
        total += max(errors[i], 0.0) * (now - last)
        last = now
    return total


@pytest.mark.parametrize("name", ALL)
class TestEvery:
    @pytest.mark.parametrize("soft", [False, True], ids=["hard", "soft"])
    def test_formula(self, name, soft):
        logits, target = batch(1, soft)
        assert LOSSES[name]()(logits, target).item() == pytest.approx(expected(name, logits, target), rel=1e-12)

    def test_pixels_that_do_not_count_are_as_if_not_there(self, name):
        logits, target = batch(2)
        valid = torch.rand(logits.shape, generator=torch.Generator().manual_seed(0)) < 0.6
        broken, odd = logits.clone(), target.clone()
        broken[~valid], odd[~valid] = math.inf, math.nan
        broken.requires_grad_()
        loss = LOSSES[name]()(broken, odd, valid=valid)
        loss.backward()
        assert loss.item() == pytest.approx(expected(name, logits, target, valid), rel=1e-12)
        assert (broken.grad[~valid] == 0).all()
        assert broken.grad.isfinite().all()
        assert broken.grad[valid].abs().max() > 0
        as_numbers = LOSSES[name]()(logits, target, valid=valid.float())
        assert as_numbers.item() == pytest.approx(loss.item(), rel=1e-12)

    def test_no_pixel_counts(self, name):
        logits, target = batch(3)
        logits.requires_grad_()
        loss = LOSSES[name]()(logits, target, valid=torch.zeros_like(target))
        loss.backward()
        assert loss.isfinite()
        assert (logits.grad == 0).all()

    @pytest.mark.parametrize("soft", [False, True], ids=["hard", "soft"])
    def test_gradient(self, name, soft):
        logits, target = batch(4, soft, shape=(2, 1, 3, 4))
        valid = torch.ones_like(target)
        valid[0, 0, 1] = 0
        assert torch.autograd.gradcheck(lambda z: LOSSES[name]()(z, target, valid=valid), logits.requires_grad_())

    @pytest.mark.parametrize("label", [0.0, 1.0], ids=["empty", "full"])
    @pytest.mark.parametrize("size", [0.0, 3.0, 1e4])
    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
    def test_one_sided_targets_and_large_logits_are_finite(self, name, label, size, dtype):
        signs = torch.tensor([1.0, -1.0]).repeat(8).reshape(1, 1, 4, 4)
        for sign in (signs, torch.ones_like(signs), -torch.ones_like(signs)):
            logits = (sign * size).to(dtype).requires_grad_()
            loss = LOSSES[name]()(logits, torch.full_like(sign, label))
            loss.backward()
            assert loss.isfinite()
            assert logits.grad.isfinite().all()

    def test_perfect_is_near_zero_and_inverted_is_worse_than_unsure(self, name):
        _, target = batch(5)
        sure = (2 * target - 1) * 20
        perfect, unsure, inverted = (LOSSES[name]()(z, target).item() for z in (sure, 0 * sure, -sure))
        assert perfect == pytest.approx(0, abs=1e-6)
        assert perfect < unsure < inverted

    def test_order_of_pixels_and_pictures_does_not_matter(self, name):
        logits, target = batch(6)
        turned = LOSSES[name]()(logits.flip(0).transpose(2, 3), target.flip(0).transpose(2, 3))
        assert turned.item() == pytest.approx(LOSSES[name]()(logits, target).item(), rel=1e-12)

    def test_a_batch_of_many_half_precision_pixels_is_summed_in_single_precision(self, name):
        """A float16 sum ends at 65,504, and stops growing at 2,048 when 1 is added."""
        logits, target = batch(7, shape=(2, 1, 300, 300))
        logits = logits.half()
        loss = LOSSES[name]()(logits, target.half())
        assert loss.dtype == torch.float32
        assert loss.item() == pytest.approx(LOSSES[name]()(logits.double(), target).item(), rel=1e-5)

    def test_autocast_changes_nothing(self, name):
        logits, target = batch(8, dtype=torch.float32, shape=(2, 1, 64, 64))
        plain = LOSSES[name]()(logits, target)
        with torch.autocast("cpu", torch.bfloat16):
            assert torch.equal(LOSSES[name]()(logits, target), plain)

    @pytest.mark.parametrize(
        ("logits", "target", "valid", "word"),
        [
            ((2, 1, 4, 4), (2, 4, 4), None, "target is"),
            ((2, 1, 4, 4), (2, 1, 4, 4), (2, 4, 4), "valid is"),
            ((2, 2, 4, 4), (2, 2, 4, 4), None, "expected"),
            ((2, 4, 4), (2, 4, 4), None, "expected"),
        ],
    )
    def test_shapes_are_checked(self, name, logits, target, valid, word):
        with pytest.raises(InputError, match=word):
            LOSSES[name]()(torch.zeros(logits), torch.zeros(target), valid=None if valid is None else torch.ones(valid))

    def test_values_are_checked(self, name):
        logits, target = batch(9)
        with pytest.raises(InputError, match="255"):
            LOSSES[name]()(logits, target * 255)
        with pytest.raises(InputError, match="0 to 1"):
            LOSSES[name]()(logits, -target)
        with pytest.raises(InputError, match="floating"):
            LOSSES[name]()(logits.long(), target)

    def test_integer_and_bool_masks_are_taken(self, name):
        logits, target = batch(10)
        wanted = LOSSES[name]()(logits, target).item()
        for dtype in (torch.uint8, torch.bool, torch.int64):
            assert LOSSES[name]()(logits, target.to(dtype)).item() == pytest.approx(wanted, rel=1e-12)


SMP = {
    "jaccard": (jaccard_loss, smp.losses.JaccardLoss("binary")),
    "dice": (dice_loss, smp.losses.DiceLoss("binary")),
    "bce": (bce_loss, smp.losses.SoftBCEWithLogitsLoss()),
    "focal": (focal_loss, smp.losses.FocalLoss("binary")),
    "tversky": (tversky_loss, smp.losses.TverskyLoss("binary")),
    "lovasz": (lovasz_loss, smp.losses.LovaszLoss("binary")),
    "mcc": (mcc_loss, lambda z, y: smp.losses.MCCLoss()(z.sigmoid(), y)),
    "dice, smoothed": (lambda z, y: dice_loss(z, y, smooth=0.5), smp.losses.DiceLoss("binary", smooth=0.5)),
    "jaccard, logarithm": (
        lambda z, y: jaccard_loss(z, y, log_loss=True),
        smp.losses.JaccardLoss("binary", log_loss=True),
    ),
    "tversky, focal": (
        lambda z, y: tversky_loss(z, y, 0.3, 0.7, 1.5),
        smp.losses.TverskyLoss("binary", alpha=0.3, beta=0.7, gamma=1.5),
    ),
    "focal, weighted": (
        lambda z, y: focal_loss(z, y, 1.5, 0.25),
        smp.losses.FocalLoss("binary", alpha=0.25, gamma=1.5),
    ),
    "bce, smoothed": (lambda z, y: bce_loss(z, y, smoothing=0.1), smp.losses.SoftBCEWithLogitsLoss(smooth_factor=0.1)),
}


@pytest.mark.parametrize("name", sorted(SMP))
@pytest.mark.parametrize("seed", range(3))
def test_values_and_gradients_are_those_of_smp_on_hard_targets(name, seed):
    ours, theirs = SMP[name]
    logits, target = batch(seed, dtype=torch.float32, shape=(4, 1, 32, 32))
    first, second = logits.clone().requires_grad_(), logits.clone().requires_grad_()
    a, b = ours(first, target), theirs(second, target)
    a.backward()
    b.backward()
    assert a.item() == pytest.approx(b.item(), rel=2e-5)
    # smp's steps of Lovász are differences of numbers near each other
    torch.testing.assert_close(first.grad, second.grad, rtol=1e-3, atol=1e-3 * second.grad.abs().max().item())


@pytest.mark.parametrize("name", OVERLAP)
class TestOverlap:
    def test_a_soft_target_is_multiplied_where_smp_takes_the_smaller(self, name):
        logits, target = batch(11, soft=True, dtype=torch.float32)
        theirs = {"dice": smp.losses.DiceLoss, "jaccard": smp.losses.JaccardLoss, "tversky": smp.losses.TverskyLoss}[
            name
        ]
        assert LOSSES[name]()(logits, target).item() > theirs("binary")(logits, target).item() + 0.05

    def test_an_empty_batch_counts_nothing_without_smoothing_and_punishes_with_it(self, name):
        logits = torch.tensor([[[[2.0, -3.0]]]], requires_grad=True)
        empty = torch.zeros(1, 1, 1, 2)
        plain = LOSSES[name]()(logits, empty)
        plain.backward()
        assert plain.item() == 0
        assert (logits.grad == 0).all()
        logits.grad = None
        LOSSES[name](smooth=1.0)(logits, empty).backward()
        assert (logits.grad > 0).all()

    def test_logarithm_is_that_of_the_score(self, name):
        logits, target = batch(12)
        plain = LOSSES[name]()(logits, target).item()
        assert LOSSES[name](log_loss=True)(logits, target).item() == pytest.approx(-math.log(1 - plain), rel=1e-12)


def test_tversky_has_dice_and_jaccard_in_it():
    logits, target = batch(13, soft=True)
    assert torch.equal(tversky_loss(logits, target, 0.5, 0.5), dice_loss(logits, target))
    assert torch.equal(tversky_loss(logits, target, 1.0, 1.0), jaccard_loss(logits, target))
    dice, jaccard = 1 - dice_loss(logits, target).item(), 1 - jaccard_loss(logits, target).item()
    assert jaccard == pytest.approx(dice / (2 - dice), rel=1e-12)


def test_tversky_weighs_the_two_errors():
    target = torch.tensor([[[[1.0, 1.0, 0.0, 0.0]]]])
    missed, invented = (torch.tensor([[[pattern]]]) * 50.0 for pattern in ([1.0, -1, -1, -1], [1.0, 1, 1, -1]))
    assert tversky_loss(missed, target, 0.3, 0.7).item() == pytest.approx(1 - 1 / (1 + 0.7))
    assert tversky_loss(invented, target, 0.3, 0.7).item() == pytest.approx(1 - 2 / (2 + 0.3))


def test_a_power_below_one_has_a_finite_gradient_at_a_perfect_prediction():
    _, target = batch(14, dtype=torch.float32)
    logits = ((2 * target - 1) * 1e4).requires_grad_()
    tversky_loss(logits, target, gamma=0.75).backward()
    focal_loss(logits, target, gamma=0.5).backward()
    assert logits.grad.isfinite().all()


def test_the_authors_forms_are_settings_of_the_smoothing():
    """Their losses smooth by 1 what they count: 1 - (2I + 1)/(P + Y + 1) and 1 - (I + 1)/(P + Y - I + 1)."""
    logits, target = batch(15)
    p = logits.sigmoid()
    both, predicted, true = (p * target).sum(), p.sum(), target.sum()
    dice = 1 - (2 * both + 1) / (predicted + true + 1)
    jaccard = 1 - (both + 1) / (predicted + true - both + 1)
    assert dice_loss(logits, target, smooth=0.5).item() == pytest.approx(dice.item(), rel=1e-12)
    assert jaccard_loss(logits, target, smooth=1.0).item() == pytest.approx(jaccard.item(), rel=1e-12)


def test_focal_without_focus_is_cross_entropy():
    logits, target = batch(16, soft=True)
    assert focal_loss(logits, target, 0.0).item() == pytest.approx(bce_loss(logits, target).item(), rel=1e-12)
    halved = focal_loss(logits, target, 0.0, alpha=0.5).item()
    assert halved == pytest.approx(bce_loss(logits, target).item() / 2, rel=1e-12)


def test_cross_entropy_of_the_targets_own_odds_is_their_entropy():
    _, target = batch(17, soft=True)
    target = target.clamp(0.01, 0.99)
    entropy = -(target * target.log() + (1 - target) * (1 - target).log()).mean().item()
    assert bce_loss(target.logit(), target).item() == pytest.approx(entropy, rel=1e-12)


def test_cross_entropy_is_the_mean_over_what_counts():
    """smp divides by every pixel, so that a half-empty tile counts half."""
    logits, target = batch(18)
    twice = torch.cat((logits, logits)), torch.cat((target, target))
    valid = torch.cat((torch.ones_like(target), torch.zeros_like(target)))
    assert bce_loss(*twice, valid=valid).item() == pytest.approx(bce_loss(logits, target).item(), rel=1e-12)


def test_sums_are_sums():
    logits, target = batch(19)
    assert bce_dice_loss(logits, target).item() == pytest.approx(
        bce_loss(logits, target).item() + dice_loss(logits, target).item(), rel=1e-12
    )
    assert bce_jaccard_loss(logits, target, smooth=1.0).item() == pytest.approx(
        bce_loss(logits, target).item() + jaccard_loss(logits, target, smooth=1.0).item(), rel=1e-12
    )


class TestLovasz:
    @pytest.mark.parametrize("seed", range(4))
    def test_is_the_jaccard_loss_where_every_error_is_zero_or_one(self, seed):
        """A logit of 0 is an error of 1, one at the margin, 2y - 1, an error of 0."""
        rng = np.random.default_rng(seed)
        target = torch.tensor(rng.uniform(size=(2, 1, 8, 8)) < 0.4, dtype=torch.float64)
        wrong = torch.tensor(rng.uniform(size=target.shape) < 0.3)
        logits = torch.where(wrong, 0.0, 2 * target - 1)
        predicted = torch.where(wrong, 1 - target, target)
        iou = (predicted * target).sum() / ((predicted + target) > 0).sum()
        assert lovasz_loss(logits, target).item() == pytest.approx(1 - iou.item(), rel=1e-12)

    def test_double_precision_stays(self):
        """smp mixes float and double here, and raises."""
        logits, target = batch(20)
        assert lovasz_loss(logits, target).dtype == torch.float64

    def test_single_precision_keeps_its_digits_over_a_million_pixels(self):
        """A difference of Jaccard losses of neighbouring sets has one digit left in float32: the gradient shows it."""
        logits, target = batch(21, shape=(1, 1, 1000, 1000))
        single, double = logits.float().requires_grad_(), logits.float().double().requires_grad_()
        lovasz_loss(single, target.float()).backward()
        lovasz_loss(double, target).backward()
        moved = double.grad.abs() > 0
        error = ((single.grad.double() - double.grad).abs() / double.grad.abs())[moved]
        assert error.quantile(0.999).item() < 1e-5

    def test_empty_batch_is_the_largest_error(self):
        logits = torch.tensor([[[[-3.0, 0.5, -0.2]]]])
        assert lovasz_loss(logits, torch.zeros_like(logits)).item() == pytest.approx(1.5)

    def test_is_convex_in_the_logits(self):
        (a, target), (b, _) = batch(22), batch(23)
        between = lovasz_loss((a + b) / 2, target)
        assert between <= (lovasz_loss(a, target) + lovasz_loss(b, target)) / 2


def test_mcc_is_one_minus_the_correlation_of_the_two_maps():
    _, target = batch(24)
    _, other = batch(25)
    loss = mcc_loss((2 * other - 1) * 60, target).item()
    correlation = np.corrcoef(other.numpy().ravel(), target.numpy().ravel())[0, 1]
    assert loss == pytest.approx(1 - correlation, abs=1e-4)


@pytest.mark.parametrize(
    ("name", "settings", "word"),
    [
        ("tversky", {"alpha": -1.0}, "alpha"),
        ("tversky", {"beta": math.nan}, "beta"),
        ("tversky", {"gamma": 0.0}, "gamma"),
        ("dice", {"smooth": -1.0}, "smooth"),
        ("bce", {"smoothing": 0.6}, "smoothing"),
        ("focal", {"gamma": -1.0}, "gamma"),
        ("focal", {"alpha": 2.0}, "alpha"),
    ],
)
def test_settings_are_checked(name, settings, word):
    logits, target = batch()
    with pytest.raises(InputError, match=word):
        LOSSES[name](**settings)(logits, target)

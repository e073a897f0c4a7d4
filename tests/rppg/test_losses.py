"""The losses over waves: their formulas in numpy, gradients, limits, invariances, published values, and bad input."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch

from robustvision.core.errors import InputError
from robustvision.rppg.losses import (
    PHYSFORMER_BINS_BPM,
    RHYTHMFORMER_BINS_BPM,
    SCHEDULES,
    DynamicHybridLoss,
    FrequencyCrossEntropy,
    LabelDistributionKL,
    NegPearson,
    band_power,
    cosine,
    frequency_cross_entropy,
    label_distribution_kl,
    neg_pearson,
    physformer,
    rhythmformer_repo,
    static,
)

FS = 30.0


def beats(rates_bpm, frames=300, dtype=torch.float64):
    """One sine a row."""
    rates = torch.as_tensor(rates_bpm, dtype=dtype)
    return torch.sin(2 * torch.pi * rates[:, None] / 60 * torch.arange(frames, dtype=dtype) / FS)


def noise(batch=4, frames=160, seed=0, dtype=torch.float64):
    return torch.randn(batch, frames, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def band_power_by_formula(x, fs, first, last):
    """The shares of one wave, a bin at a time."""
    x = np.asarray(x, np.float64)
    x = (x - x.mean()) / x.std()
    n = np.arange(len(x))
    window = np.hanning(len(x))
    power = []
    for b in range(first, last + 1):
        k = b / 60 * len(x) / fs
        angle = 2 * np.pi * k * n / len(x)
        power.append(np.sum(window * x * np.sin(angle)) ** 2 + np.sum(window * x * np.cos(angle)) ** 2)
    return np.array(power) / np.sum(power)


SCALARS = {
    "neg_pearson": lambda x: neg_pearson(x, beats([60, 70, 80, 90], x.shape[1], x.dtype)),
    "neg_pearson batch": lambda x: neg_pearson(x, beats([60, 70, 80, 90], x.shape[1], x.dtype), over="batch"),
    "cross_entropy": lambda x: frequency_cross_entropy(x, torch.tensor([60.0, 71.0, 80.4, 179.0]), FS),
    "cross_entropy published": lambda x: frequency_cross_entropy(
        x, torch.tensor([60.0, 71.0, 80.4, 149.0]), FS, mode="published", bins_bpm=RHYTHMFORMER_BINS_BPM
    ),
    "kl": lambda x: label_distribution_kl(x, torch.tensor([60.0, 71.0, 80.4, 179.0]), FS),
    "kl toolbox": lambda x: label_distribution_kl(x, torch.tensor([60.0, 71.0, 80.4, 40.0]), FS, mode="toolbox"),
    "hybrid": lambda x: DynamicHybridLoss()(
        x, beats([60, 70, 80, 90], x.shape[1], x.dtype), torch.tensor([60.0, 70.0, 80.0, 90.0]), epoch=3, epochs=9
    )["loss"],
}


@pytest.fixture(params=SCALARS.values(), ids=SCALARS.keys())
def scalar(request):
    """A loss as a function of the prediction [4, T] alone."""
    return request.param


def test_gradients(scalar):
    assert torch.autograd.gradcheck(scalar, (noise(frames=24).requires_grad_(),))


def test_offset_and_scale_of_the_prediction_do_not_matter(scalar):
    x = noise()
    for scale, offset in ((1e-2, 0.0), (1.0, 1e3), (1e3, -50.0)):
        torch.testing.assert_close(scalar(scale * x + offset), scalar(x), rtol=2e-4, atol=2e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("value", [0.0, 1.0, -1e4])
def test_a_constant_prediction_has_a_finite_value_and_gradient(scalar, value, dtype):
    x = torch.full((4, 160), value, dtype=dtype, requires_grad=True)
    loss = scalar(x)
    loss.backward()
    assert loss.isfinite()
    assert x.grad.isfinite().all()
    assert x.grad.norm() < 1e4


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_autocast_keeps_the_spectra_in_float32(scalar, dtype):
    x = noise(dtype=torch.float32).requires_grad_()
    with torch.autocast("cpu", dtype):
        loss = scalar(x)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, scalar(x), rtol=0, atol=1e-5)
    loss.backward()
    assert x.grad.isfinite().all()


def test_half_precision_predictions_are_widened(scalar):
    x = (100 * noise(dtype=torch.float32)).half()
    torch.testing.assert_close(scalar(x), scalar(x.float()), rtol=1e-3, atol=1e-3)


def test_float32_is_close_to_float64(scalar):
    x = noise() + 30
    torch.testing.assert_close(scalar(x.float()).double(), scalar(x).double(), rtol=1e-4, atol=1e-4)


# --- negative Pearson


def test_neg_pearson_is_one_minus_the_correlation():
    x, y = noise(seed=1), noise(seed=2)
    rows = [1 - np.corrcoef(a, b)[0, 1] for a, b in zip(x.numpy(), y.numpy(), strict=True)]
    assert neg_pearson(x, y).item() == pytest.approx(np.mean(rows), rel=1e-6)
    flat = 1 - np.corrcoef(x.numpy().ravel(), y.numpy().ravel())[0, 1]
    assert neg_pearson(x, y, over="batch").item() == pytest.approx(flat, rel=1e-6)


def test_the_two_forms_agree_on_standardised_rows_alone():
    x, y = noise(seed=1), noise(seed=2)
    x, y = ((w - w.mean(1, keepdim=True)) / w.std(1, correction=0, keepdim=True) for w in (x, y))
    torch.testing.assert_close(neg_pearson(x, y), neg_pearson(x, y, over="batch"))
    louder = x * torch.tensor([1.0, 5.0, 1.0, 1.0])[:, None]
    torch.testing.assert_close(neg_pearson(louder, y), neg_pearson(x, y))
    assert (neg_pearson(louder, y) - neg_pearson(louder, y, over="batch")).abs() > 1e-3


def test_neg_pearson_limits():
    x = noise()
    torch.testing.assert_close(neg_pearson(x, 3 * x + 2), torch.tensor(0.0, dtype=torch.float64), atol=1e-7, rtol=0)
    torch.testing.assert_close(neg_pearson(x, -x), torch.tensor(2.0, dtype=torch.float64), atol=1e-7, rtol=0)
    assert neg_pearson(x, torch.ones_like(x)) == 1
    assert neg_pearson(x[:1, :1], x[:1, :1]) == 1  # one frame is constant


def test_neg_pearson_keeps_its_digits_under_an_offset():
    """The closed form in sums loses them all: x^2 N is 4e9 in float32."""
    x, y = noise(seed=1), noise(seed=2)
    shifted = neg_pearson((x + 5000).float(), y.float())
    assert shifted.item() == pytest.approx(neg_pearson(x, y).item(), abs=1e-3)


@pytest.mark.parametrize(
    ("shapes", "settings", "message"),
    [
        (((2, 5), (2, 6)), {}, r"\[2, 5\].*\[2, 6\]"),
        (((5,), (5,)), {}, r"must be \[B, T\]"),
        (((2, 5), (2, 5)), {"over": "row"}, "choose clip or batch"),
    ],
)
def test_neg_pearson_refuses(shapes, settings, message):
    with pytest.raises(InputError, match=message):
        neg_pearson(*(torch.zeros(shape) for shape in shapes), **settings)


# --- band power


@pytest.mark.parametrize("bins", [PHYSFORMER_BINS_BPM, RHYTHMFORMER_BINS_BPM])
@pytest.mark.parametrize("frames", [160, 301])
def test_band_power_is_the_formula(bins, frames):
    x = noise(frames=frames)
    for ours, row in zip(band_power(x, FS, bins), x, strict=True):
        np.testing.assert_allclose(ours, band_power_by_formula(row, FS, *bins), rtol=1e-3, atol=1e-7)


def test_numbers_of_bins():
    assert band_power(noise(), FS, PHYSFORMER_BINS_BPM).shape == (4, 140)
    assert band_power(noise(), FS, RHYTHMFORMER_BINS_BPM).shape == (4, 105)


@pytest.mark.parametrize("fs", [15.0, 30.0, 60.0])
def test_the_peak_is_at_the_heart_rate(fs):
    rates = torch.tensor([45.0, 60.0, 72.0, 110.0, 170.0])
    x = torch.sin(2 * torch.pi * rates[:, None] / 60 * torch.arange(int(20 * fs)) / fs)
    assert (band_power(x, fs).argmax(dim=1) + 40 - rates).abs().max() <= 1


def test_band_power_sums_to_one_and_is_uniform_for_a_constant():
    torch.testing.assert_close(band_power(noise(), FS).sum(1), torch.ones(4, dtype=torch.float64))
    torch.testing.assert_close(band_power(torch.ones(2, 160), FS), torch.full((2, 140), 1 / 140))


@pytest.mark.parametrize(
    ("fs", "bins"), [(30.0, (100, 100)), (30.0, (0, 100)), (5.0, (40, 179)), (math.nan, (40, 179))]
)
def test_bins_that_cannot_be_are_refused(fs, bins):
    with pytest.raises(InputError, match="frames a second"):
        band_power(noise(), fs, bins)


# --- cross-entropy and divergence


def test_cross_entropy_is_the_formula():
    x, rates = noise(), torch.tensor([60.0, 71.4, 88.6, 179.0])
    shares = [band_power_by_formula(row, FS, 40, 179) for row in x]
    classes = [20, 31, 49, 139]
    expected = np.mean([-np.log(p[c]) for p, c in zip(shares, classes, strict=True)])
    assert frequency_cross_entropy(x, rates, FS).item() == pytest.approx(expected, rel=1e-3)
    expected = np.mean([np.log(np.exp(p).sum()) - p[c] for p, c in zip(shares, classes, strict=True)])
    assert frequency_cross_entropy(x, rates, FS, mode="published").item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    ("bins", "floor", "uniform"), [(PHYSFORMER_BINS_BPM, 3.954, 4.942), (RHYTHMFORMER_BINS_BPM, 3.670, 4.654)]
)
def test_published_cross_entropy_never_comes_below_its_floor(bins, floor, uniform):
    """A long pure tone puts nearly all power into one bin, and the loss is still about 4."""
    settings = {"fs": FS, "bins_bpm": bins, "mode": "published"}
    tone, rate = beats([90], frames=30_000), torch.tensor([90.0])
    assert frequency_cross_entropy(tone, rate, **settings).item() == pytest.approx(floor, abs=2e-3)
    constant = torch.zeros(1, 160)
    assert frequency_cross_entropy(constant, rate, **settings).item() == pytest.approx(uniform, abs=1e-3)
    assert frequency_cross_entropy(tone, rate, fs=FS, bins_bpm=bins).item() < 0.01


def test_the_published_gradient_is_far_smaller():
    norms = {}
    for mode in ("log", "published"):
        x = (beats([92.0] * 4, 160) + 0.5 * noise()).requires_grad_()
        frequency_cross_entropy(x, torch.full((4,), 72.0), FS, mode=mode).backward()
        norms[mode] = x.grad.norm()
    assert norms["log"] > 20 * norms["published"]


@pytest.mark.parametrize("sigma_bpm", [1.0, 3.0])
def test_divergence_is_the_formula(sigma_bpm):
    x, rates = noise(), np.array([60.0, 71.4, 88.6, 150.2])
    bins, total = np.arange(40, 180), {"log": 0.0, "toolbox": 0.0}
    for row, rate in zip(x, rates, strict=True):
        p = band_power_by_formula(row, FS, 40, 179)
        q = np.exp(-0.5 * ((bins - rate) / sigma_bpm) ** 2) / (sigma_bpm * np.sqrt(2 * np.pi))
        q = np.maximum(q, 1e-15)
        total["log"] += np.sum(q * (np.log(q) - np.log(p))) / 4
        total["toolbox"] += np.sum(q * (np.log(q) - (p - np.log(np.exp(p).sum())))) / 4
    for mode, expected in total.items():
        ours = label_distribution_kl(x, torch.from_numpy(rates), FS, sigma_bpm=sigma_bpm, mode=mode)
        assert ours.item() == pytest.approx(expected, rel=1e-3), mode


def test_the_toolbox_divergence_hardly_sees_an_error():
    """Errors of 0 to 20 bpm: 3.3 to 3.6, where the right form runs over several units."""
    x, rate = beats([72.0], 160), torch.tensor([72.0])
    values = {
        mode: [label_distribution_kl(x, rate + error, FS, mode=mode).item() for error in (0.0, 5.0, 10.0, 20.0)]
        for mode in ("log", "toolbox")
    }
    assert 3.3 < min(values["toolbox"]) < max(values["toolbox"]) < 3.6
    assert max(values["log"]) - min(values["log"]) > 3


@pytest.mark.parametrize("loss", [frequency_cross_entropy, label_distribution_kl])
def test_the_loss_is_least_at_the_right_heart_rate(loss):
    x = beats([96.0])
    values = [loss(x, torch.tensor([float(rate)]), FS).item() for rate in range(60, 140)]
    assert 60 + int(np.argmin(values)) == 96


@pytest.mark.parametrize("loss", [frequency_cross_entropy, label_distribution_kl])
def test_a_batch_is_the_mean_of_its_clips(loss):
    x, rates = noise(), torch.tensor([60.0, 71.4, 88.6, 150.2])
    alone = torch.stack([loss(x[i : i + 1], rates[i : i + 1], FS) for i in range(4)])
    torch.testing.assert_close(loss(x, rates, FS), alone.mean())
    order = [2, 0, 3, 1]
    torch.testing.assert_close(loss(x[order], rates[order], FS), loss(x, rates, FS))


@pytest.mark.parametrize("loss", [frequency_cross_entropy, label_distribution_kl])
def test_heart_rates_outside_the_bins_are_refused_or_clamped(loss):
    x = noise(2)
    for wrong in (39.0, 180.0, 20.0, math.inf, math.nan):
        with pytest.raises(InputError, match="the bins go from 40 to 179"):
            loss(x, torch.tensor([60.0, wrong]), FS)
    loss(x, torch.tensor([39.6, 179.4]), FS)  # they round to a bin
    clamped = loss(x, torch.tensor([20.0, 200.0]), FS, outside="clamp")
    torch.testing.assert_close(clamped, loss(x, torch.tensor([40.0, 179.0]), FS))
    with pytest.raises(InputError, match="nan bpm"):
        loss(x, torch.tensor([60.0, math.nan]), FS, outside="clamp")
    with pytest.raises(InputError, match="choose refuse or clamp"):
        loss(x, torch.tensor([60.0, 60.0]), FS, outside="wrap")
    with pytest.raises(InputError, match="mode is 'other'"):
        loss(x, torch.tensor([60.0, 60.0]), FS, mode="other")


def test_a_width_that_is_not_positive_is_refused():
    with pytest.raises(InputError, match="sigma_bpm 0"):
        label_distribution_kl(noise(1), torch.tensor([60.0]), FS, sigma_bpm=0)


def test_the_modules_are_the_functions():
    x, y, rates = noise(seed=1), noise(seed=2), torch.tensor([60.0, 71.4, 88.6, 149.4])
    assert NegPearson("batch")(x, y) == neg_pearson(x, y, over="batch")
    settings = {"bins_bpm": RHYTHMFORMER_BINS_BPM, "mode": "published", "outside": "clamp"}
    assert FrequencyCrossEntropy(FS, **settings)(x, rates) == frequency_cross_entropy(x, rates, FS, **settings)
    settings = {"bins_bpm": RHYTHMFORMER_BINS_BPM, "mode": "toolbox", "outside": "clamp", "sigma_bpm": 3.0}
    assert LabelDistributionKL(FS, **settings)(x, rates) == label_distribution_kl(x, rates, FS, **settings)


# --- the hybrid


def test_schedules():
    """The published formulas, whose epochs e count from 1."""
    for e in (1, 2, 7, 10):
        assert physformer(e - 1, 10) == (0.1, pytest.approx(5 ** ((e - 1) / 10)))
    assert [rhythmformer_repo(e, 100) for e in (0, 15, 30, 99)] == [
        (1.0, 1.0),
        (1.0, pytest.approx(5**0.5)),
        (1.0, 5.0),
        (1.0, 5.0),
    ]
    assert {static(e, 10) for e in range(20)} == {(1.0, 1.0)}
    assert cosine(0, 10) == (1.0, 0.1)
    assert cosine(10, 10) == (pytest.approx(0.1), 0.5)


@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES.keys())
def test_alpha_never_rises_and_beta_never_falls(schedule):
    alphas, betas = zip(*(schedule(epoch, 40) for epoch in range(45)), strict=True)
    assert all(before >= after for before, after in pairwise(alphas))
    assert all(before <= after for before, after in pairwise(betas))
    for epoch, epochs in ((-1, 10), (0, 0)):
        with pytest.raises(InputError, match="epochs count from 0"):
            schedule(epoch, epochs)


@pytest.mark.parametrize("name", SCHEDULES)
def test_the_hybrid_is_the_weighted_sum_of_its_terms(name):
    x, y, rates = noise(seed=1).requires_grad_(), noise(seed=2), torch.tensor([60.0, 71.4, 88.6, 150.2])
    terms = DynamicHybridLoss(FS, name, frequency_weight=0.3, sigma_bpm=2.0)(x, y, rates, epoch=6, epochs=20)
    alpha, beta = SCHEDULES[name](6, 20)
    time, ce = neg_pearson(x, y), frequency_cross_entropy(x, rates, FS)
    kl = label_distribution_kl(x, rates, FS, sigma_bpm=2.0)
    torch.testing.assert_close(terms["loss"], alpha * time + 0.3 * beta * (ce + kl))
    for term, value in (("time", time), ("cross_entropy", ce), ("divergence", kl)):
        assert terms[term] == value
        assert not terms[term].requires_grad
    assert [key for key in terms if "loss" in key] == ["loss"]  # mmengine adds up all that say so


def test_without_frequency_it_is_the_correlation_alone():
    x, y = noise(seed=1), noise(seed=2)
    terms = DynamicHybridLoss(schedule="physformer", frequency_weight=0)(
        x, y, torch.full((4,), 500.0), epoch=0, epochs=1
    )
    assert terms == {"loss": neg_pearson(x, y), "time": neg_pearson(x, y)}


def test_the_hybrid_refuses():
    with pytest.raises(InputError, match="choose from physformer, rhythmformer_repo, static, cosine"):
        DynamicHybridLoss(schedule="linear")
    with pytest.raises(InputError, match="frequency_weight is -1"):
        DynamicHybridLoss(frequency_weight=-1)

"""Every loss over classes against its formula in numpy, and what all of them must do alike."""

import inspect
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq

import robustvision.core.losses as losses
from robustvision.core.errors import InputError
from robustvision.core.losses import rows as rows_module
from robustvision.core.losses.batch import ClassificationLoss

A = math.log(1e-4)


def softmax(f):
    e = np.exp(f - f.max())
    return e / e.sum()


def others(values, y):
    return [value for k, value in enumerate(values) if k != y]


def kl(a, b):
    return sum(x * math.log(x / z) for x, z in zip(a, b, strict=True) if x > 0)


def mae(f, y):
    return sum(abs((k == y) - p) for k, p in enumerate(softmax(f)))


def mse(f, y):
    return sum(((k == y) - p) ** 2 for k, p in enumerate(softmax(f)))


def js(f, y, pi):
    p, e = softmax(f), np.eye(len(f))[y]
    m = pi * e + (1 - pi) * p
    return -(pi * kl(e, m) + (1 - pi) * kl(p, m)) / ((1 - pi) * math.log(1 - pi))


def rll(f, y, a):
    p = softmax(f)
    rest = sum(math.log(a + q) for q in others(p, y)) / (len(f) - 1)
    return math.log((a + 1) / a) - math.log(a + p[y]) + rest


def rce(f, y):
    """The definition, over all classes, with log 0 cut off at log 1e-4."""
    target = np.clip(np.eye(len(f))[y], 1e-4, 1.0)
    return -sum(p * math.log(t) for p, t in zip(softmax(f), target, strict=True))


def gce(f, y, q):
    return (1 - softmax(f)[y] ** q) / q


def nce(f, y):
    logs = [math.log(p) for p in softmax(f)]
    return logs[y] / sum(logs)


def focal(f, y, g):
    p = softmax(f)[y]
    return -((1 - p) ** g) * math.log(p)


def agce(f, y, a, q):
    return ((a + 1) ** q - (a + softmax(f)[y]) ** q) / q


def aul(f, y, a, q):
    return ((a - softmax(f)[y]) ** q - (a - 1) ** q) / q


def margins(f, y, c):
    return [f[k] - f[y] + c * (k != y) for k in range(len(f))]


def ldr(f, y, lam, c):
    return lam * math.log(np.mean([math.exp(d / lam) for d in margins(f, y, c)]))


def l1(f):
    return f / np.mean(np.abs(f))


def softplus(f):
    return np.log1p(np.exp(f))


def comp_sum(f, y, tau):
    u = sum(math.exp(f[k] - f[y]) for k in range(len(f)) if k != y)
    return math.log(1 + u) if tau == 1 else ((1 + u) ** (1 - tau) - 1) / (1 - tau)


def bi_tempered(f, y, t1, t2):
    def exp_t(u):
        return math.exp(u) if t2 == 1 else max(1 + (1 - t2) * u, 0.0) ** (1 / (1 - t2))

    def log_t(x):
        return math.log(x) if t1 == 1 else (x ** (1 - t1) - 1) / (1 - t1)

    f = f - f.max()
    norm = brentq(lambda n: sum(exp_t(v - n) for v in f) - 1, 0.0, 1e6, xtol=1e-13)
    p = [exp_t(v - norm) for v in f]
    return -log_t(p[y]) - (1 - sum(q ** (2 - t1) for q in p)) / (2 - t1)


# name -> (function, settings, formula of (f, y), least number of classes)
CASES = {
    "CE": (losses.cross_entropy_loss, {}, lambda f, y: -math.log(softmax(f)[y])),
    "focal": (losses.focal_loss, {"gamma": 2.0}, lambda f, y: focal(f, y, 2.0)),
    "focal .5": (losses.focal_loss, {"gamma": 0.5}, lambda f, y: focal(f, y, 0.5)),
    "MAE": (losses.mae_loss, {}, mae),
    "MSE": (losses.mse_loss, {}, mse),
    "GCE": (losses.gce_loss, {"q": 0.7}, lambda f, y: gce(f, y, 0.7)),
    "TGCE": (losses.truncated_gce_loss, {"q": 0.7, "k": 0.3}, lambda f, y: min(gce(f, y, 0.7), (1 - 0.3**0.7) / 0.7)),
    "SCE": (losses.sce_loss, {"alpha": 0.3, "beta": 2.0}, lambda f, y: -0.3 * math.log(softmax(f)[y]) + 2 * rce(f, y)),
    "RCE": (losses.rce_loss, {}, rce),
    "JS .1": (losses.js_loss, {"pi": 0.1}, lambda f, y: js(f, y, 0.1)),
    "JS .9": (losses.js_loss, {"pi": 0.9}, lambda f, y: js(f, y, 0.9)),
    "RLL": (losses.rll_loss, {"a": 0.1}, lambda f, y: rll(f, y, 0.1)),
    "NCE": (losses.nce_loss, {}, nce),
    "NFL": (
        losses.nfl_loss,
        {"gamma": 0.5},
        lambda f, y: focal(f, y, 0.5) / sum(focal(f, k, 0.5) for k in range(len(f))),
    ),
    "NGCE": (losses.ngce_loss, {"q": 0.7}, lambda f, y: gce(f, y, 0.7) / sum(gce(f, k, 0.7) for k in range(len(f)))),
    "AGCE": (losses.agce_loss, {"a": 3.0, "q": 1.5}, lambda f, y: agce(f, y, 3, 1.5)),
    "AUL": (losses.aul_loss, {"a": 6.0, "q": 1.5}, lambda f, y: aul(f, y, 6, 1.5)),
    "AEL": (losses.ael_loss, {"a": 2.5}, lambda f, y: math.exp(-softmax(f)[y] / 2.5)),
    "NCE+RCE": (losses.nce_rce_loss, {"alpha": 2.0, "beta": 3.0}, lambda f, y: 2 * nce(f, y) + 3 * rce(f, y)),
    "NCE+AGCE": (losses.nce_agce_loss, {"a": 3.0, "beta": 4.0}, lambda f, y: nce(f, y) + 4 * agce(f, y, 3, 1.5)),
    "NCE+AUL": (losses.nce_aul_loss, {"a": 6.0, "beta": 4.0}, lambda f, y: nce(f, y) + 4 * aul(f, y, 6, 1.5)),
    "CS": (losses.crammer_singer_loss, {"margin": 1.0}, lambda f, y: max(0, *margins(f, y, 1.0))),
    "WW": (
        losses.weston_watkins_loss,
        {"margin": 1.0},
        lambda f, y: sum(max(0, d) for d in others(margins(f, y, 1.0), y)),
    ),
    "comp-sum .5": (losses.comp_sum_loss, {"tau": 0.5}, lambda f, y: comp_sum(f, y, 0.5)),
    "comp-sum 1": (losses.comp_sum_loss, {"tau": 1.0}, lambda f, y: comp_sum(f, y, 1)),
    "comp-sum 1.7": (losses.comp_sum_loss, {"tau": 1.7}, lambda f, y: comp_sum(f, y, 1.7)),
    "bi-tempered": (losses.bi_tempered_loss, {"t1": 0.8, "t2": 1.2}, lambda f, y: bi_tempered(f, y, 0.8, 1.2)),
    "bi-tempered far": (losses.bi_tempered_loss, {"t1": 0.2, "t2": 4.0}, lambda f, y: bi_tempered(f, y, 0.2, 4.0)),
    "LDR raw": (losses.ldr_loss, {"lam": 0.7, "normalize": "none"}, lambda f, y: ldr(f, y, 0.7, 0.1)),
    "LDR L1": (losses.ldr_loss, {"lam": 2.0, "normalize": "l1"}, lambda f, y: ldr(l1(f), y, 2.0, 0.1)),
    "LDR softplus": (losses.ldr_loss, {"lam": 2.0}, lambda f, y: ldr(l1(softplus(f)), y, 2.0, 0.1)),
    "LDR-k, k 1": (losses.ldr_k_loss, {"k": 1, "normalize": "none"}, lambda f, y: ldr(f, y, 1.0, 0.1)),
}
EVERY = pytest.mark.parametrize("name", CASES)
SOFT = [name for name, (function, *_) in CASES.items() if "distributions" in function.__doc__]
MODULES = [
    cls for cls in losses.__all__ if cls.endswith("Loss") and issubclass(getattr(losses, cls), ClassificationLoss)
]


def batch_of(size=7, classes=5, seed=0, spread=2.0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    f = spread * torch.randn(size, classes, generator=generator, dtype=torch.float64)
    return f.to(dtype), torch.randint(0, classes, (size,), generator=generator)


@EVERY
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10**6), classes=st.integers(2, 6))
def test_value_is_that_of_the_formula(name, seed, classes):
    function, setting, formula = CASES[name]
    f, y = batch_of(3, classes, seed)
    expected = [formula(row, int(label)) for row, label in zip(f.numpy(), y, strict=True)]
    np.testing.assert_allclose(function(f, y, **setting, reduction="none").numpy(), expected, rtol=1e-9, atol=1e-12)


HAND = [  # f = (2, 1, 0), y = 1, from the published formulas to six digits
    (losses.nce_loss, {}, 0.333333),
    (losses.rce_loss, {}, 6.956308),
    (losses.agce_loss, {"a": 3, "q": 1.5}, 1.436819),
    (losses.aul_loss, {"a": 6, "q": 1.5}, 1.751094),
    (losses.js_loss, {"pi": 0.1}, 1.331298),
    (losses.js_loss, {"pi": 0.5}, 1.109895),
    (losses.js_loss, {"pi": 0.9}, 0.920964),
    (losses.sce_loss, {"alpha": 0.5, "beta": 0.5, "log_of_zero": -4}, 2.214346),
    (losses.mse_loss, {}, 1.021086),
    (losses.rll_loss, {"a": 0.1}, 2.498826),
    (losses.rll_loss, {"a": 1.0}, 0.772318),
    *((losses.comp_sum_loss, {"tau": tau}, value) for tau, value in [
        (0, 3.086161), (0.5, 2.042851), (1, 1.407606), (1.5, 1.010599), (1.7, 0.895260), (2, 0.755272), (3, 0.470054),
    ]),
    *((losses.ldr_loss, {"lam": lam, "margin": c, "normalize": "none"}, value) for lam, c, value in [
        (0.1, 0.1, 0.990140), (1, 0.1, 0.385429), (10, 0.1, 0.100194),
        (0.1, 0, 0.890143), (1, 0, 0.308994), (10, 0, 0.033306),
    ]),
]  # fmt: skip


@pytest.mark.parametrize(("function", "setting", "value"), HAND)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_hand_values(function, setting, value, dtype):
    f, y = torch.tensor([[2.0, 1.0, 0.0]], dtype=dtype), torch.tensor([1])
    assert function(f, y, **setting).item() == pytest.approx(value, abs=6e-7)


@EVERY
def test_gradient_by_finite_differences(name):
    function, setting, _ = CASES[name]
    f, y = batch_of(4, 5, seed=3)
    assert torch.autograd.gradcheck(lambda f: function(f, y, **setting, reduction="none"), (f.requires_grad_(),))


@EVERY
def test_blocks_of_rows_change_nothing(name, monkeypatch):
    function, setting, _ = CASES[name]
    f, y = batch_of(9, 6, seed=4)
    weight = torch.rand(9, dtype=torch.float64)
    plain, blocked = f.clone().requires_grad_(), f.clone().requires_grad_()
    value = function(plain, y, **setting, weight=weight)
    value.backward()
    monkeypatch.setattr(rows_module, "BLOCK", 12)  # two rows
    monkeypatch.setattr(rows_module, "WHOLE", 12)
    in_blocks = function(blocked, y, **setting, weight=weight)
    in_blocks.backward()
    torch.testing.assert_close(in_blocks, value)
    torch.testing.assert_close(blocked.grad, plain.grad)
    with torch.no_grad():
        torch.testing.assert_close(function(f, y, **setting, weight=weight), value.detach())


@EVERY
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("size", [1e4, 30.0])
def test_extreme_logits_have_finite_loss_and_gradient(name, dtype, size):
    """One class far ahead, the own one far ahead, the own one far behind, and no logit but 0."""
    function, setting, _ = CASES[name]
    f = torch.tensor([[1, -1, -1, 0], [-1, -1, 1, 0], [1, 1, -1, -1], [0, 0, 0, 0]], dtype=dtype) * size
    f.requires_grad_()
    value = function(f, torch.tensor([0, 0, 2, 1]), **setting, reduction="none")
    value.sum().backward()
    assert value.dtype == torch.float32
    assert value.isfinite().all()
    assert f.grad.isfinite().all()
    assert f.grad.dtype == dtype


@EVERY
def test_half_precision_is_that_of_its_input_alone(name):
    function, setting, _ = CASES[name]
    f, y = batch_of(64, 9, seed=5, dtype=torch.bfloat16)
    expected = function(f.double(), y, **setting)
    assert function(f, y, **setting).item() == pytest.approx(expected.item(), rel=1e-5)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert function(f, y, **setting).item() == pytest.approx(expected.item(), rel=1e-5)


@EVERY
def test_ignored_and_weighted_samples(name):
    function, setting, _ = CASES[name]
    f, y = batch_of(6, 4, seed=6)
    y[[1, 4]] = -1
    kept = y != -1
    each = function(f, y, **setting, reduction="none")
    assert (each[~kept] == 0).all()
    torch.testing.assert_close(each[kept], function(f[kept], y[kept], **setting, reduction="none"))
    torch.testing.assert_close(function(f, y, **setting), each[kept].mean())
    torch.testing.assert_close(function(f, y, **setting, reduction="sum"), each.sum())
    torch.testing.assert_close(function(f, torch.where(kept, y, -100), **setting, ignore_index=-100), each[kept].mean())
    w = torch.tensor([0.0, 5.0, 2.0, 1.0, 3.0, 0.5], dtype=torch.float64)
    torch.testing.assert_close(function(f, y, **setting, weight=w), (w * each).sum() / w[kept].sum())
    assert function(f, torch.full((6,), -1), **setting) == 0
    assert function(f, y, **setting, weight=torch.zeros(6)) == 0


@EVERY
def test_empty_batch(name):
    function, setting, _ = CASES[name]
    f = torch.zeros(0, 4, requires_grad=True)
    value = function(f, torch.zeros(0, dtype=torch.long), **setting)
    value.backward()
    assert value == 0
    assert function(f, torch.zeros(0, dtype=torch.long), **setting, reduction="none").shape == (0,)


@EVERY
def test_one_class_is_refused_or_has_no_gradient(name):
    function, setting, _ = CASES[name]
    f = torch.tensor([[3.0], [-2.0]], requires_grad=True)
    if "at least 2" in function.__doc__:
        with pytest.raises(InputError, match="1 classes, but this loss needs at least 2"):
            function(f, torch.tensor([0, 0]), **setting)
        return
    value = function(f, torch.tensor([0, 0]), **setting)
    value.backward()
    assert value.isfinite()
    torch.testing.assert_close(f.grad, torch.zeros_like(f), atol=1e-6, rtol=0)


@EVERY
def test_order_of_samples_and_classes_does_not_matter(name):
    function, setting, _ = CASES[name]
    f, y = batch_of(6, 5, seed=7)
    each = function(f, y, **setting, reduction="none")
    order = torch.randperm(6, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(function(f[order], y[order], **setting, reduction="none"), each[order])
    classes = torch.tensor([3, 0, 4, 1, 2])
    renamed = torch.empty(5, dtype=torch.long).scatter_(0, classes, torch.arange(5))
    torch.testing.assert_close(function(f[:, classes], renamed[y], **setting, reduction="none"), each)


@EVERY
def test_a_constant_added_to_all_logits_matters_only_to_normalised_outputs(name):
    function, setting, _ = CASES[name]
    f, y = batch_of(6, 5, seed=8)
    same = torch.allclose(function(f + 3.0, y, **setting), function(f, y, **setting))
    assert same == (name not in ("LDR L1", "LDR softplus"))


@pytest.mark.parametrize("name", SOFT)
def test_soft_targets(name):
    function, setting, _ = CASES[name]
    f, y = batch_of(6, 5, seed=9)
    one_hot = torch.nn.functional.one_hot(y, 5).double()
    torch.testing.assert_close(
        function(f, one_hot, **setting, reduction="none"), function(f, y, **setting, reduction="none")
    )
    soft = torch.softmax(torch.randn(6, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1)), 1)
    value = function(f, soft, **setting, reduction="none")
    if "expected loss" in function.__doc__:
        of_class = torch.stack([function(f, torch.full((6,), k), **setting, reduction="none") for k in range(5)], 1)
        torch.testing.assert_close(value, (soft * of_class).sum(1))
    else:  # a distance: 0 where the prediction is the target
        logits = soft.log().clone().requires_grad_()
        if setting.get("t2", 1.0) == 1.0:
            at_target = function(logits, soft, **setting)
            at_target.backward()
            assert at_target.item() == pytest.approx(0.0, abs=1e-12)
            if name != "MAE":  # |x| has no gradient at 0
                torch.testing.assert_close(logits.grad, torch.zeros_like(logits), atol=1e-9, rtol=0)
    assert torch.autograd.gradcheck(lambda f: function(f, soft, **setting, reduction="none"), (f.requires_grad_(),))


def test_distances_to_soft_targets_by_their_definition():
    f, _ = batch_of(4, 3, seed=10)
    t = torch.softmax(torch.randn(4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(2)), 1)
    p = f.softmax(1)
    torch.testing.assert_close(losses.mae_loss(f, t), (p - t).abs().sum(1).mean())
    torch.testing.assert_close(losses.mse_loss(f, t), (p - t).square().sum(1).mean())
    m = 0.3 * t + 0.7 * p
    expected = 0.3 * (t * (t / m).log()).sum(1) + 0.7 * (p * (p / m).log()).sum(1)
    torch.testing.assert_close(losses.js_loss(f, t, pi=0.3), (expected / (-0.7 * math.log(0.7))).mean())


@pytest.mark.parametrize("name", [name for name in CASES if name not in SOFT])
def test_soft_targets_are_refused_where_they_have_no_meaning(name):
    function, setting, _ = CASES[name]
    with pytest.raises(InputError, match=r"float64 \[2, 3\], but integer class indices"):
        function(torch.zeros(2, 3), torch.full((2, 3), 1 / 3, dtype=torch.float64), **setting)


BAD_TARGETS = [
    (torch.tensor([0, 5]), "labels hold 5, but the head has 4 classes: pass num_classes=6"),
    (torch.tensor([0, -2]), "labels hold -2"),
    (torch.tensor([0, 1, 2]), "one index for each of 2 samples"),
    (torch.tensor([[0, 1], [1, 0]]), "one index for each"),
    (torch.tensor([True, False]), "integer class indices"),
    (torch.tensor([0.0, 1.0]), "integer class indices|soft targets"),
]


@EVERY
@pytest.mark.parametrize(("target", "message"), BAD_TARGETS)
def test_bad_targets_are_refused(name, target, message):
    function, setting, _ = CASES[name]
    with pytest.raises(InputError, match=message):
        function(torch.zeros(2, 4), target, **setting)


@EVERY
def test_other_bad_input_is_refused(name):
    function, setting, _ = CASES[name]
    f, y = torch.zeros(2, 4), torch.tensor([0, 1])
    for wrong, message in [
        ({"weight": torch.ones(3)}, "one number for each of 2"),
        ({"weight": torch.tensor([1.0, -1.0])}, "negative"),
        ({"weight": torch.tensor([1.0, torch.nan])}, "not finite"),
        ({"reduction": "median"}, "'none', 'mean' or 'sum'"),
    ]:
        with pytest.raises(InputError, match=message):
            function(f, y, **setting, **wrong)
    for scores in (torch.zeros(2, 4, 3), torch.zeros(2, 4, dtype=torch.int64), torch.zeros(2, 0)):
        with pytest.raises(InputError, match="the scores"):
            function(scores, y, **setting)


@pytest.mark.parametrize("name", SOFT)
def test_soft_targets_get_their_gradient_or_are_refused(name):
    function, setting, _ = CASES[name]
    f, _ = batch_of(3, 4, seed=15)
    t = torch.softmax(torch.randn(3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(3)), 1)
    t.requires_grad_()
    if function in (losses.mse_loss, losses.bi_tempered_loss):
        with pytest.raises(InputError, match=r"target\.detach\(\)"):
            function(f.requires_grad_(), t, **setting)
        return
    (gradient,) = torch.autograd.grad(function(f, t, **setting), t)
    assert gradient.abs().sum() > 0


@pytest.mark.parametrize("name", SOFT)
def test_targets_that_are_no_distributions_are_refused(name):
    function, setting, _ = CASES[name]
    for target in (torch.full((2, 4), 0.3), torch.tensor([[1.5, -0.5, 0, 0], [1, 0, 0, 0]]), torch.zeros(2, 4)):
        with pytest.raises(InputError, match="no distributions"):
            function(torch.zeros(2, 4), target, **setting)
    with pytest.raises(InputError, match="in the shape of the logits"):
        function(torch.zeros(2, 4), torch.full((2, 5), 0.2), **setting)


BAD_SETTINGS = [
    (losses.FocalLoss, {"gamma": -1}), (losses.GCELoss, {"q": 0}), (losses.GCELoss, {"q": 1.5}),
    (losses.TruncatedGCELoss, {"k": 1.0}), (losses.SCELoss, {"log_of_zero": 0.0}), (losses.JSLoss, {"pi": 0}),
    (losses.JSLoss, {"pi": 1}), (losses.RLLLoss, {"a": 0}), (losses.NFLLoss, {"gamma": -0.1}),
    (losses.NGCELoss, {"q": 0}), (losses.RCELoss, {"log_of_zero": 1.0}), (losses.AGCELoss, {"a": 0}),
    (losses.AGCELoss, {"q": 0}), (losses.AULLoss, {"a": 0.5}), (losses.AULLoss, {"a": 1.0}),
    (losses.AELLoss, {"a": 0}), (losses.NCEAULLoss, {"a": 0.9}), (losses.NCEAGCELoss, {"a": -1}),
    (losses.BiTemperedLoss, {"t1": 1.1}), (losses.BiTemperedLoss, {"t2": 0.9}), (losses.CompSumLoss, {"tau": -0.1}),
    (losses.LDRLoss, {"lam": -1}), (losses.LDRLoss, {"normalize": "l2"}), (losses.LDRKLoss, {"lam": 0}),
    (losses.FocalLoss, {"gamma": math.nan}), (losses.LDRLoss, {"margin": math.nan}),
    (losses.ALDRLoss, {"lam0": math.inf}),
    (losses.BiTemperedLoss, {"t2": math.inf}), (losses.RLLLoss, {"a": math.inf}),
]  # fmt: skip


@pytest.mark.parametrize(("module", "setting"), BAD_SETTINGS)
def test_settings_out_of_range_are_refused_before_training(module, setting):
    with pytest.raises(InputError, match=f"(?i){next(iter(setting))} is|normalize is|t1 is"):
        module(**setting)


@pytest.mark.parametrize("module", MODULES)
def test_every_module_is_its_function(module):
    """With its default settings, and with the signature that a config counts on."""
    cls = getattr(losses, module)
    loss = cls(num_samples=10, reduction="none") if module == "ALDRLoss" else cls(reduction="none")
    f, y = batch_of(5, 4, seed=11, spread=0.3)
    weight, index = torch.rand(5, dtype=torch.float64), torch.arange(5)
    value = loss.eval()(f, y, index=index, weight=weight)
    extra = {"lam": torch.full((5,), 10.0)} if module == "ALDRLoss" else {}
    if module == "ALDRLoss":
        extra = {"lam": losses.aldr_temperature(f, torch.full((5,), 10.0))}
    defaults = loss.settings if module != "ALDRLoss" else {}
    torch.testing.assert_close(value, cls.function(f, y, **extra, **defaults, weight=weight, reduction="none"))
    given = inspect.signature(cls.function).parameters
    made = inspect.signature(cls).parameters
    same = [name for name in made if name in given and name not in ("ignore_index", "reduction")]
    assert all(made[name].default == given[name].default for name in same)
    assert all(name in repr(loss) for name in loss.settings)


def test_the_modules_are_all_there():
    assert len(MODULES) >= 30


@pytest.mark.parametrize("name", [name for name in CASES if name.split()[0] in ("MAE", "GCE", "RCE", "JS", "comp-sum")])
@pytest.mark.parametrize("ahead", [12.0, 20.0, 40.0])
def test_gradients_of_improbable_classes_are_exact_in_float32(name, ahead):
    """What a network that is sure and wrong goes by, and every class at the start where there are 100,000."""
    function, setting, _ = CASES[name]
    f, y = torch.tensor([[ahead, 0.0, 0.5]], dtype=torch.float64), torch.tensor([1])
    single, double = (f.to(dtype).requires_grad_() for dtype in (torch.float32, torch.float64))
    function(single, y, **setting).backward()
    function(double, y, **setting).backward()
    torch.testing.assert_close(single.grad[0, 1].double(), double.grad[0, 1], rtol=1e-5, atol=0)


TWICE = ["CE", "focal", "focal .5", "MAE", "GCE", "TGCE", "SCE", "RCE", "JS .1", "JS .9", "AGCE", "AUL", "AEL"]
TWICE += ["comp-sum .5", "comp-sum 1", "comp-sum 1.7"]


def gradient_penalty(name, f, y):
    function, setting, _ = CASES[name]
    return torch.autograd.grad(function(f, y, **setting), f, create_graph=True)[0].square().sum()


@pytest.mark.parametrize("name", TWICE)
def test_second_derivatives(name):
    f, y = batch_of(3, 4, seed=13)
    assert torch.autograd.gradcheck(lambda f: gradient_penalty(name, f, y), f.requires_grad_())


@pytest.mark.parametrize("name", [name for name in CASES if name not in TWICE])
def test_a_second_derivative_that_is_not_there_is_refused(name):
    """A gradient penalty must not lose its gradient in silence."""
    f, y = batch_of(3, 4, seed=13)
    penalty = gradient_penalty(name, f.requires_grad_(), y)
    with pytest.raises(RuntimeError, match="no second derivative"):
        penalty.backward()


@EVERY
def test_no_graph_break_under_compile(name):
    function, setting, _ = CASES[name]
    f, y = batch_of(4, 5, seed=12, dtype=torch.float32)
    torch._dynamo.reset()
    compiled = torch.compile(lambda f, y: function(f, y, **setting), fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(f, y), function(f, y, **setting))


# ---- what makes them robust


@pytest.mark.parametrize(
    ("function", "setting"),
    [
        (losses.mae_loss, {}),
        (losses.rce_loss, {}),
        (losses.nce_loss, {}),
        (losses.nfl_loss, {}),
        (losses.ngce_loss, {}),
        (losses.rll_loss, {}),
    ],
)
def test_symmetric_losses_sum_to_a_constant_over_the_labels(function, setting):
    """That is what makes them tolerant of uniform noise."""
    f, _ = batch_of(50, 6, seed=13, spread=4.0)
    total = sum(function(f, torch.full((50,), k), **setting, reduction="none") for k in range(6))
    torch.testing.assert_close(total, total[:1].expand(50), rtol=1e-9, atol=0)


def test_mae_is_not_the_zero_of_the_published_baseline():
    f, y = batch_of(8, 5)
    f.requires_grad_()
    value = losses.mae_loss(f, y)
    value.backward()
    assert value > 0.1
    assert f.grad.abs().max() > 1e-3


def test_an_active_passive_sum_without_its_active_part_is_the_passive_one():
    f, y = batch_of(20, 5, seed=14)
    f.requires_grad_()
    for sum_, alone in ((losses.nce_rce_loss, losses.rce_loss), (losses.nce_agce_loss, losses.agce_loss)):
        extra = {"a": 3.0, "q": 1.5} if alone is losses.agce_loss else {}
        ours, theirs = sum_(f, y, alpha=0.0, beta=2.0, **extra), 2.0 * alone(f, y, **extra)
        torch.testing.assert_close(ours, theirs)
        torch.testing.assert_close(torch.autograd.grad(ours, f), torch.autograd.grad(theirs, f))


def test_limits_between_the_losses():
    f, y = batch_of(20, 5, seed=14)
    ce = losses.cross_entropy_loss(f, y)
    torch.testing.assert_close(losses.gce_loss(f, y, q=1e-9), ce, rtol=1e-6, atol=0)
    torch.testing.assert_close(losses.gce_loss(f, y, q=1.0), losses.mae_loss(f, y) / 2)
    torch.testing.assert_close(losses.gce_loss(f, y, q=0.7), losses.comp_sum_loss(f, y, tau=1.7))
    torch.testing.assert_close(losses.js_loss(f, y, pi=1e-9), ce, rtol=1e-6, atol=0)
    # to 1 - p_y for pi -> 1, but slowly: what is left falls like 1 / log(1 - pi)
    p = f.softmax(1).gather(1, y[:, None])
    left = ((1 - p) + p * p.log()).mean() / -math.log(1e-9)
    torch.testing.assert_close(losses.js_loss(f, y, pi=1 - 1e-9), (1 - p).mean() + left, rtol=1e-6, atol=0)
    torch.testing.assert_close(losses.bi_tempered_loss(f, y, 1.0, 1.0), ce)
    torch.testing.assert_close(losses.bi_tempered_loss(f, y, 1 - 1e-7, 1 + 1e-7), ce, rtol=1e-5, atol=0)
    torch.testing.assert_close(losses.bi_tempered_loss(f, y, 0.0, 1.0), losses.mse_loss(f, y) / 2)
    torch.testing.assert_close(losses.ael_loss(f, y, a=1e6), 1 - (1 - losses.mae_loss(f, y) / 2) * 1e-6)
    torch.testing.assert_close(losses.agce_loss(f, y, a=3, q=1.0), losses.mae_loss(f, y) / 2)
    torch.testing.assert_close(losses.aul_loss(f, y, a=3, q=1.0), losses.mae_loss(f, y) / 2)


def test_tempered_softmax_sums_to_one_for_many_classes():
    f = torch.randn(3, 100_000, generator=torch.Generator().manual_seed(0))
    for t in (1.0, 1.2, 2.0, 4.0):
        torch.testing.assert_close(losses.tempered_softmax(f, t).sum(1), torch.ones(3), rtol=0, atol=2e-4)


def test_truncated_gce_remembers_what_it_pruned():
    f, y = torch.tensor([[3.0, 0.0], [0.0, 3.0], [torch.nan, 0.0]]), torch.tensor([0, 0, 0])
    index = torch.tensor([4, 2, 0])
    loss = losses.TruncatedGCELoss(q=0.7, k=0.5, num_samples=6, reduction="none")
    loss.prune(f, y, index=index)
    assert loss.state_for(torch.arange(6))["kept"].tolist() == [1, 1, 0, 1, 1, 1]  # NaN says nothing
    again = losses.TruncatedGCELoss(q=0.7, k=0.5, num_samples=6, reduction="none")
    again.load_state_dict(loss.state_dict())
    flat = torch.zeros(2, 2, requires_grad=True)
    value = again(flat, y[:2], index=index[:2])
    value.sum().backward()
    cut = (1 - 0.5**0.7) / 0.7
    torch.testing.assert_close(value.detach(), torch.tensor([cut, cut]))  # equal here, for p_y is k
    assert flat.grad[0].abs().sum() > 0
    assert flat.grad[1].abs().sum() == 0
    with pytest.raises(InputError, match="remembers every sample, but came without index"):
        again(flat, y[:2])
    with pytest.raises(InputError, match="remembers no samples"):
        losses.TruncatedGCELoss().prune(f, y, index=index)

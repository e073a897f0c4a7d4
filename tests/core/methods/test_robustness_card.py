"""The robustness card against what is known of each loss on paper."""

import json
import math

import numpy as np
import pytest
import torch
from torch import nn

from robustvision.core.errors import InputError
from robustvision.core.losses import ALDRLoss, CrossEntropyLoss, gce_loss
from robustvision.core.methods import robustness_card
from robustvision.core.methods.examined_loss import find_loss, losses_over_classes
from robustvision.core.report.loss_card import card_writer
from robustvision.core.runtime.files import json_text


def naive_ce(logits, target, *, index=None, weight=None):
    """Cross-entropy as one should not write it."""
    e = logits.exp()
    return -(e / e.sum(1, keepdim=True)).gather(1, target[:, None]).squeeze(1).log()


class MeanOnly(nn.Module):
    """Half the cross-entropy, and only its mean."""

    def forward(self, logits, target, *, index=None, weight=None):
        return 0.5 * nn.functional.cross_entropy(logits.float(), target)


class Branching(nn.Module):
    """A loss that looks at its values in Python, and lets a sample of NaN spoil the others."""

    def forward(self, logits, target, *, index=None, weight=None):
        losses = nn.functional.cross_entropy(logits, target, reduction="none")
        return losses if losses.max() < 1e9 else losses + losses.sum()


@pytest.mark.parametrize("name", ["mae", "nce", "nfl", "ngce", "rll", "rce", "nce-rce"])
@pytest.mark.parametrize("classes", [2, 10])
def test_symmetric_losses_sum_to_a_constant(name, classes):
    symmetry = robustness_card(name, classes).symmetry
    assert symmetry.is_symmetric
    assert symmetry.noise_bound == pytest.approx((classes - 1) / classes)


@pytest.mark.parametrize(("name", "constant"), [("mae", 18.0), ("nce", 1.0), ("rce", 9 * -math.log(1e-4))])
def test_the_constant_of_a_symmetric_loss(name, constant):
    """Sum over y of 2 (1 - p_y) = 2 (C - 1), of the shares = 1, of -A (1 - p_y) = -A (C - 1)."""
    np.testing.assert_allclose(robustness_card(name).symmetry.sums, constant, rtol=1e-9)


def test_the_mean_margin_is_symmetric_although_its_sum_is_0():
    """sum_y mean_k (f_k - f_y) = 0, to which LDR comes at a large temperature; a small one is far from it."""
    assert robustness_card("ldr", lam=1e9, margin=0.0, normalize="none").symmetry.is_symmetric
    assert not robustness_card("ldr", lam=10.0, margin=0.0, normalize="none").symmetry.is_symmetric


@pytest.mark.parametrize("name", ["cross-entropy", "gce", "agce", "focal", "mse", "sface"])
def test_other_losses_are_not_symmetric(name):
    symmetry = robustness_card(name).symmetry
    assert not symmetry.is_symmetric
    assert symmetry.noise_bound is None
    assert symmetry.relative_gap > 1e-3


def test_the_card_of_cross_entropy():
    card = robustness_card("CrossEntropy")
    assert card.value.highest is None
    assert card.value.lowest == pytest.approx(0, abs=1e-9)
    assert card.value.growth == {"own score to -inf": "linear", "another score to +inf": "linear"}
    assert card.gradient.highest == pytest.approx(1)
    assert card.weights.trend == "flat"
    np.testing.assert_allclose(card.weights.weight, 1, rtol=1e-9)
    assert card.weights.tail_power == pytest.approx(0, abs=1e-9)
    np.testing.assert_allclose(card.weights.loss, -np.log(card.weights.p), rtol=1e-9)
    assert card.dtypes.is_safe
    assert card.dtypes.compiles is True
    assert card.dtypes.isolates_nan is True
    assert card.temperatures is None


@pytest.mark.parametrize(
    ("name", "settings", "lowest", "highest"),
    [
        ("mae", {}, 0, 2),
        ("gce", {"q": 0.5}, 0, 2),
        ("nce", {}, 0, 1),  # reached as slowly as 1/t
        ("mse", {}, 0, 2),
        ("truncated-gce", {"q": 0.7, "k": 0.5}, 0, (1 - 0.5**0.7) / 0.7),
        ("ael", {"a": 2.5}, math.exp(-1 / 2.5), 1),
        ("comp-sum", {"tau": 0.5}, 0, None),
        ("bi-tempered", {"t1": 1.0, "t2": 2.0}, 0, None),
    ],
)
def test_bounds(name, settings, lowest, highest):
    value = robustness_card(name, **settings).value
    assert value.lowest == pytest.approx(lowest, abs=1e-5)
    assert value.highest == (highest if highest is None else pytest.approx(highest, rel=1e-5))


def test_how_a_loss_grows():
    """1/p_y - 1 grows as e^t; the log of a heavy tail, p_y = 1/t, as log t."""
    card = robustness_card("comp-sum", tau=0.0)
    assert card.value.growth["own score to -inf"] == card.gradient.growth["own score to -inf"] == "exponential"
    assert card.value.highest is card.gradient.highest is None
    assert card.dtypes.problems == ("float16: gradient not finite at scores of +-10",)  # e^20 is beyond its 65504
    assert robustness_card("bi-tempered", t1=1.0, t2=2.0).value.growth["own score to -inf"] == "logarithmic"


def test_gradient_bounds():
    """Weights minus label for LDR on raw scores; C - 1 violated margins; 2 p (1 - p) at most 1/2."""
    for lam in (0.1, 1.0, 10.0):
        card = robustness_card("ldr", lam=lam, normalize="none")
        assert card.gradient.highest == pytest.approx(1, abs=1e-6)
        assert card.value.highest is None
    assert robustness_card("weston-watkins").gradient.highest == pytest.approx(9)
    assert robustness_card("mae").gradient.highest == pytest.approx(0.5)


def test_l1_normalisation_makes_the_gradient_explode_near_zero_scores():
    gradient = robustness_card("ldr", normalize="l1").gradient
    assert gradient.highest is None
    assert gradient.growth == {"all scores to 0": "linear"}


@pytest.mark.parametrize("q", [0.3, 0.7, 1.0])
def test_the_weight_of_gce_is_a_power_of_p(q):
    weights = robustness_card("gce", q=q).weights
    np.testing.assert_allclose(weights.weight, np.power(weights.p, q), rtol=1e-8)
    assert weights.trend == "rises"
    assert weights.tail_power == pytest.approx(q)
    assert weights.named["0.03"] == pytest.approx(0.03**q)


def test_other_trends():
    assert robustness_card("comp-sum", tau=0.5).weights.trend == "falls"
    focal = robustness_card("focal", gamma=2.0).weights
    p = np.array(focal.p)
    expected = (1 - p) ** 2 - 2 * p * (1 - p) * np.log(p)  # of -(1 - p)^2 log p by f_y, over 1 - p
    np.testing.assert_allclose(focal.weight, expected, rtol=1e-7)
    assert focal.trend == "turns"
    truncated = robustness_card("truncated-gce").weights
    assert truncated.tail_power is None
    assert truncated.named["0.0001"] == 0


@pytest.mark.parametrize(
    ("name", "settings", "tau", "factor"),
    [
        ("cross-entropy", {}, 1.0, 1.0),
        ("gce", {}, 1.7, 1.0),
        ("mae", {}, 2.0, 2.0),
        ("rce", {}, 2.0, -math.log(1e-4)),
        ("comp-sum", {"tau": 0.0}, 0.0, 1.0),
        ("comp-sum", {"tau": 2.6}, 2.6, 1.0),
        ("ldr", {"lam": 1.0, "margin": 0.0, "normalize": "none"}, 1.0, 1.0),
    ],
)
def test_members_of_the_comp_sum_family_are_found(name, settings, tau, factor):
    consistency = robustness_card(name, **settings).consistency
    assert consistency.tau == pytest.approx(tau, abs=1e-6)
    assert consistency.factor == pytest.approx(factor, rel=1e-6)
    assert consistency.offset == pytest.approx(-math.log(10) if name == "ldr" else 0, abs=1e-6)


@pytest.mark.parametrize("name", ["nce", "agce", "focal", "truncated-gce", "js", "crammer-singer", "aldr", "sface"])
def test_other_losses_are_not_taken_for_members(name):
    assert robustness_card(name).consistency is None


def test_a_loss_near_a_member_is_not_taken_for_it():
    def nearly(logits, target, *, index=None, weight=None):
        ce = nn.functional.cross_entropy(logits, target, reduction="none")
        return ce + 1e-4 * ce.square()

    assert robustness_card(nearly).consistency is None


def test_the_consistency_bound_of_twice_one_minus_p():
    """T(t) = t / C at tau 2, so an excess x of the doubled loss bounds the error by C x / 2."""
    bounds = robustness_card("mae", 4).consistency.bounds
    assert bounds == {"0.01": pytest.approx(0.02), "0.1": pytest.approx(0.2), "1": 1.0}


@pytest.mark.parametrize("settings", [{}, {"lam0": 1.0, "alpha": 4.0}, {"lam0": 0.1, "exact": True}])
def test_the_temperatures_of_aldr_stay_in_their_interval(settings):
    temperatures = robustness_card("aldr", **settings).temperatures
    lam0, alpha = settings.get("lam0", 10.0), settings.get("alpha", 2.0)
    assert (temperatures.least, temperatures.most) == (pytest.approx(lam0 * (1 - 1 / alpha)), lam0)
    for low, high in temperatures.met.values():
        assert temperatures.least - 1e-6 <= low < high <= temperatures.most + 1e-6


def test_a_small_lam0_uses_the_interval_and_a_large_one_does_not():
    wide, narrow = (robustness_card("aldr", lam0=lam0).temperatures for lam0 in (0.1, 10.0))
    assert wide.met["1"][0] < 0.8 * wide.most
    assert narrow.met["1"][0] > 0.99 * narrow.most


def test_losses_over_cosines_are_measured_as_functions_of_scaled_cosines():
    card = robustness_card("normalized-softmax", scale=20.0)
    assert (card.over, card.scale) == ("cosines", 20.0)
    assert card.weights.trend == "flat"
    assert card.consistency.tau == pytest.approx(1)
    assert card.consistency.bounds == {}
    assert card.value.highest == pytest.approx(40 + math.log(9), abs=1e-4)  # one cosine -1, nine at 1
    assert card.dtypes.is_safe


def test_sface_forgets_samples_that_are_near():
    """With the pull gate shut at all angles below pi, the own cosine has no gradient."""
    assert robustness_card("sface", a=4.0).weights.trend == "none"


def test_a_naive_loss_is_caught():
    dtypes = robustness_card(naive_ce).dtypes
    assert not dtypes.is_safe
    assert not any(dtypes.finite.values())
    assert any("float32: value and gradient not finite at scores of +-100" in problem for problem in dtypes.problems)
    assert dtypes.bfloat16_error > 1e-4
    assert dtypes.compiles is True


def test_what_python_decides_on_does_not_compile():
    dtypes = robustness_card(Branching).dtypes
    assert dtypes.isolates_nan is False
    assert dtypes.compiles is not True
    assert len(dtypes.problems) == len(set(dtypes.problems)) >= 2


def test_a_loss_that_knows_only_its_mean():
    card = robustness_card(MeanOnly, 4)
    assert card.dtypes.isolates_nan is None
    assert card.gradient.highest == pytest.approx(0.5)
    assert card.consistency.tau == pytest.approx(1, abs=1e-5)
    assert card.consistency.factor == pytest.approx(0.5, rel=1e-5)


def test_a_function_and_a_built_module_are_taken_too():
    by_name, by_function = robustness_card("gce", q=0.5), robustness_card(gce_loss, q=0.5)
    assert by_function.name == "gce_loss"
    assert by_function.weights == by_name.weights
    assert by_function.what == by_name.what
    assert robustness_card(CrossEntropyLoss(reduction="none")).weights.trend == "flat"
    assert robustness_card("torch.nn.CrossEntropyLoss").weights.trend == "flat"


def test_a_built_module_keeps_its_state():
    loss = ALDRLoss(2**15, lam0=0.1, reduction="none")
    before = {name: value.clone() for name, value in loss.state_dict().items()}
    robustness_card(loss)
    for name, value in loss.state_dict().items():
        torch.testing.assert_close(value, before[name])


@pytest.mark.parametrize("name", losses_over_classes())
def test_every_loss_of_the_library_is_safe_and_has_a_card(name):
    card = robustness_card(name, 5, **({"embedding_size": 16} if name == "AutoSFaceLoss" else {}))
    assert card.dtypes.problems == ()
    assert card.what
    assert json.loads(json_text(card.as_dict()))["name"] == name
    assert all(line and "nan" not in line.split() for line in card.lines().values())


def test_the_seed_decides():
    first, again, other = (robustness_card("gce", seed=seed).symmetry for seed in (0, 0, 1))
    assert first == again
    assert first.gap != other.gap


@pytest.mark.parametrize("name", ["GCELoss", "gce", "GCE_loss", "gce-loss", "robustvision.core.losses.GCELoss"])
def test_names(name):
    assert getattr(find_loss(name), "__name__", str(find_loss(name))) == "GCELoss"


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("gcee", {}, "did you mean GCELoss?"),
        ("triplet", {}, "losses list"),
        ("torch.nn.CrossEntropyLos", {}, "did you mean CrossEntropyLoss?"),
        ("no_such_module.Loss", {}, "cannot import no_such_module"),
        ("aldr", {"alfa": 3}, "did you mean alpha?"),
        ("gce", {"reduction": "sum"}, "no setting reduction"),
        ("gce", {"q": "abc"}, "does not take the settings"),
        ("gce", {"q": 2}, "must lie in"),
        ("autosface", {}, "needs embedding_size"),
        ("torch.nn.Linear", {"in_features": 2, "out_features": 3}, "cannot be called as loss"),
        ("ldrk", {"k": 11}, "must lie between"),
    ],
)
def test_what_cannot_be_measured_is_refused(name, settings, message):
    with pytest.raises(InputError, match=message):
        robustness_card(name, **settings)


@pytest.mark.parametrize("classes", [1, 1001])
def test_the_number_of_classes_is_limited(classes):
    with pytest.raises(InputError, match="2 to 1000"):
        robustness_card("gce", classes)


def test_a_module_that_reduces_is_refused():
    with pytest.raises(InputError, match="reduction='none'"):
        robustness_card(CrossEntropyLoss())


@pytest.mark.parametrize("name", ["mae", "comp-sum", "sface", "aldr"])
def test_plots(tmp_path, name):
    settings = {"tau": 0.2} if name == "comp-sum" else {}
    card = robustness_card(name, **settings)
    picture = card_writer(tmp_path / "new" / "card.png")(card)
    assert picture.read_bytes().startswith(b"\x89PNG")
    page = card_writer(tmp_path / "card.html")(card).read_text()
    assert card.lines()["dtype safety"].split(";")[0] in page
    assert "data:image/png" in page


def test_another_suffix_is_refused():
    with pytest.raises(InputError, match=r"written as \.png or \.html"):
        card_writer("card.pdf")

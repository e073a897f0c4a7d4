"""Training, calibration and admission: against loops in numpy, on small random data."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from robustvision.core.errors import InputError
from robustvision.core.losses import sdm_loss
from robustvision.core.methods import (
    SDMCalibration,
    SDMFit,
    SDMHead,
    SDMSettings,
    admission_thresholds,
    calibrate_sdm,
    cauchy_offset,
    dkw_band,
    fit_sdm,
    index_conditional_accuracy,
    train_sdm,
)
from robustvision.core.nn import SDMLayer

SMALL = SDMSettings(
    exemplar_size=6,
    epochs=4,
    batch_size=20,
    learning_rate=1e-2,
    rescaling_epochs=40,
    rescaling_batch_size=20,
    rescaling_learning_rate=3e-2,
)


def clusters(
    rows: int = 400, classes: int = 3, seed: int = 0, spread: float = 0.5
) -> tuple[torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, classes, (rows,), generator=g)
    return 3.0 * torch.eye(classes, 4)[labels] + spread * torch.randn(rows, 4, generator=g), labels


@pytest.fixture(scope="module")
def fit() -> SDMFit:
    return fit_sdm(*clusters(), 3, runs=3, settings=SMALL)


def calibration_points(seed: int = 0, rows: int = 240) -> tuple[torch.Tensor, ...]:
    """Logits that are often right, q and d of every kind, labels; float64."""
    g = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 3, (rows,), generator=g)
    logits = 2.0 * torch.eye(3, dtype=torch.float64)[labels] + torch.randn(rows, 3, generator=g, dtype=torch.float64)
    q = torch.randint(0, 60, (rows,), generator=g).double() * (logits.argmax(1) == labels)
    d = (torch.rand(rows, generator=g, dtype=torch.float64) * 1.2 - 0.1).clamp(0, 1)
    return logits, q, d, labels


# ---- the statistics


def test_dkw_hand_values() -> None:
    # sqrt(ln 40 / 200), and sqrt(ln 20 / 20)
    assert float(dkw_band(torch.tensor(100.0))) == pytest.approx(0.135810, abs=1e-6)
    assert float(dkw_band(torch.tensor(10.0), alpha=0.9)) == pytest.approx(0.387023, abs=1e-6)
    assert float(dkw_band(torch.tensor(0.0))) == 1.0


def test_dkw_band_covers_what_it_says() -> None:
    """The whole distribution function of 50 uniform values stays in the band at least 95 times in 100."""
    rng = np.random.default_rng(0)
    values = np.sort(rng.random((4000, 50)), axis=1)
    steps = np.arange(51) / 50
    gap = np.maximum(np.abs(values - steps[:-1]), np.abs(values - steps[1:])).max(axis=1)
    inside = (gap <= float(dkw_band(torch.tensor(50.0)))).mean()
    assert 0.95 <= inside < 0.99


def test_cauchy_offset_is_the_quantile_of_a_cauchy_of_scale_mad() -> None:
    # MAD of (1, 2, 4, 8, 9) is 3; tan(0.45 pi) = 6.313752
    assert cauchy_offset([1, 2, 4, 8, 9]) == pytest.approx(3 * 6.313752, rel=1e-6)
    assert cauchy_offset([0.7]) == cauchy_offset([]) == 0.0
    assert cauchy_offset([math.inf, 1.0, math.inf]) == 0.0  # most runs found no threshold: the spread says nothing


def thresholds_by_trying(
    probabilities: np.ndarray, q: np.ndarray, labels: np.ndarray, alpha: float
) -> tuple[float, list[float]]:
    for candidate in np.unique(q[q >= 1]):
        psi = []
        for c in range(probabilities.shape[1]):
            outputs = np.sort(probabilities[(labels == c) & (q >= candidate), c])
            psi.append(outputs[min(int((1 - alpha) * len(outputs)), len(outputs) - 1)] if len(outputs) else 0.0)
        if min(psi) >= alpha:
            return float(candidate), psi
    return math.inf, [0.0] * probabilities.shape[1]


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("alpha", [0.6, 0.9, 0.95])
def test_thresholds_are_the_first_that_fulfil_the_condition(seed: int, alpha: float) -> None:
    rng = np.random.default_rng(seed)
    labels, q = rng.integers(0, 3, 150), rng.choice([0.0, 0.5, *np.linspace(1, 6, 30)], 150)
    sharp = rng.random(150) < 0.3 + 0.1 * q  # the higher q, the more often the true class is probable
    own = np.where(sharp, rng.uniform(alpha, 1, 150), rng.uniform(0.2, 1, 150))
    probabilities = np.repeat((1 - own)[:, None] / 2, 3, axis=1)
    probabilities[np.arange(150), labels] = own
    q_min, psi = admission_thresholds(*map(torch.from_numpy, (probabilities, q, labels)), alpha)
    expected = thresholds_by_trying(probabilities, q, labels, alpha)
    assert q_min == expected[0]
    np.testing.assert_array_equal(psi.numpy(), expected[1])


def test_a_class_without_points_admits_nothing() -> None:
    probabilities = torch.tensor([[0.99, 0.01], [0.99, 0.01]])
    q_min, psi = admission_thresholds(probabilities, torch.tensor([3.0, 4.0]), torch.tensor([0, 0]), 0.95)
    assert (q_min, psi.tolist()) == (math.inf, [0, 0])


def test_index_conditional_accuracy_by_hand() -> None:
    labels, predictions = torch.tensor([0, 0, 0, 1, 1, 2]), torch.tensor([0, 0, 1, 1, 2, 2])
    admitted = torch.tensor([True, True, True, True, False, False])
    found = index_conditional_accuracy(labels, predictions, admitted, 3)
    assert found["marginal"] == 0.75
    np.testing.assert_allclose(found["by_prediction"], [1, 0.5, math.nan])
    np.testing.assert_allclose(found["by_class"], [2 / 3, 1, math.nan])


# ---- calibration


def estimate_by_loops(c: SDMCalibration, known: tuple[np.ndarray, ...], z: np.ndarray, q: float, d: float) -> dict:
    """One point, from the definitions; ``known`` are the calibration points' logits, q, d and labels."""

    def output(z: np.ndarray, q: float, d: float) -> np.ndarray:
        powers = (2.0 + q) ** (d * z)
        return powers / powers.sum()

    def effective_q(q: float, d: float) -> float:
        return q if d > 0 else 0.0

    W = c.rescale.weight.numpy()
    K = len(z)
    magnitudes = [[] for _ in range(K)]
    for zi, qi, di, yi in zip(*known, strict=True):
        magnitudes[yi].append(output(zi, effective_q(qi, di), di)[yi])

    def ranks(z: np.ndarray, q: float, d: float) -> np.ndarray:
        p = output(z, effective_q(q, d), d)
        return np.array([np.mean(np.array(magnitudes[k]) < p[k] - 1e-9) for k in range(K)])

    def rescaled(v: np.ndarray, q: float, predicted: int) -> tuple[float, np.ndarray]:
        q_rescaled = math.log((2.0 + q) ** v[predicted])
        return q_rescaled, output(W @ v, q_rescaled, 1.0)

    similarities = [[] for _ in range(K)]
    for zi, qi, di, yi in zip(*known, strict=True):
        similarities[yi].append(rescaled(ranks(zi, qi, di), effective_q(qi, di), zi.argmax())[0])

    predicted, q = int(z.argmax()), effective_q(q, d)
    v = ranks(z, q, d)
    q_rescaled, o = rescaled(v, q, predicted)
    if o.argmax() != predicted:
        q_rescaled = 0.0
    v_lower = np.empty(K)
    for k in range(K):
        n = len(similarities[k]) * np.mean(np.array(similarities[k]) < q_rescaled)
        eps = math.sqrt(math.log(2 / (1 - c.alpha)) / (2 * n)) if n > 0 else 1.0
        v_lower[k] = min(1.0, max(0.0, v[k] - eps if k == predicted else v[k] + eps))
    q_lower, o_lower = rescaled(v_lower, q, predicted)
    if o_lower.argmax() != predicted:
        q_lower = 0.0
    o_lower[predicted] = max(0.0, o_lower[predicted] - float(c.offsets[predicted, int(q_lower)]))
    over = [k for k in range(K) if o_lower[k] >= float(c.thresholds[k])]
    admitted = int(q_lower) > 0 and q_lower >= float(c.q_min) and over == [predicted]
    return {"q": q_rescaled, "probabilities": o, "q_lower": q_lower, "lower": o_lower[predicted], "admitted": admitted}


def calibrated(seed: int = 0) -> tuple[SDMCalibration, tuple[torch.Tensor, ...]]:
    points = calibration_points(seed)
    return calibrate_sdm(*points, alpha=0.8, cap=100, epochs=60, batch_size=30, learning_rate=3e-2), points


@pytest.mark.parametrize(
    ("seed", "q_min", "thresholds"),
    [
        (0, 1.1, [0.5, 0.6, 0.55]),
        (1, 0.2, [0.5, 0.6, 0.55]),  # only floor(q~) > 0 stands in the way
        (2, 1.1, [0.05, 0.01, 0.02]),  # two classes may be over their thresholds
    ],
)
def test_estimates_are_those_of_the_definitions(seed: int, q_min: float, thresholds: list[float]) -> None:
    calibration, points = calibrated(seed)
    calibration.q_min.fill_(q_min)  # whatever the calibration found: some of what is asked below shall be admitted
    calibration.thresholds.copy_(torch.tensor(thresholds))
    calibration.offsets.copy_(torch.rand(calibration.offsets.shape, generator=torch.Generator().manual_seed(1)) / 10)
    known = tuple(tensor.numpy() for tensor in points)
    logits, q, d, _ = calibration_points(seed + 10, 60)
    found = calibration(logits, q, d)
    expected = [estimate_by_loops(calibration, known, *row) for row in zip(*(t.numpy() for t in (logits, q, d)))]  # noqa: B905
    for name in ("q", "probabilities", "q_lower", "lower", "admitted"):
        np.testing.assert_allclose(
            getattr(found, name).numpy(), [row[name] for row in expected], atol=1e-9, err_msg=name
        )
    assert 5 < int(found.admitted.sum()) < 55
    assert bool((points[2] == 0).any())


def test_rescaling_is_trained_by_the_sdm_loss() -> None:
    calibration, (logits, q, d, labels) = calibrated()
    start = SDMCalibration(3, 0.8, 100).double()
    start.magnitudes.load_state_dict(calibration.magnitudes.state_dict())

    def loss(of: SDMCalibration) -> float:
        prediction = torch.nn.functional.one_hot(logits.argmax(1), 3).bool()
        q_rescaled, o = of.rescaled(of.ranks(logits, q, d), prediction, q)
        own = o.gather(1, labels[:, None]).squeeze(1)
        return float((-own.log() / (2 + q_rescaled).log()).mean().detach())

    assert loss(calibration) < 0.6 * loss(start)
    assert not any(parameter.requires_grad for parameter in calibration.parameters())


def test_more_calibration_points_bring_the_lower_estimate_nearer() -> None:
    few, many = (
        calibrate_sdm(*calibration_points(0, rows), epochs=30, batch_size=rows, learning_rate=3e-2)
        for rows in (60, 3000)
    )
    logits, q, d, _ = calibration_points(7, 200)
    gap = [(e.q - e.q_lower).mean() for e in (few(logits, q, d), many(logits, q, d))]
    assert 0 < float(gap[1]) < 0.5 * float(gap[0])


def test_q_counts_nothing_at_d_0() -> None:
    calibration, _ = calibrated()
    logits = torch.tensor([[3.0, 0.0, 0.0], [0.0, 3.0, 0.0], [0.0, 0.0, 3.0]], dtype=torch.float64)
    far = calibration(logits, torch.full((3,), 100.0).double(), torch.zeros(3).double())
    none = calibration(logits, torch.zeros(3).double(), torch.zeros(3).double())
    torch.testing.assert_close(far, none)
    assert not bool(far.admitted.any())


def test_rounding_does_not_order_the_uniform_outputs_of_d_0() -> None:
    """Stored by torch and computed by another library, the same output may differ in its last digit."""
    calibration, (logits, q, _, _) = calibrated()
    far = torch.zeros_like(q)
    ranks = calibration.ranks(logits, q, far)
    calibration.magnitudes.values.sub_(1e-6)
    torch.testing.assert_close(calibration.ranks(logits, q, far), ranks, rtol=0, atol=0)


def test_outputs_that_saturate_are_still_ranked() -> None:
    """Probabilities of float32 are all 1 here; the ranks of the log-odds are 0/4 ... 3/4."""
    logits = torch.tensor([[20.0, 0.0], [30.0, 0.0], [40.0, 0.0], [50.0, 0.0], [0.0, 20.0]])
    q, d, labels = torch.full((5,), 50.0), torch.ones(5), torch.tensor([0, 0, 0, 0, 1])
    calibration = calibrate_sdm(logits, q, d, labels, epochs=1)
    np.testing.assert_allclose(calibration.ranks(logits, q, d)[:4, 0].numpy(), [0, 0.25, 0.5, 0.75])


# ---- training


def test_first_epoch_is_the_softmax_and_the_state_is_measured_after_it() -> None:
    (x, labels), held_out = clusters(100), clusters(60, seed=1)
    torch.manual_seed(3)
    layer = SDMLayer(4, 3, exemplar_size=5)
    twin = SDMLayer(4, 3, exemplar_size=5)
    twin.load_state_dict(layer.state_dict())
    train_sdm(layer, (x, labels), held_out, epochs=1, batch_size=100, learning_rate=1e-2)
    twin.set_standard(x)
    optimizer = torch.optim.Adam(twin.parameters(), lr=1e-2)
    torch.nn.functional.cross_entropy(twin.adapt(x)[1], labels).backward()
    optimizer.step()
    torch.testing.assert_close(layer.adaptor.weight, twin.adaptor.weight, rtol=1e-4, atol=1e-6)
    exemplars, logits = layer.adapt(x)
    torch.testing.assert_close(layer.support, exemplars.detach())
    assert torch.equal(layer.support_class, torch.where(logits.argmax(1) == labels, labels, -1))
    q, nearest = layer.measure(layer.adapt(held_out[0])[0], layer.adapt(held_out[0])[1].argmax(1))
    kept = nearest[q > 0].detach().sort().values
    torch.testing.assert_close(layer.distances.values[layer.distances.values.isfinite()].sort().values, kept)


def test_the_second_epoch_is_weighed_by_q_and_d_of_the_training_points() -> None:
    """Measured here by loops: each point itself left out, d among the training points with q > 0."""
    (x, labels), held_out = clusters(60, spread=1.0), clusters(60, seed=1, spread=1.0)
    x, held_out = x.double(), (held_out[0].double(), held_out[1])
    torch.manual_seed(3)
    layer, twin = SDMLayer(4, 3, exemplar_size=5).double(), SDMLayer(4, 3, exemplar_size=5).double()
    twin.load_state_dict(layer.state_dict())
    kept, _ = train_sdm(layer, (x, labels), held_out, epochs=2, batch_size=60, learning_rate=3e-2)
    assert kept == 2
    twin.set_standard(x)
    optimizer = torch.optim.Adam(twin.parameters(), lr=3e-2)
    torch.nn.functional.cross_entropy(twin.adapt(x)[1], labels).backward()
    optimizer.step()
    optimizer.zero_grad()
    exemplars, logits = (tensor.detach().numpy() for tensor in twin.adapt(x))
    predictions, true = logits.argmax(1), labels.numpy()
    q, nearest = np.zeros(60), np.zeros(60)
    for i in range(60):
        distances = np.sqrt(((exemplars - exemplars[i]) ** 2).sum(1))
        order = [j for j in np.argsort(distances, kind="stable") if j != i]
        nearest[i] = distances[order[0]]
        while q[i] < 59 and predictions[order[int(q[i])]] == true[order[int(q[i])]] == predictions[i]:
            q[i] += 1
    known = [nearest[(true == c) & (q > 0)] for c in range(3)]
    d = np.array([min((values >= value).mean() for values in known) for value in nearest])
    assert 10 < (q == 0).sum() < 50
    sdm_loss(twin.adapt(x)[1], labels, torch.from_numpy(q), torch.from_numpy(d)).backward()
    optimizer.step()
    torch.testing.assert_close(layer.adaptor.weight, twin.adaptor.weight, rtol=0, atol=1e-6)
    torch.testing.assert_close(layer.head.weight, twin.head.weight, rtol=0, atol=1e-6)


def test_the_epoch_of_the_highest_balanced_median_q_is_kept() -> None:
    train, held_out = clusters(100, spread=1.2), clusters(100, seed=1, spread=1.2)
    found = []
    for epochs in range(1, 7):
        torch.manual_seed(3)
        layer = SDMLayer(4, 3, exemplar_size=5)
        found.append(train_sdm(layer, train, held_out, epochs=epochs, batch_size=20, learning_rate=3e-2))
        output = layer(held_out[0])
        medians = [np.median(output.q[held_out[1] == c].numpy()) for c in range(3)]
        assert found[-1][1] == pytest.approx(np.mean(medians))
    scores = [q for _, q in found]
    assert scores == sorted(scores)
    assert found[-1][0] <= 6
    assert len(set(scores)) > 1


def test_fit_finds_clusters_and_rejects_what_is_far(fit: SDMFit) -> None:
    x, labels = clusters(seed=5)
    decision = fit.head(x)
    assert float((decision.logits.argmax(1) == labels).double().mean()) > 0.95
    assert float(decision.admitted.double().mean()) > 0.3
    far = fit.head(x + 50.0)
    assert float(far.d.max()) == 0
    torch.testing.assert_close(far.probabilities, torch.full_like(far.probabilities, 1 / 3))
    assert not bool(far.admitted.any())


def test_fit_keeps_the_best_run_and_tightens_it_by_the_spread(fit: SDMFit) -> None:
    assert fit.runs[fit.best].median_q == max(run.median_q for run in fit.runs)
    spread = cauchy_offset([run.q_min for run in fit.runs])
    assert float(fit.head.calibration.q_min) == pytest.approx(fit.runs[fit.best].q_min + spread, rel=1e-6)
    table = np.array([run.magnitudes.numpy() for run in fit.runs])
    for place in zip(*np.nonzero(~np.isnan(table).all(0)), strict=True):
        values = table[:, *place]
        expected = cauchy_offset(values[~np.isnan(values)].tolist())
        assert float(fit.head.calibration.offsets[place]) == pytest.approx(expected, abs=1e-6)
    assert float(fit.head.calibration.offsets.max()) > 0


def test_one_run_has_no_offsets() -> None:
    one = fit_sdm(*clusters(120), 3, runs=1, settings=SMALL)
    assert torch.count_nonzero(one.head.calibration.offsets) == 0
    assert float(one.head.calibration.q_min) == one.runs[0].q_min


def test_the_seed_decides_everything_and_the_callers_random_state_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(11)
    monkeypatch.setattr(torch.cuda, "manual_seed_all", lambda seed: pytest.fail("an accelerator was seeded"))
    before = torch.get_rng_state()
    first, again, other = (fit_sdm(*clusters(120), 3, runs=1, settings=SMALL, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(first.head.layer.support, again.head.layer.support)
    assert torch.equal(first.head.calibration.rescale.weight, again.head.calibration.rescale.weight)
    assert not torch.equal(first.head.layer.support, other.head.layer.support)


def test_head_is_saved_and_loaded(fit: SDMFit, tmp_path: Path) -> None:
    torch.save(fit.head.state_dict(), tmp_path / "head.pt")
    again = SDMHead(SDMLayer(4, 3, exemplar_size=6), SDMCalibration(3))
    again.load_state_dict(torch.load(tmp_path / "head.pt", weights_only=True))
    x, _ = clusters(50, seed=6)
    torch.testing.assert_close(again(x), fit.head(x))


# ---- bad input


def test_embeddings_that_are_not_finite_are_refused_in_training_and_rejected_later(fit: SDMFit) -> None:
    x, labels = clusters(60)
    x[7, 1] = math.nan
    with pytest.raises(InputError, match="embedding 7 holds"):
        fit_sdm(x, labels, 3, settings=SMALL)
    decision = fit.head(x)
    assert not bool(decision.admitted[7])
    assert float(decision.d[7]) == float(decision.q[7]) == 0
    assert bool(decision.admitted.any())


def test_a_class_that_never_occurs_admits_nothing() -> None:
    """It has no distances, so d is 0 everywhere."""
    one_short = fit_sdm(*clusters(120), 4, runs=1, settings=SMALL)
    decision = one_short.head(clusters(50, seed=2)[0])
    assert float(decision.d.max()) == 0
    assert not bool(decision.admitted.any())


def test_other_bad_input_is_refused(fit: SDMFit) -> None:
    x, labels = clusters(60)
    with pytest.raises(InputError, match="labels run from 0 to 2"):
        fit_sdm(x, labels, 2, settings=SMALL)
    with pytest.raises(InputError, match="4 samples"):
        fit_sdm(x[:3], labels[:3], 3, settings=SMALL)
    with pytest.raises(InputError, match="runs=0"):
        fit_sdm(x, labels, 3, runs=0, settings=SMALL)
    with pytest.raises(InputError, match=r"takes \[batch, 4\]"):
        fit.head(torch.randn(2, 5))
    with pytest.raises(InputError, match=r"alpha is 0\.5"):
        fit_sdm(x, labels, 3, settings=replace(SMALL, alpha=0.5))
    nothing = torch.empty(0)
    with pytest.raises(InputError, match="calibration set is empty"):
        calibrate_sdm(torch.empty(0, 3), nothing, nothing, torch.empty(0, dtype=torch.int64))
    with pytest.raises(InputError, match="epochs is 0"):
        train_sdm(SDMLayer(4, 3), (x, labels), (x, labels), epochs=0)

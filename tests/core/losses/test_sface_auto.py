"""The automatic shifts: the null distribution by simulation, the quantile, and a state that survives."""

import math
from statistics import NormalDist

import numpy as np
import pytest
import torch
from torch import distributed

from robustvision.core.errors import InputError
from robustvision.core.losses import (
    AutoSFaceLoss,
    CosineHead,
    sface_a_from_angles,
    sface_b_from_null,
    sface_diagnostics,
    sface_loss,
)


@pytest.mark.parametrize(("size", "expected_open"), [(2, 5.0), (3, 12.0), (16, 2.0), (64, 40.0), (16, 70.0)])
def test_b_opens_as_many_random_classes_as_asked(size, expected_open):
    """Angles of 4000 random vectors to 101 random centres: 100 others each."""
    rng = np.random.default_rng(0)
    centres, samples = rng.standard_normal((101, size)), rng.standard_normal((4000, size))
    cosines = (samples / np.linalg.norm(samples, axis=1)[:, None]) @ (
        centres / np.linalg.norm(centres, axis=1)[:, None]
    ).T
    b = sface_b_from_null(size, 101, expected_open)
    opened = (np.arccos(cosines[:, 1:]) < b).sum(1)
    assert opened.mean() == pytest.approx(expected_open, rel=0.12)


def test_b_in_closed_form():
    """On the circle the angle is uniform in [0, pi], on the sphere its cosine is uniform in [-1, 1]."""
    assert sface_b_from_null(2, 11, 2.5) == pytest.approx(math.pi / 4)
    assert sface_b_from_null(3, 11, 2.5) == pytest.approx(math.acos(0.5))
    assert sface_b_from_null(3, 11, 7.5) == pytest.approx(math.acos(-0.5))
    assert sface_b_from_null(50, 11, 5.0) == pytest.approx(math.pi / 2)


def test_b_nears_its_normal_approximation_in_many_dimensions():
    """cos ~ N(0, 1/d)."""
    deviations = -NormalDist().inv_cdf(1 / 85_741)
    assert math.cos(sface_b_from_null(100_000, 85_742)) * math.sqrt(100_000) == pytest.approx(deviations, rel=1e-3)


def test_b_moves_the_right_way():
    assert sface_b_from_null(128, 1000) < sface_b_from_null(512, 1000) < math.pi / 2
    assert sface_b_from_null(128, 10_000) < sface_b_from_null(128, 1000)
    assert sface_b_from_null(128, 1000, 0.1) < sface_b_from_null(128, 1000, 1.0)


@pytest.mark.parametrize("arguments", [(1, 10), (128, 1), (128, 10, 0.0), (128, 10, 9.0), (128, 2)])
def test_b_refuses_what_has_no_answer(arguments):
    with pytest.raises(InputError):
        sface_b_from_null(*arguments)


def test_a_is_the_quantile_of_the_angles_that_are_there():
    angles = torch.tensor([0.5, torch.nan, 1.5, 1.0])
    assert sface_a_from_angles(angles, 0.5) == 1.0
    assert sface_a_from_angles(angles, 0.25) == 0.75
    assert sface_a_from_angles(angles[1:2]).isnan()
    assert sface_a_from_angles(angles[:0]).isnan()


def batch_at(*angles):
    """Samples of class 0 at these angles; the other class is far away."""
    theta = torch.tensor(angles, dtype=torch.float64)
    return torch.stack([theta.cos(), torch.full_like(theta, -0.5)], dim=1), torch.zeros(len(angles), dtype=torch.long)


def auto(**settings):
    return AutoSFaceLoss(num_classes=11, embedding_size=3, expected_open=2.5, quantile=0.5, **settings)


def test_loss_is_sface_at_the_shifts_it_says():
    loss = auto(k=20.0)
    cosines, labels = batch_at(0.7, 0.85, 0.95, 1.3)
    value = loss(cosines, labels)
    assert loss.a.item() == pytest.approx(0.9)
    assert loss.b == pytest.approx(math.pi / 3)
    assert value.item() == pytest.approx(sface_loss(cosines, labels, 64.0, 20.0, 0.9, math.pi / 3).item(), rel=1e-6)
    assert sface_diagnostics(cosines, labels, loss.scale, loss.k, loss.a, loss.b)["intra_open"].item() == pytest.approx(
        1 / 2
    )


def test_a_is_the_mean_of_the_first_batches_and_then_forgets():
    loss = auto(momentum=0.25)
    for angle in (1.0, 0.8, 0.6):
        loss(*batch_at(angle))
    assert loss.a.item() == pytest.approx(0.8)
    loss(*batch_at(0.4))
    assert loss.a.item() == pytest.approx(0.7)
    loss(*batch_at(0.3))
    assert loss.a.item() == pytest.approx(0.75 * 0.7 + 0.25 * 0.3)


def test_samples_without_a_label_do_not_move_a():
    loss = auto()
    cosines, labels = batch_at(0.8, 0.2)
    labels[1] = -1
    loss(cosines, labels)
    assert loss.a.item() == pytest.approx(0.8)
    labels[0] = -1
    loss(cosines, labels)
    loss(cosines[:0], labels[:0])
    assert loss.a.item() == pytest.approx(0.8)
    assert loss.batches == 1


def test_state_is_finite_from_the_start():
    """Checkpoints with values that are not finite are refused."""
    loss = auto()
    assert all(value.isfinite() for value in loss.state_dict().values())
    assert loss.eval()(*batch_at(0.8)).isfinite()


def test_evaluation_does_not_move_a():
    loss = auto()
    loss(*batch_at(0.8))
    loss.eval()(*batch_at(0.3))
    assert loss.a.item() == pytest.approx(0.8)


def test_resumed_from_a_checkpoint_it_goes_on_exactly(tmp_path):
    torch.manual_seed(0)
    head, labels = CosineHead(11, 3), torch.randint(0, 11, (6, 32))
    embeddings = torch.randn(6, 32, 3)
    through, first, second = auto(), auto(), auto()
    whole = [through(head(x), y).item() for x, y in zip(embeddings, labels, strict=True)]
    parts = [first(head(x), y).item() for x, y in zip(embeddings[:3], labels[:3], strict=True)]
    torch.save(first.state_dict(), tmp_path / "loss.pth")
    second.load_state_dict(torch.load(tmp_path / "loss.pth", weights_only=True))
    parts += [second(head(x), y).item() for x, y in zip(embeddings[3:], labels[3:], strict=True)]
    assert parts == whole
    assert torch.equal(second.a, through.a)
    assert second.a.dtype == torch.float32


def test_a_is_averaged_over_processes(monkeypatch):
    """The other process has seen three labelled samples with a quantile of 1.2, this one a single sample at 0.8."""
    monkeypatch.setattr(distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(distributed, "all_reduce", lambda sums: sums.add_(torch.tensor([3 * 1.2, 3.0])))
    loss = auto()
    loss(*batch_at(0.8))
    assert loss.a.item() == pytest.approx((0.8 + 3 * 1.2) / 4)
    loss.batches.zero_()
    cosines, labels = batch_at(0.8)
    loss(cosines[:0], labels[:0])  # a process without samples must take part all the same
    assert loss.a.item() == pytest.approx(1.2)


@pytest.mark.parametrize("settings", [{"quantile": 1.5}, {"quantile": -0.1}, {"momentum": 0.0}, {"reduction": "avg"}])
def test_bad_settings_are_refused(settings):
    with pytest.raises(InputError):
        AutoSFaceLoss(10, 128, **settings)

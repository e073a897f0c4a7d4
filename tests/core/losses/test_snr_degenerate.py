"""The pair losses where there is little or nothing to learn from, at extreme values, in half precision, and misused."""

from functools import partial

import pytest
import torch

from robustvision.core.errors import InputError
from robustvision.core.losses import (
    ContrastiveLoss,
    ZeroMeanPenalty,
    all_pairs,
    contrastive_loss,
    hard_pairs,
    hashing_loss,
    lifted_structure_loss,
    n_pair_loss,
    quantisation_penalty,
    semi_hard_pairs,
    snr_distance,
    squared_euclidean_distance,
    triplet_loss,
)

LOSSES = {
    "contrastive": partial(contrastive_loss, margin=1.5),
    "triplet": partial(triplet_loss, margin=0.7),
    "lifted": lifted_structure_loss,
    "n-pair": n_pair_loss,
}
DISTANCES = {"snr": snr_distance, "euclidean": squared_euclidean_distance}
MINERS = {"all": all_pairs, "hard": hard_pairs, "semi-hard": semi_hard_pairs}
every_loss = pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES.keys())
every_loss_and_hashing = pytest.mark.parametrize(
    "loss", [*LOSSES.values(), hashing_loss], ids=[*LOSSES.keys(), "hashing"]
)
every_distance = pytest.mark.parametrize("distance", DISTANCES.values(), ids=DISTANCES.keys())
every_miner = pytest.mark.parametrize("miner", MINERS.values(), ids=MINERS.keys())


def drawn(batch=12, size=6, classes=4, dtype=torch.float64, seed=0):
    generator = torch.Generator().manual_seed(seed)
    embeddings = torch.randn(batch, size, dtype=dtype, generator=generator)
    return embeddings, torch.randint(0, classes, (batch,), generator=generator)


@every_loss_and_hashing
@every_miner
def test_ignored_samples_contribute_nothing(loss, miner):
    h, labels = drawn()
    labels[[0, 7]] = -1
    kept = labels >= 0
    h.requires_grad_()
    value = loss(h, labels, miner=miner)
    torch.testing.assert_close(value, loss(h[kept], labels[kept], miner=miner))
    value.backward()
    assert h.grad[~kept].eq(0).all()
    assert h.grad[kept].abs().sum() > 0


@every_loss
@every_distance
def test_ignored_samples_may_hold_anything(loss, distance):
    """A NaN would reach all gradients through the product of all with all."""
    h, labels = drawn()
    labels[[0, 7]] = -1
    kept = labels >= 0
    h[0] = torch.nan
    h.requires_grad_()
    value = loss(h, labels, distance=distance)
    torch.testing.assert_close(value, loss(h[kept], labels[kept], distance=distance))
    value.backward()
    assert h.grad.isfinite().all()
    assert h.grad[~kept].eq(0).all()


NOTHING_TO_COUNT = {
    "empty": torch.empty(0, dtype=torch.long),
    "one sample": torch.tensor([3]),
    "all ignored": torch.tensor([-1, -1, -1]),
    "one left": torch.tensor([-1, 0, -1]),
}


@every_loss
@every_miner
@pytest.mark.parametrize("labels", NOTHING_TO_COUNT.values(), ids=NOTHING_TO_COUNT.keys())
def test_without_pairs_a_loss_is_zero_with_zero_gradient(loss, miner, labels):
    h = torch.randn(len(labels), 4, requires_grad=True)
    value = loss(h, labels, miner=miner)
    value.backward()
    assert value.item() == 0
    assert h.grad.eq(0).all()


@pytest.mark.parametrize("labels", NOTHING_TO_COUNT.values(), ids=NOTHING_TO_COUNT.keys())
def test_without_pairs_hashing_is_its_penalty(labels):
    h = torch.randn(len(labels), 4, requires_grad=True)
    hashing_loss(h, labels, quantisation=0.0).backward()
    assert h.grad.eq(0).all()
    counted = h[labels >= 0]
    torch.testing.assert_close(hashing_loss(h, labels, quantisation=0.5), quantisation_penalty(counted, 0.5))


@every_miner
@pytest.mark.parametrize("loss", [LOSSES["triplet"], LOSSES["lifted"], LOSSES["n-pair"]])
@pytest.mark.parametrize("labels", [torch.zeros(5, dtype=torch.long), torch.arange(5)], ids=["one class", "singletons"])
def test_one_class_or_singletons_teach_nothing_that_needs_both_kinds_of_pairs(loss, miner, labels):
    h = torch.randn(5, 4, requires_grad=True)
    value = loss(h, labels, miner=miner)
    value.backward()
    assert value.item() == 0
    assert h.grad.eq(0).all()


def test_contrastive_is_left_with_one_half_for_one_class_or_singletons():
    h, _ = drawn(5)
    off_diagonal = snr_distance(h)[~torch.eye(5, dtype=torch.bool)]
    torch.testing.assert_close(contrastive_loss(h, torch.zeros(5, dtype=torch.long)), off_diagonal.mean())
    torch.testing.assert_close(contrastive_loss(h, torch.arange(5), 2.0), (2.0 - off_diagonal).relu().mean())


@every_loss_and_hashing
@every_miner
@pytest.mark.parametrize("value", [0.0, 0.1, -3.0])
def test_constant_embeddings_give_a_finite_loss_and_no_gradient(loss, miner, value):
    h = torch.full((6, 5), value, requires_grad=True)
    labels = torch.tensor([0, 0, 1, 1, 2, 2])
    settings = {"quantisation": 0.0} if loss is hashing_loss else {}
    result = loss(h, labels, miner=miner, **settings)
    result.backward()
    assert result.isfinite()
    assert h.grad.eq(0).all()


@every_loss_and_hashing
@every_distance
@pytest.mark.parametrize("value", [0.0, 0.1])
def test_one_constant_embedding_leaves_the_others_their_gradient(loss, distance, value):
    h, labels = drawn(dtype=torch.float32)
    h[2] = value
    h.requires_grad_()
    loss(h, labels, distance=distance).backward()
    assert h.grad.isfinite().all()
    assert h.grad.abs().sum() > 0


@every_loss_and_hashing
@every_distance
@pytest.mark.parametrize("scale", [1e-4, 1e4])
def test_large_and_small_embeddings(loss, distance, scale):
    h, labels = drawn(dtype=torch.float32)
    h = (scale * h).requires_grad_()
    value = loss(h, labels, distance=distance)
    value.backward()
    assert value.isfinite()
    assert h.grad.isfinite().all()


@every_loss_and_hashing
def test_collapsed_and_equal_embeddings_have_finite_gradients(loss):
    h, labels = drawn(dtype=torch.float32)
    h = h[:1].expand(12, -1).clone().requires_grad_()
    value = loss(h, labels)
    value.backward()
    assert value.isfinite()
    assert h.grad.isfinite().all()


@every_loss_and_hashing
def test_half_precision_is_computed_in_float32(loss):
    h, labels = drawn()
    half = h.bfloat16()
    expected = loss(half.float(), labels)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert loss(half, labels).dtype == torch.float32
        torch.testing.assert_close(loss(half, labels), expected, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(loss(half.float(), labels), expected, rtol=0, atol=0)


@every_loss_and_hashing
@pytest.mark.parametrize(
    ("embeddings", "labels", "message"),
    [
        (torch.zeros(3, 4), torch.zeros(2, dtype=torch.long), r"int64 \[2\]"),
        (torch.zeros(3, 4), torch.zeros(3), r"labels are float32 \[3\]"),
        (torch.zeros(3, 4), torch.zeros(3, dtype=torch.bool), "labels are bool"),
        (torch.zeros(3, 4), torch.zeros(3, 4, dtype=torch.long), r"int64 \[3, 4\]"),
        (torch.zeros(3, 4), torch.tensor([0, -2, 1]), "labels hold -2"),
        (torch.zeros(3, 4, dtype=torch.long), torch.zeros(3, dtype=torch.long), r"embeddings are int64"),
        (torch.zeros(3), torch.zeros(3, dtype=torch.long), r"embeddings are float32 \[3\]"),
        (torch.zeros(3, 0), torch.zeros(3, dtype=torch.long), r"embeddings are float32 \[3, 0\]"),
    ],
)
def test_bad_input(loss, embeddings, labels, message):
    with pytest.raises(InputError, match=message):
        loss(embeddings, labels)


def test_bad_settings():
    h, labels = drawn()
    for loss in LOSSES.values():
        with pytest.raises(InputError, match="reduction is 'average'"):
            loss(h, labels, reduction="average")
    with pytest.raises(InputError, match="margin is -1"):
        triplet_loss(h, labels, -1.0)
    with pytest.raises(InputError, match="reduction is 'average'"):
        ContrastiveLoss(reduction="average")
    with pytest.raises(InputError, match="reduction is 'average'"):
        ZeroMeanPenalty(reduction="average")

"""Against pytorch-metric-learning: its distance and its losses, and ours inside of its losses."""

import subprocess
import sys
from functools import partial

import pytest
import torch
from pytorch_metric_learning import distances, losses, miners
from pytorch_metric_learning.reducers import MeanReducer
from pytorch_metric_learning.regularizers import ZeroMeanRegularizer

from robustvision.core.errors import InputError, MissingExtraError
from robustvision.core.losses import (
    Mined,
    PMLSNRDistance,
    all_pairs,
    contrastive_loss,
    hard_pairs,
    lifted_structure_loss,
    n_pair_loss,
    semi_hard_pairs,
    snr_distance,
    squared_euclidean_distance,
    triplet_loss,
    zero_mean_penalty,
)

THEIRS = {
    "snr": lambda: distances.SNRDistance(normalize_embeddings=False),
    "euclidean": lambda: distances.LpDistance(normalize_embeddings=False, power=2),
}
OURS = {"snr": snr_distance, "euclidean": squared_euclidean_distance}
both_distances = pytest.mark.parametrize("name", THEIRS)


def drawn(batch=24, size=8, classes=5, seed=0):
    generator = torch.Generator().manual_seed(seed)
    h = torch.randn(batch, size, dtype=torch.float64, generator=generator)
    return h.requires_grad_(), torch.randint(0, classes, (batch,), generator=generator)


def assert_same(ours, theirs, h):
    """Value and gradient."""
    (gradient,) = torch.autograd.grad(ours, h)
    (expected,) = torch.autograd.grad(theirs, h)
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(gradient, expected)


@both_distances
def test_distances(name):
    h, _ = drawn()
    other = torch.randn(7, 8, dtype=torch.float64)
    theirs = THEIRS[name]()
    torch.testing.assert_close(OURS[name](h, other), theirs(h, other))
    torch.testing.assert_close(OURS[name](h), theirs(h), rtol=1e-7, atol=1e-12)
    away_from_0 = 1 - torch.eye(24, dtype=torch.float64)  # a root, squared again, has no gradient at 0
    assert_same((OURS[name](h) * away_from_0).sum(), (theirs(h, h + 1e-300) * away_from_0).sum(), h)


@both_distances
@pytest.mark.parametrize("margin", [0.5, 1.0, 3.0])
def test_contrastive_is_theirs_with_a_mean_over_all_pairs(name, margin):
    """Their default averages over the pairs of positive loss only."""
    h, labels = drawn()
    theirs = losses.ContrastiveLoss(neg_margin=margin, distance=THEIRS[name](), reducer=MeanReducer())
    assert_same(contrastive_loss(h, labels, margin, distance=OURS[name]), theirs(h, labels), h)


@both_distances
@pytest.mark.parametrize("margin", [0.05, 1.0])
def test_triplet_is_theirs_with_a_mean_over_all_triplets(name, margin):
    h, labels = drawn()
    theirs = losses.TripletMarginLoss(margin, distance=THEIRS[name](), reducer=MeanReducer())
    assert_same(triplet_loss(h, labels, margin, distance=OURS[name]), theirs(h, labels), h)


@both_distances
@pytest.mark.parametrize("margin", [0.5, 1.0])
def test_lifted_structure_is_theirs(name, margin):
    """Both square and halve; their neg_margin is the margin, their pos_margin is 0."""
    h, labels = drawn()
    theirs = losses.LiftedStructureLoss(neg_margin=margin, distance=THEIRS[name]())
    assert_same(lifted_structure_loss(h, labels, margin, distance=OURS[name]), theirs(h, labels), h)


def test_n_pair_is_theirs_with_one_pair_a_class_and_other_positives_as_negatives():
    h, _ = drawn(batch=10)
    labels = torch.arange(5).repeat(2)  # anchors 0 to 4, positives 5 to 9

    def of_anchors(distances, positives, negatives):
        used = (torch.arange(10)[:, None] < 5) & (torch.arange(10) >= 5)
        return Mined(positives & used, negatives & used)

    anchors, negative_anchors = torch.arange(5), torch.arange(5).repeat_interleave(4)
    negatives = torch.tensor([5 + n for a in range(5) for n in range(5) if n != a])
    theirs = losses.NPairsLoss(distance=THEIRS["snr"]())
    expected = theirs(h, labels, (anchors, anchors + 5, negative_anchors, negatives))
    assert_same(n_pair_loss(h, labels, miner=of_anchors), expected, h)


def test_hard_pairs_are_those_of_their_miner():
    h, labels = drawn()
    theirs = losses.TripletMarginLoss(0.7, distance=THEIRS["snr"](), reducer=MeanReducer())
    mined = miners.BatchHardMiner(distance=THEIRS["snr"]())(h, labels)
    assert_same(triplet_loss(h, labels, 0.7, miner=hard_pairs), theirs(h, labels, mined), h)


def test_semi_hard_triplets_are_those_of_their_miner():
    h, labels = drawn()
    theirs = losses.TripletMarginLoss(0.7, distance=THEIRS["snr"](), reducer=MeanReducer())
    mined = miners.TripletMarginMiner(0.7, type_of_triplets="semihard", distance=THEIRS["snr"]())(h, labels)
    assert len(mined[0]) > 0
    assert_same(triplet_loss(h, labels, 0.7, miner=semi_hard_pairs), theirs(h, labels, mined), h)


def test_zero_mean_penalty_is_theirs():
    h, _ = drawn()
    torch.testing.assert_close(zero_mean_penalty(h, 1.0), ZeroMeanRegularizer()(h))


@pytest.mark.parametrize(
    "loss",
    [
        losses.ContrastiveLoss,
        losses.TripletMarginLoss,
        losses.LiftedStructureLoss,
        losses.GeneralizedLiftedStructureLoss,
        partial(losses.MarginLoss, margin=0.5),
    ],
)
@pytest.mark.parametrize("normalised", [False, True])
def test_inside_of_their_losses_ours_does_what_theirs_does(loss, normalised):
    h, labels = drawn()
    ours = loss(distance=PMLSNRDistance(normalize_embeddings=normalised))
    theirs = loss(distance=distances.SNRDistance(normalize_embeddings=normalised))
    assert_same(ours(h, labels), theirs(h, labels), h)


def test_the_adapter_measures_rows_in_pairs_and_by_blocks():
    h, _ = drawn()
    other = torch.randn(24, 8, dtype=torch.float64)
    adapter, theirs = PMLSNRDistance(), THEIRS["snr"]()
    torch.testing.assert_close(adapter.pairwise_distance(h, other), theirs.pairwise_distance(h, other))
    torch.testing.assert_close(adapter(h, other[:5]), theirs(h, other[:5]))
    assert adapter(h).diagonal().eq(0).all()
    assert adapter.pairwise_distance(torch.ones(2, 3), torch.randn(2, 3)).tolist() == [0, 0]  # a constant anchor


def test_the_adapter_refuses_to_be_inverted():
    with pytest.raises(InputError, match="is_inverted"):
        PMLSNRDistance(is_inverted=True)


def test_ours_takes_their_distance():
    h, labels = drawn()
    torch.testing.assert_close(
        contrastive_loss(h, labels, 1.0, distance=THEIRS["snr"](), miner=all_pairs), contrastive_loss(h, labels, 1.0)
    )


def test_without_the_library_only_the_adapter_is_missing():
    script = (
        "import sys\nsys.modules['pytorch_metric_learning'] = None\n"
        "import robustvision.core.losses as losses\nlosses.contrastive_loss, losses.SNRDistance\n"
        "try:\n    losses.PMLSNRDistance\n"
        "except ImportError as error:\n"
        "    print(type(error).__name__, error)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert MissingExtraError.__name__ in done.stdout
    assert "pip install pytorch-metric-learning" in done.stdout


def test_the_other_names_do_not_import_the_library():
    script = (
        "import sys\nfrom robustvision.core.losses import ContrastiveLoss, hard_pairs, snr_distance\n"
        "print('pytorch_metric_learning' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"

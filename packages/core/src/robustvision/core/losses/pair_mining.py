"""Which pairs of a batch a pair loss counts: all of them, the hardest, or the semi-hard ones.

A miner is any callable ``miner(distances, positives, negatives) -> Mined``: it gets the distances [B, B] without a
gradient and the masks of all pairs, and returns the masks of those to count. Row i belongs to anchor i. Whatever the
miner, memory is O(B^2).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from robustvision.core.errors import InputError
from robustvision.core.losses.labels import IGNORED, check_labels
from robustvision.core.losses.pair_distances import check_embeddings

Distance = Callable[[Tensor], Tensor]


class Mined(NamedTuple):
    """The pairs that count.

    Attributes:
        positives: Pairs of one class, bool [B, B].
        negatives: Pairs of two classes, bool [B, B].
        only_beyond: Whether a triplet loss pairs a positive with negatives farther away than it only.
    """

    positives: Tensor
    negatives: Tensor
    only_beyond: bool = False


Miner = Callable[[Tensor, Tensor, Tensor], Mined]


def pair_masks(labels: Tensor) -> tuple[Tensor, Tensor]:
    """All pairs of one class (but a sample with itself), and all of two classes; none with a sample labelled -1.

    Args:
        labels: Integer [B].

    Returns:
        Positives and negatives, bool [B, B].

    Example:
        >>> positives, negatives = pair_masks(torch.tensor([0, 0, 1, -1]))
        >>> positives.int().tolist()
        [[0, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]]
        >>> negatives.int().tolist()
        [[0, 0, 1, 0], [0, 0, 1, 0], [1, 1, 0, 0], [0, 0, 0, 0]]
    """
    labelled = labels != IGNORED
    both = labelled[:, None] & labelled[None, :]
    same = labels[:, None] == labels[None, :]
    return (both & same).fill_diagonal_(False), both & ~same


def all_pairs(distances: Tensor, positives: Tensor, negatives: Tensor) -> Mined:
    """Every pair counts; a triplet loss takes every triplet.

    Args:
        distances: [B, B].
        positives: bool [B, B].
        negatives: bool [B, B].

    Returns:
        The masks as they came.
    """
    return Mined(positives, negatives)


def hard_pairs(distances: Tensor, positives: Tensor, negatives: Tensor) -> Mined:
    """The farthest positive and the nearest negative of each anchor ("batch hard").

    Args:
        distances: [B, B].
        positives: bool [B, B].
        negatives: bool [B, B].

    Returns:
        At most one positive and one negative a row.

    References:
        Hermans et al., "In Defense of the Triplet Loss for Person Re-Identification", arXiv 1703.07737, eq. 5.

    Example:
        >>> line = torch.tensor([0.0, 1.0, 3.0, 2.0])
        >>> mined = hard_pairs((line[:, None] - line).abs(), *pair_masks(torch.tensor([0, 0, 0, 1])))
        >>> mined.positives.int().argmax(1).tolist()[:3]  # anchor 0 is farthest from 2, 1 too, 2 from 0
        [2, 2, 0]
    """
    return Mined(_largest(distances, positives), _largest(-distances, negatives))


def semi_hard_pairs(distances: Tensor, positives: Tensor, negatives: Tensor) -> Mined:
    """Negatives that are farther from the anchor than a positive: right already, though perhaps within the margin.

    A triplet loss pairs each positive with the negatives beyond it only, and counts those within the margin: the
    semi-hard triplets. Other losses take the negatives that are beyond the nearest positive of their anchor.

    Args:
        distances: [B, B].
        positives: bool [B, B].
        negatives: bool [B, B].

    Returns:
        All positives, and the negatives beyond the nearest positive.

    References:
        Schroff et al., "FaceNet: A Unified Embedding for Face Recognition and Clustering", CVPR 2015,
        arXiv 1503.03832, section 3.2; it takes one such negative a positive, this takes all.

    Example:
        >>> line = torch.tensor([0.0, 1.0, 0.5, 2.0])
        >>> semi_hard_pairs((line[:, None] - line).abs(), *pair_masks(torch.tensor([0, 0, 1, 1]))).negatives[0]
        tensor([False, False, False,  True])
    """
    nearest = _largest(-distances, positives)
    reach = distances.masked_fill(~nearest, 0.0).sum(1, keepdim=True)
    beyond = (distances > reach) & nearest.any(1, keepdim=True)
    return Mined(positives, negatives & beyond, only_beyond=True)


def measured_and_mined(embeddings: Tensor, labels: Tensor, distance: Distance, miner: Miner) -> tuple[Tensor, Mined]:
    """What every pair loss begins with: check the batch, measure all pairs, choose those that count.

    Args:
        embeddings: Floating point [B, D].
        labels: Class indices, integer [B]; -1 for a sample to ignore.
        distance: Embeddings to distances [B, B].
        miner: Chooses the pairs.

    Returns:
        Distances [B, B], and the pairs.

    Raises:
        InputError: Wrong shapes, dtypes or labels.
    """
    check_embeddings(embeddings)
    labels = _checked_labels(labels, len(embeddings))
    # What is ignored may hold anything: a NaN there would reach all gradients through the product of all with all.
    distances = distance(embeddings.masked_fill((labels == IGNORED)[:, None], 0.0))
    return distances, miner(distances.detach(), *pair_masks(labels))


def _checked_labels(labels: Tensor, batch: int) -> Tensor:
    labels = check_labels(labels, batch)
    # Read on a CPU only: an accelerator would have to be waited for in every step.
    if labels.device.type == "cpu" and batch and not torch.compiler.is_compiling() and labels.min() < IGNORED:
        raise InputError(f"the labels hold {int(labels.min())}, but only {IGNORED} (ignored) and above are labels")
    return labels


def _largest(values: Tensor, mask: Tensor) -> Tensor:
    """The first of the largest values within the mask of each row, bool like the mask."""
    # topk and not argmax, which refuses an empty batch
    place = values.masked_fill(~mask, -torch.inf).topk(min(1, values.shape[1]), dim=1).indices
    return torch.zeros_like(mask).scatter_(1, place, True) & mask
